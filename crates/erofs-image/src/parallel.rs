//! A large read by several threads.
//!
//! The caller's buffer is cut where extents begin, so that no cluster is decoded twice, into more
//! parts than there are threads: whoever is done takes the next one.

use std::sync::{Mutex, PoisonError};
use std::thread;

use erofs_format::compression::Algorithm;

use crate::data::{check_file, left_from};
use crate::encoded::Encoded;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::inode::{DataStart, Inode};
use crate::lock::lock;
use crate::zmap::{ZFormat, ZPlace};

/// Parts for each thread: not all of them take equally long.
const PARTS: usize = 4;

/// No part is smaller than this.
const SMALLEST: usize = 8 << 10;

/// More threads than this only take memory.
const MOST_THREADS: usize = 64;

/// A part of the buffer and its byte position in the file.
type Part<'a> = (u64, &'a mut [u8]);

impl Image {
    /// The same as [`Image::read`], by up to `threads` threads (the caller's is one of them), each
    /// for its own parts of `buf`, where that is faster: for data that must be decoded, and enough
    /// of it.
    pub fn read_parallel(&self, inode: &Inode, offset: u64, buf: &mut [u8], threads: usize) -> Result<usize> {
        check_file(inode)?;
        let count = left_from(inode, offset, buf.len());
        let Some(wanted) = buf.get_mut(..count) else { return Ok(0) };
        if threads < 2 || inode.data != DataStart::Compressed || wanted.len() < 2 * SMALLEST {
            return self.read(inode, offset, wanted);
        }
        let done = self.read_parts(inode, offset, wanted, threads);
        done.map(|()| count).map_err(|error| error.of_inode(inode.nid))
    }

    fn read_parts(&self, inode: &Inode, offset: u64, buf: &mut [u8], threads: usize) -> Result<()> {
        let mut encoded = Encoded::new(self, inode)?;
        let least = worth_a_thread(encoded.extent(offset)?.place);
        let threads = threads.min(buf.len() / least).min(MOST_THREADS);
        if threads < 2 {
            return self.read_data(inode, offset, buf).map(|_| ());
        }
        let size = buf.len().div_ceil(threads * PARTS).max(SMALLEST);
        let parts = cut(&mut encoded, offset, buf, size);
        let share = parts.len() as u64;
        let parts = Mutex::new(parts);
        // The first error in the order of the file, as if one thread had read it all.
        let failed: Mutex<Option<(u64, Error)>> = Mutex::new(None);
        let work = || {
            while let Some((at, part)) = next(&parts) {
                if let Err(error) = self.read_share(inode, at, part, share) {
                    lock(&parts).clear();
                    let mut failed = lock(&failed);
                    if failed.as_ref().is_none_or(|(before, _)| at < *before) {
                        *failed = Some((at, error));
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads {
                // Without another thread this one does all of it.
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }
}

/// Bytes below which another thread costs more time than it saves: it takes some 50 microseconds to
/// start.
fn worth_a_thread(place: ZPlace) -> usize {
    match place {
        ZPlace::Pcluster { format: ZFormat::Coded(Algorithm::Lzma), .. } => 16 << 10,
        ZPlace::Pcluster { format: ZFormat::Coded(Algorithm::Deflate | Algorithm::Zstd), .. } => 96 << 10,
        _ => 256 << 10,
    }
}

/// Cuts `buf` into parts of about `size` bytes, last part first, where extents begin. Where the map
/// is broken it is one part from there on: reading it gives the error.
fn cut<'a>(encoded: &mut Encoded<'_>, offset: u64, buf: &'a mut [u8], size: usize) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    let (mut at, mut rest) = (offset, buf);
    while rest.len() > size {
        let Ok(extent) = encoded.extent(at.saturating_add(size as u64)) else { break };
        // An extent that is longer than a part, or begins before it, goes with that whole.
        let start = if extent.la > at { extent.la } else { extent.la.saturating_add(extent.llen) };
        let len = usize::try_from(start.saturating_sub(at)).unwrap_or(usize::MAX);
        if len >= rest.len() {
            break;
        }
        let (part, behind) = std::mem::take(&mut rest).split_at_mut(len);
        parts.push((at, part));
        (at, rest) = (start, behind);
    }
    parts.push((at, rest));
    parts.reverse();
    parts
}

fn next<'a>(parts: &Mutex<Vec<Part<'a>>>) -> Option<Part<'a>> {
    lock(parts).pop()
}
