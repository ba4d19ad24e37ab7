//! The FUSE protocol over /dev/fuse: many connections on few threads.
#![forbid(unsafe_code)]
