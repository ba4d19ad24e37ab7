//! Gives out places in the inode area.

/// Inodes start at multiples of this.
const SLOT: u64 = 32;

/// Gaps remembered for inodes that fit. They are near the end of what was given out, so an inode that goes
/// into one is still near its neighbours.
const MAX_GAPS: usize = 16;

/// A part of the image that grows by inodes and, in between, by whole blocks.
#[derive(Debug)]
pub(crate) struct Zone {
    block_size: u64,
    end: u64,
    /// Unused ends of blocks, as (start, end) in bytes.
    gaps: Vec<(u64, u64)>,
}

impl Zone {
    pub(crate) fn new(block_size: u64, start: u64) -> Self {
        Self { block_size, end: start, gaps: Vec::new() }
    }

    /// The end of what was given out, in bytes.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The block that starts at the end, which must be a block's end.
    pub(crate) fn block(&self) -> u64 {
        self.end / self.block_size
    }

    /// Gives a place to an inode of `core` bytes with `tail` bytes behind it. One with a tail lies within a
    /// block as a whole: the tail has to, and so one read is enough for both.
    pub(crate) fn place(&mut self, core: u64, tail: u64) -> u64 {
        let need = core + tail;
        let fitting = |(start, end): &(u64, u64)| start.next_multiple_of(SLOT) + need <= *end;
        let smallest = (0..self.gaps.len()).filter(|nth| fitting(&self.gaps[*nth])).min_by_key(|nth| {
            let (start, end) = self.gaps[*nth];
            (end - start, start)
        });
        if let Some(nth) = smallest {
            let (start, end) = self.gaps[nth];
            let place = start.next_multiple_of(SLOT);
            if place + need + SLOT <= end {
                self.gaps[nth].0 = place + need;
            } else {
                self.gaps.remove(nth);
            }
            return place;
        }
        let mut place = self.end.next_multiple_of(SLOT);
        let block_end = (place + 1).next_multiple_of(self.block_size);
        if tail > 0 && place + need > block_end {
            self.add_gap(place, block_end);
            place = block_end;
        }
        self.end = place + need;
        place
    }

    /// Gives out `count` whole blocks; returns the first.
    pub(crate) fn take_blocks(&mut self, count: u64) -> u64 {
        let start = self.end.next_multiple_of(self.block_size);
        self.add_gap(self.end, start);
        self.end = start + count * self.block_size;
        start / self.block_size
    }

    /// Lets what follows start with a block of its own.
    pub(crate) fn finish_block(&mut self) {
        self.end = self.end.next_multiple_of(self.block_size);
        self.gaps.clear();
    }

    fn add_gap(&mut self, start: u64, end: u64) {
        if start.next_multiple_of(SLOT) + SLOT > end {
            return;
        }
        if self.gaps.len() == MAX_GAPS
            && let Some(least) = (0..MAX_GAPS).min_by_key(|nth| self.gaps[*nth].1 - self.gaps[*nth].0)
        {
            self.gaps.remove(least);
        }
        self.gaps.push((start, end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_never_crosses_a_block_and_the_gap_before_it_is_used() {
        let mut zone = Zone::new(512, 0);
        assert_eq!(zone.place(64, 300), 0);
        assert_eq!(zone.place(64, 300), 512);
        assert_eq!(zone.place(64, 0), 384);
        assert_eq!(zone.place(64, 0), 448);
        assert_eq!(zone.place(64, 10), 896);
    }

    #[test]
    fn inodes_without_a_tail_may_cross_blocks() {
        let mut zone = Zone::new(512, 480);
        assert_eq!(zone.place(100, 0), 480);
        assert_eq!(zone.place(100, 0), 608);
    }

    #[test]
    fn blocks_in_between_are_aligned_and_do_not_overlap_inodes() {
        let mut zone = Zone::new(512, 40);
        assert_eq!(zone.place(64, 0), 64);
        assert_eq!(zone.take_blocks(2), 1);
        assert_eq!(zone.place(64, 0), 128);
        assert_eq!(zone.place(400, 0), 1536);
        zone.finish_block();
        assert_eq!(zone.block(), 4);
        assert_eq!(zone.place(32, 0), 2048);
    }
}
