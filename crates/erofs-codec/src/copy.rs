//! Copies into the slice that is being filled.
//!
//! A copy of constant length is a load and a store; one of variable length is a call. So short
//! copies are done in pieces that may run past their end, where the slice has room for that: the
//! bytes behind are written again later. The slices are cut so that the checks that a copy needs
//! are the ones that its path is chosen by.

/// Bytes that a short match is copied in, whatever its length; the pieces of longer copies.
const SHORT: usize = 32;
/// How far beyond its end [`wild_match`] and [`wild_literals`] may write.
pub(crate) const SLACK: usize = 32;

/// Writes the first `N` bytes of `source` at the beginning of `target`, if both have as many.
#[inline(always)]
fn piece<const N: usize>(source: &[u8], target: &mut [u8]) -> bool {
    let (Some(source), Some(target)) = (source.first_chunk::<N>(), target.first_chunk_mut::<N>()) else {
        return false;
    };
    *target = *source;
    true
}

/// Copies the first `len` bytes of `source` to `at`.
///
/// Needs `len + SLACK` bytes in `source` and in `out` from `at` on; up to `SLACK` bytes behind the
/// copy are overwritten.
#[inline(always)]
pub(crate) fn wild_literals(out: &mut [u8], at: usize, source: &[u8], len: usize) {
    let target = &mut out[at..];
    piece::<16>(source, target);
    if len > 16 {
        by_pieces(target, source, len);
    }
}

/// Copies `len` bytes, and up to `SHORT - 1` more if the slices have as many.
#[inline(always)]
fn by_pieces(target: &mut [u8], source: &[u8], len: usize) {
    if len > 256 {
        target[..len].copy_from_slice(&source[..len]);
        return;
    }
    let mut done = 0;
    let pieces = target.chunks_exact_mut(SHORT).zip(source.chunks_exact(SHORT));
    for (target, source) in pieces.take(len.div_ceil(SHORT)) {
        target.copy_from_slice(source);
        done += SHORT;
    }
    // The source may end with the copy.
    if done < len {
        target[done..len].copy_from_slice(&source[done..len]);
    }
}

/// Copies what lies `distance` bytes before `at` to `at`, `len` bytes in the sense of LZ77: a
/// distance below `len` repeats. False if there is nothing at that distance.
///
/// Needs `at + len + SLACK <= out.len()`; up to `SLACK` bytes behind the copy are overwritten.
#[inline(always)]
#[must_use]
pub(crate) fn wild_match(out: &mut [u8], at: usize, distance: usize, len: usize) -> bool {
    let (done, rest) = out.split_at_mut(at);
    let Some(start) = at.checked_sub(distance) else { return false };
    // From here on what is copied may just have been written, but never what is being written.
    if !piece::<16>(&done[start..], rest) {
        return near_match(out, at, distance, len);
    }
    let (done, rest) = out.split_at_mut(at.wrapping_add(16));
    piece::<16>(&done[start.wrapping_add(16)..], rest);
    if len > SHORT {
        long_match(out, at, distance, len);
    }
    true
}

/// The rest of a match of more than [`SHORT`] bytes from 16 or more bytes away.
#[inline(never)]
fn long_match(out: &mut [u8], at: usize, distance: usize, len: usize) {
    let (mut to, end) = (at + SHORT, at + len);
    if distance >= len {
        let (done, rest) = out.split_at_mut(at);
        by_pieces(rest, &done[at - distance..], len);
        return;
    }
    while to < end {
        let (done, rest) = out.split_at_mut(to);
        piece::<16>(&done[to - distance..], rest);
        to += 16;
    }
}

/// [`wild_match`] for distances below 16: a register holds the period, often more than once, and is
/// written again and again in steps of a multiple of the period.
#[inline(never)]
fn near_match(out: &mut [u8], at: usize, distance: usize, len: usize) -> bool {
    /// The largest multiple of the distance up to 16.
    const STEP: [usize; 16] = [16, 16, 16, 15, 16, 15, 12, 14, 16, 9, 10, 11, 12, 13, 14, 15];
    /// What repeats a number of so many bytes.
    const REPEAT: [u128; 16] = {
        let mut repeat = [0; 16];
        let mut distance = 1;
        while distance < 16 {
            let mut place = 0;
            while place < 16 {
                repeat[distance] |= 1 << (8 * place);
                place += distance;
            }
            distance += 1;
        }
        repeat
    };
    if distance == 0 || distance > at {
        return false;
    }
    let index = distance & 15;
    let Some(&source) = out[at - distance..].first_chunk() else { return false };
    let pattern = u128::from_le_bytes(source) & ((1 << (8 * index)) - 1);
    let pattern = pattern.wrapping_mul(REPEAT[index]).to_le_bytes();
    let (mut to, end) = (at, at + len);
    loop {
        piece::<16>(&pattern, &mut out[to..]);
        to += STEP[index];
        if to >= end {
            return true;
        }
    }
}

/// [`wild_match`] that writes nothing behind the copy, for the end of the slice.
///
/// Needs `at + len <= out.len()`.
#[inline(never)]
#[must_use]
pub(crate) fn exact_match(out: &mut [u8], at: usize, distance: usize, len: usize) -> bool {
    if distance == 0 || distance > at {
        return false;
    }
    let (from, mut to, end) = (at - distance, at, at + len);
    while to < end {
        // What is already written is the period, as often as it fits.
        let piece = (to - from).min(end - to);
        out.copy_within(from..from + piece, to);
        to += piece;
    }
    true
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
                assert!(wild_match(&mut wild, 90, distance, len));
                assert_eq!(wild[..90 + len], expected[..90 + len], "{distance} {len}");
                assert_eq!(wild[90 + len + SLACK..], start[90 + len + SLACK..]);
                let mut exact = start.clone();
                assert!(exact_match(&mut exact, 90, distance, len));
                assert_eq!(exact, expected, "{distance} {len}");
            }
        }
    }

    #[test]
    fn a_distance_that_leads_nowhere_is_refused() {
        let mut out = [0; 200];
        for distance in [0, 91, usize::MAX] {
            assert!(!wild_match(&mut out, 90, distance, 5));
            assert!(!exact_match(&mut out, 90, distance, 5));
        }
    }
}
