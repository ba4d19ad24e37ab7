//! Room for large clusters: a bound on what all threads have in hand at once, and buffers that are
//! used again.
//!
//! A cluster of 1 MiB may decode to 12 MiB. However many threads there are, only so many of them
//! hold that much: the others wait. So that nobody waits for ever, a thread takes room once for a
//! step, before it begins to decode a cluster that others may be waiting for, and asks for nothing
//! more while it has it.

use std::sync::{Condvar, Mutex};

use crate::lock::{lock, wait};

/// What needs no more than this is not counted: any number of threads may hold it.
pub(crate) const SMALL: usize = 256 << 10;

/// Bytes in hand at once. The largest cluster and what it decodes to fit in three times.
const ALL: usize = 40 << 20;

/// Buffers that nobody uses are kept for the next cluster, as fresh memory costs the system about
/// as much time as decoding LZ4 into it: how many, and how many bytes together.
const SPARES: usize = 8;
const SPARE_BYTES: usize = 12 << 20;

/// Of larger buffers each gets its own pages, which go back to the system with it: an allocator
/// keeps what is freed, for each thread, so that many threads one after another would come to
/// hold a large buffer each.
const OWN_PAGES: usize = 1 << 20;

/// What no allocator takes from what it keeps (glibc's last bound is 32 MiB). Only what is
/// written to takes memory.
const CAPACITY: usize = 33 << 20;

#[derive(Debug, Default)]
pub(crate) struct Room {
    taken: Mutex<usize>,
    bell: Condvar,
    /// Those that were in use last come last.
    spares: Mutex<Vec<Vec<u8>>>,
    /// Of those for one step only; their lengths are what was written to.
    scratches: Mutex<Vec<Vec<u8>>>,
}

/// Room that was taken; it is given back on drop.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    room: &'a Room,
    bytes: usize,
}

impl Room {
    /// Waits until there is room for `bytes`; for all there are, if they are more than that.
    pub(crate) fn take(&self, bytes: usize) -> Option<Taken<'_>> {
        let bytes = bytes.min(ALL);
        if bytes == 0 {
            return None;
        }
        let mut taken = lock(&self.taken);
        while *taken > ALL - bytes {
            taken = wait(&self.bell, taken);
        }
        *taken += bytes;
        Some(Taken { room: self, bytes })
    }

    /// A buffer of `len` bytes, whatever is in them, for a cluster that may be kept.
    pub(crate) fn buffer(&self, len: usize) -> Vec<u8> {
        if len > OWN_PAGES {
            return own_pages(len);
        }
        // Not a much larger one, which would be paid for as long as a cluster in it is kept.
        let fits = |spare: &Vec<u8>| (len..=len.saturating_mul(2)).contains(&spare.capacity());
        let mut spares = lock(&self.spares);
        let found = spares.iter().rposition(fits).map(|index| spares.remove(index));
        drop(spares);
        let Some(mut bytes) = found else { return vec![0; len] };
        bytes.resize(len, 0);
        bytes
    }

    /// Takes such a buffer back.
    pub(crate) fn keep(&self, bytes: Vec<u8>) {
        if bytes.capacity() < CAPACITY {
            keep(&self.spares, bytes);
        }
    }

    /// A buffer of `len` bytes or a little more, whatever is in them, for one step.
    pub(crate) fn scratch(&self, len: usize) -> Vec<u8> {
        let mut scratches = lock(&self.scratches);
        let fitting = scratches.iter().enumerate().filter(|(_, scratch)| scratch.len() <= len + len / 4);
        let largest = fitting.max_by_key(|(_, scratch)| scratch.len()).map(|(index, _)| index);
        let found = largest.map(|index| scratches.remove(index));
        drop(scratches);
        let Some(mut bytes) = found else { return own_pages(len) };
        bytes.resize(bytes.len().max(len), 0);
        bytes
    }

    /// Takes such a buffer back.
    pub(crate) fn keep_scratch(&self, bytes: Vec<u8>) {
        keep(&self.scratches, bytes);
    }
}

/// The memory that a buffer for a cluster takes.
pub(crate) fn held(bytes: &Vec<u8>) -> usize {
    if bytes.capacity() < CAPACITY { bytes.capacity() } else { bytes.len() }
}

fn own_pages(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CAPACITY.max(len));
    bytes.resize(len, 0);
    bytes
}

/// Adds `bytes`, and lets the oldest ones go that are too many.
fn keep(spares: &Mutex<Vec<Vec<u8>>>, bytes: Vec<u8>) {
    let mut spares = lock(spares);
    spares.push(bytes);
    while spares.len() > SPARES || spares.iter().map(Vec::len).sum::<usize>() > SPARE_BYTES {
        spares.remove(0);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut taken = lock(&self.room.taken);
        *taken = taken.saturating_sub(self.bytes);
        drop(taken);
        self.room.bell.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn no_more_is_in_hand_than_there_is_room_for() {
        let room = Room::default();
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let _taken = room.take(13 << 20);
                        most.fetch_max(now.fetch_add(13 << 20, Ordering::SeqCst), Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(13 << 20, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.into_inner() + (13 << 20) <= ALL);
        drop(room.take(usize::MAX));
        assert!(room.take(0).is_none());
        assert_eq!(*lock(&room.taken), 0);
    }

    #[test]
    fn buffers_are_used_again_where_they_fit_within_bounds() {
        let room = Room::default();
        let buffer = room.buffer(1000);
        let place = buffer.as_ptr();
        room.keep(buffer);
        assert_ne!(room.buffer(400).capacity(), 1000, "much too large");
        let again = room.buffer(900);
        assert_eq!((again.as_ptr(), again.len()), (place, 900));
        for _ in 0..20 {
            room.keep(room.buffer(12 << 20));
            room.keep(vec![0; 1 << 20]);
        }
        let spares = lock(&room.spares);
        assert!(spares.iter().all(|spare| spare.capacity() == 1 << 20) && spares.len() == SPARES);
    }

    #[test]
    fn scratch_grows_but_little_more_than_needed_is_given() {
        let room = Room::default();
        let scratch = room.scratch(1000);
        let place = scratch.as_ptr();
        room.keep_scratch(scratch);
        let other = room.scratch(500);
        assert_ne!(other.as_ptr(), place);
        let again = room.scratch(1 << 20);
        assert_eq!((again.as_ptr(), again.len()), (place, 1 << 20));
        room.keep_scratch(again);
        assert_eq!(room.scratch(1_000_000).len(), 1 << 20);
        for _ in 0..5 {
            room.keep_scratch(vec![0; 5 << 20]);
        }
        assert_eq!(lock(&room.scratches).len(), 2);
    }
}
