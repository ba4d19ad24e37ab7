//! Writer of EROFS images.
//!
//! An image is made in four steps, each of which knows only what the ones before it made:
//!
//! ```text
//! scan   SRC -> tree      every name, attribute, xattr and hole; validated, sorted, hard links joined
//! plan   tree -> layout   the order of everything, inode sizes, every address. Reads no file
//! pack   layout -> bytes  files read once: hashed, and written with their inodes, in parallel
//! emit   the rest         directories, shared xattrs and, last of all, the superblock
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

mod assemble;
mod build;
mod compress;
mod directories;
mod entries;
mod error;
mod excludes;
mod image;
mod inode;
mod kernel;
mod labels;
mod layer;
mod links;
mod options;
mod output;
mod owners;
mod pack;
mod paths;
mod plan;
mod progress;
mod report;
mod scan;
mod skip;
mod source;
mod superblock;
mod tar;
mod times;
mod tree;
mod whiteouts;
mod xattr;
mod zmap;

#[cfg(test)]
mod wide_tests;

pub use build::build;
pub use compress::{Compression, CompressionAlgorithm};
pub use entries::{Bytes, EntriesSource, SourceEntry, SourceKind};
pub use error::{Error, ErrorKind, Result};
pub use image::ImageSource;
pub use kernel::{Feature, KernelVersion};
pub use labels::FileContexts;
pub use options::{
    BuildOptions, DEFAULT_FINGERPRINT_NAME, DEFAULT_INLINE_PART, DataOrder, IdRange, MAX_ALIGN, MAX_CHUNK,
    Owners, Rule, Times, Whiteouts, XattrPolicy,
};
pub use output::Output;
pub use progress::{Phase, Progress, Silent};
pub use report::Report;
pub use skip::Skipped;
pub use source::{DirSource, Sources};
pub use tar::TarSource;
