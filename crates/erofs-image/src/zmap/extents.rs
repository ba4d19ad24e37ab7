//! Encoded extents: records with the place of each extent (48-bit images).
//!
//! Records of 4 and 8 bytes are for extents of one logical cluster each, so that their number is
//! their place in the file; those of 16 and 32 bytes say where they start and are searched.

use erofs_format::compression::Algorithm;
use erofs_format::zmap::{Advise, ExtentLength, ExtentRecord};
use zerocopy::FromBytes;

use super::window::Window;
use super::{Context, MapCorruption, Stated, StatedAt, ZExtent, ZFormat, ZPlace};
use crate::device::overflow;
use crate::error::{Error, Result, Where};

/// A record of this size and below has no start; the size below it has no address either.
const NO_LSTART: u64 = 8;
const NO_PSTART: u64 = 4;
/// A record of this size has all fields.
const WHOLE: usize = size_of::<ExtentRecord>();

#[derive(Debug)]
pub(super) struct Records<'a> {
    context: Context<'a>,
    /// Byte position of the first record.
    start: u64,
    size: u64,
    count: u64,
    /// Bytes of a logical cluster, as a power of two.
    bits: u32,
    advise: Advise,
    window: Window<'a>,
    /// Of records without addresses: the number of one and its address.
    known: (u64, u64),
    /// Of records that are searched: the number of the one found last.
    found: Option<u64>,
}

/// A record in the values it has or implies.
#[derive(Clone, Copy, Debug)]
struct Record {
    plen: u32,
    pa: u64,
    la: u64,
}

impl<'a> Records<'a> {
    pub(super) fn new(
        context: Context<'a>,
        behind: u64,
        advise: Advise,
        bits: u32,
        count: u64,
    ) -> Result<Self> {
        let size = advise.extent_record_size();
        let mut start = behind.checked_next_multiple_of(size).ok_or_else(|| overflow(context.nid))?;
        let mut first = 0;
        if size == NO_PSTART {
            let bytes = context.image.bytes(context.space, start, size_of::<u64>());
            let bytes = bytes.map_err(|error| error.of_inode(context.nid))?;
            first = bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            start = start.checked_add(size_of::<u64>() as u64).ok_or_else(|| overflow(context.nid))?;
        }
        let count = if size <= NO_LSTART { context.size.div_ceil(1 << bits) } else { count };
        let end = start.saturating_add(count.saturating_mul(size));
        let window = Window::new(context, start, end);
        Ok(Self { context, start, size, count, bits, advise, window, known: (0, first), found: None })
    }

    pub(super) fn at(&mut self, offset: u64) -> Result<ZExtent> {
        let (record, end, is_last) =
            if self.size <= NO_LSTART { self.counted(offset)? } else { self.searched(offset)? };
        let Some(Record { plen, pa, la }) = record else {
            return Ok(ZExtent { la: 0, llen: end, place: ZPlace::Hole });
        };
        let llen = end - la;
        if is_last && self.advise.contains(Advise::FRAGMENT_PCLUSTER) {
            // Linux takes all of plen here, and drops what the shift drops.
            let high = if self.size == NO_PSTART { 0 } else { pa << 32 };
            return Ok(ZExtent { la, llen, place: self.context.fragment(la, high | u64::from(plen))? });
        }
        let ExtentLength { length, partial, format } = plen.into();
        if length == 0 {
            return Ok(ZExtent { la, llen, place: ZPlace::Hole });
        }
        let format = match format.checked_sub(1) {
            Some(number) => {
                let algorithm = Algorithm::try_from(number);
                ZFormat::Coded(algorithm.map_err(|error| self.context.unsupported(la, error))?)
            }
            None if self.is_interlaced(pa, length) => ZFormat::Interlaced,
            None => ZFormat::Shifted,
        };
        let at = StatedAt::Unified(pa);
        self.context.pcluster(la, llen, Stated { at, plen: u64::from(length), format, partial })
    }

    fn is_interlaced(&self, pa: u64, length: u32) -> bool {
        let in_block = (1 << self.context.block_bits()) - 1;
        self.advise.contains(Advise::INTERLACED_PCLUSTER) && (pa | u64::from(length)) & in_block == 0
    }

    /// The record of the logical cluster that holds `offset`, and where that ends.
    fn counted(&mut self, offset: u64) -> Result<(Option<Record>, u64, bool)> {
        let number = offset >> self.bits;
        let mut record = self.read(number)?;
        if self.size == NO_PSTART {
            record.pa = self.address(number)?;
        }
        record.la = number << self.bits;
        let end = (record.la + (1 << self.bits)).min(self.context.size);
        Ok((Some(record), end, number + 1 >= self.count))
    }

    /// The address of record `number`: the first address and the lengths of all records before.
    fn address(&mut self, number: u64) -> Result<u64> {
        let (mut at, mut address) = self.known;
        if number < at {
            at = 0;
            let first = self.start - size_of::<u64>() as u64;
            let bytes = self.context.image.bytes(self.context.space, first, size_of::<u64>())?;
            address = bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        }
        let limit = self.context.image.limits().extents;
        if number - at > limit {
            let place = Where::extent(self.context.nid, number << self.bits);
            return Err(Error::Limit { place, name: "extents", value: number - at, limit });
        }
        while at < number {
            let length = ExtentLength::from(self.read(at)?.plen).length;
            address = address.checked_add(length.into()).ok_or_else(|| overflow(self.context.nid))?;
            at += 1;
        }
        self.known = (at, address);
        Ok(address)
    }

    /// The last record that starts at or before `offset`, and where the next one starts.
    fn searched(&mut self, offset: u64) -> Result<(Option<Record>, u64, bool)> {
        if let Some(found) = self.onwards(offset)? {
            return Ok(found);
        }
        let mut found = None;
        let mut end = self.context.size;
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let record = self.read(middle)?;
            if record.la > offset {
                high = middle;
                if record.la > end {
                    return Err(self.context.corrupt(offset, MapCorruption::Unsorted { found: record.la }));
                }
                end = record.la;
            } else {
                low = middle + 1;
                if record.la == offset {
                    high = high.min(low + 1);
                }
                found = Some(record);
            }
        }
        self.found = low.checked_sub(1);
        Ok((found, end, low >= self.count))
    }

    /// The same by looking at the record behind the one found last, if that is it.
    fn onwards(&mut self, offset: u64) -> Result<Option<(Option<Record>, u64, bool)>> {
        let Some(number) = self.found.map(|found| found + 1).filter(|number| *number < self.count) else {
            return Ok(None);
        };
        let record = self.read(number)?;
        if record.la != offset {
            return Ok(None);
        }
        let is_last = number + 1 == self.count;
        let end = if is_last { self.context.size } else { self.read(number + 1)?.la };
        if end <= offset || end > self.context.size {
            return Ok(None);
        }
        self.found = Some(number);
        Ok(Some((Some(record), end, is_last)))
    }

    fn read(&mut self, number: u64) -> Result<Record> {
        let position = number.checked_mul(self.size).and_then(|at| at.checked_add(self.start));
        let position = position.ok_or_else(|| overflow(self.context.nid))?;
        let mut bytes = [0; WHOLE];
        match self.size {
            4 => bytes[..4].copy_from_slice(&self.window.get::<4>(position)?),
            8 => bytes[..8].copy_from_slice(&self.window.get::<8>(position)?),
            16 => bytes[..16].copy_from_slice(&self.window.get::<16>(position)?),
            _ => bytes = self.window.get::<WHOLE>(position)?,
        }
        let raw = ExtentRecord::read_from_bytes(&bytes).unwrap_or_default();
        let wide = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        Ok(Record {
            plen: raw.plen.get(),
            pa: wide(raw.pstart_lo.get(), raw.pstart_hi.get()),
            la: wide(raw.lstart_lo.get(), raw.lstart_hi.get()),
        })
    }
}
