//! The headers of a pax archive (POSIX.1-2001): ustar headers, and records where those are too narrow.
//!
//! Nothing but the entry itself goes into them - no clock, no process, no user names - so that the same image
//! gives the same archive.

use erofs_format::inode::new_decode_dev;
use erofs_image::{FileType, Inode, Xattr};

/// Everything in an archive comes in blocks of this size.
pub(super) const BLOCK: usize = 512;

const NAME: usize = 100;
const PREFIX: usize = 155;
/// The largest numbers that fields of 8 and 12 bytes hold.
const MAX_ID: u64 = 0o777_7777;
const MAX_SIZE: u64 = 0o777_7777_7777;

/// An entry of an archive.
#[derive(Debug)]
pub(super) struct Member<'a> {
    /// The path, with a slash behind it if it is a directory.
    pub(super) name: Vec<u8>,
    pub(super) inode: &'a Inode,
    /// The target of a symbolic link, or the first name of a hard link.
    pub(super) link: &'a [u8],
    pub(super) is_hard_link: bool,
    pub(super) xattrs: &'a [Xattr],
    /// Bytes that come behind the header.
    pub(super) stored: u64,
    /// They are those of a sparse file.
    pub(super) is_sparse: bool,
}

/// The name in the archive of a path in the image.
pub(super) fn member_name(path: &[u8], inode: &Inode) -> Vec<u8> {
    match (path, inode.is_dir()) {
        (b"", _) => b"./".to_vec(),
        (path, true) => [path, b"/"].concat(),
        (path, false) => path.to_vec(),
    }
}

impl Member<'_> {
    fn type_flag(&self) -> u8 {
        if self.is_hard_link {
            return b'1';
        }
        match self.inode.file_type() {
            FileType::Symlink => b'2',
            FileType::CharDevice => b'3',
            FileType::BlockDevice => b'4',
            FileType::Directory => b'5',
            FileType::Fifo => b'6',
            FileType::Regular | FileType::Socket => b'0',
        }
    }

    /// The header, with the extended one before it where there must be one.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut records = Records::default();
        let mut header = Header([0; BLOCK]);
        let stand_in;
        let (prefix, name) = if self.is_sparse {
            // Programs that know nothing of holes would take what is stored for the file itself.
            records.add(b"GNU.sparse.major", b"1");
            records.add(b"GNU.sparse.minor", b"0");
            records.add_text(b"GNU.sparse.name", &self.name);
            records.add(b"GNU.sparse.realsize", self.inode.size.to_string().as_bytes());
            stand_in = [b"GNUSparseFile.0/", last_name(&self.name)].concat();
            (&[][..], &*stand_in)
        } else {
            split(&self.name).unwrap_or_else(|| {
                records.add_text(b"path", &self.name);
                (&[], &self.name)
            })
        };
        header.text(0, NAME, name);
        header.text(345, PREFIX, prefix);
        if self.link.len() > NAME {
            records.add_text(b"linkpath", self.link);
        }
        header.text(157, NAME, self.link);
        header.number(100, 8, u64::from(self.inode.mode & 0o7777));
        for (at, key, id) in [(108, b"uid", self.inode.uid), (116, b"gid", self.inode.gid)] {
            header.number(at, 8, records.bounded(key, u64::from(id), MAX_ID));
        }
        header.number(124, 12, records.bounded(b"size", self.stored, MAX_SIZE));
        header.number(136, 12, self.mtime(&mut records));
        let (major, minor) = new_decode_dev(self.inode.rdev);
        header.number(329, 8, u64::from(major));
        header.number(337, 8, u64::from(minor));
        for xattr in self.xattrs {
            records.add(&[b"SCHILY.xattr.", &*key_of(&xattr.name)].concat(), &xattr.value);
        }
        let mut bytes = records.encode(&self.name);
        bytes.extend_from_slice(&header.finish(self.type_flag()));
        bytes
    }

    /// The field for the time, and the record that says more than it can.
    fn mtime(&self, records: &mut Records) -> u64 {
        let (seconds, nanoseconds) = (self.inode.mtime, self.inode.mtime_nsec);
        let field = u64::try_from(seconds).ok().filter(|seconds| *seconds <= MAX_SIZE);
        if field.is_none() || nanoseconds != 0 {
            // As one number, since nanoseconds count forwards also before 1970.
            let all = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
            let sign = if all < 0 { "-" } else { "" };
            let (whole, part) = (all.unsigned_abs() / 1_000_000_000, all.unsigned_abs() % 1_000_000_000);
            let mut text = format!("{sign}{whole}.{part:09}");
            text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
            records.add(b"mtime", text.as_bytes());
        }
        field.unwrap_or(0)
    }
}

/// A name as ustar holds it, in two parts without the slash between them, if it can.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME {
        return Some((&[], name));
    }
    let slashes = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes
        .filter_map(|at| Some((name.get(..at)?, name.get(at + 1..)?)))
        .find(|(prefix, rest)| (1..=PREFIX).contains(&prefix.len()) && (1..=NAME).contains(&rest.len()))
}

/// The last part of a name.
fn last_name(name: &[u8]) -> &[u8] {
    let name = name.strip_suffix(b"/").unwrap_or(name);
    name.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// The name of an xattr as GNU tar writes it: an equals sign would end the key.
fn key_of(name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'%' => key.extend_from_slice(b"%25"),
            b'=' => key.extend_from_slice(b"%3D"),
            other => key.push(*other),
        }
    }
    key
}

/// The records of an extended header.
#[derive(Debug, Default)]
struct Records {
    bytes: Vec<u8>,
    has_binary_names: bool,
}

impl Records {
    /// Adds a name, which may be no UTF-8; that must be said.
    fn add_text(&mut self, key: &[u8], value: &[u8]) {
        if std::str::from_utf8(value).is_err() && !self.has_binary_names {
            self.has_binary_names = true;
            self.add(b"hdrcharset", b"BINARY");
        }
        self.add(key, value);
    }

    /// A number for a field, as a record if the field can't hold it.
    fn bounded(&mut self, key: &[u8], number: u64, most: u64) -> u64 {
        if number <= most {
            return number;
        }
        self.add(key, number.to_string().as_bytes());
        0
    }

    fn add(&mut self, key: &[u8], value: &[u8]) {
        // Length, blank, key, equals sign, value, newline; the length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length.to_string().len() + rest > length {
            length += 1;
        }
        self.bytes.extend_from_slice(format!("{length} ").as_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.push(b'=');
        self.bytes.extend_from_slice(value);
        self.bytes.push(b'\n');
    }

    /// The extended header for the entry `name`, empty if there are no records.
    fn encode(self, name: &[u8]) -> Vec<u8> {
        if self.bytes.is_empty() {
            return Vec::new();
        }
        let mut header = Header([0; BLOCK]);
        header.text(0, NAME, &[b"PaxHeaders/", last_name(name)].concat());
        header.number(100, 8, 0o644);
        for (at, width) in [(108, 8), (116, 8), (136, 12), (329, 8), (337, 8)] {
            header.number(at, width, 0);
        }
        header.number(124, 12, self.bytes.len() as u64);
        let mut bytes = header.finish(b'x').to_vec();
        bytes.extend_from_slice(&self.bytes);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }
}

/// A ustar header.
struct Header([u8; BLOCK]);

impl Header {
    /// Puts text into a field, cut to its width.
    fn text(&mut self, at: usize, width: usize, text: &[u8]) {
        for (place, byte) in self.0.iter_mut().skip(at).take(width).zip(text) {
            *place = *byte;
        }
    }

    /// Puts a number into a field, which is known to hold it.
    fn number(&mut self, at: usize, width: usize, number: u64) {
        let digits = width - 1;
        self.text(at, width, format!("{number:0digits$o}\0").as_bytes());
    }

    fn finish(mut self, type_flag: u8) -> [u8; BLOCK] {
        self.text(156, 1, &[type_flag]);
        self.text(257, 8, b"ustar\x0000");
        self.text(148, 8, b"        ");
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.text(148, 8, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for size in 0..1200 {
            let mut records = Records::default();
            records.add(b"path", &vec![b'x'; size]);
            let digits = records.bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let stated: usize = String::from_utf8_lossy(&records.bytes[..digits]).parse().unwrap();
            assert_eq!(stated, records.bytes.len(), "{size}");
        }
    }

    #[test]
    fn a_long_name_is_split_at_a_slash_where_both_parts_fit() {
        let name = [vec![b'd'; 90], b"/".to_vec(), vec![b'e'; 60], b"/".to_vec(), vec![b'f'; 99]].concat();
        let (prefix, rest) = split(&name).unwrap();
        assert_eq!((prefix.len(), rest.len()), (151, 99));
        assert!(split(&[b'x'; 101]).is_none());
        assert!(split(&[vec![b'x'; 200], b"/y".to_vec()].concat()).is_none());
        // A slash at the end is part of the name.
        assert!(split(&[vec![b'x'; 100], b"/".to_vec()].concat()).is_none());
    }
}
