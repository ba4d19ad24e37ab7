//! How xattrs are stored: the table of long prefixes, the shared entries, and the area behind each inode.
//!
//! The fingerprint's value is not known before the file is read, but its length is; so an area's size is
//! known when addresses are given out, and its bytes are made when the inode is written.

use std::collections::{BTreeMap, HashMap};

use erofs_format::xattr::{
    FINGERPRINT_MAGIC, FINGERPRINT_SIZE, XATTR_LONG_PREFIX, XattrEntry, XattrIbodyHeader, XattrLongPrefix,
    entry_size, name_filter_bit, prefix, split_name,
};
use zerocopy::IntoBytes;

use super::{SetId, Sets, Xattr};
use crate::options::BuildOptions;

/// More prefixes than this can't be numbered.
const MAX_PREFIXES: usize = 128;

/// A prefix is put into the table unasked if it saves at least so many bytes.
const PREFIX_PAYS: u64 = 64;

/// Bytes of a fingerprint's value, and of its entry, whose name is all prefix.
const FINGERPRINT_VALUE: u16 = 39;
const FINGERPRINT_ENTRY: usize = 44;
const _: () = assert!(FINGERPRINT_VALUE as usize == FINGERPRINT_SIZE);
const _: () = assert!(FINGERPRINT_ENTRY as u64 == entry_size(0, FINGERPRINT_VALUE));

/// What the storing of xattrs depends on.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    pub(crate) share_above: u64,
    /// Prefixes asked for, with their namespace.
    pub(crate) prefixes: &'a [Vec<u8>],
    /// Look for prefixes that pay.
    pub(crate) find_prefixes: bool,
    pub(crate) fingerprint: Option<&'a [u8]>,
}

impl<'a> Settings<'a> {
    pub(crate) fn new(options: &'a BuildOptions, find_prefixes: bool) -> Self {
        Self {
            share_above: u64::from(options.share_xattrs_above),
            prefixes: &options.xattr_prefixes,
            find_prefixes,
            fingerprint: options.fingerprint.then_some(options.fingerprint_name.as_slice()),
        }
    }
}

/// The area of every set, and what they refer to.
#[derive(Debug)]
pub(crate) struct Areas {
    prefixes: Vec<Prefix>,
    /// Name and long-prefix number of the fingerprint.
    fingerprint: Option<(Box<[u8]>, u8)>,
    /// Shared entries, one after the other.
    shared: Vec<u8>,
    areas: Vec<Area>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Prefix {
    base: u8,
    infix: Box<[u8]>,
}

/// What the xattr area of a set holds apart from a fingerprint.
#[derive(Debug, Default)]
struct Area {
    /// Bits of the names that are there.
    names: u32,
    /// Positions in the shared entries, in bytes.
    shared: Vec<u32>,
    /// Entries that sort before the fingerprint, and after it.
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Areas {
    pub(crate) fn plan(sets: &Sets, settings: &Settings<'_>) -> Self {
        let common = shared_xattrs(sets, settings.share_above);
        let mut prefixes = Vec::new();
        let fingerprint = settings.fingerprint.map(|name| {
            prefixes.push(Prefix::of(name));
            (name.into(), 0)
        });
        for name in settings.prefixes {
            add_prefix(&mut prefixes, Prefix::of(name));
        }
        if settings.find_prefixes {
            for found in paying_prefixes(sets, &common) {
                add_prefix(&mut prefixes, found);
            }
        }

        let mut shared = Vec::new();
        let mut places = HashMap::new();
        for xattr in common {
            // Ids count 4 bytes in 32 bits; what lies further is kept with each inode.
            if let Ok(place) = u32::try_from(shared.len()) {
                places.insert(xattr, place);
                put_entry(&mut shared, xattr, &prefixes);
            }
        }
        let areas = sets
            .iter()
            .map(|(xattrs, _)| {
                let mut area = Area::default();
                for xattr in xattrs {
                    let (base, name) = split_name(&xattr.name);
                    area.names |= 1 << name_filter_bit(base, name);
                    match places.get(xattr) {
                        Some(place) if area.shared.len() < usize::from(u8::MAX) => area.shared.push(*place),
                        _ if settings.fingerprint.is_some_and(|own| &*xattr.name > own) => {
                            put_entry(&mut area.after, xattr, &prefixes);
                        }
                        _ => put_entry(&mut area.before, xattr, &prefixes),
                    }
                }
                area
            })
            .collect();
        Self { prefixes, fingerprint, shared, areas }
    }

    /// The table of long prefixes, and how many there are.
    pub(crate) fn prefix_table(&self) -> (Vec<u8>, u8) {
        let mut table = Vec::new();
        for Prefix { base, infix } in &self.prefixes {
            let size = u16::try_from(infix.len() + 1).unwrap_or_default();
            table.extend_from_slice(XattrLongPrefix { size: size.into(), base_index: *base }.as_bytes());
            table.extend_from_slice(infix);
            table.resize(table.len().next_multiple_of(4), 0);
        }
        (table, u8::try_from(self.prefixes.len()).unwrap_or_default())
    }

    /// The number of the fingerprint's name in that table.
    pub(crate) fn fingerprint_prefix(&self) -> Option<u8> {
        self.fingerprint.as_ref().map(|(_, number)| *number)
    }

    /// The shared entries.
    pub(crate) fn shared(&self) -> &[u8] {
        &self.shared
    }

    /// Bytes of the area of an inode: 0, or a multiple of 4 above 12.
    pub(crate) fn size(&self, set: SetId, fingerprint: bool) -> u64 {
        let area = &self.areas[set as usize];
        let mut entries = 4 * area.shared.len() + area.before.len() + area.after.len();
        if fingerprint && self.fingerprint.is_some() {
            entries += FINGERPRINT_ENTRY;
        }
        if entries == 0 { 0 } else { (size_of::<XattrIbodyHeader>() + entries) as u64 }
    }

    /// Appends the area of an inode. `shared_at` is where the shared entries are, in bytes from the block
    /// that ids count from.
    pub(crate) fn write(&self, set: SetId, digest: Option<&[u8; 32]>, shared_at: u32, out: &mut Vec<u8>) {
        let area = &self.areas[set as usize];
        let fingerprint = self.fingerprint.as_ref().zip(digest);
        if self.size(set, fingerprint.is_some()) == 0 {
            return;
        }
        let mut names = area.names;
        if let Some(((name, _), _)) = &fingerprint {
            let (base, rest) = split_name(name);
            names |= 1 << name_filter_bit(base, rest);
        }
        let header = XattrIbodyHeader {
            h_name_filter: (!names).into(),
            h_shared_count: u8::try_from(area.shared.len()).unwrap_or(u8::MAX),
            ..XattrIbodyHeader::default()
        };
        out.extend_from_slice(header.as_bytes());
        for place in &area.shared {
            let id = (u64::from(shared_at) + u64::from(*place)) / 4;
            out.extend_from_slice(&u32::try_from(id).unwrap_or_default().to_le_bytes());
        }
        out.extend_from_slice(&area.before);
        if let Some(((_, number), digest)) = fingerprint {
            let entry = XattrEntry {
                e_name_len: 0,
                e_name_index: XATTR_LONG_PREFIX | number,
                e_value_size: FINGERPRINT_VALUE.into(),
            };
            out.extend_from_slice(entry.as_bytes());
            out.extend_from_slice(FINGERPRINT_MAGIC);
            out.extend_from_slice(digest);
            out.push(0);
        }
        out.extend_from_slice(&area.after);
    }
}

impl Prefix {
    /// Splits a full name or prefix at its namespace.
    fn of(name: &[u8]) -> Self {
        // A bare namespace ("user.") is a prefix too, with nothing behind it.
        for base in [1, 4, 6] {
            if prefix(base) == Some(name) {
                return Self { base, infix: Box::default() };
            }
        }
        let (base, infix) = split_name(name);
        Self { base, infix: infix.into() }
    }
}

fn add_prefix(prefixes: &mut Vec<Prefix>, new: Prefix) {
    if prefixes.len() < MAX_PREFIXES && !prefixes.contains(&new) {
        prefixes.push(new);
    }
}

/// The xattrs that more than `share_above` inodes have, sorted.
fn shared_xattrs(sets: &Sets, share_above: u64) -> Vec<&Xattr> {
    let mut uses: BTreeMap<&Xattr, u64> = BTreeMap::new();
    for (xattrs, inodes) in sets.iter() {
        for xattr in xattrs {
            *uses.entry(xattr).or_default() += inodes;
        }
    }
    uses.into_iter().filter(|(_, inodes)| *inodes > share_above).map(|(xattr, _)| xattr).collect()
}

/// Prefixes up to the last dot of a name that occurs often enough for its record to pay.
fn paying_prefixes(sets: &Sets, shared: &[&Xattr]) -> Vec<Prefix> {
    let mut saved: BTreeMap<Prefix, u64> = BTreeMap::new();
    let mut count = |xattr: &Xattr, times: u64| {
        let (base, name) = split_name(&xattr.name);
        if let Some(dot) = name.iter().rposition(|byte| *byte == b'.') {
            let infix = &name[..=dot];
            *saved.entry(Prefix { base, infix: infix.into() }).or_default() += infix.len() as u64 * times;
        }
    };
    for (xattrs, inodes) in sets.iter() {
        for xattr in xattrs.iter().filter(|xattr| shared.binary_search(xattr).is_err()) {
            count(xattr, inodes);
        }
    }
    for xattr in shared {
        count(xattr, 1);
    }
    let mut found: Vec<_> = saved.into_iter().filter(|(_, bytes)| *bytes >= PREFIX_PAYS).collect();
    // The most useful first, since there is room for few; names decide between equals.
    found.sort_by(|(a, a_saves), (b, b_saves)| b_saves.cmp(a_saves).then_with(|| a.cmp(b)));
    found.into_iter().map(|(prefix, _)| prefix).collect()
}

/// Appends an entry with its padding, under the longest prefix that fits its name.
fn put_entry(out: &mut Vec<u8>, xattr: &Xattr, prefixes: &[Prefix]) {
    let (base, name) = split_name(&xattr.name);
    let long = prefixes
        .iter()
        .enumerate()
        .filter(|(_, prefix)| {
            prefix.base == base && !prefix.infix.is_empty() && name.starts_with(&prefix.infix)
        })
        .max_by_key(|(_, prefix)| prefix.infix.len());
    let (index, rest) = match long {
        Some((number, prefix)) => {
            (XATTR_LONG_PREFIX | u8::try_from(number).unwrap_or_default(), &name[prefix.infix.len()..])
        }
        None => (base, name),
    };
    // Names have at most 255 bytes and values were checked when they were read.
    let entry = XattrEntry {
        e_name_len: u8::try_from(rest.len()).unwrap_or(u8::MAX),
        e_name_index: index,
        e_value_size: u16::try_from(xattr.value.len()).unwrap_or(u16::MAX).into(),
    };
    out.extend_from_slice(entry.as_bytes());
    out.extend_from_slice(rest);
    out.extend_from_slice(&xattr.value);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(xattrs: &[(&str, &str)]) -> super::super::Xattrs {
        xattrs.iter().map(|(n, v)| Xattr { name: n.as_bytes().into(), value: v.as_bytes().into() }).collect()
    }

    fn settings(fingerprint: Option<&[u8]>) -> Settings<'_> {
        Settings { share_above: 2, prefixes: &[], find_prefixes: true, fingerprint }
    }

    #[test]
    fn an_inode_without_xattrs_has_no_area_and_never_a_bare_header() {
        let areas = Areas::plan(&Sets::default(), &settings(None));
        assert_eq!(areas.size(0, true), 0);
        let mut out = Vec::new();
        areas.write(0, Some(&[0; 32]), 0, &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn a_fingerprint_has_the_bytes_that_mkfs_and_the_kernel_expect() {
        let name = b"erofs.fingerprint.v1";
        let areas = Areas::plan(&Sets::default(), &settings(Some(name)));
        assert_eq!(areas.prefix_table().0, b"\x15\0\0erofs.fingerprint.v1\0");
        let mut out = Vec::new();
        areas.write(0, Some(&[7; 32]), 0, &mut out);
        assert_eq!(out.len() as u64, areas.size(0, true));
        assert_eq!(out[..4], (!(1u32 << name_filter_bit(0, name))).to_le_bytes());
        assert_eq!(out[12..16], [0, 0x80, 0x27, 0]);
        assert_eq!(out[16..23], *b"sha256:");
        assert_eq!(out[23..55], [7; 32]);
    }

    #[test]
    fn what_three_inodes_have_is_stored_once() {
        let mut sets = Sets::default();
        let common = set(&[("user.a", "1")]);
        let id = sets.add(&common);
        sets.add(&set(&[("user.a", "2")]));
        assert_eq!(sets.add(&common), id);
        let areas = Areas::plan(&sets, &settings(None));
        assert!(areas.shared().is_empty());
        sets.add(&common);
        let areas = Areas::plan(&sets, &settings(None));
        assert_eq!(areas.shared(), b"\x01\x01\x01\0a1\0\0");
        let mut out = Vec::new();
        areas.write(id, None, 1200, &mut out);
        assert_eq!(out[4], 1);
        assert_eq!(out[12..], 300u32.to_le_bytes());
    }

    #[test]
    fn a_prefix_that_pays_shortens_names() {
        let mut sets = Sets::default();
        for nth in 0..10 {
            sets.add(&set(&[("user.company.product.k", &nth.to_string())]));
        }
        let areas = Areas::plan(&sets, &settings(None));
        assert_eq!(areas.prefix_table().1, 1);
        let mut out = Vec::new();
        areas.write(1, None, 0, &mut out);
        assert_eq!(out[12..], *b"\x01\x80\x01\0k0\0\0");
    }
}
