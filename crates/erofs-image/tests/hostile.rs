//! Images changed at random: errors are fine, panics and endless work are bugs.

mod support;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use erofs_format::chunk::ChunkIndex;
use erofs_format::inode::{DataLayout, InodeCompact};
use erofs_format::xattr::ibody_icount;
use erofs_format::{FeatureCompat, FeatureIncompat};
use erofs_image::{Image, Limits, MemorySource, OpenOptions, ReadAt};
use proptest::prelude::*;
use support::{Builder, DIR, LNK, REG, ROOT, compact, dir_block, dots, extended, pattern, seal};
use zerocopy::IntoBytes;

/// Memory that only copies, so that the cache is used.
#[derive(Debug)]
struct Copying(Arc<[u8]>);

impl ReadAt for Copying {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        MemorySource::new(Arc::clone(&self.0)).read_at(offset, buf)
    }
}

/// A small image with something of everything.
fn sample() -> Vec<u8> {
    let root = [("chunks", 80, 1), ("d", 64, 2), ("flat", 72, 1), ("indexed", 88, 1), ("link", 76, 7)];
    let mut builder = Builder::with_root(9, &root);
    builder.incompat(FeatureIncompat::XATTR_PREFIXES | FeatureIncompat::CHUNKED_FILE);
    builder
        .compat(FeatureCompat::PLAIN_XATTR_PFX | FeatureCompat::ISHARE_XATTRS | FeatureCompat::XATTR_FILTER);
    builder.sb.xattr_prefix_count = 1;
    builder.sb.xattr_prefix_start = (1280_u32 / 4).into();
    builder.sb.xattr_blkaddr = 30.into();
    builder.put(1280, b"\x06\x00\x01long.");
    builder.put(30 * 512, b"\x03\x01\x02\x00keyvv\0\0\0");
    let block = dir_block(&dots(64, ROOT, &[("again", 72, 1), ("deep", 96, 2), ("x", 104, 1)]));
    builder.put_inode(64, &compact(DataLayout::FlatPlain, DIR, block.len() as u64, 32)).put_block(32, &block);
    builder.inline_dir(96, 64, &[("chunks", 80, 1)]);
    let area = [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let entries = b"\x04\x80\x02\x00tailvv\0\0\x01\x01\x03\x00kval";
    let flat = InodeCompact {
        i_xattr_icount: ibody_icount((area.len() + entries.len()) as u64).unwrap().into(),
        ..compact(DataLayout::FlatInline, REG, 600, 34)
    };
    builder.put_inode(72, &flat).put(Builder::at(73), &area).put(Builder::at(73) + 16, entries);
    builder.put(Builder::at(73) + 16 + entries.len() as u64, &pattern(60)).put_block(34, &pattern(512));
    builder.put_inode(76, &compact(DataLayout::FlatInline, LNK, 6, 0)).put(Builder::at(77), b"d/deep");
    builder.put_inode(80, &compact(DataLayout::ChunkBased, REG, 2000, 0));
    builder.put(Builder::at(81), [36_u32, 37, u32::MAX, 36].as_bytes()).put_block(36, &pattern(1024));
    let mut indexed = extended(DataLayout::ChunkBased, REG, 3000, 0);
    indexed.i_u = 0x21.into();
    let index = ChunkIndex { startblk_lo: 36.into(), ..ChunkIndex::default() };
    builder.put_inode(88, &indexed).put(Builder::at(90), [index; 3].as_bytes());
    builder.put_inode(104, &compact(DataLayout::FlatPlain, 0o020_600, 0, 0x801));
    builder.finish()
}

fn small_limits() -> Limits {
    let mut limits = Limits::default();
    limits.depth = 20;
    limits.walk_entries = 500;
    limits.directory_bytes = 1 << 16;
    limits.extents = 500;
    limits.cache_bytes = 1 << 14;
    limits
}

/// Does everything that can be done with an image. Says how much of it worked.
fn exercise(bytes: Vec<u8>, copying: bool) -> usize {
    let source: Arc<dyn ReadAt> =
        if copying { Arc::new(Copying(bytes.into())) } else { Arc::new(MemorySource::new(bytes)) };
    let options = OpenOptions { limits: small_limits(), ..OpenOptions::default() };
    let Ok(image) = Image::open(source, options) else { return 0 };
    let Ok(root) = image.inode(image.root_nid()) else { return 0 };
    let mut worked = 0;
    let mut count = |ok: bool| worked += usize::from(ok);
    for step in image.walk(&root) {
        let Ok(step) = step else { continue };
        let inode = step.inode;
        count(image.resolve(&step.path, true).is_ok());
        count(image.xattrs(&inode).is_ok());
        count(image.xattr(&inode, b"user.k").is_ok());
        count(image.fingerprint(&inode).is_ok());
        count(image.read_link(&inode).is_ok());
        count(image.lookup(&inode, step.name()).is_ok());
        count(image.read_dir(&inode, 7, &mut |_| ControlFlow::Continue(())).is_ok());
        count(image.extents(&inode).all(|extent| extent.is_ok()));
        let mut buf = [0; 5000];
        for offset in [0, 511, 4096, inode.size.saturating_sub(1), u64::MAX - 1] {
            count(image.read(&inode, offset, &mut buf).is_ok());
            count(image.map(&inode, offset).is_ok());
        }
    }
    worked
}

#[test]
fn the_sample_is_whole() {
    for copying in [false, true] {
        assert!(exercise(sample(), copying) > 120, "most calls on a good image work");
    }
    let image = support::open(sample()).unwrap();
    let flat = image.resolve(b"d/again", true).unwrap();
    assert_eq!(image.xattrs(&flat).unwrap().len(), 3);
    assert_eq!(image.xattr(&flat, b"user.long.tail").unwrap().as_deref(), Some(&b"vv"[..]));
    assert_eq!(image.resolve(b"link/chunks", true).unwrap().nid, 80);
    assert!(image.walk(&image.inode(ROOT).unwrap()).all(|step| step.is_ok()));
}

#[test]
fn every_truncated_image_is_an_error_at_worst() {
    let bytes = sample();
    for len in (0..bytes.len()).step_by(37) {
        exercise(bytes[..len].to_vec(), len % 2 == 0);
    }
}

/// Places worth changing: the superblock, then inodes and what lies behind them.
fn places() -> impl Strategy<Value = usize> {
    prop_oneof![1024..1300_usize, 4096..7600_usize, 4096..4300_usize, 15360..19_000_usize]
}

fn values() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(0x7f), Just(0x80), Just(1)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_images_never_panic(
        changes in prop::collection::vec((places(), values(), 1..9_usize), 1..6),
        sealed in prop::bool::weighted(0.95),
        copying: bool,
    ) {
        let mut bytes = sample();
        for (place, value, len) in changes {
            let end = (place + len).min(bytes.len());
            if place < end {
                bytes[place..end].fill(value);
            }
        }
        if sealed {
            seal(&mut bytes);
        }
        exercise(bytes, copying);
    }

    #[test]
    fn noise_behind_a_good_superblock_never_panics(noise in prop::collection::vec(any::<u8>(), 64..2048)) {
        let mut bytes = sample();
        let inodes = 4096..4096 + noise.len();
        bytes[inodes].copy_from_slice(&noise);
        exercise(bytes, true);
    }
}
