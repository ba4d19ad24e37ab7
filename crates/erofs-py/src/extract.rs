//! `_core.extract`: extraction, with Python's callbacks and Ctrl-C, in the way of `_core.build`: the work is done
//! on threads of its own, and the calling thread looks after Python.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;

use erofs_extract::{ErrorKind, ExtractOptions, Observer, Owners, Report};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt};

use crate::build::{PAUSE, Stream};
use crate::errors::{Class, Failure};
use crate::image::Image;

/// Failures that may wait for Python; those who have more wait themselves.
const WAITING: usize = 64;

/// Extract an image into the directory `target`, or as an archive to `tar`, or nowhere; `pyerofs.extract`
/// documents the other arguments.
#[pyfunction]
#[pyo3(signature = (image, target, tar, *, paths, include, exclude, owners, xattrs, threads, force, progress,
    on_error))]
#[allow(clippy::too_many_arguments)] // keyword arguments, each with its name
pub(crate) fn extract<'py>(
    py: Python<'py>,
    image: &Bound<'py, Image>,
    target: Option<PathBuf>,
    tar: Option<&Bound<'py, PyAny>>,
    paths: Vec<Vec<u8>>,
    include: Vec<String>,
    exclude: Vec<String>,
    owners: Option<bool>,
    xattrs: bool,
    threads: Option<usize>,
    force: bool,
    progress: Option<&Bound<'py, PyAny>>,
    on_error: &Bound<'py, PyAny>,
) -> Result<Bound<'py, PyDict>, Failure> {
    let image = image.get().get()?;
    let options = ExtractOptions {
        paths,
        includes: include,
        excludes: exclude,
        owners: match owners {
            None => Owners::Auto,
            Some(true) => Owners::Image,
            Some(false) => Owners::Caller,
        },
        xattrs,
        force,
        threads: threads
            .map(|count| NonZeroUsize::new(count).ok_or_else(|| Failure::value("threads: 0 can't read")))
            .transpose()?,
        ..ExtractOptions::default()
    };
    let callbacks = Callbacks {
        progress: progress.map(|callback| callback.clone().unbind()),
        on_error: on_error.clone().unbind(),
    };
    let report = match (target, tar) {
        (Some(target), _) => py.detach(|| {
            run(&options, &callbacks, |watch| erofs_extract::extract(&image, &target, &options, watch))
        })?,
        (None, Some(stream)) => {
            let mut stream = open_stream(stream)?;
            py.detach(|| {
                run(&options, &callbacks, |watch| {
                    erofs_extract::write_tar(&image, &mut *stream, &options, watch)
                })
            })?
        }
        (None, None) => {
            py.detach(|| run(&options, &callbacks, |watch| erofs_extract::verify(&image, &options, watch)))?
        }
    };
    as_dict(py, report)
}

struct Callbacks {
    progress: Option<Py<PyAny>>,
    on_error: Py<PyAny>,
}

fn open_stream(given: &Bound<'_, PyAny>) -> Result<Box<dyn Write + Send>, Failure> {
    if given.is_instance_of::<PyInt>() {
        let fd = erofs_sys::fd::duplicate(given.extract()?).map_err(io::Error::from)?;
        return Ok(Box::new(File::from(fd)));
    }
    Ok(Box::new(Stream(given.clone().unbind())))
}

/// What the extraction's threads say to the calling one.
enum Event {
    Failed(erofs_extract::Error),
    Ended,
}

/// Counts, and passes failures on.
struct Watch {
    entries: AtomicU64,
    bytes: AtomicU64,
    events: SyncSender<Event>,
}

impl Observer for Watch {
    fn advance(&self, entries: u64, bytes: u64) {
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn failed(&self, error: erofs_extract::Error) {
        // The receiver lives until the extraction has ended.
        let _ = self.events.send(Event::Failed(error));
    }
}

/// Does the work on a thread of its own and looks after Python meanwhile.
fn run(
    options: &ExtractOptions,
    callbacks: &Callbacks,
    work: impl FnOnce(&Watch) -> Result<Report, erofs_extract::Error> + Send,
) -> Result<Report, Failure> {
    let (events, heard) = sync_channel(WAITING);
    let watch = Watch { entries: AtomicU64::new(0), bytes: AtomicU64::new(0), events };
    let watch = &watch;
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let ended = Ended(&watch.events);
            let done = work(watch);
            drop(ended);
            done
        });
        let mut stopped: Option<PyErr> = None;
        loop {
            let event = heard.recv_timeout(PAUSE);
            let over = matches!(event, Ok(Event::Ended) | Err(RecvTimeoutError::Disconnected));
            if stopped.is_none() {
                let looked = Python::attach(|py| {
                    py.check_signals()?;
                    match event {
                        Ok(Event::Failed(error)) => {
                            let raised = PyErr::from(Failure::from(error));
                            callbacks.on_error.call1(py, (raised,)).map(drop)
                        }
                        _ => callbacks.progress.as_ref().map_or(Ok(()), |progress| {
                            let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
                            progress.call1(py, (load(&watch.entries), load(&watch.bytes))).map(drop)
                        }),
                    }
                });
                if let Err(raised) = looked {
                    options.cancel.store(true, Ordering::Relaxed);
                    stopped = Some(raised);
                }
            }
            if over {
                break;
            }
        }
        let done = worker.join().map_err(|_| {
            let errno = rustix::io::Errno::IO.raw_os_error();
            Failure::new(Class::Os, errno, "the extraction failed by a fault of its own")
        })?;
        match (stopped, done) {
            // What ended it was perhaps the same, told by a stream; or it was over already.
            (Some(raised), Ok(_)) => Err(raised.into()),
            (Some(raised), Err(error)) if error.kind() == ErrorKind::Cancelled => Err(raised.into()),
            (_, done) => Ok(done?),
        }
    })
}

/// Says that the work has ended, also if it panicked.
struct Ended<'a>(&'a SyncSender<Event>);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let _ = self.0.send(Event::Ended);
    }
}

fn as_dict(py: Python<'_>, report: Report) -> Result<Bound<'_, PyDict>, Failure> {
    let dict = PyDict::new(py);
    let counts = [
        ("directories", report.directories),
        ("files", report.files),
        ("symlinks", report.symlinks),
        ("special", report.special),
        ("hard_links", report.hard_links),
        ("bytes", report.bytes),
        ("left_out", report.left_out),
        ("failed", report.failed),
    ];
    for (name, count) in counts {
        dict.set_item(name, count)?;
    }
    let losses: Vec<_> = report
        .losses
        .into_iter()
        .map(|loss| (loss.what, loss.reason, loss.count, PyBytes::new(py, &loss.example)))
        .map(|(what, reason, count, example)| (what, reason, count, example.unbind()))
        .collect();
    dict.set_item("losses", losses)?;
    Ok(dict)
}
