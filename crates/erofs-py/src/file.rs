//! `_core.File`: a regular file of an image.

use std::io;
use std::sync::{Arc, OnceLock};

use erofs_image::{ErrorKind, Reader};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PySlice};

use crate::errors::Failure;
use crate::handle::{Handle, PerProcess};

/// What is read before it is copied to a caller's buffer: it stays in a processor's cache meanwhile.
const PIECE: usize = 256 << 10;

/// The most that is read at once of a long range that is known to be damaged somewhere.
const SOME: u64 = 16 << 20;

/// A regular file of an image. It keeps the blobs open after the image was closed.
#[pyclass(frozen, module = "pyerofs._core")]
pub(crate) struct File {
    handle: Arc<Handle>,
    inode: erofs_image::Inode,
    reader: PerProcess<Reader>,
}

impl File {
    pub(crate) fn new(handle: Arc<Handle>, inode: erofs_image::Inode) -> Self {
        Self { handle, inode, reader: PerProcess::new() }
    }

    fn reader(&self) -> Result<Arc<Reader>, erofs_image::Error> {
        self.reader.get(|| Ok(Reader::new(self.handle.image()?, self.inode, threads())))
    }

    /// Reads to `place` from `offset` on and says how much: less only if what comes behind can't be read and `whole` is not
    /// demanded. To be called detached.
    fn read_at(&self, offset: u64, place: &mut [u8], whole: bool) -> Result<usize, Failure> {
        let reader = self.reader()?;
        match reader.read_at(offset, place) {
            Ok(count) if count == place.len() => Ok(count),
            Ok(_) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Err(error) if whole => Err(error.into()),
            Err(error) => {
                let before = self.before(&error, offset).and_then(|count| place.get_mut(..count));
                match before.map(|before| (before.len(), reader.read_at(offset, before))) {
                    Some((count, Ok(read))) if read == count => Ok(count),
                    _ => Err(error.into()),
                }
            }
        }
    }

    /// How many bytes from `offset` on lie before the extent that can't be read, if there are any.
    fn before(&self, error: &erofs_image::Error, offset: u64) -> Option<usize> {
        let extent = error.extent().filter(|_| error.nid() == Some(self.inode.nid))?;
        let count = usize::try_from(extent.checked_sub(offset)?).ok()?;
        (count != 0).then_some(count)
    }

    /// `length` bytes, or less at the end, from `offset` on, and how many of them could be read.
    fn bytes<'py>(
        &self,
        py: Python<'py>,
        offset: u64,
        length: u64,
        whole: bool,
    ) -> Result<(Bound<'py, PyBytes>, usize), Failure> {
        // Cut to the file's end, and to what is there, before anything is allocated.
        let mut length = length.min(self.left(offset));
        let range = offset..offset.saturating_add(length);
        match py.detach(|| self.handle.image()?.check_memory(&self.inode, range)) {
            Ok(()) => (),
            // There may be something to be read before what is wrong.
            Err(error) if !whole && error.kind() == ErrorKind::Corrupt => length = length.min(SOME),
            Err(error) => return Err(error.into()),
        }
        let length = usize::try_from(length).map_err(|_| PyMemoryError::new_err(()))?;
        let mut count = 0;
        // Nobody sees the object before it is full, so it is filled detached.
        let bytes = PyBytes::new_with(py, length, |bytes| {
            count = py.detach(|| self.read_at(offset, bytes, whole))?;
            Ok(())
        })?;
        Ok((bytes, count))
    }

    fn left(&self, offset: u64) -> u64 {
        self.inode.size.saturating_sub(offset)
    }
}

#[pymethods]
impl File {
    /// At most `length` bytes from `offset` on; less only at the end, or before what can't be read.
    fn read<'py>(&self, py: Python<'py>, offset: u64, length: u64) -> Result<Bound<'py, PyBytes>, Failure> {
        let (bytes, count) = self.bytes(py, offset, length, false)?;
        match bytes.as_bytes().split_at_checked(count) {
            Some((read, [_, ..])) => Ok(PyBytes::new(py, read)),
            _ => Ok(bytes),
        }
    }

    /// Everything from `offset` on.
    fn read_all<'py>(&self, py: Python<'py>, offset: u64) -> Result<Bound<'py, PyBytes>, Failure> {
        Ok(self.bytes(py, offset, u64::MAX, true)?.0)
    }

    /// Fills a buffer from `offset` on and says how much; less than the buffer only at the end, or before what can't be
    /// read.
    fn read_into(&self, py: Python<'_>, offset: u64, buffer: &Bound<'_, PyAny>) -> Result<usize, Failure> {
        let view = PyMemoryView::from(buffer)?.call_method1("cast", ("B",))?;
        let left = usize::try_from(self.left(offset)).unwrap_or(usize::MAX);
        let length = view.len()?.min(left);
        // Other threads may look at the buffer while the interpreter is theirs, so what is read goes elsewhere first.
        let mut piece = vec![0; length.min(PIECE)];
        let mut done = 0;
        while done < length {
            let end = length.min(done + PIECE);
            let piece = piece.get_mut(..end - done).unwrap_or_default();
            let count = match py.detach(|| self.read_at(offset + done as u64, piece, false)) {
                Err(_) if done != 0 => break,
                read => read?,
            };
            let piece = piece.get(..count).unwrap_or_default();
            // No buffer has more bytes than a signed number.
            let (start, stop) = (done.cast_signed(), (done + count).cast_signed());
            let part = view.get_item(PySlice::new(py, start, stop, 1))?;
            PyBuffer::<u8>::get(&part)?.copy_from_slice(py, piece)?;
            done += count;
            if done < end {
                break;
            }
        }
        Ok(done)
    }
}

/// How many threads may work for one read. To find out costs a hundred microseconds in a control group, which is what
/// reading many small files takes, so it is found out once.
pub(crate) fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}
