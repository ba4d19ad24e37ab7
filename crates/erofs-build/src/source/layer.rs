//! What one source holds, before the tree is put together: the same for every kind of source.
//!
//! A layer lists its directories by number, 0 being the root. Owners, times and what other layers hide are
//! still as the source has them; [`crate::tree::assemble`] sees to that for all sources alike.

use std::collections::HashMap;

use crate::tree::{Kind, Time};
use crate::xattr::Xattrs;

/// Number of a listing; [`TOP`] is that of the root directory.
pub(crate) type ListingId = u32;

pub(crate) const TOP: ListingId = 0;

/// An entry as its source has it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Empty for the root.
    pub(crate) name: Box<[u8]>,
    pub(crate) what: What,
    /// Permissions as in `st_mode`; a type is ignored.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    /// What all entries of one file have in common, and no other file of the source has; needed only if there
    /// are several.
    pub(crate) identity: Option<(u64, u64)>,
    /// Sorted by name; those that the options leave out are not among them.
    pub(crate) xattrs: Xattrs,
    /// How many were left out.
    pub(crate) xattrs_left_out: u64,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    /// Directories have no entries yet.
    Node(Kind),
    /// A directory that the source needs on the way to others, but says nothing about.
    Implied,
    /// What sources below have under this name is not there.
    Whiteout,
}

impl What {
    pub(crate) fn is_dir(&self) -> bool {
        matches!(self, Self::Implied | Self::Node(Kind::Directory { .. }))
    }
}

impl Found {
    /// A directory that nothing is known about: it belongs to root, and anybody may look.
    pub(crate) fn implied(name: Box<[u8]>) -> Self {
        Self {
            name,
            what: What::Implied,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            identity: None,
            xattrs: Xattrs::default(),
            xattrs_left_out: 0,
        }
    }
}

/// What a directory holds, sorted by name, with the listing of each subdirectory.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) entries: Vec<(Found, Option<ListingId>)>,
    /// What sources below have in this directory is not there.
    pub(crate) is_opaque: bool,
}

/// All that a source holds and the options do not leave out.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) root: Found,
    pub(crate) listings: HashMap<ListingId, Listing>,
    /// Entries that a pattern left out.
    pub(crate) excluded: u64,
}
