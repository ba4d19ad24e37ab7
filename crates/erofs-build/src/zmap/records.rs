//! Encoded extents (Linux 6.15): a record for each extent, which says where its bytes are to the byte.
//!
//! Records have four sizes. The two smaller ones leave out where an extent starts in the file: they serve files
//! whose extents are all equally long, and a file of one extent is such a file.

use erofs_format::zmap::{Advise, CLUSTERBITS_MASK, ExtentLength, ExtentRecord, MapHeader};
use zerocopy::IntoBytes;

use super::{Map, Tail};

/// Records of this size have no address but the first one's, so that a reader goes through all before the one it
/// wants.
const NO_ADDRESS: u64 = 4;
/// The most of them.
const MOST_WITHOUT_ADDRESS: u64 = 256;
/// Records of these sizes have 32 bits for an address; 32 bits for the place in the file; and 64 for both.
const LOW_ADDRESS: u64 = 8;
const LOW_START: u64 = 16;
const WHOLE: u64 = size_of::<ExtentRecord>() as u64;

/// The records of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Records {
    /// Bytes of a record.
    size: u64,
    count: u64,
    /// How long all extents are, as a power of two, if the records don't say where they start.
    bits: u32,
}

impl Records {
    /// The records that take the least room.
    pub(super) fn of(map: &Map<'_>) -> Self {
        let count = map.extents.len() as u64 + u64::from(matches!(map.tail, Tail::Fragment { .. }));
        let is_low = |number: u64| u32::try_from(number).is_ok();
        let starts_low = is_low(map.size());
        let searched = Self { size: if starts_low { LOW_START } else { WHOLE }, count, bits: 0 };
        let Some(bits) = uniform(map, count) else { return searched };
        let runs_on = |pair: &[super::Extent]| pair[0].at + u64::from(pair[0].plen) == pair[1].at;
        let mut best = searched;
        let far = matches!(map.tail, Tail::Fragment { offset, .. } if !is_low(offset));
        if map.extents.iter().all(|extent| is_low(extent.at)) {
            best = Self { size: LOW_ADDRESS, count, bits };
        }
        let bare = Self { size: NO_ADDRESS, count, bits };
        if !far
            && count <= MOST_WITHOUT_ADDRESS
            && bare.bytes() < best.bytes()
            && map.extents.windows(2).all(runs_on)
        {
            best = bare;
        }
        best
    }

    fn bytes(&self) -> u64 {
        self.count * self.size + if self.size == NO_ADDRESS { size_of::<u64>() as u64 } else { 0 }
    }

    /// Where the records end, if the map header ends at `header_end`.
    pub(super) fn end(&self, header_end: u64) -> u64 {
        header_end.next_multiple_of(self.size) + self.bytes()
    }

    /// What the map header says of them.
    pub(super) fn header(&self, map: &Map<'_>) -> MapHeader {
        let code = u16::try_from((self.size / NO_ADDRESS).trailing_zeros()).unwrap_or(0);
        let mut advise = Advise::EXTENTS.bits() | code << 1;
        if let Tail::Fragment { .. } = map.tail {
            advise |= Advise::FRAGMENT_PCLUSTER.bits();
        }
        let mut header = MapHeader { h_advise: advise.into(), ..MapHeader::default() };
        if self.size <= LOW_ADDRESS {
            header.h_clusterbits = u8::try_from(self.bits - map.block_bits).unwrap_or(CLUSTERBITS_MASK);
        } else {
            let bytes = self.count.to_le_bytes();
            header.h_u = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).into();
            (header.h_algorithmtype, header.h_clusterbits) = (bytes[4], bytes[5]);
        }
        header
    }

    /// Appends the records to `out`, in which the inode starts at `start`.
    pub(super) fn put(&self, map: &Map<'_>, start: usize, out: &mut Vec<u8>) {
        let first = (out.len() - start).next_multiple_of(usize::try_from(self.size).unwrap_or(1));
        out.resize(start + first, 0);
        if self.size == NO_ADDRESS {
            out.extend_from_slice(&map.extents.first().map_or(0, |extent| extent.at).to_le_bytes());
        }
        let mut la = 0;
        for extent in map.extents {
            let format = if extent.is_coded { map.algorithm as u8 + 1 } else { 0 };
            let length = ExtentLength { length: extent.plen, partial: extent.is_partial, format };
            self.put_one(u32::from(length), extent.at, la, out);
            la += extent.llen;
        }
        if let Tail::Fragment { offset, .. } = map.tail {
            let (low, high) = halves(offset);
            self.put_one(low, high.into(), la, out);
        }
    }

    fn put_one(&self, plen: u32, at: u64, la: u64, out: &mut Vec<u8>) {
        let ((pstart_lo, pstart_hi), (lstart_lo, lstart_hi)) = (halves(at), halves(la));
        let record = ExtentRecord {
            plen: plen.into(),
            pstart_lo: pstart_lo.into(),
            pstart_hi: pstart_hi.into(),
            lstart_lo: lstart_lo.into(),
            lstart_hi: lstart_hi.into(),
            reserved: [0; 12],
        };
        let size = usize::try_from(self.size).unwrap_or(0);
        out.extend_from_slice(&record.as_bytes()[..size]);
    }
}

/// How long all extents but the last are, as a power of two, if they are equally long and the last is no longer.
fn uniform(map: &Map<'_>, count: u64) -> Option<u32> {
    let size = map.size();
    let first = map.extents.first().map_or(size, |extent| extent.llen);
    let bits = if count == 1 { size.next_power_of_two().trailing_zeros() } else { first.trailing_zeros() };
    let bits = bits.max(map.block_bits);
    let length = 1u64.checked_shl(bits)?;
    // A fragment starts where the extents end.
    let starts = map.extents.iter().scan(0, |la, extent| {
        *la += extent.llen;
        Some(*la)
    });
    let is_uniform = (1..count).zip(starts).all(|(nth, start)| start == nth << bits);
    let is_said = size.div_ceil(length) == count && bits - map.block_bits <= u32::from(CLUSTERBITS_MASK);
    (is_uniform && is_said).then_some(bits)
}

/// The low and the high 32 bits.
fn halves(number: u64) -> (u32, u32) {
    let low = u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    (low, u32::try_from(number >> 32).unwrap_or(u32::MAX))
}
