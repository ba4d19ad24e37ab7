//! Hashing whole files without leaving their pages behind.

use crate::Digest;
use sha2::Digest as _;
use sha2::Sha256;
use std::io;
use std::os::fd::AsFd;

/// How much is read at a time: large enough for the disk, small enough for the CPU's cache.
pub(crate) const CHUNK: usize = 256 << 10;

/// The digest of a file's bytes, from its beginning to wherever it ends.
pub(crate) fn whole(file: impl AsFd) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut offset: u64 = 0;
    loop {
        match erofs_sys::pread_dontcache(&file, &mut buffer, offset) {
            Ok(0) => return Ok(Digest(hasher.finalize().into())),
            Ok(read) => {
                hasher.update(buffer.get(..read).unwrap_or_default());
                offset += read as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
