//! Zstandard frames (RFC 8878).

mod backward;
mod fse;
mod huffman;
mod literals;
mod sequences;

use crate::Want;
use crate::error::{DecodeError, Result};
use literals::Literals;
use sequences::{Sequences, Target};

/// How blocks are written, for those who change written ones.
pub mod parts {
    pub use super::backward::Backward;
    pub use super::fse::{Distribution, MAX_STATES};
    pub use super::huffman::read_description;
    pub use super::sequences::{KINDS, Kind};
}

const MAGIC: u32 = 0xFD2F_B528;
/// No block is longer, compressed or not.
const MAX_BLOCK: usize = 128 << 10;
/// No window is taken to be smaller than this.
const MIN_WINDOW: u64 = 1 << 10;

/// The tables of the last blocks.
#[derive(Debug, Default)]
pub(crate) struct Zstd {
    literals: Literals,
    sequences: Sequences,
}

/// What a frame says of itself.
struct Header {
    content_size: Option<u64>,
    checksum: bool,
    /// Bytes of the header.
    size: usize,
}

impl Zstd {
    /// Decodes the frame at the beginning of `input` into `output`; frames with a window of more
    /// than `1 << window_log` bytes are refused.
    #[inline(never)]
    pub(crate) fn decode(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        want: Want,
        window_log: u8,
    ) -> Result<()> {
        let header = Header::read(input, window_log)?;
        let wanted = output.len();
        match header.content_size.map(|size| usize::try_from(size).unwrap_or(usize::MAX)) {
            Some(size) if size < wanted => return Err(DecodeError::Short { produced: size, wanted }),
            Some(size) if size > wanted && want == Want::Whole => return Err(DecodeError::Long { wanted }),
            _ => (),
        }
        self.literals.reset();
        self.sequences.reset();
        let mut target = Target { output, at: 0, want };
        let mut at = header.size;
        loop {
            let truncated = DecodeError::Truncated { produced: target.at };
            let rest = input.get(at..).unwrap_or_default();
            let &[low, middle, high] = rest.first_chunk().ok_or(truncated)?;
            let block = u32::from_le_bytes([low, middle, high, 0]);
            let size = (block >> 3) as usize;
            at += 3;
            let taken = match block >> 1 & 3 {
                0 => {
                    let here = target.fit(size)?;
                    target.append(rest.get(3..).and_then(|rest| rest.get(..here)).ok_or(truncated)?)?;
                    size
                }
                1 => {
                    let byte = *rest.get(3).ok_or(truncated)?;
                    let here = target.fit(size)?;
                    target.output[target.at..][..here].fill(byte);
                    target.at += here;
                    1
                }
                2 => {
                    let block = rest.get(3..).and_then(|rest| rest.get(..size));
                    self.block(block.ok_or(truncated)?, &mut target)?;
                    size
                }
                _ => {
                    let what = "a Zstandard block is of the reserved kind";
                    return Err(DecodeError::Invalid { what, produced: target.at });
                }
            };
            at += taken;
            if target.is_full() {
                return Ok(());
            }
            if block & 1 != 0 {
                break;
            }
        }
        let produced = target.at;
        if produced < wanted {
            return Err(DecodeError::Short { produced, wanted });
        }
        if header.checksum {
            let stored = input.get(at..).and_then(|rest| rest.first_chunk());
            let stored = u32::from_le_bytes(*stored.ok_or(DecodeError::Truncated { produced })?);
            if stored != xxhash_rust::xxh64::xxh64(target.output, 0) as u32 {
                return Err(DecodeError::Checksum);
            }
        }
        Ok(())
    }

    fn block(&mut self, input: &[u8], target: &mut Target<'_>) -> Result<()> {
        if input.len() > MAX_BLOCK {
            let what = "a Zstandard block is longer than 128 KiB";
            return Err(DecodeError::Invalid { what, produced: target.at });
        }
        let (count, size) = self.literals.read(input).ok_or(DecodeError::Invalid {
            what: "the literals of a Zstandard block cannot be decoded",
            produced: target.at,
        })?;
        let input = input.get(size..).unwrap_or_default();
        self.sequences.execute(input, self.literals.bytes(), count, target)
    }
}

impl Header {
    fn read(input: &[u8], window_log: u8) -> Result<Self> {
        let truncated = DecodeError::Truncated { produced: 0 };
        let invalid = |what| DecodeError::Invalid { what, produced: 0 };
        if u32::from_le_bytes(*input.first_chunk().ok_or(truncated)?) != MAGIC {
            return Err(invalid("not a Zstandard frame"));
        }
        let descriptor = *input.get(4).ok_or(truncated)?;
        if descriptor & 8 != 0 {
            return Err(invalid("a Zstandard frame of a future kind"));
        }
        let single_segment = descriptor & 0x20 != 0;
        let mut at = 5;
        // A little-endian number of at most 8 bytes.
        let mut number = |size: usize| {
            let mut bytes = [0; 8];
            bytes[..size]
                .copy_from_slice(input.get(at..).and_then(|rest| rest.get(..size)).ok_or(truncated)?);
            at += size;
            Ok(u64::from_le_bytes(bytes))
        };
        let window = if single_segment {
            None
        } else {
            let byte = number(1)?;
            let base = 1_u64 << (10 + (byte >> 3));
            Some(base + base / 8 * (byte & 7))
        };
        if number([0, 1, 2, 4][usize::from(descriptor & 3)])? != 0 {
            return Err(invalid("a Zstandard frame that needs a dictionary"));
        }
        let content_size = match descriptor >> 6 {
            0 if single_segment => Some(number(1)?),
            0 => None,
            1 => Some(number(2)? + 256),
            2 => Some(number(4)?),
            _ => Some(number(8)?),
        };
        let claimed = window.or(content_size).unwrap_or(u64::MAX);
        let allowed = (1_u64 << window_log.min(63)).max(MIN_WINDOW);
        if claimed > allowed {
            return Err(DecodeError::Window { claimed, allowed });
        }
        Ok(Self { content_size, checksum: descriptor & 4 != 0, size: at })
    }
}
