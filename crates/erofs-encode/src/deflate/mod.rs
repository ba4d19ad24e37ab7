//! DEFLATE in about one pass: a little more is encoded than fits, and the stream is cut.
//!
//! The library fills no buffer. But a DEFLATE stream can be cut behind any symbol: the code that ends its block
//! is put there, and the block is marked as the last. So the input's beginning that is likely to fit is
//! encoded with a margin, from the ratio that the clusters before had, and cut where the room ends.

mod codes;
mod cut;

use libdeflater::{CompressionLvl, Compressor};

use crate::{EncodeError, Fill};
use cut::cut;

/// The input of the first attempt, from which the first ratio is learnt.
const SAMPLE: usize = 16 << 10;

/// Fills clusters with raw DEFLATE streams.
pub(crate) struct Deflate {
    compressor: Compressor,
    /// Input and output of the cluster before.
    learnt: Option<(usize, usize)>,
}

impl Deflate {
    pub(crate) fn new(level: i32) -> Result<Self, EncodeError> {
        EncodeError::check_level("deflate", level.into(), 1..=12)?;
        let level = CompressionLvl::new(level)
            .map_err(|error| EncodeError::library("deflate", format!("{error:?}")))?;
        Ok(Self { compressor: Compressor::new(level), learnt: None })
    }
}

impl Fill for Deflate {
    fn restart(&mut self) {
        self.learnt = None;
    }

    fn fill(&mut self, input: &[u8], capacity: usize, out: &mut Vec<u8>) -> Result<usize, EncodeError> {
        let mut take = match self.learnt {
            Some((read, written)) => with_margin(read, capacity, written),
            None => SAMPLE.max(capacity),
        };
        loop {
            let part = &input[..take.min(input.len())];
            out.resize(self.compressor.deflate_compress_bound(part.len()), 0);
            let written = self
                .compressor
                .deflate_compress(part, out)
                .map_err(|error| EncodeError::library("deflate", format!("{error:?}")))?;
            out.truncate(written);
            let read = if written > capacity {
                cut(out, capacity).ok_or_else(|| EncodeError::library("deflate", "a stream can't be cut"))?
            } else if part.len() == input.len() {
                part.len()
            } else {
                // More fits; the larger the part was, the better it tells how much.
                take = with_margin(part.len(), capacity, written).max(part.len() + part.len() / 4);
                continue;
            };
            self.learnt = Some((read, out.len()));
            mark_beginning(out);
            return Ok(read);
        }
    }
}

/// Input for `capacity` bytes if `read` bytes took `written`, and an eighth more.
fn with_margin(read: usize, capacity: usize, written: usize) -> usize {
    let expected = read.saturating_mul(capacity) / written.max(1);
    expected + expected / 8 + 256
}

/// A stream that begins with a stored block may begin with a zero byte, which could not be told from padding.
/// The bits before the length of such a block mean nothing, so one of them is set.
fn mark_beginning(stream: &mut [u8]) {
    if let Some(first) = stream.first_mut()
        && *first == 0
    {
        *first = 0x80;
    }
}
