//! Tables of Zstandard's finite state entropy coder.

/// More symbols than any code has: those of match lengths.
pub(super) const MAX_SYMBOLS: usize = 53;
/// The largest number of states.
pub const MAX_STATES: usize = 512;

/// How often each symbol occurs among the states of a table.
#[derive(Debug)]
pub struct Distribution {
    /// -1 stands for less than once: the symbol has one state, but from the end of the table.
    pub counts: [i16; MAX_SYMBOLS],
    /// Base-2 logarithm of the number of states.
    pub log: u32,
}

impl Distribution {
    /// A distribution that the format defines.
    pub fn predefined(counts: &[i16], log: u32) -> Self {
        let mut all = [0; MAX_SYMBOLS];
        all.iter_mut().zip(counts).for_each(|(slot, count)| *slot = *count);
        Self { counts: all, log }
    }

    /// Reads the distribution of at most `symbols` symbols and `max_log`; with it the number of
    /// bytes that it takes. `None` if it is none.
    pub fn read(input: &[u8], symbols: usize, max_log: u32) -> Option<(Self, usize)> {
        let mut bits = Forward { input, at: 0 };
        let log = bits.take(4) + 5;
        if log > max_log {
            return None;
        }
        let mut counts = [0; MAX_SYMBOLS];
        let mut symbol = 0;
        let mut remaining = 1_u32 << log;
        while remaining > 0 {
            // A number up to `remaining + 1`: the lowest have one bit less than the others.
            let width = (remaining + 1).ilog2() + 1;
            let spare = (1 << width) - 1 - (remaining + 1);
            let low = bits.peek(width - 1);
            let value = if low < spare {
                bits.at += width as usize - 1;
                low
            } else {
                let value = bits.take(width);
                if value >> (width - 1) != 0 { value - spare } else { value }
            };
            let count = i16::try_from(value).ok()? - 1;
            *counts.get_mut(symbol).filter(|_| symbol < symbols)? = count;
            symbol += 1;
            remaining = remaining.checked_sub(u32::from(count.unsigned_abs()))?;
            // Two bits say how many more symbols do not occur; 3 means that two more bits follow.
            let mut zeros = if count == 0 { 3 } else { 0 };
            while zeros == 3 && symbol <= symbols {
                zeros = bits.take(2);
                symbol += zeros as usize;
            }
        }
        let bytes = bits.at.div_ceil(8);
        (bytes <= input.len()).then_some((Self { counts, log }, bytes))
    }

    /// Calls `put` for each state with its symbol, the number of bits that lead from it to the next
    /// state, and the state that they are added to.
    #[inline(always)]
    pub fn for_each_state(&self, mut put: impl FnMut(usize, u8, u32, u32)) {
        let size = 1_usize << self.log;
        let mask = size - 1;
        let mut symbols = [0_u8; MAX_STATES];
        let mut next = [0_u32; MAX_SYMBOLS];
        let mut high = size;
        for (symbol, (&count, next)) in self.counts.iter().zip(&mut next).enumerate() {
            *next = u32::from(count.unsigned_abs());
            if count < 0 {
                high = high.wrapping_sub(1) & mask;
                symbols[high & (MAX_STATES - 1)] = symbol as u8;
            }
        }
        let step = (size >> 1) + (size >> 3) + 3;
        let mut at = 0;
        for (symbol, &count) in self.counts.iter().enumerate() {
            for _ in 0..count {
                symbols[at & (MAX_STATES - 1)] = symbol as u8;
                at = (at + step) & mask;
                // The end of the table belongs to the rare ones.
                while at >= high {
                    at = (at + step) & mask;
                }
            }
        }
        for (state, &symbol) in symbols.iter().enumerate().take(size) {
            let Some(next) = next.get_mut(usize::from(symbol)) else { continue };
            let bits = self.log.wrapping_sub((*next).max(1).ilog2());
            put(state, symbol, bits, (*next << bits).wrapping_sub(size as u32));
            *next += 1;
        }
    }
}

/// Bits from the lowest of the first byte; zeros behind the end.
struct Forward<'a> {
    input: &'a [u8],
    at: usize,
}

impl Forward<'_> {
    /// At most 16 bits.
    fn peek(&self, count: u32) -> u32 {
        let first = self.at / 8;
        let byte = |index: usize| u32::from(self.input.get(first + index).copied().unwrap_or(0));
        let word = byte(0) | byte(1) << 8 | byte(2) << 16;
        word >> (self.at % 8) & ((1 << count) - 1)
    }

    fn take(&mut self, count: u32) -> u32 {
        let bits = self.peek(count);
        self.at += count as usize;
        bits
    }
}
