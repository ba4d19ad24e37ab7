//! What Python hands over as a blob, as sources of bytes: paths, descriptors, memory, objects with `read_at` and
//! file objects.
//!
//! Reading happens with the interpreter detached. Only memory that Python may change and Python's own
//! objects need the interpreter for each read; a file object also needs a lock, since its position is one for
//! all. The lock is taken while detached, so nobody waits for it with the interpreter in hand.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use erofs_image::{FileSource, ReadAt};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyInt, PyMemoryView, PySlice, PyString};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::errors::{Class, Failure};

/// A blob and its length in bytes, if it can be known.
pub(crate) struct Blob {
    /// The bytes.
    pub(crate) source: Arc<dyn ReadAt>,
    /// How many there are.
    pub(crate) length: Option<u64>,
}

/// Makes a source of whatever Python gave.
pub(crate) fn blob(given: &Bound<'_, PyAny>) -> Result<Blob, Failure> {
    if given.is_instance_of::<PyString>() {
        let path: PathBuf = given.extract()?;
        let opened = given.py().detach(|| open(&path));
        return opened.and_then(of_file).map_err(|failure| failure.at_path(path));
    }
    if given.is_instance_of::<PyInt>() {
        return of_file(File::from(erofs_sys::fd::duplicate(given.extract()?).map_err(io::Error::from)?));
    }
    if let Ok(bytes) = given.cast::<PyBytes>() {
        let bytes = PyBackedBytes::from(bytes.clone());
        let length = Some(bytes.len() as u64);
        return Ok(Blob { source: Arc::new(Bytes(bytes)), length });
    }
    if let Ok(view) = PyMemoryView::from(given) {
        // Fails for memory that is not contiguous, with a message that says so.
        let view = view.call_method1("cast", ("B",))?.cast_into::<PyMemoryView>().map_err(PyErr::from)?;
        let length = Some(view.len()? as u64);
        return Ok(Blob { source: Arc::new(Memory(view.unbind())), length });
    }
    if given.hasattr("read_at")? {
        // An object that cannot tell its size has none to check the image against.
        let length = if given.hasattr("size")? { given.getattr("size")?.extract()? } else { None };
        return Ok(Blob { source: Arc::new(RangeObject(given.clone().unbind())), length });
    }
    if given.hasattr("read")? && given.hasattr("seek")? {
        let length = given.call_method1("seek", (0, 2))?.extract()?;
        return Ok(Blob { source: Arc::new(FileObject(Mutex::new(given.clone().unbind()))), length });
    }
    let kind = given.get_type().name()?;
    let message = format!(
        "an image is read from a path, a descriptor, a bytes-like object, a seekable binary file or an object with \
         read_at(), not {kind}"
    );
    Err(PyTypeError::new_err(message).into())
}

/// Opens a file without waiting, should it be a pipe.
fn open(path: &Path) -> Result<File, Failure> {
    let flags = OFlags::NONBLOCK.bits();
    Ok(OpenOptions::new().read(true).custom_flags(i32::try_from(flags).unwrap_or_default()).open(path)?)
}

fn of_file(file: File) -> Result<Blob, Failure> {
    let facts = file.metadata()?;
    let kind = facts.file_type();
    if kind.is_dir() {
        return Err(io::Error::from(Errno::ISDIR).into());
    }
    if !kind.is_file() && !kind.is_block_device() {
        let message = "an image is a regular file or a block device, not a pipe or the like";
        return Err(Failure::new(Class::Os, Errno::INVAL.raw_os_error(), message));
    }
    let length = kind.is_file().then_some(facts.len());
    Ok(Blob { source: Arc::new(FileSource::new(file)), length })
}

/// A `bytes` object: it can't change, so it is lent without the interpreter.
struct Bytes(PyBackedBytes);

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
struct Memory(Py<PyMemoryView>);

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

/// An object with `read_at(offset, length)`, which several threads may call at once: it has no position.
#[derive(Debug)]
struct RangeObject(Py<PyAny>);

impl ReadAt for RangeObject {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        Python::attach(|py| {
            let object = self.0.bind(py);
            read_all(buf, |done, rest| object.call_method1("read_at", (offset.saturating_add(done), rest)))
        })
    }
}

/// Fills `buf` by calls that are told how many bytes are there and how many are wanted; an empty answer is the end.
fn read_all<'py>(
    buf: &mut [u8],
    mut next: impl FnMut(u64, usize) -> PyResult<Bound<'py, PyAny>>,
) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let piece = next(done as u64, rest.len())?;
        let piece = piece.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes();
        if piece.is_empty() {
            break;
        }
        let Some(place) = rest.get_mut(..piece.len()) else {
            return Err(io::Error::other("the source returned more bytes than it was asked for"));
        };
        place.copy_from_slice(piece);
        done += piece.len();
    }
    Ok(done)
}

/// A file object with `seek` and `read`.
#[derive(Debug)]
struct FileObject(Mutex<Py<PyAny>>);

impl ReadAt for FileObject {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        // Whoever panicked left a position behind, and each read sets its own.
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Python::attach(|py| {
            let file = file.bind(py);
            file.call_method1("seek", (offset,))?;
            read_all(buf, |_, rest| file.call_method1("read", (rest,)))
        })
    }
}
