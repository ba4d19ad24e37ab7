//! The full index: an entry of 8 bytes for each logical cluster.

use erofs_format::zmap::{Advise, LI_D0_CBLKCNT, LI_HOLE, LI_PARTIAL_REF, LclusterIndex, LclusterType};
use zerocopy::FromBytes;

use super::clusters::{Head, Lcluster};
use super::window::Window;
use super::{Context, MapCorruption};
use crate::device::overflow;
use crate::error::Result;

const ENTRY_SIZE: usize = size_of::<LclusterIndex>();

#[derive(Debug)]
pub(super) struct FullIndex<'a> {
    context: Context<'a>,
    start: u64,
    bits: u32,
    has_big: bool,
    window: Window<'a>,
}

impl<'a> FullIndex<'a> {
    pub(super) fn new(context: Context<'a>, start: u64, advise: Advise, bits: u32) -> Self {
        let entries = context.size.div_ceil(1 << bits);
        let end = start.saturating_add(entries.saturating_mul(ENTRY_SIZE as u64));
        let has_big = advise.intersects(Advise::BIG_PCLUSTER_1 | Advise::BIG_PCLUSTER_2);
        Self { context, start, bits, has_big, window: Window::new(context, start, end) }
    }

    /// Byte position of the entry for `lcn`; that for the next is where the pcluster behind the
    /// index may lie.
    pub(super) fn position(&self, lcn: u64) -> Result<u64> {
        let position = lcn.checked_mul(ENTRY_SIZE as u64).and_then(|at| at.checked_add(self.start));
        position.ok_or_else(|| overflow(self.context.nid))
    }

    pub(super) fn load(&mut self, lcn: u64) -> Result<Lcluster> {
        let bytes = self.window.get::<ENTRY_SIZE>(self.position(lcn)?)?;
        let entry = LclusterIndex::read_from_bytes(&bytes).unwrap_or_default();
        let kind = entry.lcluster_type();
        if kind != LclusterType::Nonhead {
            let advise = entry.di_advise.get();
            return Ok(Lcluster::Head(Head {
                kind,
                clusterofs: u32::from(entry.di_clusterofs.get()),
                block: entry.di_u.get(),
                partial: advise & LI_PARTIAL_REF != 0,
                hole: advise & LI_HOLE != 0,
            }));
        }
        let [back, _] = entry.delta();
        if back & LI_D0_CBLKCNT == 0 {
            return Ok(Lcluster::Nonhead { back: back.into(), blocks: None });
        }
        if !self.has_big {
            return Err(self.context.corrupt(lcn << self.bits, MapCorruption::UnexpectedBlockCount { lcn }));
        }
        let blocks = Some(u32::from(back & !LI_D0_CBLKCNT));
        Ok(Lcluster::Nonhead { back: 1, blocks })
    }
}
