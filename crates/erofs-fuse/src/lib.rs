//! FUSE filesystems over EROFS images and the process that serves them.
//!
//! ```text
//! server.rs    the process: its mounts, its end      control.rs   what the mounter says to it
//! plain.rs     PlainFs: names and bytes              tree.rs      names, attributes, xattrs of an image
//! meta.rs      MetaFs: an overlay's names            data.rs      bytes of an image
//! mount.rs     the filesystems of one mount
//! lazy.rs      LazyFs: objects when first needed     sharing.rs   an image's place in a domain
//! passthrough.rs  PassthroughFs: objects for root
//! ```
#![forbid(unsafe_code)]

mod attr;
mod control;
mod data;
mod error;
mod lazy;
mod log;
mod meta;
mod mount;
mod node;
mod passthrough;
mod plain;
mod sandbox;
pub mod server;
mod sharing;
mod ticker;
mod tree;
mod xattr;

pub use error::{Error, Result};
