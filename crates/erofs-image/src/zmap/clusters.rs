//! From the entries of an index, full or compact, to extents.

use erofs_format::compression::{Algorithm, PCLUSTER_MAX_DSIZE};
use erofs_format::zmap::{Advise, LclusterType};

use super::compact::CompactIndex;
use super::full::FullIndex;
use super::{Context, MapCorruption, Stated, StatedAt, ZExtent, ZFormat, ZPlace};
use crate::error::{Feature, Result};

/// Entries looked at on the way back to a head or on to the next one. An extent that is not a hole
/// has at most 12 MiB, so 24,576 logical clusters of 512 bytes.
const MAX_STEPS: u32 = 1 << 16;

/// An entry of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lcluster {
    Head(Head),
    /// It belongs to the head `back` entries before. `blocks` is the size of the pcluster, stated
    /// behind the head of a big one.
    Nonhead {
        back: u64,
        blocks: Option<u32>,
    },
}

/// An entry in whose logical cluster an extent starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: LclusterType,
    /// Where in the logical cluster it starts.
    pub(super) clusterofs: u32,
    /// Block address of its pcluster.
    pub(super) block: u32,
    pub(super) partial: bool,
    pub(super) hole: bool,
}

/// What the last extent is, if it is something special.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tail {
    None,
    /// `plen` bytes at `position`, behind the index.
    Inline {
        plen: u64,
        position: u64,
    },
    /// It lies in the packed inode.
    Fragment {
        offset: u64,
    },
}

#[derive(Debug)]
pub(super) enum Index<'a> {
    Full(FullIndex<'a>),
    Compact(CompactIndex<'a>),
}

impl<'a> From<FullIndex<'a>> for Index<'a> {
    fn from(index: FullIndex<'a>) -> Self {
        Self::Full(index)
    }
}

impl<'a> From<CompactIndex<'a>> for Index<'a> {
    fn from(index: CompactIndex<'a>) -> Self {
        Self::Compact(index)
    }
}

impl Index<'_> {
    fn load(&mut self, lcn: u64) -> Result<Lcluster> {
        match self {
            Self::Full(index) => index.load(lcn),
            Self::Compact(index) => index.load(lcn),
        }
    }

    /// The byte position behind the entry of `lcn`, or behind its pack.
    fn behind(&self, lcn: u64) -> Result<u64> {
        match self {
            Self::Full(index) => index.position(lcn + 1),
            Self::Compact(index) => index.behind(lcn),
        }
    }
}

#[derive(Debug)]
pub(super) struct Clusters<'a> {
    context: Context<'a>,
    index: Index<'a>,
    advise: Advise,
    /// Bytes of a logical cluster, as a power of two.
    bits: u32,
    algorithms: [Algorithm; 2],
    tail: Tail,
    /// The logical cluster in which the tail starts.
    tail_lcn: u64,
}

impl<'a> Clusters<'a> {
    pub(super) fn new(
        context: Context<'a>,
        index: Index<'a>,
        advise: Advise,
        bits: u32,
        algorithms: [Algorithm; 2],
        tail: Tail,
    ) -> Result<Self> {
        let mut this = Self { context, index, advise, bits, algorithms, tail, tail_lcn: u64::MAX };
        let last = context.size.saturating_sub(1);
        if context.size == 0 || matches!(tail, Tail::None) {
            return Ok(this);
        }
        let (tail_lcn, head) = this.find_head(last)?;
        this.tail_lcn = tail_lcn;
        match &mut this.tail {
            Tail::Inline { position, .. } => *position = this.index.behind(last >> bits)?,
            // A full index has room for 64 bits.
            Tail::Fragment { offset } if matches!(this.index, Index::Full(_)) => {
                *offset |= u64::from(head.block) << 32;
            }
            _ => (),
        }
        Ok(this)
    }

    /// The extent that holds `offset`. `before` is the one that was asked for last.
    pub(super) fn at(&mut self, offset: u64, before: Option<ZExtent>) -> Result<ZExtent> {
        let context = self.context;
        if let Tail::Fragment { offset } = self.tail
            && self.tail_lcn == 0
        {
            let place = context.fragment(0, offset)?;
            return Ok(ZExtent { la: 0, llen: context.size, place });
        }
        let runs_on = |before: &ZExtent| before.place == ZPlace::Hole && before.la + before.llen == offset;
        if before.is_some_and(|before| runs_on(&before))
            && matches!(self.index.load(offset >> self.bits)?, Lcluster::Nonhead { .. })
        {
            // A long hole that came in pieces.
            let end = self.end(offset >> self.bits, offset, false)?;
            return Ok(ZExtent { la: offset, llen: end - offset, place: ZPlace::Hole });
        }
        let (lcn, head) = self.find_head(offset)?;
        let la = (lcn << self.bits) + u64::from(head.clusterofs);
        if lcn == self.tail_lcn {
            return self.tail(lcn, la, head);
        }
        let blocks = self.blocks(lcn, head)?;
        let end = self.end(lcn, la, blocks != 0)?;
        let llen = end - la;
        if blocks == 0 {
            return Ok(ZExtent { la, llen, place: ZPlace::Hole });
        }
        let stated = Stated {
            at: StatedAt::Unified(u64::from(head.block) << context.block_bits()),
            plen: u64::from(blocks) << context.block_bits(),
            format: self.format(head, self.advise.contains(Advise::INTERLACED_PCLUSTER)),
            partial: head.partial,
        };
        context.pcluster(la, llen, stated)
    }

    fn tail(&mut self, lcn: u64, la: u64, head: Head) -> Result<ZExtent> {
        let llen = self.context.size - la;
        // The way back from the file's last byte must not lead past a head, as far as one looks.
        let looked_at = (lcn + u64::from(MAX_STEPS)) << self.bits;
        if self.end(lcn, la, false)? < self.context.size.min(looked_at) {
            let offset = self.context.size - 1;
            return Err(self.context.corrupt(la, MapCorruption::Inconsistent { offset }));
        }
        match self.tail {
            Tail::Fragment { offset } => Ok(ZExtent { la, llen, place: self.context.fragment(la, offset)? }),
            Tail::Inline { plen, position } => {
                let block_size = 1 << self.context.block_bits();
                if position % block_size + plen > block_size {
                    return Err(self.context.corrupt(la, MapCorruption::InlineCrossesBlock { plen }));
                }
                let format = self.format(head, false);
                let at = StatedAt::Inline(position);
                self.context.pcluster(la, llen, Stated { at, plen, format, partial: head.partial })
            }
            // No logical cluster has the number that tail_lcn has then.
            Tail::None => Err(self.context.corrupt(la, MapCorruption::Inconsistent { offset: la })),
        }
    }

    fn format(&self, head: Head, interlaced: bool) -> ZFormat {
        match head.kind {
            LclusterType::Head1 => ZFormat::Coded(self.algorithms[0]),
            LclusterType::Head2 => ZFormat::Coded(self.algorithms[1]),
            _ if interlaced => ZFormat::Interlaced,
            _ => ZFormat::Shifted,
        }
    }

    /// The logical cluster in which the extent starts that holds `offset`, and its entry.
    fn find_head(&mut self, offset: u64) -> Result<(u64, Head)> {
        let mut lcn = offset >> self.bits;
        let in_cluster = offset - (lcn << self.bits);
        let mut distance = match self.load(lcn)? {
            Lcluster::Head(head) if u64::from(head.clusterofs) <= in_cluster => return Ok((lcn, head)),
            Lcluster::Head(_) => 1,
            Lcluster::Nonhead { back, .. } => back,
        };
        for _ in 0..MAX_STEPS {
            if distance == 0 || distance > lcn {
                break;
            }
            lcn -= distance;
            distance = match self.load(lcn)? {
                Lcluster::Head(head) => return Ok((lcn, head)),
                Lcluster::Nonhead { back, .. } => back,
            };
        }
        Err(self.context.corrupt(lcn << self.bits, MapCorruption::Lookback { lcn, distance }))
    }

    fn load(&mut self, lcn: u64) -> Result<Lcluster> {
        let entry = self.index.load(lcn)?;
        if let Lcluster::Head(Head { clusterofs: found, .. }) = entry
            && u64::from(found) >= 1 << self.bits
        {
            return Err(self.context.corrupt(lcn << self.bits, MapCorruption::ClusterOffset { lcn, found }));
        }
        Ok(entry)
    }

    /// Blocks of the pcluster whose head is at `lcn`; 0: it is a hole.
    fn blocks(&mut self, lcn: u64, head: Head) -> Result<u32> {
        if head.hole {
            return Ok(0);
        }
        let big = match head.kind {
            LclusterType::Head1 => Advise::BIG_PCLUSTER_1,
            _ => Advise::BIG_PCLUSTER_2,
        };
        let next = lcn + 1;
        if !self.advise.contains(big) || next << self.bits >= self.context.size {
            return Ok(1);
        }
        match self.load(next)? {
            Lcluster::Head(_) => Ok(1),
            Lcluster::Nonhead { blocks: Some(blocks), .. } => Ok(blocks),
            Lcluster::Nonhead { blocks: None, .. } => {
                Err(self.context.corrupt(lcn << self.bits, MapCorruption::NoBlockCount { lcn: next }))
            }
        }
    }

    /// Where the extent ends that started at `la` and goes on behind logical cluster `lcn`: at the
    /// next head.
    ///
    /// A NONHEAD says how far that is, but then a lie would skip heads, and what a byte is would
    /// depend on where a read began. Step by step an extent that is found holds no other's head.
    fn end(&mut self, mut lcn: u64, la: u64, has_data: bool) -> Result<u64> {
        for _ in 0..MAX_STEPS {
            // Sizes are below 2^63.
            lcn += 1;
            let start = lcn << self.bits;
            if start >= self.context.size {
                return Ok(self.context.size);
            }
            if has_data && start - la > u64::from(PCLUSTER_MAX_DSIZE) {
                return Err(self.context.unsupported(la, Feature::ExtentLength { found: start - la }));
            }
            if let Lcluster::Head(head) = self.load(lcn)? {
                return Ok((start + u64::from(head.clusterofs)).min(self.context.size));
            }
        }
        Ok(((lcn + 1) << self.bits).min(self.context.size))
    }
}
