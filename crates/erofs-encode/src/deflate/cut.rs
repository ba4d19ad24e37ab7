//! Cuts a DEFLATE stream (RFC 1951) behind one of its symbols.

use super::codes::Code;

/// The symbol that ends a block.
const END: usize = 256;

/// The order in which lengths of the codes for lengths are written.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Lengths of matches for the symbols from 257 on, and bits that are added.
const LENGTHS: [(u16, u8); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

/// A place where the stream can end.
#[derive(Clone, Copy)]
struct End {
    /// The header of the block that becomes the last one.
    block: usize,
    /// The bit where its last symbol ends.
    at: usize,
    /// Bytes that the stream stands for up to here.
    decoded: usize,
    tail: Tail,
}

/// What has to follow there.
#[derive(Clone, Copy)]
enum Tail {
    /// Nothing, the block ends here by itself.
    Nothing,
    /// The code that ends a block, with its length in bits.
    Code(u32, usize),
    /// A stored block that is shortened to so many bytes; where its length is written.
    Stored { length_at: usize, length: u16 },
}

/// Shortens a valid stream to at most `capacity` bytes; returns how many bytes it then stands for. None if not
/// even its first symbol fits, or if the stream is not valid.
pub(super) fn cut(stream: &mut Vec<u8>, capacity: usize) -> Option<usize> {
    let end = last_end(stream, capacity * 8)?;
    let bits = match end.tail {
        Tail::Code(code, length) => {
            put_bits(stream, end.at, code, length)?;
            end.at + length
        }
        Tail::Stored { length_at, length } => {
            let [low, high] = length.to_le_bytes();
            stream.get_mut(length_at..length_at + 4)?.copy_from_slice(&[low, high, !low, !high]);
            end.at
        }
        Tail::Nothing => end.at,
    };
    *stream.get_mut(end.block / 8)? |= 1 << (end.block % 8);
    stream.truncate(bits.div_ceil(8));
    if bits % 8 > 0 {
        *stream.last_mut()? &= (1 << (bits % 8)) - 1;
    }
    Some(end.decoded)
}

/// The last place where the stream can end within `capacity` bits.
fn last_end(stream: &[u8], capacity: usize) -> Option<End> {
    let mut bits = Bits { stream, at: 0 };
    let mut decoded = 0;
    let mut last = None;
    loop {
        let block = bits.at;
        let is_last = bits.take(1)? == 1;
        let more = match bits.take(2)? {
            0 => stored(&mut bits, block, capacity, &mut decoded, &mut last)?,
            1 => {
                let (codes, distances) = fixed();
                symbols(&mut bits, block, capacity, &codes, &distances, &mut decoded, &mut last)?
            }
            2 => {
                let (codes, distances) = dynamic(&mut bits)?;
                symbols(&mut bits, block, capacity, &codes, &distances, &mut decoded, &mut last)?
            }
            _ => return None,
        };
        if !more || is_last {
            return last;
        }
    }
}

/// Walks over a stored block; false if it does not end within the capacity.
fn stored(
    bits: &mut Bits<'_>,
    block: usize,
    capacity: usize,
    decoded: &mut usize,
    last: &mut Option<End>,
) -> Option<bool> {
    let length_at = bits.at.div_ceil(8);
    bits.at = length_at * 8;
    let length = bits.take(16)? as usize;
    bits.at += 16;
    let room = (capacity / 8).saturating_sub(length_at + 4);
    let kept = length.min(room);
    if kept > 0 {
        *last = Some(End {
            block,
            at: bits.at + 8 * kept,
            decoded: *decoded + kept,
            tail: Tail::Stored { length_at, length: u16::try_from(kept).ok()? },
        });
    }
    bits.at += 8 * length;
    *decoded += length;
    Some(kept == length)
}

/// Walks over the symbols of a block; false if it does not end within the capacity.
fn symbols(
    bits: &mut Bits<'_>,
    block: usize,
    capacity: usize,
    codes: &Code,
    distances: &Code,
    decoded: &mut usize,
    last: &mut Option<End>,
) -> Option<bool> {
    let (end_code, end_length) = codes.code_of(END)?;
    let mut before = None;
    loop {
        if bits.at + end_length > capacity {
            // The symbol before this place was the last that fits.
            if let Some((at, decoded)) = before {
                *last = Some(End { block, at, decoded, tail: Tail::Code(end_code, end_length) });
            }
            return Some(false);
        }
        if bits.at > block && *decoded > 0 {
            before = Some((bits.at, *decoded));
        }
        match bits.symbol(codes)? {
            END => {
                *last = Some(End { block, at: bits.at, decoded: *decoded, tail: Tail::Nothing });
                return Some(true);
            }
            symbol if symbol < END => *decoded += 1,
            symbol => {
                let (base, extra) = *LENGTHS.get(symbol - END - 1)?;
                *decoded += usize::from(base) + bits.take(extra.into())? as usize;
                let distance = bits.symbol(distances)?;
                bits.take(u32::try_from(distance / 2).ok()?.saturating_sub(1))?;
            }
        }
    }
}

fn fixed() -> (Code, Code) {
    let mut lengths = [8; 288];
    lengths[144..256].fill(9);
    lengths[256..280].fill(7);
    (Code::new(&lengths), Code::new(&[5; 32]))
}

/// Reads the codes of a block.
fn dynamic(bits: &mut Bits<'_>) -> Option<(Code, Code)> {
    let literals = bits.take(5)? as usize + 257;
    let distances = bits.take(5)? as usize + 1;
    let count = bits.take(4)? as usize + 4;
    let mut short = [0; 19];
    for place in ORDER.iter().take(count) {
        short[*place] = u8::try_from(bits.take(3)?).ok()?;
    }
    let short = Code::new(&short);
    let mut lengths = Vec::with_capacity(320);
    while lengths.len() < literals + distances {
        let (value, times) = match bits.symbol(&short)? {
            16 => (*lengths.last()?, bits.take(2)? + 3),
            17 => (0, bits.take(3)? + 3),
            18 => (0, bits.take(7)? + 11),
            length => (u8::try_from(length).ok()?, 1),
        };
        lengths.extend((0..times).map(|_| value));
    }
    Some((Code::new(lengths.get(..literals)?), Code::new(lengths.get(literals..)?)))
}

/// Reads bits, the lowest of each byte first.
struct Bits<'a> {
    stream: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// The next bits, 25 or more; zeros follow the end.
    fn peek(&self) -> u32 {
        let start = self.at / 8;
        let rest = self.stream.get(start..).unwrap_or_default();
        let word = match rest.first_chunk() {
            Some(bytes) => u32::from_le_bytes(*bytes),
            None => rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)),
        };
        word >> (self.at % 8)
    }

    /// Takes up to 16 bits; none if the stream has ended.
    fn take(&mut self, count: u32) -> Option<u32> {
        let value = self.peek() & ((1 << count) - 1);
        self.at += count as usize;
        (self.at <= self.stream.len() * 8).then_some(value)
    }

    fn symbol(&mut self, code: &Code) -> Option<usize> {
        let (symbol, length) = code.decode(self.peek())?;
        self.at += length;
        (self.at <= self.stream.len() * 8).then_some(symbol)
    }
}

/// Writes a code of up to 15 bits; the stream is longer than that.
fn put_bits(stream: &mut [u8], at: usize, code: u32, length: usize) -> Option<()> {
    for bit in 0..length {
        let byte = stream.get_mut((at + bit) / 8)?;
        let mask = 1 << ((at + bit) % 8);
        if code >> bit & 1 == 1 { *byte |= mask } else { *byte &= !mask }
    }
    Some(())
}
