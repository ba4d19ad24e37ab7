//! What Python hands over as sources of a build.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use erofs_build::{ImageSource, Sources, TarSource};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::errors::Failure;
use crate::image::Image;

/// One source: its kind, what it is, and what messages call it.
#[derive(FromPyObject)]
pub(crate) struct Given<'py>(String, Bound<'py, PyAny>, PathBuf);

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
            _ => sources.push(TarSource::from_stream(Stream(value.unbind()), name)),
        }
    }
    Ok(sources)
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
