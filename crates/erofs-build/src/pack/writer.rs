//! One thread writes: filesystems let one thread at a time write to a file, so more would only wait.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::Result;
use crate::output::Target;

/// Bytes of a buffer; a multiple of every block size.
pub(super) const BUFFER: usize = 1 << 20;

/// Pieces that may wait to be written, and buffers that are kept for the next ones.
const WAITING: usize = 4;

/// Bytes on their way to the image.
#[derive(Debug)]
struct Piece {
    /// It goes into the blob.
    is_blob: bool,
    at: u64,
    bytes: Vec<u8>,
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

/// Both sides.
pub(super) fn new() -> (Buffers, Writing) {
    let (give_free, take_free) = bounded(WAITING);
    let (give_full, take_full) = bounded(WAITING);
    (Buffers { free: take_free, full: give_full }, Writing { free: give_free, full: take_full })
}

impl Buffers {
    /// A buffer of [`BUFFER`] bytes, which are anything.
    pub(super) fn take(&self) -> Vec<u8> {
        let mut buffer = self.free.try_recv().unwrap_or_default();
        buffer.resize(BUFFER, 0);
        buffer
    }

    /// Has `bytes` written, waiting if much is waiting already.
    pub(super) fn write(&self, at: u64, bytes: Vec<u8>) {
        self.send(Piece { is_blob: false, at, bytes });
    }

    /// The same for the blob.
    pub(super) fn write_blob(&self, at: u64, bytes: Vec<u8>) {
        self.send(Piece { is_blob: true, at, bytes });
    }

    fn send(&self, piece: Piece) {
        if !piece.bytes.is_empty() {
            // The writer, even one that failed, takes pieces until every filler is gone.
            let _ = self.full.send(piece);
        }
    }
}

impl Writing {
    /// Writes until all fillers are gone. After an error the rest is taken and dropped, so that nobody
    /// waits for ever, and `stop` tells them not to begin more.
    pub(super) fn run(self, image: &Target, blob: Option<&Target>, stop: &AtomicBool) -> Result<()> {
        let mut result = Ok(());
        for Piece { is_blob, at, bytes } in self.full {
            let target = if is_blob { blob.unwrap_or(image) } else { image };
            if result.is_ok() && !stop.load(Ordering::Relaxed) {
                result = target.write_at(at, &bytes);
                if result.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            if bytes.capacity() == BUFFER {
                let _ = self.free.try_send(bytes);
            }
        }
        result
    }
}
