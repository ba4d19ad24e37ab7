//! A blob that the keeper was handed, or the bytes of one file that lie in no blob as they are.

use rustix::fs::Advice;
use rustix::fs::FileType;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// Pages are dropped once so many bytes have been used, or so many runs of them.
const DROP_BYTES: u64 = 8 << 20;
/// See [`DROP_BYTES`].
const DROP_RUNS: usize = 1024;
/// The page cache may keep so much in one folio, and drops it whole or not at all.
const FOLIO: u64 = 2 << 20;
/// How many runs are remembered; a file of more is forgotten and begun anew.
const MAX_RUNS: usize = 1 << 16;

/// A blob, read by offset only; or a file's bytes, which may come in order through a pipe.
#[derive(Debug)]
pub(crate) struct Source {
    file: OwnedFd,
    size: u64,
    page: u64,
    kind: Kind,
    /// Cleared by the first attempt that failed: the answer holds for the whole filesystem.
    clones: AtomicBool,
    used: Mutex<Used>,
}

#[derive(Debug)]
enum Kind {
    /// A blob of images.
    Blob,
    /// A file's bytes, in memory.
    Memory,
    /// A file's bytes, of which so many have come through a pipe.
    Pipe(Mutex<u64>),
}

/// What was read and need not be cached any more.
#[derive(Debug, Default)]
struct Used {
    /// Everything used so far, start to end; neighbours are joined.
    all: BTreeMap<u64, u64>,
    /// What has not been dropped yet.
    new: Vec<(u64, u64)>,
    bytes: u64,
}

impl Used {
    fn add(&mut self, mut start: u64, mut end: u64) {
        self.new.push((start, end));
        self.bytes = self.bytes.saturating_add(end - start);
        if self.all.len() >= MAX_RUNS {
            self.all.clear();
        }
        while let Some((&before, &until)) = self.all.range(..=end).next_back()
            && until >= start
        {
            start = start.min(before);
            end = end.max(until);
            self.all.remove(&before);
        }
        self.all.insert(start, end);
    }

    /// What to drop now: the new runs, and as much of what was used next to them as may share a
    /// folio with them and could not be dropped alone.
    fn take(&mut self) -> Vec<(u64, u64)> {
        self.bytes = 0;
        let mut new = std::mem::take(&mut self.new);
        new.sort_unstable();
        let mut drops: Vec<(u64, u64)> = Vec::new();
        for (start, end) in new {
            let (from, until) = self
                .all
                .range(..=start)
                .next_back()
                .map_or((start, end), |(&from, &until)| (from, until.max(end)));
            let start = start.saturating_sub(FOLIO).max(from);
            let end = end.saturating_add(FOLIO).min(until);
            match drops.last_mut() {
                Some(last) if last.1 >= start => last.1 = last.1.max(end),
                _ => drops.push((start, end)),
            }
        }
        drops
    }
}

impl Source {
    /// Takes a regular file or a block device; anything else could block, or is no image.
    pub(crate) fn new(file: OwnedFd) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(&file)?;
        let size = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => crate::dir::size(&stat),
            // Reading beyond its end is met as a short read.
            FileType::BlockDevice => u64::MAX,
            _ => return Err(Errno::INVAL),
        };
        let page = rustix::param::page_size() as u64;
        let clones = AtomicBool::new(true);
        Ok(Self { file, size, page, kind: Kind::Blob, clones, used: Mutex::default() })
    }

    /// Takes a regular file (a memfd) or a pipe that holds bytes of one file. There is nothing to share extents with.
    pub(crate) fn handed(file: OwnedFd) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(&file)?;
        let (kind, size) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => (Kind::Memory, crate::dir::size(&stat)),
            // One that ends early is met as a short read.
            FileType::Fifo => (Kind::Pipe(Mutex::default()), u64::MAX),
            _ => return Err(Errno::INVAL),
        };
        Ok(Self { file, size, page: 1, kind, clones: AtomicBool::new(false), used: Mutex::default() })
    }

    /// Whether it is no blob but bytes for one file.
    pub(crate) fn is_handed(&self) -> bool {
        !matches!(self.kind, Kind::Blob)
    }

    /// Whether the range lies in the blob as it was when it was handed over.
    pub(crate) fn holds(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.size)
    }

    /// Fills the whole buffer; a blob that has become shorter is an I/O error.
    pub(crate) fn read_exact(&self, mut buffer: &mut [u8], mut offset: u64) -> Result<(), Errno> {
        if let Kind::Pipe(position) = &self.kind {
            let mut position = position.lock().unwrap_or_else(PoisonError::into_inner);
            // Reading begins anew when an object was evicted meanwhile; what came through the pipe is gone.
            if *position != offset {
                return Err(Errno::SPIPE);
            }
            *position = offset.saturating_add(buffer.len() as u64);
            return read_on(&self.file, buffer);
        }
        while !buffer.is_empty() {
            match rustix::io::pread(&self.file, &mut *buffer, offset) {
                Ok(0) => return Err(Errno::IO),
                Ok(read) => {
                    buffer = buffer.get_mut(read..).unwrap_or_default();
                    offset = offset.saturating_add(read as u64);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Says that a range has been copied: its pages would be a second copy of the object's.
    ///
    /// A run that begins on a page is a file's own to its last page, padding and all; one that does
    /// not may share its first and last page with metadata, which is wanted again.
    pub(crate) fn done_with(&self, offset: u64, len: u64) {
        if self.is_handed() {
            return;
        }
        let Some(end) = offset.checked_add(len).and_then(|end| end.checked_next_multiple_of(self.page))
        else {
            return;
        };
        let (start, end) = if offset.is_multiple_of(self.page) {
            (offset, end)
        } else {
            (offset.next_multiple_of(self.page), (offset + len) / self.page * self.page)
        };
        if start >= end {
            return;
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.add(start, end);
        if used.bytes >= DROP_BYTES || used.new.len() >= DROP_RUNS {
            let runs = used.take();
            drop(used);
            self.drop_runs(&runs);
        }
    }

    /// Drops what [`Source::done_with`] has gathered.
    pub(crate) fn drop_pages(&self) {
        let runs = self.used.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.drop_runs(&runs);
    }

    fn drop_runs(&self, runs: &[(u64, u64)]) {
        for &(start, end) in runs {
            // Advice: pages that are dirty, mapped or in memory for good stay.
            let _ = rustix::fs::fadvise(&self.file, start, NonZeroU64::new(end - start), Advice::DontNeed);
        }
    }

    /// Whether it is worth trying to share extents with this blob.
    pub(crate) fn may_clone(&self) -> bool {
        self.clones.load(Ordering::Relaxed)
    }

    /// Not again.
    pub(crate) fn cannot_clone(&self) {
        self.clones.store(false, Ordering::Relaxed);
    }

    /// Writes out what is dirty, so that its bytes are as durable as what is said of them.
    pub(crate) fn sync(&self) -> Result<(), Errno> {
        rustix::fs::fdatasync(&self.file)
    }
}

/// Fills the whole buffer from a pipe; one that ends before is an I/O error.
fn read_on(pipe: &OwnedFd, mut buffer: &mut [u8]) -> Result<(), Errno> {
    while !buffer.is_empty() {
        match rustix::io::read(pipe, &mut *buffer) {
            Ok(0) => return Err(Errno::IO),
            Ok(read) => buffer = buffer.get_mut(read..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn neighbours_are_dropped_together_since_a_folio_may_hold_both() {
        let mut used = Used::default();
        used.add(10 * MIB, 11 * MIB);
        assert_eq!(used.take(), [(10 * MIB, 11 * MIB)]);
        used.add(11 * MIB, 12 * MIB);
        used.add(20 * MIB, 21 * MIB);
        used.add(9 * MIB, 10 * MIB);
        assert_eq!(used.take(), [(9 * MIB, 12 * MIB), (20 * MIB, 21 * MIB)]);
        assert_eq!(used.take(), []);
        assert_eq!(used.all.into_iter().collect::<Vec<_>>(), [(9 * MIB, 12 * MIB), (20 * MIB, 21 * MIB)]);
    }

    #[test]
    fn what_overlaps_is_one_run() {
        let mut used = Used::default();
        for (start, end) in [(0, 10), (30, 40), (50, 60), (5, 55), (100, 101)] {
            used.add(start, end);
        }
        assert_eq!(used.all.into_iter().collect::<Vec<_>>(), [(0, 60), (100, 101)]);
    }

    #[test]
    fn pages_that_metadata_may_share_are_not_dropped() {
        let page = rustix::param::page_size() as u64;
        let file = tempfile::tempfile().unwrap();
        file.set_len(100 * page).unwrap();
        let source = Source::new(file.into()).unwrap();
        let runs = |offset, len| {
            source.done_with(offset, len);
            source.used.lock().unwrap().all = BTreeMap::new();
            std::mem::take(&mut source.used.lock().unwrap().new)
        };
        assert_eq!(runs(page, 10), [(page, 2 * page)], "padding is the file's own");
        assert_eq!(runs(page + 1, 10), []);
        assert_eq!(runs(page + 1, 3 * page), [(2 * page, 4 * page)]);
        assert_eq!(runs(u64::MAX - 5, 5), []);
    }

    #[test]
    fn a_pipe_gives_a_file_s_bytes_once_and_in_order() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut writer, b"0123456789").unwrap();
        drop(writer);
        let source = Source::handed(reader.into()).unwrap();
        assert!(source.is_handed() && !source.may_clone() && source.holds(0, 1 << 40));
        let mut buffer = [0; 4];
        assert_eq!(source.read_exact(&mut buffer, 0), Ok(()));
        assert_eq!(&buffer, b"0123");
        assert_eq!(source.read_exact(&mut buffer, 0), Err(Errno::SPIPE), "what was read is gone");
        assert_eq!(source.read_exact(&mut buffer, 4), Ok(()));
        assert_eq!(source.read_exact(&mut buffer, 8), Err(Errno::IO), "it ends early");
        assert!(Source::handed(std::fs::File::open("/dev/zero").unwrap().into()).is_err());
    }

    #[test]
    fn only_what_can_be_read_by_offset_is_a_source() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(Source::new(reader.into()).is_err());
        assert!(Source::new(std::fs::File::open("/").unwrap().into()).is_err());
        assert!(Source::new(std::fs::File::open("/dev/zero").unwrap().into()).is_err());
        let file = tempfile::tempfile().unwrap();
        file.set_len(10).unwrap();
        let source = Source::new(file.into()).unwrap();
        assert!(source.holds(10, 0) && source.holds(0, 10));
        assert!(!source.holds(1, 10) && !source.holds(11, 0) && !source.holds(u64::MAX, 2));
        assert_eq!(source.read_exact(&mut [0; 11], 0), Err(Errno::IO));
    }
}
