//! Where clusters of a file come from: an earlier image, or an encoder.

use std::ops::Range;

use super::base::{Like, Old};
use super::clusters::{End, Filler, Rest};
use super::content::Content;
use crate::error::Result;
use crate::zmap::Extent;

/// Makes or takes the clusters of one file.
pub(super) struct Supply<'a, 'b> {
    pub(super) filler: &'a mut Filler,
    /// The same file in an earlier image.
    pub(super) old: Option<(Old<'b>, Like)>,
    /// Where in the file the bytes start that are given.
    pub(super) start: u64,
}

impl Supply<'_, '_> {
    /// See [`Filler::fill`], for a part of `raw`. Says too whether the clusters were taken.
    pub(super) fn fill(
        &mut self,
        raw: &[u8],
        part: Range<usize>,
        (end, offset): (End, Option<usize>),
        content: &mut Content<'_>,
        extents: &mut Vec<Extent>,
    ) -> Result<(Rest, bool)> {
        if let Some((old, like)) = &mut self.old {
            let bytes = self.start + part.start as u64..self.start + part.end as u64;
            if let Some(rest) = old.take(bytes, end, *like, content, extents)? {
                return Ok((rest, true));
            }
        }
        let input = raw.get(part).unwrap_or_default();
        Ok((self.filler.fill(input, offset, end, content, extents)?, false))
    }
}
