//! Bits from the end of a stream, as Zstandard's entropy coders leave them.

/// A place in a stream that is read from the highest bit of its last byte to the lowest of its
/// first. Before the beginning there are zeros.
#[derive(Clone, Copy, Debug)]
pub struct Backward<'a> {
    input: &'a [u8],
    /// Bits before the place; two's complement of those missing if it is before the beginning.
    left: usize,
}

impl<'a> Backward<'a> {
    /// Starts below the mark, the highest bit that is set in the last byte; `None` without one.
    pub fn new(input: &'a [u8]) -> Option<Self> {
        let last = *input.last()?;
        (last != 0).then(|| Self { input, left: input.len() * 8 - last.leading_zeros() as usize - 1 })
    }

    /// The next bits, from the highest: 57 or more.
    #[inline(always)]
    pub fn word(&self) -> u64 {
        let end = self.left.wrapping_add(7) >> 3;
        match self.input.get(..end).and_then(|before| before.last_chunk()) {
            Some(word) => u64::from_le_bytes(*word) << (self.left.wrapping_neg() & 7),
            None => self.last_word(),
        }
    }

    /// The next bits as long as there are eight bytes; behind them a 1, so that the zeros shifted in
    /// behind that tell how many were consumed.
    #[inline(always)]
    pub fn marked_word(&self) -> Option<u64> {
        let end = self.left.wrapping_add(7) >> 3;
        let word = u64::from_le_bytes(*self.input.get(..end)?.last_chunk()?);
        Some((word | 1) << (self.left.wrapping_neg() & 7))
    }

    /// Drops what was shifted out of a marked word.
    #[inline(always)]
    pub fn advance(&mut self, marked: u64) {
        // The word began at a whole byte.
        self.left = (self.left.wrapping_add(7) & !7).wrapping_sub(marked.trailing_zeros() as usize);
    }

    /// The bits before the first whole word, and zeros.
    #[cold]
    #[inline(never)]
    fn last_word(&self) -> u64 {
        let Some(before) = self.input.get(..self.left.div_ceil(8)).filter(|_| !self.is_past_start()) else {
            return 0;
        };
        let mut word = [0; 8];
        word[8 - before.len().min(8)..].copy_from_slice(&before[before.len().saturating_sub(8)..]);
        u64::from_le_bytes(word) << (self.left.wrapping_neg() & 7)
    }

    /// Drops `count` bits.
    #[inline(always)]
    pub fn consume(&mut self, count: u32) {
        self.left = self.left.wrapping_sub(count as usize);
    }

    /// Takes `count` bits, at most 32.
    #[inline(always)]
    pub fn take(&mut self, count: u32) -> u32 {
        let bits = top(self.word(), count);
        self.consume(count);
        bits
    }

    /// How many bits there are before the place, unless it is before the beginning.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Whether bits before the beginning have been consumed.
    pub fn is_past_start(&self) -> bool {
        self.left.cast_signed() < 0
    }

    /// Whether exactly all bits have been consumed.
    pub fn is_used_up(&self) -> bool {
        self.left == 0
    }
}

/// The highest `count` bits of `word`, at most 32.
#[inline(always)]
pub(super) fn top(word: u64, count: u32) -> u32 {
    // In two steps, because 64 is no shift.
    (word >> 1 >> (!count & 63)) as u32
}
