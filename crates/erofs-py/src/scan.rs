//! `_core.Scan`: a walk, handed over many entries at a time.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError};

use erofs_image::{WalkCursor, WalkEntry, WalkError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use crate::errors::Failure;
use crate::handle::Handle;
use crate::inode::Inode;

/// Entries of a batch: enough that its fixed cost doesn't count, few enough to come at once.
const BATCH: usize = 256;

/// A walk through everything below a directory.
#[pyclass(frozen, module = "pyerofs._core")]
pub(crate) struct Scan {
    handle: Arc<Handle>,
    /// The directory's path with a slash behind it.
    base: Vec<u8>,
    cursor: Mutex<WalkCursor>,
}

impl Scan {
    /// Begins a walk; `path` is that of the directory, without a slash at its end.
    pub(crate) fn new(handle: Arc<Handle>, nid: u64, path: &[u8]) -> Result<Self, erofs_image::Error> {
        let image = handle.image()?;
        let mut cursor = image.walk_cursor(&image.inode(nid)?);
        // The first step is the directory itself.
        if let Some(Err(failed)) = cursor.step(&image) {
            return Err(failed.error);
        }
        Ok(Self { handle, base: [path, b"/"].concat(), cursor: Mutex::new(cursor) })
    }
}

#[pymethods]
impl Scan {
    /// The next entries as (path, inode), or (path, exception) for one that can't be read; none at the end.
    fn next<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyList>, Failure> {
        let steps = py.detach(|| -> Result<Vec<Result<WalkEntry, WalkError>>, erofs_image::Error> {
            let image = self.handle.image()?;
            let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(std::iter::from_fn(|| cursor.step(&image)).take(BATCH).collect())
        })?;
        let mut path = self.base.clone();
        let list = PyList::empty(py);
        for step in steps {
            path.truncate(self.base.len());
            match step {
                Ok(WalkEntry { path: below, inode, .. }) => {
                    path.extend_from_slice(&below);
                    list.append((text(py, &path)?, Inode(inode)))?;
                }
                Err(failed) => {
                    path.extend_from_slice(&failed.path);
                    // The directory itself, if it isn't the root.
                    path.truncate(path.strip_suffix(b"/").map_or(path.len(), |path| path.len().max(1)));
                    let path = text(py, &path)?;
                    let failure = Failure::from(failed.error).at_path(path.extract::<std::ffi::OsString>()?);
                    list.append((path, PyErr::from(failure)))?;
                }
            }
        }
        Ok(list)
    }
}

/// A path as `os.fsdecode` gives it.
pub(crate) fn text<'py>(py: Python<'py>, path: &[u8]) -> PyResult<Bound<'py, PyString>> {
    match std::str::from_utf8(path) {
        Ok(path) => Ok(PyString::new(py, path)),
        Err(_) => Ok(OsStr::from_bytes(path).into_pyobject(py)?),
    }
}
