//! What lies in the data of other inodes: fragments in the packed inode, all kinds of metadata in
//! a compressed metabox. And that nothing leads round in circles.

mod support;

use std::ops::ControlFlow;
use std::time::Instant;

use erofs_format::inode::{DataLayout, NID_METABOX_BIT};
use erofs_format::zmap::{Advise, LclusterType, MapHeader};
use erofs_format::{FeatureCompat, FeatureIncompat};
use erofs_image::{
    Error, ErrorKind, Extent, Image, Inode, Limits, OpenOptions, Piece, Place, Result, Scratch,
};
use support::compressed::{Map, lz4, right_aligned, sample_data, unlz4};
use support::{Builder, DIR, REG, compact, dir_block, dots, extended, open_with, pattern, read_all};
use zerocopy::IntoBytes;

const PACKED: u64 = 96;
const METABOX: u64 = 70;

/// An image with a packed inode that holds the sample, compressed.
fn with_packed() -> Builder {
    let mut builder = Builder::with_root(12, &[("f", 64, 1)]);
    builder.lz4().incompat(FeatureIncompat::FRAGMENTS).put_sample(PACKED, 20);
    builder.sb.packed_nid = PACKED.into();
    builder
}

/// The error of a read, without what it read if it worked.
fn failed<T>(read: Result<T>) -> Error {
    match read {
        Ok(_) => panic!("it was read"),
        Err(error) => error,
    }
}

#[test]
fn a_whole_file_may_lie_in_the_packed_inode() {
    let mut builder = with_packed();
    for (offset, size) in [(0, 17_000), (9000, 400), (16_999, 1), (5000, 9000)] {
        builder.put_file(64, size, &Map::fragment(offset as u64));
        let (image, inode) = builder.open_64();
        assert!(read_all(&image, &inode).unwrap() == sample_data()[offset..offset + size]);
        let place = Place::Inside { nid: PACKED, offset: offset as u64, encoded: None };
        assert_eq!(image.map(&inode, 0).unwrap(), Extent { logical: 0, len: size as u64, place });
    }
    builder.put_file(64, 11, &Map::fragment(16_990));
    let (image, inode) = builder.open_64();
    let error = failed(read_all(&image, &inode));
    assert_eq!((error.kind(), error.nid(), error.offset()), (ErrorKind::Corrupt, Some(64), Some(16_990)));
    assert_eq!(error.extent(), Some(0));
}

/// The pieces of a file as (position, bytes, hole).
fn pieces(image: &Image, inode: &Inode) -> Vec<(u64, u64, bool)> {
    let mut pieces = Vec::new();
    let done = image.for_each_piece(inode, 0..u64::MAX, &mut Scratch::new(), &mut |at, piece| {
        pieces.push(match piece {
            Piece::Hole(len) => (at, len, true),
            Piece::Data(data) => (at, data.len() as u64, false),
        });
        ControlFlow::Continue(())
    });
    done.unwrap();
    pieces
}

#[test]
fn a_long_fragment_of_zeros_that_nobody_stored_is_a_hole() {
    const HUGE: u64 = 1 << 60;
    let mut builder = with_packed();
    builder.put_inode(64, &extended(DataLayout::CompressedFull, REG, HUGE, 3));
    builder.put(Builder::at(66), &Map::fragment(100).bytes());
    builder.put_inode(PACKED, &extended(DataLayout::FlatPlain, REG, HUGE + 100, (1 << 48) - 1));
    let (image, inode) = builder.open_64();
    assert_eq!(image.map(&inode, 0).unwrap(), Extent { logical: 0, len: HUGE, place: Place::Hole });
    assert_eq!(pieces(&image, &inode), [(0, HUGE, true)]);
    // Chunks of 2^43 bytes, the second of which would end beyond the image, if anybody went there.
    let size = (3 << 43) + 100;
    let mut chunks = extended(DataLayout::ChunkBased, REG, size, 0);
    chunks.i_u = 31.into();
    builder.put_inode(PACKED, &chunks).put(Builder::at(PACKED + 2), [u32::MAX, 1, u32::MAX, 1].as_bytes());
    builder.put_inode(64, &extended(DataLayout::CompressedFull, REG, size - 100, 3));
    let (image, inode) = builder.open_64();
    let extents: Vec<Extent> = image.extents(&inode).map(|extent| extent.unwrap()).collect();
    let holes: Vec<(u64, bool)> =
        extents.iter().map(|extent| (extent.logical, extent.place == Place::Hole)).collect();
    let chunk = 1_u64 << 43;
    assert_eq!(holes, [(0, true), (chunk - 100, false), (2 * chunk - 100, true), (3 * chunk - 100, false)]);
    assert_eq!(image.read(&inode, chunk - 105, &mut [1; 5]).unwrap(), 5);
}

#[test]
fn a_tail_may_lie_in_the_packed_inode() {
    let mut builder = with_packed();
    builder.put_block(30, &right_aligned(&lz4(&pattern(100), 7, 4900, &pattern(50)), 4096));
    let mut map = Map::default().advise(Advise::FRAGMENT_PCLUSTER).head(LclusterType::Head1, 0, 30).head(
        LclusterType::Head1,
        954,
        0,
    );
    map.header.h_u = 9100.into();
    builder.put_file(64, 5050 + 700, &map);
    let (image, inode) = builder.open_64();
    let data = [&unlz4(&pattern(100), 7, 4900, &pattern(50)), &sample_data()[9100..9800]].concat();
    assert!(read_all(&image, &inode).unwrap() == data);
}

#[test]
fn fragments_without_end_or_without_a_packed_inode_are_corrupt() {
    // In the packed inode itself.
    let mut builder = with_packed();
    builder.put_file(PACKED, 17_000, &Map::fragment(0));
    builder.put_file(64, 100, &Map::fragment(0));
    let (image, inode) = builder.open_64();
    let error = failed(read_all(&image, &inode));
    assert_eq!((error.nid(), error.errno()), (Some(PACKED), 117));
    // A file that is the packed inode.
    builder.sb.packed_nid = 64.into();
    let (image, inode) = builder.open_64();
    assert_eq!(failed(read_all(&image, &inode)).errno(), 117);
    // None, one that is not there, and one that has no data.
    builder.sb.packed_nid = 0.into();
    let (image, inode) = builder.open_64();
    assert_eq!(failed(read_all(&image, &inode)).errno(), 117);
    assert_eq!(failed(image.map(&inode, 0)).errno(), 117);
    builder.sb.packed_nid = (1 << 40).into();
    let (image, inode) = builder.open_64();
    assert_eq!(failed(read_all(&image, &inode)).errno(), 5);
    builder.sb.packed_nid = PACKED.into();
    builder.put_inode(PACKED, &compact(DataLayout::FlatPlain, 0o020_600, 17_000, 1));
    let (image, inode) = builder.open_64();
    assert_eq!(failed(read_all(&image, &inode)).errno(), 117);
}

#[test]
fn a_fragment_that_does_not_decode_is_an_error_of_the_file_that_has_it() {
    let mut builder = with_packed();
    builder.put_block(20, &[0xff; 4096]);
    let mut map = Map::default().advise(Advise::FRAGMENT_PCLUSTER).head(LclusterType::Head1, 0, 30).head(
        LclusterType::Head1,
        954,
        0,
    );
    map.header.h_u = 100.into();
    builder.put_block(30, &right_aligned(&lz4(&pattern(100), 7, 4900, &pattern(50)), 4096));
    builder.put_file(64, 5050 + 700, &map);
    let (image, inode) = builder.open_64();
    assert_eq!(image.read(&inode, 0, &mut [0; 5050]).unwrap(), 5050);
    // The second time the cluster is known to be broken.
    for _ in 0..2 {
        let error = failed(image.read(&inode, 5050, &mut [0; 10]));
        assert_eq!((error.nid(), error.extent()), (Some(64), Some(5050)));
        assert_eq!((error.kind(), error.offset()), (ErrorKind::Corrupt, Some(20 << 12)));
    }
    let error = failed(read_all(&image, &image.inode(PACKED).unwrap()));
    assert_eq!((error.nid(), error.extent()), (Some(PACKED), Some(0)));
}

/// What a metabox holds: a root directory, a compressed file with its tail behind the index, one
/// with a flat tail, and a shared attribute.
fn metabox_data() -> Vec<u8> {
    let root = NID_METABOX_BIT;
    let block = dir_block(&dots(root, root, &[("flat", root | 8, 1), ("packed", root | 16, 1)]));
    let mut data = compact(DataLayout::FlatInline, DIR, block.len() as u64, 0).as_bytes().to_vec();
    data.extend(block);
    data.resize(8 * 32, 0);
    let mut flat = compact(DataLayout::FlatInline, REG, 3, 0);
    // An area of a header and one shared attribute.
    flat.i_xattr_icount = 2.into();
    data.extend(flat.as_bytes());
    data.extend([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 200, 0, 0, 0]);
    data.extend(b"abc");
    data.resize(16 * 32, 0);
    let tail = lz4(b"tail", 4, 988, b"the last");
    data.extend(compact(DataLayout::CompressedFull, REG, 1000, 1).as_bytes());
    let mut map = Map::default().advise(Advise::INLINE_PCLUSTER).head(LclusterType::Head1, 0, 0);
    map.header.h_u = (u32::try_from(tail.len()).unwrap() << 16).into();
    map.tail = tail;
    data.extend(map.bytes());
    data.resize(800, 0);
    // user.x, at 4 * 200.
    data.extend([1, 1, 2, 0, b'x', b'v', b'w']);
    data.resize(5000, 0);
    data
}

fn with_metabox(data: &[u8]) -> Builder {
    let mut builder = Builder::new(12);
    builder.lz4().incompat(FeatureIncompat::METABOX | FeatureIncompat::BIT48);
    builder.compat(FeatureCompat::SHARED_EA_IN_METABOX);
    builder.sb.sb_extslots = 1;
    builder.sb.rootnid_8b = NID_METABOX_BIT.into();
    builder.put(1024 + 128, &METABOX.to_le_bytes());
    // The data ends in zeros that one match makes.
    let used = data.len() - data.iter().rev().take_while(|byte| **byte == 0).count();
    let block = lz4(&data[..=used], 1, data.len() - used - 1 - 12, &[0; 12]);
    builder.put_block(20, &right_aligned(&block, 4096));
    builder.put_file(METABOX, data.len(), &Map::default().head(LclusterType::Head1, 0, 20).next(1, 1));
    builder
}

#[test]
fn a_compressed_metabox_holds_inodes_tails_and_attributes() {
    let image = with_metabox(&metabox_data()).open().unwrap();
    let flat = image.resolve(b"flat", false).unwrap();
    assert_eq!(read_all(&image, &flat).unwrap(), b"abc");
    let Place::Inside { nid: METABOX, encoded: None, .. } = image.map(&flat, 0).unwrap().place else {
        panic!()
    };
    assert_eq!(image.xattr(&flat, b"user.x").unwrap().as_deref(), Some(&b"vw"[..]));
    let packed = image.resolve(b"packed", false).unwrap();
    assert!(read_all(&image, &packed).unwrap() == unlz4(b"tail", 4, 988, b"the last"));
    let place = image.map(&packed, 0).unwrap().place;
    assert!(matches!(place, Place::Inside { nid: METABOX, encoded: Some(_), .. }), "{place:?}");
    let beyond = image.inode(NID_METABOX_BIT + 1000).unwrap_err();
    assert_eq!((beyond.kind(), beyond.nid()), (ErrorKind::Corrupt, Some(METABOX)));
}

#[test]
fn inodes_are_numbered_as_linux_shows_them() {
    let image = with_metabox(&metabox_data()).open().unwrap();
    assert_eq!(image.resolve(b"packed", false).unwrap().number, 1 << 31 | 16);
    assert_eq!(image.inode(METABOX).unwrap().number, METABOX);
    assert_eq!(image.number(NID_METABOX_BIT | 1 << 31 | 7), 1 << 32 | 1 << 31 | 7);
    assert_eq!(image.number(1 << 40 | 9), 1 << 41 | 9);
    let plain = Builder::with_root(12, &[]).open().unwrap();
    assert_eq!(plain.number(1 << 40 | 9), 1 << 40 | 9);
}

#[test]
fn the_prefix_table_may_lie_in_compressed_data() {
    let mut data = metabox_data();
    data[1000..1007].copy_from_slice(b"\x05\0\x01lon.");
    data[800] = 1;
    data[801] = 0x80;
    let mut builder = with_metabox(&data);
    builder.incompat(FeatureIncompat::XATTR_PREFIXES);
    builder.sb.xattr_prefix_count = 1;
    builder.sb.xattr_prefix_start = 250.into();
    let image = builder.open().unwrap();
    let flat = image.resolve(b"flat", false).unwrap();
    assert_eq!(image.xattrs(&flat).unwrap()[0].name, b"user.lon.x");
}

#[test]
fn a_metabox_may_not_need_a_packed_inode_that_lies_in_it() {
    let mut builder = with_metabox(&metabox_data());
    builder.incompat(FeatureIncompat::FRAGMENTS);
    builder.sb.packed_nid = (NID_METABOX_BIT | 8).into();
    builder.put_file(METABOX, 5000, &Map::fragment(0));
    assert_eq!(failed(builder.open()).errno(), 117);
    // On the primary it may.
    builder.sb.packed_nid = PACKED.into();
    let data = metabox_data();
    builder.put_inode(PACKED, &extended(DataLayout::FlatPlain, REG, data.len() as u64, 40));
    builder.put_block(40, &data);
    let image = builder.open().unwrap();
    assert_eq!(read_all(&image, &image.resolve(b"flat", false).unwrap()).unwrap(), b"abc");
}

#[test]
fn fragments_of_one_cluster_are_decoded_once() {
    let mut builder = with_packed();
    // 512 KiB from one block.
    builder.put_block(20, &right_aligned(&lz4(&[7], 1, (1 << 19) - 13, &[7; 12]), 4096));
    let header = MapHeader { h_clusterbits: 8, ..MapHeader::default() };
    let map = Map { header, ..Map::default() }.head(LclusterType::Head1, 0, 20);
    let mut limits = Limits::default();
    limits.decoded_bytes = 2 << 20;
    builder.put_file(PACKED, 1 << 19, &map);
    builder.put_file(64, 10, &Map::fragment(1 << 18));
    let options = OpenOptions { limits, ..OpenOptions::default() };
    let image = open_with(builder.finish(), options).unwrap();
    let inode = image.inode(64).unwrap();
    let start = Instant::now();
    for _ in 0..20_000 {
        assert_eq!(image.read(&inode, 0, &mut [0; 10]).unwrap(), 10);
    }
    assert!(start.elapsed().as_secs() < 5, "20,000 times 512 KiB would take longer");
}
