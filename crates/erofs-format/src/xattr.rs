//! Extended attributes: the area behind an inode, shared entries, long prefixes, the name filter.
//!
//! ```text
//! inode | header | shared ids | entry | entry | ..     each entry is padded to 4 bytes
//! ```

use xxhash_rust::xxh32::xxh32;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Set in `e_name_index` if the low 7 bits are an index in the table of long prefixes.
pub const XATTR_LONG_PREFIX: u8 = 0x80;
/// The bits of `e_name_index` that hold that index.
pub const XATTR_LONG_PREFIX_MASK: u8 = 0x7f;
/// Seed of the name filter's hash; the index of the short prefix is added.
pub const XATTR_FILTER_SEED: u32 = 0x25BB_E08F;
/// A name filter that excludes no name that the hash knows: no attribute at all.
pub const XATTR_FILTER_DEFAULT: u32 = u32::MAX;
/// The default name of the fingerprint, which belongs to no namespace and so is never listed.
pub const FINGERPRINT_NAME: &[u8] = b"erofs.fingerprint.v1";
/// What a fingerprint's value starts with; 32 raw bytes of SHA-256 follow.
pub const FINGERPRINT_MAGIC: &[u8] = b"sha256:";
/// Bytes of a fingerprint's value.
pub const FINGERPRINT_SIZE: usize = 39;
/// The longest name of an attribute, with its prefix (Linux: `XATTR_NAME_MAX`).
pub const XATTR_NAME_MAX: usize = 255;

/// No namespace: the name stands for itself and is hidden from listings.
pub const XATTR_INDEX_NONE: u8 = 0;
/// `user.`
pub const XATTR_INDEX_USER: u8 = 1;
/// `system.posix_acl_access`, the whole name.
pub const XATTR_INDEX_POSIX_ACL_ACCESS: u8 = 2;
/// `system.posix_acl_default`, the whole name.
pub const XATTR_INDEX_POSIX_ACL_DEFAULT: u8 = 3;
/// `trusted.`
pub const XATTR_INDEX_TRUSTED: u8 = 4;
/// `lustre.`; Linux has no handler for it and lists no such name.
pub const XATTR_INDEX_LUSTRE: u8 = 5;
/// `security.`
pub const XATTR_INDEX_SECURITY: u8 = 6;

/// `erofs_xattr_ibody_header`: the start of the area behind an inode.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct XattrIbodyHeader {
    /// A bit set here: no name whose [`name_filter_bit`] it is exists. Valid if `XATTR_FILTER`.
    pub h_name_filter: U32,
    /// How many 32-bit ids of shared entries follow.
    pub h_shared_count: u8,
    /// Must be 0.
    pub h_reserved2: [u8; 7],
}

/// `erofs_xattr_entry`, in the area or shared; name and value follow.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct XattrEntry {
    /// Bytes of the name behind its prefix.
    pub e_name_len: u8,
    /// The prefix: one of `XATTR_INDEX_*`, or a long one.
    pub e_name_index: u8,
    /// Bytes of the value.
    pub e_value_size: U16,
}

/// `erofs_xattr_long_prefix` with the length before it; the infix follows, and padding to 4 bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct XattrLongPrefix {
    /// Bytes from `base_index` on to the end of the infix; 0 means 65536.
    pub size: U16,
    /// The short prefix before the infix.
    pub base_index: u8,
}

/// Bytes of the area behind an inode whose `i_xattr_icount` is given. (A count of 1 is a header
/// alone, which Linux refuses.)
pub const fn ibody_size(i_xattr_icount: u16) -> u64 {
    if i_xattr_icount == 0 { 0 } else { 12 + 4 * (i_xattr_icount as u64 - 1) }
}

/// The `i_xattr_icount` for an area of `size` bytes, a multiple of 4 above 12; `None` if no count
/// says it.
pub fn ibody_icount(size: u64) -> Option<u16> {
    match size {
        0 => Some(0),
        _ if size > 12 && size.is_multiple_of(4) => u16::try_from((size - 12) / 4 + 1).ok(),
        _ => None,
    }
}

/// Bytes of an entry with its name, its value and the padding behind it.
pub const fn entry_size(e_name_len: u8, e_value_size: u16) -> u64 {
    (4 + e_name_len as u64 + e_value_size as u64).next_multiple_of(4)
}

/// What the name of an entry with this short index starts with. `None`: the index is not defined.
pub const fn prefix(base_index: u8) -> Option<&'static [u8]> {
    Some(match base_index {
        XATTR_INDEX_NONE => b"",
        XATTR_INDEX_USER => b"user.",
        XATTR_INDEX_POSIX_ACL_ACCESS => b"system.posix_acl_access",
        XATTR_INDEX_POSIX_ACL_DEFAULT => b"system.posix_acl_default",
        XATTR_INDEX_TRUSTED => b"trusted.",
        XATTR_INDEX_LUSTRE => b"lustre.",
        XATTR_INDEX_SECURITY => b"security.",
        _ => return None,
    })
}

/// Whether Linux lists names with this short index.
pub const fn is_listed(base_index: u8) -> bool {
    matches!(
        base_index,
        XATTR_INDEX_USER
            | XATTR_INDEX_POSIX_ACL_ACCESS
            | XATTR_INDEX_POSIX_ACL_DEFAULT
            | XATTR_INDEX_TRUSTED
            | XATTR_INDEX_SECURITY
    )
}

/// The short index of a full name and what follows the prefix. A name that no prefix fits has
/// index [`XATTR_INDEX_NONE`] and stays whole.
pub fn split_name(name: &[u8]) -> (u8, &[u8]) {
    const WHOLE: [u8; 2] = [XATTR_INDEX_POSIX_ACL_ACCESS, XATTR_INDEX_POSIX_ACL_DEFAULT];
    for index in XATTR_INDEX_USER..=XATTR_INDEX_SECURITY {
        if let Some(rest) = prefix(index).and_then(|prefix| name.strip_prefix(prefix))
            && (rest.is_empty() == WHOLE.contains(&index))
        {
            return (index, rest);
        }
    }
    (XATTR_INDEX_NONE, name)
}

/// The bit of `h_name_filter` (0 to 31) for a name without its short prefix. The infix of a long
/// prefix is part of that name.
pub fn name_filter_bit(base_index: u8, name: &[u8]) -> u32 {
    xxh32(name, XATTR_FILTER_SEED.wrapping_add(u32::from(base_index))) & 31
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn sizes_and_offsets_are_those_on_disk() {
        assert_eq!(size_of::<XattrIbodyHeader>(), 12);
        assert_eq!(offset_of!(XattrIbodyHeader, h_shared_count), 4);
        assert_eq!(size_of::<XattrEntry>(), 4);
        assert_eq!(offset_of!(XattrEntry, e_value_size), 2);
        assert_eq!(size_of::<XattrLongPrefix>(), 3);
    }

    #[test]
    fn the_filter_bits_of_acls_are_those_that_linux_knows() {
        assert_eq!(name_filter_bit(XATTR_INDEX_POSIX_ACL_DEFAULT, b""), 21);
        assert_eq!(name_filter_bit(XATTR_INDEX_POSIX_ACL_ACCESS, b""), 30);
    }

    #[test]
    fn names_are_split_at_the_prefixes_that_linux_knows() {
        assert_eq!(split_name(b"user.mime"), (1, &b"mime"[..]));
        assert_eq!(split_name(b"security.capability"), (6, &b"capability"[..]));
        assert_eq!(split_name(b"system.posix_acl_access"), (2, &b""[..]));
        assert_eq!(split_name(b"system.posix_acl_accessory"), (0, &b"system.posix_acl_accessory"[..]));
        assert_eq!(split_name(b"user."), (0, &b"user."[..]));
        assert_eq!(split_name(FINGERPRINT_NAME), (0, FINGERPRINT_NAME));
    }

    #[test]
    fn area_sizes_and_counts_are_inverse() {
        assert_eq!(ibody_size(0), 0);
        assert_eq!(ibody_size(1), 12);
        assert_eq!(ibody_size(u16::MAX), 12 + 4 * 65534);
        for count in [0, 2, 3, 500, u16::MAX] {
            assert_eq!(ibody_icount(ibody_size(count)), Some(count));
        }
        assert_eq!(ibody_icount(12), None);
        assert_eq!(ibody_icount(18), None);
        assert_eq!(ibody_icount(12 + 4 * 65535), None);
    }

    #[test]
    fn entries_are_padded_to_four_bytes() {
        assert_eq!(entry_size(0, 39), 44);
        assert_eq!(entry_size(4, 0), 8);
        assert_eq!(entry_size(255, u16::MAX), 65796);
    }
}
