//! Where files are cut into sections: at places that the bytes around them choose, so that equal parts of
//! different files, wherever they are, are cut in the same way.

/// Sections are no shorter, but for the last one, than this and a cluster: each is compressed by itself.
const LEAST: usize = 256 << 10;
/// The longest sections over the shortest.
const MOST: usize = 16;

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

/// The ends of the sections of `bytes`; the last is the end of `bytes`. Clusters have `cluster` bytes.
pub(super) fn cuts(bytes: &[u8], cluster: usize) -> Vec<usize> {
    let least = LEAST.max(cluster.next_power_of_two());
    let most_of_one = MOST * least;
    // A cut is where so many bits of the rolling hash are 0: every two of the least by chance.
    let bits = (2 * least).trailing_zeros();
    let mut ends = Vec::new();
    let mut start = 0;
    // What is left behind a cut is no shorter than a section either.
    while bytes.len() - start >= 2 * least {
        let most = (start + most_of_one).min(bytes.len() - least);
        // Enough before the first place where a cut may be to fill the hash.
        let first = start + least - 64;
        let mut hash = 0u64;
        let mut end = most;
        for (nth, byte) in bytes[first..most].iter().enumerate() {
            hash = (hash << 1).wrapping_add(GEAR[usize::from(*byte)]);
            if hash >> (64 - bits) == 0 && nth >= 64 {
                end = first + nth;
                break;
            }
        }
        if end == bytes.len() - least && end < start + most_of_one {
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
    use crate::random::noise;

    #[test]
    fn sections_cover_everything_and_keep_their_bounds() {
        let lengths = [0, 1, LEAST, 2 * LEAST - 1, 2 * LEAST, 3 << 20, 20 << 20];
        for (length, cluster) in lengths.into_iter().flat_map(|length| [(length, 4096), (length, 1 << 20)]) {
            let (least, most) = (LEAST.max(cluster), MOST * LEAST.max(cluster));
            for bytes in [noise(1, length), vec![0; length], vec![0xff; length]] {
                let ends = cuts(&bytes, cluster);
                assert_eq!(*ends.last().unwrap(), length);
                let mut start = 0;
                for end in &ends {
                    assert!(end - start <= most + least, "{length}");
                    assert!(end - start >= least || (ends.len() == 1 && start == 0), "{length}");
                    start = *end;
                }
            }
        }
    }

    #[test]
    fn a_byte_more_at_the_front_moves_cuts_and_no_more() {
        let bytes = noise(7, 20 << 20);
        let moved = [b"x", &bytes[..]].concat();
        let (before, after) = (cuts(&bytes, 65536), cuts(&moved, 65536));
        let same = before.iter().filter(|end| after.contains(&(*end + 1))).count();
        assert!(before.len() > 10 && same + 2 >= before.len(), "{same} of {}", before.len());
    }
}
