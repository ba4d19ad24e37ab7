//! Copies into the slice that is being filled.
//!
//! A copy of constant length is a load and a store; one of variable length is a call. So short
//! copies are done in pieces that may run past their end, where the slice has room for that: the
//! bytes behind are written again later.

/// How far beyond its end [`wild_match`] may write.
pub(crate) const SLACK: usize = 32;

/// The `N` bytes at `at`; the caller has made sure that they are there.
#[inline(always)]
fn load<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut piece = [0; N];
    piece.copy_from_slice(&bytes[at..][..N]);
    piece
}

/// Writes `N` bytes at `at`; the caller has made sure that there is room.
#[inline(always)]
fn store<const N: usize>(bytes: &mut [u8], at: usize, piece: [u8; N]) {
    bytes[at..][..N].copy_from_slice(&piece);
}

/// Copies `len` bytes at `from` in `source` to `at`.
///
/// Needs `from + len + SLACK <= source.len()` and `at + len + SLACK <= out.len()`; up to `SLACK`
/// bytes behind the copy are overwritten.
#[inline(always)]
pub(crate) fn wild_literals(out: &mut [u8], at: usize, source: &[u8], from: usize, len: usize) {
    let mut done = 0;
    loop {
        let piece: [u8; 16] = load(source, from + done);
        store(out, at + done, piece);
        done += 16;
        if done >= len {
            return;
        }
    }
}

/// Copies what lies `distance` bytes before `at` to `at`, `len` bytes in the sense of LZ77: a
/// distance below `len` repeats.
///
/// Needs `1 <= distance <= at` and `at + len + SLACK <= out.len()`; up to `SLACK` bytes behind the
/// copy are overwritten.
#[inline(always)]
pub(crate) fn wild_match(out: &mut [u8], at: usize, distance: usize, len: usize) {
    let (mut from, mut to, end) = (at - distance, at, at + len);
    if distance >= 16 {
        loop {
            let piece: [u8; 16] = load(out, from);
            store(out, to, piece);
            from += 16;
            to += 16;
            if to >= end {
                return;
            }
        }
    }
    repeat(out, at, distance, len);
}

/// [`wild_match`] for distances below 16: a register holds the period, often more than once, and
/// is written again and again in steps of a multiple of the period.
#[inline(never)]
fn repeat(out: &mut [u8], at: usize, distance: usize, len: usize) {
    /// The largest multiple of the distance up to 16.
    const STEP: [usize; 16] = [16, 16, 16, 15, 16, 15, 12, 14, 16, 9, 10, 11, 12, 13, 14, 15];
    let distance = distance & 15;
    let bits = 8 * distance as u32;
    let mut pattern = u128::from_le_bytes(load(out, at - distance)) & ((1 << bits) - 1);
    let mut filled = bits;
    while filled < 128 {
        pattern |= pattern << filled;
        filled *= 2;
    }
    let (mut to, end) = (at, at + len);
    while to < end {
        store(out, to, pattern.to_le_bytes());
        to += STEP[distance];
    }
}

/// [`wild_match`] that writes nothing behind the copy, for the end of the slice.
///
/// Needs `1 <= distance <= at` and `at + len <= out.len()`.
#[inline(never)]
pub(crate) fn exact_match(out: &mut [u8], at: usize, distance: usize, len: usize) {
    let (from, mut to, end) = (at - distance, at, at + len);
    while to < end {
        // What is already written is the period, as often as it fits.
        let piece = (to - from).min(end - to);
        out.copy_within(from..from + piece, to);
        to += piece;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_byte(out: &mut [u8], at: usize, distance: usize, len: usize) {
        for to in at..at + len {
            out[to] = out[to - distance];
        }
    }

    #[test]
    fn every_distance_and_length_copies_as_byte_by_byte() {
        let start: Vec<u8> = (0..=255).collect();
        for distance in 1..80 {
            for len in 1..100 {
                let mut expected = start.clone();
                by_byte(&mut expected, 90, distance, len);
                let mut wild = start.clone();
                wild_match(&mut wild, 90, distance, len);
                assert_eq!(wild[..90 + len], expected[..90 + len], "{distance} {len}");
                assert_eq!(wild[90 + len + SLACK..], start[90 + len + SLACK..]);
                let mut exact = start.clone();
                exact_match(&mut exact, 90, distance, len);
                assert_eq!(exact, expected, "{distance} {len}");
            }
        }
    }
}
