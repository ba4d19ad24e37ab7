//! Reader for EROFS images.
#![forbid(unsafe_code)]
