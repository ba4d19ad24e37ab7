//! Sources that are Python objects: memory, and objects that read.
//!
//! Only memory that Python may change and Python's own objects need the interpreter for each read; a file object also
//! needs a lock, since its position is one for all. The lock is taken while detached, so nobody waits for it with the
//! interpreter in hand.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

use erofs_image::ReadAt;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyMemoryView, PySlice};

use crate::handle::forks;

/// A `bytes` object: it can't change, so it is lent without the interpreter.
pub(crate) struct Bytes(pub(crate) PyBackedBytes);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bytes").field("len", &self.0.len()).finish()
    }
}

impl ReadAt for Bytes {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|start| self.0.get(start..)).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.0.get(start..start.checked_add(len)?)
    }
}

/// Memory that Python may change meanwhile (a `bytearray`, an `mmap`), as a memoryview of bytes: copied out under
/// the interpreter.
#[derive(Debug)]
pub(crate) struct Memory(pub(crate) Py<PyMemoryView>);

impl ReadAt for Memory {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let (Ok(start), Ok(count)) = (isize::try_from(offset), isize::try_from(buf.len())) else {
            return Ok(0);
        };
        Python::attach(|py| {
            // A slice that begins or ends behind the end is cut there, as everywhere in Python.
            let slice = PySlice::new(py, start, start.saturating_add(count), 1);
            let piece = self.0.bind(py).get_item(slice)?.call_method0("tobytes")?;
            let piece = piece.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes();
            let count = piece.len().min(buf.len());
            buf[..count].copy_from_slice(&piece[..count]);
            Ok(count)
        })
    }
}

/// An object with `read_at(offset, length)`, which any thread may call at any time.
#[derive(Debug)]
pub(crate) struct ReadAtObject(pub(crate) Py<PyAny>);

impl ReadAt for ReadAtObject {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        Python::attach(|py| {
            let mut done = 0;
            while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
                let at = offset.saturating_add(done as u64);
                let piece = self.0.bind(py).call_method1("read_at", (at, rest.len()))?;
                let count = copy_out(&piece, rest, "read_at()")?;
                if count == 0 {
                    break;
                }
                done += count;
            }
            Ok(done)
        })
    }
}

/// Copies bytes that an object returned, and says how many.
fn copy_out(piece: &Bound<'_, PyAny>, place: &mut [u8], call: &str) -> io::Result<usize> {
    let too_many = || io::Error::other(format!("{call} returned more bytes than it was asked for"));
    if let Ok(bytes) = piece.cast::<PyBytes>() {
        let bytes = bytes.as_bytes();
        place.get_mut(..bytes.len()).ok_or_else(too_many)?.copy_from_slice(bytes);
        return Ok(bytes.len());
    }
    let buffer = PyBuffer::<u8>::get(piece)?;
    let count = buffer.item_count();
    buffer.copy_to_slice(piece.py(), place.get_mut(..count).ok_or_else(too_many)?)?;
    Ok(count)
}

/// A file object with `seek` and `read`.
#[derive(Debug)]
pub(crate) struct FileObject {
    file: Mutex<Py<PyAny>>,
    forks: u64,
}

impl FileObject {
    /// Takes the object, to be read in this process.
    pub(crate) fn new(file: Py<PyAny>) -> Self {
        Self { file: Mutex::new(file), forks: forks() }
    }
}

impl ReadAt for FileObject {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if self.forks != forks() {
            let message = "the image is read from a file object, whose position is one with that of the process \
                           that forked: open it by its path instead";
            return Err(io::Error::other(message));
        }
        // Whoever panicked left a position behind, and each read sets its own.
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        Python::attach(|py| {
            let file = file.bind(py);
            let mut done = 0;
            file.call_method1("seek", (offset,))?;
            while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
                let piece = file.call_method1("read", (rest.len(),))?;
                let count = copy_out(&piece, rest, "read()")?;
                if count == 0 {
                    break;
                }
                done += count;
            }
            Ok(done)
        })
    }
}
