//! A file's bytes: read from its pieces, hashed, and perhaps copied or cloned.

use super::source::Source;
use crate::Digest;
use crate::hash::CHUNK;
use rustix::io::Errno;
use sha2::Digest as _;
use sha2::Sha256;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// What a hole is hashed as.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// How much of a blob may be cached because of us, per file that is read.
const DONE_STEP: u64 = 1 << 20;

/// A checked piece.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Data { source: Arc<Source>, offset: u64, len: u64 },
    Hole { len: u64 },
}

impl Part {
    /// Whether it is zeros that take no room.
    pub(crate) fn is_hole(&self) -> bool {
        matches!(self, Self::Hole { .. })
    }

    /// How many bytes on disk it takes.
    pub(crate) fn disk_len(&self) -> u64 {
        match self {
            Self::Data { len, .. } => *len,
            Self::Hole { .. } => 0,
        }
    }
}

/// What lies next in a file.
enum Chunk<'a> {
    Bytes(&'a [u8]),
    Zeros(u64),
}

/// Reads files one after the other; has the buffer that this takes.
#[derive(Debug)]
pub(crate) struct Reader<'s> {
    buffer: Vec<u8>,
    /// Set when nobody waits for the result any more.
    stop: &'s AtomicBool,
}

impl<'s> Reader<'s> {
    pub(crate) fn new(stop: &'s AtomicBool) -> Self {
        Self { buffer: vec![0; CHUNK], stop }
    }

    /// The digest of the parts' bytes.
    pub(crate) fn hash(&mut self, parts: &[Part]) -> Result<Digest, Errno> {
        let mut hasher = Sha256::new();
        let stop = self.stop;
        self.read(parts, &mut |_, chunk| update(&mut hasher, &chunk, stop))?;
        Ok(Digest(hasher.finalize().into()))
    }

    /// The parts' bytes and their digest, of a small file without holes; `None` for any other.
    pub(crate) fn load(&mut self, parts: &[Part], size: u64) -> Result<Option<(&[u8], Digest)>, Errno> {
        let len = usize::try_from(size).ok().filter(|len| *len <= self.buffer.len());
        let Some(len) = len.filter(|_| !parts.iter().any(Part::is_hole)) else { return Ok(None) };
        let mut rest = self.buffer.get_mut(..len).unwrap_or_default();
        for part in parts {
            if let Part::Data { source, offset, len } = part {
                let len = usize::try_from(*len).map_err(|_| Errno::OVERFLOW)?;
                let (now, later) = rest.split_at_mut_checked(len).ok_or(Errno::OVERFLOW)?;
                source.read_exact(now, *offset)?;
                source.done_with(*offset, len as u64);
                rest = later;
            }
        }
        let bytes = self.buffer.get(..len).unwrap_or_default();
        Ok(Some((bytes, Digest(Sha256::digest(bytes).into()))))
    }

    /// Copies the parts to an empty file, holes as holes, and returns the digest of what was copied.
    pub(crate) fn copy(&mut self, parts: &[Part], to: &File, size: u64) -> Result<Digest, Errno> {
        let mut hasher = Sha256::new();
        let stop = self.stop;
        if parts.iter().any(Part::is_hole) {
            rustix::fs::ftruncate(to, size)?;
        }
        self.read(parts, &mut |at, chunk| {
            if let Chunk::Bytes(bytes) = chunk {
                write(to, bytes, at)?;
            }
            update(&mut hasher, &chunk, stop)
        })?;
        Ok(Digest(hasher.finalize().into()))
    }

    /// Makes an empty file share the parts' extents, then hashes the file itself. `None` where the
    /// filesystem can't, or they don't lie on its blocks; the file is empty again then.
    pub(crate) fn clone(&mut self, parts: &[Part], to: &File, size: u64) -> Result<Option<Digest>, Errno> {
        if !may_share(parts) {
            return Ok(None);
        }
        let block = u64::try_from(rustix::fs::fstat(to)?.st_blksize).unwrap_or(0).max(512);
        if !share_extents(parts, to, block) {
            rustix::fs::ftruncate(to, 0)?;
            return Ok(None);
        }
        rustix::fs::ftruncate(to, size)?;
        let mut hasher = Sha256::new();
        let mut at: u64 = 0;
        while at < size {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Errno::CANCELED);
            }
            let wanted = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK);
            let buffer = self.buffer.get_mut(..wanted).ok_or(Errno::OVERFLOW)?;
            match rustix::io::pread(to, &mut *buffer, at) {
                Ok(0) => return Err(Errno::IO),
                Ok(read) => {
                    hasher.update(buffer.get(..read).unwrap_or_default());
                    at += read as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(Some(Digest(hasher.finalize().into())))
    }

    /// Calls `sink` with every run of bytes or zeros and its place in the file, in order. Small
    /// pieces are gathered, so that a file of many is not written piece by piece.
    fn read(
        &mut self,
        parts: &[Part],
        sink: &mut dyn FnMut(u64, Chunk<'_>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        // The buffer's first byte is the file's byte `at`.
        let (mut at, mut filled) = (0, 0);
        for part in parts {
            match part {
                Part::Hole { len } => {
                    self.flush(&mut at, &mut filled, sink)?;
                    sink(at, Chunk::Zeros(*len))?;
                    at += len;
                }
                Part::Data { source, offset, len } => {
                    let end = offset.checked_add(*len).ok_or(Errno::OVERFLOW)?;
                    let (mut next, mut done) = (*offset, *offset);
                    while next < end {
                        let free = self.buffer.get_mut(filled..).unwrap_or_default();
                        let wanted = usize::try_from(end - next).unwrap_or(CHUNK).min(free.len());
                        source.read_exact(free.get_mut(..wanted).unwrap_or_default(), next)?;
                        next += wanted as u64;
                        filled += wanted;
                        if filled == self.buffer.len() {
                            self.flush(&mut at, &mut filled, sink)?;
                        }
                        if next - done >= DONE_STEP {
                            let step = next / DONE_STEP * DONE_STEP;
                            source.done_with(done, step - done);
                            done = step;
                        }
                    }
                    source.done_with(done, end - done);
                }
            }
        }
        self.flush(&mut at, &mut filled, sink)
    }

    fn flush(
        &self,
        at: &mut u64,
        filled: &mut usize,
        sink: &mut dyn FnMut(u64, Chunk<'_>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if *filled > 0 {
            sink(*at, Chunk::Bytes(self.buffer.get(..*filled).unwrap_or_default()))?;
            *at += *filled as u64;
            *filled = 0;
        }
        Ok(())
    }
}

fn update(hasher: &mut Sha256, chunk: &Chunk<'_>, stop: &AtomicBool) -> Result<(), Errno> {
    match chunk {
        Chunk::Bytes(bytes) => {
            if stop.load(Ordering::Relaxed) {
                return Err(Errno::CANCELED);
            }
            hasher.update(bytes);
        }
        Chunk::Zeros(len) => {
            let mut left = *len;
            while left > 0 {
                if stop.load(Ordering::Relaxed) {
                    return Err(Errno::CANCELED);
                }
                let now = usize::try_from(left).unwrap_or(ZEROS.len()).min(ZEROS.len());
                hasher.update(ZEROS.get(..now).unwrap_or_default());
                left -= now as u64;
            }
        }
    }
    Ok(())
}

/// Writes all of it at a place.
pub(crate) fn write(to: &File, bytes: &[u8], at: u64) -> Result<(), Errno> {
    to.write_all_at(bytes, at).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Whether it is worth trying to share the parts' extents: no blob of theirs has refused yet, and they
/// lie on blocks.
pub(crate) fn may_share(parts: &[Part]) -> bool {
    const SMALLEST_BLOCK: u64 = 4096;
    let mut at: u64 = 0;
    parts.iter().all(|part| match part {
        Part::Hole { len } => {
            at = at.saturating_add(*len);
            true
        }
        Part::Data { source, offset, len } => {
            let aligned = at.is_multiple_of(SMALLEST_BLOCK) && offset.is_multiple_of(SMALLEST_BLOCK);
            at = at.saturating_add(*len);
            aligned && source.may_clone()
        }
    })
}

/// Clones every piece; false at the first that can't be.
fn share_extents(parts: &[Part], to: &File, block: u64) -> bool {
    let mut at: u64 = 0;
    for (index, part) in parts.iter().enumerate() {
        match part {
            Part::Hole { len } => at = at.saturating_add(*len),
            Part::Data { source, offset, len } => {
                // The file's last block may end early; the blob has padding there, cut off later.
                let last = index + 1 == parts.len();
                let Some(whole) = len.checked_next_multiple_of(block) else { return false };
                let aligned = at.is_multiple_of(block) && offset.is_multiple_of(block);
                if !aligned || !(whole == *len || last && source.holds(*offset, whole)) {
                    return false;
                }
                if let Err(errno) = erofs_sys::clone_range(source.as_ref(), *offset, whole, to, at) {
                    // Anything but "no space" will be the same next time.
                    if errno != Errno::NOSPC {
                        source.cannot_clone();
                    }
                    return false;
                }
                at = at.saturating_add(*len);
            }
        }
    }
    true
}
