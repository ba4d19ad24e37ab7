//! The segments of an earlier image's packed inode.

use std::ops::Range;

use erofs_image::Image;

use super::listing::{Fragment, Listing};
use crate::pack::packed::{Cutter, Origin, Segment};

/// What precedes the first fragment, the table of prefixes, is no longer.
const MOST_BEFORE: u64 = 1 << 20;

/// Segments that may begin alike before it is given up to find the one that also goes on alike.
const MOST_ALIKE: usize = 64;

/// Where segments are.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// The digest of the first fragment's file, and the bytes of the segment; sorted.
    by_first: Vec<([u8; 32], Range<u64>)>,
    /// What precedes the first fragment of the first segment.
    before: Vec<u8>,
}

impl Segments {
    /// Finds where the segments of the packed inode are: `fragments`, sorted, are cut as they were when they were
    /// compressed.
    pub(super) fn find(
        image: &Image,
        listing: &Listing,
        fragments: &[Fragment],
        block_size: u32,
    ) -> erofs_image::Result<Self> {
        let mut segments = Self::default();
        let (Some(packed), Some(first)) = (image.packed_inode()?, fragments.first()) else {
            return Ok(segments);
        };
        if first.offset > MOST_BEFORE || first.offset > packed.size || !packed.is_file() {
            return Ok(segments);
        }
        segments.before = vec![0; usize::try_from(first.offset).unwrap_or(0)];
        let count = image.read(&packed, 0, &mut segments.before)?;
        segments.before.truncate(count);
        let mut bytes = ranges(fragments, packed.size, block_size.into());
        bytes.sort_unstable_by_key(|one| one.start);
        let start_of = |one: &Range<u64>| if one.start == 0 { first.offset } else { one.start };
        for file in listing.files() {
            let Some(fragment) = file.fragment else { continue };
            if let Ok(nth) = bytes.binary_search_by_key(&fragment.offset, start_of) {
                segments.by_first.extend(bytes.get(nth).map(|one| (file.digest, one.clone())));
            }
        }
        segments.by_first.sort_unstable_by_key(|(digest, bytes)| (*digest, bytes.start));
        Ok(segments)
    }

    /// Where a segment of the same content starts.
    pub(super) fn start(&self, listing: &Listing, segment: &Segment) -> Option<u64> {
        let mut origins = segment.fragments.as_slice();
        let mut before = 0;
        if let Some((Origin { digest: None, length }, rest)) = origins.split_first() {
            before = *length;
            let bytes = segment.bytes.get(..usize::try_from(before).ok()?)?;
            if bytes != self.before {
                return None;
            }
            origins = rest;
        }
        let digest = origins.first()?.digest?;
        let first = self.by_first.partition_point(|(known, _)| *known < digest);
        let alike = self.by_first.get(first..)?.iter().take(MOST_ALIKE).take_while(|one| one.0 == digest);
        let found = alike.map(|(_, bytes)| bytes).find(|bytes| {
            let has_before = if bytes.start == 0 { before == self.before.len() as u64 } else { before == 0 };
            let mut offset = bytes.start + before;
            has_before
                && bytes.end - bytes.start == segment.bytes.len() as u64
                && origins.iter().all(|origin| {
                    let fragment = Fragment { offset, length: origin.length };
                    offset += origin.length;
                    origin.digest.is_some_and(|digest| listing.has_fragment(&digest, fragment))
                })
        })?;
        Some(found.start)
    }
}

/// The segments of these fragments, as far as they follow one another as they have to.
fn ranges(fragments: &[Fragment], size: u64, block_size: u64) -> Vec<Range<u64>> {
    let mut cutter = Cutter::default();
    let mut found = Vec::new();
    let (mut start, mut at) = (0, 0);
    let close = |start: &mut u64, at: &mut u64, found: &mut Vec<Range<u64>>| {
        *at = at.next_multiple_of(block_size);
        found.push(*start..*at);
        *start = *at;
    };
    let before = fragments.first().map(|first| Fragment { offset: 0, length: first.offset });
    for fragment in before.iter().filter(|before| before.length > 0).chain(fragments) {
        // What is claimed may be anything; what is in the inode lies below 2^63.
        if fragment.offset.checked_add(fragment.length).is_none_or(|end| end > size) || size > i64::MAX as u64
        {
            return found;
        }
        if cutter.ends_before(fragment.length) {
            close(&mut start, &mut at, &mut found);
        }
        if fragment.offset != at {
            return found;
        }
        at += fragment.length;
        if cutter.ends_after(fragment.length) {
            close(&mut start, &mut at, &mut found);
        }
    }
    if at == size && at > start {
        found.push(start..at);
    }
    found
}
