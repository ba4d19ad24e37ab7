//! Zstandard in one pass: a stream that is flushed until the room is full.
//!
//! The library fills no buffer; it can only be asked how much it has written after it was told to flush. A
//! flush ends a block, so it costs a little, and what was written can't be taken back. So the input goes in
//! by steps of which each surely fits, even if it does not compress at all: large ones while there is room,
//! and then ever smaller ones, each as large as what is left. The last block of the frame is an empty one,
//! for which room is kept.

use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective};

use crate::EncodeError;

/// Input between two flushes while there is room. Blocks of this size cost about what their better fitting
/// tables save.
const STEP: usize = 16 << 10;

/// Bytes of a block header, and of the empty block that ends a frame.
const BLOCK_HEADER: usize = 3;

/// Less room than this is left unused: a block that small says little.
const LEAST: usize = 48;

/// Fills clusters with Zstandard frames.
pub(crate) struct Zstd {
    context: CCtx<'static>,
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
        ] {
            context.set_parameter(parameter).map_err(failed)?;
        }
        Ok(Self { context })
    }

    pub(crate) fn fill(
        &mut self,
        input: &[u8],
        capacity: usize,
        out: &mut Vec<u8>,
    ) -> Result<usize, EncodeError> {
        self.context.reset(ResetDirective::SessionOnly).map_err(failed)?;
        // A step fits as a whole, so the library never has to wait for room.
        out.resize(capacity, 0);
        let mut written = 0;
        let mut read = 0;
        loop {
            let room = capacity - written - BLOCK_HEADER;
            // Even a large step is one block; the frame's header comes with the first.
            let header = if read == 0 { 6 } else { 0 };
            let step = STEP.min(room.saturating_sub(BLOCK_HEADER + header)).min(input.len() - read);
            let is_last = read + step == input.len() || room < LEAST + header;
            if room >= LEAST + header {
                read += step;
                self.put(&input[read - step..read], ZSTD_EndDirective::ZSTD_e_flush, out, &mut written)?;
            }
            if is_last {
                break;
            }
        }
        self.put(&[], ZSTD_EndDirective::ZSTD_e_end, out, &mut written)?;
        out.truncate(written);
        Ok(read)
    }

    fn put(
        &mut self,
        input: &[u8],
        end: ZSTD_EndDirective,
        out: &mut [u8],
        written: &mut usize,
    ) -> Result<(), EncodeError> {
        let mut from = InBuffer::around(input);
        let mut to = OutBuffer::around_pos(out, *written);
        let left = self.context.compress_stream2(&mut to, &mut from, end).map_err(failed)?;
        *written = to.pos();
        if left > 0 || from.pos() < input.len() {
            return Err(EncodeError::library("zstd", "a block is larger than its input"));
        }
        Ok(())
    }
}

fn failed(code: usize) -> EncodeError {
    EncodeError::library("zstd", zstd_safe::get_error_name(code))
}
