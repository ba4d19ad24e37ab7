//! A file that is open for reading.

use std::fmt;
use std::sync::{Arc, Mutex, TryLockError};

use crate::data::{check_file, left_from};
use crate::error::Result;
use crate::image::Image;
use crate::inode::{DataStart, Inode};

/// Bytes read ahead at first. They double as long as who reads goes on where it stopped.
const LEAST: usize = 128 << 10;

/// The most bytes read ahead for each thread, and for all of them.
const MOST_EACH: usize = 1 << 20;
const MOST: usize = 4 << 20;

/// An open regular file: reads at any position from any thread. Who reads a compressed file from
/// front to back in small steps is read ahead for, by several threads.
pub struct Reader {
    image: Arc<Image>,
    inode: Inode,
    threads: usize,
    ahead: Mutex<Ahead>,
}

/// What was read ahead.
#[derive(Default)]
struct Ahead {
    start: u64,
    bytes: Vec<u8>,
    /// Where a read goes on that is in order, and how much was read ahead for the last one.
    next: u64,
    size: usize,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("nid", &self.inode.nid).finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens `inode` of `image`. `threads` is how many may decode for one read; 1: none but the
    /// caller's.
    pub fn new(image: Arc<Image>, inode: Inode, threads: usize) -> Self {
        Self { image, inode, threads, ahead: Mutex::default() }
    }

    /// The image.
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// The file.
    pub fn inode(&self) -> &Inode {
        &self.inode
    }

    /// Reads from byte `offset` on and says how much. Less than `buf` holds only at the file's end.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        check_file(&self.inode)?;
        if self.inode.data != DataStart::Compressed {
            return self.image.read(&self.inode, offset, buf);
        }
        let count = left_from(&self.inode, offset, buf.len());
        let Some(buf) = buf.get_mut(..count).filter(|buf| !buf.is_empty()) else { return Ok(0) };
        match self.ahead.try_lock() {
            Ok(mut ahead) => self.read_on(&mut ahead, offset, buf)?,
            Err(TryLockError::Poisoned(ahead)) => self.read_on(&mut ahead.into_inner(), offset, buf)?,
            // Another thread reads this file somewhere else: order is not to be expected.
            Err(TryLockError::WouldBlock) => self.direct(offset, buf)?,
        }
        Ok(count)
    }

    /// Fills `buf` from what was read ahead, then from the image, reading ahead if it is in order.
    fn read_on(&self, ahead: &mut Ahead, offset: u64, buf: &mut [u8]) -> Result<()> {
        let in_order = offset == ahead.next;
        let done = ahead.copy(offset, buf);
        // Nothing wraps: the file has all of `buf`, and sizes are below 2^63.
        ahead.next = offset.saturating_add(buf.len() as u64);
        let at = offset.saturating_add(done as u64);
        let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) else { return Ok(()) };
        if !in_order {
            ahead.size = 0;
            return self.direct(at, rest);
        }
        let most = self.threads.saturating_mul(MOST_EACH).clamp(LEAST, MOST);
        ahead.size = ahead.size.saturating_mul(2).clamp(LEAST, most);
        let size = left_from(&self.inode, at, ahead.size);
        if rest.len() > size / 2 || !ahead.fill(self, at, size) {
            return self.direct(at, rest);
        }
        ahead.copy(at, rest);
        Ok(())
    }

    fn direct(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.image.read_parallel(&self.inode, offset, buf, self.threads).map(|_| ())
    }
}

impl Ahead {
    /// Copies what is here of the bytes at `offset`, and says how many.
    fn copy(&self, offset: u64, buf: &mut [u8]) -> usize {
        let skip = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let here = skip.and_then(|skip| self.bytes.get(skip..)).unwrap_or_default();
        let count = here.len().min(buf.len());
        buf[..count].copy_from_slice(&here[..count]);
        count
    }

    /// Reads `size` bytes ahead. What goes wrong there is no error before somebody wants it.
    fn fill(&mut self, reader: &Reader, offset: u64, size: usize) -> bool {
        self.bytes.resize(size, 0);
        self.start = offset;
        let read = reader.direct(offset, &mut self.bytes);
        if read.is_err() {
            self.bytes.clear();
            self.size = 0;
        }
        read.is_ok()
    }
}
