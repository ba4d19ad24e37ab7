//! What is in the image already, by digest, so that it is stored once.
//!
//! The unit is a section of a file that is compressed, a fragment, or the blocks of a file that is stored as it
//! is. Only what was committed is here, and commits are in order, so what is found at a commit depends on the
//! tree alone. Workers look too, to save themselves work that the commit would throw away; what they don't find
//! the commit may, with the same result.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::path::Path;
use std::sync::RwLock;

use rustix::rand::{GetRandomFlags, getrandom};

use super::clusters::End;
use crate::error::{Error, Result};
use crate::inode::Shape;
use crate::lock::{read, write};
use crate::tree::Regular;
use crate::zmap::Extent;

/// The digest of something, with what it is.
///
/// 96 bits of a keyed BLAKE3. The key is drawn for each build, so that nobody can look for two contents with the
/// same digest beforehand, and among a thousand million contents two are alike by chance once in 10^11 builds.
/// Nothing of it gets into the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key([u8; KEY_BYTES]);

const KEY_BYTES: usize = 12;

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
    sections: Table<Section>,
    extents: Vec<Extent>,
    /// Where fragments are in the packed inode.
    fragments: Table<Bytes<6>>,
    /// Where blocks start, and how many there are.
    plain: Table<(Bytes<8>, Bytes<6>)>,
}

/// A number in as few bytes as it needs: there may be one for each of millions of files.
#[derive(Debug, Clone, Copy)]
struct Bytes<const N: usize>([u8; N]);

impl<const N: usize> Bytes<N> {
    /// None if the number takes more bytes.
    fn new(number: u64) -> Option<Self> {
        let bytes = number.to_le_bytes();
        let (low, high) = bytes.split_at_checked(N)?;
        if high.iter().any(|byte| *byte != 0) {
            return None;
        }
        low.try_into().ok().map(Self)
    }

    fn get(self) -> u64 {
        self.0.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// Keys with what is known of them, in many maps in place of one: they don't grow at the same time, and so take
/// little more room than what is in them.
#[derive(Debug)]
struct Table<V>(Vec<HashMap<Key, V, BuildHasherDefault<Prefix>>>);

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self((0..MAPS).map(|_| HashMap::default()).collect())
    }
}

impl<V> Table<V> {
    fn get(&self, key: Key) -> Option<&V> {
        self.0.get(Self::map(key))?.get(&key)
    }

    fn insert(&mut self, key: Key, value: V) {
        if let Some(map) = self.0.get_mut(Self::map(key)) {
            map.insert(key, value);
        }
    }

    /// By bytes that the hash is not made of.
    fn map(key: Key) -> usize {
        usize::from(key.0[KEY_BYTES - 1]) % MAPS
    }
}

const MAPS: usize = 64;

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
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(&hash.finalize().as_bytes()[..KEY_BYTES]);
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

    pub(super) fn section(&self, key: Key) -> Option<Section> {
        read(&self.tables).sections.get(key).copied()
    }

    /// Appends the extents of a section.
    pub(super) fn put_extents(&self, section: Section, extents: &mut Vec<Extent>) {
        let first = section.first as usize;
        let tables = read(&self.tables);
        extents
            .extend_from_slice(tables.extents.get(first..first + section.count as usize).unwrap_or_default());
    }

    /// Remembers a section.
    pub(super) fn add_section(&self, key: Key, extents: &[Extent], is_inline: bool) -> Result<()> {
        let mut tables = write(&self.tables);
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
        read(&self.tables).fragments.get(key).map(|offset| offset.get())
    }

    pub(super) fn add_fragment(&self, key: Key, offset: u64) {
        if let Some(offset) = Bytes::new(offset) {
            write(&self.tables).fragments.insert(key, offset);
        }
    }

    /// Where the `blocks` blocks start. A file with its tail beside the inode has one less than another that may
    /// be its equal.
    pub(super) fn plain(&self, key: Key, blocks: u64) -> Option<u64> {
        read(&self.tables)
            .plain
            .get(key)
            .filter(|(_, there)| there.get() >= blocks)
            .map(|(start, _)| start.get())
    }

    pub(super) fn add_plain(&self, key: Key, start: u64, blocks: u64) {
        if let (Some(start), Some(blocks)) = (Bytes::new(start), Bytes::new(blocks)) {
            write(&self.tables).plain.insert(key, (start, blocks));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_out_of_their_bytes_or_were_too_large() {
        for number in [0, 1, 255, 256, 0x0102_0304_0506, (1 << 48) - 1] {
            assert_eq!(Bytes::<6>::new(number).unwrap().get(), number);
            assert_eq!(Bytes::<8>::new(number).unwrap().get(), number);
        }
        assert!(Bytes::<6>::new(1 << 48).is_none());
        assert_eq!(Bytes::<8>::new(u64::MAX).unwrap().get(), u64::MAX);
    }

    #[test]
    fn an_entry_of_a_fragment_takes_eighteen_bytes() {
        assert_eq!(size_of::<(Key, Bytes<6>)>(), 18);
        assert_eq!(size_of::<(Key, (Bytes<8>, Bytes<6>))>(), 26);
    }

    #[test]
    fn what_was_put_is_found_again() {
        let known = Known::new().unwrap();
        for nth in 0..10_000u64 {
            known.add_fragment(known.fragment_key(&nth.to_le_bytes()), nth);
            known.add_plain(known.chunk_key(&nth.to_le_bytes()), nth << 48, nth);
        }
        for nth in 0..10_000u64 {
            assert_eq!(known.fragment(known.fragment_key(&nth.to_le_bytes())), Some(nth));
            assert_eq!(known.plain(known.chunk_key(&nth.to_le_bytes()), nth), Some(nth << 48));
            assert_eq!(known.plain(known.chunk_key(&nth.to_le_bytes()), nth + 1), None);
        }
        assert_eq!(known.fragment(known.fragment_key(b"something else")), None);
    }
}
