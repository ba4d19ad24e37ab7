//! Domains: `erofs_store::Domain` for Python.
//!
//! Reports come as JSON text, since they are what `--json` prints and what `pyerofs.domain` makes its values of.

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use erofs_store::{GcOptions, ImageKey};
use pyo3::prelude::*;
use serde::Serialize;

use crate::errors::Failure;

type Result<T, E = Failure> = std::result::Result<T, E>;

/// An open domain.
#[pyclass(frozen, module = "pyerofs._core")]
#[derive(Debug)]
pub(crate) struct Domain {
    inner: erofs_store::Domain,
}

fn keys(texts: &[String]) -> Result<Vec<ImageKey>> {
    texts
        .iter()
        .map(|text| {
            ImageKey::from_hex(text).ok_or_else(|| Failure::value(format!("{text:?} is no image key")))
        })
        .collect()
}

fn json(report: &impl Serialize) -> Result<String> {
    serde_json::to_string(report).map_err(|error| Failure::value(error.to_string()))
}

#[pymethods]
impl Domain {
    /// Open the domain at a path.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> Result<Self> {
        Ok(Self { inner: py.detach(|| erofs_store::Domain::open(&path))? })
    }

    /// Open the domain at a path or make it; True if it was made.
    #[staticmethod]
    fn open_or_create(py: Python<'_>, path: PathBuf) -> Result<(Self, bool)> {
        let (inner, made) = py.detach(|| erofs_store::Domain::open_or_create(&path))?;
        Ok((Self { inner }, made))
    }

    /// Make a state root and what lies in it, and return the directory of its domains.
    #[staticmethod]
    fn prepare_state_root(py: Python<'_>, root: PathBuf) -> Result<PathBuf> {
        Ok(py.detach(|| erofs_store::Domain::prepare_state_root(&root))?)
    }

    /// Delete the domain at a path; EBUSY while it is mounted somewhere.
    #[staticmethod]
    fn remove(py: Python<'_>, path: PathBuf) -> Result<()> {
        Ok(py.detach(|| erofs_store::Domain::remove(&path))?)
    }

    /// A descriptor of the domain's directory, the caller's to close.
    fn directory(&self) -> Result<RawFd> {
        Ok(self.inner.as_fd().try_clone_to_owned()?.into_raw_fd())
    }

    /// The `domain_id` for the kernel: 32 hexadecimal digits that nobody else knows.
    fn secret(&self) -> Result<String> {
        Ok(self.inner.secret()?)
    }

    /// Make this boot's directory for objects that are not durable yet.
    fn prepare_fresh(&self) -> Result<()> {
        Ok(self.inner.fresh_dir().map(drop)?)
    }

    /// Set the size limit in bytes on disk, or None for the default.
    fn set_limit(&self, bytes: Option<u64>) -> Result<()> {
        Ok(self.inner.set_limit(bytes)?)
    }

    /// Count objects and bytes; `mounted` names the image of every mount by its key. JSON.
    fn stat(&self, py: Python<'_>, mounted: Vec<String>) -> Result<String> {
        let mounted = keys(&mounted)?;
        json(&py.detach(|| self.inner.stat(&mounted))?)
    }

    /// Remove what nobody can use. EBUSY while the domain is mounted somewhere. JSON.
    #[pyo3(signature = (*, keep_bytes=None, older_than=None, dry_run=false))]
    fn gc(
        &self,
        py: Python<'_>,
        keep_bytes: Option<u64>,
        older_than: Option<u64>,
        dry_run: bool,
    ) -> Result<String> {
        let options = GcOptions { keep_bytes, older_than, dry_run };
        json(&py.detach(|| self.inner.gc(&options))?)
    }

    /// Hash every object and check every fact. JSON.
    #[pyo3(signature = (*, repair=false))]
    fn verify(&self, py: Python<'_>, repair: bool) -> Result<String> {
        json(&py.detach(|| self.inner.verify(repair))?)
    }
}

/// The key of the image that begins at `offset` of the first descriptor and whose devices are the others.
#[pyfunction]
pub(crate) fn image_key(py: Python<'_>, blobs: Vec<RawFd>, offset: u64) -> Result<String> {
    let blobs = blobs
        .into_iter()
        .map(|fd| erofs_sys::fd::duplicate(fd).map_err(std::io::Error::from))
        .collect::<std::result::Result<Vec<OwnedFd>, _>>()?;
    let borrowed: Vec<BorrowedFd<'_>> = blobs.iter().map(AsFd::as_fd).collect();
    Ok(py.detach(|| ImageKey::of(&borrowed, offset))?.to_hex())
}
