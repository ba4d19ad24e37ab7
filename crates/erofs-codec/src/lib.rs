//! Decoders of the compressed blocks in EROFS images: LZ4, `MicroLZMA`, DEFLATE and Zstandard.
//!
//! A [`Decoder`] turns the bytes of one physical cluster into the bytes of the file, directly in
//! the caller's slice: the slice is also the dictionary, and its length is the only thing that says
//! how much is written. Nothing that a stream claims allocates memory; errors are values, a panic
//! is a bug.
//!
//! ```text
//! lz4.rs    LZ4 blocks     lzma/     MicroLZMA: range decoder, model, symbols
//! error.rs  what is wrong  deflate/  DEFLATE: bits, tables, symbols
//! copy.rs   copies into    zstd/     Zstandard: frame, literals (Huffman), sequences (FSE)
//!           a slice
//! ```
#![forbid(unsafe_code)]
#![allow(
    clippy::inline_always,
    reason = "the loops that decode are flat only if their pieces are part of them"
)]
#![allow(clippy::cast_possible_truncation, reason = "the low bits are what a bit reader takes")]

mod copy;
mod deflate;
mod error;
mod lz4;
mod lzma;
mod zstd;

pub use error::DecodeError;
#[doc(hidden)]
pub use zstd::parts as zstd_parts;

/// How the bytes of a cluster are encoded, with what the superblock's record says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// An LZ4 block.
    Lz4,
    /// A `MicroLZMA` stream.
    Lzma {
        /// No match may reach back further than this many bytes.
        dict_size: u32,
    },
    /// A raw DEFLATE stream. Linux gives every stream the format's largest window, so do we.
    Deflate {
        /// Base-2 logarithm of the declared window.
        window_bits: u8,
    },
    /// One Zstandard frame.
    Zstd {
        /// Base-2 logarithm of the largest window that a frame may claim (10 + the record's
        /// `windowlog`).
        window_log: u8,
    },
}

/// How much of a stream the output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The stream decodes to exactly the output's length.
    Whole,
    /// The output is the beginning of what the stream decodes to. What follows in the stream is
    /// neither needed nor checked. (A `MicroLZMA` stream does not say where it ends: more than there
    /// is may come out as an error or as nonsense.)
    Prefix,
}

/// Decodes clusters; keeps the tables of all codecs from call to call.
///
/// One per thread. It holds 19 KiB for DEFLATE, 29 KiB for `MicroLZMA` and 149 KiB for Zstandard, of
/// the codecs that it has met, whatever the streams claim.
#[derive(Debug, Default)]
pub struct Decoder {
    deflate: Option<Box<deflate::Inflater>>,
    lzma: Option<Box<lzma::Lzma>>,
    zstd: Option<Box<zstd::Zstd>>,
}

impl Decoder {
    /// A decoder without tables; each codec's are made when it is first met.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes `input`, from its first byte that is not padding, and fills `output`.
    ///
    /// After an error the bytes of `output` are unspecified.
    pub fn decode(
        &mut self,
        codec: Codec,
        input: &[u8],
        output: &mut [u8],
        want: Want,
    ) -> Result<(), DecodeError> {
        match codec {
            Codec::Lz4 => lz4::decode(input, output, want),
            Codec::Deflate { .. } => self.deflate.get_or_insert_default().decode(input, output, want),
            Codec::Lzma { dict_size } => {
                self.lzma.get_or_insert_default().decode(input, output, want, dict_size)
            }
            Codec::Zstd { window_log } => {
                self.zstd.get_or_insert_default().decode(input, output, want, window_log)
            }
        }
    }
}

/// What follows the zeros that pad a right-aligned cluster at its beginning.
///
/// As in the kernel, only the first block of a cluster may be padding; no stream begins with a
/// zero byte.
pub fn skip_padding(input: &[u8], block_size: usize) -> Result<&[u8], DecodeError> {
    let first = &input[..input.len().min(block_size)];
    match first.iter().position(|&byte| byte != 0) {
        Some(start) => Ok(&input[start..]),
        None => Err(DecodeError::OnlyPadding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_holds_no_more_than_it_says() {
        assert!(size_of::<deflate::Inflater>() <= 19 << 10);
        // Beside them are 24 KiB of probabilities of literals and 128 KiB of literals.
        assert!(size_of::<lzma::Lzma>() <= (29 - 24) << 10);
        assert!(size_of::<zstd::Zstd>() <= (149 - 128) << 10);
    }
}
