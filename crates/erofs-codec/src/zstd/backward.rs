//! Bits from the end of a stream, as Zstandard's entropy coders leave them.

/// A reader that goes from the highest bit of the last byte to the lowest of the first.
///
/// Before the beginning it goes on with zeros and counts them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backward<'a> {
    input: &'a [u8],
    /// The bytes from here on are in the buffer or consumed.
    at: usize,
    /// The next bits, from the highest. Those below `left` are either zeros or already right.
    buffer: u64,
    /// Bits in the buffer that count.
    left: u32,
    /// Zero bytes made up.
    past: usize,
}

impl<'a> Backward<'a> {
    /// Starts below the mark, the highest bit that is set in the last byte; `None` without one.
    pub(super) fn new(input: &'a [u8]) -> Option<Self> {
        let last = *input.last()?;
        if last == 0 {
            return None;
        }
        Some(Self::skipping(input, input.len(), last.leading_zeros() + 1))
    }

    /// Starts `skipped` bits, at most 8, before the end of the first `end` bytes.
    pub(super) fn skipping(input: &'a [u8], end: usize, skipped: u32) -> Self {
        let mut bits = Self { input, at: end, buffer: 0, left: 0, past: 0 };
        bits.refill();
        bits.consume(skipped);
        bits
    }

    /// Fills the buffer up to 56 bits or more.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if let Some(word) = self.input.get(..self.at).and_then(|before| before.last_chunk()) {
            let left = self.left & 63;
            self.buffer |= u64::from_le_bytes(*word) >> left;
            self.at = self.at.wrapping_sub(((63 - left) >> 3) as usize);
            self.left = left | 0x38;
        } else {
            self.refill_at_start();
        }
    }

    #[cold]
    #[inline(never)]
    fn refill_at_start(&mut self) {
        self.left &= 63;
        while self.left < 56 {
            if let Some(at) = self.at.checked_sub(1) {
                let byte = self.input.get(at).copied().unwrap_or(0);
                self.buffer |= u64::from(byte) << (56 - self.left);
                self.at = at;
            } else {
                self.past += 1;
            }
            self.left += 8;
        }
    }

    /// The highest `count` bits, at most 56.
    #[inline(always)]
    pub(super) fn peek(&self, count: u32) -> usize {
        // In two steps, because 64 is no shift.
        (self.buffer >> 1 >> (63_u32.wrapping_sub(count) & 63)) as usize
    }

    /// Drops `count` bits, at most what the last refill left.
    #[inline(always)]
    pub(super) fn consume(&mut self, count: u32) {
        self.buffer <<= count & 63;
        self.left = self.left.wrapping_sub(count);
    }

    /// Takes `count` bits, at most what the last refill left.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> usize {
        let bits = self.peek(count);
        self.consume(count);
        bits
    }

    /// Whether bits before the beginning have been consumed.
    pub(super) fn is_past_start(&self) -> bool {
        self.past * 8 > (self.left & 63) as usize
    }

    /// Whether exactly all bits have been consumed.
    pub(super) fn is_used_up(&self) -> bool {
        self.at == 0 && self.past * 8 == (self.left & 63) as usize
    }
}
