//! On-disk structures of EROFS: bytes to values and back, no I/O.
#![forbid(unsafe_code)]
