//! Where the bytes of a blob come from.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Bytes that can be read at any position, from any thread.
///
/// What was read once must be read again the same: an image is cached as if it never changed.
pub trait ReadAt: Send + Sync + fmt::Debug {
    /// Reads into `buf` from byte `offset` on and says how much. Less than `buf` holds only at the
    /// end of the bytes.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// The bytes themselves, for memory that cannot change. `None`: read them instead.
    fn slice(&self, _offset: u64, _len: usize) -> Option<&[u8]> {
        None
    }

    /// The blob's own descriptor, if it has one that reads the same bytes at the same positions.
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// A file or block device, read with pread. It stays open as long as this value lives, so that
/// renaming or deleting it changes nothing.
#[derive(Debug)]
pub struct FileSource {
    file: File,
}

impl FileSource {
    /// Takes a file that is open for reading.
    pub fn new(file: File) -> Self {
        Self { file }
    }

    /// Opens the file at `path` for reading.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        File::open(path).map(Self::new)
    }
}

impl From<File> for FileSource {
    fn from(file: File) -> Self {
        Self::new(file)
    }
}

impl ReadAt for FileSource {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            // pread takes a signed position; nothing lies beyond.
            let Some(position) = offset.checked_add(done as u64).filter(|at| i64::try_from(*at).is_ok())
            else {
                break;
            };
            match self.file.read_at(rest, position) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

/// Bytes in memory.
#[derive(Clone)]
pub struct MemorySource {
    bytes: Arc<[u8]>,
}

impl MemorySource {
    /// Takes the bytes.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self { bytes: bytes.into() }
    }
}

impl fmt::Debug for MemorySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySource").field("len", &self.bytes.len()).finish()
    }
}

impl ReadAt for MemorySource {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|start| self.bytes.get(start..)).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.bytes.get(start..start.checked_add(len)?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn both_sources_read_short_only_at_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let sources: [&dyn ReadAt; 2] = [&FileSource::new(file), &MemorySource::new(*b"0123456789")];
        for source in sources {
            let mut buf = [0; 4];
            assert_eq!(source.read_at(3, &mut buf).unwrap(), 4);
            assert_eq!(&buf, b"3456");
            assert_eq!(source.read_at(8, &mut buf).unwrap(), 2);
            assert_eq!(source.read_at(10, &mut buf).unwrap(), 0);
            assert_eq!(source.read_at(u64::MAX, &mut buf).unwrap(), 0);
        }
    }

    #[test]
    fn memory_lends_only_bytes_that_it_has() {
        let source = MemorySource::new(*b"0123456789");
        assert_eq!(source.slice(8, 2), Some(&b"89"[..]));
        assert_eq!(source.slice(8, 3), None);
        assert_eq!(source.slice(u64::MAX, usize::MAX), None);
    }
}
