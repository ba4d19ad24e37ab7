//! Decoding tables of prefix codes.
//!
//! The next bits of the stream are the index of an entry that says what to do and how many bits
//! that takes. Codes longer than the index lead to a second table behind the first.

/// The entry is a literal.
pub(super) const LITERAL: u32 = 1 << 31;
/// The entry is neither a literal nor a length: one of the next three.
pub(super) const SPECIAL: u32 = 1 << 15;
/// The entry names a second table: where it begins from bit 16 on, how many bits index it in bits
/// 8 to 11.
pub(super) const SECOND: u32 = 1 << 14;
/// The entry ends the block.
pub(super) const END: u32 = 1 << 13;
/// No code, or one that has no meaning.
pub(super) const INVALID: u32 = 1 << 12;

/// Bits that index the first table of literals and lengths.
pub(super) const LITLEN_BITS: u32 = 11;
/// Bits that index the first table of distances.
pub(super) const DISTANCE_BITS: u32 = 8;
/// Bits that index the table of code lengths: no second table.
pub(super) const PRECODE_BITS: u32 = 7;
/// 2342 entries are the most that 288 symbols need with codes up to 15 bits; a power of two makes
/// every index good by a mask.
pub(super) const LITLEN_ENTRIES: usize = 4096;
/// 402 entries are the most that 32 symbols need.
pub(super) const DISTANCE_ENTRIES: usize = 512;
/// One for each index.
pub(super) const PRECODE_ENTRIES: usize = 128;

const MAX_LEN: usize = 15;

/// What each symbol means: a base from bit 16 on and the number of extra bits. The length of the
/// code is added in the low byte (all that is consumed) and in bits 8 to 11 (where the extra bits
/// begin).
pub(super) static LITLEN_MEANING: [u32; 288] = litlen_meaning();
/// As for lengths, of distances.
pub(super) static DISTANCE_MEANING: [u32; 32] = distance_meaning();
/// The code lengths themselves.
pub(super) static PRECODE_MEANING: [u32; 19] = precode_meaning();

const fn litlen_meaning() -> [u32; 288] {
    let mut meaning = [SPECIAL | INVALID; 288];
    let mut symbol = 0;
    while symbol < 256 {
        meaning[symbol] = LITERAL | (symbol as u32) << 16;
        symbol += 1;
    }
    meaning[256] = SPECIAL | END;
    let (mut base, mut symbol) = (3, 257);
    while symbol < 285 {
        let extra = if symbol < 265 { 0 } else { (symbol - 261) as u32 / 4 };
        meaning[symbol] = base << 16 | extra;
        base += 1 << extra;
        symbol += 1;
    }
    meaning[285] = 258 << 16;
    meaning
}

const fn distance_meaning() -> [u32; 32] {
    let mut meaning = [SPECIAL | INVALID; 32];
    let (mut base, mut symbol) = (1, 0);
    while symbol < 30 {
        let extra = if symbol < 4 { 0 } else { (symbol as u32 - 2) / 2 };
        meaning[symbol] = base << 16 | extra;
        base += 1 << extra;
        symbol += 1;
    }
    meaning
}

const fn precode_meaning() -> [u32; 19] {
    let mut meaning = [0; 19];
    let mut symbol = 0;
    while symbol < 19 {
        meaning[symbol] = (symbol as u32) << 16;
        symbol += 1;
    }
    meaning
}

/// Fills `table` for the code with these lengths, of which 0 means that a symbol has none.
///
/// `None` if the lengths are no complete prefix code. No code at all, or a single one of one bit,
/// is borne, as zlib bears it.
pub(super) fn build<const N: usize>(
    table: &mut [u32; N],
    table_bits: u32,
    lengths: &[u8],
    meaning: &[u32],
) -> Option<()> {
    let mut counts = [0_u32; MAX_LEN + 1];
    for &length in lengths {
        counts[usize::from(length) & MAX_LEN] += 1;
    }
    counts[0] = 0;
    let mut space: u32 = 0;
    let mut starts = [0_u32; MAX_LEN + 2];
    for length in 1..=MAX_LEN {
        starts[length + 1] = starts[length] + counts[length];
        space += counts[length] << (MAX_LEN - length);
    }
    let mut sorted = [0_u16; 288];
    for (symbol, &length) in lengths.iter().enumerate() {
        if length != 0 {
            let place = &mut starts[usize::from(length) & MAX_LEN];
            *sorted.get_mut(*place as usize)? = symbol as u16;
            *place += 1;
        }
    }
    let entry = |symbol: u16, length: u32| {
        meaning.get(usize::from(symbol)).map_or(SPECIAL | INVALID, |meaning| meaning + (length << 8) + length)
    };
    let whole = 1 << MAX_LEN;
    if space != whole {
        if space > whole || counts.iter().sum::<u32>() != counts[1] {
            return None;
        }
        // Nothing of the invalid entry is consumed: the stream ends there.
        table[..1 << table_bits].fill(SPECIAL | INVALID);
        if counts[1] == 1 {
            let only = entry(sorted[0], 1);
            table[..1 << table_bits].iter_mut().step_by(2).for_each(|slot| *slot = only);
        }
        return Some(());
    }
    fill(table, table_bits, &counts, &sorted, entry);
    Some(())
}

/// Fills the tables of a complete code. `code` counts up in the order of the codes, with its bits
/// reversed because streams begin with a code's highest.
fn fill<const N: usize>(
    table: &mut [u32; N],
    table_bits: u32,
    counts: &[u32; MAX_LEN + 1],
    sorted: &[u16; 288],
    entry: impl Fn(u16, u32) -> u32,
) {
    let mut symbols = sorted.iter().copied();
    let mut code = 0_usize;
    // The first table for codes up to `length` bits is doubled for each further bit.
    let mut size = 1_usize;
    for length in 1..=table_bits {
        table.copy_within(0..size, size);
        size *= 2;
        for symbol in symbols.by_ref().take(counts[length as usize] as usize) {
            table[code & (N - 1)] = entry(symbol, length);
            code = next_code(code, size);
        }
    }
    let first = size - 1;
    let mut used = size;
    let mut prefix = usize::MAX;
    let mut start = 0;
    for length in table_bits + 1..=MAX_LEN as u32 {
        let mut left = counts[length as usize];
        for symbol in symbols.by_ref().take(left as usize) {
            if code & first != prefix {
                prefix = code & first;
                start = used;
                // The second table must have room for all codes with this prefix.
                let mut second_bits = length - table_bits;
                let mut space = left;
                while space < 1 << second_bits && second_bits + table_bits < MAX_LEN as u32 {
                    second_bits += 1;
                    space = (space << 1) + counts[(table_bits + second_bits) as usize];
                }
                used = start + (1 << second_bits);
                table[prefix & (N - 1)] =
                    SPECIAL | SECOND | (start as u32) << 16 | second_bits << 8 | table_bits;
            }
            let second = entry(symbol, length - table_bits);
            let mut at = start + (code >> table_bits);
            while at < used {
                table[at & (N - 1)] = second;
                at += 1 << (length - table_bits);
            }
            code = next_code(code, 1 << length);
            left -= 1;
        }
    }
}

/// The code after `code` among those of one length, bits reversed; `size` is 2 to that length.
/// After the last one any value does.
#[inline(always)]
fn next_code(code: usize, size: usize) -> usize {
    let zeros = !code & (size - 1);
    if zeros == 0 {
        return code;
    }
    let bit = 1 << zeros.ilog2();
    code & (bit - 1) | bit
}
