//! `_core.Image`: the reader.
//!
//! It, its inodes and its files are frozen and may be used from any thread; what changes is behind locks of their own, so
//! nothing relies on the interpreter's. An inode is named by its nid; paths, links and names as
//! `str` are the package's business. Whatever may read from a blob runs with the interpreter detached.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::{Arc, PoisonError, RwLock};

use erofs_image::{Algorithm, FeatureCompat, FeatureIncompat, Limits, OpenOptions, Place, Profile, Xattr};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::errors::Failure;
use crate::file::File;
use crate::handle::Handle;
use crate::inode::Inode;
use crate::scan::{Scan, text};
use crate::source::blob;

/// Where a run of data lies: offset in the file, length, offset in the blob or None for a hole, blob, kind, bytes
/// stored, algorithm, the inode whose data it lies in.
type Extent = (u64, u64, Option<u64>, usize, &'static str, u64, Option<&'static str>, Option<u64>);

/// An entry of a directory.
type Named<'py> = (Bound<'py, PyString>, u64, Option<Inode>);

/// An object, or a descriptor, and a length.
type Memory<'py> = (Option<Bound<'py, PyAny>>, Option<RawFd>, u64);

/// An open image.
#[pyclass(frozen, module = "pyerofs._core")]
pub(crate) struct Image {
    /// None once closed. Files hold on to the image on their own.
    open: RwLock<Option<Arc<Handle>>>,
}

impl Image {
    /// What is open.
    pub(crate) fn handle(&self) -> Result<Arc<Handle>, Failure> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.clone().ok_or_else(|| PyValueError::new_err("I/O operation on closed image").into())
    }

    /// The image itself.
    pub(crate) fn get(&self) -> Result<Arc<erofs_image::Image>, Failure> {
        Ok(self.handle()?.image()?)
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
        map: bool,
    ) -> Result<Self, Failure> {
        let primary = blob(source, map)?;
        let devices = devices.iter().map(|device| blob(device, map)).collect::<Result<Vec<_>, _>>()?;
        let options = OpenOptions {
            devices: Vec::new(),
            offset,
            profile: profile_of(profile)?,
            limits: limits_of(&limits)?,
        };
        let handle = py.detach(|| Handle::open(primary, devices, options))?;
        Ok(Self { open: RwLock::new(Some(Arc::new(handle))) })
    }

    fn close(&self) {
        let image = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(image);
    }

    #[getter]
    fn closed(&self) -> bool {
        self.open.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// A blob's own bytes, where they are memory that does not change: a Python object that holds them, or a descriptor
    /// of the mapped file and its length. Nothing for any other.
    fn memory<'py>(&self, py: Python<'py>, blob: usize) -> Result<Memory<'py>, Failure> {
        let handle = self.handle()?;
        let Some(blob) = handle.blob(blob) else { return Ok((None, None, 0)) };
        let object = blob.memory.as_ref().map(|memory| memory.bind(py).clone());
        let file = if blob.mapped { blob.source.as_fd() } else { None };
        let file = file.map(|file| file.try_clone_to_owned().map(IntoRawFd::into_raw_fd)).transpose()?;
        Ok((object, file, blob.length.unwrap_or(0)))
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

    /// The entries of a directory as (name, nid, inode), without "." and "..". With `inodes` each inode is read, unless
    /// that fails; else there are none.
    fn list<'py>(&self, py: Python<'py>, nid: u64, inodes: bool) -> Result<Vec<Named<'py>>, Failure> {
        // Bounded by the limit on directory bytes, which the reader checks first.
        let mut names: Vec<u8> = Vec::new();
        let mut entries: Vec<(usize, u64, Option<erofs_image::Inode>)> = Vec::new();
        self.ask(py, nid, |image, inode| {
            image.read_dir(inode, 0, &mut |entry| {
                if entry.name != b"." && entry.name != b".." {
                    names.extend_from_slice(entry.name);
                    entries.push((names.len(), entry.nid, None));
                }
                ControlFlow::Continue(())
            })?;
            if inodes {
                for (_, nid, inode) in &mut entries {
                    *inode = image.inode(*nid).ok();
                }
            }
            Ok(())
        })?;
        let mut start = 0;
        let named = entries.into_iter().map(|(end, nid, inode)| {
            let name = text(py, names.get(start..end).unwrap_or_default())?;
            start = end;
            Ok((name, nid, inode.map(Inode)))
        });
        Ok(named.collect::<PyResult<_>>()?)
    }

    /// A walk through everything below a directory.
    fn scan(&self, py: Python<'_>, nid: u64, path: &[u8]) -> Result<Scan, Failure> {
        let handle = self.handle()?;
        Ok(py.detach(|| Scan::new(handle, nid, path))?)
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

    /// Where the data lies.
    fn extents(&self, py: Python<'_>, nid: u64) -> Result<Vec<Extent>, Failure> {
        self.ask(py, nid, |image, inode| {
            image.extents(inode).map(|extent| Ok(extent_fields(extent?))).collect()
        })
    }

    /// The blob and byte where a file's data lies as it is, if it lies in one piece.
    fn flat(&self, py: Python<'_>, nid: u64) -> Result<Option<(usize, u64)>, Failure> {
        self.ask(py, nid, |image, inode| {
            let first = image.map(inode, 0)?;
            Ok(match first.place {
                Place::Raw { blob, offset } if first.len >= inode.size => Some((blob, offset)),
                _ => None,
            })
        })
    }

    fn file(&self, py: Python<'_>, nid: u64) -> Result<File, Failure> {
        let handle = self.handle()?;
        let inode = py.detach(|| handle.image()?.inode(nid))?;
        Ok(File::new(handle, inode))
    }
}

fn extent_fields(extent: erofs_image::Extent) -> Extent {
    let (start, len) = (extent.logical, extent.len);
    match extent.place {
        Place::Raw { blob, offset } => (start, len, Some(offset), blob, "raw", len, None, None),
        Place::Encoded { blob, offset, len: stored, algorithm } => {
            let name = algorithm.map(Algorithm::name);
            (start, len, Some(offset), blob, "encoded", stored, name, None)
        }
        Place::Inside { nid, offset, encoded } => {
            let (stored, algorithm) = encoded.map_or((len, None), |(stored, it)| (stored, Some(it.name())));
            (start, len, Some(offset), 0, "inside", stored, algorithm, Some(nid))
        }
        _ => (start, len, None, 0, "hole", 0, None, None),
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
    let algorithms: Vec<_> = superblock
        .algorithms()
        .map(|(algorithm, window)| (algorithm.name(), window, algorithm.first_kernel()))
        .collect();
    dict.set_item("algorithms", algorithms)?;
    dict.set_item("packed_nid", superblock.packed_nid)?;
    dict.set_item("metabox_nid", superblock.metabox_nid)?;
    let record = image.build_record().map_err(Failure::from)?;
    dict.set_item("build_record", record)?;
    let devices: Vec<_> = superblock
        .devices
        .iter()
        .map(|device| (PyBytes::new(py, &device.tag), device.blocks, device.uniaddr))
        .collect();
    dict.set_item("devices", devices)?;
    Ok(dict)
}
