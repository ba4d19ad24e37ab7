//! The probabilities that LZMA adapts while it decodes.

use super::range::{EVEN, Range};

/// States of the automaton that remembers the kinds of the last symbols.
const STATES: usize = 12;
/// Positions that are told apart, at most.
const POSITIONS: usize = 16;
/// Probabilities of one literal: three sets of 256, of which two for the case that the byte at the
/// last distance is known to differ.
pub(super) const LITERAL: usize = 0x300;
/// Literal contexts: `lc + lp` is at most 4.
pub(super) const MOST_SETS: usize = 16;
/// Matches are at least this long.
const MIN_MATCH: usize = 2;

/// The probabilities of lengths of one kind.
#[derive(Debug)]
pub(super) struct Lengths {
    choice: [u16; 2],
    low: [[u16; 8]; POSITIONS],
    middle: [[u16; 8]; POSITIONS],
    high: [u16; 256],
}

impl Lengths {
    const EVEN: Self = Self {
        choice: [EVEN; 2],
        low: [[EVEN; 8]; POSITIONS],
        middle: [[EVEN; 8]; POSITIONS],
        high: [EVEN; 256],
    };

    /// Reads the length of a match.
    #[inline(always)]
    pub(super) fn read(&mut self, range: &mut Range<'_>, position: usize) -> usize {
        let position = position & (POSITIONS - 1);
        if !range.decide(&mut self.choice[0]) {
            range.tree::<3, 8>(&mut self.low[position]) - 8 + MIN_MATCH
        } else if !range.decide(&mut self.choice[1]) {
            range.tree::<3, 8>(&mut self.middle[position]) - 8 + MIN_MATCH + 8
        } else {
            range.tree::<8, 256>(&mut self.high) - 256 + MIN_MATCH + 16
        }
    }
}

/// All probabilities but those of literals.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) is_match: [[u16; POSITIONS]; STATES],
    pub(super) is_rep: [u16; STATES],
    pub(super) is_rep0: [u16; STATES],
    pub(super) is_rep1: [u16; STATES],
    pub(super) is_rep2: [u16; STATES],
    pub(super) is_rep0_long: [[u16; POSITIONS]; STATES],
    pub(super) slots: [[u16; 64]; 4],
    /// Low bits of distances from 4 to 127: a tree for each slot from 4 to 13.
    pub(super) special: [[u16; 32]; 10],
    pub(super) align: [u16; 16],
    pub(super) match_length: Lengths,
    pub(super) rep_length: Lengths,
}

impl Model {
    pub(super) const EVEN: Self = Self {
        is_match: [[EVEN; POSITIONS]; STATES],
        is_rep: [EVEN; STATES],
        is_rep0: [EVEN; STATES],
        is_rep1: [EVEN; STATES],
        is_rep2: [EVEN; STATES],
        is_rep0_long: [[EVEN; POSITIONS]; STATES],
        slots: [[EVEN; 64]; 4],
        special: [[EVEN; 32]; 10],
        align: [EVEN; 16],
        match_length: Lengths::EVEN,
        rep_length: Lengths::EVEN,
    };

    /// Reads the distance of a match of `length` bytes, less 1.
    #[inline(always)]
    pub(super) fn distance(&mut self, range: &mut Range<'_>, length: usize) -> u32 {
        let set = (length - MIN_MATCH).min(3);
        let slot = range.tree::<6, 64>(&mut self.slots[set]) as u32 - 64;
        if slot < 4 {
            return slot;
        }
        // The slot gives the two highest bits and how many follow.
        let more = (slot >> 1) - 1;
        let base = (2 | slot & 1) << more;
        if let Some(tree) = self.special.get_mut(slot as usize - 4) {
            base.wrapping_add(range.reverse_tree(tree, more))
        } else {
            let high = range.direct(more - 4) << 4;
            base.wrapping_add(high).wrapping_add(range.reverse_tree(&mut self.align, 4))
        }
    }
}

/// The probabilities of literals in one context.
pub(super) type Set = [u16; LITERAL];

/// Which literal probabilities and positions a stream tells apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contexts {
    lc: u32,
    lp_mask: usize,
    pub(super) pb_mask: usize,
    /// Literal contexts in use.
    pub(super) sets: usize,
}

impl Contexts {
    /// From the byte that combines the three numbers; `None` if it is out of range.
    pub(super) fn new(props: u8) -> Option<Self> {
        let (lc, lp, pb) = (u32::from(props % 9), u32::from(props / 9 % 5), u32::from(props / 45));
        (pb <= 4 && lc + lp <= 4).then(|| Self {
            lc,
            lp_mask: (1 << lp) - 1,
            pb_mask: (1 << pb) - 1,
            sets: 1 << (lc + lp),
        })
    }

    /// The context of a literal at `position` behind the byte `previous`.
    #[inline(always)]
    pub(super) fn literal(&self, position: usize, previous: u8) -> usize {
        (position & self.lp_mask) << self.lc | usize::from(previous) >> (8 - self.lc)
    }
}
