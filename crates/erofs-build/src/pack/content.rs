//! The contents that a job makes, gathered in buffers.

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
    /// Something in it counts on lying at a block.
    is_aligned: bool,
}

/// What was gathered: full buffers, and the filled part of a last one.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) full: Vec<Vec<u8>>,
    pub(super) last: Vec<u8>,
    /// It has to start at a block.
    pub(super) is_aligned: bool,
}

impl<'a> Content<'a> {
    pub(super) fn new(buffers: &'a Buffers, block_size: usize) -> Self {
        Self { buffers, block_size, full: Vec::new(), last: Vec::new(), used: 0, is_aligned: false }
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

    /// Fills the block that was begun with zeros.
    pub(super) fn pad(&mut self) {
        self.is_aligned = true;
        // The buffer is a whole number of blocks, so the block's rest is in it.
        let over = self.used % self.block_size;
        if over > 0 {
            self.zeros(self.block_size - over);
        }
    }

    pub(super) fn gathered(mut self) -> Gathered {
        self.last.truncate(self.used);
        Gathered { full: self.full, last: self.last, is_aligned: self.is_aligned }
    }
}
