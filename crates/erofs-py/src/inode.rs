//! `_core.Inode`: what an inode says, as it is stored.

use erofs_image::DataLayout;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// What an inode says, as it is stored.
#[pyclass(frozen, module = "pyerofs._core")]
pub(crate) struct Inode(pub(crate) erofs_image::Inode);

#[pymethods]
impl Inode {
    #[getter]
    fn nid(&self) -> u64 {
        self.0.nid
    }

    #[getter]
    fn number(&self) -> u64 {
        self.0.number
    }

    #[getter]
    fn mode(&self) -> u16 {
        self.0.mode
    }

    #[getter]
    fn size(&self) -> u64 {
        self.0.size
    }

    #[getter]
    fn nlink(&self) -> u32 {
        self.0.nlink
    }

    #[getter]
    fn uid(&self) -> u32 {
        self.0.uid
    }

    #[getter]
    fn gid(&self) -> u32 {
        self.0.gid
    }

    #[getter]
    fn mtime(&self) -> i64 {
        self.0.mtime
    }

    #[getter]
    fn mtime_nsec(&self) -> u32 {
        self.0.mtime_nsec
    }

    #[getter]
    fn rdev(&self) -> u32 {
        self.0.rdev
    }

    #[getter]
    fn sectors(&self) -> u64 {
        self.0.sectors
    }

    #[getter]
    fn layout(&self) -> &'static str {
        match self.0.layout {
            DataLayout::FlatPlain => "flat_plain",
            DataLayout::CompressedFull => "compressed_full",
            DataLayout::FlatInline => "flat_inline",
            DataLayout::CompressedCompact => "compressed_compact",
            DataLayout::ChunkBased => "chunk_based",
        }
    }

    /// The fields of `os.stat_result` in its own order on Linux: the ten that are indexed, then those with names only,
    /// from `st_atime` to `st_rdev`.
    fn stat<'py>(&self, py: Python<'py>, block_size: u32) -> PyResult<Bound<'py, PyTuple>> {
        let inode = &self.0;
        let seconds = inode.mtime.into_pyobject(py)?;
        #[allow(clippy::cast_precision_loss)] // as os.stat rounds it
        let time = (inode.mtime as f64 + f64::from(inode.mtime_nsec) / 1e9).into_pyobject(py)?;
        let nanoseconds = i128::from(inode.mtime) * 1_000_000_000 + i128::from(inode.mtime_nsec);
        let nanoseconds = match i64::try_from(nanoseconds) {
            Ok(fits) => fits.into_pyobject(py)?,
            Err(_) => nanoseconds.into_pyobject(py)?,
        };
        let fields = [
            inode.mode.into_pyobject(py)?.into_any(),
            inode.number.into_pyobject(py)?.into_any(),
            0_u8.into_pyobject(py)?.into_any(),
            inode.nlink.into_pyobject(py)?.into_any(),
            inode.uid.into_pyobject(py)?.into_any(),
            inode.gid.into_pyobject(py)?.into_any(),
            inode.size.into_pyobject(py)?.into_any(),
            seconds.clone().into_any(),
            seconds.clone().into_any(),
            seconds.into_any(),
            time.clone().into_any(),
            time.clone().into_any(),
            time.into_any(),
            nanoseconds.clone().into_any(),
            nanoseconds.clone().into_any(),
            nanoseconds.into_any(),
            block_size.into_pyobject(py)?.into_any(),
            inode.sectors.into_pyobject(py)?.into_any(),
            inode.rdev.into_pyobject(py)?.into_any(),
        ];
        PyTuple::new(py, fields)
    }
}
