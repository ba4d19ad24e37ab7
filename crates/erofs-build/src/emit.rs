//! The bytes of inodes and of the superblock.

use erofs_format::chunk::{ChunkFormat, ChunkIndex};
use erofs_format::features::{FeatureCompat, FeatureIncompat};
use erofs_format::inode::{DataLayout, InodeCompact, InodeExtended, InodeFormat};
use erofs_format::superblock::{SUPER_MAGIC_V1, SUPER_OFFSET, SuperBlock, checksum, checksum_len};
use erofs_format::xattr::ibody_icount;
use erofs_format::{NULL_ADDR, NULL_ADDR_48};
use sha2::{Digest, Sha256};
use zerocopy::IntoBytes;

use crate::kernel::Feature;
use crate::pack::{Job, Packed};
use crate::plan::{HEAD_END, Place, Plan, stored_chunks};
use crate::tree::{Kind, Node, NodeId, ROOT, Regular};

/// Fills `out` with an inode: itself, its xattrs, its chunk map, its tail.
pub(crate) fn put_inode(job: Job<'_>, id: NodeId, digest: Option<&[u8; 32]>, tail: &[u8], out: &mut Vec<u8>) {
    let Job { tree, plan, .. } = job;
    let node = tree.node(id);
    let place = plan.place(id);
    out.clear();
    put_head(plan, id, node, place, out);
    plan.areas.write(node.xattrs, digest, 0, out);
    if let (DataLayout::ChunkBased, Kind::Regular(file)) = (place.layout, &node.kind) {
        put_chunks(job, file, place, out);
    }
    out.extend_from_slice(tail);
}

fn put_head(plan: &Plan, id: NodeId, node: &Node, place: &Place, out: &mut Vec<u8>) {
    let format = InodeFormat { extended: place.extended, layout: place.layout, bit_4: false };
    // The planner has checked every limit that these conversions could break.
    let icount = ibody_icount(plan.areas.size(node.xattrs, plan.has_fingerprint(node))).unwrap_or(0);
    let (block, block_hi) = split_address(place.block);
    let (i_u, i_nb) = match node.kind {
        Kind::CharDevice(rdev) | Kind::BlockDevice(rdev) => (rdev, 0),
        _ if place.layout == DataLayout::ChunkBased => (chunk_format(plan, place), 0),
        _ if place.blocks > 0 => (block, block_hi),
        _ => (0, 0),
    };
    if place.extended {
        let inode = InodeExtended {
            i_format: u16::from(format).into(),
            i_xattr_icount: icount.into(),
            i_mode: node.mode().into(),
            i_nb: i_nb.into(),
            i_size: place.size.into(),
            i_u: i_u.into(),
            i_ino: id.wrapping_add(1).into(),
            i_uid: node.uid.into(),
            i_gid: node.gid.into(),
            i_mtime: node.mtime.0.cast_unsigned().into(),
            i_mtime_nsec: node.mtime.1.into(),
            i_nlink: node.nlink.into(),
            i_reserved2: [0; 16],
        };
        out.extend_from_slice(inode.as_bytes());
    } else {
        let inode = InodeCompact {
            i_format: u16::from(format).into(),
            i_xattr_icount: icount.into(),
            i_mode: node.mode().into(),
            i_nb: u16::try_from(node.nlink).unwrap_or(u16::MAX).into(),
            i_size: u32::try_from(place.size).unwrap_or(u32::MAX).into(),
            i_mtime: plan.times.compact(node.mtime).unwrap_or(0).into(),
            i_u: i_u.into(),
            i_ino: id.wrapping_add(1).into(),
            i_uid: u16::try_from(node.uid).unwrap_or(u16::MAX).into(),
            i_gid: u16::try_from(node.gid).unwrap_or(u16::MAX).into(),
            i_reserved: [0; 4],
        };
        out.extend_from_slice(inode.as_bytes());
    }
}

/// The low 32 and the high 16 bits of a block address; the planner keeps addresses within 48.
fn split_address(block: u64) -> (u32, u16) {
    let low = u32::try_from(block & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    (low, u16::try_from(block >> 32).unwrap_or(u16::MAX))
}

fn chunk_format(plan: &Plan, place: &Place) -> u32 {
    let format = ChunkFormat { chunkbits: place.chunk_bits, indexes: plan.wide, address_48bit: plan.wide };
    u16::from(format).into()
}

fn put_chunks(job: Job<'_>, file: &Regular, place: &Place, out: &mut Vec<u8>) {
    let block_size = u64::from(job.options.block_size);
    let wide = job.plan.wide;
    let entry_size = if wide { 8 } else { 4 };
    out.resize(out.len().next_multiple_of(entry_size), 0);
    let chunk_blocks = 1u64 << place.chunk_bits;
    let mut put = |address: u64| {
        let (startblk_lo, startblk_hi) = split_address(address);
        if wide {
            let index = ChunkIndex {
                startblk_hi: startblk_hi.into(),
                device_id: 0.into(),
                startblk_lo: startblk_lo.into(),
            };
            out.extend_from_slice(index.as_bytes());
        } else {
            out.extend_from_slice(&startblk_lo.to_le_bytes());
        }
    };
    let hole = if wide { NULL_ADDR_48 } else { u64::from(NULL_ADDR) };
    let mut block = place.block;
    let mut at = 0;
    for (first, end, blocks) in stored_chunks(file, block_size, place.chunk_bits) {
        (at..first).for_each(|_| put(hole));
        (0..end - first).for_each(|nth| put(block + nth * chunk_blocks));
        block += blocks;
        at = end;
    }
    let entries = file.size.div_ceil(block_size << place.chunk_bits);
    (at..entries).for_each(|_| put(hole));
}

/// Writes superblock and prefix table into the head, which starts at byte 0. Returns the UUID.
pub(crate) fn finish_head(job: Job<'_>, packed: &mut Packed) -> [u8; 16] {
    let Job { options, plan, .. } = job;
    let (table, _) = plan.areas.prefix_table();
    put(&mut packed.head, HEAD_END, &table);
    let mut superblock = superblock(job);
    let uuid = options.uuid.unwrap_or_else(|| digest_uuid(job, &superblock, &table, &packed.digests));
    superblock.uuid = uuid;
    put(&mut packed.head, SUPER_OFFSET, superblock.as_bytes());
    let start = usize::try_from(SUPER_OFFSET).unwrap_or(usize::MAX);
    let length = usize::try_from(checksum_len(superblock.blkszbits)).unwrap_or(usize::MAX);
    superblock.checksum = checksum(&packed.head[start..start + length]).into();
    put(&mut packed.head, SUPER_OFFSET, superblock.as_bytes());
    uuid
}

fn put(head: &mut [u8], at: u64, what: &[u8]) {
    let start = usize::try_from(at).unwrap_or(usize::MAX);
    head[start..start + what.len()].copy_from_slice(what);
}

fn superblock(job: Job<'_>) -> SuperBlock {
    let Job { options, tree, plan, .. } = job;
    let (_, prefixes) = plan.areas.prefix_table();
    let mut compat = FeatureCompat::SB_CHKSUM | FeatureCompat::MTIME | FeatureCompat::XATTR_FILTER;
    let mut incompat = FeatureIncompat::empty();
    if prefixes > 0 {
        compat |= FeatureCompat::PLAIN_XATTR_PFX;
        incompat |= FeatureIncompat::XATTR_PREFIXES;
    }
    if plan.areas.fingerprint_prefix().is_some() {
        compat |= FeatureCompat::ISHARE_XATTRS;
    }
    if plan.features.contains(&Feature::ChunkedFile) {
        incompat |= FeatureIncompat::CHUNKED_FILE;
    }
    let root_nid = plan.place(ROOT).inode / 32;
    let (blocks_lo, blocks_hi) = split_address(plan.blocks);
    let mut rb = u16::try_from(root_nid).unwrap_or(u16::MAX);
    let mut rootnid_8b = 0;
    if plan.wide {
        incompat |= FeatureIncompat::BIT48;
        (rb, rootnid_8b) = (blocks_hi, root_nid);
    }
    let mut volume_name = [0; 16];
    volume_name[..options.label.len()].copy_from_slice(&options.label);
    SuperBlock {
        magic: SUPER_MAGIC_V1.into(),
        feature_compat: compat.bits().into(),
        blkszbits: u8::try_from(options.block_size.trailing_zeros()).unwrap_or(0),
        rb: rb.into(),
        inos: (tree.nodes.len() as u64).into(),
        epoch: plan.times.epoch.cast_unsigned().into(),
        fixed_nsec: plan.times.fixed_nsec.into(),
        blocks_lo: blocks_lo.into(),
        xattr_blkaddr: u32::try_from(plan.shared_block).unwrap_or(u32::MAX).into(),
        volume_name,
        feature_incompat: incompat.bits().into(),
        xattr_prefix_count: prefixes,
        xattr_prefix_start: u32::try_from(HEAD_END / 4).unwrap_or(0).into(),
        ishare_xattr_prefix_id: plan.areas.fingerprint_prefix().unwrap_or(0),
        build_time: plan.times.build_time.into(),
        rootnid_8b: rootnid_8b.into(),
        ..SuperBlock::default()
    }
}

/// A UUID of version 8 (RFC 9562) from everything that is in the image: the superblock before it has a UUID,
/// the prefixes, the shared xattrs, and the digest of every batch, which covers its inodes and contents.
fn digest_uuid(job: Job<'_>, superblock: &SuperBlock, table: &[u8], digests: &[[u8; 32]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(superblock.as_bytes());
    hash.update(table);
    hash.update(job.plan.areas.shared());
    for digest in digests {
        hash.update(digest);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}
