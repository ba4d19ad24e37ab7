//! `MicroLZMA`, by a library that can fill a buffer.

use lzma_rust2::{LzmaOptions, MicroLzmaEncoder};

use crate::{EncodeError, Fill};

/// Fills clusters with `MicroLZMA` streams.
pub(crate) struct Lzma(MicroLzmaEncoder);

impl Lzma {
    pub(crate) fn new(level: u32, dict_size: u32) -> Result<Self, EncodeError> {
        EncodeError::check_level("lzma", level.into(), 0..=9)?;
        if !(4096..=8 << 20).contains(&dict_size) {
            return Err(EncodeError::Window { method: "lzma", window: dict_size.into() });
        }
        let mut options = LzmaOptions::with_preset(level);
        options.dict_size = dict_size;
        MicroLzmaEncoder::new(&options).map(Self).map_err(|error| EncodeError::library("lzma", error))
    }
}

impl Fill for Lzma {
    fn fill(&mut self, input: &[u8], capacity: usize, out: &mut Vec<u8>) -> Result<usize, EncodeError> {
        out.resize(capacity, 0);
        let (read, written) =
            self.0.compress_prefix(input, out).map_err(|error| EncodeError::library("lzma", error))?;
        out.truncate(written);
        Ok(read)
    }
}
