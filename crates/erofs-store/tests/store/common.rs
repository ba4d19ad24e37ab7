//! A domain, an image and a keeper for each test.

use erofs_store::Digest;
use erofs_store::Domain;
use erofs_store::ImageKey;
use erofs_store::ImageMount;
use erofs_store::KeeperClient;
use erofs_store::Outcome;
use erofs_store::Piece;
use erofs_store::Publish;
use erofs_store::SourceId;
use erofs_store::keeper;
use sha2::Digest as _;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Nothing here takes so long unless it hangs.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A directory on a disk, with a domain in it.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) root: tempfile::TempDir,
    pub(crate) domain: Domain,
}

impl Setup {
    pub(crate) fn new() -> Self {
        // A disk by default; another filesystem to see how it does there.
        let place = std::env::var("STORE_TEST_DIR");
        let place = place.as_deref().unwrap_or(env!("CARGO_TARGET_TMPDIR"));
        let root = tempfile::Builder::new().prefix("store-").tempdir_in(place).unwrap();
        let (domain, made) = Domain::open_or_create(&root.path().join("d")).unwrap();
        assert!(made);
        Self { root, domain }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.root.path().join("d")
    }

    pub(crate) fn keeper(&self) -> Keeper {
        Keeper::start(&self.domain)
    }

    pub(crate) fn fresh(&self) -> PathBuf {
        self.path().join("fresh").join(self.domain.boot_id())
    }

    pub(crate) fn object(&self, digest: &Digest) -> PathBuf {
        self.path().join("objects").join(digest.object_path())
    }

    pub(crate) fn fresh_object(&self, digest: &Digest) -> PathBuf {
        self.fresh().join(digest.object_path())
    }

    pub(crate) fn by_nid(&self, key: &ImageKey, nid: u64) -> PathBuf {
        self.fresh().join(".v").join(key.to_hex()).join(nid.to_string())
    }
}

/// A keeper on a thread, and its client.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) client: KeeperClient,
    pub(crate) thread: thread::JoinHandle<erofs_store::Result<()>>,
}

impl Keeper {
    pub(crate) fn start(domain: &Domain) -> Self {
        let (ours, theirs) = pair();
        let domain = domain.clone();
        let thread = thread::spawn(move || keeper::serve(theirs, &domain));
        Self { client: KeeperClient::new(ours).unwrap(), thread }
    }

    /// Closes the connection and waits until the keeper has finished its batch.
    pub(crate) fn end(self) {
        drop(self.client);
        self.thread.join().unwrap().unwrap();
    }

    pub(crate) fn mount(&self, key: ImageKey, blob: &File) -> SourceId {
        let source = self.client.register_source(blob.as_fd()).unwrap();
        let image = ImageMount { key, name: format!("image {key:?}"), sources: vec![source] };
        self.client.mount_image(&image).unwrap();
        source
    }

    pub(crate) fn publish(&self, publish: &Publish) -> Outcome {
        self.start_publish(publish).recv_timeout(LONG).unwrap()
    }

    pub(crate) fn start_publish(&self, publish: &Publish) -> mpsc::Receiver<Outcome> {
        let (sender, receiver) = mpsc::channel();
        self.client.publish(publish, move |outcome| sender.send(outcome).unwrap());
        receiver
    }
}

/// A connected pair of `SOCK_SEQPACKET` sockets.
pub(crate) fn pair() -> (OwnedFd, OwnedFd) {
    rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .unwrap()
}

/// A blob on disk that holds the files one after the other, each on a block of its own.
pub(crate) fn blob(root: &Path, files: &[&[u8]]) -> (File, Vec<u64>) {
    let mut blob = tempfile::tempfile_in(root).unwrap();
    let mut offsets = Vec::new();
    let mut at = 0;
    for file in files {
        offsets.push(at as u64);
        blob.write_all(file).unwrap();
        let padded = file.len().next_multiple_of(4096);
        blob.write_all(&vec![0; padded - file.len()]).unwrap();
        at += padded;
    }
    (blob, offsets)
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest(sha2::Sha256::digest(bytes).into())
}

pub(crate) fn key(byte: u8) -> ImageKey {
    ImageKey([byte; 32])
}

/// The publish of one file in one piece.
pub(crate) fn whole(
    image: ImageKey,
    nid: u64,
    claimed: Option<Digest>,
    source: SourceId,
    offset: u64,
    len: usize,
) -> Publish {
    let len = len as u64;
    Publish { image, nid, claimed, size: len, pieces: vec![Piece::Data { source, offset, len }] }
}

/// Bytes that don't repeat, the same for the same seed.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A path's inode number and number of links.
pub(crate) fn inode(path: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let metadata = path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (metadata.ino(), metadata.nlink())
}
