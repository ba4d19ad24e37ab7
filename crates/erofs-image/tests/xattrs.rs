//! Extended attributes: inline, shared, long prefixes, the name filter, fingerprints.

mod support;

use erofs_format::inode::{DataLayout, InodeCompact};
use erofs_format::xattr::{ibody_icount, name_filter_bit};
use erofs_format::{FeatureCompat, FeatureIncompat};
use erofs_image::{Corruption, Error, Feature, Image, Inode, Limits, OpenOptions, Xattr};
use support::{Builder, DIR, REG, compact, open_with};

/// An entry with its padding.
fn entry(index: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(name.len()).unwrap(), index];
    bytes.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
    bytes.extend(name);
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An area behind an inode.
fn area(filter: u32, shared: &[u32], entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = filter.to_le_bytes().to_vec();
    bytes.push(u8::try_from(shared.len()).unwrap());
    bytes.extend([0; 7]);
    bytes.extend(shared.iter().flat_map(|id| id.to_le_bytes()));
    bytes.extend(entries.concat());
    bytes
}

fn inode_with(area: &[u8]) -> InodeCompact {
    let icount = ibody_icount(area.len() as u64).unwrap();
    InodeCompact { i_xattr_icount: icount.into(), ..compact(DataLayout::FlatPlain, REG, 0, 0) }
}

/// An image whose inode 64 has this area, after more changes.
fn builder_with(area: &[u8]) -> Builder {
    let mut builder = Builder::with_root(12, &[("f", 64, 1)]);
    builder.put_inode(64, &inode_with(area)).put(Builder::at(65), area);
    builder
}

fn corruption(error: Error) -> Corruption {
    assert_eq!(error.nid(), Some(64));
    match error {
        Error::Corrupt { what, .. } => what,
        other => panic!("{other}"),
    }
}

fn listed(image: &Image, inode: &Inode) -> Vec<(String, Vec<u8>)> {
    let text = |xattr: Xattr| (String::from_utf8(xattr.name).unwrap(), xattr.value);
    image.xattrs(inode).unwrap().into_iter().map(text).collect()
}

#[test]
fn names_get_their_prefixes_and_hidden_ones_are_not_listed() {
    let entries = [
        entry(1, b"mime", b"text"),
        entry(2, b"", b"acl"),
        entry(6, b"capability", b"\x01\x00"),
        entry(0, b"hidden", b"h"),
        entry(5, b"lov", b"l"),
        entry(99, b"what", b"w"),
        entry(4, b"empty", b""),
    ];
    let (image, inode) = builder_with(&area(0, &[], &entries)).open_64();
    let expected = [
        ("user.mime", &b"text"[..]),
        ("system.posix_acl_access", b"acl"),
        ("security.capability", b"\x01\x00"),
        ("trusted.empty", b""),
    ];
    assert_eq!(listed(&image, &inode), expected.map(|(name, value)| (name.to_owned(), value.to_vec())));
    let value = |name: &str| image.xattr(&inode, name.as_bytes()).unwrap();
    assert_eq!(value("user.mime").as_deref(), Some(&b"text"[..]));
    assert_eq!(value("system.posix_acl_access").as_deref(), Some(&b"acl"[..]));
    assert_eq!(value("hidden").as_deref(), Some(&b"h"[..]));
    assert_eq!(value("user.mim"), None);
    assert_eq!(value("user.mimes"), None);
    assert_eq!(value("mime"), None);
    assert_eq!(value(""), None);
}

#[test]
fn shared_entries_are_found_by_their_ids() {
    let mut builder = builder_with(&area(0, &[2, 5], &[entry(1, b"own", b"1")]));
    builder.sb.xattr_blkaddr = 3.into();
    let shared = entry(1, b"sh", b"vw");
    assert_eq!(shared.len(), 8);
    builder.put(3 * 4096 + 8, &shared).put(3 * 4096 + 20, &entry(6, b"selinux", b"label"));
    let (image, inode) = builder.open_64();
    let expected = [("user.own", &b"1"[..]), ("user.sh", b"vw"), ("security.selinux", b"label")];
    assert_eq!(listed(&image, &inode), expected.map(|(name, value)| (name.to_owned(), value.to_vec())));
    assert_eq!(image.xattr(&inode, b"security.selinux").unwrap().as_deref(), Some(&b"label"[..]));
}

#[test]
fn a_shared_id_beyond_the_image_is_an_error() {
    let (image, inode) = builder_with(&area(0, &[u32::MAX], &[])).open_64();
    assert_eq!(corruption(image.xattrs(&inode).unwrap_err()), Corruption::PastEnd { blob: 0, needed: 4 });
}

#[test]
fn the_name_filter_is_believed_only_where_it_is_valid() {
    let bit = 1 << name_filter_bit(1, b"mime");
    let area = area(bit, &[], &[entry(1, b"mime", b"text")]);
    let mut builder = builder_with(&area);
    let value = |builder: &Builder| {
        let (image, inode) = builder.open_64();
        image.xattr(&inode, b"user.mime").unwrap()
    };
    assert!(value(&builder).is_some(), "no filter in this image");
    builder.compat(FeatureCompat::XATTR_FILTER);
    assert_eq!(value(&builder), None, "the filter says that there is no such name");
    builder.sb.xattr_filter_reserved = 1;
    assert!(value(&builder).is_some(), "the filter is switched off");
}

/// An image with the prefixes "user.long." and the fingerprint's name, and a fingerprint.
fn with_prefixes(fingerprint: &[u8]) -> Builder {
    let name = b"erofs.fingerprint.v1";
    let entries = [entry(0x80, b"tail", b"v"), entry(0x81, b"", fingerprint), entry(0x80 | 9, b"gone", b"v")];
    let mut builder = builder_with(&area(0, &[], &entries));
    builder.incompat(FeatureIncompat::XATTR_PREFIXES);
    builder.compat(FeatureCompat::PLAIN_XATTR_PFX | FeatureCompat::ISHARE_XATTRS);
    builder.sb.xattr_prefix_count = 2;
    builder.sb.xattr_prefix_start = (1280_u32 / 4).into();
    builder.sb.ishare_xattr_prefix_id = 1;
    let mut table = vec![6, 0, 1];
    table.extend(b"long.");
    table.extend([21, 0, 0]);
    table.extend(name);
    builder.put(1280, &table);
    builder
}

#[test]
fn long_prefixes_are_part_of_the_name() {
    let (image, inode) = with_prefixes(b"x").open_64();
    assert_eq!(listed(&image, &inode), [("user.long.tail".to_owned(), b"v".to_vec())]);
    let has = |name: &[u8]| image.xattr(&inode, name).unwrap().is_some();
    assert!(has(b"user.long.tail"));
    assert!(has(b"erofs.fingerprint.v1"));
    assert!(!has(b"user.long."));
    assert!(!has(b"user.tail"));
}

#[test]
fn the_prefix_table_is_read_whatever_the_feature_bit_says_as_by_linux() {
    let mut builder = with_prefixes(b"x");
    builder.sb.feature_incompat = 0.into();
    let (image, inode) = builder.open_64();
    assert_eq!(listed(&image, &inode), [("user.long.tail".to_owned(), b"v".to_vec())]);
}

#[test]
fn a_fingerprint_is_sha256_and_32_bytes_of_a_regular_file() {
    let digest: [u8; 32] = std::array::from_fn(|n| u8::try_from(n).unwrap());
    let value = [b"sha256:".as_slice(), &digest].concat();
    let (image, inode) = with_prefixes(&value).open_64();
    assert_eq!(image.fingerprint(&inode).unwrap(), Some(digest));
    for other in [&value[..38], &[&value[..], b"x"].concat(), b"sha512:", &[b'x'; 39]] {
        let (image, inode) = with_prefixes(other).open_64();
        assert_eq!(image.fingerprint(&inode).unwrap(), None);
    }
    let mut builder = with_prefixes(&value);
    let mut dir = compact(DataLayout::FlatPlain, DIR, 0, 0);
    dir.i_xattr_icount = 30.into();
    builder.put_inode(64, &dir);
    let (image, inode) = builder.open_64();
    assert_eq!(image.fingerprint(&inode).unwrap(), None, "a directory has none");
}

#[test]
fn the_prefix_table_and_shared_entries_may_lie_in_the_metabox() {
    let mut builder = builder_with(&area(0, &[4], &[entry(0x80, b"tail", b"v")]));
    builder.incompat(FeatureIncompat::XATTR_PREFIXES | FeatureIncompat::METABOX);
    builder.compat(FeatureCompat::SHARED_EA_IN_METABOX);
    builder.sb.xattr_prefix_count = 1;
    builder.sb.xattr_prefix_start = (8_u32 / 4).into();
    builder.sb.sb_extslots = 1;
    builder.put(1024 + 128, &90_u64.to_le_bytes());
    let data = [&[0; 8][..], b"\x06\0\x01long.", &entry(6, b"label", b"shared")].concat();
    builder.put_inode(90, &compact(DataLayout::FlatInline, REG, data.len() as u64, 0));
    builder.put(Builder::at(91), &data);
    let expected = [("user.long.tail", &b"v"[..]), ("security.label", b"shared")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_vec()));
    let (image, inode) = builder.open_64();
    assert_eq!(listed(&image, &inode), expected);
}

#[test]
fn the_prefix_table_may_lie_in_the_packed_inode() {
    let mut builder = builder_with(&area(0, &[], &[entry(0x80, b"tail", b"v")]));
    builder.incompat(FeatureIncompat::XATTR_PREFIXES | FeatureIncompat::FRAGMENTS);
    builder.sb.xattr_prefix_count = 1;
    builder.sb.packed_nid = 90.into();
    builder.put_inode(90, &compact(DataLayout::FlatInline, REG, 8, 0));
    builder.put(Builder::at(91), b"\x06\0\x01long.");
    let (image, inode) = builder.open_64();
    assert_eq!(listed(&image, &inode), [("user.long.tail".to_owned(), b"v".to_vec())]);
}

#[test]
fn prefix_tables_that_lie_are_refused() {
    let mut builder = with_prefixes(b"x");
    builder.sb.ishare_xattr_prefix_id = 2;
    assert_eq!(builder.open().unwrap_err().errno(), 117);
    let mut builder = with_prefixes(b"x");
    builder.put(1280, &[0, 0]);
    assert_eq!(builder.open().unwrap_err().errno(), 117);
    builder.put(1280, &[1, 1]);
    assert_eq!(builder.open().unwrap_err().errno(), 117);
    let mut builder = with_prefixes(b"x");
    builder.sb.xattr_prefix_start = u32::MAX.into();
    assert_eq!(builder.open().unwrap_err().errno(), 5);
}

#[test]
fn areas_that_lie_are_refused() {
    let shared_count = |count: u8| {
        let mut area = area(0, &[], &[entry(1, b"a", b"b")]);
        area[4] = count;
        let (image, inode) = builder_with(&area).open_64();
        image.xattrs(&inode)
    };
    let expected = Corruption::SharedXattrCount { count: 3, size: 20 };
    assert_eq!(corruption(shared_count(3).unwrap_err()), expected);
    assert_eq!(
        corruption(shared_count(255).unwrap_err()),
        Corruption::SharedXattrCount { count: 255, size: 20 }
    );

    let sizes = |name_len: u8, value_size: u16| {
        let mut area = area(0, &[], &[entry(1, b"abcd", b"efgh")]);
        area[12] = name_len;
        area[14..16].copy_from_slice(&value_size.to_le_bytes());
        let (image, inode) = builder_with(&area).open_64();
        image.xattrs(&inode)
    };
    assert!(sizes(4, 4).is_ok());
    assert_eq!(corruption(sizes(4, 5).unwrap_err()), Corruption::XattrBounds { needed: 16, left: 12 });
    assert!(matches!(
        corruption(sizes(255, u16::MAX).unwrap_err()),
        Corruption::XattrBounds { left: 12, .. }
    ));

    let (image, inode) = builder_with(&area(0, &[], &[entry(1, b"a\0b", b"")])).open_64();
    assert!(matches!(corruption(image.xattrs(&inode).unwrap_err()), Corruption::XattrName { .. }));
    let long = [b'x'; 251];
    let (image, inode) = builder_with(&area(0, &[], &[entry(1, &long, b"")])).open_64();
    assert!(matches!(corruption(image.xattrs(&inode).unwrap_err()), Corruption::XattrName { .. }));
}

#[test]
fn a_header_alone_is_unsupported_as_in_linux() {
    let mut builder = Builder::with_root(12, &[]);
    let mut inode = compact(DataLayout::FlatPlain, REG, 0, 0);
    inode.i_xattr_icount = 1.into();
    builder.put_inode(64, &inode);
    let (image, inode) = builder.open_64();
    let error = image.xattrs(&inode).unwrap_err();
    assert!(matches!(error, Error::Unsupported { feature: Feature::XattrHeaderOnly, .. }), "{error}");
}

#[test]
fn the_same_shared_value_over_and_over_meets_a_limit() {
    let mut builder = builder_with(&area(0, &[0; 255], &[]));
    builder.sb.xattr_blkaddr = 3.into();
    builder.put(3 * 4096, &entry(1, b"x", &vec![7; 60_000]));
    let (image, inode) = builder.open_64();
    let error = image.xattrs(&inode).unwrap_err();
    assert!(matches!(error, Error::Limit { name: "xattr_bytes", limit: 1_048_576, .. }), "{error}");
    let mut limits = Limits::default();
    limits.xattr_bytes = u64::MAX;
    let options = OpenOptions { limits, ..OpenOptions::default() };
    let image = open_with(builder.finish(), options).unwrap();
    assert_eq!(image.xattrs(&inode).unwrap().len(), 255);
}
