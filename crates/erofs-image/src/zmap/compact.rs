//! The compact index: entries of 14 or 16 bits in packs, which share one block address.

use erofs_format::zmap::{Advise, CompactLayout, CompactPack, LI_D0_CBLKCNT, LclusterType};

use super::clusters::{Head, Lcluster};
use super::window::Window;
use super::{Context, MapCorruption};
use crate::error::{Feature, Result};

/// Entries of the largest pack.
const MAX_ENTRIES: usize = CompactPack::TwoByte.entries() as usize;
const CBLKCNT: u32 = LI_D0_CBLKCNT as u32;
/// Bits of an entry below its type, at least: those of a distance with `LI_D0_CBLKCNT`.
const MIN_LOBITS: u32 = CBLKCNT.ilog2() + 1;

#[derive(Debug)]
pub(super) struct CompactIndex<'a> {
    context: Context<'a>,
    layout: CompactLayout,
    bits: u32,
    has_big: bool,
    window: Window<'a>,
    pack: Option<Pack>,
}

/// A pack, taken apart.
#[derive(Debug)]
struct Pack {
    /// The logical cluster of its first entry.
    first: u64,
    count: usize,
    /// The low bits of each entry: `clusterofs` of a head, else a distance.
    low: [u32; MAX_ENTRIES],
    kinds: [LclusterType; MAX_ENTRIES],
    base: u32,
}

impl<'a> CompactIndex<'a> {
    pub(super) fn new(context: Context<'a>, start: u64, advise: Advise, bits: u32) -> Self {
        // Linux counts blocks here, not logical clusters.
        let entries = context.size.div_ceil(1 << context.block_bits());
        let layout = CompactLayout::new(start, entries, advise.contains(Advise::COMPACTED_2B));
        let end = layout.end().unwrap_or(u64::MAX);
        Self {
            context,
            layout,
            bits,
            has_big: advise.contains(Advise::BIG_PCLUSTER_1),
            window: Window::new(context, start, end),
            pack: None,
        }
    }

    /// The byte position behind the pack of `lcn`, where the pcluster behind the index lies.
    pub(super) fn behind(&self, lcn: u64) -> Result<u64> {
        let place = self.layout.locate(lcn).ok_or_else(|| self.no_entry(lcn))?;
        // Its pack has been read.
        Ok(place.offset.saturating_add(place.pack.size() as u64))
    }

    pub(super) fn load(&mut self, lcn: u64) -> Result<Lcluster> {
        self.find_pack(lcn)?;
        let Some(pack) = &self.pack else { return Err(self.no_entry(lcn)) };
        let index = usize::try_from(lcn - pack.first).unwrap_or_default();
        let (low, kind) = pack.entry(index);
        if kind != LclusterType::Nonhead {
            let block = pack.base.wrapping_add(self.blocks_before(pack, index)?);
            return Ok(Lcluster::Head(Head { kind, clusterofs: low, block, partial: false, hole: false }));
        }
        if low & CBLKCNT != 0 {
            if !self.has_big {
                let what = MapCorruption::UnexpectedBlockCount { lcn };
                return Err(self.context.corrupt(lcn << self.bits, what));
            }
            return Ok(Lcluster::Nonhead { back: 1, blocks: Some(low & !CBLKCNT) });
        }
        // The last entry of a pack holds the distance on to the next head instead.
        let back = if index + 1 < pack.count { low } else { pack.back_of_last() };
        Ok(Lcluster::Nonhead { back: back.into(), blocks: None })
    }

    /// How many blocks lie between the base address of `pack` and the pcluster of its head at
    /// `index`: those of the pclusters of the heads before it.
    fn blocks_before(&self, pack: &Pack, index: usize) -> Result<u32> {
        // The base of a pack without big pclusters is one less than its first address.
        let mut blocks = u32::from(!self.has_big);
        let mut rest = index;
        while let Some(before) = rest.checked_sub(1) {
            let (low, kind) = pack.entry(before);
            let distance = usize::try_from(low).unwrap_or(usize::MAX);
            if kind != LclusterType::Nonhead {
                blocks = blocks.wrapping_add(1);
                rest = before;
            } else if !self.has_big {
                // On to the head that the entry belongs to, if it is in the pack.
                let Some(head) = before.checked_sub(distance) else { break };
                blocks = blocks.wrapping_add(1);
                rest = head;
            } else if low & CBLKCNT != 0 {
                blocks = blocks.wrapping_add(low & !CBLKCNT);
                rest = before.saturating_sub(1);
            } else if low > 1 {
                // On to the entry behind that head, which states the size.
                rest = before.saturating_sub(distance - 2);
            } else {
                let what = MapCorruption::PackDistance { lcn: pack.first, distance: low };
                return Err(self.context.corrupt(pack.first << self.bits, what));
            }
        }
        Ok(blocks)
    }

    /// Makes `self.pack` the one that `lcn` is in.
    fn find_pack(&mut self, lcn: u64) -> Result<()> {
        let known = |pack: &Pack| lcn.checked_sub(pack.first).is_some_and(|index| index < pack.count as u64);
        if self.pack.as_ref().is_some_and(known) {
            return Ok(());
        }
        let place = self.layout.locate(lcn).filter(|_| self.bits <= CompactPack::FourByte.max_lclusterbits());
        let place = place.ok_or_else(|| self.no_entry(lcn))?;
        if self.bits > place.pack.max_lclusterbits() {
            let feature = Feature::CompactLclusterBits { found: self.bits };
            return Err(self.context.unsupported(lcn << self.bits, feature));
        }
        let lobits = self.bits.max(MIN_LOBITS);
        let first = lcn - u64::from(place.index);
        let pack = match place.pack {
            CompactPack::FourByte => {
                Pack::new(place.pack, &self.window.get::<8>(place.offset)?, first, lobits)
            }
            CompactPack::TwoByte => {
                Pack::new(place.pack, &self.window.get::<32>(place.offset)?, first, lobits)
            }
        };
        self.pack = Some(pack);
        Ok(())
    }

    fn no_entry(&self, lcn: u64) -> crate::error::Error {
        self.context.corrupt(lcn.saturating_mul(1 << self.bits), MapCorruption::NoEntry { lcn })
    }
}

impl Pack {
    fn new(pack: CompactPack, bytes: &[u8], first: u64, lobits: u32) -> Self {
        let mut this = Self {
            first,
            count: 0,
            low: [0; MAX_ENTRIES],
            kinds: [LclusterType::Plain; MAX_ENTRIES],
            base: pack.base(bytes).unwrap_or_default(),
        };
        let entries = (0..pack.entries()).filter_map(|index| pack.entry(bytes, lobits, index));
        for ((low, kind), entry) in this.low.iter_mut().zip(&mut this.kinds).zip(entries) {
            (*low, *kind) = entry;
            this.count += 1;
        }
        this
    }

    fn entry(&self, index: usize) -> (u32, LclusterType) {
        let low = self.low.get(index).copied().unwrap_or_default();
        (low, self.kinds.get(index).copied().unwrap_or(LclusterType::Plain))
    }

    /// How far back the head of the last entry is, by way of the entry before.
    fn back_of_last(&self) -> u32 {
        let (low, kind) = self.entry(self.count.saturating_sub(2));
        match kind {
            LclusterType::Nonhead if low & CBLKCNT != 0 => 2,
            LclusterType::Nonhead => low + 1,
            _ => 1,
        }
    }
}
