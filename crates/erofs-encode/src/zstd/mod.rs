//! Zstandard in one pass: a stream whose last block is cut where the room ends.
//!
//! The library fills no buffer. It can be asked how much it has written after it was told to end a block, and
//! what was written can't be taken back. But a block can be cut behind any of its sequences ([`cut`]). So the
//! input goes in by blocks, the last one a little longer than what is likely to fit, and is cut.

mod codes;
mod cut;

use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective};

use crate::{EncodeError, Fill};

/// Input of a block.
const STEP: usize = 64 << 10;

/// Bytes of a frame's header without the size of its content.
const FRAME_HEADER: usize = 6;

/// Less room than this, and a share of the cluster, is left unused.
const LEAST: usize = 32;

/// Fills clusters with Zstandard frames.
pub(crate) struct Zstd {
    context: CCtx<'static>,
    /// Input of a block, at most.
    step: usize,
    /// Input and output of the cluster before.
    learnt: Option<(usize, usize)>,
    /// What the library writes.
    frame: Vec<u8>,
}

impl Zstd {
    pub(crate) fn new(level: i32, window_log: u32) -> Result<Self, EncodeError> {
        EncodeError::check_level("zstd", level.into(), 1..=22)?;
        if !(10..=20).contains(&window_log) {
            return Err(EncodeError::Window { method: "zstd", window: 1 << window_log.min(63) });
        }
        let mut context =
            CCtx::try_create().ok_or_else(|| EncodeError::library("zstd", "there is no memory"))?;
        for parameter in [
            CParameter::CompressionLevel(level),
            // The tables are made for inputs of this size; larger ones would only take longer to clear.
            CParameter::SrcSizeHint(1 << window_log),
            CParameter::WindowLog(window_log),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            // One block is what was asked for, so that it is known what each stands for.
            CParameter::UseBlockSplitter(zstd_safe::ParamSwitch::Disable),
        ] {
            context.set_parameter(parameter).map_err(failed)?;
        }
        Ok(Self { context, step: STEP.min(1 << window_log), learnt: None, frame: Vec::new() })
    }

    /// Input of the next block: a little more than is likely to fit.
    fn step(&self, read: usize, written: usize, room: usize) -> usize {
        let (input, output) = match self.learnt {
            _ if read > 0 => (read, written),
            Some(learnt) => learnt,
            None => (2, 1),
        };
        let expected = input.saturating_mul(room) / output.max(1);
        (expected + expected / 16 + 64).min(self.step)
    }

    /// Ends a block behind some input.
    fn put(&mut self, input: &[u8], is_end: bool, written: &mut usize) -> Result<(), EncodeError> {
        let end = if is_end { ZSTD_EndDirective::ZSTD_e_end } else { ZSTD_EndDirective::ZSTD_e_flush };
        let mut from = InBuffer::around(input);
        let mut to = OutBuffer::around_pos(&mut self.frame[..], *written);
        let left = self.context.compress_stream2(&mut to, &mut from, end).map_err(failed)?;
        *written = to.pos();
        if left > 0 || from.pos() < input.len() {
            return Err(EncodeError::library("zstd", "a block is larger than it may be"));
        }
        Ok(())
    }
}

impl Fill for Zstd {
    fn restart(&mut self) {
        self.learnt = None;
    }

    fn fill(&mut self, input: &[u8], capacity: usize, out: &mut Vec<u8>) -> Result<usize, EncodeError> {
        self.context.reset(ResetDirective::SessionOnly).map_err(failed)?;
        self.frame.resize(capacity + zstd_safe::compress_bound(self.step), 0);
        let (mut read, mut written, mut block) = (0, 0, 0);
        loop {
            let room = capacity - written;
            // A block that is very small says little.
            if read > 0 && room < LEAST + capacity / 512 {
                cut::mark_last(&mut self.frame[block..]);
                break;
            }
            let step = self.step(read, written, room).min(input.len() - read);
            let now = &input[read..read + step];
            let is_end = read + step == input.len();
            let before = std::mem::replace(&mut block, written.max(FRAME_HEADER));
            self.put(now, is_end, &mut written)?;
            if written > capacity {
                out.extend_from_slice(&self.frame[..block]);
                let taken = cut::append_cut(out, FRAME_HEADER, &self.frame[block..written], now, capacity)
                    .ok_or_else(|| EncodeError::library("zstd", "a block can't be cut"))?;
                if taken == 0 {
                    cut::mark_last(&mut out[before..]);
                }
                read += taken;
                written = out.len();
                break;
            }
            read += step;
            if is_end {
                break;
            }
        }
        if out.is_empty() {
            out.extend_from_slice(&self.frame[..written]);
        }
        self.learnt = Some((read, written));
        Ok(read)
    }
}

fn failed(code: usize) -> EncodeError {
    EncodeError::library("zstd", zstd_safe::get_error_name(code))
}
