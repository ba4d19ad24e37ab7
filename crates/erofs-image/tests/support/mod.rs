//! Images put together byte by byte, so that each test can say exactly what is wrong in one.
#![allow(dead_code, reason = "each test program uses its own part")]

#[path = "compressed.rs"]
pub(crate) mod compressed;

use std::sync::Arc;

use erofs_format::dirent::Dirent;
use erofs_format::inode::{DataLayout, InodeCompact, InodeExtended, InodeFormat};
use erofs_format::superblock::{SUPER_MAGIC_V1, SUPER_OFFSET, SuperBlock, checksum, checksum_len};
use erofs_format::{FeatureCompat, FeatureIncompat};
use erofs_image::{Image, Inode, MemorySource, OpenOptions, Result};
use zerocopy::{Immutable, IntoBytes};

pub(crate) const REG: u16 = 0o100_644;
pub(crate) const DIR: u16 = 0o040_755;
pub(crate) const LNK: u16 = 0o120_777;

pub(crate) const ROOT: u64 = 0;

/// An image in the making. Inodes start at byte 4096.
pub(crate) struct Builder {
    pub(crate) sb: SuperBlock,
    bytes: Vec<u8>,
}

impl Builder {
    pub(crate) fn new(blkszbits: u8) -> Self {
        let sb = SuperBlock {
            magic: SUPER_MAGIC_V1.into(),
            feature_compat: (FeatureCompat::SB_CHKSUM | FeatureCompat::MTIME).bits().into(),
            blkszbits,
            epoch: 1_000_000.into(),
            meta_blkaddr: (4096_u32 >> blkszbits).into(),
            ..SuperBlock::default()
        };
        Self { sb, bytes: vec![0; 4096] }
    }

    /// With a root that holds these entries, besides "." and "..", in its inline tail.
    pub(crate) fn with_root(blkszbits: u8, entries: &[(&str, u64, u8)]) -> Self {
        let mut builder = Self::new(blkszbits);
        builder.inline_dir(ROOT, ROOT, entries);
        builder
    }

    pub(crate) fn block_size(&self) -> u64 {
        1 << self.sb.blkszbits
    }

    pub(crate) fn compat(&mut self, bits: FeatureCompat) -> &mut Self {
        self.sb.feature_compat = (self.sb.feature_compat.get() | bits.bits()).into();
        self
    }

    pub(crate) fn incompat(&mut self, bits: FeatureIncompat) -> &mut Self {
        self.sb.feature_incompat = (self.sb.feature_incompat.get() | bits.bits()).into();
        self
    }

    pub(crate) fn put(&mut self, offset: u64, bytes: &[u8]) -> &mut Self {
        let start = usize::try_from(offset).unwrap();
        let end = start + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(bytes);
        self
    }

    pub(crate) fn put_block(&mut self, block: u64, bytes: &[u8]) -> &mut Self {
        self.put(block * self.block_size(), bytes)
    }

    pub(crate) fn at(nid: u64) -> u64 {
        4096 + nid * 32
    }

    pub(crate) fn put_inode(&mut self, nid: u64, inode: &(impl IntoBytes + Immutable)) -> &mut Self {
        self.put(Self::at(nid), inode.as_bytes())
    }

    pub(crate) fn inline_dir(&mut self, nid: u64, parent: u64, entries: &[(&str, u64, u8)]) -> &mut Self {
        let block = dir_block(&dots(nid, parent, entries));
        let inode = compact(DataLayout::FlatInline, DIR, block.len() as u64, 0);
        self.put_inode(nid, &inode);
        self.put(Self::at(nid) + 32, &block)
    }

    /// The bytes, whole blocks with a right checksum.
    pub(crate) fn finish(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let block_size = usize::try_from(self.block_size()).unwrap();
        bytes.resize(bytes.len().next_multiple_of(block_size.max(4096)), 0);
        let start = usize::try_from(SUPER_OFFSET).unwrap();
        bytes[start..start + 128].copy_from_slice(self.sb.as_bytes());
        seal(&mut bytes);
        bytes
    }

    pub(crate) fn open(&self) -> Result<Image> {
        open(self.finish())
    }

    /// The image, and inode 64 in it, where most tests put theirs.
    pub(crate) fn open_64(&self) -> (Image, Inode) {
        let image = self.open().unwrap();
        let inode = image.inode(64).unwrap();
        (image, inode)
    }
}

/// Makes the superblock's checksum right again.
pub(crate) fn seal(bytes: &mut [u8]) {
    let start = usize::try_from(SUPER_OFFSET).unwrap();
    let len = usize::try_from(checksum_len(bytes[start + 12].clamp(9, 12))).unwrap();
    let sum = checksum(&bytes[start..start + len]);
    bytes[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}

pub(crate) fn open(bytes: Vec<u8>) -> Result<Image> {
    open_with(bytes, OpenOptions::default())
}

pub(crate) fn open_with(bytes: Vec<u8>, options: OpenOptions) -> Result<Image> {
    Image::open(Arc::new(MemorySource::new(bytes)), options)
}

pub(crate) fn format(extended: bool, layout: DataLayout) -> InodeFormat {
    InodeFormat { extended, layout, bit_4: false }
}

pub(crate) fn compact(layout: DataLayout, mode: u16, size: u64, i_u: u32) -> InodeCompact {
    InodeCompact {
        i_format: u16::from(format(false, layout)).into(),
        i_mode: mode.into(),
        i_nb: 1.into(),
        i_size: u32::try_from(size).unwrap().into(),
        i_mtime: 5.into(),
        i_u: i_u.into(),
        i_uid: 7.into(),
        i_gid: 8.into(),
        ..InodeCompact::default()
    }
}

pub(crate) fn extended(layout: DataLayout, mode: u16, size: u64, startblk: u64) -> InodeExtended {
    InodeExtended {
        i_format: u16::from(format(true, layout)).into(),
        i_mode: mode.into(),
        i_nb: u16::try_from(startblk >> 32).unwrap().into(),
        i_size: size.into(),
        i_u: u32::try_from(startblk & 0xffff_ffff).unwrap().into(),
        i_uid: 70_000.into(),
        i_gid: 80_000.into(),
        i_mtime: (-3_i64).cast_unsigned().into(),
        i_mtime_nsec: 4.into(),
        i_nlink: 2.into(),
        ..InodeExtended::default()
    }
}

/// Entries with "." and "..", sorted.
pub(crate) fn dots<'a>(nid: u64, parent: u64, entries: &[(&'a str, u64, u8)]) -> Vec<(&'a str, u64, u8)> {
    let mut all = vec![(".", nid, 2), ("..", parent, 2)];
    all.extend_from_slice(entries);
    all.sort_unstable();
    all
}

/// A directory block with these entries in this order.
pub(crate) fn dir_block(entries: &[(&str, u64, u8)]) -> Vec<u8> {
    let mut nameoff = 12 * entries.len();
    let (mut block, mut names) = (Vec::new(), Vec::new());
    for (name, nid, file_type) in entries {
        let nameoff_16 = u16::try_from(nameoff).unwrap();
        let entry =
            Dirent { nid: (*nid).into(), nameoff: nameoff_16.into(), file_type: *file_type, reserved: 0 };
        block.extend_from_slice(entry.as_bytes());
        names.extend_from_slice(name.as_bytes());
        nameoff += name.len();
    }
    block.extend(names);
    block
}

/// Bytes that differ from block to block.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0_u32..).flat_map(|n| n.wrapping_mul(0x9E37_79B1).to_le_bytes()).take(len).collect()
}

pub(crate) fn read_all(image: &Image, inode: &Inode) -> Result<Vec<u8>> {
    let mut bytes = vec![0xAA; usize::try_from(inode.size).unwrap() + 10];
    let count = image.read(inode, 0, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Names in the order of a listing.
pub(crate) fn names(image: &Image, dir: &Inode) -> Result<Vec<String>> {
    let mut names = Vec::new();
    image.read_dir(dir, 0, &mut |entry| {
        names.push(String::from_utf8_lossy(entry.name).into_owned());
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(names)
}
