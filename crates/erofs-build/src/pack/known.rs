//! What is in the image already, by digest, so that it is stored once.
//!
//! The unit is a section of a file that is compressed, a fragment, or the blocks of a file that is stored as it
//! is. Only what was committed is here, and commits are in order, so what is found at a commit depends on the
//! tree alone. Workers look too, to save themselves work that the commit would throw away; what they don't find
//! the commit may, with the same result.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustix::rand::{GetRandomFlags, getrandom};

use super::clusters::End;
use crate::error::{Error, Result};
use crate::inode::Shape;
use crate::tree::Regular;
use crate::zmap::Extent;

/// The digest of something, with what it is.
///
/// Half of a keyed BLAKE3. The key is drawn for each build, so that nobody can look for two contents with the
/// same digest beforehand; nothing of it gets into the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key([u8; 16]);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

/// Everything that is known.
#[derive(Debug)]
pub(super) struct Known {
    secret: [u8; 32],
    tables: RwLock<Tables>,
}

/// A section that is in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Section {
    /// Its first extent, of all that are known, and how many there are.
    first: u32,
    count: u32,
    /// The bytes of it that the extents hold; what follows was left.
    pub(super) covered: u32,
    /// What was left lies beside the inode, where nobody else finds it.
    pub(super) is_inline: bool,
}

#[derive(Debug, Default)]
struct Tables {
    sections: HashMap<Key, Section, BuildHasherDefault<Prefix>>,
    extents: Vec<Extent>,
    /// Where fragments are in the packed inode.
    fragments: HashMap<Key, u64, BuildHasherDefault<Prefix>>,
    /// Where blocks start, in bytes, and how many there are.
    plain: HashMap<Key, (u64, u64), BuildHasherDefault<Prefix>>,
}

/// Keys are random enough as they are.
#[derive(Debug, Default)]
struct Prefix(u64);

impl Hasher for Prefix {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Known {
    pub(super) fn new() -> Result<Self> {
        let mut secret = [0; 32];
        getrandom(&mut secret, GetRandomFlags::empty())
            .map_err(Error::io(Path::new("random numbers"), "read"))?;
        Ok(Self { secret, tables: RwLock::default() })
    }

    fn key(&self, what: u8, detail: u64, bytes: &[u8]) -> Key {
        let mut hash = blake3::Hasher::new_keyed(&self.secret);
        hash.update(bytes);
        hash.update(&[what]);
        hash.update(&detail.to_le_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize().as_bytes()[..16]);
        Key(key)
    }

    /// The key of a section; it makes a difference how it is compressed, where it starts if that counts, and
    /// what becomes of its end.
    pub(super) fn section_key(&self, bytes: &[u8], how: usize, offset: Option<usize>, end: End) -> Key {
        let (what, most) = match end {
            End::Section => (0, 0),
            End::Cluster => (1, 0),
            End::Left => (2, 0),
            End::LeftIfSmall(most) => (3, most as u64),
        };
        let offset = offset.map_or(0, |offset| offset as u64 + 1);
        self.key(what, (how as u64) << 48 | offset << 24 | most, bytes)
    }

    pub(super) fn fragment_key(&self, bytes: &[u8]) -> Key {
        self.key(4, 0, bytes)
    }

    /// The key of the blocks of a file with this SHA-256. Where there are holes, they have to be the same.
    pub(super) fn plain_key(&self, digest: &[u8; 32], file: &Regular, shape: &Shape) -> Key {
        let mut bytes = digest.to_vec();
        if shape.is_chunked() {
            for segment in file.data.as_deref().unwrap_or_default() {
                bytes.extend_from_slice(&segment.start.to_le_bytes());
                bytes.extend_from_slice(&segment.end.to_le_bytes());
            }
        }
        self.key(5, u64::from(shape.is_chunked()) << 8 | u64::from(shape.chunk_bits), &bytes)
    }

    /// The key of a chunk, which is looked for among the blocks of files.
    pub(super) fn chunk_key(&self, bytes: &[u8]) -> Key {
        self.key(6, 0, bytes)
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn section(&self, key: Key) -> Option<Section> {
        self.read().sections.get(&key).copied()
    }

    /// Appends the extents of a section.
    pub(super) fn put_extents(&self, section: Section, extents: &mut Vec<Extent>) {
        let first = section.first as usize;
        let tables = self.read();
        extents
            .extend_from_slice(tables.extents.get(first..first + section.count as usize).unwrap_or_default());
    }

    /// Remembers a section.
    pub(super) fn add_section(&self, key: Key, extents: &[Extent], is_inline: bool) -> Result<()> {
        let mut tables = self.write();
        let covered = extents.iter().map(|extent| extent.llen).sum::<u64>();
        let (Ok(first), Ok(count), Ok(covered)) =
            (u32::try_from(tables.extents.len()), u32::try_from(extents.len()), u32::try_from(covered))
        else {
            let reason = format!("more than {} extents", u32::MAX);
            return Err(Error::Option { name: "dedupe", reason });
        };
        tables.extents.extend_from_slice(extents);
        tables.sections.insert(key, Section { first, count, covered, is_inline });
        Ok(())
    }

    pub(super) fn fragment(&self, key: Key) -> Option<u64> {
        self.read().fragments.get(&key).copied()
    }

    pub(super) fn add_fragment(&self, key: Key, offset: u64) {
        self.write().fragments.insert(key, offset);
    }

    /// Where the `blocks` blocks start. A file with its tail beside the inode has one less than another that may
    /// be its equal.
    pub(super) fn plain(&self, key: Key, blocks: u64) -> Option<u64> {
        self.read().plain.get(&key).filter(|(_, there)| *there >= blocks).map(|(start, _)| *start)
    }

    pub(super) fn add_plain(&self, key: Key, start: u64, blocks: u64) {
        self.write().plain.insert(key, (start, blocks));
    }
}
