//! Extended attributes: which are taken, which inodes have the same, how they are stored.

mod area;
mod policy;
mod sets;

pub(crate) use area::{Areas, Settings};
pub(crate) use policy::Filter;
pub(crate) use sets::{SetId, Sets, Xattr, Xattrs};
