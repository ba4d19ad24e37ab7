//! The server's side of the keeper's socket.

use crate::Digest;
use crate::ImageKey;
use crate::Result;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

/// A descriptor that the keeper was handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceId(pub u32);

/// A run of a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// `len` bytes at `offset` of a source.
    Data {
        /// Which descriptor.
        source: SourceId,
        /// Where in it, in bytes.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// `len` bytes of zeros that take no room.
    Hole {
        /// How many bytes.
        len: u64,
    },
}

/// An image that is about to be mounted.
#[derive(Clone, Debug)]
pub struct ImageMount {
    /// Its key.
    pub key: ImageKey,
    /// What people call it (its path); at most 4096 bytes are kept.
    pub name: String,
    /// The blobs that its files' pieces may lie in.
    pub sources: Vec<SourceId>,
}

/// A file that is to become an object.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The image, which [`KeeperClient::mount_image`] must have named before.
    pub image: ImageKey,
    /// The file's inode in it.
    pub nid: u64,
    /// The digest that the image claims; `None` if it claims none.
    pub claimed: Option<Digest>,
    /// The file's size, the sum of the pieces' lengths.
    pub size: u64,
    /// The file's bytes in order.
    pub pieces: Vec<Piece>,
}

/// What became of a [`Publish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The bytes were hashed and have this digest, `/.v/KEY/NID` and the object's own name are
    /// links to the object, and the fact stands.
    Published(Digest),
    /// The image's claim is false; nothing was linked or recorded.
    Mismatch {
        /// The digest of the bytes that are really there.
        found: Digest,
    },
    /// No room (disk full, the domain's limit, too large for it, too many links): serve it unshared.
    NoSpace,
    /// It can't be done; an errno. `EPIPE` if the keeper has ended. Serve it unshared.
    Io(i32),
}

/// A server's connection to its keeper. All methods may be called from any thread.
///
/// Callbacks come from one thread of the client's own, in the order in which the keeper finishes;
/// they should be short. When the keeper ends every outstanding callback gets [`Outcome::Io`] and
/// later calls fail at once.
#[derive(Debug)]
pub struct KeeperClient {}

impl KeeperClient {
    /// Takes one end of a connected `SOCK_SEQPACKET` pair and starts its reader.
    pub fn new(socket: OwnedFd) -> Result<Self> {
        let _ = socket;
        todo!()
    }

    /// Hands the keeper a blob. Doesn't wait. The keeper closes it after
    /// [`KeeperClient::unregister_source`].
    pub fn register_source(&self, source: BorrowedFd<'_>) -> Result<SourceId> {
        let _ = source;
        todo!()
    }

    /// Tells the keeper to close a blob; what is under way with it still ends well.
    pub fn unregister_source(&self, source: SourceId) {
        let _ = source;
        todo!()
    }

    /// Says that an image is mounted, so that its objects are not evicted, and waits until the
    /// keeper has seen to that. Load the image's facts after this, not before. An image that is
    /// mounted twice is named twice and unmounted twice; the sources add up.
    pub fn mount_image(&self, image: &ImageMount) -> Result<()> {
        let _ = image;
        todo!()
    }

    /// Says that a mount of an image is gone.
    pub fn unmount_image(&self, image: &ImageKey) {
        let _ = image;
        todo!()
    }

    /// Has a file made into an object. Never blocks; `callback` is called exactly once, perhaps
    /// before this returns (if the keeper has ended).
    pub fn publish(&self, publish: &Publish, callback: impl FnOnce(Outcome) + Send + 'static) {
        let _ = (publish, callback);
        todo!()
    }

    /// Waits until everything that was published before is durable.
    pub fn flush(&self) -> Result<()> {
        todo!()
    }

    /// Whether the keeper is still there.
    pub fn is_alive(&self) -> bool {
        todo!()
    }
}
