//! What Python hands over as a blob, as sources of bytes: paths, descriptors, memory and objects that read.
//!
//! Files are read with pread, or mapped where they can't change. What needs the interpreter for each read is in
//! `python_source`.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use erofs_image::{FileSource, ReadAt};
use erofs_sys::map::{Mapping, Unchanging};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyInt, PyMemoryView, PyString};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::errors::{Class, Failure};
use crate::python_source::{Bytes, FileObject, Memory, ReadAtObject};

/// A blob and its length in bytes, if it can be known.
#[derive(Debug)]
pub(crate) struct Blob {
    /// The bytes.
    pub(crate) source: Arc<dyn ReadAt>,
    /// How many there are.
    pub(crate) length: Option<u64>,
    /// A Python object whose buffer holds them and never changes.
    pub(crate) memory: Option<Py<PyAny>>,
    /// Whether they are mapped.
    pub(crate) mapped: bool,
}

impl Blob {
    fn new(source: Arc<dyn ReadAt>, length: Option<u64>) -> Self {
        Self { source, length, memory: None, mapped: false }
    }
}

/// Makes a source of whatever Python gave. `map` is the caller's word that a file will not change.
pub(crate) fn blob(given: &Bound<'_, PyAny>, map: bool) -> Result<Blob, Failure> {
    if given.is_instance_of::<PyString>() {
        let path: PathBuf = given.extract()?;
        let opened = given.py().detach(|| open(&path).and_then(|file| of_file(file, map)));
        return opened.map_err(|failure| failure.at_path(path));
    }
    if given.is_instance_of::<PyInt>() {
        let file = erofs_sys::fd::duplicate(given.extract()?).map_err(io::Error::from)?;
        return of_file(File::from(file), map);
    }
    if let Ok(bytes) = given.cast::<PyBytes>() {
        let source = Bytes(PyBackedBytes::from(bytes.clone()));
        let length = Some(source.0.len() as u64);
        let memory = Some(given.clone().unbind());
        return Ok(Blob { memory, ..Blob::new(Arc::new(source), length) });
    }
    if let Ok(view) = PyMemoryView::from(given) {
        // Fails for memory that is not contiguous, with a message that says so.
        let view = view.call_method1("cast", ("B",))?.cast_into::<PyMemoryView>().map_err(PyErr::from)?;
        let length = Some(view.len()? as u64);
        return Ok(Blob::new(Arc::new(Memory(view.unbind())), length));
    }
    if given.hasattr("read_at")? {
        // An object that cannot tell its size has none to check the image against.
        let length = if given.hasattr("size")? { given.getattr("size")?.extract()? } else { None };
        return Ok(Blob::new(Arc::new(ReadAtObject(given.clone().unbind())), length));
    }
    if given.hasattr("read")? && given.hasattr("seek")? {
        let length = given.call_method1("seek", (0, 2))?.extract()?;
        return Ok(Blob::new(Arc::new(FileObject::new(given.clone().unbind())), length));
    }
    let kind = given.get_type().name()?;
    let message = format!(
        "an image is read from a path, a descriptor, a bytes-like object, an object with read_at() or a seekable \
         binary file, not {kind}"
    );
    Err(PyTypeError::new_err(message).into())
}

/// Opens a file without waiting, should it be a pipe.
fn open(path: &Path) -> Result<File, Failure> {
    let flags = OFlags::NONBLOCK.bits();
    Ok(OpenOptions::new().read(true).custom_flags(i32::try_from(flags).unwrap_or_default()).open(path)?)
}

fn of_file(file: File, map: bool) -> Result<Blob, Failure> {
    let facts = file.metadata()?;
    let kind = facts.file_type();
    if kind.is_dir() {
        return Err(io::Error::from(Errno::ISDIR).into());
    }
    if !kind.is_file() && !kind.is_block_device() {
        let message = "an image is a regular file or a block device, not a pipe or the like";
        return Err(Failure::new(Class::Os, Errno::INVAL.raw_os_error(), message));
    }
    let length = if kind.is_file() { Some(facts.len()) } else { device_length(&file) };
    let why = if map { Some(Unchanging::users_word()) } else { Unchanging::sealed(file.as_fd()) };
    let (Some(why), Some(bytes)) = (why, length) else {
        return Ok(Blob::new(Arc::new(FileSource::new(file)), length));
    };
    let mapping = Mapping::new(file.as_fd(), bytes, why).map_err(io::Error::from)?;
    Ok(Blob { mapped: true, ..Blob::new(Arc::new(Mapped { file, mapping }), length) })
}

/// The length of a block device, by a descriptor of its own: the caller's keeps its position.
fn device_length(file: &File) -> Option<u64> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::open(path).and_then(|mut device| device.seek(SeekFrom::End(0))).ok()
}

/// A file that is mapped, since it does not change.
#[derive(Debug)]
struct Mapped {
    file: File,
    mapping: Mapping,
}

impl ReadAt for Mapped {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.mapping.bytes();
        let rest = usize::try_from(offset).ok().and_then(|start| bytes.get(start..)).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.mapping.bytes().get(start..start.checked_add(len)?)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}
