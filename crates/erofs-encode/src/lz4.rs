//! LZ4, by the reference library, which can fill a buffer.

use crate::{EncodeError, Fill};

/// Fills clusters with LZ4 blocks.
pub(crate) struct Lz4 {
    /// Of the thorough search; none for the fast one.
    level: Option<i32>,
}

impl Lz4 {
    pub(crate) fn fast() -> Self {
        Self { level: None }
    }

    pub(crate) fn thorough(level: i32) -> Result<Self, EncodeError> {
        EncodeError::check_level("lz4hc", level.into(), 1..=12)?;
        Ok(Self { level: Some(level) })
    }
}

impl Fill for Lz4 {
    fn fill(&mut self, input: &[u8], capacity: usize, out: &mut Vec<u8>) -> Result<usize, EncodeError> {
        out.resize(capacity, 0);
        let filled = match self.level {
            None => lzzzz::lz4::compress_fill(input, out),
            Some(level) => lzzzz::lz4_hc::compress_fill(input, out, level),
        };
        let (read, written) = filled.map_err(|error| EncodeError::library("lz4", error))?;
        out.truncate(written);
        Ok(read)
    }
}
