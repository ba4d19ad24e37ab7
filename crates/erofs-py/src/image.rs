//! `_core.Image`, `_core.Inode` and `_core.File`: the reader.
//!
//! All three are frozen and may be used from any thread. An inode is named by its nid; paths, links and names as
//! `str` are the package's business. Whatever may read from a blob runs with the interpreter detached.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};

use erofs_image::{DataLayout, FeatureCompat, FeatureIncompat, Limits, OpenOptions, Place, Profile, Xattr};
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::errors::Failure;
use crate::source::blob;

/// Where a run of data lies: offset in the file, length, offset in the blob or None for a hole, blob.
type Run = (u64, u64, Option<u64>, usize);

/// An open image.
#[pyclass(frozen, module = "pyerofs._core")]
pub(crate) struct Image {
    /// None once closed. Files hold on to the image on their own.
    open: RwLock<Option<Arc<erofs_image::Image>>>,
    /// Bytes of all blobs together, as far as they can be known.
    stored: u64,
}

impl Image {
    pub(crate) fn get(&self) -> Result<Arc<erofs_image::Image>, Failure> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.clone().ok_or_else(|| PyValueError::new_err("I/O operation on closed image").into())
    }

    /// Asks the image about an inode, detached.
    fn ask<T: Send>(
        &self,
        py: Python<'_>,
        nid: u64,
        question: impl FnOnce(&erofs_image::Image, &erofs_image::Inode) -> erofs_image::Result<T> + Send,
    ) -> Result<T, Failure> {
        let image = self.get()?;
        Ok(py.detach(|| question(&image, &image.inode(nid)?))?)
    }
}

#[pymethods]
impl Image {
    #[new]
    fn new(
        py: Python<'_>,
        source: &Bound<'_, PyAny>,
        devices: Vec<Bound<'_, PyAny>>,
        offset: u64,
        profile: &str,
        limits: HashMap<String, u64>,
    ) -> Result<Self, Failure> {
        let primary = blob(source)?;
        let devices = devices.iter().map(blob).collect::<Result<Vec<_>, _>>()?;
        let stored = devices
            .iter()
            .fold(primary.length, |sum, device| Some(sum?.saturating_add(device.length?)))
            .unwrap_or(u64::MAX);
        let options = OpenOptions {
            devices: devices.into_iter().map(|device| device.source).collect(),
            offset,
            profile: profile_of(profile)?,
            limits: limits_of(&limits)?,
        };
        let image = py.detach(|| erofs_image::Image::open(primary.source, options))?;
        Ok(Self { open: RwLock::new(Some(Arc::new(image))), stored })
    }

    fn close(&self) {
        let image = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(image);
    }

    #[getter]
    fn closed(&self) -> bool {
        self.open.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    #[getter]
    fn stored(&self) -> u64 {
        self.stored
    }

    fn facts<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>, Failure> {
        let image = self.get()?;
        facts(py, &image)
    }

    fn inode(&self, py: Python<'_>, nid: u64) -> Result<Inode, Failure> {
        self.ask(py, nid, |_, inode| Ok(Inode(*inode)))
    }

    fn resolve(&self, py: Python<'_>, path: &[u8], follow: bool) -> Result<Inode, Failure> {
        let image = self.get()?;
        Ok(py.detach(|| image.resolve(path, follow)).map(Inode)?)
    }

    /// The entries of a directory as (name, nid, type), without "." and "..".
    fn list<'py>(&self, py: Python<'py>, nid: u64) -> Result<Vec<(Bound<'py, PyBytes>, u64, u8)>, Failure> {
        // Bounded by the limit on directory bytes, which the reader checks first.
        let mut names: Vec<u8> = Vec::new();
        let mut entries: Vec<(usize, u64, u8)> = Vec::new();
        self.ask(py, nid, |image, inode| {
            image.read_dir(inode, 0, &mut |entry| {
                if entry.name != b"." && entry.name != b".." {
                    names.extend_from_slice(entry.name);
                    entries.push((names.len(), entry.nid, entry.file_type.map_or(0, |kind| kind as u8)));
                }
                ControlFlow::Continue(())
            })
        })?;
        let mut start = 0;
        Ok(entries
            .into_iter()
            .map(|(end, nid, kind)| {
                let name = PyBytes::new(py, names.get(start..end).unwrap_or_default());
                start = end;
                (name, nid, kind)
            })
            .collect())
    }

    fn read_link<'py>(&self, py: Python<'py>, nid: u64) -> Result<Bound<'py, PyBytes>, Failure> {
        let target = self.ask(py, nid, erofs_image::Image::read_link)?;
        Ok(PyBytes::new(py, &target))
    }

    fn xattrs<'py>(&self, py: Python<'py>, nid: u64) -> Result<Vec<[Bound<'py, PyBytes>; 2]>, Failure> {
        let found = self.ask(py, nid, erofs_image::Image::xattrs)?;
        let pair = |Xattr { name, value, .. }| [PyBytes::new(py, &name), PyBytes::new(py, &value)];
        Ok(found.into_iter().map(pair).collect())
    }

    fn xattr<'py>(
        &self,
        py: Python<'py>,
        nid: u64,
        name: &[u8],
    ) -> Result<Option<Bound<'py, PyBytes>>, Failure> {
        let value = self.ask(py, nid, |image, inode| image.xattr(inode, name))?;
        Ok(value.map(|value| PyBytes::new(py, &value)))
    }

    fn fingerprint<'py>(&self, py: Python<'py>, nid: u64) -> Result<Option<Bound<'py, PyBytes>>, Failure> {
        let digest = self.ask(py, nid, erofs_image::Image::fingerprint)?;
        Ok(digest.map(|digest| PyBytes::new(py, &digest)))
    }

    /// Where the data lies: (offset in the file, length, offset in the blob or None for a hole, blob).
    fn extents(&self, py: Python<'_>, nid: u64) -> Result<Vec<Run>, Failure> {
        self.ask(py, nid, |image, inode| {
            image
                .extents(inode)
                .map(|extent| {
                    extent.map(|extent| match extent.place {
                        Place::Raw { blob, offset } => (extent.logical, extent.len, Some(offset), blob),
                        _ => (extent.logical, extent.len, None, 0),
                    })
                })
                .collect()
        })
    }

    fn file(&self, py: Python<'_>, nid: u64) -> Result<File, Failure> {
        let image = self.get()?;
        let inode = py.detach(|| image.inode(nid))?;
        Ok(File { image, inode })
    }
}

/// A regular file of an image. It keeps the blobs open after the image was closed.
#[pyclass(frozen, module = "pyerofs._core")]
pub(crate) struct File {
    image: Arc<erofs_image::Image>,
    inode: erofs_image::Inode,
}

#[pymethods]
impl File {
    /// At most `length` bytes from `offset` on; less only at the end.
    fn read<'py>(&self, py: Python<'py>, offset: u64, length: u64) -> Result<Bound<'py, PyBytes>, Failure> {
        // Cut to the file's end before anything is allocated.
        let length = length.min(self.inode.size.saturating_sub(offset));
        let length = usize::try_from(length).map_err(|_| PyMemoryError::new_err(()))?;
        // Nobody sees the object before it is full, so it is filled detached.
        Ok(PyBytes::new_with(py, length, |bytes| {
            let read = py.detach(|| self.image.read(&self.inode, offset, bytes)).map_err(Failure::from)?;
            if read < bytes.len() {
                return Err(Failure::from(io::Error::from(io::ErrorKind::UnexpectedEof)).into());
            }
            Ok(())
        })?)
    }
}

/// What an inode says, as it is stored.
#[pyclass(frozen, module = "pyerofs._core")]
pub(crate) struct Inode(erofs_image::Inode);

#[pymethods]
impl Inode {
    #[getter]
    fn nid(&self) -> u64 {
        self.0.nid
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
}

/// The limits by name, with their defaults.
#[pyfunction]
pub(crate) fn limits(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in Limits::default().all() {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}

fn profile_of(name: &str) -> Result<Profile, Failure> {
    [Profile::Core, Profile::Plain, Profile::Full]
        .into_iter()
        .find(|profile| profile.name() == name)
        .ok_or_else(|| Failure::value(format!("profile: '{name}' is none of core, plain and full")))
}

fn limits_of(given: &HashMap<String, u64>) -> Result<Limits, Failure> {
    let mut limits = Limits::default();
    for (name, value) in given {
        if !limits.set(name, *value) {
            let names: Vec<_> = limits.all().map(|(name, _)| name).collect();
            let message = format!("limits: there is no limit '{name}'; there are {}", names.join(", "));
            return Err(Failure::value(message));
        }
    }
    Ok(limits)
}

/// The superblock as values.
fn facts<'py>(py: Python<'py>, image: &erofs_image::Image) -> Result<Bound<'py, PyDict>, Failure> {
    let superblock = image.superblock();
    let dict = PyDict::new(py);
    dict.set_item("block_size", superblock.block_size())?;
    dict.set_item("blocks", superblock.blocks)?;
    dict.set_item("inodes", superblock.inos)?;
    dict.set_item("root_nid", superblock.root_nid)?;
    dict.set_item("uuid", PyBytes::new(py, &superblock.uuid))?;
    dict.set_item("label", PyBytes::new(py, &superblock.volume_name))?;
    dict.set_item("build_time", superblock.build_time)?;
    dict.set_item("checksum", superblock.checksum)?;
    dict.set_item("compressed", superblock.compression.is_some())?;
    let compat = superblock.feature_compat.iter_names().map(|(name, bit): (_, FeatureCompat)| {
        (name.to_ascii_lowercase(), "compat", bit.bits(), Some(bit.first_kernel()))
    });
    let unknown = superblock.feature_compat_raw & !superblock.feature_compat.bits();
    let unknown = (0..u32::BITS)
        .map(|shift| 1 << shift)
        .filter(|bit| unknown & bit != 0)
        .map(|bit: u32| (format!("unknown_{bit:#x}"), "compat", bit, None));
    let incompat = superblock.feature_incompat.iter_names().map(|(name, bit): (_, FeatureIncompat)| {
        (name.to_ascii_lowercase(), "incompat", bit.bits(), Some(bit.first_kernel()))
    });
    dict.set_item("features", compat.chain(unknown).chain(incompat).collect::<Vec<_>>())?;
    let devices: Vec<_> = superblock
        .devices
        .iter()
        .map(|device| (PyBytes::new(py, &device.tag), device.blocks, device.uniaddr))
        .collect();
    dict.set_item("devices", devices)?;
    Ok(dict)
}
