//! `_core.build`: the builder, with Python's progress callback and Ctrl-C.
//!
//! The build runs on a thread of its own. The calling thread stays Python's: it wakes every few hundredths of a
//! second to run signal handlers and to report progress, so that neither ever waits for the build, and the build
//! never waits for the interpreter.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use erofs_build::{
    BuildOptions, Compression, DataOrder, FileContexts, IdRange, KernelVersion, Output, Owners, Phase,
    Progress, Report, Rule, Sources, Times, Whiteouts, XattrPolicy,
};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::errors::{Class, Failure};
use crate::sources::{self, Given};

/// How long a signal or a step of progress may wait.
pub(crate) const PAUSE: Duration = Duration::from_millis(40);

/// Build an image; `pyerofs.build` documents the arguments.
#[pyfunction]
#[pyo3(signature = (src, image, *, block_size, label, uuid, time, source_date_epoch, all_root, uid_map, gid_map,
    uid_offset, gid_offset, force_uid, force_gid, xattrs, share_xattrs_above, xattr_prefixes, fingerprint,
    target_kernel, exclude, exclude_regex, hard_dereference, file_contexts, whiteouts, holes, inline_tail, compress,
    fragments, all_fragments, tail_packing, metabox, rules, dedupe, order, align, chunk, blob, reuse, base, keep_going, threads, force, progress))]
#[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)] // keyword arguments, each with its name
pub(crate) fn build<'py>(
    py: Python<'py>,
    src: Vec<Given<'py>>,
    image: &Bound<'py, PyAny>,
    block_size: u32,
    label: Vec<u8>,
    uuid: Option<[u8; 16]>,
    time: Option<i64>,
    source_date_epoch: Option<i64>,
    all_root: bool,
    uid_map: Vec<(u32, u32, u32)>,
    gid_map: Vec<(u32, u32, u32)>,
    uid_offset: i64,
    gid_offset: i64,
    force_uid: Option<u32>,
    force_gid: Option<u32>,
    xattrs: Vec<String>,
    share_xattrs_above: u32,
    xattr_prefixes: Vec<Vec<u8>>,
    fingerprint: Fingerprint,
    target_kernel: Option<&str>,
    exclude: Vec<String>,
    exclude_regex: Vec<String>,
    hard_dereference: bool,
    file_contexts: Option<(String, String)>,
    whiteouts: &str,
    holes: bool,
    inline_tail: Option<u32>,
    compress: Option<Choice>,
    fragments: Option<bool>,
    all_fragments: bool,
    tail_packing: bool,
    metabox: Option<u32>,
    rules: Vec<(String, Option<Choice>)>,
    dedupe: Option<bool>,
    order: Order,
    align: Option<u32>,
    chunk: Option<u32>,
    blob: Option<PathBuf>,
    reuse: Vec<PathBuf>,
    base: Option<PathBuf>,
    keep_going: bool,
    threads: Option<usize>,
    force: bool,
    progress: Option<&Bound<'py, PyAny>>,
) -> Result<Bound<'py, PyDict>, Failure> {
    let mut options = BuildOptions {
        block_size,
        label,
        uuid,
        times: Times { source_date_epoch, all: time },
        owners: Owners {
            all_root,
            uid_map: ranges(uid_map),
            gid_map: ranges(gid_map),
            uid_offset,
            gid_offset,
            force_uid,
            force_gid,
        },
        xattrs: policy(xattrs),
        share_xattrs_above,
        xattr_prefixes,
        target_kernel: target_kernel.map(str::parse).transpose()?,
        excludes: exclude,
        exclude_regexes: exclude_regex,
        separate_links: hard_dereference,
        file_contexts: file_contexts.map(|(text, name)| FileContexts::parse(&text, &name)).transpose()?,
        holes,
        metabox,
        keep_going,
        order: order.try_into()?,
        align,
        chunk,
        blob,
        reuse,
        base,
        threads: threads
            .map(|count| NonZeroUsize::new(count).ok_or_else(|| Failure::value("threads: 0 can't build")))
            .transpose()?,
        ..BuildOptions::default()
    };
    options.inline_tail = inline_tail;
    let target = options.target_kernel;
    let chosen = |(algorithm, level, cluster): Choice| {
        let usual = Compression::for_target(algorithm.parse()?, target, block_size);
        Ok::<_, Failure>(Compression {
            level,
            cluster: cluster.unwrap_or(usual.cluster),
            fragments: fragments.unwrap_or(usual.fragments && !tail_packing),
            all_fragments,
            inline: tail_packing,
            ..usual
        })
    };
    options.compression = compress.map(chosen).transpose()?;
    // Fragments and shared clusters need the same kernel, and the time to look is won by what is not compressed.
    options.dedupe = dedupe.unwrap_or(options.compression.as_ref().is_some_and(|how| how.fragments));
    for (pattern, choice) in rules {
        let mut compression = choice.map(chosen).transpose()?;
        if compression != options.compression
            && let Some(compression) = &mut compression
        {
            compression.fragments = false;
            compression.all_fragments = false;
        }
        options.rules.push(Rule { pattern, compression });
    }
    match fingerprint {
        Fingerprint::Wanted(wanted) => options.fingerprint = wanted,
        Fingerprint::Named(name) => options.fingerprint_name = name,
    }
    options.check()?;
    options.whiteouts = match whiteouts {
        "plain" => Whiteouts::Plain,
        "apply" => Whiteouts::Apply,
        "overlay" => Whiteouts::Overlay,
        other => return Err(Failure::value(format!("whiteouts: there is no '{other}'"))),
    };
    let source = sources::open(py, src)?;
    let callback = progress.map(|callback| callback.clone().unbind());
    let to = match image.extract() {
        Ok(path) => Destination::File { path, force },
        Err(_) => Destination::Stream(Stream(image.clone().unbind())),
    };
    let report = py.detach(|| run(&options, source, to, callback.as_ref()))?;
    as_dict(py, &report)
}

/// An algorithm, its level and the size of its clusters.
type Choice = (String, Option<i32>, Option<u32>);

/// `fingerprint=`: yes or no, or the attribute's name.
#[derive(FromPyObject)]
pub(crate) enum Fingerprint {
    /// Whether files carry one.
    Wanted(bool),
    /// They do, under this name.
    Named(Vec<u8>),
}

/// `order=`: a word or paths.
#[derive(FromPyObject)]
pub(crate) enum Order {
    /// An order with a name.
    Named(String),
    /// What comes first.
    Listed(Vec<Vec<u8>>),
}

impl TryFrom<Order> for DataOrder {
    type Error = Failure;

    fn try_from(order: Order) -> Result<Self, Failure> {
        Ok(match order {
            Order::Listed(paths) => Self::Listed(paths),
            Order::Named(name) => match name.as_str() {
                "usual" => Self::Usual,
                "path" => Self::Path,
                "similar" => Self::Similar,
                _ => {
                    let reason =
                        format!("order: '{name}' is none; there are path, similar and lists of paths");
                    return Err(Failure::value(reason));
                }
            },
        })
    }
}

fn ranges(given: Vec<(u32, u32, u32)>) -> Vec<IdRange> {
    given.into_iter().map(|(from, to, count)| IdRange { from, to, count }).collect()
}

fn policy(words: Vec<String>) -> XattrPolicy {
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["default"] => XattrPolicy::Default,
        ["all"] => XattrPolicy::All,
        ["none"] | [] => XattrPolicy::None,
        _ => XattrPolicy::Patterns(words),
    }
}

/// Where the image goes.
enum Destination {
    File { path: PathBuf, force: bool },
    Stream(Stream),
}

/// Builds on a thread of its own and looks after Python meanwhile.
fn run(
    options: &BuildOptions,
    source: Sources,
    to: Destination,
    callback: Option<&Py<PyAny>>,
) -> Result<Report, Failure> {
    let (events, happened) = sync_channel(2);
    let (answer, answers) = sync_channel(1);
    let counts = Counts { asks: Some((events.clone(), Mutex::new(answers))), ..Counts::default() };
    let (mut stream, file) = match to {
        Destination::File { path, force } => (None, Some((path, force))),
        Destination::Stream(stream) => (Some(stream), None),
    };
    let (wrote, written) = sync_channel(1);
    let mut remote = Remote { events: events.clone(), written };
    thread::scope(|scope| {
        let counts = &counts;
        let builder = scope.spawn(move || {
            let built = match file {
                Some((path, force)) => Output::create(path, force)
                    .and_then(|mut output| erofs_build::build(options, source, &mut output, counts)),
                None => Output::stream(&mut remote)
                    .and_then(|mut output| erofs_build::build(options, source, &mut output, counts)),
            };
            // The receiver lives until this thread was joined.
            let _ = events.send(Event::Done);
            built
        });
        let mut stopped: Option<PyErr> = None;
        let mut appears = false;
        loop {
            let waited = happened.recv_timeout(PAUSE);
            // What comes after the answer comes too late to stop anything.
            if stopped.is_none() && !appears {
                let looked = Python::attach(|py| {
                    py.check_signals()?;
                    callback.map_or(Ok(()), |callback| counts.report(callback.bind(py)))
                });
                if let Err(raised) = looked {
                    options.cancel.store(true, Ordering::Relaxed);
                    stopped = Some(raised);
                }
            }
            match waited {
                Err(RecvTimeoutError::Timeout) if !builder.is_finished() => (),
                Ok(Event::Ready) => {
                    appears = stopped.is_none();
                    let _ = answer.send(appears);
                }
                Ok(Event::Write(bytes)) => {
                    let taken = match &mut stream {
                        Some(stream) if stopped.is_none() => stream.take(bytes.as_ref()),
                        _ => Err(io::Error::other("interrupted")),
                    };
                    appears = bytes.is_none() && taken.is_ok();
                    let _ = wrote.send(taken);
                }
                Ok(Event::Done) | Err(_) => break,
            }
        }
        let built = builder.join().map_err(|_| {
            Failure::new(
                Class::Os,
                rustix::io::Errno::IO.raw_os_error(),
                "the builder failed by a fault of its own",
            )
        })?;
        match stopped {
            Some(raised) => Err(raised.into()),
            None => Ok(built?),
        }
    })
}

/// What the builder tells the calling thread.
enum Event {
    /// It asks whether the image may appear.
    Ready,
    /// The stream is to get these bytes, or nothing more and to be flushed.
    Write(Option<Py<PyBytes>>),
    Done,
}

/// A stream that the calling thread writes to. Where nobody reads, a write waits, and only in the thread that
/// runs Python's signal handlers does a signal end that.
struct Remote {
    events: SyncSender<Event>,
    written: Receiver<io::Result<usize>>,
}

impl Remote {
    fn ask(&self, bytes: Option<Py<PyBytes>>) -> io::Result<usize> {
        let gone = || io::Error::other("interrupted");
        self.events.send(Event::Write(bytes)).map_err(|_| gone())?;
        self.written.recv().map_err(|_| gone())?
    }
}

impl Write for Remote {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.ask(Some(Python::attach(|py| PyBytes::new(py, bytes).unbind())))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.ask(None).map(drop)
    }
}

/// What the builder's threads count and the calling thread shows.
#[derive(Default)]
struct Counts {
    /// Where the calling thread is asked, and where it answers.
    asks: Option<(SyncSender<Event>, Mutex<Receiver<bool>>)>,
    phase: AtomicU8,
    files: AtomicU64,
    total_files: AtomicU64,
    bytes: AtomicU64,
    total_bytes: AtomicU64,
    /// Since packing began.
    stored: AtomicU64,
}

impl Progress for Counts {
    fn phase(&self, phase: Phase, files: u64, bytes: u64) {
        let number = match phase {
            Phase::Plan => 1,
            Phase::Pack => 2,
            Phase::Finish => 3,
            _ => 0,
        };
        if number == 2 {
            // Packing may begin again.
            self.stored.store(0, Ordering::Relaxed);
        }
        self.files.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.total_files.store(files, Ordering::Relaxed);
        self.total_bytes.store(bytes, Ordering::Relaxed);
        self.phase.store(number, Ordering::Relaxed);
    }

    fn advance(&self, files: u64, bytes: u64) {
        self.files.fetch_add(files, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn stored(&self, bytes: u64) {
        self.stored.fetch_add(bytes, Ordering::Relaxed);
    }

    fn may_appear(&self) -> bool {
        self.asks.as_ref().is_none_or(|(events, answers)| {
            let answer = || answers.lock().ok()?.recv().ok();
            events.send(Event::Ready).is_ok() && answer().unwrap_or(false)
        })
    }
}

impl Counts {
    fn report(&self, callback: &Bound<'_, PyAny>) -> PyResult<()> {
        let phase = match self.phase.load(Ordering::Relaxed) {
            1 => "plan",
            2 => "pack",
            3 => "finish",
            _ => "scan",
        };
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let state = (
            phase,
            load(&self.files),
            load(&self.total_files),
            load(&self.bytes),
            load(&self.total_bytes),
            load(&self.stored),
        );
        callback.call1(state).map(drop)
    }
}

/// A Python stream as an output.
pub(crate) struct Stream(pub(crate) Py<PyAny>);

impl Stream {
    /// Writes bytes, perhaps not all, and says how many; or flushes.
    fn take(&mut self, bytes: Option<&Py<PyBytes>>) -> io::Result<usize> {
        match bytes {
            Some(bytes) => Python::attach(|py| self.put(bytes.bind(py))),
            None => self.flush().map(|()| 0),
        }
    }

    fn put(&self, bytes: &Bound<'_, PyBytes>) -> io::Result<usize> {
        let length = bytes.as_bytes().len();
        let written = self.0.bind(bytes.py()).call_method1("write", (bytes,))?;
        // A raw stream may take less; a text stream or a broken one must not make us loop for ever.
        let count: usize = if written.is_none() { length } else { written.extract()? };
        if count == 0 || count > length {
            return Err(io::Error::other(format!("write() says that it wrote {count} of {length} bytes")));
        }
        Ok(count)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Python::attach(|py| self.put(&PyBytes::new(py, bytes)))
    }

    fn flush(&mut self) -> io::Result<()> {
        Python::attach(|py| {
            let stream = self.0.bind(py);
            if stream.hasattr("flush")? {
                stream.call_method0("flush")?;
            }
            Ok(())
        })
    }
}

fn as_dict<'py>(py: Python<'py>, report: &Report) -> Result<Bound<'py, PyDict>, Failure> {
    let dict = PyDict::new(py);
    let counts = [
        ("inodes", report.inodes),
        ("directories", report.directories),
        ("files", report.files),
        ("hard_links", report.hard_links),
        ("bytes", report.bytes),
        ("metadata_bytes", report.metadata_bytes),
        ("content_bytes", report.content_bytes),
        ("stored_bytes", report.stored_bytes),
        ("shared_bytes", report.shared_bytes),
        ("taken_bytes", report.taken_bytes),
        ("unknown_paths", report.unknown_paths),
        ("fingerprints", report.fingerprints),
        ("excluded", report.excluded),
        ("xattrs_left_out", report.xattrs_left_out),
    ];
    for (name, count) in counts {
        dict.set_item(name, count)?;
    }
    let skipped: Vec<_> =
        report.skipped.iter().map(|skipped| (skipped.path.as_os_str(), &skipped.reason)).collect();
    dict.set_item("skipped", skipped)?;
    dict.set_item("base_unused", &report.base_unused)?;
    dict.set_item("uuid", PyBytes::new(py, &report.uuid))?;
    dict.set_item("build_time", report.build_time)?;
    let version = |version: KernelVersion| (version.0, version.1);
    dict.set_item("target_kernel", version(report.target_kernel))?;
    dict.set_item("oldest_kernel", version(report.oldest_kernel))?;
    let features: Vec<_> = report
        .features
        .iter()
        .map(|feature| (feature.to_string(), version(feature.since()), feature.remedy()))
        .collect();
    dict.set_item("features", features)?;
    Ok(dict)
}
