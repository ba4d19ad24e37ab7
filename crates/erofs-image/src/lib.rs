//! Reader for EROFS images.
//!
//! An [`Image`] is opened over sources of bytes ([`ReadAt`]) and never changes: all methods take
//! `&self`, so it is shared between threads by an `Arc`. Nothing in an image is trusted. Every
//! offset is checked, every loop is bounded by [`Limits`], no byte outside the named blobs is read,
//! and nothing is allocated in proportion to a number that the image merely claims. What is wrong
//! is said as an [`Error`] with the place; a panic is a bug.
//!
//! ```text
//! source.rs  bytes of a blob            inode.rs  nid -> Inode         path.rs  paths, symlinks
//! cache.rs   recently used metadata     dir.rs    look-up, listing     walk.rs  whole trees
//! image.rs   open, address spaces       data.rs   Inode -> extents     xattr.rs attributes
//!
//! encoded.rs compressed data            zmap/     offset -> extent     codecs.rs  parameters
//! clusters.rs decoded pclusters, kept   room.rs   buffers, a bound     window.rs  fetching ahead
//! pieces.rs  whole files in order       parallel.rs large reads        reader.rs  open files
//! encoding.rs clusters as they are
//! ```
//!
#![forbid(unsafe_code)]

// The images that tests put together are used inside the crate too.
#[cfg(test)]
extern crate self as erofs_image;

mod broken;
mod cache;
mod claims;
mod clusters;
mod codecs;
mod corruption;
mod data;
mod device;
mod dir;
mod encoded;
mod encoding;
mod error;
mod image;
mod inode;
mod limits;
mod lock;
mod parallel;
mod path;
mod pieces;
mod prefix;
mod reader;
mod room;
mod scratch;
mod source;
mod superblock;
mod walk;
mod window;
mod xattr;
mod zmap;

pub use data::{Extent, Extents, Place};
pub use dir::{DirEntry, Dirent};
pub use encoding::{ClusterAt, EncodedExtent, EncodedPlace, Encoding};
pub use erofs_format::compression::Algorithm;
pub use erofs_format::dirent::FileType;
pub use erofs_format::inode::DataLayout;
pub use erofs_format::{FeatureCompat, FeatureIncompat, Profile};
pub use error::{Corruption, Error, ErrorKind, Feature, Result, Where};
pub use image::{Image, OpenOptions};
pub use inode::Inode;
pub use limits::Limits;
pub use pieces::Piece;
pub use reader::Reader;
pub use scratch::Scratch;
pub use source::{FileSource, MemorySource, ReadAt};
pub use superblock::{Device, SuperBlock};
pub use walk::{Walk, WalkCursor, WalkEntry, WalkError};
pub use xattr::Xattr;
pub use zmap::MapCorruption;
