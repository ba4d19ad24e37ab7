//! Opening: the superblock, profiles, the metabox.

mod support;

use std::io;
use std::sync::Arc;

use erofs_format::inode::{DataLayout, NID_METABOX_BIT};
use erofs_format::{FeatureCompat, FeatureIncompat, Profile};
use erofs_image::{Corruption, Error, ErrorKind, Feature, Image, OpenOptions, ReadAt, Result};
use support::{
    Builder, DIR, REG, ROOT, compact, dir_block, dots, extended, names, open, open_with, pattern, read_all,
    seal,
};
use zerocopy::IntoBytes;

fn open_profile(builder: &Builder, profile: Profile) -> Result<Image> {
    open_with(builder.finish(), OpenOptions { profile, ..OpenOptions::default() })
}

#[test]
fn what_the_superblock_says_comes_through() {
    let mut builder = Builder::with_root(12, &[]);
    builder.sb.inos = 5.into();
    builder.sb.blocks_lo = 7.into();
    builder.sb.build_time = 11.into();
    builder.sb.uuid = [9; 16];
    builder.sb.volume_name = *b"sixteen bytes ok";
    let image = builder.open().unwrap();
    let sb = image.superblock();
    assert_eq!((sb.inos, sb.blocks, sb.epoch, sb.build_time), (5, 7, 1_000_000, 1_000_011));
    assert_eq!((sb.uuid, sb.volume_name.as_slice()), ([9; 16], &b"sixteen bytes ok"[..]));
    assert_eq!((image.block_size(), image.root_nid(), image.block_count()), (4096, ROOT, 7));
    assert!(sb.checksum.is_some());
    assert_eq!(sb.compression, None);
    builder.sb.volume_name = *b"short\0\0\0\0\0\0\0\0\0\0\0";
    assert_eq!(builder.open().unwrap().superblock().volume_name, b"short");
}

#[test]
fn the_root_may_have_64_bits_only_in_48_bit_images() {
    let mut builder = Builder::with_root(12, &[]);
    builder.inline_dir(64, 64, &[]);
    builder.sb.rootnid_8b = 64.into();
    assert_eq!(builder.open().unwrap().root_nid(), ROOT);
    builder.incompat(FeatureIncompat::BIT48);
    builder.sb.rb = 3.into();
    builder.sb.blocks_lo = 1.into();
    let image = builder.open().unwrap();
    assert_eq!((image.root_nid(), image.block_count()), (64, (3 << 32) + 1));
}

#[test]
fn what_is_no_image_and_what_is_damaged_are_told_apart() {
    for bytes in [Vec::new(), b"abc".to_vec(), vec![0; 1030], vec![0x55; 9000]] {
        let error = open(bytes).unwrap_err();
        assert!(matches!(error, Error::NotErofs { .. }), "{error}");
        assert_eq!((error.errno(), error.kind()), (22, ErrorKind::Corrupt));
    }
    let bytes = Builder::with_root(12, &[]).finish();
    assert_eq!(open(bytes[..1100].to_vec()).unwrap_err().errno(), 5, "truncated");
    let mut damaged = bytes.clone();
    damaged[1024 + 0x30] ^= 1;
    let error = open(damaged).unwrap_err();
    assert!(matches!(error, Error::Checksum { stored, computed } if stored != computed), "{error}");
    assert_eq!(error.errno(), 74);
    let mut sealed = bytes;
    sealed[1024 + 0x30] ^= 1;
    seal(&mut sealed);
    assert!(open(sealed).is_ok());
}

#[test]
fn impossible_superblocks_are_refused() {
    let refused = |change: &dyn Fn(&mut Builder)| {
        let mut builder = Builder::with_root(12, &[]);
        change(&mut builder);
        let Error::Corrupt { what, .. } = builder.open().unwrap_err() else { panic!("not corrupt") };
        what
    };
    let file = compact(DataLayout::FlatPlain, REG, 0, 0);
    assert_eq!(refused(&|b| b.sb.dirblkbits = 1), Corruption::DirBlockBits { found: 1 });
    assert_eq!(refused(&|b| b.sb.sb_extslots = 185), Corruption::ExtensionSlots { found: 185 });
    let what = refused(&|b| {
        b.put_inode(ROOT, &file);
    });
    assert_eq!(what, Corruption::RootNotDirectory { found: REG });
    for blkszbits in [0, 8, 17, 255] {
        let mut bytes = Builder::with_root(12, &[]).finish();
        bytes[1024 + 0xC] = blkszbits;
        assert_eq!(open(bytes).unwrap_err().errno(), 117, "{blkszbits}");
    }
    let mut builder = Builder::with_root(12, &[]);
    builder.sb.feature_incompat = 0x8000_0000.into();
    let error = builder.open().unwrap_err();
    assert!(matches!(error, Error::Unsupported { feature: Feature::Unknown(_), .. }), "{error}");
    builder.sb.feature_incompat = 0.into();
    builder.sb.feature_compat = 0xffff_ff03.into();
    assert!(builder.open().is_ok(), "unknown compatible features change nothing");
}

#[test]
fn errors_of_the_system_stay_errors_of_the_system() {
    #[derive(Debug)]
    struct Broken;
    impl ReadAt for Broken {
        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(13))
        }
    }
    let error = Image::open(Arc::new(Broken), OpenOptions::default()).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Io, 13));
}

#[test]
fn a_source_that_says_too_much_is_not_believed() {
    #[derive(Debug)]
    struct Lying(Vec<u8>);
    impl ReadAt for Lying {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
            let rest = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
            let count = rest.len().min(buf.len());
            buf[..count].copy_from_slice(&rest[..count]);
            Ok(usize::MAX)
        }
    }
    let image = Image::open(Arc::new(Lying(Builder::with_root(12, &[]).finish())), OpenOptions::default());
    let image = image.unwrap();
    assert_eq!(names(&image, &image.inode(ROOT).unwrap()).unwrap(), [".", ".."]);
}

#[test]
fn profiles_exclude_what_they_do_not_name() {
    let core = Builder::with_root(12, &[]);
    for profile in [Profile::Core, Profile::Plain, Profile::Full] {
        assert!(open_profile(&core, profile).is_ok(), "{profile:?}");
    }
    let excluded = |profile, change: &dyn Fn(&mut Builder)| {
        let mut builder = Builder::with_root(12, &[]);
        change(&mut builder);
        matches!(open_profile(&builder, profile), Err(Error::Unsupported { .. }))
    };
    let chunked = |b: &mut Builder| {
        b.incompat(FeatureIncompat::CHUNKED_FILE);
    };
    let filter = |b: &mut Builder| {
        b.compat(FeatureCompat::XATTR_FILTER);
    };
    let lz4 = |b: &mut Builder| b.sb.u1 = 1.into();
    let tails = |b: &mut Builder| {
        b.incompat(FeatureIncompat::ZTAILPACKING);
    };
    assert!(
        [&chunked as &dyn Fn(&mut Builder), &filter, &lz4, &tails].iter().all(|c| excluded(Profile::Core, c))
    );
    assert!(!excluded(Profile::Plain, &chunked));
    assert!(!excluded(Profile::Plain, &filter));
    assert!(excluded(Profile::Plain, &tails));
    assert!(!excluded(Profile::Full, &tails));

    let mut builder = Builder::with_root(12, &[]);
    let mut inodes = [compact(DataLayout::FlatPlain, REG, 0, 0); 3];
    inodes[0].i_xattr_icount = 2.into();
    inodes[1].i_format = (4 << 1).into();
    inodes[2].i_format = 0x10.into();
    for (nid, inode) in (64..).zip(&inodes) {
        builder.put_inode(nid, inode);
    }
    let image = open_profile(&builder, Profile::Core).unwrap();
    for nid in 64..67 {
        let error = image.inode(nid).unwrap_err();
        assert!(matches!(error, Error::Unsupported { feature: Feature::Excluded { .. }, .. }), "{error}");
    }
    assert!((64..67).all(|nid| builder.open().unwrap().inode(nid).is_ok()));
}

#[test]
fn compressed_files_show_their_metadata() {
    let mut builder = Builder::with_root(12, &[("f", 64, 1)]);
    builder.incompat(FeatureIncompat::LZ4_0PADDING);
    builder.put_inode(64, &compact(DataLayout::CompressedCompact, REG, 10_000, 2));
    let (_, inode) = builder.open_64();
    assert_eq!((inode.size, inode.sectors), (10_000, 16));
    let image = open_profile(&builder, Profile::Plain).unwrap();
    assert_eq!(image.inode(64).unwrap_err().kind(), ErrorKind::Unsupported);
}

/// An image whose root and file lie in a metabox (inode 70) of flat data.
fn with_metabox(layout: DataLayout) -> Builder {
    let root = NID_METABOX_BIT;
    let block = dir_block(&dots(root, root, &[("f", root | 8, 1)]));
    let dir = compact(DataLayout::FlatInline, DIR, block.len() as u64, 0);
    let mut data = dir.as_bytes().to_vec();
    data.extend(block);
    data.resize(8 * 32, 0);
    data.extend(extended(DataLayout::FlatInline, REG, 4096 + 3, 9).as_bytes());
    data.extend(b"abc");
    let mut builder = Builder::new(12);
    builder.incompat(FeatureIncompat::METABOX | FeatureIncompat::BIT48);
    builder.sb.sb_extslots = 1;
    builder.sb.rootnid_8b = root.into();
    builder.put(1024 + 128, &70_u64.to_le_bytes());
    builder.put_block(9, &pattern(4096));
    builder.put_inode(70, &compact(layout, REG, data.len() as u64, 5));
    match layout {
        DataLayout::FlatInline => builder.put(Builder::at(71), &data),
        _ => builder.put_block(5, &data),
    };
    builder
}

#[test]
fn inodes_in_a_metabox_are_read_with_their_tails() {
    for layout in [DataLayout::FlatPlain, DataLayout::FlatInline] {
        let image = with_metabox(layout).open().unwrap();
        let root = image.inode(image.root_nid()).unwrap();
        assert_eq!(names(&image, &root).unwrap(), [".", "..", "f"]);
        let file = image.resolve(b"f", false).unwrap();
        assert_eq!(file.nid, NID_METABOX_BIT | 8);
        assert!(read_all(&image, &file).unwrap() == [pattern(4096), b"abc".to_vec()].concat());
        let beyond = image.inode(NID_METABOX_BIT + 100).unwrap_err();
        assert_eq!((beyond.kind(), beyond.nid()), (ErrorKind::Corrupt, Some(70)));
    }
}

#[test]
fn a_metabox_that_lies_is_refused() {
    let mut builder = with_metabox(DataLayout::FlatPlain);
    builder.put(1024 + 128, &(NID_METABOX_BIT + 70).to_le_bytes());
    assert_eq!(builder.open().unwrap_err().errno(), 117);
    let mut builder = with_metabox(DataLayout::FlatPlain);
    builder.sb.sb_extslots = 0;
    assert_eq!(builder.open().unwrap_err().errno(), 117);
    let mut builder = with_metabox(DataLayout::FlatPlain);
    builder.incompat(FeatureIncompat::LZ4_0PADDING);
    builder.put_inode(70, &compact(DataLayout::CompressedCompact, REG, 5000, 1));
    assert_eq!(builder.open().unwrap_err().kind(), ErrorKind::Corrupt);
    let mut builder = with_metabox(DataLayout::FlatPlain);
    builder.put_inode(70, &compact(DataLayout::FlatPlain, 0o020_600, 5000, 1));
    assert_eq!(builder.open().unwrap_err().kind(), ErrorKind::Corrupt, "a device holds no inodes");
}
