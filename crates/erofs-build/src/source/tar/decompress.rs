//! Streams that are compressed, told by how they begin.

use std::io::{self, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

/// Bytes from the start of a stream that tell how it is compressed.
pub(super) const MAGIC: usize = 6;

/// Dictionaries of xz may be so large, in KiB; `xz -9` has 64 MiB.
const XZ_MEMORY: u32 = 256 << 10;

/// What a stream is compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compressed {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Compressed {
    pub(super) fn by_magic(start: &[u8]) -> Option<Self> {
        if start.starts_with(b"\x1f\x8b") {
            return Some(Self::Gzip);
        }
        if start.starts_with(b"BZh") {
            return Some(Self::Bzip2);
        }
        if start.starts_with(b"\xfd7zXZ\0") {
            return Some(Self::Xz);
        }
        (start.starts_with(b"\x28\xb5\x2f\xfd") || is_skipped(start)).then_some(Self::Zstd)
    }

    /// The decoded stream, of all that was strung together.
    pub(super) fn decode<'a>(self, stream: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        let stream = BufReader::with_capacity(128 << 10, stream);
        Ok(match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(stream)),
            Self::Bzip2 => Box::new(MultiBzDecoder::new(stream)),
            Self::Xz => Box::new(XzReader::new_mem_limit(stream, true, XZ_MEMORY)),
            // The library's own limit for windows is 128 MiB, which is what `--long` without a number makes.
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(stream)?),
        })
    }
}

/// Whether a frame of Zstandard begins that decoders pass over; some programs put one first.
fn is_skipped(magic: &[u8]) -> bool {
    magic.first_chunk::<4>().is_some_and(|magic| u32::from_le_bytes(*magic) & 0xffff_fff0 == 0x184d_2a50)
}
