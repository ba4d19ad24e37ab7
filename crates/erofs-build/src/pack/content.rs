//! The contents that a job makes, gathered in buffers.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::writer::{BUFFER, Buffers};

/// Where a job's contents go. Files are read straight into it, so that small ones share a write.
#[derive(Debug)]
pub(super) struct Content<'a> {
    buffers: &'a Buffers,
    block_size: usize,
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
    /// Bytes of the last buffer that are filled.
    used: usize,
}

/// What was gathered: full buffers, and the filled part of a last one.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) full: Vec<Vec<u8>>,
    pub(super) last: Vec<u8>,
}

/// Bytes of what was gathered that are replaced by zeros, as many as there are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) bytes: Range<u64>,
    pub(super) zeros: usize,
}

impl Gathered {
    /// What becomes of it by edits, which are in order.
    pub(super) fn edited(self, edits: &[Edit]) -> Self {
        if edits.is_empty() {
            return self;
        }
        let mut kept = Self { full: Vec::new(), last: Vec::new() };
        let mut edits = edits.iter().peekable();
        let mut start = 0u64;
        for buffer in self.full.into_iter().chain([self.last]) {
            let end = start + buffer.len() as u64;
            let mut at = start;
            while let Some(edit) = edits.peek() {
                if edit.bytes.start > end {
                    break;
                }
                kept.push(&buffer, at - start..edit.bytes.start.max(at) - start);
                at = edit.bytes.end.clamp(at, end);
                if edit.bytes.end > end {
                    break;
                }
                kept.full.push(vec![0; edit.zeros]);
                edits.next();
            }
            kept.push(&buffer, at - start..end - start);
            start = end;
        }
        kept
    }

    fn push(&mut self, buffer: &[u8], range: Range<u64>) {
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        if let Some(bytes @ [_, ..]) = buffer.get(place(range.start)..place(range.end)) {
            self.full.push(bytes.to_vec());
        }
    }
}

impl<'a> Content<'a> {
    pub(super) fn new(buffers: &'a Buffers, block_size: usize) -> Self {
        Self { buffers, block_size, full: Vec::new(), last: Vec::new(), used: 0 }
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        (self.full.len() * BUFFER + self.used) as u64
    }

    /// Room for at most `wanted` bytes, and at least one unless `wanted` is 0.
    pub(super) fn room(&mut self, wanted: u64) -> &mut [u8] {
        if self.used == BUFFER {
            self.full.push(std::mem::take(&mut self.last));
            self.used = 0;
        }
        if self.last.is_empty() {
            self.last = self.buffers.take();
        }
        let end = usize::try_from(wanted).unwrap_or(BUFFER).min(BUFFER - self.used) + self.used;
        &mut self.last[self.used..end]
    }

    /// The first `length` bytes of the room are filled.
    pub(super) fn filled(&mut self, length: usize) {
        self.used += length;
    }

    pub(super) fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.room(bytes.len() as u64);
            let length = room.len();
            let (now, later) = bytes.split_at(length);
            room.copy_from_slice(now);
            self.filled(length);
            bytes = later;
        }
    }

    pub(super) fn zeros(&mut self, mut length: usize) {
        while length > 0 {
            let room = self.room(length as u64);
            room.fill(0);
            let done = room.len();
            self.filled(done);
            length -= done;
        }
    }

    /// Hashes the last `length` bytes.
    pub(super) fn hash_last(&self, length: u64, hash: &mut Sha256) {
        let total = self.full.len() * BUFFER + self.used;
        let mut skip = total.saturating_sub(usize::try_from(length).unwrap_or(usize::MAX));
        for part in
            self.full.iter().map(Vec::as_slice).chain([self.last.get(..self.used).unwrap_or_default()])
        {
            hash.update(part.get(skip..).unwrap_or_default());
            skip = skip.saturating_sub(part.len());
        }
    }

    /// Forgets all but the first `bytes` bytes.
    pub(super) fn rewind(&mut self, bytes: u64) {
        let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
        let whole = self.full.len().min(left / BUFFER);
        left -= whole * BUFFER;
        if whole < self.full.len() {
            self.last = self.full.swap_remove(whole);
            self.full.truncate(whole);
        }
        self.used = left;
    }

    /// Fills the block that was begun with zeros.
    pub(super) fn pad(&mut self) {
        // The buffer is a whole number of blocks, so the block's rest is in it.
        let over = self.used % self.block_size;
        if over > 0 {
            self.zeros(self.block_size - over);
        }
    }

    pub(super) fn gathered(mut self) -> Gathered {
        self.last.truncate(self.used);
        Gathered { full: self.full, last: self.last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_apply_wherever_buffers_end() {
        let all: Vec<u8> = (1..=100).collect();
        let edit = |start, end, zeros| Edit { bytes: start..end, zeros };
        for edits in [
            vec![],
            vec![edit(0, 10, 0)],
            vec![edit(5, 45, 0)],
            vec![edit(0, 0, 3), edit(30, 40, 0), edit(40, 41, 7), edit(41, 41, 2), edit(99, 100, 1)],
            vec![edit(0, 100, 0)],
            vec![edit(20, 80, 5), edit(80, 80, 5), edit(100, 100, 9)],
        ] {
            let gathered =
                Gathered { full: vec![all[..40].to_vec(), all[40..70].to_vec()], last: all[70..].to_vec() };
            let mut expected = Vec::new();
            let mut at = 0;
            for Edit { bytes, zeros } in &edits {
                expected.extend_from_slice(&all[at..usize::try_from(bytes.start).unwrap()]);
                expected.resize(expected.len() + zeros, 0);
                at = usize::try_from(bytes.end).unwrap();
            }
            expected.extend_from_slice(&all[at..]);
            let kept = gathered.edited(&edits);
            let bytes: Vec<u8> = kept.full.concat().into_iter().chain(kept.last).collect();
            assert_eq!(bytes, expected, "{edits:?}");
        }
    }

    #[test]
    fn what_follows_a_rewind_takes_its_place() {
        let (buffers, _writing) = super::super::writer::new();
        let mut content = Content::new(&buffers, 4096);
        content.put(&vec![1; 2 * BUFFER]);
        content.put(&vec![2; 8192]);
        content.rewind((BUFFER + 4096) as u64);
        content.put(&vec![3; 4096]);
        assert_eq!(content.bytes(), (BUFFER + 8192) as u64);
        content.rewind(BUFFER as u64);
        content.put(&vec![4; 4096]);
        let Gathered { full, last } = content.gathered();
        let bytes: Vec<u8> = full.concat().into_iter().chain(last).collect();
        assert!(bytes.len() == BUFFER + 4096 && bytes[BUFFER] == 4 && bytes[BUFFER - 1] == 1);
    }
}
