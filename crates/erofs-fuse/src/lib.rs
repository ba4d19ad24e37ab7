//! FUSE filesystems over EROFS images and the process that serves them.
#![forbid(unsafe_code)]

pub mod server;
