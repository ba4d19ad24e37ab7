//! Shortens the last block of a Zstandard frame (RFC 8878).
//!
//! A block is literals, which are written in a code for bytes, and sequences: how many literals, then how long
//! a match from how far back. The sequences are one row of bits that is read from its end, so leaving out the
//! last ones is to shift the row. The literals are written anew, in the same code.

use erofs_codec::zstd_parts::Backward;

use super::codes::{Descriptions, LiteralCode, Parts};

/// Bytes of a block's header.
pub(super) const HEADER: usize = 3;

/// Fewer literals than this are one stream, others four.
const FOUR_STREAMS: usize = 256;

/// What a block can be, as bits 1 and 2 of its header say.
const RAW: u32 = 0;
const REPEATED: u32 = 1;
const COMPRESSED: u32 = 2;

/// The header of a block.
#[derive(Clone, Copy)]
struct Header(u32);

impl Header {
    fn read(block: &[u8]) -> Option<Self> {
        let &[low, middle, high] = block.first_chunk()?;
        Some(Self(u32::from_le_bytes([low, middle, high, 0])))
    }

    fn kind(self) -> u32 {
        self.0 >> 1 & 3
    }

    /// Bytes of the block behind the header.
    fn length(self) -> usize {
        if self.kind() == REPEATED { 1 } else { self.0 as usize >> 3 }
    }
}

/// Marks a block as the last one.
pub(super) fn mark_last(block: &mut [u8]) {
    if let Some(first) = block.first_mut() {
        *first |= 1;
    }
}

/// Appends to `out`, which holds the blocks of a frame from byte `first` on, as much of the block `last` as
/// fits within `capacity` bytes, as the frame's last block. `input` is what that block stands for. Returns how
/// much of it was taken; nothing is appended if that is nothing. None if the blocks can't be understood.
pub(super) fn append_cut(
    out: &mut Vec<u8>,
    first: usize,
    last: &[u8],
    input: &[u8],
    capacity: usize,
) -> Option<usize> {
    let room = capacity.saturating_sub(out.len());
    let as_it_is = room.saturating_sub(HEADER).min(input.len());
    let header = Header::read(last)?;
    if header.kind() == COMPRESSED {
        let block = last.get(HEADER..HEADER + header.length())?;
        let (shorter, taken) = {
            let mut descriptions = Descriptions::default();
            if Parts::leans_on_others(block) {
                let mut rest = out.get(first..)?;
                while !rest.is_empty() {
                    let header = Header::read(rest)?;
                    let (block, after) = rest.get(HEADER..)?.split_at_checked(header.length())?;
                    if header.kind() == COMPRESSED {
                        descriptions.read(block)?;
                    }
                    rest = after;
                }
            }
            shorten(&descriptions.read(block)?, &descriptions, input, room.saturating_sub(HEADER))?
        };
        if taken > as_it_is && shorter.len() + HEADER <= room {
            put_header(out, COMPRESSED, shorter.len());
            out.extend_from_slice(&shorter);
            return Some(taken);
        }
    }
    if header.kind() == REPEATED && room > HEADER {
        put_header(out, REPEATED, input.len());
        out.extend(input.first());
        return Some(input.len());
    }
    if as_it_is > 0 {
        put_header(out, RAW, as_it_is);
        out.extend_from_slice(&input[..as_it_is]);
    }
    Some(as_it_is)
}

fn put_header(out: &mut Vec<u8>, kind: u32, length: usize) {
    let word = 1 | kind << 1 | u32::try_from(length).unwrap_or(u32::MAX) << 3;
    out.extend_from_slice(&word.to_le_bytes()[..HEADER]);
}

/// The beginning of a block in at most `room` bytes, and how much of the input it stands for.
fn shorten(
    parts: &Parts<'_>,
    descriptions: &Descriptions<'_>,
    input: &[u8],
    room: usize,
) -> Option<(Vec<u8>, usize)> {
    let code = if parts.literals >= 2 { Some(descriptions.literal_code()?) } else { None };
    let bits_of = |bytes: &[u8]| match (&code, parts.literals) {
        (Some(code), _) => bytes.iter().map(|byte| code.length(*byte)).sum(),
        (None, 0) => 8 * bytes.len(),
        _ => 0,
    };
    // Headers, jumps between four streams, and each stream's mark: one byte more than its bits at most.
    let fixed = 5 + 6 + 3 + 1 + parts.description.len() + parts.descriptions.len() + 5;
    let budget = 8 * room.saturating_sub(fixed);
    let mut literals = Vec::with_capacity(parts.literal_count);
    let mut kept = Kept::default();
    if parts.sequence_count > 0 {
        kept = keep(parts, descriptions, input, budget, &bits_of, &mut literals)?;
    }
    // Some of the literals that follow.
    let mut bits = kept.bits;
    for byte in input.get(kept.taken..)?.iter().take(parts.literal_count - literals.len()).take(kept.more) {
        bits += bits_of(&[*byte]);
        if bits > budget {
            break;
        }
        literals.push(*byte);
        kept.taken += 1;
    }
    let mut out = Vec::with_capacity(room);
    put_literals(parts, code.as_ref(), &literals, &mut out);
    match kept.count {
        few @ 0..=127 => out.push(u8::try_from(few).ok()?),
        some @ 128..0x7f00 => out.extend_from_slice(&u16::try_from(some + 0x8000).ok()?.to_be_bytes()),
        many => {
            out.push(255);
            out.extend_from_slice(&u16::try_from(many - 0x7f00).ok()?.to_le_bytes());
        }
    }
    if kept.count > 0 {
        out.push(parts.modes);
        out.extend_from_slice(parts.descriptions);
        put_shifted(parts.sequences, kept.left, &mut out);
    }
    Some((out, kept.taken))
}

/// The sequences that are kept.
struct Kept {
    count: usize,
    /// Bits of the row before them, which are left out.
    left: usize,
    /// Bytes of the input that they stand for.
    taken: usize,
    /// Bits that they and their literals take.
    bits: usize,
    /// Literals of the sequence that follows, or all others behind the last.
    more: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { count: 0, left: 0, taken: 0, bits: 0, more: usize::MAX }
    }
}

/// Goes over the sequences as long as they fit.
fn keep(
    parts: &Parts<'_>,
    descriptions: &Descriptions<'_>,
    input: &[u8],
    budget: usize,
    bits_of: &impl Fn(&[u8]) -> usize,
    literals: &mut Vec<u8>,
) -> Option<Kept> {
    let [lengths, offsets, matches] = descriptions.tables()?;
    let mut row = Backward::new(parts.sequences)?;
    let all = row.left();
    let mut length = row.take(lengths.log);
    let mut offset = row.take(offsets.log);
    let mut matched = row.take(matches.log);
    let mut kept = Kept::default();
    let mut literal_bits = 0;
    loop {
        let states = [lengths.state(length)?, offsets.state(offset)?, matches.state(matched)?];
        row.consume(states[1].extra.into());
        let match_length = (states[2].value + row.take(states[2].extra.into())) as usize;
        let literal_length = (states[0].value + row.take(states[0].extra.into())) as usize;
        let bytes = input.get(kept.taken..)?.get(..literal_length)?;
        literal_bits += bits_of(bytes);
        let bits = literal_bits + (all - row.left());
        if bits > budget {
            kept.more = literal_length;
            return Some(kept);
        }
        literals.extend_from_slice(bytes);
        kept.count += 1;
        kept.left = row.left();
        kept.taken += literal_length + match_length;
        kept.bits = bits;
        if kept.count == parts.sequence_count {
            return Some(kept);
        }
        length = row.take(states[0].next_bits.into()) + u32::from(states[0].next);
        matched = row.take(states[2].next_bits.into()) + u32::from(states[2].next);
        offset = row.take(states[1].next_bits.into()) + u32::from(states[1].next);
    }
}

/// Writes the literals of a block.
fn put_literals(parts: &Parts<'_>, code: Option<&LiteralCode>, literals: &[u8], out: &mut Vec<u8>) {
    let count = literals.len();
    if parts.literals == 1 && count > 0 {
        put_plain_header(1, count, out);
        out.extend_from_slice(parts.description);
        return;
    }
    if let Some(code) = code {
        let mut streams = parts.description.to_vec();
        let four = count >= FOUR_STREAMS;
        if four {
            let jumps = streams.len();
            streams.extend_from_slice(&[0; 6]);
            for (nth, quarter) in literals.chunks(count.div_ceil(4)).enumerate() {
                let start = streams.len();
                code.write(quarter, &mut streams);
                let length = u16::try_from(streams.len() - start).unwrap_or(u16::MAX);
                if nth < 3 {
                    streams[jumps + 2 * nth..][..2].copy_from_slice(&length.to_le_bytes());
                }
            }
        } else {
            code.write(literals, &mut streams);
        }
        // Literals that take less as they are, are that.
        if streams.len() < count {
            let (format, header, width) = match count {
                0..1024 if !four => (0, 3, 10),
                0..1024 => (1, 3, 10),
                1024..16384 => (2, 4, 14),
                _ => (3, 5, 18),
            };
            let word = u64::from(parts.literals)
                | format << 2
                | (count as u64) << 4
                | (streams.len() as u64) << (4 + width);
            out.extend_from_slice(&word.to_le_bytes()[..header]);
            out.extend_from_slice(&streams);
            return;
        }
    }
    put_plain_header(0, count, out);
    out.extend_from_slice(literals);
}

/// The header of literals that are in no code.
fn put_plain_header(kind: u8, count: usize, out: &mut Vec<u8>) {
    let (format, header) = match count {
        0..32 => (0, 1),
        32..4096 => (1, 2),
        _ => (3, 3),
    };
    let word = if header == 1 { count << 3 } else { count << 4 | format << 2 } | usize::from(kind);
    out.extend_from_slice(&word.to_le_bytes()[..header]);
}

/// Writes a row of bits without the lowest `left`.
fn put_shifted(row: &[u8], left: usize, out: &mut Vec<u8>) {
    let row = row.get(left / 8..).unwrap_or_default();
    let shift = left % 8;
    let start = out.len();
    for (nth, byte) in row.iter().enumerate() {
        let next = row.get(nth + 1).copied().unwrap_or(0);
        out.push((u16::from_le_bytes([*byte, next]) >> shift).to_le_bytes()[0]);
    }
    // The mark is the highest bit that is set.
    if out.len() > start && out.last() == Some(&0) {
        out.pop();
    }
}
