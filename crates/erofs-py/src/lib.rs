//! Python bindings: the module `pyerofs._core`. This file only registers.
#![forbid(unsafe_code)]
// What PyO3 has extracted from an argument is handed over by value.
#![allow(clippy::needless_pass_by_value)]

mod build;
mod diff;
mod domain;
mod errors;
mod extract;
mod file;
mod handle;
mod image;
mod inode;
mod linux;
mod lookup;
mod python_source;
mod read_many;
mod reading;
mod scan;
mod server;
mod source;
mod sources;

/// The compiled core of pyerofs; the public interface is the package above it.
#[pyo3::pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    // One line per class or function of the files beside this one.
    #[pymodule_export]
    use crate::build::build;
    #[pymodule_export]
    use crate::diff::Diff;
    #[pymodule_export]
    use crate::domain::{Domain, image_key};
    #[pymodule_export]
    use crate::extract::extract;
    #[pymodule_export]
    use crate::file::File;
    #[pymodule_export]
    use crate::handle::after_fork;
    #[pymodule_export]
    use crate::image::{Image, limits};
    #[pymodule_export]
    use crate::inode::Inode;
    #[pymodule_export]
    use crate::linux::{
        clone_mount, fsconfig_create, fsconfig_fd, fsconfig_flag, fsconfig_string, fsmount, fsopen,
        has_sys_admin, make_private, mount_setattr, move_mount, setns, unmount, unshare,
    };
    #[pymodule_export]
    use crate::read_many::{ReadMany, stop_reading};
    #[pymodule_export]
    use crate::scan::Scan;
    #[pymodule_export]
    use crate::server::{keeper_main, server_main};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
