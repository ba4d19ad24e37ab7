//! Where clusters of a file come from: an earlier image, or an encoder.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::Job;
use super::base::{Like, Old};
use super::clusters::{End, Filler, Rest};
use super::content::Content;
use super::packed::Segment;
use super::work::Packer;
use crate::error::Result;
use crate::source;
use crate::tree::NodeId;
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

impl<'a> Packer<'a> {
    /// The file in the earlier image, if there is one, that has this digest and was compressed in this way.
    pub(super) fn old(
        &self,
        digest: Option<&[u8; 32]>,
        size: u64,
        how: usize,
    ) -> Result<Option<(Old<'a>, Like)>> {
        let (Some(base), Some(digest)) = (self.job.base, digest) else { return Ok(None) };
        Ok(base.file(digest, size, how)?.zip(self.like(how, self.known.is_some())))
    }

    /// The packed inode of the earlier image, if this segment is in it, and where.
    pub(super) fn old_segment(
        &self,
        segment: &Segment,
        how: usize,
    ) -> Result<Option<((Old<'a>, Like), u64)>> {
        let Some(base) = self.job.base else { return Ok(None) };
        let found = base.segment(segment)?.zip(self.like(how, false));
        Ok(found.map(|((old, start), like)| ((old, like), start)))
    }

    /// What clusters are like that are made in the way of this number.
    fn like(&self, how: usize, is_shared: bool) -> Option<Like> {
        let Job { options, plan, .. } = self.job;
        let compression = plan.methods.all().get(how)?;
        Some(Like {
            algorithm: compression.algorithm(),
            cluster: compression.cluster,
            block_size: options.block_size,
            is_dense: plan.is_dense,
            is_shared,
        })
    }

    /// The digest of a large file that the earlier image may have.
    pub(super) fn early(
        &self,
        id: NodeId,
        size: u64,
        is_first: bool,
        open: &dyn source::Content,
    ) -> Result<Option<[u8; 32]>> {
        if !self.job.base.is_some_and(|base| base.has_large(size)) {
            return Ok(None);
        }
        self.early.get(id, is_first, self.stop, || {
            let mut hash = Sha256::new();
            let mut buffer = vec![0; 1 << 20];
            let mut at = 0;
            while at < size {
                self.check()?;
                let length = usize::try_from(size - at).unwrap_or(usize::MAX).min(buffer.len());
                let part = buffer.get_mut(..length).unwrap_or_default();
                open.read(part, at)?;
                hash.update(part);
                at += length as u64;
            }
            Ok(hash.finalize().into())
        })
    }
}
