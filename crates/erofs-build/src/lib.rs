//! Writer of EROFS images: tree, plan, pack, emit.
#![forbid(unsafe_code)]
