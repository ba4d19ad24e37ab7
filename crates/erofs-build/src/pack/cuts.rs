//! Where files are cut into sections: at places that the bytes around them choose, so that equal parts of
//! different files, wherever they are, are cut in the same way.

/// Sections are no shorter, but for the last one, and no longer.
const LEAST: usize = 256 << 10;
const MOST: usize = 4 << 20;

/// A cut is where so many bits of the rolling hash are 0: every 512 KiB by chance.
const BITS: u32 = 19;

/// The hash of a byte; bits shifted out on the left are forgotten, so that the hash is of the last 64 bytes.
const GEAR: [u64; 256] = gear();

const fn gear() -> [u64; 256] {
    // SplitMix64.
    let mut table = [0; 256];
    let mut state = 0x6572_6f66_7321_u64;
    let mut nth = 0;
    while nth < 256 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[nth] = mixed ^ (mixed >> 31);
        nth += 1;
    }
    table
}

/// The ends of the sections of `bytes`; the last is the end of `bytes`.
pub(super) fn cuts(bytes: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut start = 0;
    // What is left behind a cut is no shorter than a section either.
    while bytes.len() - start >= 2 * LEAST {
        let most = (start + MOST).min(bytes.len() - LEAST);
        // Enough before the first place where a cut may be to fill the hash.
        let first = start + LEAST - 64;
        let mut hash = 0u64;
        let mut end = most;
        for (nth, byte) in bytes[first..most].iter().enumerate() {
            hash = (hash << 1).wrapping_add(GEAR[usize::from(*byte)]);
            if hash >> (64 - BITS) == 0 && nth >= 64 {
                end = first + nth;
                break;
            }
        }
        if end == bytes.len() - LEAST && end < start + MOST {
            break;
        }
        ends.push(end);
        start = end;
    }
    ends.push(bytes.len());
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u8::try_from(state >> 56).unwrap()
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn sections_cover_everything_and_keep_their_bounds() {
        for length in [0, 1, LEAST, 2 * LEAST - 1, 2 * LEAST, 3 << 20, 20 << 20] {
            for bytes in [noise(length, 1), vec![0; length], vec![0xff; length]] {
                let ends = cuts(&bytes);
                assert_eq!(*ends.last().unwrap(), length);
                let mut start = 0;
                for end in &ends {
                    assert!(end - start <= MOST + LEAST, "{length}");
                    assert!(end - start >= LEAST || (ends.len() == 1 && start == 0), "{length}");
                    start = *end;
                }
            }
        }
    }

    #[test]
    fn a_byte_more_at_the_front_moves_cuts_and_no_more() {
        let bytes = noise(20 << 20, 7);
        let moved = [b"x", &bytes[..]].concat();
        let (before, after) = (cuts(&bytes), cuts(&moved));
        let same = before.iter().filter(|end| after.contains(&(*end + 1))).count();
        assert!(before.len() > 10 && same + 2 >= before.len(), "{same} of {}", before.len());
    }
}
