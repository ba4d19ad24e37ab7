//! Python bindings: the module `pyerofs._core`. This file only registers.
#![forbid(unsafe_code)]

/// The compiled core of pyerofs; the public interface is the package above it.
#[pyo3::pymodule(gil_used = false)]
mod _core {}
