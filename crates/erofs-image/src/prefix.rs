//! The table of long xattr prefixes.

use erofs_format::xattr::XattrLongPrefix;
use erofs_format::{FeatureCompat, FeatureIncompat};
use zerocopy::FromBytes;

use crate::error::{Corruption, Error, Result, Where};
use crate::image::{Image, Space};

/// A record: the short prefix before the infix, and the infix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LongPrefix {
    pub(crate) base_index: u8,
    pub(crate) infix: Vec<u8>,
}

/// The table.
#[derive(Clone, Debug, Default)]
pub(crate) struct PrefixTable(Vec<LongPrefix>);

impl PrefixTable {
    /// Reads the table of `image`.
    pub(crate) fn read(image: &Image) -> Result<Self> {
        read_records(image).map(Self)
    }

    /// The record at `index`, if there is one.
    pub(crate) fn get(&self, index: u8) -> Option<&LongPrefix> {
        self.0.get(usize::from(index))
    }
}

fn read_records(image: &Image) -> Result<Vec<LongPrefix>> {
    let sb = image.superblock();
    let mut records = Vec::new();
    if sb.xattr_prefix_count == 0 {
        return Ok(records);
    }
    let holder = if sb.feature_compat.contains(FeatureCompat::PLAIN_XATTR_PFX) {
        None
    } else if sb.feature_incompat.contains(FeatureIncompat::METABOX) {
        image.metabox()
    } else {
        sb.packed_nid.map(|nid| image.packed(nid)).transpose()?
    };
    let bytes = |position, len| match &holder {
        None => image.bytes(Space::Primary, position, len),
        Some(inode) => image.file_bytes(inode, position, len),
    };
    // 2^34 at most, so that what 255 records of 258 bytes add stays far from overflowing.
    let mut position = sb.xattr_prefix_start;
    for _ in 0..sb.xattr_prefix_count {
        let here = Where::offset(position);
        let header = bytes(position, size_of::<XattrLongPrefix>())?;
        let header = XattrLongPrefix::read_from_bytes(&header).unwrap_or_default();
        let size = header.size.get();
        // Linux' own bound; 0 stands for 65536.
        if !(1..=256).contains(&size) {
            return Err(Error::corrupt(here, Corruption::PrefixLength { found: size }));
        }
        let infix = bytes(position + size_of::<XattrLongPrefix>() as u64, usize::from(size - 1))?.to_vec();
        records.push(LongPrefix { base_index: header.base_index, infix });
        position = (position + 2 + u64::from(size)).next_multiple_of(4);
    }
    Ok(records)
}
