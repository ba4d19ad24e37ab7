//! Maps put together entry by entry.

mod compact;
mod full;
mod header;
mod random;
mod records;
mod tails;

#[path = "../../../tests/support/mod.rs"]
mod support;

use erofs_format::FeatureIncompat;
use erofs_format::compression::{DeflateCfgs, Lz4Cfgs, LzmaCfgs, ZstdCfgs};
use erofs_format::inode::DataLayout;
use erofs_format::zmap::{LI_D0_CBLKCNT, LclusterIndex, MapHeader};
use zerocopy::IntoBytes;

use super::*;
use crate::error::Corruption;
use crate::image::OpenOptions;
use crate::limits::Limits;
use support::{Builder, REG, extended, open_with};

/// The inode of the tests, and where its map header lies: behind 64 bytes at a multiple of 32.
const NID: u64 = 64;
const HEADER: u64 = 4096 + NID * 32 + 64;

/// An inode with a map, in an image that may use all algorithms.
#[derive(Clone)]
struct Mapped {
    blkszbits: u8,
    incompat: FeatureIncompat,
    algorithms: u16,
    packed_nid: u64,
    layout: DataLayout,
    size: u64,
    header: MapHeader,
    /// What lies behind the map header.
    index: Vec<u8>,
}

impl Mapped {
    fn new(layout: DataLayout, size: u64, advise: u16, index: Vec<u8>) -> Self {
        let header = MapHeader { h_advise: advise.into(), ..MapHeader::default() };
        let incompat = FeatureIncompat::LZ4_0PADDING | FeatureIncompat::COMPR_CFGS;
        Self { blkszbits: 12, incompat, algorithms: 0xf, packed_nid: 96, layout, size, header, index }
    }

    /// With a full index of these entries.
    fn full(size: u64, advise: u16, entries: &[LclusterIndex]) -> Self {
        let mut index = vec![0; 8];
        index.extend(entries.iter().flat_map(IntoBytes::as_bytes));
        Self::new(DataLayout::CompressedFull, size, advise, index)
    }

    fn algorithms(mut self, head1: u8, head2: u8) -> Self {
        self.header.h_algorithmtype = head1 | head2 << 4;
        self
    }

    fn with_packed(mut self) -> Self {
        self.incompat |= FeatureIncompat::FRAGMENTS;
        self
    }

    fn open(&self) -> Image {
        self.open_within(Limits::default())
    }

    fn open_within(&self, limits: Limits) -> Image {
        let mut builder = Builder::with_root(self.blkszbits, &[]);
        builder.incompat(self.incompat);
        builder.sb.u1 = self.algorithms.into();
        builder.sb.packed_nid = self.packed_nid.into();
        let lzma = LzmaCfgs { dict_size: 65536.into(), ..LzmaCfgs::default() };
        let deflate = DeflateCfgs { windowbits: 15, ..DeflateCfgs::default() };
        let (lz4, zstd) = (Lz4Cfgs::default(), ZstdCfgs::default());
        let records = [lz4.as_bytes(), lzma.as_bytes(), deflate.as_bytes(), zstd.as_bytes()];
        let mut position = 1024 + 128;
        for (number, record) in records.into_iter().enumerate() {
            if self.algorithms & 1 << number != 0 {
                builder.put(position, &u16::try_from(record.len()).unwrap().to_le_bytes());
                builder.put(position + 2, record);
                position = (position + 2 + record.len() as u64).next_multiple_of(4);
            }
        }
        builder.put_inode(NID, &extended(self.layout, REG, self.size, 0));
        builder.put(HEADER, self.header.as_bytes());
        builder.put(HEADER + 8, &self.index);
        let options = OpenOptions { limits, ..OpenOptions::default() };
        open_with(builder.finish(), options).unwrap()
    }

    /// What `ask` gets from the map.
    fn with<T>(&self, ask: impl FnOnce(&mut ZMap<'_>) -> T) -> T {
        let image = self.open();
        ask(&mut ZMap::new(&image, &image.inode(NID).unwrap()).unwrap())
    }

    /// All extents in order. Each is found from its first, middle and last byte, by a cursor that
    /// knows what lies before and by one that does not.
    fn extents(&self) -> Vec<ZExtent> {
        let image = self.open();
        let inode = image.inode(NID).unwrap();
        let mut map = ZMap::new(&image, &inode).unwrap();
        let mut extents = Vec::new();
        let mut offset = 0;
        while offset < self.size {
            let extent = map.at(offset).unwrap();
            assert_eq!(extent.la, offset);
            for at in [extent.la, extent.la + extent.llen / 2, extent.la + extent.llen - 1] {
                assert_eq!(map.at(at).unwrap(), extent);
                assert_eq!(ZMap::new(&image, &inode).unwrap().at(at).unwrap(), extent);
            }
            extents.push(extent);
            offset += extent.llen;
        }
        let end = ZExtent { la: self.size, llen: 0, place: ZPlace::Hole };
        assert_eq!((offset, map.at(offset).unwrap(), map.at(u64::MAX).unwrap()), (self.size, end, end));
        // And backwards.
        let mut map = ZMap::new(&image, &inode).unwrap();
        assert!(extents.iter().rev().all(|extent| map.at(extent.la + extent.llen - 1).unwrap() == *extent));
        extents
    }

    /// The error at `offset`, of opening the map or of asking.
    fn error(&self, offset: u64) -> Error {
        let image = self.open();
        let inode = image.inode(NID).unwrap();
        let error = ZMap::new(&image, &inode).and_then(|mut map| map.at(offset)).unwrap_err();
        assert_eq!(error.nid(), Some(NID), "{error}");
        error
    }

    /// The rule that is broken at `offset`.
    fn broken(&self, offset: u64) -> MapCorruption {
        let error = self.error(offset);
        let Error::Corrupt { what: Corruption::Map(what), .. } = error else { panic!("{error:?}") };
        assert_eq!(error.errno(), 117);
        assert!(error.extent().or(error.offset()).is_some(), "{error}");
        what
    }

    fn unsupported(&self, offset: u64) -> Feature {
        let error = self.error(offset);
        let Error::Unsupported { feature, .. } = error else { panic!("{error:?}") };
        feature
    }
}

const PLAIN: u16 = 0;
const HEAD1: u16 = 1;
const HEAD2: u16 = 3;

fn head(advise: u16, clusterofs: u16, block: u32) -> LclusterIndex {
    LclusterIndex { di_advise: advise.into(), di_clusterofs: clusterofs.into(), di_u: block.into() }
}

fn nonhead(back: u16, ahead: u16) -> LclusterIndex {
    let di_u = (u32::from(ahead) << 16 | u32::from(back)).into();
    LclusterIndex { di_advise: 2.into(), di_clusterofs: 0.into(), di_u }
}

fn count(blocks: u16, ahead: u16) -> LclusterIndex {
    nonhead(LI_D0_CBLKCNT | blocks, ahead)
}

fn hole(la: u64, llen: u64) -> ZExtent {
    ZExtent { la, llen, place: ZPlace::Hole }
}

fn fragment(la: u64, llen: u64, offset: u64) -> ZExtent {
    ZExtent { la, llen, place: ZPlace::Fragment { offset } }
}

/// At a byte position of the primary.
fn data(la: u64, llen: u64, position: u64, plen: u32, format: ZFormat) -> ZExtent {
    let at = ZAt::Blob { index: 0, position };
    ZExtent { la, llen, place: ZPlace::Pcluster { at, plen, format, partial: false } }
}

fn partial(extent: ZExtent) -> ZExtent {
    let ZPlace::Pcluster { at, plen, format, .. } = extent.place else { panic!("{extent:?}") };
    ZExtent { place: ZPlace::Pcluster { at, plen, format, partial: true }, ..extent }
}

const LZ4: ZFormat = ZFormat::Coded(Algorithm::Lz4);
const LZMA: ZFormat = ZFormat::Coded(Algorithm::Lzma);
const ZSTD: ZFormat = ZFormat::Coded(Algorithm::Zstd);
