//! Cutting a large file into ranges that threads can read on their own.

use std::ops::Range;

use erofs_image::{Image, Inode, Place};

/// Bytes of a range. Large enough that taking it over costs nothing, small enough that two threads end about
/// the same time.
pub(crate) const CUT: u64 = 4 << 20;

/// A part of a file's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) range: Range<u64>,
    /// There is no data in it.
    pub(crate) is_hole: bool,
}

/// The ranges of a part of a file in order, each found when it is asked for. Where possible they end where an extent
/// does, so that no extent is decoded for two of them. It ends after an error.
#[derive(Debug)]
pub(crate) struct Cuts<'a> {
    image: &'a Image,
    inode: Inode,
    at: u64,
    end: u64,
    /// What is known to lie at `at`: the end of the extent, and whether it is a hole.
    ahead: Option<(u64, bool)>,
}

impl<'a> Cuts<'a> {
    pub(crate) fn new(image: &'a Image, inode: &Inode, part: Range<u64>) -> Self {
        Self { image, inode: *inode, at: part.start, end: part.end.min(inode.size), ahead: None }
    }

    fn look(&mut self) -> erofs_image::Result<(u64, bool)> {
        if let Some(known) = self.ahead {
            return Ok(known);
        }
        let extent = self.image.map(&self.inode, self.at)?;
        let end = self.at.saturating_add(extent.len.max(1)).min(self.end);
        let known = (end, extent.place == Place::Hole);
        self.ahead = Some(known);
        Ok(known)
    }

    fn pass(&mut self, to: u64) {
        self.at = to;
        self.ahead = self.ahead.filter(|(end, _)| *end > to);
    }

    fn cut(&mut self) -> erofs_image::Result<Cut> {
        let start = self.at;
        let (end, is_hole) = self.look()?;
        let limit = start.saturating_add(CUT);
        if is_hole {
            self.pass(end);
        } else {
            self.pass(end.min(limit));
            // Further extents as long as they fit in whole; one that can't be found is the next call's error.
            while self.at < limit && self.at < self.end {
                match self.look() {
                    Ok((end, false)) if end <= limit => self.pass(end),
                    _ => break,
                }
            }
        }
        Ok(Cut { range: start..self.at, is_hole })
    }
}

impl Iterator for Cuts<'_> {
    type Item = erofs_image::Result<Cut>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let cut = self.cut();
        if cut.is_err() {
            self.at = u64::MAX;
        }
        Some(cut)
    }
}
