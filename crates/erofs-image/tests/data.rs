//! Data of regular files: flat, inline, holes.

mod support;

use std::io::Write;
use std::sync::Arc;

use erofs_format::inode::DataLayout;
use erofs_image::{Corruption, Error, Extent, FileSource, Image, OpenOptions, Place};
use support::{Builder, REG, ROOT, compact, extended, pattern, read_all};

fn corruption(error: Error) -> Corruption {
    match error {
        Error::Corrupt { what, .. } => what,
        other => panic!("{other}"),
    }
}

#[test]
fn a_plain_file_reads_back_from_any_offset() {
    let data = pattern(10_000);
    let mut builder = Builder::with_root(12, &[("f", 64, 1)]);
    builder.put_inode(64, &compact(DataLayout::FlatPlain, REG, 10_000, 3)).put_block(3, &data);
    let (image, inode) = builder.open_64();
    assert!(read_all(&image, &inode).unwrap() == data);
    for (offset, len) in [(0, 1), (4095, 2), (4096, 4096), (9_999, 1)] {
        let mut buf = vec![0; len];
        assert_eq!(image.read(&inode, offset as u64, &mut buf).unwrap(), len);
        assert_eq!(buf, data[offset..offset + len]);
    }
    let mut buf = [0; 10];
    assert_eq!(image.read(&inode, 9_995, &mut buf).unwrap(), 5, "short at the end");
    assert_eq!(image.read(&inode, 10_000, &mut buf).unwrap(), 0);
    assert_eq!(image.read(&inode, u64::MAX, &mut buf).unwrap(), 0);
    let place = Place::Raw { blob: 0, offset: 3 * 4096 + 100 };
    assert_eq!(image.map(&inode, 100).unwrap(), Extent { logical: 100, len: 9_900, place });
}

#[test]
fn values_of_both_kinds_of_inode_come_through() {
    let mut builder = Builder::with_root(12, &[("f", 64, 1)]);
    builder.sb.fixed_nsec = 9.into();
    builder.put_inode(64, &compact(DataLayout::FlatPlain, 0o104_751, 0, 0));
    builder.put_inode(66, &extended(DataLayout::FlatPlain, 0o100_600, 0, 0));
    builder.put_inode(68, &compact(DataLayout::FlatPlain, 0o020_600, 0, 0x801));
    let image = builder.open().unwrap();
    let inode = image.inode(64).unwrap();
    assert_eq!((inode.mode, inode.nlink, inode.uid, inode.gid), (0o104_751, 1, 7, 8));
    assert_eq!((inode.mtime, inode.mtime_nsec, inode.rdev), (1_000_005, 9, 0));
    let inode = image.inode(66).unwrap();
    assert_eq!((inode.mode, inode.nlink, inode.uid, inode.gid), (0o100_600, 2, 70_000, 80_000));
    assert_eq!((inode.mtime, inode.mtime_nsec), (-3, 4));
    assert_eq!(image.inode(68).unwrap().rdev, 0x801);
}

#[test]
fn an_inline_tail_follows_its_blocks() {
    for size in [5, 4096 + 5, 2 * 4096 + 2000] {
        let data = pattern(size);
        let mut builder = Builder::with_root(12, &[("f", 64, 1)]);
        let blocks = size / 4096 * 4096;
        builder.put_inode(64, &compact(DataLayout::FlatInline, REG, size as u64, 3));
        builder.put(Builder::at(65), &data[blocks..]).put_block(3, &data[..blocks]);
        let (image, inode) = builder.open_64();
        assert!(read_all(&image, &inode).unwrap() == data);
        let extents: Result<Vec<_>, _> = image.extents(&inode).collect();
        let lens: Vec<u64> = extents.unwrap().iter().map(|extent| extent.len).collect();
        let tail = (size - blocks) as u64;
        assert_eq!(lens, if blocks == 0 { vec![tail] } else { vec![blocks as u64, tail] });
    }
}

#[test]
fn a_tail_that_leaves_its_block_is_corrupt() {
    // 2016 bytes lie between this inode's end and the end of its block.
    let mut builder = Builder::with_root(12, &[("f", 64, 1)]);
    builder.put_inode(64, &compact(DataLayout::FlatInline, REG, 2016, 0)).put(Builder::at(65), &[1; 2016]);
    let (image, inode) = builder.open_64();
    assert!(read_all(&image, &inode).unwrap() == [1; 2016]);
    builder.put_inode(64, &compact(DataLayout::FlatInline, REG, 2017, 0));
    let (image, inode) = builder.open_64();
    let error = read_all(&image, &inode).unwrap_err();
    assert_eq!(error.nid(), Some(64));
    assert_eq!(error.errno(), 117);
    assert_eq!(corruption(error), Corruption::InlineCrossesBlock { length: 2017 });
}

#[test]
fn a_file_with_the_null_address_is_a_hole() {
    let mut builder = Builder::with_root(12, &[]);
    builder.put_inode(64, &compact(DataLayout::FlatPlain, REG, 5_000, u32::MAX));
    let hole_48 = extended(DataLayout::FlatPlain, REG, 1 << 40, (1 << 48) - 1);
    builder.put_inode(66, &hole_48);
    let (image, inode) = builder.open_64();
    assert_eq!(read_all(&image, &inode).unwrap(), vec![0; 5_000]);
    let huge = image.inode(66).unwrap();
    let hole = Extent { logical: 7, len: (1 << 40) - 7, place: Place::Hole };
    assert_eq!(image.map(&huge, 7).unwrap(), hole);
    assert_eq!(image.extents(&huge).count(), 1);
}

#[test]
fn an_inode_may_straddle_a_block() {
    for bits in [9, 12] {
        let nid = (1 << bits) / 32 - 1;
        let mut builder = Builder::with_root(bits, &[("f", nid, 1)]);
        builder.put_inode(nid, &extended(DataLayout::FlatInline, REG, 3, 0));
        builder.put(Builder::at(nid + 2), b"abc");
        let bytes = builder.finish();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let image = Image::open(Arc::new(FileSource::new(file)), OpenOptions::default()).unwrap();
        assert_eq!(read_all(&image, &image.inode(nid).unwrap()).unwrap(), b"abc");
    }
}

#[test]
fn an_image_inside_a_file_is_read_at_its_offset() {
    let mut builder = Builder::with_root(12, &[("f", 64, 1)]);
    builder.put_inode(64, &compact(DataLayout::FlatPlain, REG, 4096, 3)).put_block(3, &pattern(4096));
    let mut bytes = vec![0xEE; 777];
    bytes.extend(builder.finish());
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let options = OpenOptions { offset: 777, ..OpenOptions::default() };
    let image = Image::open(Arc::new(FileSource::new(file)), options).unwrap();
    let inode = image.inode(64).unwrap();
    assert!(read_all(&image, &inode).unwrap() == pattern(4096));
    let place = Place::Raw { blob: 0, offset: 777 + 3 * 4096 };
    assert_eq!(image.map(&inode, 0).unwrap().place, place);
}

#[test]
fn data_beyond_the_image_is_an_error_with_its_place() {
    let mut builder = Builder::with_root(12, &[]);
    builder.put_inode(64, &compact(DataLayout::FlatPlain, REG, 4096, 1000));
    builder.put_inode(66, &extended(DataLayout::FlatPlain, REG, 1 << 62, (1 << 48) - 2));
    let (image, inode) = builder.open_64();
    let error = read_all(&image, &inode).unwrap_err();
    assert_eq!((error.nid(), error.offset(), error.errno()), (Some(64), Some(4_096_000), 5));
    let mut buf = [0; 8];
    let huge = image.inode(66).unwrap();
    let error = image.read(&huge, (1 << 62) - 8, &mut buf).unwrap_err();
    assert_eq!(corruption(error), Corruption::PastEnd { blob: 0, needed: 8 });
}

#[test]
fn only_regular_files_are_read() {
    let mut builder = Builder::with_root(12, &[]);
    builder.put_inode(64, &compact(DataLayout::FlatPlain, 0o020_600, 4096, 1));
    let (image, device) = builder.open_64();
    let root = image.inode(ROOT).unwrap();
    assert_eq!(image.read(&device, 0, &mut [0]).unwrap_err().errno(), 22);
    assert!(image.map(&device, 0).is_err());
    assert_eq!(image.read(&root, 0, &mut [0]).unwrap_err().errno(), 21);
}

#[test]
fn impossible_inodes_are_told_apart() {
    let mut builder = Builder::with_root(12, &[]);
    let good = compact(DataLayout::FlatPlain, REG, 0, 0);
    let mut bad = [good; 5];
    bad[0].i_format = 0x20.into();
    bad[1].i_format = (5 << 1).into();
    bad[2].i_mode = 0.into();
    bad[3].i_format = (1 << 1).into();
    bad[4].i_format = (4 << 1).into();
    bad[4].i_u = 0x80.into();
    for (nid, inode) in (64..).zip(&bad) {
        builder.put_inode(nid, inode);
    }
    builder.put_inode(80, &extended(DataLayout::FlatPlain, REG, 1 << 63, 0));
    let image = builder.open().unwrap();
    let errno = |nid| image.inode(nid).unwrap_err().errno();
    assert_eq!([64, 65, 66, 67, 68, 80].map(errno), [95, 95, 117, 117, 95, 117]);
    assert_eq!(errno(1 << 63), 117, "no metabox");
    assert_eq!(errno(1 << 62), 117, "an address beyond 64 bits");
    assert_eq!(errno(1 << 40), 5, "beyond the end");
}

#[test]
fn threads_share_an_image() {
    let mut builder = Builder::with_root(12, &[]);
    for nid in 64..564 {
        let size = u64::from(nid % 3 == 0) * 3 * 4096;
        builder.put_inode(nid, &compact(DataLayout::FlatPlain, REG, size, 20));
    }
    let data = pattern(3 * 4096);
    builder.put_block(20, &data);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&builder.finish()).unwrap();
    let image = Image::open(Arc::new(FileSource::new(file)), OpenOptions::default()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for nid in 64..564 {
                    let bytes = read_all(&image, &image.inode(nid).unwrap()).unwrap();
                    assert!(bytes == if nid % 3 == 0 { data.as_slice() } else { &[] });
                }
            });
        }
    });
}
