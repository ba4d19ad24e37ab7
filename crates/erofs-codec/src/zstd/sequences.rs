//! The sequences of a Zstandard block: how many literals, then how long a match, from how far back.

use super::backward::{Backward, top};
use super::fse::{Distribution, MAX_STATES};
use crate::Want;
use crate::copy::{SLACK, exact_match, wild_literals, wild_match};
use crate::error::{DecodeError, Result};

/// Base values and numbers of extra bits of the codes of literal lengths.
const LITERAL_LENGTHS: [(u32, u8); 36] = lengths(0, &[(16, 0), (4, 1), (2, 2), (2, 3), (1, 4)], 6);
/// Those of match lengths.
const MATCH_LENGTHS: [(u32, u8); 53] = lengths(3, &[(32, 0), (4, 1), (2, 2), (2, 3), (2, 4), (1, 5)], 7);
/// Those of offsets: 1 to 3 stand for an offset used before, n for n - 3.
const OFFSETS: [(u32, u8); 32] = lengths(1, &[], 0);

const fn lengths<const N: usize>(first: u32, runs: &[(usize, u8)], then: u8) -> [(u32, u8); N] {
    let mut all = [(0, 0); N];
    let (mut base, mut code, mut run) = (first, 0, 0);
    while run < runs.len() {
        let mut left = runs[run].0;
        while left > 0 {
            all[code] = (base, runs[run].1);
            base += 1 << runs[run].1;
            code += 1;
            left -= 1;
        }
        run += 1;
    }
    // From here on each code has one extra bit more than the one before.
    let mut extra = then;
    while code < N {
        all[code] = (base, extra);
        base = base.wrapping_add(1 << extra);
        extra += 1;
        code += 1;
    }
    all
}

const LITERAL_LENGTH_COUNTS: [i16; 36] = [
    4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1,
    -1, -1,
];
const MATCH_LENGTH_COUNTS: [i16; 53] = [
    1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
];
const OFFSET_COUNTS: [i16; 29] =
    [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1];

/// One of the three codes.
#[derive(Debug)]
pub struct Kind {
    /// Base values and numbers of extra bits.
    pub codes: &'static [(u32, u8)],
    /// Base-2 logarithm of the most states.
    pub max_log: u32,
    /// The distribution that needs no description.
    pub predefined: &'static [i16],
    /// Base-2 logarithm of its states.
    pub predefined_log: u32,
}

/// Those of literal lengths, offsets and match lengths.
pub const KINDS: [Kind; 3] = [
    Kind { codes: &LITERAL_LENGTHS, max_log: 9, predefined: &LITERAL_LENGTH_COUNTS, predefined_log: 6 },
    Kind { codes: &OFFSETS, max_log: 8, predefined: &OFFSET_COUNTS, predefined_log: 5 },
    Kind { codes: &MATCH_LENGTHS, max_log: 9, predefined: &MATCH_LENGTH_COUNTS, predefined_log: 6 },
];

/// What a state stands for.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The value, less its extra bits.
    value: u32,
    /// The next state, less its bits.
    next: u16,
    /// How many bits of the next state follow.
    next_bits: u8,
    /// How many bits of the value follow.
    extra: u8,
}

impl Entry {
    const NONE: Self = Self { value: 0, next: 0, next_bits: 0, extra: 0 };

    /// The state that follows, whose bits are the highest of `word`.
    #[inline(always)]
    fn next(self, word: u64) -> usize {
        usize::from(self.next).wrapping_add(top(word, u32::from(self.next_bits)) as usize)
    }
}

/// The states of one code.
#[derive(Debug)]
struct Table {
    entries: [Entry; MAX_STATES],
    log: u32,
    /// There is one: the block, or one of the frame before it, has said which.
    set: bool,
}

impl Table {
    const EMPTY: Self = Self { entries: [Entry::NONE; MAX_STATES], log: 0, set: false };

    fn build(&mut self, distribution: &Distribution, codes: &[(u32, u8)]) {
        self.log = distribution.log;
        let entries = &mut self.entries;
        distribution.for_each_state(|state, symbol, bits, base| {
            let (value, extra) = codes.get(usize::from(symbol)).copied().unwrap_or((0, 0));
            entries[state & (MAX_STATES - 1)] =
                Entry { value, next: base as u16, next_bits: bits as u8, extra };
        });
    }

    #[inline(always)]
    fn entry(&self, state: usize) -> Entry {
        self.entries[state & (MAX_STATES - 1)]
    }
}

/// The codes of the last block, and the last three offsets.
#[derive(Debug)]
pub(super) struct Sequences {
    /// Of literal lengths, offsets, match lengths.
    tables: [Table; 3],
    offsets: [u32; 3],
}

impl Default for Sequences {
    fn default() -> Self {
        Self { tables: [Table::EMPTY; 3], offsets: [0; 3] }
    }
}

/// Where a block's output goes.
pub(super) struct Target<'a> {
    pub(super) output: &'a mut [u8],
    pub(super) at: usize,
    pub(super) want: Want,
}

impl Target<'_> {
    /// Whether a prefix is complete.
    pub(super) fn is_full(&self) -> bool {
        self.want == Want::Prefix && self.at == self.output.len()
    }

    /// How much of `len` bytes fits; too much is an error unless a prefix is wanted.
    pub(super) fn fit(&self, len: usize) -> Result<usize> {
        let room = self.output.len() - self.at;
        if len > room && self.want == Want::Whole {
            return Err(DecodeError::Long { wanted: self.output.len() });
        }
        Ok(len.min(room))
    }

    /// Appends as much of `bytes` as fits.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let len = self.fit(bytes.len())?;
        self.output[self.at..][..len].copy_from_slice(&bytes[..len]);
        self.at += len;
        Ok(())
    }
}

impl Sequences {
    /// Forgets the last frame.
    pub(super) fn reset(&mut self) {
        self.offsets = [1, 4, 8];
        for table in &mut self.tables {
            table.set = false;
        }
    }

    /// Carries out the sequences in `input`, with the literals at the beginning of `literals`:
    /// `count` of them; what is behind may be read, not used.
    pub(super) fn execute(
        &mut self,
        input: &[u8],
        literals: &[u8],
        count: usize,
        target: &mut Target<'_>,
    ) -> Result<()> {
        let invalid = |what| DecodeError::Invalid { what, produced: target.at };
        let header = invalid("the header of a Zstandard block's sequences is cut off");
        let (sequences, input) = match *input {
            [0] => (0, &[][..]),
            [0, ..] => return Err(invalid("bytes behind a Zstandard block without sequences")),
            [few @ 1..=127, ref rest @ ..] => (usize::from(few), rest),
            [255, low, high, ref rest @ ..] => (usize::from(u16::from_le_bytes([low, high])) + 0x7f00, rest),
            [high @ 128..=254, low, ref rest @ ..] => {
                (usize::from(u16::from_be_bytes([high - 128, low])), rest)
            }
            _ => return Err(header),
        };
        if sequences == 0 {
            return target.append(&literals[..count]);
        }
        let (&modes, input) = input.split_first().ok_or(header)?;
        let input = self.read_tables(modes, input).ok_or(invalid("a code of Zstandard sequences is none"))?;
        let bits = Backward::new(input).ok_or(invalid("Zstandard sequences without an end mark"))?;
        self.run(sequences, bits, literals, count, target)
    }

    /// Reads the codes that the block brings with it; gives what is behind them.
    fn read_tables<'i>(&mut self, modes: u8, mut input: &'i [u8]) -> Option<&'i [u8]> {
        if modes & 3 != 0 {
            return None;
        }
        for ((kind, table), shift) in KINDS.iter().zip(&mut self.tables).zip([6, 4, 2]) {
            match modes >> shift & 3 {
                0 => {
                    let distribution = Distribution::predefined(kind.predefined, kind.predefined_log);
                    table.build(&distribution, kind.codes);
                }
                1 => {
                    let (&symbol, rest) = input.split_first()?;
                    let (value, extra) = *kind.codes.get(usize::from(symbol))?;
                    table.log = 0;
                    table.entries[0] = Entry { value, extra, ..Entry::NONE };
                    input = rest;
                }
                2 => {
                    let (distribution, size) = Distribution::read(input, kind.codes.len(), kind.max_log)?;
                    table.build(&distribution, kind.codes);
                    input = input.get(size..)?;
                }
                _ => {
                    if !table.set {
                        return None;
                    }
                }
            }
            table.set = true;
        }
        Some(input)
    }

    fn run(
        &mut self,
        sequences: usize,
        mut bits: Backward<'_>,
        literals: &[u8],
        count: usize,
        target: &mut Target<'_>,
    ) -> Result<()> {
        let states = self.tables.each_ref().map(|table| bits.take(table.log) as usize);
        let mut reader = Reader { tables: &self.tables, bits, states, offsets: self.offsets };
        let mut batch = [Sequence::default(); BATCH];
        let (mut left, mut used) = (sequences, 0);
        while left > 0 {
            let batch = &mut batch[..left.min(BATCH)];
            left -= batch.len();
            reader.read(batch, left == 0);
            used += target.execute(batch, &literals[used..], count - used)?;
            if target.is_full() {
                // A prefix may end before the bits do, but not behind them.
                return if reader.bits.is_past_start() { Err(no_end(target.at)) } else { Ok(()) };
            }
        }
        self.offsets = reader.offsets;
        if !reader.bits.is_used_up() {
            return Err(no_end(target.at));
        }
        target.append(&literals[used..count])
    }
}

fn no_end(produced: usize) -> DecodeError {
    DecodeError::Invalid { what: "Zstandard sequences do not end with their bits", produced }
}

/// Sequences that are read before they are carried out: reading waits for one table after the
/// other, copying for the memory, and each has the registers for itself.
const BATCH: usize = 64;

/// So many literals, then a match.
#[derive(Clone, Copy, Debug, Default)]
struct Sequence {
    literals: u32,
    matched: u32,
    offset: u32,
}

/// The states between two sequences.
struct Reader<'a> {
    tables: &'a [Table; 3],
    bits: Backward<'a>,
    states: [usize; 3],
    offsets: [u32; 3],
}

impl Reader<'_> {
    /// Reads as many sequences as `batch` has places; no states follow the last one of a block.
    #[inline(never)]
    fn read(&mut self, batch: &mut [Sequence], last: bool) {
        let [lengths, distances, matches] = self.tables;
        let [mut length_state, mut distance_state, mut match_state] = self.states;
        let mut bits = self.bits;
        let mut offsets = self.offsets;
        let followed = batch.len() - usize::from(last);
        for (index, sequence) in batch.iter_mut().enumerate() {
            let length_entry = lengths.entry(length_state);
            let distance_entry = distances.entry(distance_state);
            let match_entry = matches.entry(match_state);
            let (offset_extra, match_extra, length_extra) = (
                u32::from(distance_entry.extra),
                u32::from(match_entry.extra),
                u32::from(length_entry.extra),
            );
            // All bits are cut out of one word, the next states' at once behind the extra bits.
            let mut word = bits.word();
            let value = distance_entry.value.wrapping_add(top(word, offset_extra));
            word <<= offset_extra & 63;
            let matched = match_entry.value.wrapping_add(top(word, match_extra));
            word <<= match_extra & 63;
            bits.consume(offset_extra.wrapping_add(match_extra));
            // The states take 26 bits at most.
            if offset_extra.wrapping_add(match_extra).wrapping_add(length_extra) > 30 {
                word = bits.word();
            }
            let literals = length_entry.value.wrapping_add(top(word, length_extra));
            word <<= length_extra & 63;
            bits.consume(length_extra);
            let offset = if value > 3 {
                offsets = [value - 3, offsets[0], offsets[1]];
                value - 3
            } else {
                again(&mut offsets, value - u32::from(literals != 0))
            };
            *sequence = Sequence { literals, matched, offset };
            if index < followed {
                length_state = length_entry.next(word);
                word <<= length_entry.next_bits & 63;
                match_state = match_entry.next(word);
                word <<= match_entry.next_bits & 63;
                distance_state = distance_entry.next(word);
                let nexts =
                    [length_entry, match_entry, distance_entry].map(|entry| u32::from(entry.next_bits));
                bits.consume(nexts[0].wrapping_add(nexts[1]).wrapping_add(nexts[2]));
            }
        }
        self.bits = bits;
        self.offsets = offsets;
        self.states = [length_state, distance_state, match_state];
    }
}

impl Target<'_> {
    /// Carries out sequences with the first `count` of `literals`, behind which there is room to
    /// read; gives the number of those used.
    #[inline(never)]
    fn execute(&mut self, batch: &[Sequence], literals: &[u8], count: usize) -> Result<usize> {
        let output = &mut *self.output;
        let (mut op, mut used) = (self.at, 0);
        for sequence in batch {
            let (length, matched) = (sequence.literals as usize, sequence.matched as usize);
            let offset = sequence.offset as usize;
            if length > count - used {
                let what = "Zstandard sequences use more literals than there are";
                return Err(DecodeError::Invalid { what, produced: op });
            }
            let at = op + length;
            let end = at + matched;
            let source = &literals[used..];
            let found = if end + SLACK <= output.len() {
                wild_literals(output, op, source, length);
                wild_match(output, at, offset, matched)
            } else {
                let room = output.len() - op;
                output[op..][..length.min(room)].copy_from_slice(&source[..length.min(room)]);
                if end > output.len() && self.want == Want::Whole {
                    return Err(DecodeError::Long { wanted: output.len() });
                }
                if length >= room {
                    self.at = output.len();
                    return Ok(used);
                }
                exact_match(output, at, offset, matched.min(room - length))
            };
            if !found {
                return Err(DecodeError::Distance { produced: at, distance: offset });
            }
            if end > output.len() {
                self.at = output.len();
                return Ok(used);
            }
            op = end;
            used += length;
        }
        self.at = op;
        Ok(used)
    }
}

/// Takes one of the last three offsets, or the last one less 1, and moves it to the front. 0 if
/// there is none.
#[inline(always)]
fn again(offsets: &mut [u32; 3], which: u32) -> u32 {
    let [first, second, third] = *offsets;
    *offsets = match which {
        0 => return first,
        1 => [second, first, third],
        2 => [third, first, second],
        _ => [first.wrapping_sub(1), first, second],
    };
    offsets[0]
}
