//! Raw DEFLATE (RFC 1951).

mod bits;
mod tables;

use crate::Want;
use crate::copy::{SLACK, exact_match, wild_match};
use crate::error::{DecodeError, Result};
use bits::Bits;
use tables::{
    DISTANCE_BITS, DISTANCE_ENTRIES, DISTANCE_MEANING, END, INVALID, LITERAL, LITLEN_BITS, LITLEN_ENTRIES,
    LITLEN_MEANING, PRECODE_BITS, PRECODE_ENTRIES, PRECODE_MEANING, SECOND, SPECIAL, build,
};

const LITLEN_MASK: u64 = (1 << LITLEN_BITS) - 1;
const DISTANCE_MASK: u64 = (1 << DISTANCE_BITS) - 1;
/// While this much of the output is left, three literals and the longest match fit with what they
/// may write behind.
const OUTPUT_ROOM: usize = 3 + 258 + SLACK;

/// The tables of one block.
#[derive(Debug)]
pub(crate) struct Inflater {
    litlen: [u32; LITLEN_ENTRIES],
    distance: [u32; DISTANCE_ENTRIES],
    /// The tables are those of blocks with fixed codes.
    fixed: bool,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { litlen: [0; LITLEN_ENTRIES], distance: [0; DISTANCE_ENTRIES], fixed: false }
    }
}

/// Whether a block has ended or the output is full of a wanted prefix.
#[derive(PartialEq, Eq)]
enum End {
    Block,
    Output,
}

impl Inflater {
    /// Decodes `input` into `output`.
    pub(crate) fn decode(&mut self, input: &[u8], output: &mut [u8], want: Want) -> Result<()> {
        let mut bits = Bits::new(input);
        let mut op = 0;
        let result = self.blocks(&mut bits, output, &mut op, want);
        // Whatever was found after the end of the input is an artefact of the zeros there.
        if bits.is_past_end() { Err(DecodeError::Truncated { produced: op }) } else { result }
    }

    fn blocks(&mut self, bits: &mut Bits<'_>, output: &mut [u8], op: &mut usize, want: Want) -> Result<()> {
        loop {
            if want == Want::Prefix && *op == output.len() {
                return Ok(());
            }
            bits.refill();
            let last = bits.take(1) == 1;
            let kind = bits.take(2);
            let end = match kind {
                0 => stored(bits, output, op, want)?,
                1 => {
                    self.fixed_codes();
                    self.coded(bits, output, op, want)?
                }
                2 => {
                    self.dynamic_codes(bits).ok_or(DecodeError::Invalid {
                        what: "the codes of a DEFLATE block are not prefix codes",
                        produced: *op,
                    })?;
                    self.coded(bits, output, op, want)?
                }
                _ => {
                    let what = "a DEFLATE block is of the reserved kind";
                    return Err(DecodeError::Invalid { what, produced: *op });
                }
            };
            if end == End::Output {
                return Ok(());
            }
            if bits.is_past_end() {
                return Err(DecodeError::Truncated { produced: *op });
            }
            if last {
                let (produced, wanted) = (*op, output.len());
                return if produced == wanted {
                    Ok(())
                } else {
                    Err(DecodeError::Short { produced, wanted })
                };
            }
        }
    }

    fn fixed_codes(&mut self) {
        if !self.fixed {
            let mut lengths = [8; 288];
            lengths[144..256].fill(9);
            lengths[256..280].fill(7);
            // Both codes are complete, as the standard says.
            let _ = build(&mut self.litlen, LITLEN_BITS, &lengths, &LITLEN_MEANING);
            let _ = build(&mut self.distance, DISTANCE_BITS, &[5; 32], &DISTANCE_MEANING);
            self.fixed = true;
        }
    }

    /// Reads the codes at the beginning of a block; `None` if they are none.
    fn dynamic_codes(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        self.fixed = false;
        let litlens = bits.take(5) as usize + 257;
        let distances = bits.take(5) as usize + 1;
        let precodes = bits.take(4) as usize + 4;
        if litlens > 286 || distances > 30 {
            return None;
        }
        let mut precode = [0; 19];
        for &symbol in &ORDER[..precodes] {
            bits.refill();
            precode[symbol] = bits.take(3) as u8;
        }
        let mut table = [0; PRECODE_ENTRIES];
        build(&mut table, PRECODE_BITS, &precode, &PRECODE_MEANING)?;
        // Room for the longest repetition behind the last symbol.
        let mut lengths = [0_u8; 286 + 30 + 138];
        let (mut at, total) = (0, litlens + distances);
        while at < total {
            bits.refill();
            let entry = table[(bits.buffer & (PRECODE_ENTRIES as u64 - 1)) as usize];
            if entry & INVALID != 0 {
                return None;
            }
            bits.consume(entry & 0xff);
            let (length, count) = match entry >> 16 {
                16 => (*lengths.get(at.wrapping_sub(1))?, 3 + bits.take(2)),
                17 => (0, 3 + bits.take(3)),
                18 => (0, 11 + bits.take(7)),
                length => (length as u8, 1),
            };
            lengths[at..][..count as usize].fill(length);
            at += count as usize;
        }
        // A repetition may not go on behind the last symbol, and a block must be able to end.
        if at != total || lengths[256] == 0 {
            return None;
        }
        build(&mut self.litlen, LITLEN_BITS, &lengths[..litlens], &LITLEN_MEANING)?;
        build(&mut self.distance, DISTANCE_BITS, &lengths[litlens..total], &DISTANCE_MEANING)
    }

    /// Decodes the symbols of a block.
    fn coded(&self, bits: &mut Bits<'_>, output: &mut [u8], op: &mut usize, want: Want) -> Result<End> {
        loop {
            if self.coded_fast(bits, output, op)? {
                return Ok(End::Block);
            }
            // One symbol near an end of the input or the output.
            bits.refill();
            let mut entry = self.litlen_entry(bits);
            if entry & SECOND != 0 {
                entry = self.second_litlen(bits, entry);
            }
            if bits.is_past_end() {
                return Err(DecodeError::Truncated { produced: *op });
            }
            let before = bits.buffer;
            bits.consume(entry);
            if entry & LITERAL != 0 {
                let Some(place) = output.get_mut(*op) else {
                    return Err(DecodeError::Long { wanted: output.len() });
                };
                *place = (entry >> 16) as u8;
                *op += 1;
            } else if entry & SPECIAL != 0 {
                if entry & END != 0 {
                    return Ok(End::Block);
                }
                return Err(no_code(*op));
            } else {
                let length = value(entry, before);
                bits.refill();
                let distance = self.distance(bits).ok_or(no_code(*op))?;
                let room = output.len() - *op;
                if !exact_match(output, *op, distance, length.min(room)) {
                    return Err(DecodeError::Distance { produced: *op, distance });
                }
                *op += length.min(room);
                if length > room && want == Want::Whole {
                    return Err(DecodeError::Long { wanted: output.len() });
                }
            }
            if want == Want::Prefix && *op == output.len() {
                return Ok(End::Output);
            }
        }
    }

    /// Decodes symbols as long as there is plenty of input and of room; true at the block's end.
    #[inline(never)]
    fn coded_fast(&self, bits: &mut Bits<'_>, output: &mut [u8], op: &mut usize) -> Result<bool> {
        let Some(last) = output.len().checked_sub(OUTPUT_ROOM) else { return Ok(false) };
        let mut at = *op;
        let mut reader = *bits;
        let end = 'block: {
            while at <= last && reader.plenty() {
                reader.refill();
                let mut entry = self.litlen_entry(&reader);
                let mut before = reader.buffer;
                reader.consume(entry);
                // 56 bits are enough for two literals of the first table and what follows here.
                if entry & LITERAL != 0 {
                    output[at] = (entry >> 16) as u8;
                    at += 1;
                    entry = self.litlen_entry(&reader);
                    before = reader.buffer;
                    reader.consume(entry);
                    if entry & LITERAL != 0 {
                        output[at] = (entry >> 16) as u8;
                        at += 1;
                        entry = self.litlen_entry(&reader);
                        before = reader.buffer;
                        reader.consume(entry);
                        if entry & LITERAL != 0 {
                            output[at] = (entry >> 16) as u8;
                            at += 1;
                            continue;
                        }
                    }
                }
                if entry & SPECIAL != 0 {
                    if entry & SECOND != 0 {
                        entry = self.second_litlen_consumed(&reader, entry);
                        before = reader.buffer;
                        reader.consume(entry);
                    }
                    if entry & LITERAL != 0 {
                        output[at] = (entry >> 16) as u8;
                        at += 1;
                        continue;
                    }
                    if entry & END != 0 {
                        break 'block Ok(true);
                    }
                    if entry & SPECIAL != 0 {
                        break 'block Err(no_code(at));
                    }
                }
                let length = value(entry, before);
                if reader.available() < 28 {
                    reader.refill();
                }
                let Some(distance) = self.distance(&mut reader) else { break 'block Err(no_code(at)) };
                if !wild_match(output, at, distance, length) {
                    break 'block Err(DecodeError::Distance { produced: at, distance });
                }
                at += length;
            }
            Ok(false)
        };
        *op = at;
        *bits = reader;
        end
    }

    #[inline(always)]
    fn litlen_entry(&self, bits: &Bits<'_>) -> u32 {
        self.litlen[(bits.buffer & LITLEN_MASK) as usize]
    }

    /// Follows an entry into the second table; the bits of the first are consumed.
    fn second_litlen(&self, bits: &mut Bits<'_>, entry: u32) -> u32 {
        bits.consume(LITLEN_BITS);
        self.second_litlen_consumed(bits, entry)
    }

    #[inline(always)]
    fn second_litlen_consumed(&self, bits: &Bits<'_>, entry: u32) -> u32 {
        let index = bits.buffer & ((1 << (entry >> 8 & 15)) - 1);
        self.litlen[((entry >> 16) as usize + index as usize) & (LITLEN_ENTRIES - 1)]
    }

    /// Reads a distance from 28 bits that are at hand; `None` if they are none.
    #[inline(always)]
    fn distance(&self, bits: &mut Bits<'_>) -> Option<usize> {
        let mut entry = self.distance[(bits.buffer & DISTANCE_MASK) as usize];
        if entry & SPECIAL != 0 {
            if entry & SECOND != 0 {
                bits.consume(DISTANCE_BITS);
                let index = bits.buffer & ((1 << (entry >> 8 & 15)) - 1);
                entry = self.distance[((entry >> 16) as usize + index as usize) & (DISTANCE_ENTRIES - 1)];
            }
            if entry & SPECIAL != 0 {
                return None;
            }
        }
        let before = bits.buffer;
        bits.consume(entry);
        Some(value(entry, before))
    }
}

/// The base of an entry and its extra bits, which lie behind the code in `before`.
#[inline(always)]
fn value(entry: u32, before: u64) -> usize {
    let extra = (before & ((1 << (entry & 63)) - 1)) >> (entry >> 8 & 15);
    (entry >> 16) as usize + extra as usize
}

fn no_code(produced: usize) -> DecodeError {
    DecodeError::Invalid { what: "bits that are no code of the DEFLATE block", produced }
}

/// Copies a block that is not compressed.
fn stored(bits: &mut Bits<'_>, output: &mut [u8], op: &mut usize, want: Want) -> Result<End> {
    let truncated = DecodeError::Truncated { produced: *op };
    let header = bits.take_bytes(4).ok_or(truncated)?;
    let length = u16::from_le_bytes([header[0], header[1]]);
    if length != !u16::from_le_bytes([header[2], header[3]]) {
        let what = "the two lengths of a stored DEFLATE block differ";
        return Err(DecodeError::Invalid { what, produced: *op });
    }
    let length = usize::from(length);
    let room = output.len() - *op;
    if length > room && want == Want::Whole {
        return Err(DecodeError::Long { wanted: output.len() });
    }
    let taken = length.min(room);
    output[*op..][..taken].copy_from_slice(bits.take_bytes(taken).ok_or(truncated)?);
    *op += taken;
    Ok(if want == Want::Prefix && *op == output.len() { End::Output } else { End::Block })
}
