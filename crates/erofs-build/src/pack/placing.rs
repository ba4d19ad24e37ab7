//! Puts what a job made behind what is there, leaving out what its equals have stored.

use std::ops::Range;

use super::content::Edit;
use super::sections::Piece;
use crate::zmap::Extent;

/// Where a job's contents go, as far as its items were gone through.
#[derive(Debug, Default)]
pub(super) struct Placing {
    /// Where in the image, or in the blob, the contents start.
    pub(super) start: u64,
    /// The next byte of the job's content, and where in the image it goes.
    pub(super) at: u64,
    pub(super) next: u64,
    /// What is not stored of the job's content, and what in place of it.
    pub(super) edits: Vec<Edit>,
}

impl Placing {
    pub(super) fn new(start: u64) -> Self {
        Self { start, next: start, ..Self::default() }
    }

    /// Goes on to what starts at `start` of the content and has to lie at a multiple of `unit`. What is before it
    /// is padding; how much of that there has to be depends on what was dropped.
    pub(super) fn go_to(&mut self, start: u64, unit: u64) {
        let next = self.next.next_multiple_of(unit);
        if start == 0 {
            self.start = next;
        } else if start - self.at != next - self.next {
            let zeros = usize::try_from(next - self.next).unwrap_or(0);
            self.edits.push(Edit { bytes: self.at..start, zeros });
        }
        (self.at, self.next) = (start, next);
    }

    pub(super) fn keep(&mut self, content: &Range<u64>) {
        self.next += content.end - content.start;
        self.at = content.end;
    }

    pub(super) fn drop(&mut self, content: Range<u64>) {
        self.at = content.end;
        if !content.is_empty() {
            self.edits.push(Edit { bytes: content, zeros: 0 });
        }
    }

    /// Keeps a piece and appends its extents.
    pub(super) fn put(&mut self, piece: &Piece, extents: &mut Vec<Extent>) {
        let place = |at| at - piece.bytes.start + self.next;
        extents.extend(piece.extents.iter().map(|extent| Extent { at: place(extent.at), ..*extent }));
        self.keep(&piece.bytes);
    }
}
