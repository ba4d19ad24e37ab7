//! The codes that a block is written in: its own, or those of the blocks before it.

use erofs_codec::zstd_parts::{Distribution, KINDS, MAX_STATES, read_description};

/// Where the codes are described that are in force.
#[derive(Clone, Copy, Default)]
pub(super) struct Descriptions<'a> {
    literals: Option<&'a [u8]>,
    /// Of literal lengths, offsets and match lengths, with the way that each is described.
    sequences: [Option<(u8, &'a [u8])>; 3],
}

/// A compressed block, taken apart.
pub(super) struct Parts<'a> {
    /// 0: as they are, 1: one byte many times, 2: in a code that is described, 3: in the one before.
    pub(super) literals: u8,
    pub(super) literal_count: usize,
    /// The description of the literals' code, or the one byte.
    pub(super) description: &'a [u8],
    pub(super) sequence_count: usize,
    /// How the codes of the sequences are described, and their descriptions.
    pub(super) modes: u8,
    pub(super) descriptions: &'a [u8],
    pub(super) sequences: &'a [u8],
}

impl Parts<'_> {
    /// Whether it is written in codes of blocks before it.
    pub(super) fn leans_on_others(block: &[u8]) -> bool {
        let mut none = Descriptions::default();
        none.read(block).is_some_and(|parts| {
            parts.literals == 3
                || parts.sequence_count > 0 && [6, 4, 2].iter().any(|shift| parts.modes >> shift & 3 == 3)
        })
    }
}

impl<'a> Descriptions<'a> {
    /// Takes a block apart, and what it describes into force.
    pub(super) fn read(&mut self, block: &'a [u8]) -> Option<Parts<'a>> {
        let first = *block.first()?;
        let (literals, format) = (first & 3, first >> 2 & 3);
        let word = |bytes: usize| {
            let mut word = [0; 8];
            word[..bytes].copy_from_slice(block.get(..bytes)?);
            usize::try_from(u64::from_le_bytes(word)).ok()
        };
        let (literal_count, size, header) = if literals < 2 {
            let (count, header) = match format {
                1 => (word(2)? >> 4, 2),
                3 => (word(3)? >> 4, 3),
                _ => (usize::from(first) >> 3, 1),
            };
            (count, if literals == 0 { count } else { 1 }, header)
        } else {
            // Two numbers of equal width behind the first four bits.
            let (header, width) = [(3, 10), (3, 10), (4, 14), (5, 18)][usize::from(format)];
            let numbers = word(header)? >> 4;
            (numbers & ((1 << width) - 1), numbers >> width, header)
        };
        let (streams, rest) = block.get(header..)?.split_at_checked(size)?;
        let description = match literals {
            1 => streams,
            2 => {
                let (_, length) = read_description(streams, &mut [0; 256])?;
                let description = streams.get(..length)?;
                self.literals = Some(description);
                description
            }
            _ => &[],
        };
        let (sequence_count, rest) = match *rest {
            [few @ 0..=127, ref rest @ ..] => (usize::from(few), rest),
            [255, low, high, ref rest @ ..] => (usize::from(u16::from_le_bytes([low, high])) + 0x7f00, rest),
            [high @ 128..=254, low, ref rest @ ..] => {
                (usize::from(u16::from_be_bytes([high - 128, low])), rest)
            }
            _ => return None,
        };
        let mut parts = Parts {
            literals,
            literal_count,
            description,
            sequence_count,
            modes: 0,
            descriptions: &[],
            sequences: &[],
        };
        if sequence_count == 0 {
            return Some(parts);
        }
        let (&modes, rest) = rest.split_first()?;
        let mut at = 0;
        for ((kind, shift), described) in KINDS.iter().zip([6, 4, 2]).zip(&mut self.sequences) {
            let mode = modes >> shift & 3;
            let length = match mode {
                0 | 3 => 0,
                1 => 1,
                _ => Distribution::read(rest.get(at..)?, kind.codes.len(), kind.max_log)?.1,
            };
            if mode < 3 {
                *described = Some((mode, rest.get(at..at + length)?));
            }
            at += length;
        }
        parts.modes = modes;
        (parts.descriptions, parts.sequences) = rest.split_at_checked(at)?;
        Some(parts)
    }

    /// The code of the literals.
    pub(super) fn literal_code(&self) -> Option<LiteralCode> {
        LiteralCode::read(self.literals?)
    }

    /// The tables of literal lengths, offsets and match lengths.
    pub(super) fn tables(&self) -> Option<[Table; 3]> {
        let table = |nth: usize| {
            let (mode, description) = self.sequences[nth]?;
            let kind = &KINDS[nth];
            let distribution = match mode {
                0 => Distribution::predefined(kind.predefined, kind.predefined_log),
                1 => {
                    let (value, extra) = *kind.codes.get(usize::from(*description.first()?))?;
                    return Some(Table { states: vec![State { value, extra, ..State::default() }], log: 0 });
                }
                _ => Distribution::read(description, kind.codes.len(), kind.max_log)?.0,
            };
            Some(Table::new(&distribution, kind.codes))
        };
        Some([table(0)?, table(1)?, table(2)?])
    }
}

/// What a state stands for.
#[derive(Clone, Copy, Default)]
pub(super) struct State {
    /// The value, less its extra bits.
    pub(super) value: u32,
    /// How many bits of the value follow.
    pub(super) extra: u8,
    /// How many bits of the next state follow, and what they are added to.
    pub(super) next_bits: u8,
    pub(super) next: u16,
}

/// The states of a code.
pub(super) struct Table {
    states: Vec<State>,
    pub(super) log: u32,
}

impl Table {
    fn new(distribution: &Distribution, codes: &[(u32, u8)]) -> Self {
        let mut states = vec![State::default(); MAX_STATES];
        distribution.for_each_state(|state, symbol, bits, base| {
            let (value, extra) = codes.get(usize::from(symbol)).copied().unwrap_or_default();
            let next_bits = u8::try_from(bits).unwrap_or(0);
            states[state] = State { value, extra, next_bits, next: u16::try_from(base).unwrap_or(0) };
        });
        Self { states, log: distribution.log }
    }

    #[inline]
    pub(super) fn state(&self, number: u32) -> Option<State> {
        self.states.get(number as usize).copied()
    }
}

/// A code for bytes.
pub(super) struct LiteralCode {
    /// Code, and its length in bits; length 0 for bytes that have none.
    codes: [(u16, u8); 256],
}

impl LiteralCode {
    fn read(description: &[u8]) -> Option<Self> {
        let mut weights = [0_u8; 256];
        let (count, _) = read_description(description, &mut weights)?;
        let sum: u32 = weights.get(..count)?.iter().map(|weight| (1 << weight) >> 1).sum();
        let bits = sum.checked_ilog2()? + 1;
        // The last weight is not written, because it makes the sum a power of two.
        *weights.get_mut(count)? = u8::try_from(((1 << bits) - sum).ilog2() + 1).ok()?;
        let mut codes = [(0, 0); 256];
        let mut next = 0_u32;
        for weight in 1..=u8::try_from(bits).ok()? {
            for (code, _) in codes.iter_mut().zip(weights).filter(|(_, own)| *own == weight) {
                let length = u8::try_from(bits).ok()? + 1 - weight;
                *code = (u16::try_from(next >> (weight - 1)).ok()?, length);
                next += 1 << (weight - 1);
            }
        }
        Some(Self { codes })
    }

    /// Bits of a byte's code.
    #[inline]
    pub(super) fn length(&self, byte: u8) -> usize {
        self.codes[usize::from(byte)].1.into()
    }

    /// Writes bytes as one stream, which is read from its end.
    pub(super) fn write(&self, bytes: &[u8], out: &mut Vec<u8>) {
        let (mut word, mut bits) = (0_u64, 0);
        for byte in bytes.iter().rev() {
            let (code, length) = self.codes[usize::from(*byte)];
            word |= u64::from(code) << bits;
            bits += u32::from(length);
            if bits >= 32 {
                out.extend_from_slice(&word.to_le_bytes()[..4]);
                word >>= 32;
                bits -= 32;
            }
        }
        // The mark above the last bit.
        word |= 1 << bits;
        out.extend_from_slice(&word.to_le_bytes()[..(bits as usize + 8) / 8]);
    }
}
