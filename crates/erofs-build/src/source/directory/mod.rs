//! Reads a directory into a [`Layer`].
//!
//! Directories are read in parallel and in any order; [`crate::tree::assemble`] then puts what was found in the one order
//! that depends on names only. Everything is opened relative to its directory, and no symlink is followed.

mod contents;
mod dir;
mod entry;
pub(crate) mod holes;
mod open_dirs;

use std::collections::{HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex};

use rustix::fs::{RawDir, fstat};

use crate::error::{Error, Result};
use crate::lock::{into_inner, lock, wait};
use crate::source::{DirSource, ScanJob};
use crate::source::{Found, Layer, Listing, TOP};
use dir::{DirNode, KeptFd};
pub(crate) use entry::stamp;

use entry::Reader;

/// Reads everything below `source` that the options do not leave out.
pub(crate) fn scan(source: &DirSource, job: &ScanJob<'_>) -> Result<Layer> {
    if !job.filter.takes_none() {
        // Without /proc xattrs would be lost in silence.
        rustix::fs::access(c"/proc/self/fd", rustix::fs::Access::EXISTS)
            .map_err(Error::io(Path::new("/proc/self/fd"), "read xattrs without"))?;
    }
    let stat = fstat(&source.root).map_err(Error::io(&source.path, "stat"))?;
    let reader =
        Reader { filter: job.filter, holes: job.options.holes, block_size: job.options.block_size.into() };
    let root = reader.root(&source.root, stat, &source.path)?;
    let root_dir = DirNode::root(stat.st_dev, stat.st_ino);
    let scan = Scan {
        job,
        source,
        reader,
        kept: Arc::new(AtomicUsize::new(0)),
        queue: Mutex::new(Queue {
            jobs: vec![Job { id: TOP, dir: root_dir, parent: None }],
            ..Queue::default()
        }),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 1..job.threads {
            scope.spawn(|| scan.work());
        }
        scan.work();
    });
    let Queue { mut listings, lost, excluded, error, .. } = into_inner(scan.queue);
    if let Some(error) = error {
        return Err(error);
    }
    if !lost.is_empty() {
        for listing in listings.values_mut() {
            listing.entries.retain(|(_, id)| id.is_none_or(|id| !lost.contains(&id)));
        }
    }
    Ok(Layer { root, listings, excluded })
}

/// A directory to be read. Its id is what its parent's listing calls it.
#[derive(Debug)]
struct Job {
    id: u32,
    dir: Arc<DirNode>,
    parent: Option<Arc<KeptFd>>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Taken from the end, so that children come before siblings and few directories wait.
    jobs: Vec<Job>,
    running: usize,
    last_id: u32,
    listings: HashMap<u32, Listing>,
    /// Directories that are left out.
    lost: HashSet<u32>,
    excluded: u64,
    error: Option<Error>,
}

struct Scan<'a> {
    job: &'a ScanJob<'a>,
    source: &'a DirSource,
    reader: Reader<'a>,
    kept: Arc<AtomicUsize>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Scan<'_> {
    /// Reads directories until none is left or one failed.
    fn work(&self) {
        let mut buffer = vec![MaybeUninit::uninit(); 64 << 10];
        loop {
            let mut queue = lock(&self.queue);
            let job = loop {
                if queue.error.is_some() {
                    return;
                }
                if let Some(job) = queue.jobs.pop() {
                    break job;
                }
                if queue.running == 0 {
                    return;
                }
                queue = wait(&self.changed, queue);
            };
            queue.running += 1;
            drop(queue);
            let done = self.list(&job, &mut buffer);
            let mut queue = lock(&self.queue);
            queue.running -= 1;
            match done {
                Ok(listed) => self.enqueue(&mut queue, &job, listed),
                Err(error) if job.id == TOP => queue.error = queue.error.take().or(Some(error)),
                Err(error) => match self.job.skip(error) {
                    Ok(()) => drop(queue.lost.insert(job.id)),
                    Err(error) => queue.error = queue.error.take().or(Some(error)),
                },
            }
            drop(queue);
            self.changed.notify_all();
        }
    }

    fn enqueue(&self, queue: &mut Queue, job: &Job, listed: Listed) {
        let Listed { found, directories, fd, excluded } = listed;
        queue.excluded += excluded;
        let mut entries: Vec<_> = found.into_iter().map(|found| (found, None)).collect();
        self.job.progress.advance(entries.len() as u64, 0);
        let parent = if directories.is_empty() { None } else { KeptFd::keep(fd, &self.kept).ok() };
        for (index, dir) in directories.into_iter().rev() {
            queue.last_id += 1;
            entries[index].1 = Some(queue.last_id);
            queue.jobs.push(Job { id: queue.last_id, dir, parent: parent.clone() });
        }
        queue.listings.insert(job.id, Listing { entries, is_opaque: false });
    }

    fn list(&self, job: &Job, buffer: &mut [MaybeUninit<u8>]) -> Result<Listed> {
        self.job.options.check_cancelled()?;
        let fd = job.dir.open(job.parent.as_deref(), &self.source.root, &self.source.path)?;
        let below = if self.job.excludes.has_patterns() { Some(job.dir.path(Path::new(""))) } else { None };
        let mut listed = Listed { found: Vec::new(), directories: Vec::new(), excluded: 0, fd };
        let mut entries = RawDir::new(&listed.fd, buffer);
        let mut names = 0u32;
        while let Some(entry) = entries.next() {
            let path = || job.dir.path(&self.source.path);
            let entry = entry.map_err(|error| Error::io(&path(), "list")(error))?;
            let name = entry.file_name();
            let bytes = name.to_bytes();
            if bytes == b"." || bytes == b".." || self.job.excludes.hides((job.dir.dev, job.dir.ino), bytes) {
                continue;
            }
            names = names.wrapping_add(1);
            if names.is_multiple_of(1024) {
                self.job.options.check_cancelled()?;
            }
            let path = || path().join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes));
            let stat = match entry::stat(&listed.fd, name) {
                Ok(stat) => stat,
                Err(error) => {
                    self.job.skip(match error {
                        rustix::io::Errno::NOENT => Error::Changed { path: path(), what: "vanished" },
                        error => Error::io(&path(), "stat")(error),
                    })?;
                    continue;
                }
            };
            if let Some(below) = &below {
                let relative =
                    below.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes));
                if self.job.excludes.excludes(&relative, entry::is_dir(&stat)) {
                    listed.excluded += 1;
                    continue;
                }
            }
            match self.reader.read(&listed.fd, name, stat, &path) {
                Ok(found) => listed.found.push(found),
                Err(error) => self.job.skip(error)?,
            }
        }
        listed.found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        for (index, found) in listed.found.iter().enumerate() {
            if found.what.is_dir() {
                let (dev, ino) = found.identity.unwrap_or_default();
                let child = DirNode::child(&job.dir, &found.name, dev, ino, &self.source.path)?;
                listed.directories.push((index, child));
            }
        }
        Ok(listed)
    }
}

/// What reading one directory gave.
struct Listed {
    found: Vec<Found>,
    /// Subdirectories with their index in `found`.
    directories: Vec<(usize, Arc<DirNode>)>,
    fd: OwnedFd,
    excluded: u64,
}
