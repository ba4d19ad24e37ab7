//! Files with holes, in the format that GNU tar calls sparse 1.0: the data comes without the holes, behind a
//! list of where it belongs. GNU tar, libarchive and Python read it.

use std::ops::Range;

use erofs_image::{Image, Inode, Place};

use super::header::BLOCK;

/// Holes that are shorter are zeros in the archive, in bytes.
const SMALLEST_HOLE: u64 = 64 << 10;
/// Where a file has more runs of data than this, its shorter holes are zeros too.
const MAX_RUNS: usize = 1 << 14;

/// Where in a file there is data.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) runs: Vec<Range<u64>>,
    size: u64,
}

impl Layout {
    pub(super) fn of(image: &Image, inode: &Inode) -> erofs_image::Result<Self> {
        let mut layout = Self { runs: Vec::new(), size: inode.size };
        if inode.size < SMALLEST_HOLE {
            // Also an empty file has a run, so that it is not one of holes only.
            layout.runs.push(0..inode.size);
            return Ok(layout);
        }
        let (mut hole, mut at) = (SMALLEST_HOLE, 0_u64);
        for extent in image.extents(inode) {
            let extent = extent?;
            let end = at.saturating_add(extent.len).min(inode.size);
            if extent.place != Place::Hole {
                layout.add(at..end, hole);
            }
            if layout.runs.len() > MAX_RUNS {
                hole = layout.coarsen(hole);
            }
            at = end;
        }
        // What the last hole lacks in length is made up for by data.
        match layout.runs.last_mut() {
            Some(last) if inode.size - last.end < hole => last.end = inode.size,
            _ => {}
        }
        Ok(layout)
    }

    /// Adds a run of data, joined to the last one if the hole between them is a short one.
    fn add(&mut self, run: Range<u64>, hole: u64) {
        let before = self.runs.last().map_or(0, |last| last.end);
        let start = if run.start - before < hole { before } else { run.start };
        match self.runs.last_mut().filter(|last| last.end == start) {
            Some(last) => last.end = run.end,
            None => self.runs.push(start..run.end),
        }
    }

    /// Takes longer and longer holes for zeros until half of the runs are left.
    fn coarsen(&mut self, mut hole: u64) -> u64 {
        while self.runs.len() > MAX_RUNS / 2 {
            hole = hole.saturating_mul(2);
            for run in std::mem::take(&mut self.runs) {
                self.add(run, hole);
            }
        }
        hole
    }

    /// Bytes of data.
    pub(super) fn data(&self) -> u64 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    pub(super) fn is_sparse(&self) -> bool {
        self.data() < self.size
    }

    /// The list that comes before the data of a sparse file, whole blocks long; empty for another file.
    pub(super) fn list(&self) -> Vec<u8> {
        if !self.is_sparse() {
            return Vec::new();
        }
        let ends_in_hole = self.runs.last().is_none_or(|last| last.end < self.size);
        let end = ends_in_hole.then_some(self.size..self.size);
        let mut list = format!("{}\n", self.runs.len() + usize::from(ends_in_hole)).into_bytes();
        for run in self.runs.iter().chain(&end) {
            list.extend_from_slice(format!("{}\n{}\n", run.start, run.end - run.start).as_bytes());
        }
        list.resize(list.len().next_multiple_of(BLOCK), 0);
        list
    }

    /// Zeros behind the data, up to the end of a block.
    pub(super) fn padding(&self) -> usize {
        let over = usize::try_from(self.data() % BLOCK as u64).unwrap_or_default();
        over.next_multiple_of(BLOCK) - over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(runs: &[Range<u64>], size: u64) -> Layout {
        let mut layout = Layout { runs: Vec::new(), size };
        for run in runs {
            layout.add(run.clone(), SMALLEST_HOLE);
        }
        layout
    }

    #[test]
    fn a_short_hole_is_data_and_a_long_one_is_not() {
        let made = layout(&[4096..8192, 12288..16384, 1 << 20..2 << 20], 3 << 20);
        assert_eq!(made.runs, [0..16384, 1 << 20..2 << 20]);
        assert!(made.is_sparse());
        let list = String::from_utf8(made.list()).unwrap();
        assert_eq!(list.trim_end_matches('\0'), "3\n0\n16384\n1048576\n1048576\n3145728\n0\n");
        assert_eq!(list.len(), BLOCK);
    }

    #[test]
    fn many_holes_do_not_make_a_long_list() {
        let mut made = Layout { runs: Vec::new(), size: u64::MAX };
        let mut hole = SMALLEST_HOLE;
        for number in 0..4 * MAX_RUNS as u64 {
            made.add(number << 17..(number << 17) + 4096, hole);
            if made.runs.len() > MAX_RUNS {
                hole = made.coarsen(hole);
            }
        }
        assert!(made.runs.len() <= MAX_RUNS);
        assert!(made.runs.is_sorted_by(|one, two| one.end < two.start));
        assert_eq!(made.runs.last().unwrap().end, ((4 * MAX_RUNS as u64 - 1) << 17) + 4096);
    }
}
