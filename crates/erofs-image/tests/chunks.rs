//! Chunk-based inodes and devices.

mod support;

use std::sync::Arc;

use erofs_format::chunk::{ChunkFormat, ChunkIndex};
use erofs_format::device::DeviceSlot;
use erofs_format::inode::{DataLayout, InodeCompact};
use erofs_format::{FeatureIncompat, NULL_ADDR};
use erofs_image::{
    Corruption, Error, Extent, Image, Inode, Limits, MemorySource, OpenOptions, Place, ReadAt,
};
use support::{Builder, REG, compact, extended, open_with, pattern, read_all};
use zerocopy::IntoBytes;

fn format(chunkbits: u8, indexes: bool, address_48bit: bool) -> u32 {
    u32::from(u16::from(ChunkFormat { chunkbits, indexes, address_48bit }))
}

fn index(device_id: u16, block: u64) -> ChunkIndex {
    ChunkIndex {
        startblk_hi: u16::try_from(block >> 32).unwrap().into(),
        device_id: device_id.into(),
        startblk_lo: u32::try_from(block & 0xffff_ffff).unwrap().into(),
    }
}

fn runs(image: &Image, inode: &Inode) -> Vec<Extent> {
    image.extents(inode).map(Result::unwrap).collect()
}

fn raw(logical: u64, len: u64, blob: usize, offset: u64) -> Extent {
    Extent { logical, len, place: Place::Raw { blob, offset } }
}

#[test]
fn a_block_map_is_read_and_neighbours_are_merged() {
    for bits in [9_u8, 12] {
        let bs = 1_u64 << bits;
        let size = 4 * bs + 17;
        let data = pattern(usize::try_from(size).unwrap());
        let mut builder = Builder::with_root(bits, &[("f", 64, 1)]);
        builder.put_inode(64, &compact(DataLayout::ChunkBased, REG, size, format(0, false, false)));
        // Blocks 100, 101, a hole, 103, 50.
        let map: Vec<u8> =
            [100, 101, NULL_ADDR, 103, 50].iter().flat_map(|b: &u32| b.to_le_bytes()).collect();
        builder.put(Builder::at(65), &map);
        let part = |n: usize| &data[n << bits..((n + 1) << bits).min(data.len())];
        builder
            .put_block(100, part(0))
            .put_block(101, part(1))
            .put_block(103, part(3))
            .put_block(50, part(4));
        let (image, inode) = builder.open_64();
        let mut expected = data.clone();
        expected[2 << bits..3 << bits].fill(0);
        assert!(read_all(&image, &inode).unwrap() == expected);
        let hole = Extent { logical: 2 * bs, len: bs, place: Place::Hole };
        let all =
            [raw(0, 2 * bs, 0, 100 * bs), hole, raw(3 * bs, bs, 0, 103 * bs), raw(4 * bs, 17, 0, 50 * bs)];
        assert_eq!(runs(&image, &inode), all);
        assert_eq!(image.map(&inode, bs + 5).unwrap(), raw(bs + 5, bs - 5, 0, 101 * bs + 5));
    }
}

#[test]
fn chunks_of_several_blocks_end_with_the_file() {
    let mut builder = Builder::with_root(12, &[("f", 64, 1)]);
    let size = 3 * 8192 - 100;
    builder.put_inode(64, &compact(DataLayout::ChunkBased, REG, size, format(1, false, false)));
    let map: Vec<u8> = [10, 20, 22].iter().flat_map(|block: &u32| block.to_le_bytes()).collect();
    builder.put(Builder::at(65), &map);
    let data = pattern(usize::try_from(size).unwrap());
    builder.put_block(10, &data[..8192]).put_block(20, &data[8192..]);
    let (image, inode) = builder.open_64();
    assert!(read_all(&image, &inode).unwrap() == data);
    assert_eq!(runs(&image, &inode), [raw(0, 8192, 0, 40960), raw(8192, size - 8192, 0, 81920)]);
}

#[test]
fn indexes_are_aligned_to_eight_behind_xattrs() {
    let mut builder = Builder::with_root(12, &[("f", 64, 1)]);
    // 16 bytes of xattrs would leave the array aligned; 20 do not.
    let inode = InodeCompact {
        i_xattr_icount: 3.into(),
        ..compact(DataLayout::ChunkBased, REG, 4096, format(0, true, false))
    };
    builder.put_inode(64, &inode).put(Builder::at(65) + 24, index(0, 9).as_bytes());
    builder.put_block(9, &pattern(4096));
    let (image, inode) = builder.open_64();
    assert!(read_all(&image, &inode).unwrap() == pattern(4096));
}

#[test]
fn addresses_have_48_bits_only_where_the_format_says_so() {
    let mut builder = Builder::with_root(12, &[]);
    builder.put_inode(64, &compact(DataLayout::ChunkBased, REG, 8192, format(0, true, true)));
    builder.put(Builder::at(65), [index(0, 5 << 32), index(0, (1 << 48) - 1)].as_bytes());
    builder.put_inode(68, &compact(DataLayout::ChunkBased, REG, 8192, format(0, true, false)));
    builder.put(Builder::at(69), [index(0, (5 << 32) | 7), index(0, (5 << 32) | 0xffff_ffff)].as_bytes());
    let (image, inode) = builder.open_64();
    let hole = Extent { logical: 4096, len: 4096, place: Place::Hole };
    assert_eq!(runs(&image, &inode), [raw(0, 4096, 0, 5 << 44), hole]);
    let inode = image.inode(68).unwrap();
    assert_eq!(runs(&image, &inode), [raw(0, 4096, 0, 7 << 12), hole]);
}

#[test]
fn chunks_of_impossible_sizes_do_no_harm() {
    let mut builder = Builder::with_root(12, &[]);
    builder.put_inode(64, &compact(DataLayout::ChunkBased, REG, 10, format(31, true, true)));
    builder.put(Builder::at(65), index(0, (1 << 48) - 2).as_bytes());
    let mut huge = extended(DataLayout::ChunkBased, REG, i64::MAX.cast_unsigned(), 0);
    huge.i_u = format(31, false, false).into();
    builder.put_inode(70, &huge);
    huge.i_u = format(0, true, false).into();
    builder.put_inode(74, &huge);
    let (image, inode) = builder.open_64();
    assert_eq!(image.read(&inode, 0, &mut [0; 10]).unwrap_err().errno(), 5);
    for nid in [70, 74] {
        let inode = image.inode(nid).unwrap();
        for offset in [0, 1 << 43, 1 << 62, inode.size - 1, inode.size] {
            image.read(&inode, offset, &mut [0; 8192]).ok();
            image.map(&inode, offset).ok();
        }
        let _ = image.extents(&inode).count();
    }
}

#[test]
fn files_of_too_many_runs_meet_a_limit() {
    let mut builder = Builder::with_root(12, &[]);
    builder.put_inode(64, &compact(DataLayout::ChunkBased, REG, 5 * 4096, format(0, false, false)));
    let mut limits = Limits::default();
    limits.extents = 4;
    let image = open_with(builder.finish(), OpenOptions { limits, ..OpenOptions::default() }).unwrap();
    let last = image.extents(&image.inode(64).unwrap()).last().unwrap();
    assert!(matches!(last, Err(Error::Limit { name: "extents", value: 5, limit: 4, .. })), "{last:?}");
}

/// Two devices of 4 and 2 blocks, at 100 and 200 in the unified address space; inode 64 has five
/// chunks in all sorts of places.
fn with_devices() -> Builder {
    let mut builder = Builder::with_root(12, &[("f", 64, 1)]);
    builder.incompat(FeatureIncompat::DEVICE_TABLE | FeatureIncompat::CHUNKED_FILE);
    builder.sb.extra_devices = 2.into();
    builder.sb.devt_slotoff = (1280_u16 / 128).into();
    for (number, (blocks, uniaddr)) in [(4_u32, 100_u32), (2, 200)].into_iter().enumerate() {
        let mut slot =
            DeviceSlot { blocks_lo: blocks.into(), uniaddr_lo: uniaddr.into(), ..DeviceSlot::default() };
        slot.tag[..4].copy_from_slice(format!("dev{number}").as_bytes());
        builder.put(1280 + 128 * number as u64, slot.as_bytes());
    }
    builder.put_inode(64, &compact(DataLayout::ChunkBased, REG, 5 * 4096, format(0, true, false)));
    let indexes = [index(1, 3), index(2, 1), index(0, 102), index(0, 201), index(0, 4)];
    builder.put(Builder::at(65), indexes.as_bytes());
    builder.put_block(4, &[4; 4096]);
    builder
}

fn devices(sizes: &[usize]) -> Vec<Arc<dyn ReadAt>> {
    let device = |(number, blocks): (usize, &usize)| -> Arc<dyn ReadAt> {
        let block = |n| vec![u8::try_from(10 * (number + 1) + n).unwrap(); 4096];
        Arc::new(MemorySource::new((0..*blocks).flat_map(block).collect::<Vec<_>>()))
    };
    sizes.iter().enumerate().map(device).collect()
}

#[test]
fn chunks_come_from_devices_by_number_and_by_unified_address() {
    let options = OpenOptions { devices: devices(&[4, 2]), ..OpenOptions::default() };
    let image = open_with(with_devices().finish(), options).unwrap();
    assert_eq!(image.superblock().devices[1].tag, b"dev1");
    let inode = image.inode(64).unwrap();
    let data = read_all(&image, &inode).unwrap();
    let firsts: Vec<u8> = data.chunks(4096).map(|chunk| chunk[0]).collect();
    assert_eq!(firsts, [13, 21, 12, 21, 4]);
    let expected = [
        raw(0, 4096, 1, 3 * 4096),
        raw(4096, 4096, 2, 4096),
        raw(8192, 4096, 1, 2 * 4096),
        raw(12288, 4096, 2, 4096),
        raw(16384, 4096, 0, 4 * 4096),
    ];
    assert_eq!(runs(&image, &inode), expected);
}

#[test]
fn without_devices_they_lie_behind_the_primary() {
    let mut builder = with_devices();
    for (block, byte) in [(103, 13), (201, 21), (102, 12)] {
        builder.put_block(block, &[byte; 4096]);
    }
    let (image, inode) = builder.open_64();
    let data = read_all(&image, &inode).unwrap();
    let firsts: Vec<u8> = data.chunks(4096).map(|chunk| chunk[0]).collect();
    assert_eq!(firsts, [13, 21, 12, 21, 4]);
    assert!(runs(&image, &inode).iter().all(|run| matches!(run.place, Place::Raw { blob: 0, .. })));
}

#[test]
fn a_device_that_is_missing_is_not_taken_for_the_image() {
    let mut builder = with_devices();
    let slot = DeviceSlot { blocks_lo: 4.into(), ..DeviceSlot::default() };
    builder.put(1280, slot.as_bytes());
    let (image, inode) = builder.open_64();
    let error = image.read(&inode, 0, &mut [0; 1]).unwrap_err();
    assert!(matches!(error, Error::Devices { given: 0, expected: 2 }), "{error}");
}

#[test]
fn the_number_of_devices_must_fit() {
    let open = |count: &[usize]| {
        open_with(with_devices().finish(), OpenOptions { devices: devices(count), ..OpenOptions::default() })
    };
    assert!(matches!(open(&[4]), Err(Error::Devices { given: 1, expected: 2 })));
    assert!(matches!(open(&[4, 2, 1]), Err(Error::Devices { given: 3, expected: 2 })));
    let mut builder = with_devices();
    builder.sb.extra_devices = u16::MAX.into();
    assert!(matches!(builder.open(), Err(Error::Limit { name: "devices", value: 65535, .. })));
}

#[test]
fn a_chunk_on_no_device_and_one_beyond_its_device_are_errors() {
    let mut builder = with_devices();
    builder.put(Builder::at(65), [index(3, 0), index(1, 4)].as_bytes());
    let options = OpenOptions { devices: devices(&[4, 2]), ..OpenOptions::default() };
    let image = open_with(builder.finish(), options).unwrap();
    let inode = image.inode(64).unwrap();
    let error = image.read(&inode, 0, &mut [0; 1]).unwrap_err();
    assert_eq!(error.errno(), 19);
    let Error::Corrupt { what, .. } = error else { panic!("{error}") };
    assert_eq!(what, Corruption::NoSuchDevice { found: 3 });
    assert_eq!(image.read(&inode, 4096, &mut [0; 1]).unwrap_err().errno(), 5);
}
