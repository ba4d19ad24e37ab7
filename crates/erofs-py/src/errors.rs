//! The one place where errors of the crates below become Python exceptions.
//!
//! Each crate's error becomes a [`Failure`], which is plain data and can be tested without an interpreter;
//! only the last step, [`Failure`] to [`PyErr`], touches Python. The classes live in `pyerofs.errors`. A server
//! process runs with no package around the module: there a failure is a plain `OSError` with the same number.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::io::Errno;

/// Which Python class a failure becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// `CorruptImage`
    Corrupt,
    /// `NotAnImage`
    NotAnImage,
    /// `UnsupportedFeature`
    Unsupported,
    /// `LimitExceeded`
    Limit,
    /// `DeviceMismatch`
    Devices,
    /// `RefusedByPolicy`
    Refused,
    /// `Unavailable`
    Unavailable,
    /// `SourceError`
    Source,
    /// `BuildInterrupted`
    Interrupted,
    /// The `OSError` subclass that belongs to the number
    Os,
    /// `ValueError`: the caller's arguments are at fault
    Value,
}

impl Class {
    /// The class's name in `pyerofs.errors`; the built-in ones have none there.
    fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Corrupt => "CorruptImage",
            Self::NotAnImage => "NotAnImage",
            Self::Unsupported => "UnsupportedFeature",
            Self::Limit => "LimitExceeded",
            Self::Devices => "DeviceMismatch",
            Self::Refused => "RefusedByPolicy",
            Self::Unavailable => "Unavailable",
            Self::Source => "SourceError",
            Self::Interrupted => "BuildInterrupted",
            Self::Os | Self::Value => return None,
        })
    }
}

/// Everything that Python is told about a failure.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Which class.
    pub(crate) class: Class,
    /// The number, as a system call would give it.
    pub(crate) errno: i32,
    /// What is wrong, one clause.
    pub(crate) message: String,
    /// The path it is about.
    pub(crate) filename: Option<OsString>,
    /// The inode at fault.
    pub(crate) nid: Option<u64>,
    /// The byte of the blob at fault.
    pub(crate) offset: Option<u64>,
    /// What the user can do about it.
    pub(crate) remedy: Option<String>,
    /// An exception that Python itself raised below us: it is passed on as it was.
    pub(crate) raised: Option<PyErr>,
}

impl Failure {
    /// A failure with no place yet.
    pub(crate) fn new(class: Class, errno: i32, message: impl Into<String>) -> Self {
        Self {
            class,
            errno,
            message: message.into(),
            filename: None,
            nid: None,
            offset: None,
            remedy: None,
            raised: None,
        }
    }

    /// An error of the caller's arguments.
    pub(crate) fn value(message: impl Into<String>) -> Self {
        Self::new(Class::Value, Errno::INVAL.raw_os_error(), message)
    }

    /// Says which path it is about.
    pub(crate) fn at_path(mut self, path: impl Into<OsString>) -> Self {
        self.filename.get_or_insert_with(|| path.into());
        self
    }

    /// Says what helps.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The message with the place in it, for classes that have no attributes for it.
    fn sentence(&self) -> String {
        let mut text = self.message.clone();
        let place: Vec<String> = [("nid", self.nid), ("offset", self.offset)]
            .iter()
            .filter_map(|(word, value)| value.map(|value| format!("{word} {value}")))
            .collect();
        if !place.is_empty() {
            let _ = write!(text, " ({})", place.join(", "));
        }
        if let Some(remedy) = &self.remedy {
            let _ = write!(text, "; {remedy}");
        }
        text
    }

    fn into_exception(self, py: Python<'_>) -> PyErr {
        if let Some(raised) = self.raised {
            return raised;
        }
        if self.class == Class::Value {
            return PyValueError::new_err(self.sentence());
        }
        self.class.name().and_then(|name| self.ours(py, name).ok()).unwrap_or_else(|| match &self.filename {
            Some(name) => PyOSError::new_err((self.errno, self.sentence(), name.clone())),
            None => PyOSError::new_err((self.errno, self.sentence())),
        })
    }

    /// Our own exception; fails where the package is not there, as in a server process.
    fn ours(&self, py: Python<'_>, name: &str) -> PyResult<PyErr> {
        let class = py.import("pyerofs.errors")?.getattr(name)?;
        let details = PyDict::new(py);
        details.set_item("nid", self.nid)?;
        details.set_item("offset", self.offset)?;
        details.set_item("remedy", self.remedy.as_deref())?;
        let made = match &self.filename {
            Some(path) => class.call((self.errno, &self.message, path), Some(&details))?,
            None => class.call((self.errno, &self.message), Some(&details))?,
        };
        Ok(PyErr::from_value(made))
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        Python::attach(|py| failure.into_exception(py))
    }
}

impl From<erofs_store::Error> for Failure {
    fn from(error: erofs_store::Error) -> Self {
        use erofs_store::ErrorKind;
        let class = match error.kind() {
            ErrorKind::Usage => Class::Value,
            ErrorKind::Unsupported => Class::Unavailable,
            ErrorKind::Refused => Class::Refused,
            ErrorKind::Busy
            | ErrorKind::NotFound
            | ErrorKind::Exists
            | ErrorKind::Corrupt
            | ErrorKind::Io => Class::Os,
        };
        Self::new(class, error.errno(), error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or_else(|| errno_of_kind(error.kind()));
        if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<PyErr>) {
            let mut failure = Self::new(Class::Os, errno, "");
            failure.raised =
                error.into_inner().and_then(|inner| inner.downcast::<PyErr>().ok()).map(|raised| *raised);
            return failure;
        }
        let message = error.raw_os_error().map_or_else(|| error.to_string(), system_message);
        Self::new(Class::Os, errno, message)
    }
}

/// The system's words for a number, without the number that `io::Error` puts behind them.
fn system_message(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// A number for an error that no system call made.
fn errno_of_kind(kind: io::ErrorKind) -> i32 {
    match kind {
        io::ErrorKind::NotFound => Errno::NOENT,
        io::ErrorKind::PermissionDenied => Errno::ACCESS,
        io::ErrorKind::AlreadyExists => Errno::EXIST,
        io::ErrorKind::InvalidInput => Errno::INVAL,
        io::ErrorKind::StorageFull => Errno::NOSPC,
        io::ErrorKind::Interrupted => Errno::INTR,
        io::ErrorKind::BrokenPipe => Errno::PIPE,
        io::ErrorKind::Unsupported => Errno::OPNOTSUPP,
        _ => Errno::IO,
    }
    .raw_os_error()
}
