//! Huffman codes of DEFLATE: shorter ones first, and in the order of their symbols.

/// Bits that are looked up at once; longer codes, which are rare, are found bit by bit.
const FAST: usize = 10;
const LONGEST: usize = 15;

/// A code for symbols from 0 on.
pub(super) struct Code {
    /// Symbol and length for the next bits; length 0 if the code is longer or there is none.
    fast: Box<[(u16, u8); 1 << FAST]>,
    /// How many codes of each length there are.
    counts: [u16; LONGEST + 1],
    /// Symbols in the order of their codes.
    symbols: Vec<u16>,
    lengths: Vec<u8>,
}

impl Code {
    /// The code whose symbols have these lengths, 0 for those that it doesn't have.
    pub(super) fn new(lengths: &[u8]) -> Self {
        let mut counts = [0; LONGEST + 1];
        for length in lengths {
            counts[usize::from(*length)] += 1;
        }
        counts[0] = 0;
        let mut symbols: Vec<u16> =
            (0..=u16::MAX).zip(lengths).filter(|(_, l)| **l > 0).map(|(s, _)| s).collect();
        symbols.sort_by_key(|symbol| (lengths[usize::from(*symbol)], *symbol));
        let mut code =
            Self { fast: Box::new([(0, 0); 1 << FAST]), counts, symbols, lengths: lengths.to_vec() };
        let mut next = 0u32;
        let mut at = 0;
        for (length, count) in counts.iter().enumerate().take(FAST + 1).skip(1) {
            next <<= 1;
            for _ in 0..*count {
                let start = reversed(next, length) as usize;
                if let Some(symbol) = code.symbols.get(at) {
                    for place in (start..1 << FAST).step_by(1 << length) {
                        code.fast[place] = (*symbol, u8::try_from(length).unwrap_or(0));
                    }
                }
                next += 1;
                at += 1;
            }
        }
        code
    }

    /// The symbol that `bits` begin with, the first bit lowest, and the length of its code.
    #[inline]
    pub(super) fn decode(&self, bits: u32) -> Option<(usize, usize)> {
        let (symbol, length) = self.fast[bits as usize & ((1 << FAST) - 1)];
        if length > 0 {
            return Some((symbol.into(), length.into()));
        }
        let (mut code, mut first, mut index) = (0, 0, 0);
        for length in 1..=LONGEST {
            code |= bits >> (length - 1) & 1;
            let count = u32::from(self.counts[length]);
            if code < first + count {
                let symbol = self.symbols.get((index + code - first) as usize)?;
                return Some(((*symbol).into(), length));
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }

    /// The code of a symbol, its first bit lowest, and its length.
    pub(super) fn code_of(&self, symbol: usize) -> Option<(u32, usize)> {
        let length = usize::from(*self.lengths.get(symbol)?);
        if length == 0 {
            return None;
        }
        let mut first = 0;
        for shorter in 1..length {
            first = (first + u32::from(self.counts[shorter])) << 1;
        }
        let before = self.lengths[..symbol].iter().filter(|other| usize::from(**other) == length).count();
        Some((reversed(first + u32::try_from(before).ok()?, length), length))
    }
}

/// The lowest `length` bits in reverse.
fn reversed(code: u32, length: usize) -> u32 {
    code.reverse_bits() >> (32 - length)
}
