//! The entry points of the server and keeper processes.
//!
//! A daemon's interpreter does nothing but come here; the interpreter lock is let go for the whole run, so the
//! Rust threads never meet it.

use pyo3::prelude::*;
use rustix::io::Errno;

use crate::errors::{Class, Failure};

/// Serves images over FUSE until nothing is mounted any more. `config` is JSON, see `erofs_fuse::server::main`.
#[pyfunction]
pub(crate) fn server_main(py: Python<'_>, config: &str) -> Result<(), Failure> {
    py.detach(|| erofs_fuse::server::main(config))
        .map_err(|error| Failure::new(Class::Os, Errno::IO.raw_os_error(), error.to_string()))
}

/// Keeps a domain until its server is gone. `config` is JSON, see `erofs_store::keeper::main`.
#[pyfunction]
pub(crate) fn keeper_main(py: Python<'_>, config: &str) -> Result<(), Failure> {
    Ok(py.detach(|| erofs_store::keeper::main(config))?)
}
