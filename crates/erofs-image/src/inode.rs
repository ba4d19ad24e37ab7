//! Inodes: from a nid to values.

use erofs_format::chunk::ChunkFormat;
use erofs_format::dirent::FileType;
use erofs_format::inode::{DataLayout, ISLOTBITS, InodeCompact, InodeExtended, InodeFormat, NID_METABOX_BIT};
use erofs_format::{FormatError, NULL_ADDR, NULL_ADDR_48, Profile, superblock, xattr};
use zerocopy::FromBytes;

use crate::device::overflow;
use crate::error::{Corruption, Error, Feature, Result, Where};
use crate::image::{Image, Space};

/// What an inode says. It belongs to the image that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inode {
    /// Its number in the image, the key to it.
    pub nid: u64,
    /// Its number as Linux shows it, see [`Image::number`].
    pub number: u64,
    /// Type and permissions as in `st_mode`.
    pub mode: u16,
    /// Bytes of data.
    pub size: u64,
    /// Number of links, as the image claims.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds of the modification time, below 1,000,000,000.
    pub mtime_nsec: u32,
    /// Device number of a device node, as Linux packs it (`new_encode_dev`); else 0.
    pub rdev: u32,
    /// How the data is laid out.
    pub layout: DataLayout,
    /// Space that the data takes, in units of 512 bytes, as Linux shows it.
    pub sectors: u64,
    file_type: FileType,
    /// The data has no entry for ".".
    pub(crate) dot_omitted: bool,
    /// Where the inode lies.
    pub(crate) space: Space,
    /// Byte position behind the inode, where the xattr area starts.
    pub(crate) xattr_start: u64,
    /// Bytes of the xattr area.
    pub(crate) xattr_size: u64,
    pub(crate) data: DataStart,
}

/// Where the data of an inode starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataStart {
    /// No data can be read: a device, a pipe, a socket.
    None,
    /// All of it is a hole.
    Hole,
    /// At this block of the unified address space.
    Block(u64),
    /// Behind the inode lie the addresses of chunks.
    Chunks(ChunkFormat),
    /// Compressed.
    Compressed,
}

impl Inode {
    /// The type of the file.
    pub fn file_type(&self) -> FileType {
        self.file_type
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.file_type == FileType::Regular
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.file_type == FileType::Symlink
    }

    /// Bytes of the area of its xattrs.
    pub fn xattr_size(&self) -> u64 {
        self.xattr_size
    }

    /// Byte position behind inode and xattrs: inline data, chunk addresses or a compression index.
    pub(crate) fn body(&self) -> Result<u64> {
        self.xattr_start.checked_add(self.xattr_size).ok_or_else(|| overflow(self.nid))
    }
}

/// What the two kinds of inode have in common.
struct Fields {
    xattr_icount: u16,
    mode: u16,
    size: u64,
    i_u: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
    mtime_nsec: u32,
    nlink: u32,
    /// High bits of the start block, in an inode that has them.
    address_high: Option<u16>,
}

impl Image {
    /// What a mount shows as `st_ino` of the inode `nid`. It is the nid itself, save in an image with a metabox: there
    /// Linux takes the uppermost bit, which tells inodes of the metabox, down to bit 31, so that programs with 32-bit
    /// numbers can hold it.
    pub fn number(&self, nid: u64) -> u64 {
        const HIGH: u64 = 0xffff_ffff_0000_0000;
        const LOW: u64 = (1 << 31) - 1;
        if self.superblock().metabox_nid.is_none() {
            return nid;
        }
        (nid << 1) & HIGH | nid & LOW | (nid >> 63) << 31
    }

    /// The inode `nid`.
    pub fn inode(&self, nid: u64) -> Result<Inode> {
        self.read_inode(nid).map_err(|error| error.of_inode(nid))
    }

    fn read_inode(&self, nid: u64) -> Result<Inode> {
        let (space, position) = self.inode_place(nid)?;
        let bytes = self.bytes(space, position, size_of::<InodeCompact>())?;
        let here = Where::at(nid, position);
        let raw_format = bytes.first_chunk().map_or(0, |format| u16::from_le_bytes(*format));
        let format = InodeFormat::try_from(raw_format).map_err(|error| Error::unsupported(here, error))?;
        let fields = if format.extended {
            drop(bytes);
            extended(&self.bytes(space, position, size_of::<InodeExtended>())?)
        } else {
            self.compact(&bytes, format)
        };
        let file_type = FileType::from_mode(fields.mode).map_err(|error| Error::corrupt(here, error))?;
        if i64::try_from(fields.size).is_err() {
            return Err(Error::corrupt(here, Corruption::NegativeSize { found: fields.size }));
        }
        self.check_inode_profile(nid, format, &fields)?;
        let data = data_start(nid, format.layout, file_type, &fields)?;
        let xattr_start = position.checked_add(format.inode_size()).ok_or_else(|| overflow(nid))?;
        let is_device = matches!(file_type, FileType::CharDevice | FileType::BlockDevice);
        Ok(Inode {
            nid,
            number: self.number(nid),
            mode: fields.mode,
            size: fields.size,
            nlink: fields.nlink,
            uid: fields.uid,
            gid: fields.gid,
            mtime: fields.mtime,
            mtime_nsec: fields.mtime_nsec.min(999_999_999),
            rdev: if is_device { fields.i_u } else { 0 },
            layout: format.layout,
            sectors: self.sectors(data, &fields),
            file_type,
            dot_omitted: format.bit_4 && file_type == FileType::Directory,
            space,
            xattr_start,
            xattr_size: xattr::ibody_size(fields.xattr_icount),
            data,
        })
    }

    fn inode_place(&self, nid: u64) -> Result<(Space, u64)> {
        let sb = self.superblock();
        if nid & NID_METABOX_BIT == 0 {
            let position = superblock::inode_offset(sb.meta_blkaddr, sb.block_bits, nid);
            return position.map(|position| (Space::Primary, position)).ok_or_else(|| overflow(nid));
        }
        if sb.metabox_nid.is_none() {
            return Err(Error::corrupt(Where::nid(nid), Corruption::NoMetabox));
        }
        let position = (nid & !NID_METABOX_BIT).checked_mul(1 << ISLOTBITS);
        position.map(|position| (Space::Metabox, position)).ok_or_else(|| overflow(nid))
    }

    fn compact(&self, bytes: &[u8], format: InodeFormat) -> Fields {
        let sb = self.superblock();
        let raw = InodeCompact::read_from_bytes(bytes).unwrap_or_default();
        let mode = raw.i_mode.get();
        // In a directory bit 4 means something else.
        let nlink_1 = format.bit_4 && FileType::from_mode(mode) != Ok(FileType::Directory);
        Fields {
            xattr_icount: raw.i_xattr_icount.get(),
            mode,
            size: u64::from(raw.i_size.get()),
            i_u: raw.i_u.get(),
            uid: u32::from(raw.i_uid.get()),
            gid: u32::from(raw.i_gid.get()),
            mtime: sb.epoch.wrapping_add(i64::from(raw.i_mtime.get())),
            mtime_nsec: sb.fixed_nsec,
            nlink: if nlink_1 { 1 } else { u32::from(raw.i_nb.get()) },
            address_high: nlink_1.then_some(raw.i_nb.get()),
        }
    }

    fn check_inode_profile(&self, nid: u64, format: InodeFormat, fields: &Fields) -> Result<()> {
        let profile = self.profile();
        if format.layout.is_compressed() {
            if self.superblock().compression.is_none() {
                return Err(Error::corrupt(Where::nid(nid), Corruption::CompressedInPlain));
            }
            if profile != Profile::Full {
                return Err(self.exclude(nid, "compressed inodes"));
            }
        }
        if profile != Profile::Core {
            return Ok(());
        }
        if fields.xattr_icount != 0 {
            return Err(self.exclude(nid, "extended attributes"));
        }
        if format.layout == DataLayout::ChunkBased {
            return Err(self.exclude(nid, "chunk-based inodes"));
        }
        if format.bit_4 {
            return Err(self.exclude(nid, "bit 4 of i_format"));
        }
        Ok(())
    }

    fn sectors(&self, data: DataStart, fields: &Fields) -> u64 {
        let block_bits = self.superblock().block_bits;
        let blocks = if data == DataStart::Compressed {
            u64::from(fields.address_high.unwrap_or(0)) << 32 | u64::from(fields.i_u)
        } else {
            fields.size.div_ceil(1 << block_bits)
        };
        // A block has at least 512 bytes, and there are at most 2^55 blocks of a size.
        blocks.saturating_mul(1 << (block_bits - 9))
    }
}

fn extended(bytes: &[u8]) -> Fields {
    let raw = InodeExtended::read_from_bytes(bytes).unwrap_or_default();
    Fields {
        xattr_icount: raw.i_xattr_icount.get(),
        mode: raw.i_mode.get(),
        size: raw.i_size.get(),
        i_u: raw.i_u.get(),
        uid: raw.i_uid.get(),
        gid: raw.i_gid.get(),
        mtime: raw.i_mtime.get().cast_signed(),
        mtime_nsec: raw.i_mtime_nsec.get(),
        nlink: raw.i_nlink.get(),
        address_high: Some(raw.i_nb.get()),
    }
}

fn data_start(nid: u64, layout: DataLayout, file_type: FileType, fields: &Fields) -> Result<DataStart> {
    if !matches!(file_type, FileType::Regular | FileType::Directory | FileType::Symlink) {
        return Ok(DataStart::None);
    }
    let mask = if fields.address_high.is_some() { NULL_ADDR_48 } else { u64::from(NULL_ADDR) };
    let block = u64::from(fields.address_high.unwrap_or(0)) << 32 | u64::from(fields.i_u);
    Ok(match layout {
        DataLayout::FlatPlain if block == mask => DataStart::Hole,
        DataLayout::FlatPlain | DataLayout::FlatInline => DataStart::Block(block),
        DataLayout::ChunkBased => {
            let [low, high, ..] = fields.i_u.to_le_bytes();
            let format = ChunkFormat::try_from(u16::from_le_bytes([low, high]));
            let unsupported = |error: FormatError| Error::unsupported(Where::nid(nid), Feature::from(error));
            DataStart::Chunks(format.map_err(unsupported)?)
        }
        DataLayout::CompressedFull | DataLayout::CompressedCompact => DataStart::Compressed,
    })
}
