//! The range decoder of LZMA.

use std::hint::select_unpredictable;

/// Probabilities are multiples of 2^-11 that the next bit is 0.
pub(super) const EVEN: u16 = 1 << 10;

/// Takes bits out of a stream by their probabilities.
///
/// Behind the end of the input it goes on with zeros; the caller looks at [`Range::is_past_end`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Range<'a> {
    input: &'a [u8],
    at: usize,
    range: u32,
    code: u32,
}

impl<'a> Range<'a> {
    /// Starts at the four bytes that begin the code; `None` if they are not there.
    pub(super) fn new(input: &'a [u8], at: usize) -> Option<Self> {
        let code = u32::from_be_bytes(*input.get(at..)?.first_chunk()?);
        Some(Self { input, at: at + 4, range: u32::MAX, code })
    }

    /// Whether bytes behind the end of the input have been used.
    #[inline(always)]
    pub(super) fn is_past_end(&self) -> bool {
        self.at > self.input.len()
    }

    /// Whether the stream ends here: nothing is left of the input nor of the code.
    pub(super) fn is_finished(&mut self) -> bool {
        self.normalize();
        self.code == 0 && self.at >= self.input.len()
    }

    #[inline(always)]
    fn normalize(&mut self) {
        if self.range < 1 << 24 {
            let byte = self.input.get(self.at).copied().unwrap_or(0);
            self.at = self.at.wrapping_add(1);
            self.range <<= 8;
            self.code = self.code << 8 | u32::from(byte);
        }
    }

    /// One bit that decides what is done next: a jump of its own for each value.
    #[inline(always)]
    pub(super) fn decide(&mut self, probability: &mut u16) -> bool {
        self.normalize();
        let even = u32::from(*probability);
        // At most (2^21 - 1) * (2^11 - 1).
        let bound = (self.range >> 11).wrapping_mul(even);
        if self.code < bound {
            self.range = bound;
            *probability = even.wrapping_add(2048_u32.wrapping_sub(even) >> 5) as u16;
            false
        } else {
            self.range = self.range.wrapping_sub(bound);
            self.code = self.code.wrapping_sub(bound);
            *probability = even.wrapping_sub(even >> 5) as u16;
            true
        }
    }

    /// One bit of a number, which nobody could predict: no jump. `even` is the probability; gives
    /// the bit and the new probability.
    #[inline(always)]
    pub(super) fn bit(&mut self, even: u32) -> (bool, u16) {
        self.normalize();
        let bound = (self.range >> 11).wrapping_mul(even);
        let (above, zero) = self.code.overflowing_sub(bound);
        self.range = select_unpredictable(zero, bound, self.range.wrapping_sub(bound));
        self.code = select_unpredictable(zero, self.code, above);
        let bit = !zero;
        // Less the 32nd part of what is above the goal, 0 or 2048 - 31; the high bits go.
        let goal = select_unpredictable(zero, 2048 - 31, 0);
        (bit, even.wrapping_sub(even.wrapping_sub(goal) >> 5) as u16)
    }

    /// A number of `BITS` bits, highest first, each with the probabilities that the ones before
    /// select; with a leading 1.
    #[inline(always)]
    pub(super) fn tree<const BITS: u32, const N: usize>(&mut self, probabilities: &mut [u16; N]) -> usize {
        let mut symbol = 1;
        let mut even = u32::from(probabilities[1]);
        // Unrolled, and then without checks; the compiler does not do that to `1..=BITS`.
        for place in 0..BITS {
            // Both candidates for the next bit are loaded before it is known which it is.
            let next = symbol << 1 & (N - 1);
            let (if_zero, if_one) = (u32::from(probabilities[next]), u32::from(probabilities[next | 1]));
            let (bit, adapted) = self.bit(even);
            probabilities[symbol] = adapted;
            symbol = symbol << 1 | usize::from(bit);
            if place + 1 < BITS {
                even = select_unpredictable(bit, if_one, if_zero);
            }
        }
        symbol
    }

    /// `count` bits, lowest first, with the probabilities of a tree with at most `N / 2` leaves.
    #[inline(always)]
    pub(super) fn reverse_tree<const N: usize>(&mut self, probabilities: &mut [u16; N], count: u32) -> u32 {
        let (mut symbol, mut value) = (1_usize, 0);
        let mut even = u32::from(probabilities[1]);
        for place in 0..count {
            let next = symbol << 1 & (N - 1);
            let (if_zero, if_one) = (u32::from(probabilities[next]), u32::from(probabilities[next | 1]));
            let (bit, adapted) = self.bit(even);
            probabilities[symbol & (N - 1)] = adapted;
            even = select_unpredictable(bit, if_one, if_zero);
            symbol = symbol << 1 | usize::from(bit);
            value |= u32::from(bit) << place;
        }
        value
    }

    /// `count` bits of even probability, highest first.
    #[inline(always)]
    pub(super) fn direct(&mut self, count: u32) -> u32 {
        let mut value = 0_u32;
        for _ in 0..count {
            self.normalize();
            self.range >>= 1;
            let bit = self.code >= self.range;
            self.code = select_unpredictable(bit, self.code.wrapping_sub(self.range), self.code);
            value = value << 1 | u32::from(bit);
        }
        value
    }
}
