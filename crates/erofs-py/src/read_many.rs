//! `_core.ReadMany`: the iterator behind `Image.read_many`.
//!
//! Questions are taken from Python's iterable a batch at a time and answered by the threads of a
//! [`crate::reading::Queue`], which never need the interpreter unless the source is a Python object.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use erofs_image::Image;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyTypeError, PyUnicodeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyString};

use crate::errors::Failure;
use crate::file::threads as threads_by_default;
use crate::handle::{Handle, forks};
use crate::inode::Inode;
use crate::lookup::Place;
use crate::reading::{Outcome, Queue, Run, Taken, stop_all};

/// Questions of a batch.
const BATCH: usize = 128;
/// Questions that are asked ahead at most.
const AHEAD: usize = 8 * BATCH;
/// More threads than this only take memory.
const MOST_THREADS: usize = 64;
/// How long to wait before looking whether the user has interrupted.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long the interpreter's end waits for reads that have begun.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// Files in the order in which they were asked for.
#[pyclass(frozen, module = "pyerofs._core")]
pub(crate) struct ReadMany {
    handle: Arc<Handle>,
    /// Also what keeps the threads: they are told to stop when it goes.
    queue: Stopper,
    threads: usize,
    /// The class whose objects know their inode, and the image that they must belong to.
    entry: Py<PyAny>,
    owner: Py<PyAny>,
    /// In which process it was made.
    forks: u64,
    closed: AtomicBool,
    consumer: Mutex<Consumer>,
}

struct Stopper(Arc<Queue>);

impl Drop for Stopper {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What only the thread that iterates needs.
struct Consumer {
    /// None at its end.
    asked: Option<Py<PyIterator>>,
    /// What was asked for and not answered yet, as it was given.
    waiting: VecDeque<Py<PyAny>>,
    /// What the iterable raised; it comes after the answers to what it gave before.
    raised: Option<PyErr>,
    run: Run,
    /// How much of `run` was handed over.
    outcomes: usize,
    bytes: usize,
}

#[pymethods]
impl ReadMany {
    #[new]
    fn new(
        image: &Bound<'_, crate::image::Image>,
        paths: &Bound<'_, PyAny>,
        threads: Option<usize>,
        budget: u64,
        entry: Py<PyAny>,
        owner: Py<PyAny>,
    ) -> Result<Self, Failure> {
        let threads = threads.unwrap_or_else(threads_by_default).clamp(1, MOST_THREADS);
        let handle = image.get().handle()?;
        let queue = Queue::start(handle.image()?, threads, budget)?;
        let consumer = Consumer {
            asked: Some(paths.try_iter()?.unbind()),
            waiting: VecDeque::new(),
            raised: None,
            run: Run::default(),
            outcomes: 0,
            bytes: 0,
        };
        Ok(Self {
            handle,
            queue: Stopper(queue),
            threads,
            entry,
            owner,
            forks: forks(),
            closed: AtomicBool::new(false),
            consumer: Mutex::new(consumer),
        })
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<(Py<PyAny>, Bound<'py, PyAny>)>> {
        if self.closed.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if self.forks != forks() {
            return Err(PyRuntimeError::new_err(
                "read_many() was begun before a fork: begin anew in the child",
            ));
        }
        let mut consumer = match self.consumer.try_lock() {
            Ok(consumer) => consumer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(PyValueError::new_err("read_many() is already being iterated by another thread"));
            }
        };
        loop {
            if let Some(answer) = self.answer(py, &mut consumer)? {
                return Ok(Some(answer));
            }
            let run = std::mem::take(&mut consumer.run);
            (consumer.outcomes, consumer.bytes) = (0, 0);
            self.queue.0.give_back(run);
            self.ask(py, &mut consumer);
            if consumer.waiting.is_empty() {
                self.close();
                return consumer.raised.take().map_or(Ok(None), Err);
            }
            let mut taken = self.queue.0.take(Duration::ZERO);
            while matches!(taken, Taken::NotYet) {
                py.check_signals()?;
                if self.closed.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                taken = py.detach(|| self.queue.0.take(PATIENCE));
            }
            match taken {
                Taken::Run(run) => consumer.run = run,
                _ => return Err(PyRuntimeError::new_err("a reading thread panicked")),
            }
        }
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(&self, _kind: Py<PyAny>, _error: Py<PyAny>, _trace: Py<PyAny>) {
        self.close();
    }

    /// Ends the iteration; threads that are reading end after what they read now.
    fn close(&self) {
        // A child of a fork has no such threads, and the lock may be one of theirs.
        if !self.closed.swap(true, Ordering::Relaxed) && self.forks == forks() {
            self.queue.0.stop();
        }
    }
}

impl ReadMany {
    /// The next answer of the run at hand.
    fn answer<'py>(
        &self,
        py: Python<'py>,
        consumer: &mut Consumer,
    ) -> PyResult<Option<(Py<PyAny>, Bound<'py, PyAny>)>> {
        let Some(outcome) = consumer.run.outcomes.get_mut(consumer.outcomes) else { return Ok(None) };
        let outcome = std::mem::replace(outcome, Outcome::Data(0));
        consumer.outcomes += 1;
        let Some(asked) = consumer.waiting.pop_front() else { return Ok(None) };
        let failure = match outcome {
            Outcome::Data(count) => {
                let end = consumer.bytes + count;
                let bytes = consumer.run.data.get(consumer.bytes..end).unwrap_or_default();
                consumer.bytes = end;
                return Ok(Some((asked, PyBytes::new(py, bytes).into_any())));
            }
            Outcome::Large(inode) => match self.read_large(py, &inode) {
                Ok(bytes) => return Ok(Some((asked, bytes.into_any()))),
                Err(failure) => failure,
            },
            Outcome::Failed(error) => error.into(),
        };
        let error = value(py, failure, path_of(asked.bind(py), &self.entry)?)?;
        Ok(Some((asked, error)))
    }

    fn read_large<'py>(
        &self,
        py: Python<'py>,
        inode: &erofs_image::Inode,
    ) -> Result<Bound<'py, PyBytes>, Failure> {
        let image: Arc<Image> = self.handle.image()?;
        py.detach(|| image.check_memory(inode, 0..inode.size))?;
        let size = usize::try_from(inode.size).map_err(|_| PyMemoryError::new_err(()))?;
        Ok(PyBytes::new_with(py, size, |bytes| {
            let count =
                py.detach(|| image.read_parallel(inode, 0, bytes, self.threads)).map_err(Failure::from)?;
            if count < size {
                let error = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(Failure::from(error).into());
            }
            Ok(())
        })?)
    }

    /// Takes questions from the iterable, as long as there are not too many without an answer.
    fn ask(&self, py: Python<'_>, consumer: &mut Consumer) {
        while let Some(asked) = consumer.asked.as_ref().map(|asked| asked.clone_ref(py))
            && consumer.waiting.len() + BATCH <= AHEAD
        {
            let mut places = Vec::with_capacity(BATCH);
            let mut asked = asked.into_bound(py);
            for next in asked.by_ref().take(BATCH) {
                match next.and_then(|next| Ok((self.place(&next)?, next))) {
                    Ok((place, next)) => {
                        places.push(place);
                        consumer.waiting.push_back(next.unbind());
                    }
                    Err(raised) => {
                        consumer.raised = Some(raised);
                        break;
                    }
                }
            }
            if consumer.raised.is_some() || places.len() < BATCH {
                consumer.asked = None;
            }
            if !places.is_empty() {
                self.queue.0.ask(places);
            }
        }
    }

    fn place(&self, asked: &Bound<'_, PyAny>) -> PyResult<Place> {
        let py = asked.py();
        if let Ok(text) = asked.cast_exact::<PyString>()
            && let Ok(text) = text.to_str()
        {
            return Ok(Place::Path(text.as_bytes().into()));
        }
        if !asked.is_instance(self.entry.bind(py))? {
            return Ok(Place::Path(path_of(asked, &self.entry)?.into_vec().into()));
        }
        if !asked.getattr(intern!(py, "_image"))?.is(&self.owner) {
            return Err(PyValueError::new_err("an entry is of another image"));
        }
        let known = asked.getattr(intern!(py, "_link"))?;
        if let Ok(inode) = known.cast_exact::<Inode>().map(|known| known.get().0)
            && !inode.is_symlink()
        {
            return Ok(Place::Inode(inode));
        }
        let path = path_of(asked, &self.entry)?.into_vec().into();
        let nid = asked.getattr(intern!(py, "_nid"))?.extract::<Option<u64>>()?;
        Ok(match nid {
            None => Place::Path(path),
            Some(nid) => Place::Nid(nid, path),
        })
    }
}

/// The path of a question, as bytes of the system's.
fn path_of(asked: &Bound<'_, PyAny>, entry: &Py<PyAny>) -> PyResult<OsString> {
    let py = asked.py();
    if asked.is_instance(entry.bind(py))? {
        return asked.getattr(intern!(py, "_path"))?.extract();
    }
    if let Ok(bytes) = asked.cast::<PyBytes>() {
        return Ok(OsString::from_vec(bytes.as_bytes().to_vec()));
    }
    asked.extract::<std::path::PathBuf>().map(Into::into).map_err(|error| {
        // A string that is no name, of half a surrogate: Python says so as everywhere else.
        if error.is_instance_of::<PyUnicodeError>(py) {
            return error;
        }
        let kind = asked.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
        PyTypeError::new_err(format!(
            "a path in an image is str, bytes, an Entry or a path object, not {kind}"
        ))
    })
}

/// A failure as a value. What is not the image's or the system's fault, such as a bug in a source that is a Python
/// object, is raised.
fn value(py: Python<'_>, failure: Failure, path: OsString) -> PyResult<Bound<'_, PyAny>> {
    let error = PyErr::from(failure.at_path(path.clone()));
    if !error.is_instance_of::<PyOSError>(py) {
        return Err(error);
    }
    let error = error.into_value(py).into_bound(py).into_any();
    if error.getattr(intern!(py, "filename"))?.is_none() {
        error.setattr(intern!(py, "filename"), path)?;
    }
    Ok(error)
}

/// Stops what is being read; to be called before the interpreter ends, as threads that need it cannot go on then.
#[pyfunction]
pub(crate) fn stop_reading(py: Python<'_>) {
    py.detach(|| stop_all(LAST_PATIENCE));
}
