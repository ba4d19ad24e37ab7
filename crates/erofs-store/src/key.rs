//! What makes an image that image: the key under which facts about it are remembered.

use crate::Digest;
use crate::Result;
use crate::digest;
use std::fmt;
use std::os::fd::BorrowedFd;

/// The identity of an image, all its blobs included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageKey(pub [u8; 32]);

impl ImageKey {
    /// The key of the image whose primary blob begins at `offset` of the first descriptor and whose
    /// devices are the others, in order.
    ///
    /// A file on a local disk filesystem that has not changed for two seconds is identified by what
    /// stat says of it; any other is read and hashed whole. The files' offsets are not touched.
    pub fn of(blobs: &[BorrowedFd<'_>], offset: u64) -> Result<Self> {
        let _ = (blobs, offset);
        todo!()
    }

    /// 64 lower-case hexadecimal digits: the name of the image inside the domain.
    pub fn to_hex(&self) -> String {
        digest::hex(&self.0)
    }

    /// Reads what [`ImageKey::to_hex`] wrote; nothing else.
    pub fn from_hex(text: &str) -> Option<Self> {
        Digest::from_hex(text).map(|digest| Self(digest.0))
    }
}

impl fmt::Display for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageKey({self})")
    }
}
