//! The contents of a batch: one run of blocks, gathered in buffers.

use super::writer::{BUFFER, Buffers, Piece};

/// Where a batch's contents go. Files are read straight into it, so that small ones share a write.
#[derive(Debug)]
pub(super) struct Content<'a> {
    buffers: &'a Buffers,
    block_size: u64,
    buffer: Option<Vec<u8>>,
    used: usize,
    /// Where the buffer's first byte goes.
    at: u64,
    /// Bytes read since they were last asked for.
    read: u64,
}

impl<'a> Content<'a> {
    pub(super) fn new(buffers: &'a Buffers, at: u64, block_size: u64) -> Self {
        Self { buffers, block_size, buffer: None, used: 0, at, read: 0 }
    }

    /// Room for at most `wanted` bytes, and at least one unless `wanted` is 0.
    pub(super) fn room(&mut self, wanted: u64) -> &mut [u8] {
        if self.used == BUFFER {
            self.flush();
        }
        let end = usize::try_from(wanted).unwrap_or(BUFFER).min(BUFFER - self.used) + self.used;
        let buffers = self.buffers;
        let buffer = self.buffer.get_or_insert_with(|| buffers.take());
        &mut buffer[self.used..end]
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
        self.pad();
    }

    /// So many bytes of a file were read.
    pub(super) fn count(&mut self, length: usize) {
        self.read += length as u64;
    }

    /// The bytes read since the last call, if they are worth a word, or `all` the same.
    pub(super) fn counted(&mut self, all: bool) -> Option<u64> {
        (all || self.read >= BUFFER as u64).then(|| std::mem::take(&mut self.read))
    }

    /// Fills the block that was begun with zeros.
    pub(super) fn pad(&mut self) {
        // The buffer is a whole number of blocks, so the block's rest is in it.
        let over = self.used as u64 % self.block_size;
        if over > 0 {
            let room = self.room(self.block_size - over);
            room.fill(0);
            let length = room.len();
            self.filled(length);
        }
    }

    /// Hands what there is to the writer.
    pub(super) fn flush(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            let (at, length) = (self.at, self.used);
            self.buffers.write(Piece::Content { at, buffer, length });
            self.at += length as u64;
            self.used = 0;
        }
    }
}

impl Drop for Content<'_> {
    /// After an error the buffer goes back to the pool, or others would wait for it.
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.buffers.write(Piece::Content { at: self.at, buffer, length: 0 });
        }
    }
}
