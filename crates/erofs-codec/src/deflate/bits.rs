//! Bits from the low end of a stream.

/// A reader that keeps at least 56 bits at hand after each refill.
///
/// At the end of the input it goes on with zeros and counts them: what has been decoded is good as
/// long as no bit of theirs has been consumed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bits<'a> {
    input: &'a [u8],
    at: usize,
    /// The next bits, from the lowest. Those above `left` are either zeros or already right.
    pub(super) buffer: u64,
    /// The low byte counts the bits in the buffer; what is above is left over from subtractions.
    left: u32,
    /// Zero bytes made up.
    past: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0, buffer: 0, left: 0, past: 0 }
    }

    /// Fills the buffer up to 56 bits or more.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if let Some(word) = self.input.get(self.at..).and_then(|rest| rest.first_chunk()) {
            let left = self.left & 63;
            self.buffer |= u64::from_le_bytes(*word) << left;
            self.at = self.at.wrapping_add(((63 - left) >> 3) as usize);
            self.left = left | 0x38;
        } else {
            *self = self.refilled_at_end();
        }
    }

    /// By value, so that the fields can stay in registers elsewhere.
    #[cold]
    #[inline(never)]
    fn refilled_at_end(mut self) -> Self {
        self.left &= 63;
        while self.left < 56 {
            if let Some(&byte) = self.input.get(self.at) {
                self.buffer |= u64::from(byte) << self.left;
                self.at += 1;
            } else {
                self.past += 1;
            }
            self.left += 8;
        }
        self
    }

    /// Whether a refill would find eight bytes more.
    #[inline(always)]
    pub(super) fn plenty(&self) -> bool {
        self.at.wrapping_add(8) <= self.input.len()
    }

    /// Drops as many bits as the low byte of `entry` says, at most 56.
    #[inline(always)]
    pub(super) fn consume(&mut self, entry: u32) {
        self.buffer >>= entry & 63;
        self.left = self.left.wrapping_sub(entry);
    }

    /// Bits in the buffer.
    #[inline(always)]
    pub(super) fn available(&self) -> u32 {
        self.left & 63
    }

    /// Takes `count` bits, at most 32, which the last refill must have left.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        let bits = self.buffer & ((1 << count) - 1);
        self.consume(count);
        bits as u32
    }

    /// Whether bits behind the end of the input have been consumed.
    pub(super) fn is_past_end(&self) -> bool {
        self.past * 8 > self.available() as usize
    }

    /// Goes to the next whole byte and takes `count` bytes; `None` if there are fewer.
    pub(super) fn take_bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        // All bytes of the buffer go back, of which those made up were never taken.
        let start = (self.at + self.past).checked_sub(self.available() as usize / 8)?;
        let bytes = self.input.get(start..)?.get(..count)?;
        *self = Self { at: start + count, ..Self::new(self.input) };
        Some(bytes)
    }
}
