//! The superblock.

use erofs_format::device::DeviceSlot;
use erofs_format::features::{FeatureCompat, FeatureIncompat};
use erofs_format::superblock::{
    SUPER_MAGIC_V1, SUPER_OFFSET, SUPER_SIZE, SuperBlock, SuperBlockExt, checksum, checksum_len,
};
use sha2::{Digest, Sha256};
use zerocopy::IntoBytes;

use crate::inode::split_address;
use crate::kernel::Feature;
use crate::options::{BuildOptions, XattrPolicy};
use crate::pack::Packed;
use crate::pack::base::record;
use crate::plan::{Plan, head_end};
use crate::tree::Tree;

/// Writes superblock and prefix table into the head of the image, which starts at byte 0. Returns the UUID:
/// the one given, or a digest of everything that is in the image, of which `packed.hash` has the rest already.
pub(crate) fn write(
    options: &BuildOptions,
    plan: &Plan,
    tree: &Tree,
    packed: &Packed,
    head: &mut [u8],
) -> [u8; 16] {
    let (table, _) = plan.areas.prefix_table();
    if let Some(nid) = packed.metabox_nid {
        let slot = SuperBlockExt { metabox_nid: nid.into(), ..SuperBlockExt::default() };
        put(head, SUPER_OFFSET + SUPER_SIZE, slot.as_bytes());
    }
    put(head, head_end(plan.is_boxed), &plan.methods.records(options.block_size, plan.is_dense));
    put(head, plan.table_at, &table);
    let record = record::text(options, plan);
    put(head, 0, record.as_bytes());
    let mut slots = Vec::new();
    let mut before = packed.blocks;
    for device in &packed.devices {
        slots.extend_from_slice(device.slot(before, plan.wide).as_bytes());
        before += device.blocks;
    }
    put(head, plan.devices_at, &slots);
    let mut superblock = superblock(options, plan, tree, packed);
    let tables = [table, slots, record.into_bytes()].concat();
    let uuid = options.uuid.unwrap_or_else(|| digest_uuid(&superblock, plan, &tables, packed.hash.clone()));
    superblock.uuid = uuid;
    put(head, SUPER_OFFSET, superblock.as_bytes());
    let start = usize::try_from(SUPER_OFFSET).unwrap_or(usize::MAX);
    let length = usize::try_from(checksum_len(superblock.blkszbits)).unwrap_or(usize::MAX);
    superblock.checksum = checksum(&head[start..start + length]).into();
    put(head, SUPER_OFFSET, superblock.as_bytes());
    uuid
}

fn put(head: &mut [u8], at: u64, what: &[u8]) {
    let start = usize::try_from(at).unwrap_or(usize::MAX);
    head[start..start + what.len()].copy_from_slice(what);
}

fn superblock(options: &BuildOptions, plan: &Plan, tree: &Tree, packed: &Packed) -> SuperBlock {
    let root_nid = packed.nids.first().copied().unwrap_or_default();
    let (_, prefixes) = plan.areas.prefix_table();
    let mut compat = FeatureCompat::SB_CHKSUM | FeatureCompat::MTIME;
    // Without xattrs the filter says nothing, and readers of the core format know no such thing.
    if options.fingerprint || options.xattrs != XattrPolicy::None || options.file_contexts.is_some() {
        compat |= FeatureCompat::XATTR_FILTER;
    }
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
    if !packed.devices.is_empty() {
        incompat |= FeatureIncompat::DEVICE_TABLE;
    }
    let devt_slotoff = plan.devices_at / size_of::<DeviceSlot>() as u64;
    let mut u1 = 0;
    if !plan.methods.all().is_empty() {
        incompat |= FeatureIncompat::LZ4_0PADDING;
        u1 = u16::MAX; // lz4_max_distance
        if plan.methods.needs_records(options.block_size, plan.is_dense) {
            incompat |= FeatureIncompat::COMPR_CFGS;
            u1 = plan.methods.algorithms();
        }
        if plan.methods.all().iter().any(|how| how.inline) {
            incompat |= FeatureIncompat::ZTAILPACKING;
        }
        // One bit for both.
        if packed.packed_nid.is_some() || options.shares_clusters() {
            incompat |= FeatureIncompat::FRAGMENTS;
        }
    }
    if plan.is_dense || plan.is_boxed {
        incompat |= FeatureIncompat::BIT48;
    }
    if plan.is_boxed {
        incompat |= FeatureIncompat::METABOX;
    }
    let (blocks_lo, blocks_hi) = split_address(packed.blocks);
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
        sb_extslots: plan.is_boxed.into(),
        rb: rb.into(),
        inos: (tree.nodes.len() as u64).into(),
        epoch: plan.times.epoch.cast_unsigned().into(),
        fixed_nsec: plan.times.fixed_nsec.into(),
        blocks_lo: blocks_lo.into(),
        xattr_blkaddr: u32::try_from(plan.shared_block).unwrap_or(u32::MAX).into(),
        volume_name,
        feature_incompat: incompat.bits().into(),
        u1: u1.into(),
        extra_devices: plan.devices.into(),
        devt_slotoff: u16::try_from(if plan.devices > 0 { devt_slotoff } else { 0 }).unwrap_or(0).into(),
        xattr_prefix_count: prefixes,
        packed_nid: packed.packed_nid.unwrap_or_default().into(),
        xattr_prefix_start: u32::try_from(plan.table_at / 4).unwrap_or(0).into(),
        ishare_xattr_prefix_id: plan.areas.fingerprint_prefix().unwrap_or(0),
        build_time: plan.times.build_time.into(),
        rootnid_8b: rootnid_8b.into(),
        ..SuperBlock::default()
    }
}

/// A UUID of version 8 (RFC 9562) from the superblock before it has a UUID, the prefixes, the shared xattrs,
/// and the digest of all inodes, directories and contents.
fn digest_uuid(superblock: &SuperBlock, plan: &Plan, table: &[u8], hash: Option<Sha256>) -> [u8; 16] {
    let mut hash = hash.unwrap_or_default();
    hash.update(superblock.as_bytes());
    hash.update(table);
    hash.update(plan.areas.shared());
    let digest: [u8; 32] = hash.finalize().into();
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}
