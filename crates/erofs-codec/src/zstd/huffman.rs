//! Zstandard's Huffman codes, which literals are written in.

use super::backward::Backward;
use super::fse::{Distribution, MAX_STATES};

/// Codes have at most this many bits; the encoder stops at 11.
const MAX_BITS: u32 = 12;
/// The usual tables are indexed by this many bits, also if all codes are shorter.
const USUAL_BITS: u32 = 11;

/// A table that gives for the next bits a symbol, in the low byte, and the length of its code.
#[derive(Debug)]
pub(super) struct Huffman {
    table: [u16; 1 << MAX_BITS],
    /// Bits that index the table: [`USUAL_BITS`] or [`MAX_BITS`].
    bits: u32,
}

impl Default for Huffman {
    fn default() -> Self {
        Self { table: [0; 1 << MAX_BITS], bits: USUAL_BITS }
    }
}

impl Huffman {
    /// Reads the description of a code and makes its table; gives the number of bytes that the
    /// description takes. `None` if it is none.
    pub(super) fn read(&mut self, input: &[u8]) -> Option<usize> {
        let mut weights = [0_u8; 256];
        let (count, size) = read_description(input, &mut weights)?;
        self.build(&mut weights, count)?;
        Some(size)
    }

    /// Makes the table from the weights of all symbols but the last, whose weight makes the sum a
    /// power of two.
    fn build(&mut self, weights: &mut [u8; 256], count: usize) -> Option<()> {
        let mut ranks = [0_u32; MAX_BITS as usize + 2];
        let mut sum = 0_u32;
        for &weight in &weights[..count] {
            *ranks.get_mut(usize::from(weight)).filter(|_| u32::from(weight) <= MAX_BITS)? += 1;
            sum += (1 << weight) >> 1;
        }
        let bits = sum.checked_ilog2()? + 1;
        let rest = (1_u32 << bits) - sum;
        if bits > MAX_BITS || !rest.is_power_of_two() {
            return None;
        }
        let last = rest.ilog2() + 1;
        *weights.get_mut(count)? = last as u8;
        ranks[last as usize] += 1;
        // The tree has leaves at its deepest level, in pairs.
        if ranks[1] < 2 || !ranks[1].is_multiple_of(2) {
            return None;
        }
        self.bits = bits.max(USUAL_BITS);
        let scale = self.bits - bits;
        let mut starts = [0_usize; MAX_BITS as usize + 2];
        let mut at = 0;
        for (weight, &count) in ranks.iter().enumerate().skip(1) {
            starts[weight] = at;
            at += (count as usize) << (weight - 1) << scale;
        }
        for (symbol, &weight) in weights[..=count].iter().enumerate() {
            if weight != 0 {
                let entry = ((bits + 1 - u32::from(weight)) as u16) << 8 | symbol as u16;
                let start = &mut starts[usize::from(weight)];
                let end = *start + (1 << (weight - 1) << scale);
                self.table[*start..end].fill(entry);
                *start = end;
            }
        }
        Some(())
    }

    /// Decodes one stream that fills `output` exactly; `None` if it does not.
    pub(super) fn decode_one(&self, input: &[u8], output: &mut [u8]) -> Option<()> {
        self.decode_rest(Backward::new(input)?, output)
    }

    /// Decodes what is left of a stream.
    fn decode_rest(&self, mut bits: Backward<'_>, output: &mut [u8]) -> Option<()> {
        // A word is good for four codes.
        for group in output.chunks_mut(4) {
            let mut word = bits.word();
            for slot in group {
                let entry = self.table[(word >> (64 - self.bits)) as usize & ((1 << MAX_BITS) - 1)];
                word <<= entry >> 8 & 63;
                bits.consume(u32::from(entry >> 8));
                *slot = entry as u8;
            }
        }
        bits.is_used_up().then_some(())
    }

    /// Decodes four streams, each of which fills its quarter of `output`; `None` if one does not.
    pub(super) fn decode_four(&self, input: &[u8], output: &mut [u8]) -> Option<()> {
        let (jumps, streams) = input.split_first_chunk::<6>()?;
        let size = |index: usize| usize::from(u16::from_le_bytes([jumps[index], jumps[index + 1]]));
        let (first, streams) = streams.split_at_checked(size(0))?;
        let (second, streams) = streams.split_at_checked(size(2))?;
        let (third, fourth) = streams.split_at_checked(size(4))?;
        let quarter = output.len().div_ceil(4);
        let (a, rest) = output.split_at_mut_checked(quarter)?;
        let (b, rest) = rest.split_at_mut_checked(quarter)?;
        let (c, d) = rest.split_at_mut_checked(quarter)?;
        let mut lanes =
            [Lane::new(first, a)?, Lane::new(second, b)?, Lane::new(third, c)?, Lane::new(fourth, d)?];
        if self.bits == USUAL_BITS {
            self.decode_together(&mut lanes);
        }
        lanes.into_iter().try_for_each(|lane| self.decode_rest(lane.bits, lane.output))
    }

    /// Decodes four streams side by side until one of them or of the outputs comes near its end.
    fn decode_together(&self, lanes: &mut [Lane<'_>; 4]) {
        let table: &[u16; 1 << USUAL_BITS] = self.table.first_chunk().unwrap_or(&[0; 1 << USUAL_BITS]);
        let [a, b, c, d] = lanes;
        let mut done = 0;
        while let (Some(mut a_bits), Some(mut b_bits), Some(mut c_bits), Some(mut d_bits)) =
            (a.bits.marked_word(), b.bits.marked_word(), c.bits.marked_word(), d.bits.marked_word())
        {
            let (Some(a_out), Some(b_out), Some(c_out), Some(d_out)) =
                (a.room(done), b.room(done), c.room(done), d.room(done))
            else {
                break;
            };
            for index in 0..STEP {
                a_out[index] = next(table, &mut a_bits);
                b_out[index] = next(table, &mut b_bits);
                c_out[index] = next(table, &mut c_bits);
                d_out[index] = next(table, &mut d_bits);
            }
            a.bits.advance(a_bits);
            b.bits.advance(b_bits);
            c.bits.advance(c_bits);
            d.bits.advance(d_bits);
            done += STEP;
        }
        for lane in lanes {
            let output = std::mem::take(&mut lane.output);
            lane.output = output.get_mut(done..).unwrap_or_default();
        }
    }
}

/// Symbols that a word is good for: 5 times 11 bits, of at least 56.
const STEP: usize = 5;

/// Takes a symbol from the top of a word.
#[inline(always)]
fn next(table: &[u16; 1 << USUAL_BITS], word: &mut u64) -> u8 {
    let entry = table[(*word >> (64 - USUAL_BITS)) as usize];
    *word <<= entry >> 8 & 63;
    entry as u8
}

/// One of four streams and what it fills.
struct Lane<'a> {
    bits: Backward<'a>,
    output: &'a mut [u8],
}

impl<'a> Lane<'a> {
    fn new(input: &'a [u8], output: &'a mut [u8]) -> Option<Self> {
        Some(Self { bits: Backward::new(input)?, output })
    }

    #[inline(always)]
    fn room(&mut self, done: usize) -> Option<&mut [u8; STEP]> {
        self.output.get_mut(done..)?.first_chunk_mut()
    }
}

/// Reads the description of a code: the weights of all symbols but the last. Gives their number and the
/// number of bytes that the description takes; `None` if it is none.
pub fn read_description(input: &[u8], weights: &mut [u8; 256]) -> Option<(usize, usize)> {
    let (&header, rest) = input.split_first()?;
    if header < 128 {
        let size = usize::from(header);
        return Some((read_weights(rest.get(..size)?, weights)?, 1 + size));
    }
    let count = usize::from(header) - 127;
    let size = count.div_ceil(2);
    for (pair, byte) in weights.chunks_exact_mut(2).zip(rest.get(..size)?) {
        pair[0] = byte >> 4;
        pair[1] = byte & 15;
    }
    // An odd number of weights leaves half a byte, which counts for nothing.
    weights.get_mut(count..)?.fill(0);
    Some((count, 1 + size))
}

/// Reads weights written in two interleaved streams of states; `None` if they are none.
fn read_weights(input: &[u8], weights: &mut [u8; 256]) -> Option<usize> {
    let (distribution, size) = Distribution::read(input, 13, 6)?;
    let mut table = [(0_u8, 0_u32, 0_u32); MAX_STATES];
    distribution.for_each_state(|state, symbol, bits, base| table[state] = (symbol, bits, base));
    let mut bits = Backward::new(input.get(size..)?)?;
    let mut states = [bits.take(distribution.log) as usize, bits.take(distribution.log) as usize];
    let mut count = 0;
    // The states take turns until the bits do not suffice for the next; the other has one more.
    while count < 254 {
        let (symbol, more, base) = table[states[count % 2] & (MAX_STATES - 1)];
        weights[count] = symbol;
        let next = (bits.take(more) + base) as usize;
        count += 1;
        if bits.is_past_start() {
            weights[count] = table[states[count % 2] & (MAX_STATES - 1)].0;
            return Some(count + 1);
        }
        states[(count - 1) % 2] = next;
    }
    None
}
