//! Extraction of EROFS images.
//!
//! One walk decides what is wanted and in which order; threads read the files. What becomes of them is
//! one of three things:
//!
//! ```text
//! select.rs  image -> steps     paths, patterns; a directory before what is in it; errors on the way
//! pool.rs    steps -> threads   batches of small files, ranges of large ones
//! tree/      into a directory   by descriptors of directories only, so nothing lands outside
//! verify.rs  nowhere            every byte is read and decoded
//! tar/       a pax stream       the same bytes for the same image and options
//! ```
//!
//! A file that cannot be read does not stop the others: it is handed to [`Observer::failed`], and nothing of
//! it stays. Trouble with the destination as a whole (it is full, it is gone) ends everything. Memory does
//! not grow with the image: steps are made as they are needed, and only hard links whose further names are
//! still to come are remembered, up to a bound.
#![forbid(unsafe_code)]

mod context;
mod cuts;
mod error;
mod filter;
mod links;
mod options;
mod pool;
mod report;
mod select;
mod tar;
#[cfg(test)]
mod testing;
mod tree;
mod verify;

pub use error::{Error, ErrorKind, Result};
pub use options::{ExtractOptions, Owners};
pub use report::{Loss, Observer, Report, Silent};
pub use tar::write_tar;
pub use tree::extract;
pub use verify::verify;
