//! The one place where errors of the crates below become Python exceptions.
//!
//! Each crate's error becomes a [`Failure`], which is plain data and can be tested without an interpreter;
//! only the last step, [`Failure`] to [`PyErr`], touches Python. The classes live in `pyerofs.errors`. A server
//! process runs with no package around the module: there a failure is a plain `OSError` with the same number.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

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

/// Everything that Python is told about a failure. Boxed: results of it are passed through many hands.
#[derive(Debug)]
pub(crate) struct Failure(Box<Details>);

#[derive(Debug)]
struct Details {
    class: Class,
    /// As a system call would give it.
    errno: i32,
    /// What is wrong, one clause.
    message: String,
    /// The path it is about.
    filename: Option<OsString>,
    /// The inode at fault.
    nid: Option<u64>,
    /// The byte of the file where the extent at fault begins.
    extent: Option<u64>,
    /// The byte of the blob at fault.
    offset: Option<u64>,
    /// The limit that was hit: its name, what was asked for, what is allowed.
    limit: Option<(&'static str, u64, u64)>,
    /// What the user can do about it.
    remedy: Option<String>,
    /// An exception that Python itself raised below us: it is passed on as it was.
    raised: Option<PyErr>,
}

impl Failure {
    /// A failure with no place yet.
    pub(crate) fn new(class: Class, errno: i32, message: impl Into<String>) -> Self {
        Self(Box::new(Details {
            class,
            errno,
            message: message.into(),
            filename: None,
            nid: None,
            extent: None,
            offset: None,
            limit: None,
            remedy: None,
            raised: None,
        }))
    }

    /// An error of the caller's arguments.
    pub(crate) fn value(message: impl Into<String>) -> Self {
        Self::new(Class::Value, Errno::INVAL.raw_os_error(), message)
    }

    /// Says which path it is about; a path that was said before stands.
    pub(crate) fn at_path(mut self, path: impl Into<OsString>) -> Self {
        self.0.filename.get_or_insert_with(|| path.into());
        self
    }

    /// Says what helps.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }
}

impl Details {
    /// The message with the place in it, for classes that have no attributes for it.
    fn sentence(&self) -> String {
        let mut text = self.message.clone();
        let place: Vec<String> = [("nid", self.nid), ("extent", self.extent), ("offset", self.offset)]
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
        details.set_item("extent", self.extent)?;
        details.set_item("offset", self.offset)?;
        details.set_item("remedy", self.remedy.as_deref())?;
        if let Some((name, value, limit)) = self.limit {
            details.set_item("limit_name", name)?;
            details.set_item("value", value)?;
            details.set_item("limit", limit)?;
        }
        let made = match &self.filename {
            Some(path) => class.call((self.errno, &self.message, path), Some(&details))?,
            None => class.call((self.errno, &self.message), Some(&details))?,
        };
        Ok(PyErr::from_value(made))
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        Python::attach(|py| failure.0.into_exception(py))
    }
}

impl From<PyErr> for Failure {
    fn from(raised: PyErr) -> Self {
        let mut failure = Self::new(Class::Os, Errno::IO.raw_os_error(), "");
        failure.0.raised = Some(raised);
        failure
    }
}

impl From<erofs_image::Error> for Failure {
    fn from(error: erofs_image::Error) -> Self {
        use erofs_image::Error;
        let (errno, nid, extent, offset) = (error.errno(), error.nid(), error.extent(), error.offset());
        let corrupt = Errno::UCLEAN.raw_os_error();
        let mut failure = match error {
            Error::Io { source, .. } if is_raised(&source) => return source.into(),
            Error::Io { blob: 0, source, .. } => Self::new(Class::Os, errno, words_of(&source)),
            Error::Io { blob, source, .. } => {
                Self::new(Class::Os, errno, format!("device {blob}: {}", words_of(&source)))
            }
            Error::NotErofs { .. } => Self::new(Class::NotAnImage, corrupt, error.to_string()),
            Error::Checksum { .. } => Self::new(Class::Corrupt, corrupt, error.to_string()),
            Error::Corrupt { what, .. } => {
                Self::new(Class::Corrupt, corrupt, format!("corrupt image: {what}"))
            }
            Error::Unsupported { feature, .. } => {
                Self::new(Class::Unsupported, errno, format!("unsupported: {feature}"))
            }
            Error::Limit { name, value, limit, .. } => over_limit(errno, name, value, limit),
            Error::Devices { given, expected } => {
                Self::new(Class::Devices, errno, error.to_string()).remedy(if given < expected {
                    "name each with --device or devices=, in the order of the device table"
                } else {
                    "leave out what does not belong to the image"
                })
            }
            // The path that is added later says which entry; the system's words are the usual ones.
            _ => Self::new(Class::Os, errno, system_message(errno)),
        };
        failure.0.nid = nid;
        failure.0.extent = extent;
        failure.0.offset = offset;
        failure
    }
}

impl From<erofs_build::Error> for Failure {
    fn from(error: erofs_build::Error) -> Self {
        use erofs_build::{Error, ErrorKind};
        let (errno, kind) = (error.errno(), error.kind());
        let path = error.path().map(Path::to_owned);
        let failure = match error {
            // An exception that a Python object raised while the build wrote to it comes back as it was.
            Error::Io { source, .. } if is_raised(&source) => return source.into(),
            Error::Io { action, source, .. } => {
                Self::new(Class::Os, errno, format!("can't {action}: {}", words_of(&source)))
            }
            Error::Exists { .. } => {
                Self::new(Class::Os, errno, "exists already").remedy("--force or force=True replaces it")
            }
            Error::Image { source, .. } => Self::from(source),
            Error::Archive { .. } => {
                Self::new(Class::Source, errno, without_path(error.to_string(), path.as_deref()))
                    .remedy("make or fetch the archive again; nothing was built from it")
            }
            Error::NotAFile { .. } => Self::new(Class::Os, errno, "exists and is not a regular file"),
            other => {
                let class = match kind {
                    ErrorKind::Usage if path.is_none() => Class::Value,
                    ErrorKind::Unsupported => Class::Unsupported,
                    ErrorKind::Cancelled => Class::Interrupted,
                    ErrorKind::Io => Class::Os,
                    _ => Class::Source,
                };
                Self::new(class, errno, without_path(other.to_string(), path.as_deref()))
            }
        };
        match path {
            Some(path) => failure.at_path(path),
            None => failure,
        }
    }
}

fn over_limit(errno: i32, name: &'static str, value: u64, limit: u64) -> Failure {
    let message = format!("limit exceeded: {name} is {value}, at most {limit} is allowed");
    // What counts up to its limit stops one above it, so twice the limit at least is worth a try.
    let raised = value.max(limit.saturating_mul(2));
    let mut remedy = format!("limits={{'{name}': {raised}}} or --limit {name}={raised} allows more");
    if name == "memory_bytes" {
        remedy.push_str(", and open() reads it in pieces");
    }
    let mut failure = Failure::new(Class::Limit, errno, message).remedy(remedy);
    failure.0.limit = Some((name, value, limit));
    failure
}

impl From<erofs_extract::Error> for Failure {
    fn from(error: erofs_extract::Error) -> Self {
        use erofs_extract::{Error, ErrorKind};
        let (errno, kind) = (error.errno(), error.kind());
        // Paths in an image are absolute everywhere in the package.
        let in_image = error.image_path().map(|path| OsString::from_vec([b"/", path].concat()));
        let path = in_image.or_else(|| error.target_path().map(OsString::from));
        let message = without_path(error.to_string(), path.as_deref().map(Path::new));
        let ends_everything = error.ends_everything();
        let failure = match error {
            // An exception that a Python object raised comes back as it was.
            Error::Target { source, .. } | Error::Stream(source) if is_raised(&source) => {
                return source.into();
            }
            Error::Image { source, .. } => source.into(),
            Error::Zeros { source, .. } => {
                let mut failure = Self::from(source);
                let why = std::mem::take(&mut failure.0.message);
                failure.0.message = format!("what cannot be read of it is zeros in the archive: {why}");
                failure
            }
            Error::Target { action, source, .. } => {
                let failure = Self::new(Class::Os, errno, format!("can't {action}: {}", words_of(&source)));
                if ends_everything {
                    failure.remedy("it stopped there, and what is in the target is incomplete")
                } else {
                    failure
                }
            }
            Error::Stream(source) => {
                Self::new(Class::Os, errno, format!("can't write: {}", words_of(&source)))
            }
            Error::NotEmpty { .. } => Self::new(Class::Os, errno, message)
                .remedy("--force or force=True writes into it and replaces files"),
            Error::ThroughSymlink { .. } => {
                Self::new(Class::Os, errno, message).remedy("name the path that it leads to")
            }
            _ => {
                let class = match kind {
                    ErrorKind::Usage if path.is_none() => Class::Value,
                    ErrorKind::Image => Class::Corrupt,
                    ErrorKind::Cancelled => Class::Interrupted,
                    _ => Class::Os,
                };
                Self::new(class, errno, message)
            }
        };
        match path {
            Some(path) => failure.at_path(path),
            None => failure,
        }
    }
}

/// The message without the path before it, which the exception carries apart.
fn without_path(message: String, path: Option<&Path>) -> String {
    let prefix = path.map(|path| format!("{}: ", path.display()));
    match prefix.and_then(|prefix| message.strip_prefix(&prefix).map(str::to_owned)) {
        Some(rest) => rest,
        None => message,
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
        if is_raised(&error) {
            let raised = error.into_inner().and_then(|inner| inner.downcast::<PyErr>().ok());
            return raised.map_or_else(
                || Self::new(Class::Os, Errno::IO.raw_os_error(), "I/O error"),
                |raised| (*raised).into(),
            );
        }
        let errno = error.raw_os_error().unwrap_or_else(|| errno_of_kind(error.kind()));
        Self::new(Class::Os, errno, words_of(&error))
    }
}

/// Whether the error is an exception that came through an `io::Error`, from a file object of Python's.
fn is_raised(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<PyErr>)
}

fn words_of(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), system_message)
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

#[cfg(test)]
#[path = "errors_tests.rs"]
mod tests;
