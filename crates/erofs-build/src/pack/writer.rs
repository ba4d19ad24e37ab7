//! One thread writes; the others hand it buffers and wait for one to be free.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::Result;
use crate::output::Target;

/// Bytes of a buffer; a multiple of every block size.
pub(super) const BUFFER: usize = 1 << 20;

/// Something to be written.
#[derive(Debug)]
pub(super) enum Piece {
    /// The first `length` bytes of a buffer of the pool.
    Content { at: u64, buffer: Vec<u8>, length: usize },
    /// Bytes of inodes, in memory of their own.
    Inodes { at: u64, bytes: Vec<u8> },
}

/// The side that fills buffers.
#[derive(Debug, Clone)]
pub(super) struct Buffers {
    free: Receiver<Vec<u8>>,
    full: Sender<Piece>,
}

/// The side that writes them.
#[derive(Debug)]
pub(super) struct Writing {
    free: Sender<Vec<u8>>,
    full: Receiver<Piece>,
}

/// Both sides, with `count` buffers between them.
pub(super) fn new(count: usize) -> (Buffers, Writing) {
    let (give_free, take_free) = bounded(count);
    let (give_full, take_full) = bounded(count);
    for _ in 0..count {
        // An empty one: it gets its memory when it is first used.
        let _ = give_free.try_send(Vec::new());
    }
    (Buffers { free: take_free, full: give_full }, Writing { free: give_free, full: take_full })
}

impl Buffers {
    /// A buffer of [`BUFFER`] bytes, waiting until one is free. Its bytes are anything.
    pub(super) fn take(&self) -> Vec<u8> {
        // The writer keeps giving buffers back until every filler is gone, so this never fails.
        let mut buffer = self.free.recv().unwrap_or_default();
        buffer.resize(BUFFER, 0);
        buffer
    }

    pub(super) fn write(&self, piece: Piece) {
        // The writer, even one that failed, takes pieces until every filler is gone.
        let _ = self.full.send(piece);
    }
}

impl Writing {
    /// Writes until all fillers are gone. After an error the rest is taken and dropped, so that nobody
    /// waits for ever, and `stop` tells them not to begin more.
    pub(super) fn run(self, target: &Target, stop: &AtomicBool) -> Result<()> {
        let mut result = Ok(());
        for piece in self.full {
            let (at, bytes) = match &piece {
                Piece::Content { at, buffer, length } => (*at, &buffer[..*length]),
                Piece::Inodes { at, bytes } => (*at, &bytes[..]),
            };
            if result.is_ok() && !stop.load(Ordering::Relaxed) {
                result = target.write_at(at, bytes);
                if result.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            if let Piece::Content { buffer, .. } = piece {
                let _ = self.free.try_send(buffer);
            }
        }
        result
    }
}
