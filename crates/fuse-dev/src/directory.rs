//! Packing directory entries into an answer.

use crate::abi;
use crate::types::Entry;
use zerocopy::IntoBytes;

/// What is set aside at first. The kernel may ask for up to 1 MiB at a time where directories are mostly short.
const FIRST_ALLOCATION: usize = 4096;

/// The file type of a mode as directory entries carry it (`DT_DIR` and so on).
pub const fn dirent_type(mode: u32) -> u8 {
    ((mode >> 12) & 0xf) as u8
}

/// Entries for READDIR.
///
/// Each entry names the offset from which to go on behind it; any number will do that the filesystem can make sense of
/// when it comes back, other than 0, which is the beginning.
#[derive(Debug)]
pub struct DirBuffer {
    bytes: Vec<u8>,
    size: usize,
}

impl DirBuffer {
    /// For an answer of at most `size` bytes.
    pub fn new(size: u32) -> Self {
        let size = size as usize;
        Self { bytes: Vec::with_capacity(size.min(FIRST_ALLOCATION)), size }
    }

    /// Adds an entry; false, and no change, if it does not fit: the answer is complete then. `kind` is a `DT_*` value, see
    /// [`dirent_type`].
    pub fn push(&mut self, ino: u64, next: u64, kind: u8, name: &[u8]) -> bool {
        push(&mut self.bytes, self.size, &[], ino, next, kind, name)
    }

    /// True if no entry was added.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// For [`crate::Reply::data`].
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Entries for READDIRPLUS: each with what a look-up of it would find.
#[derive(Debug)]
pub struct DirPlusBuffer {
    bytes: Vec<u8>,
    size: usize,
}

impl DirPlusBuffer {
    /// For an answer of at most `size` bytes.
    pub fn new(size: u32) -> Self {
        let size = size as usize;
        Self { bytes: Vec::with_capacity(size.min(FIRST_ALLOCATION)), size }
    }

    /// Adds an entry that the kernel will cache as if it had been looked up; false if it does not fit.
    pub fn push(&mut self, entry: &Entry, next: u64, name: &[u8]) -> bool {
        let kind = dirent_type(entry.attr.mode);
        let plus = abi::EntryOut::from(entry);
        push(&mut self.bytes, self.size, plus.as_bytes(), entry.attr.ino, next, kind, name)
    }

    /// Adds a bare name, to be looked up if somebody wants more of it: `.` and `..`, and what cannot be read.
    pub fn push_name(&mut self, ino: u64, next: u64, kind: u8, name: &[u8]) -> bool {
        let plus = abi::EntryOut::default();
        push(&mut self.bytes, self.size, plus.as_bytes(), ino, next, kind, name)
    }

    /// True if no entry was added.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// For [`crate::Reply::data`].
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn push(bytes: &mut Vec<u8>, size: usize, plus: &[u8], ino: u64, next: u64, kind: u8, name: &[u8]) -> bool {
    let Ok(namelen) = u32::try_from(name.len()) else { return false };
    let needed = (plus.len() + size_of::<abi::Dirent>())
        .checked_add(name.len())
        .and_then(|length| length.checked_next_multiple_of(8));
    let Some(end) = needed.and_then(|needed| bytes.len().checked_add(needed)) else { return false };
    if end > size {
        return false;
    }
    let dirent = abi::Dirent { ino, off: next, namelen, kind: u32::from(kind) };
    bytes.extend_from_slice(plus);
    bytes.extend_from_slice(dirent.as_bytes());
    bytes.extend_from_slice(name);
    bytes.resize(end, 0);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Attr;

    #[test]
    fn entries_are_padded_and_never_exceed_the_size() {
        let mut buffer = DirBuffer::new(64);
        assert!(buffer.is_empty());
        assert!(buffer.push(5, 1, dirent_type(0o100_644), b"a"));
        assert_eq!(buffer.as_bytes().len(), 32);
        assert_eq!(&buffer.as_bytes()[16..28], &[1, 0, 0, 0, 8, 0, 0, 0, b'a', 0, 0, 0]);
        assert!(!buffer.push(6, 2, 4, b"nine-char"), "40 bytes more are too many");
        assert_eq!(buffer.as_bytes().len(), 32);
        assert!(buffer.push(6, 2, 4, b"eight-ch"));
        assert_eq!(buffer.as_bytes().len(), 64);
        assert!(!buffer.push(7, 3, 4, b""));
    }

    #[test]
    fn a_plus_entry_carries_the_look_up() {
        let mut buffer = DirPlusBuffer::new(4096);
        let attr = Attr { ino: 77, mode: 0o040_755, ..Attr::default() };
        assert!(buffer.push(&Entry::forever(9, attr), 1, b"dir"));
        assert_eq!(buffer.as_bytes().len(), 128 + 32);
        assert_eq!(buffer.as_bytes()[0], 9);
        assert_eq!(buffer.as_bytes()[128], 77);
        assert!(buffer.push_name(1, 2, 4, b".."));
        assert_eq!(buffer.as_bytes()[160..288], [0; 128], "a bare name must not be cached as an inode");
    }

    #[test]
    fn a_size_of_nothing_holds_nothing() {
        assert!(!DirBuffer::new(0).push(1, 1, 4, b"x"));
        assert!(!DirPlusBuffer::new(159).push_name(1, 1, 4, b"x"));
        assert!(DirPlusBuffer::new(160).push_name(1, 1, 4, b"x"));
    }
}
