//! The packed inode: a file without a name that holds the ends of others.
//!
//! It is compressed in segments, each by itself. A segment ends behind a fragment, chosen by the lengths of the
//! fragments before it and not by the place: where fragments are the same for a while, so are the segments, whatever
//! came before. It is filled up with zeros to a whole block, so that the next one begins with a block.

use std::collections::VecDeque;
use std::ops::Range;

use crate::zmap::Extent;

/// A segment is no shorter, but for the last one, and longer only if one fragment is.
const LEAST: u64 = 2 << 20;
const MOST: u64 = 8 << 20;

/// Beyond `LEAST` a segment ends after so many bytes by chance.
const USUAL: u64 = 2 << 20;

/// Finds where segments end. It looks at lengths alone, which can be had of an image that is there already.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    /// Bytes of the segment so far.
    length: u64,
    /// The lengths of the last fragments.
    window: [u64; 4],
}

impl Cutter {
    /// Whether a segment ends before a fragment of `length` bytes.
    pub(crate) fn ends_before(&mut self, length: u64) -> bool {
        let ends = self.length > 0 && self.length + length > MOST;
        if ends {
            self.length = 0;
        }
        ends
    }

    /// Takes that fragment, and says whether a segment ends behind it.
    pub(crate) fn ends_after(&mut self, length: u64) -> bool {
        self.length += length;
        self.window.rotate_left(1);
        self.window[3] = length;
        // A long fragment has as many chances as it has bytes.
        let chance = length.min(USUAL) * (u64::MAX / USUAL);
        let ends = self.length >= LEAST && self.window.iter().fold(0, |all, one| mixed(all ^ one)) < chance;
        if ends {
            self.length = 0;
        }
        ends
    }
}

/// `SplitMix64`.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What is compressed at once. It begins with a block of the packed inode.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    pub(crate) bytes: Vec<u8>,
    /// What it is made of, where somebody wants to know.
    pub(crate) fragments: Vec<Origin>,
}

/// The file whose end a fragment is, by its digest, and how many bytes that end has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Nothing for what is no fragment.
    pub(crate) digest: Option<[u8; 32]>,
    pub(crate) length: u64,
}

/// The packed inode as far as it is known.
#[derive(Debug)]
pub(super) struct PackedInode {
    block_size: usize,
    cutter: Cutter,
    /// What is gathered, and what is complete.
    open: Segment,
    closed: VecDeque<Segment>,
    size: u64,
    has_origins: bool,
    pub(super) extents: Vec<Extent>,
}

impl PackedInode {
    /// An empty one. Segments know what they are made of if they `has_origins`.
    pub(super) fn new(block_size: usize, has_origins: bool) -> Self {
        Self {
            block_size,
            cutter: Cutter::default(),
            open: Segment::default(),
            closed: VecDeque::new(),
            size: 0,
            has_origins,
            extents: Vec::new(),
        }
    }

    /// Appends the end of a file with this digest, and returns where it is.
    pub(super) fn add(&mut self, bytes: &[u8], digest: Option<&[u8; 32]>) -> Range<u64> {
        let length = bytes.len() as u64;
        if self.cutter.ends_before(length) {
            self.close();
        }
        let start = self.size;
        self.open.bytes.extend_from_slice(bytes);
        self.size += length;
        if self.has_origins {
            self.open.fragments.push(Origin { digest: digest.copied(), length });
        }
        if self.cutter.ends_after(length) {
            self.close();
        }
        start..start + length
    }

    fn close(&mut self) {
        let mut segment = std::mem::take(&mut self.open);
        let length = segment.bytes.len();
        segment.bytes.resize(length.next_multiple_of(self.block_size), 0);
        self.size += (segment.bytes.len() - length) as u64;
        self.closed.push_back(segment);
    }

    /// A segment that is complete; if this is `all`, the last one is too.
    pub(super) fn segment(&mut self, all: bool) -> Option<Segment> {
        if self.closed.is_empty() && all && !self.open.bytes.is_empty() {
            return Some(std::mem::take(&mut self.open));
        }
        self.closed.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(lengths: &[usize]) -> Vec<Segment> {
        let mut packed = PackedInode::new(4096, true);
        let mut found = Vec::new();
        for length in lengths {
            let at = packed.add(&vec![1; *length], None);
            assert_eq!(at.end - at.start, *length as u64);
            found.extend(packed.segment(false));
        }
        while let Some(segment) = packed.segment(true) {
            found.push(segment);
        }
        found
    }

    #[test]
    fn segments_have_bounds_and_meet_again_behind_a_change() {
        let mut state = 3u64;
        let mut lengths: Vec<usize> = std::iter::repeat_with(|| {
            state = mixed(state);
            usize::try_from(state % 60_000).unwrap()
        })
        .take(6000)
        .collect();
        let before = segments(&lengths);
        let all: u64 = before.iter().map(|one| one.bytes.len() as u64).sum();
        assert!((30..60).contains(&before.len()), "{} for {all}", before.len());
        for (nth, segment) in before.iter().enumerate() {
            let length = segment.bytes.len() as u64;
            assert!(length <= MOST + 4096 && (length >= LEAST || nth + 1 == before.len()));
            assert!(length.is_multiple_of(4096) || nth + 1 == before.len());
        }
        lengths[500] += 7;
        lengths.remove(1000);
        let after = segments(&lengths);
        let same =
            before.iter().filter(|one| after.iter().any(|other| other.fragments == one.fragments)).count();
        assert!(same + 6 >= before.len(), "{same} of {}", before.len());
    }

    #[test]
    fn large_fragments_and_fragments_of_one_length_are_cut_too() {
        for (length, count) in [(9 << 20, 3), (1 << 20, 40), (1000, 30_000), (3 << 20, 7)] {
            let found = segments(&vec![length; count]);
            let content: usize = found.iter().map(|one| one.fragments.len()).sum();
            assert_eq!(content, count);
            assert!(found.iter().all(|one| one.bytes.len() <= length.max(8 << 20) + 4096));
        }
    }
}
