//! Directories: look-up and listing.
//!
//! A directory is a row of blocks, each with entries and the names they point to (drawn in
//! `erofs_format::dirent`). Names ascend through the whole of it, so a look-up is a binary search
//! for the block and then inside it. A listing checks what it passes on: a name with a slash, out
//! of order or out of bounds is an error.

use std::ops::ControlFlow;

use erofs_format::dirent::{DIRENT_SIZE, Dirent as RawDirent, FileType, NAME_LEN};
use zerocopy::FromBytes;

use crate::cache::Bytes;
use crate::error::{Corruption, Error, Result, Where, printable};
use crate::image::Image;
use crate::inode::Inode;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirent {
    /// The inode.
    pub nid: u64,
    /// Its type as the directory claims; the inode itself decides.
    pub file_type: Option<FileType>,
}

/// An entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The inode.
    pub nid: u64,
    /// Its type as the directory claims; the inode itself decides.
    pub file_type: Option<FileType>,
    /// The name: 1 to 255 bytes without slash and NUL.
    pub name: &'a [u8],
    /// The position of the entry behind it, to go on from in a later call.
    pub next: u64,
}

impl Image {
    /// What `name` stands for in the directory `dir`.
    pub fn lookup(&self, dir: &Inode, name: &[u8]) -> Result<Option<Dirent>> {
        self.check_dir(dir)?;
        if name.len() > NAME_LEN {
            return Err(Error::NameTooLong { length: name.len() });
        }
        if name.is_empty() || has_bad_bytes(name) {
            return Ok(None);
        }
        if name == b"." {
            return Ok(Some(Dirent { nid: dir.nid, file_type: Some(FileType::Directory) }));
        }
        self.search_blocks(dir, name).map_err(|error| error.of_inode(dir.nid))
    }

    /// Hands the entries of `dir` to `visit`, from byte position `pos` on, until it breaks. The
    /// first position is 0; a position inside an entry counts as that of the next one. "." and
    /// ".." are among them; a directory without an entry for "." shows it last.
    pub fn read_dir(
        &self,
        dir: &Inode,
        pos: u64,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.check_dir(dir)?;
        self.list_blocks(dir, pos, visit).map_err(|error| error.of_inode(dir.nid))
    }

    fn check_dir(&self, dir: &Inode) -> Result<()> {
        if !dir.is_dir() {
            return Err(Error::NotADirectory { nid: dir.nid });
        }
        let limit = self.limits().directory_bytes;
        if dir.size > limit {
            let place = Where::nid(dir.nid);
            return Err(Error::Limit { place, name: "directory_bytes", value: dir.size, limit });
        }
        Ok(())
    }

    /// Block `number` of a directory that has it.
    fn dir_block(&self, dir: &Inode, number: u64) -> Result<Block<'_>> {
        let block_size = u64::from(self.block_size());
        // Below the directory's size, which `check_dir` has bounded.
        let position = number * block_size;
        let len = dir.size.saturating_sub(position).min(block_size);
        let bytes = self.file_bytes(dir, position, usize::try_from(len).unwrap_or_default())?;
        Block::parse(bytes, Where::at(dir.nid, position))
    }

    fn search_blocks(&self, dir: &Inode, name: &[u8]) -> Result<Option<Dirent>> {
        // Blocks before `low` start at or below the name, those from `high` on above it. The last
        // one at or below is the only one that can hold it.
        let (mut low, mut high) = (0, dir.size.div_ceil(u64::from(self.block_size())));
        let mut candidate = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let block = self.dir_block(dir, middle)?;
            if block.name(0)? <= name {
                candidate = Some(block);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        candidate.map_or(Ok(None), |block| block.search(name))
    }

    fn list_blocks(
        &self,
        dir: &Inode,
        pos: u64,
        visit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let block_size = u64::from(self.block_size());
        let blocks = dir.size.div_ceil(block_size);
        let mut number = pos / block_size;
        let mut index = (pos % block_size).div_ceil(DIRENT_SIZE as u64);
        let mut previous = LastName::default();
        if number > 0 && number < blocks {
            // Order holds across calls too, or a listing could show a name twice.
            previous.set(self.dir_block(dir, number - 1)?.last_name()?);
        }
        while number < blocks {
            let start = number * block_size;
            let block = self.dir_block(dir, number)?;
            for at in 0..block.count {
                let name = block.name(at)?;
                previous.check(name, block.place)?;
                if (at as u64) < index {
                    continue;
                }
                let entry = block.dirent(at)?;
                check_dot(dir, name, entry, block.place)?;
                let next = if at + 1 < block.count {
                    start + ((at + 1) * DIRENT_SIZE) as u64
                } else {
                    (start + block_size).min(dir.size)
                };
                let entry = DirEntry { nid: entry.nid, file_type: entry.file_type, name, next };
                if visit(entry).is_break() {
                    return Ok(());
                }
            }
            number += 1;
            index = 0;
        }
        if dir.dot_omitted && pos <= dir.size {
            let file_type = Some(FileType::Directory);
            // There is nothing behind it, so whether to go on is no question.
            let _ = visit(DirEntry { nid: dir.nid, file_type, name: b".", next: dir.size + 1 });
        }
        Ok(())
    }
}

fn check_dot(dir: &Inode, name: &[u8], entry: Dirent, place: Where) -> Result<()> {
    if name == b"." {
        if dir.dot_omitted {
            return Err(Error::corrupt(place, Corruption::Unsorted { name: printable(name) }));
        }
        if entry.nid != dir.nid {
            return Err(Error::corrupt(place, Corruption::WrongDot { found: entry.nid }));
        }
    }
    Ok(())
}

fn has_bad_bytes(name: &[u8]) -> bool {
    name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

/// The name before, to see that names ascend. It is kept in place: a listing allocates nothing.
struct LastName {
    len: usize,
    bytes: [u8; NAME_LEN],
}

impl Default for LastName {
    fn default() -> Self {
        Self { len: 0, bytes: [0; NAME_LEN] }
    }
}

impl LastName {
    fn set(&mut self, name: &[u8]) {
        // Names have been checked to fit.
        self.len = name.len().min(NAME_LEN);
        self.bytes[..self.len].copy_from_slice(&name[..self.len]);
    }

    fn check(&mut self, name: &[u8], place: Where) -> Result<()> {
        if has_bad_bytes(name) {
            return Err(Error::corrupt(place, Corruption::NameBytes { name: printable(name) }));
        }
        if name <= &self.bytes[..self.len] {
            return Err(Error::corrupt(place, Corruption::Unsorted { name: printable(name) }));
        }
        self.set(name);
        Ok(())
    }
}

/// A directory block whose number of entries is known to fit.
struct Block<'a> {
    bytes: Bytes<'a>,
    count: usize,
    place: Where,
}

impl<'a> Block<'a> {
    fn parse(bytes: Bytes<'a>, place: Where) -> Result<Self> {
        let first = RawDirent::read_from_prefix(&bytes).map_or(0, |(entry, _)| entry.nameoff.get());
        let names = usize::from(first);
        if names == 0 || names % DIRENT_SIZE != 0 || names >= bytes.len() {
            return Err(Error::corrupt(place, Corruption::FirstNameOffset { found: first }));
        }
        Ok(Self { bytes, count: names / DIRENT_SIZE, place })
    }

    fn raw(&self, index: usize) -> Result<RawDirent> {
        let bytes = self.bytes.get(index * DIRENT_SIZE..).unwrap_or_default();
        match RawDirent::read_from_prefix(bytes) {
            Ok((entry, _)) => Ok(entry),
            Err(_) => Err(self.bad_name(index * DIRENT_SIZE, self.bytes.len())),
        }
    }

    fn dirent(&self, index: usize) -> Result<Dirent> {
        let raw = self.raw(index)?;
        Ok(Dirent { nid: raw.nid.get(), file_type: FileType::try_from(raw.file_type).ok() })
    }

    fn name(&self, index: usize) -> Result<&[u8]> {
        let start = usize::from(self.raw(index)?.nameoff.get());
        let end = if index + 1 < self.count {
            usize::from(self.raw(index + 1)?.nameoff.get())
        } else {
            let rest = self.bytes.get(start..).unwrap_or_default();
            start + rest.iter().take(NAME_LEN + 1).take_while(|byte| **byte != 0).count()
        };
        let name = self.bytes.get(start..end).filter(|name| (1..=NAME_LEN).contains(&name.len()));
        // A name that starts among the entries would let two entries be one another's name.
        name.filter(|_| start >= self.count * DIRENT_SIZE).ok_or_else(|| self.bad_name(start, end))
    }

    fn last_name(&self) -> Result<&[u8]> {
        self.name(self.count - 1)
    }

    fn search(&self, name: &[u8]) -> Result<Option<Dirent>> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle)?.cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return self.dirent(middle).map(Some),
            }
        }
        Ok(None)
    }

    fn bad_name(&self, start: usize, end: usize) -> Error {
        Error::corrupt(self.place, Corruption::NameBounds { start, end })
    }
}
