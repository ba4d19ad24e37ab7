//! What differs between two trees: names, kinds, attributes and contents, whether a tree lies in an image or in a
//! directory.
//!
//! [`Root`] names a tree, [`Diff::start`] compares two and is an iterator of [`Event`]s in the order of the paths.
//! A thread walks both trees side by side, others compare what has the same path in both, and a last one puts the
//! results in order and finds out what has moved. Content is equal if its bytes are: what an image claims about them
//! counts only where [`Options::trust_fingerprints`] says so.
//!
//! ```text
//! node.rs       an entry of either kind of tree       compare.rs  two entries of one path
//! directory.rs  directories on disk                   content.rs  bytes: reading, comparing, hashing
//! merge.rs      both trees side by side               moves.rs    what was removed here and added there
//! links.rs      which names are one file              run.rs      the threads
//! ```
#![forbid(unsafe_code)]

mod change;
mod compare;
mod content;
mod directory;
mod error;
mod links;
mod merge;
mod moves;
mod node;
mod run;

pub use change::{Change, Event, Facts, Failure, Fields, Kind, Options, Side, Way, XattrChange};
pub use error::{Error, Result};
pub use node::Root;
pub use run::{Counts, Diff};
