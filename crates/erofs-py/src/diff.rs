//! `_core.Diff`: the comparison of two trees, in lists of events.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use erofs_diff::{Change, Event, Facts, Fields, Kind, Options, Root, Side, Way};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::errors::{Class, Failure};
use crate::image::Image;

/// How long a signal may wait.
const PAUSE: Duration = Duration::from_millis(40);

/// A comparison under way; `pyerofs.diff` documents the arguments.
#[pyclass(frozen, module = "pyerofs._core")]
pub(crate) struct Diff(Mutex<Option<erofs_diff::Diff>>);

#[pymethods]
impl Diff {
    #[new]
    #[pyo3(signature = (a, path_a, b, path_b, *, ignore, whole_seconds, usual_xattrs_only, trust_fingerprints,
        threads, move_limit))]
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)] // keyword arguments, each with its name
    fn new(
        py: Python<'_>,
        a: Option<&Bound<'_, Image>>,
        path_a: PathBuf,
        b: Option<&Bound<'_, Image>>,
        path_b: PathBuf,
        ignore: Vec<String>,
        whole_seconds: bool,
        usual_xattrs_only: Option<bool>,
        trust_fingerprints: bool,
        threads: Option<usize>,
        move_limit: usize,
    ) -> Result<Self, Failure> {
        let mut options = Options::default();
        for word in ignore {
            let field = Fields::from_name(&word.to_ascii_uppercase()).filter(|field| *field != Fields::TYPE);
            options.ignore |=
                field.ok_or_else(|| Failure::value(format!("ignore: there is no '{word}' to ignore")))?;
        }
        if let Some(count) = threads {
            let count = NonZeroUsize::new(count);
            options.threads = count.ok_or_else(|| Failure::value("threads: 0 can't compare"))?;
        }
        options.whole_seconds = whole_seconds;
        options.trust_fingerprints = trust_fingerprints;
        options.move_limit = move_limit;
        let (a, b) = (root(py, a, path_a)?, root(py, b, path_b)?);
        options.usual_xattrs_only = usual_xattrs_only.unwrap_or(a.is_in_image() != b.is_in_image());
        let diff = py.detach(|| erofs_diff::Diff::start(a, b, options))?;
        Ok(Self(Mutex::new(Some(diff))))
    }

    /// The next events; none at the end.
    fn next<'py>(&self, py: Python<'py>) -> Result<Vec<Bound<'py, PyTuple>>, Failure> {
        loop {
            let events = py.detach(|| {
                let mut diff = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                diff.as_mut().map_or(Some(Vec::new()), |diff| diff.next_within(PAUSE))
            });
            py.check_signals()?;
            if let Some(events) = events {
                return events.into_iter().map(|event| tuple(py, event)).collect();
            }
        }
    }

    /// Entries of the first tree, of the second one, and paths of both, so far.
    fn counts(&self, py: Python<'_>) -> (u64, u64, u64) {
        py.detach(|| {
            let diff = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let counts = diff.as_ref().map(erofs_diff::Diff::counts).unwrap_or_default();
            (counts.entries_a, counts.entries_b, counts.common)
        })
    }

    /// Ends it.
    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take()));
    }
}

fn root(py: Python<'_>, image: Option<&Bound<'_, Image>>, path: PathBuf) -> Result<Root, Failure> {
    use std::os::unix::ffi::OsStrExt;
    let found = match image {
        Some(image) => {
            let image = image.get().get()?;
            py.detach(|| Root::in_image(image, path.as_os_str().as_bytes()))
        }
        None => py.detach(|| Root::on_disk(&path)),
    };
    found.map_err(|error| Failure::from(error).at_path(path))
}

fn tuple(py: Python<'_>, event: Event) -> Result<Bound<'_, PyTuple>, Failure> {
    Ok(match event {
        Event::Change(change) => change_tuple(py, &change)?,
        Event::Failure(failure) => {
            let side = if failure.side == Side::A { "a" } else { "b" };
            let path = PyBytes::new(py, &failure.path);
            let error = PyErr::from(Failure::from(failure.error)).into_value(py);
            ("failure", side, path, error).into_pyobject(py)?
        }
        Event::TooManyForMoves => ("too many",).into_pyobject(py)?,
        _ => return Err(PyRuntimeError::new_err("an event that nobody knows").into()),
    })
}

fn change_tuple<'py>(py: Python<'py>, change: &Change) -> Result<Bound<'py, PyTuple>, Failure> {
    let kind = match change.kind {
        Kind::Added => "added",
        Kind::Removed => "removed",
        Kind::Changed => "changed",
        Kind::Moved => "moved",
    };
    let bytes = |bytes: &[u8]| PyBytes::new(py, bytes);
    let fields: Vec<String> = change.fields.iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let targets = change.targets.as_deref().map(|[old, new]| (bytes(old), bytes(new)));
    let xattrs: Vec<_> = change
        .xattrs
        .iter()
        .map(|xattr| {
            let way = match xattr.way {
                Way::Added => "added",
                Way::Removed => "removed",
                Way::Changed => "changed",
            };
            (bytes(&xattr.name), way)
        })
        .collect();
    let tuple = (
        kind,
        bytes(&change.path),
        change.from.as_deref().map(bytes),
        fields,
        change.old.map(facts),
        change.new.map(facts),
        targets,
        xattrs,
    );
    Ok(tuple.into_pyobject(py)?)
}

fn facts(facts: Facts) -> (u32, u32, u32, u64, i64, u32, u64, u64) {
    let Facts { mode, uid, gid, size, mtime, mtime_nsec, device, nlink, .. } = facts;
    (mode, uid, gid, size, mtime, mtime_nsec, device, nlink)
}

impl From<erofs_diff::Error> for Failure {
    fn from(error: erofs_diff::Error) -> Self {
        use erofs_diff::Error;
        let errno = error.errno();
        match error {
            Error::Image(error) => error.into(),
            Error::Io { source, .. } => source.into(),
            other => Self::new(Class::Os, errno, other.to_string()),
        }
    }
}
