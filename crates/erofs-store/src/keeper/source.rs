//! A blob that the keeper was handed.

use rustix::fs::Advice;
use rustix::fs::FileType;
use rustix::io::Errno;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// Pages are dropped once so many bytes have been used, or so many runs of them.
const DROP_BYTES: u64 = 4 << 20;
/// See [`DROP_BYTES`].
const DROP_RUNS: usize = 256;

/// A blob, read by offset only.
#[derive(Debug)]
pub(crate) struct Source {
    file: OwnedFd,
    size: u64,
    page: u64,
    /// Cleared by the first attempt that failed: the answer holds for the whole filesystem.
    clones: AtomicBool,
    used: Mutex<Used>,
}

/// What was read and need not be cached any more.
#[derive(Debug, Default)]
struct Used {
    runs: Vec<(u64, u64)>,
    bytes: u64,
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
        Ok(Self { file, size, page, clones: AtomicBool::new(true), used: Mutex::default() })
    }

    /// Whether the range lies in the blob as it was when it was handed over.
    pub(crate) fn holds(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.size)
    }

    /// Fills the whole buffer; a blob that has become shorter is an I/O error.
    pub(crate) fn read_exact(&self, mut buffer: &mut [u8], mut offset: u64) -> Result<(), Errno> {
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
        used.bytes = used.bytes.saturating_add(end - start);
        match used.runs.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => used.runs.push((start, end)),
        }
        if used.bytes >= DROP_BYTES || used.runs.len() >= DROP_RUNS {
            let used = std::mem::take(&mut *used);
            self.drop_runs(&used);
        }
    }

    /// Drops what [`Source::done_with`] has gathered.
    pub(crate) fn drop_pages(&self) {
        let used = std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner));
        self.drop_runs(&used);
    }

    fn drop_runs(&self, used: &Used) {
        for &(start, end) in &used.runs {
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

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
