//! The superblock: read, verified, and as values.

use erofs_codec::Codec;
use erofs_format::compression::{Algorithm, Algorithms};
use erofs_format::inode::NID_METABOX_BIT;
use erofs_format::superblock::{
    self as disk, MAX_BLKSZBITS, MIN_BLKSZBITS, SUPER_MAGIC_V1, SUPER_OFFSET, SUPER_SIZE,
};
use erofs_format::{FeatureCompat, FeatureIncompat, Profile};
use zerocopy::FromBytes;

use crate::codecs::Codecs;
use crate::error::{Corruption, Error, Feature, Result, Where};

/// Linux demands that the superblock fits in the page it starts in, here the smallest page.
const MAX_SIZE: u64 = 4096 - SUPER_OFFSET;

/// What the superblock says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SuperBlock {
    /// Block size as a power of two.
    pub block_bits: u8,
    /// Compatible features that are known; unknown ones are ignored, as the format demands.
    pub feature_compat: FeatureCompat,
    /// `feature_compat` as it is on disk.
    pub feature_compat_raw: u32,
    /// Incompatible features.
    pub feature_incompat: FeatureIncompat,
    /// The checksum, if there is one. It has been verified.
    pub checksum: Option<u32>,
    /// The root directory.
    pub root_nid: u64,
    /// Number of inodes, as the image claims.
    pub inos: u64,
    /// Number of blocks of the primary, as the image claims.
    pub blocks: u64,
    /// Seconds since 1970 that times of compact inodes count from.
    pub epoch: i64,
    /// Nanoseconds of the times of compact inodes.
    pub fixed_nsec: u32,
    /// Seconds since 1970 at which the image was built.
    pub build_time: i64,
    /// Block where inodes start.
    pub meta_blkaddr: u32,
    /// Block where shared xattrs start.
    pub xattr_blkaddr: u32,
    /// Identity of the image.
    pub uuid: [u8; 16],
    /// Label, without the NUL bytes behind it.
    pub volume_name: Vec<u8>,
    /// Devices beyond the primary.
    pub devices: Vec<Device>,
    /// The packed inode, if there may be fragments.
    pub packed_nid: Option<u64>,
    /// The metabox inode, if there is one.
    pub metabox_nid: Option<u64>,
    /// Algorithms of compressed inodes; `None` in an image without compression.
    pub compression: Option<Algorithms>,
    /// With which parameters.
    pub(crate) codecs: Codecs,
    /// Whether `h_name_filter` of inodes may be used.
    pub xattr_filter: bool,
    /// Index of the fingerprint's name in the table of long xattr prefixes.
    pub ishare_xattr_prefix_id: Option<u8>,
    /// Records in the table of long xattr prefixes.
    pub(crate) xattr_prefix_count: u8,
    /// Byte position of that table, in whatever holds it.
    pub(crate) xattr_prefix_start: u64,
    /// `extra_devices`.
    pub(crate) extra_devices: u16,
    /// Byte position of the device table.
    pub(crate) device_table: u64,
}

/// A record of the device table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Device {
    /// Name, without the NUL bytes behind it; free to the tools that make images.
    pub tag: Vec<u8>,
    /// Number of blocks, as the image claims.
    pub blocks: u64,
    /// First block in the unified address space; 0: not in it.
    pub uniaddr: u64,
}

impl SuperBlock {
    /// Bytes of a block.
    pub fn block_size(&self) -> u32 {
        1 << self.block_bits
    }

    /// The algorithms that compressed inodes may use, and how many bytes a stream of each may refer back, where that is
    /// not fixed for all images.
    pub fn algorithms(&self) -> impl Iterator<Item = (Algorithm, Option<u64>)> {
        let of_number = |number| Algorithm::try_from(number).ok();
        (0..4).filter_map(of_number).filter_map(|algorithm| {
            let window = match self.codecs.get(algorithm)? {
                Codec::Lz4 => None,
                Codec::Lzma { dict_size } => Some(u64::from(dict_size)),
                // At most 15 and 20 something, as the records were checked.
                Codec::Deflate { window_bits: bits } | Codec::Zstd { window_log: bits } => Some(1 << bits),
            };
            Some((algorithm, window))
        })
    }

    /// Whether addresses have 48 bits.
    pub fn is_48bit(&self) -> bool {
        self.feature_incompat.contains(FeatureIncompat::BIT48)
    }

    /// Reads and verifies the superblock. `read` fills its argument from a byte position of the
    /// image. `devices` stays empty: the table is read later.
    pub(crate) fn read(
        profile: Profile,
        read: &mut dyn FnMut(u64, &mut [u8]) -> Result<()>,
    ) -> Result<SuperBlock> {
        let mut bytes = [0; size_of::<disk::SuperBlock>()];
        // The magic first: a file of 3 bytes is no EROFS image rather than a truncated one.
        match read(SUPER_OFFSET, &mut bytes[..size_of::<u32>()]) {
            Ok(()) | Err(Error::Corrupt { .. }) => (),
            Err(failed) => return Err(failed),
        }
        let found = u32::from_le_bytes(first4(&bytes));
        if found != SUPER_MAGIC_V1 {
            return Err(Error::NotErofs { found });
        }
        read(SUPER_OFFSET, &mut bytes)?;
        let raw = disk::SuperBlock::read_from_bytes(&bytes).map_err(|_| Error::NotErofs { found })?;
        check_shape(&raw)?;

        let compat = FeatureCompat::from_disk(raw.feature_compat.get());
        let checksum = compat.contains(FeatureCompat::SB_CHKSUM).then_some(raw.checksum.get());
        if let Some(stored) = checksum {
            verify_checksum(stored, raw.blkszbits, read)?;
        }
        let here = Where::offset(SUPER_OFFSET);
        let incompat = FeatureIncompat::try_from(raw.feature_incompat.get())
            .map_err(|error| Error::unsupported(here, error))?;
        check_profile(profile, incompat, &raw)?;

        let metabox_nid = if incompat.contains(FeatureIncompat::METABOX) {
            Some(read_metabox_nid(&raw, read)?)
        } else {
            None
        };
        let ishare = compat.contains(FeatureCompat::ISHARE_XATTRS).then_some(raw.ishare_xattr_prefix_id);
        // Linux reads the table whatever XATTR_PREFIXES says.
        let prefix_count = raw.xattr_prefix_count;
        if let Some(index) = ishare.filter(|index| *index >= prefix_count) {
            return Err(Error::corrupt(here, Corruption::PrefixIndex { index, count: prefix_count }));
        }
        let (root_nid, blocks_hi) = match raw.rootnid_8b.get() {
            nid if nid != 0 && incompat.contains(FeatureIncompat::BIT48) => (nid, raw.rb.get()),
            _ => (u64::from(raw.rb.get()), 0),
        };
        let compression = algorithms(incompat, raw.u1.get())?;
        let codecs = match compression {
            None => Codecs::default(),
            Some(_) if !incompat.contains(FeatureIncompat::COMPR_CFGS) => Codecs::lz4_only(),
            Some(algorithms) => {
                Codecs::read(algorithms, SUPER_OFFSET + raw.size(), 1 << raw.blkszbits, read)?
            }
        };
        let epoch = raw.epoch.get().cast_signed();
        Ok(SuperBlock {
            block_bits: raw.blkszbits,
            feature_compat: compat,
            feature_compat_raw: raw.feature_compat.get(),
            feature_incompat: incompat,
            checksum,
            root_nid,
            inos: raw.inos.get(),
            blocks: u64::from(blocks_hi) << 32 | u64::from(raw.blocks_lo.get()),
            epoch,
            fixed_nsec: raw.fixed_nsec.get(),
            build_time: epoch.wrapping_add(i64::from(raw.build_time.get())),
            meta_blkaddr: raw.meta_blkaddr.get(),
            xattr_blkaddr: raw.xattr_blkaddr.get(),
            uuid: raw.uuid,
            volume_name: until_nul(&raw.volume_name),
            devices: Vec::new(),
            packed_nid: Some(raw.packed_nid.get())
                .filter(|nid| incompat.contains(FeatureIncompat::FRAGMENTS) && *nid != 0),
            metabox_nid,
            compression,
            codecs,
            xattr_filter: compat.contains(FeatureCompat::XATTR_FILTER) && raw.xattr_filter_reserved == 0,
            ishare_xattr_prefix_id: ishare,
            xattr_prefix_count: prefix_count,
            xattr_prefix_start: u64::from(raw.xattr_prefix_start.get()) << 2,
            extra_devices: if incompat.contains(FeatureIncompat::DEVICE_TABLE) {
                raw.extra_devices.get()
            } else {
                0
            },
            device_table: u64::from(raw.devt_slotoff.get()) * disk::DEVT_SLOT_SIZE,
        })
    }
}

/// The bytes before the first NUL.
pub(crate) fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().take_while(|byte| *byte != 0).collect()
}

fn first4(bytes: &[u8]) -> [u8; 4] {
    bytes.first_chunk().copied().unwrap_or_default()
}

fn check_shape(raw: &disk::SuperBlock) -> Result<()> {
    let here = Where::offset(SUPER_OFFSET);
    if !(MIN_BLKSZBITS..=MAX_BLKSZBITS).contains(&raw.blkszbits) {
        return Err(Error::corrupt(here, Corruption::BlockSize { found: raw.blkszbits }));
    }
    if raw.dirblkbits != 0 {
        return Err(Error::corrupt(here, Corruption::DirBlockBits { found: raw.dirblkbits }));
    }
    if raw.size() > MAX_SIZE {
        return Err(Error::corrupt(here, Corruption::ExtensionSlots { found: raw.sb_extslots }));
    }
    Ok(())
}

fn verify_checksum(
    stored: u32,
    blkszbits: u8,
    read: &mut dyn FnMut(u64, &mut [u8]) -> Result<()>,
) -> Result<()> {
    // At most one block of 64 KiB: blkszbits has been checked.
    let mut covered = vec![0; usize::try_from(disk::checksum_len(blkszbits)).unwrap_or_default()];
    read(SUPER_OFFSET, &mut covered)?;
    let computed = disk::checksum(&covered);
    if stored == computed { Ok(()) } else { Err(Error::Checksum { stored, computed }) }
}

fn check_profile(profile: Profile, incompat: FeatureIncompat, raw: &disk::SuperBlock) -> Result<()> {
    let here = Where::offset(SUPER_OFFSET);
    let excluded = incompat.difference(profile.incompat());
    if !excluded.is_empty() {
        return Err(Error::unsupported(here, Feature::Incompat { profile, features: excluded }));
    }
    if let Some(allowed) = profile.compat() {
        let excluded = FeatureCompat::from_bits_retain(raw.feature_compat.get()).difference(allowed);
        if !excluded.is_empty() {
            return Err(Error::unsupported(here, Feature::Compat { profile, features: excluded }));
        }
        if raw.u1.get() != 0 {
            let feature = Feature::Excluded { profile, what: "compression" };
            return Err(Error::unsupported(here, feature));
        }
    }
    Ok(())
}

fn read_metabox_nid(
    raw: &disk::SuperBlock,
    read: &mut dyn FnMut(u64, &mut [u8]) -> Result<()>,
) -> Result<u64> {
    let here = Where::offset(SUPER_OFFSET + SUPER_SIZE);
    if raw.sb_extslots == 0 {
        return Err(Error::corrupt(here, Corruption::ExtensionSlots { found: 0 }));
    }
    let mut bytes = [0; size_of::<disk::SuperBlockExt>()];
    read(SUPER_OFFSET + SUPER_SIZE, &mut bytes)?;
    let found = disk::SuperBlockExt::read_from_bytes(&bytes).map_or(u64::MAX, |ext| ext.metabox_nid.get());
    if found & NID_METABOX_BIT != 0 {
        return Err(Error::corrupt(here, Corruption::MetaboxInMetabox { found }));
    }
    Ok(found)
}

/// Which algorithms the image says it uses; `None` is an image without compression.
fn algorithms(incompat: FeatureIncompat, u1: u16) -> Result<Option<Algorithms>> {
    if incompat.contains(FeatureIncompat::COMPR_CFGS) {
        let known = Algorithms::try_from(u1).map(|known| Some(known).filter(|known| !known.is_empty()));
        return known.map_err(|error| Error::unsupported(Where::offset(SUPER_OFFSET), error));
    }
    let lz4 = u1 != 0 || incompat.contains(FeatureIncompat::LZ4_0PADDING);
    Ok(lz4.then_some(Algorithms::LZ4))
}
