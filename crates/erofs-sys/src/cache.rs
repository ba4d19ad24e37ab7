//! The page cache: how much of a file is in it, and reading without leaving anything behind.

use rustix::fs::{Advice, fadvise};
use rustix::io::{self, Errno, IoSliceMut, ReadWriteFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The same number on every architecture; libc does not name it everywhere.
const SYS_CACHESTAT: libc::c_long = 451;
/// Linux 6.14: pages that this read brought in are dropped when it is done.
const RWF_DONTCACHE: u32 = 0x80;
/// How much is mapped at a time where mincore has to do.
const MINCORE_WINDOW: u64 = 64 << 20;

/// Pages of a file in the page cache, `struct cachestat`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStat {
    /// Cached pages.
    pub cached: u64,
    /// Dirty ones among them; 0 where only mincore could be asked.
    pub dirty: u64,
    /// Those being written back; 0 likewise.
    pub writeback: u64,
    /// Pages that were cached and have been evicted; 0 likewise.
    pub evicted: u64,
    /// Pages evicted under memory pressure a short while ago; 0 likewise.
    pub recently_evicted: u64,
}

/// `struct cachestat_range`.
#[repr(C)]
#[derive(Debug)]
struct Range {
    offset: u64,
    length: u64,
}

/// Counts the pages of `file` that are cached in `length` bytes from `offset` on; a length of 0 means up to the end.
///
/// Linux 6.5 counts without touching the file; before that its pages are mapped and `mincore` is asked, which tells
/// only a file's owner, or somebody who may write it, the truth.
pub fn cachestat(file: impl AsFd, offset: u64, length: u64) -> io::Result<CacheStat> {
    let range = Range { offset, length };
    let mut stat = CacheStat::default();
    // SAFETY: the kernel reads one cachestat_range and writes one cachestat; both are live and of that layout.
    let result = unsafe {
        libc::syscall(SYS_CACHESTAT, file.as_fd().as_raw_fd(), &raw const range, &raw mut stat, 0_u32)
    };
    if result == 0 {
        return Ok(stat);
    }
    match crate::last_errno() {
        // EPERM: seccomp filters older than the call say so.
        Errno::NOSYS | Errno::PERM => by_mincore(file.as_fd(), &range),
        error => Err(error),
    }
}

fn by_mincore(file: BorrowedFd<'_>, range: &Range) -> io::Result<CacheStat> {
    let page = rustix::param::page_size() as u64;
    let size = u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
    let end = match range.length {
        0 => size,
        length => range.offset.saturating_add(length).min(size),
    };
    let mut at = range.offset / page * page;
    let mut stat = CacheStat::default();
    while at < end {
        let window = (end - at).min(MINCORE_WINDOW);
        stat.cached += resident_pages(file, at, usize::try_from(window).map_err(|_| Errno::OVERFLOW)?, page)?;
        at += window;
    }
    Ok(stat)
}

fn resident_pages(file: BorrowedFd<'_>, offset: u64, length: usize, page: u64) -> io::Result<u64> {
    // SAFETY: a new mapping at an address of the kernel's choice; nothing reads or writes through it.
    let address = unsafe {
        rustix::mm::mmap(std::ptr::null_mut(), length, ProtFlags::empty(), MapFlags::SHARED, file, offset)?
    };
    let pages = usize::try_from((length as u64).div_ceil(page)).map_err(|_| Errno::OVERFLOW)?;
    let mut resident = vec![0_u8; pages];
    // SAFETY: the range is the mapping just made, and the vector has a byte for each of its pages.
    let result = unsafe { libc::mincore(address, length, resident.as_mut_ptr().cast()) };
    let outcome = if result == 0 { Ok(()) } else { Err(crate::last_errno()) };
    // SAFETY: the mapping was made here and no reference into it exists.
    unsafe { rustix::mm::munmap(address, length)? };
    outcome?;
    Ok(resident.iter().filter(|byte| **byte & 1 != 0).count() as u64)
}

/// Reads at `offset` so that what was not cached before is not cached afterwards. (Pages read ahead stay until they are
/// read the same way.)
///
/// Where the filesystem does not know `RWF_DONTCACHE` (before Linux 6.14) the range read is dropped from the cache, also
/// if it was there before. Like `pread` it may read less than asked for; 0 means the end.
pub fn pread_dontcache(file: impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let file = file.as_fd();
    let flags = ReadWriteFlags::from_bits_retain(RWF_DONTCACHE);
    match rustix::io::preadv2(file, &mut [IoSliceMut::new(buffer)], offset, flags) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
        other => return other,
    }
    let read = rustix::io::pread(file, buffer, offset)?;
    if let Some(length) = NonZeroU64::new(read as u64) {
        // Advice: a file that cannot take it (a pipe, a device) was read all the same.
        let _ = fadvise(file, offset, Some(length), Advice::DontNeed);
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const PAGES: u64 = 16;

    /// A file on the working directory's filesystem, which is more likely to be a disk than /tmp.
    fn file() -> std::fs::File {
        let mut file = tempfile::tempfile_in(".").unwrap();
        let page = vec![7; rustix::param::page_size()];
        for _ in 0..PAGES {
            file.write_all(&page).unwrap();
        }
        file.sync_all().unwrap();
        file
    }

    #[test]
    fn a_file_just_written_is_cached_and_both_ways_of_counting_agree() {
        let file = file();
        let stat = cachestat(&file, 0, 0).unwrap();
        assert_eq!(stat.cached, PAGES);
        let slow = by_mincore(file.as_fd(), &Range { offset: 0, length: 0 }).unwrap();
        assert_eq!(slow.cached, PAGES);
        let page = rustix::param::page_size() as u64;
        let part = by_mincore(file.as_fd(), &Range { offset: page + 1, length: page }).unwrap();
        assert_eq!(part.cached, cachestat(&file, page + 1, page).unwrap().cached);
    }

    #[test]
    fn reading_without_caching_leaves_no_page_behind() {
        let file = file();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        if cachestat(&file, 0, 0).unwrap().cached != 0 {
            return skip("this filesystem keeps its pages (tmpfs?)");
        }
        let mut buffer = vec![0; 4 * rustix::param::page_size()];
        for step in 0..4 {
            let offset = step * buffer.len() as u64;
            assert_eq!(pread_dontcache(&file, &mut buffer, offset).unwrap(), buffer.len());
            assert!(buffer.iter().all(|byte| *byte == 7));
        }
        let left = cachestat(&file, 0, 0).unwrap().cached;
        assert!(left <= PAGES / 4, "{left} pages stayed");
    }

    #[test]
    fn reading_without_caching_stops_at_the_end() {
        let file = file();
        let size = file.metadata().unwrap().len();
        let mut buffer = [0; 100];
        assert_eq!(pread_dontcache(&file, &mut buffer, size - 10).unwrap(), 10);
        assert_eq!(pread_dontcache(&file, &mut buffer, size).unwrap(), 0);
        assert_eq!(pread_dontcache(&file, &mut [], 0).unwrap(), 0);
    }

    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    fn skip(reason: &str) {
        eprintln!("skipped: {reason}");
    }
}
