//! The bytes of regular files: whether two are equal, and their digest.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use erofs_image::{Extent, Image, Inode, Piece, Scratch};
use rustix::fs::{SeekFrom, fstat, seek};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::change::Side;
use crate::error::{Error, Result};
use crate::node::{Node, Place};

/// Bytes that are read at a time, of each of two files.
const STEP: usize = 1 << 20;

/// Zeros to hash for a hole.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Room that a thread needs for reading.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    a: Vec<u8>,
    b: Vec<u8>,
    scratch: Scratch,
}

/// Which blobs of two images are the same file.
#[derive(Debug, Default)]
pub(crate) struct SameBlobs {
    a: Vec<Option<(u64, u64)>>,
    b: Vec<Option<(u64, u64)>>,
}

impl SameBlobs {
    pub(crate) fn of(a: &Node, b: &Node) -> Self {
        let (Place::Image { image: a, .. }, Place::Image { image: b, .. }) = (&a.place, &b.place) else {
            return Self::default();
        };
        let (a, b) = (identities(a), identities(b));
        if a.iter().flatten().any(|one| b.contains(&Some(*one))) { Self { a, b } } else { Self::default() }
    }

    /// Whether two files are the same bytes of the same blobs. What is packed together with other files' bytes does
    /// not count.
    fn hold_together(&self, a: (&Image, &Inode), b: (&Image, &Inode)) -> bool {
        if self.a.is_empty() {
            return false;
        }
        let mut others = b.0.extents(b.1);
        for extent in a.0.extents(a.1) {
            let (Ok(one), Some(Ok(other))) = (extent, others.next()) else { return false };
            if !self.same_place(one, other) {
                return false;
            }
        }
        others.next().is_none()
    }

    fn same_place(&self, one: Extent, other: Extent) -> bool {
        use erofs_image::Place::{Encoded, Hole, Raw};
        let same_blob = |one: usize, other: usize| {
            self.a.get(one).copied().flatten().is_some_and(|id| self.b.get(other) == Some(&Some(id)))
        };
        (one.logical, one.len) == (other.logical, other.len)
            && match (one.place, other.place) {
                (Hole, Hole) => true,
                (Raw { blob: one, offset: from }, Raw { blob: other, offset }) => {
                    from == offset && same_blob(one, other)
                }
                (
                    Encoded { blob: one, offset: from, len: long, algorithm: how },
                    Encoded { blob: other, offset, len, algorithm },
                ) => (from, long, how) == (offset, len, algorithm) && same_blob(one, other),
                _ => false,
            }
    }
}

fn identities(image: &Image) -> Vec<Option<(u64, u64)>> {
    let identity = |index| {
        let stat = fstat(image.blob(index)?.as_fd()?).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    (0..image.blob_count()).map(identity).collect()
}

/// A regular file that can be read.
enum Content<'a> {
    Image(&'a Image, &'a Inode),
    Disk(File),
}

impl<'a> Content<'a> {
    fn open(node: &'a Node) -> Result<Self> {
        match &node.place {
            Place::Image { image, inode } => Ok(Self::Image(image, inode)),
            Place::Disk { dir, name, identity } => Ok(Self::Disk(dir.open(name, *identity)?)),
        }
    }

    /// Fills `buf`, which does not reach over the end.
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        match self {
            Self::Image(image, inode) => {
                let count = image.read(inode, offset, buf)?;
                if count == buf.len() { Ok(()) } else { Err(Error::Changed) }
            }
            Self::Disk(file) => match file.read_exact_at(buf, offset) {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Error::Changed),
                done => done.map_err(Error::io("read")),
            },
        }
    }

    /// Where there may be other bytes than zeros, at `offset` or behind it.
    fn data_from(&self, offset: u64, size: u64) -> Result<u64> {
        match self {
            Self::Image(image, inode) => {
                let extent = image.map(inode, offset)?;
                let hole = if extent.place == erofs_image::Place::Hole { extent.len } else { 0 };
                Ok(offset.saturating_add(hole).min(size))
            }
            Self::Disk(file) => match seek(file, SeekFrom::Data(offset)) {
                Ok(data) => Ok(data.min(size)),
                Err(Errno::NXIO) => Ok(size),
                Err(_) => Ok(offset), // this filesystem doesn't know
            },
        }
    }
}

/// Whether two regular files hold the same bytes.
pub(crate) fn same(
    nodes: [&Node; 2],
    trust: bool,
    blobs: &SameBlobs,
    buffers: &mut Buffers,
    stop: &AtomicBool,
) -> std::result::Result<bool, (Side, Error)> {
    let [a, b] = nodes;
    let size = a.facts.size;
    if size != b.facts.size {
        return Ok(false);
    }
    if size == 0 || is_same_file(a, b, blobs) {
        return Ok(true);
    }
    if trust {
        let one = a.fingerprint().map_err(|error| (Side::A, error))?;
        let other = b.fingerprint().map_err(|error| (Side::B, error))?;
        if let (Some(one), Some(other)) = (one, other) {
            return Ok(one == other);
        }
    }
    let one = Content::open(a).map_err(|error| (Side::A, error))?;
    let other = Content::open(b).map_err(|error| (Side::B, error))?;
    let mut at = 0;
    while at < size && !stop.load(Ordering::Relaxed) {
        if size > STEP as u64 {
            let data = one.data_from(at, size).map_err(|error| (Side::A, error))?;
            let data = data.min(other.data_from(at, size).map_err(|error| (Side::B, error))?);
            if data > at {
                at = data; // zeros on both sides
                continue;
            }
        }
        let count = usize::try_from(size - at).unwrap_or(STEP).min(STEP);
        let Buffers { a: buf_a, b: buf_b, .. } = buffers;
        let piece_a = room(buf_a, count);
        one.read(at, piece_a).map_err(|error| (Side::A, error))?;
        let piece_b = room(buf_b, count);
        other.read(at, piece_b).map_err(|error| (Side::B, error))?;
        if piece_a != piece_b {
            return Ok(false);
        }
        at += count as u64;
    }
    Ok(true)
}

fn room(buffer: &mut Vec<u8>, count: usize) -> &mut [u8] {
    if buffer.len() < count {
        buffer.resize(count, 0);
    }
    &mut buffer[..count]
}

/// Whether both are one file, so that nothing needs to be read.
fn is_same_file(a: &Node, b: &Node, blobs: &SameBlobs) -> bool {
    match (&a.place, &b.place) {
        (Place::Disk { identity: one, .. }, Place::Disk { identity: other, .. }) => one == other,
        (Place::Image { image: one, inode: first }, Place::Image { image: other, inode: second }) => {
            std::ptr::eq(&raw const **one, &raw const **other) && first.nid == second.nid
                || blobs.hold_together((one, first), (other, second))
        }
        _ => false,
    }
}

/// The SHA-256 of a regular file.
pub(crate) fn digest(node: &Node, trust: bool, buffers: &mut Buffers, stop: &AtomicBool) -> Result<[u8; 32]> {
    if trust && let Some(claimed) = node.fingerprint()? {
        return Ok(claimed);
    }
    let mut hasher = Sha256::new();
    let size = node.facts.size;
    match Content::open(node)? {
        Content::Image(image, inode) => {
            image.for_each_piece(inode, 0..size, &mut buffers.scratch, &mut |_, piece| {
                match piece {
                    Piece::Data(bytes) => hasher.update(bytes),
                    Piece::Hole(count) => zeros(&mut hasher, count, stop),
                }
                if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        content @ Content::Disk(_) => {
            let mut at = 0;
            while at < size && !stop.load(Ordering::Relaxed) {
                let count = usize::try_from(size - at).unwrap_or(STEP).min(STEP);
                let piece = room(&mut buffers.a, count);
                content.read(at, piece)?;
                hasher.update(piece);
                at += count as u64;
            }
        }
    }
    Ok(hasher.finalize().into())
}

fn zeros(hasher: &mut Sha256, mut count: u64, stop: &AtomicBool) {
    while count > 0 && !stop.load(Ordering::Relaxed) {
        let some = usize::try_from(count).unwrap_or(ZEROS.len()).min(ZEROS.len());
        hasher.update(&ZEROS[..some]);
        count -= some as u64;
    }
}
