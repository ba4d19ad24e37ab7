//! Extraction into a directory.

mod attributes;
mod dirs;
mod entry;
mod large;

use std::fs::create_dir;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use erofs_image::{Image, Scratch};
use rustix::fs::{CWD, Dir as Listing, Mode, OFlags, fgetxattr, openat};

use crate::context::Context;
use crate::cuts::CUT;
use crate::error::{Error, Result};
use crate::links::{Links, Meet};
use crate::options::ExtractOptions;
use crate::pool;
use crate::report::{Observer, Report};
use crate::select::{Selection, Step};

use attributes::Caller;
use dirs::{Dir, OpenDirs};
use large::Large;

/// Entries that a thread makes in one go.
const BATCH: usize = 32;
/// Bytes of content that a thread writes in one go, unless one file has more.
const BATCH_BYTES: u64 = 512 << 10;
/// A file of at least this size is read by several threads at once.
const LARGE: u64 = 2 * CUT;

/// Extracts `image`, or what `options` choose of it, into the directory `target`, which is made if it is not
/// there.
///
/// On an error, and when [`ExtractOptions::cancel`] is set, what was extracted so far stays, except for files
/// that are not whole.
pub fn extract(
    image: &Image,
    target: &Path,
    options: &ExtractOptions,
    observer: &dyn Observer,
) -> Result<Report> {
    let mut selection = Selection::new(image, options)?;
    let context = Context::new(image, options, observer);
    let threads = options.thread_count();
    let (tree, top) = Tree::open(&context, target)?;
    pool::run(
        threads,
        |job, scratch| tree.work(job, scratch),
        |give| tree.walk(&mut selection, top, threads, give),
    );
    for dir in tree.links.drain() {
        tree.release(dir);
    }
    drop(tree);
    context.finish(selection.left_out())
}

/// An extraction under way.
struct Tree<'a> {
    context: &'a Context<'a>,
    target: PathBuf,
    caller: Caller,
    /// What is made in the target gets an ACL from it.
    inherits_acl: bool,
    open_dirs: OpenDirs,
    links: Links<Arc<Dir>>,
}

/// What a thread does in one go.
enum Job {
    Batch(Batch),
    Part(Arc<Large>, std::ops::Range<u64>),
}

/// Entries of one directory.
struct Batch {
    dir: Arc<Dir>,
    steps: Vec<Planned>,
    bytes: u64,
}

struct Planned {
    step: Step,
    /// Other names may wait for it.
    is_first: bool,
}

impl<'a> Tree<'a> {
    /// Opens or makes the target. The caller's own path may lead through links; nothing below it may.
    fn open(context: &'a Context<'a>, target: &Path) -> Result<(Self, std::os::fd::OwnedFd)> {
        match create_dir(target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(Error::target(target, "create the directory"))?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, target, flags, Mode::empty()).map_err(Error::target(target, "open"))?;
        if !context.options.force {
            let listing = Listing::read_from(&fd).map_err(Error::target(target, "list"))?;
            for entry in listing {
                let entry = entry.map_err(Error::target(target, "list"))?;
                if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    return Err(Error::NotEmpty { path: target.to_owned() });
                }
            }
        }
        let inherits_acl = fgetxattr(&fd, c"system.posix_acl_default", &mut [0_u8; 0][..]).is_ok();
        let tree = Self {
            context,
            target: target.to_owned(),
            caller: Caller::new(),
            inherits_acl,
            open_dirs: OpenDirs::new(),
            links: Links::new(),
        };
        Ok((tree, fd))
    }

    fn force(&self) -> bool {
        self.context.options.force
    }

    /// Makes the directories and hands everything else to `give`.
    fn walk(
        &self,
        selection: &mut Selection<'_>,
        top: std::os::fd::OwnedFd,
        threads: usize,
        give: &mut dyn FnMut(Job),
    ) {
        let mut top = Some(top);
        // The directory of each depth; none where it could not be made, which was said then.
        let mut dirs: Vec<Option<Arc<Dir>>> = Vec::new();
        let mut batch: Option<Batch> = None;
        for step in self.context.steps(selection) {
            if dirs.len() > step.depth || step.inode.is_dir() {
                batch.take().map(Job::Batch).into_iter().for_each(&mut *give);
                for dir in dirs.drain(step.depth.min(dirs.len())..).rev().flatten() {
                    self.release(dir);
                }
            }
            if step.inode.is_dir() {
                let dir = match (top.take(), dirs.last()) {
                    (Some(top), _) => self.enter(Dir::top(self, top, step)),
                    (None, Some(Some(above))) => self.enter(Dir::make(self, above, step)),
                    (None, _) => None,
                };
                dirs.push(dir);
            } else if let Some(Some(dir)) = dirs.last() {
                self.plan(step, dir, threads, &mut batch, give);
            }
        }
        batch.map(Job::Batch).into_iter().for_each(give);
        for dir in dirs.into_iter().rev().flatten() {
            self.release(dir);
        }
    }

    fn enter(&self, made: Result<Dir>) -> Option<Arc<Dir>> {
        match made.map(Arc::new) {
            Ok(dir) => {
                if dir.is_below_top() {
                    self.opened(&dir);
                }
                Some(dir)
            }
            Err(error) => {
                self.context.fail(error);
                None
            }
        }
    }

    fn plan(
        &self,
        step: Step,
        dir: &Arc<Dir>,
        threads: usize,
        batch: &mut Option<Batch>,
        give: &mut dyn FnMut(Job),
    ) {
        let mut unused = Vec::new();
        let met = loop {
            match self.links.meet(&step, dir, &mut unused) {
                Meet::Full => {
                    // The first one may be in the batch that nobody has been given yet.
                    batch.take().map(Job::Batch).into_iter().for_each(&mut *give);
                    self.links.wait(step.inode.nid);
                }
                met => break met,
            }
        };
        let is_first = match met {
            Meet::Single => false,
            Meet::First => true,
            Meet::Waits | Meet::Full => return,
            Meet::Made(source, first) => {
                self.link(&source, &first, &step, dir);
                unused.push(source);
                self.release_all(unused);
                return;
            }
            Meet::Lost(first) => {
                self.lose_link(step, first);
                self.release_all(unused);
                return;
            }
        };
        if threads > 1 && step.inode.is_file() && step.inode.size >= LARGE {
            self.cut_up(Planned { step, is_first }, dir, give);
            return;
        }
        let batch_now =
            batch.get_or_insert_with(|| Batch { dir: Arc::clone(dir), steps: Vec::new(), bytes: 0 });
        batch_now.bytes = batch_now.bytes.saturating_add(step.inode.size);
        batch_now.steps.push(Planned { step, is_first });
        if batch_now.bytes >= BATCH_BYTES || batch_now.steps.len() >= BATCH {
            batch.take().map(Job::Batch).into_iter().for_each(give);
        }
    }

    fn work(&self, job: Job, scratch: &mut Scratch) {
        match job {
            Job::Batch(batch) => {
                let fd = batch.dir.fd(self).map_err(|error| self.context.fail(error)).ok();
                for planned in batch.steps {
                    match fd.as_ref().filter(|_| !self.context.stopped()) {
                        Some(fd) => self.make(fd, &batch.dir, &planned, scratch),
                        // Somebody may wait for it.
                        None if planned.is_first => self.settle(planned.step.inode.nid, false),
                        None => {}
                    }
                }
                self.release(batch.dir);
            }
            Job::Part(large, range) => self.write_part(large, range, scratch),
        }
    }
}
