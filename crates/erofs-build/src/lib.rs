//! Writer of EROFS images.
//!
//! An image is made in steps, each of which knows only what the ones before it made:
//!
//! ```text
//! source  -> layers       names, attributes, xattrs and holes: of directories, archives, images, lists
//! tree    layers -> tree  merged, validated, sorted, hard links joined; the same for every kind of source
//! plan    tree -> layout  the order of everything, the places of directories. Reads no file
//! pack    layout -> bytes files are read, hashed and compressed in parallel; committed in order, which gives
//!                         them their places; their inodes follow in runs
//! the rest                directories, shared xattrs and, last of all, the superblock
//! ```
//!
//! The image depends on the tree and the options only: not on the number of threads, the order of
//! `readdir`, inode numbers or the clock. Memory grows with the number of entries, never with the size of
//! files. The output appears whole or not at all.
//!
//! ```no_run
//! # fn main() -> Result<(), erofs_build::Error> {
//! use erofs_build::{BuildOptions, DirSource, Output, Silent, build};
//! let source = DirSource::open("tree")?;
//! let mut output = Output::create("tree.erofs", false)?;
//! let report = build(&BuildOptions::default(), source, &mut output, &Silent)?;
//! # let _ = report; Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod build;
mod compress;
mod directories;
mod error;
mod excludes;
mod inode;
mod kernel;
mod labels;
mod lock;
mod options;
mod output;
mod pack;
mod plan;
mod progress;
mod report;
mod source;
mod superblock;
mod times;
mod tree;
mod xattr;
mod zmap;

#[cfg(test)]
#[path = "../tests/common/random.rs"]
mod random;
#[cfg(test)]
mod wide_tests;

pub use build::build;
pub use compress::{Compression, CompressionAlgorithm};
pub use error::{Error, ErrorKind, Result};
pub use kernel::{Feature, KernelVersion};
pub use labels::FileContexts;
pub use options::{
    BuildOptions, DEFAULT_FINGERPRINT_NAME, DEFAULT_INLINE_PART, DataOrder, IdRange, MAX_ALIGN, MAX_CHUNK,
    Owners, Rule, Times, Whiteouts, XattrPolicy,
};
pub use output::Output;
pub use progress::{Phase, Progress, Silent};
pub use report::Report;
pub use source::{
    Bytes, DirSource, EntriesSource, ImageSource, Skipped, SourceEntry, SourceKind, Sources, TarSource,
};
