//! Python bindings: the module `pyerofs._core`. This file only registers.
#![forbid(unsafe_code)]

mod errors;

/// The compiled core of pyerofs; the public interface is the package above it.
#[pyo3::pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    // One line per class or function of the files beside this one.

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
