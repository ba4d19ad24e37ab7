//! What Python hands over as sources of a build.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use erofs_build::{EntriesSource, ImageSource, SourceEntry, SourceKind, Sources, TarSource};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::errors::Failure;
use crate::image::Image;

/// One source: its kind, what it is, and what messages call it.
#[derive(FromPyObject)]
pub(crate) struct Given<'py>(String, Bound<'py, PyAny>, PathBuf);

/// Path, kind, what the kind needs, mode, owner, group, time, and xattrs, as `pyerofs.sources` makes them.
type Item<'py> = (Vec<u8>, String, Bound<'py, PyAny>, u32, u32, u32, (i64, u32), Vec<(Vec<u8>, Vec<u8>)>);

/// Opens all of them.
pub(crate) fn open(py: Python<'_>, given: Vec<Given<'_>>) -> Result<Sources, Failure> {
    let mut sources = Sources::new();
    for Given(kind, value, name) in given {
        match kind.as_str() {
            "path" => {
                let path: PathBuf = value.extract()?;
                sources.push(py.detach(|| Sources::open(path))?);
            }
            "descriptor" => {
                let fd = erofs_sys::fd::duplicate(value.extract()?).map_err(io::Error::from)?;
                sources.push(py.detach(|| Sources::from_file(File::from(fd), name))?);
            }
            "image" => {
                let image = value.cast::<Image>().map_err(PyErr::from)?.get().handle()?.image()?;
                sources.push(ImageSource::new(image, name));
            }
            "stream" => sources.push(TarSource::from_stream(Stream(value.unbind()), name)),
            _ => {
                let mut files = HashMap::new();
                let mut entries = Vec::new();
                for item in value.try_iter()? {
                    entries.push(entry(item?.extract()?, &mut files)?);
                }
                sources.push(EntriesSource::new(entries, name));
            }
        }
    }
    Ok(sources)
}

/// Makes an entry. `files` keeps a descriptor of each file that entries are parts of, by device and inode: who
/// made the entry may close his, and get the same number again.
fn entry(
    (path, kind, what, mode, uid, gid, mtime, xattrs): Item<'_>,
    files: &mut HashMap<(u64, u64), Arc<File>>,
) -> Result<SourceEntry, Failure> {
    let kind = match kind.as_str() {
        "directory" => SourceKind::Directory,
        "bytes" => {
            let bytes: PyBackedBytes = what.extract().map_err(PyErr::from)?;
            SourceKind::Bytes(Arc::new(bytes))
        }
        "path" => SourceKind::File(what.extract()?),
        "part" => {
            let (fd, offset, size) = what.extract()?;
            let file = File::from(erofs_sys::fd::duplicate(fd).map_err(io::Error::from)?);
            let known = file.metadata()?;
            let file = files.entry((known.dev(), known.ino())).or_insert_with(|| Arc::new(file));
            SourceKind::Part { file: Arc::clone(file), offset, size }
        }
        "symlink" => SourceKind::Symlink(what.extract()?),
        "link" => SourceKind::HardLink(what.extract()?),
        "char" => {
            let (major, minor) = what.extract()?;
            SourceKind::CharDevice { major, minor }
        }
        "block" => {
            let (major, minor) = what.extract()?;
            SourceKind::BlockDevice { major, minor }
        }
        "fifo" => SourceKind::Fifo,
        "socket" => SourceKind::Socket,
        other => return Err(Failure::value(format!("there is no type of entry {other:?}"))),
    };
    Ok(SourceEntry { path, kind, mode, uid, gid, mtime, xattrs })
}

/// A Python object with `read(size)`.
struct Stream(Py<PyAny>);

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Python::attach(|py| {
            let read = self.0.bind(py).call_method1("read", (buffer.len(),))?;
            let bytes: PyBackedBytes = read.extract().map_err(PyErr::from)?;
            let Some(room) = buffer.get_mut(..bytes.len()) else {
                return Err(io::Error::other("read() gave more than was asked for"));
            };
            room.copy_from_slice(&bytes);
            Ok(bytes.len())
        })
    }
}
