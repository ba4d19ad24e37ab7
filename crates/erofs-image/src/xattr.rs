//! Extended attributes.

use std::ops::ControlFlow;

use erofs_format::FeatureCompat;
use erofs_format::xattr::{
    FINGERPRINT_MAGIC, FINGERPRINT_SIZE, XATTR_LONG_PREFIX, XATTR_LONG_PREFIX_MASK, XATTR_NAME_MAX,
    XattrEntry, XattrIbodyHeader, is_listed, name_filter_bit, prefix, split_name,
};
use zerocopy::FromBytes;

use crate::cache::Bytes;
use crate::error::{Corruption, Error, Feature, Result, Where, printable};
use crate::image::{Image, Space};
use crate::inode::Inode;

const HEADER_SIZE: usize = size_of::<XattrIbodyHeader>();
const ENTRY_SIZE: usize = size_of::<XattrEntry>();
const SHARED_ID_SIZE: usize = 4;

/// An extended attribute with its full name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xattr {
    /// The name with its namespace, `user.mime_type` for one.
    pub name: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// An entry as it is on disk: the name in three parts, and the value.
struct Entry<'a> {
    base_index: u8,
    infix: &'a [u8],
    suffix: &'a [u8],
    value: &'a [u8],
}

impl Entry<'_> {
    fn is(&self, base_index: u8, rest: &[u8]) -> bool {
        self.base_index == base_index && rest.strip_prefix(self.infix) == Some(self.suffix)
    }

    fn full_name(&self, place: Where) -> Result<Vec<u8>> {
        let name = [prefix(self.base_index).unwrap_or_default(), self.infix, self.suffix].concat();
        if name.len() > XATTR_NAME_MAX || name.contains(&0) {
            return Err(Error::corrupt(place, Corruption::XattrName { name: printable(&name) }));
        }
        Ok(name)
    }
}

impl Image {
    /// All attributes of `inode` that Linux would list, with full names. Hidden ones, which belong
    /// to no namespace, are not among them.
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        let mut found = Vec::new();
        self.each_entry(inode, &mut |entry| {
            if is_listed(entry.base_index) {
                let name = entry.full_name(Where::nid(inode.nid))?;
                found.push(Xattr { name, value: entry.value.to_vec() });
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// The value of the attribute `name` of `inode`, by its full name; hidden ones are found too.
    pub fn xattr(&self, inode: &Inode, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let (base_index, rest) = split_name(name);
        self.find(inode, base_index, rest, &mut <[u8]>::to_vec)
    }

    /// The fingerprint that the image claims for a regular file: a SHA-256 of its content, as
    /// Linux 7.0's page-cache sharing and mkfs.erofs define it. Nobody has verified it.
    pub fn fingerprint(&self, inode: &Inode) -> Result<Option<[u8; 32]>> {
        let Some(index) = self.superblock().ishare_xattr_prefix_id.filter(|_| inode.is_file()) else {
            return Ok(None);
        };
        if inode.xattr_size == 0 {
            return Ok(None);
        }
        let Some(record) = self.long_prefix(index) else { return Ok(None) };
        let digest = self.find(inode, record.base_index, &record.infix, &mut |value| {
            let digest = value.strip_prefix(FINGERPRINT_MAGIC).filter(|_| value.len() == FINGERPRINT_SIZE);
            digest.and_then(|digest| digest.first_chunk().copied())
        });
        Ok(digest?.flatten())
    }

    /// The name of the attribute that holds the fingerprints, if the image names one. It may be one that Linux lists,
    /// yet it is about the image and not about the files.
    pub fn fingerprint_name(&self) -> Option<Vec<u8>> {
        let record = self.long_prefix(self.superblock().ishare_xattr_prefix_id?)?;
        Some([prefix(record.base_index).unwrap_or_default(), &record.infix].concat())
    }

    fn find<T>(
        &self,
        inode: &Inode,
        base_index: u8,
        rest: &[u8],
        take: &mut dyn FnMut(&[u8]) -> T,
    ) -> Result<Option<T>> {
        let mut found = None;
        if inode.xattr_size != 0 && self.may_have(inode, base_index, rest)? {
            self.each_entry(inode, &mut |entry| {
                if !entry.is(base_index, rest) {
                    return Ok(ControlFlow::Continue(()));
                }
                found = Some(take(entry.value));
                Ok(ControlFlow::Break(()))
            })?;
        }
        Ok(found)
    }

    /// Whether the name filter leaves it open that the attribute exists.
    fn may_have(&self, inode: &Inode, base_index: u8, rest: &[u8]) -> Result<bool> {
        if !self.superblock().xattr_filter || inode.xattr_size < HEADER_SIZE as u64 {
            return Ok(true);
        }
        let header = self.bytes(inode.space, inode.xattr_start, HEADER_SIZE);
        let header = header.map_err(|error| error.of_inode(inode.nid))?;
        let header = XattrIbodyHeader::read_from_bytes(&header).unwrap_or_default();
        Ok(header.h_name_filter.get() & 1 << name_filter_bit(base_index, rest) == 0)
    }

    fn each_entry(
        &self,
        inode: &Inode,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        if inode.xattr_size == 0 {
            return Ok(());
        }
        self.visit_area(inode, visit).map_err(|error| error.of_inode(inode.nid))
    }

    fn visit_area(
        &self,
        inode: &Inode,
        visit: &mut dyn FnMut(Entry<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let here = Where::at(inode.nid, inode.xattr_start);
        if inode.xattr_size <= HEADER_SIZE as u64 {
            return Err(Error::unsupported(here, Feature::XattrHeaderOnly));
        }
        // 256 KiB at most: the count that gave the size has 16 bits.
        let size = usize::try_from(inode.xattr_size).unwrap_or_default();
        let area = self.bytes(inode.space, inode.xattr_start, size)?;
        let (header, rest) = area.split_at_checked(HEADER_SIZE).unwrap_or_default();
        let header = XattrIbodyHeader::read_from_bytes(header).unwrap_or_default();
        let count = header.h_shared_count;
        let Some((shared, mut rest)) = rest.split_at_checked(usize::from(count) * SHARED_ID_SIZE) else {
            return Err(Error::corrupt(here, Corruption::SharedXattrCount { count, size: inode.xattr_size }));
        };
        let mut budget = Budget { left: self.limits().xattr_bytes, limit: self.limits().xattr_bytes };
        while !rest.is_empty() {
            let (raw, needed) = split_entry(rest, here)?;
            budget.take(needed, here)?;
            let (entry, behind) = rest.split_at_checked(needed).unwrap_or((rest, &[]));
            if self.visit_entry(raw, entry, visit)?.is_break() {
                return Ok(());
            }
            rest = behind;
        }
        for id in shared.chunks_exact(SHARED_ID_SIZE) {
            let id = id.first_chunk().map_or(0, |id| u32::from_le_bytes(*id));
            let (raw, entry) = self.shared_entry(id, &mut budget, here)?;
            if self.visit_entry(raw, &entry, visit)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A shared entry with name and value.
    fn shared_entry(&self, id: u32, budget: &mut Budget, place: Where) -> Result<(XattrEntry, Bytes<'_>)> {
        let sb = self.superblock();
        let space = if sb.feature_compat.contains(FeatureCompat::SHARED_EA_IN_METABOX) {
            Space::Metabox
        } else {
            Space::Primary
        };
        // 32 bits and 16 bits at most, and 34 bits.
        let position = (u64::from(sb.xattr_blkaddr) << sb.block_bits) + u64::from(id) * 4;
        let head = self.bytes(space, position, ENTRY_SIZE)?;
        let raw = XattrEntry::read_from_bytes(&head).unwrap_or_default();
        let size = entry_len(raw);
        budget.take(size, place)?;
        Ok((raw, self.bytes(space, position, size)?))
    }

    fn visit_entry(
        &self,
        raw: XattrEntry,
        entry: &[u8],
        visit: &mut dyn FnMut(Entry<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let body = entry.get(ENTRY_SIZE..).unwrap_or_default();
        let (suffix, rest) = body.split_at_checked(usize::from(raw.e_name_len)).unwrap_or_default();
        let value = rest.get(..usize::from(raw.e_value_size.get())).unwrap_or_default();
        let (base_index, infix) = if raw.e_name_index & XATTR_LONG_PREFIX == 0 {
            (raw.e_name_index, &[][..])
        } else {
            match self.long_prefix(raw.e_name_index & XATTR_LONG_PREFIX_MASK) {
                Some(record) => (record.base_index, record.infix.as_slice()),
                // As Linux does: no prefix, no name.
                None => return Ok(ControlFlow::Continue(())),
            }
        };
        visit(Entry { base_index, infix, suffix, value })
    }
}

/// Bytes of an entry without the padding behind it.
fn entry_len(raw: XattrEntry) -> usize {
    ENTRY_SIZE + usize::from(raw.e_name_len) + usize::from(raw.e_value_size.get())
}

/// The head of the first entry in `rest`, and how many bytes it has with its padding.
fn split_entry(rest: &[u8], place: Where) -> Result<(XattrEntry, usize)> {
    let bounds = |needed: usize| {
        Error::corrupt(place, Corruption::XattrBounds { needed: needed as u64, left: rest.len() as u64 })
    };
    let (raw, _) = XattrEntry::read_from_prefix(rest).map_err(|_| bounds(ENTRY_SIZE))?;
    let needed = entry_len(raw).next_multiple_of(4);
    if needed > rest.len() { Err(bounds(needed)) } else { Ok((raw, needed)) }
}

/// What is left of [`crate::Limits::xattr_bytes`].
struct Budget {
    left: u64,
    limit: u64,
}

impl Budget {
    fn take(&mut self, bytes: usize, place: Where) -> Result<()> {
        let value = (self.limit - self.left).saturating_add(bytes as u64);
        match self.left.checked_sub(bytes as u64) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Error::Limit { place, name: "xattr_bytes", value, limit: self.limit }),
        }
    }
}
