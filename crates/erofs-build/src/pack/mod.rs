//! Reads every file once, hashes it, and writes it together with the inodes.
//!
//! Threads take batches of the plan. What they make goes to one writer, in whole buffers: filesystems let
//! one thread at a time write to a file, so more would only wait for each other. The buffers are a fixed
//! number, which bounds the memory whatever the files' sizes.

mod content;
mod dirs;
mod file;
mod writer;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::emit;
use crate::error::{Error, Result};
use crate::options::BuildOptions;
use crate::output::Target;
use crate::plan::{Batch, Plan, has_content};
use crate::progress::Progress;
use crate::source::DirSource;
use crate::tree::{Kind, Tree};
use content::Content;
use dirs::Dirs;
use writer::{Buffers, Piece};

/// What a build works on.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) options: &'a BuildOptions,
    pub(crate) source: &'a DirSource,
    pub(crate) tree: &'a Tree,
    pub(crate) plan: &'a Plan,
    pub(crate) progress: &'a dyn Progress,
}

/// What packing leaves to be finished.
#[derive(Debug)]
pub(crate) struct Packed {
    /// The first blocks, with room for the superblock; not written yet.
    pub(crate) head: Vec<u8>,
    /// A digest of every batch, in the image's order; empty unless they are needed for the UUID.
    pub(crate) digests: Vec<[u8; 32]>,
}

/// Packs everything but what is in [`Packed`].
pub(crate) fn pack(job: Job<'_>, target: &Target, threads: usize) -> Result<Packed> {
    let directories = job.plan.directories.len();
    let work = Work {
        job,
        batches: job.plan.directories.iter().chain(&job.plan.others).collect(),
        order: order(job.plan),
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        directories,
        done: Mutex::new(Done { head: Vec::new(), digests: Vec::new(), error: None }),
    };
    let (buffers, writing) = writer::new(threads + 2);
    std::thread::scope(|scope| {
        let work = &work;
        for _ in 0..threads {
            let buffers = buffers.clone();
            scope.spawn(move || work.run(&buffers));
        }
        drop(buffers);
        if let Err(error) = writing.run(target, &work.stop) {
            work.fail(usize::MAX, error);
        }
    });
    let mut done = work.done.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, error)) = done.error {
        return Err(error);
    }
    done.digests.sort_unstable_by_key(|(batch, _)| *batch);
    Ok(Packed { head: done.head, digests: done.digests.into_iter().map(|(_, digest)| digest).collect() })
}

/// The largest batches come first, or one of them might be all that is left to do at the end; the others
/// keep their order, in which the source is likely to be read best.
fn order(plan: &Plan) -> Vec<usize> {
    const LARGE: u64 = 16 << 20;
    let first = plan.directories.len();
    let size =
        |batch: usize| batch.checked_sub(first).and_then(|nth| plan.others.get(nth)).map_or(0, |b| b.reads);
    let (mut large, small): (Vec<_>, Vec<_>) =
        (0..first + plan.others.len()).partition(|batch| size(*batch) >= LARGE);
    large.sort_by_key(|batch| std::cmp::Reverse(size(*batch)));
    large.extend(small);
    large
}

struct Work<'a> {
    job: Job<'a>,
    batches: Vec<&'a Batch>,
    order: Vec<usize>,
    next: AtomicUsize,
    /// Set when something failed: nobody begins another piece.
    stop: AtomicBool,
    /// The first so many batches are directories.
    directories: usize,
    done: Mutex<Done>,
}

struct Done {
    head: Vec<u8>,
    digests: Vec<(usize, [u8; 32])>,
    error: Option<(usize, Error)>,
}

impl Work<'_> {
    fn run(&self, buffers: &Buffers) {
        let mut dirs = Dirs::new(&self.job.source.root);
        while let Some(&batch) = self.order.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let made = if batch < self.directories {
                self.directories(batch, buffers)
            } else {
                self.others(batch, buffers, &mut dirs)
            };
            match made {
                Ok(Some(digest)) => self.lock().digests.push((batch, digest)),
                Ok(None) => {}
                Err(error) => return self.fail(batch, error),
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of several errors the one that comes first in the image is told; that somebody stopped because of
    /// another's error is told only if there is no other.
    fn fail(&self, batch: usize, error: Error) {
        self.stop.store(true, Ordering::Relaxed);
        let rank = |batch: usize, error: &Error| (matches!(error, Error::Cancelled), batch);
        let mut done = self.lock();
        if done.error.as_ref().is_none_or(|(first, old)| rank(batch, &error) < rank(*first, old)) {
            done.error = Some((batch, error));
        }
    }

    fn wants_digest(&self) -> bool {
        self.job.options.uuid.is_none()
    }

    fn directories(&self, number: usize, buffers: &Buffers) -> Result<Option<[u8; 32]>> {
        let Job { tree, plan, .. } = self.job;
        let batch = self.batches[number];
        let mut bytes = self.room(batch)?;
        let block_size = u64::from(self.job.options.block_size);
        let mut scratch = Vec::new();
        for id in batch.nodes.clone().filter(|id| tree.node(*id).is_dir()) {
            self.job.options.check_cancelled()?;
            let place = plan.place(id);
            let data = crate::plan::dirents::write(tree, id, block_size, |node| plan.place(node).inode / 32);
            let (blocks, tail) = data.split_at(data.len() - place.tail as usize);
            emit::put_inode(self.job, id, None, tail, &mut scratch);
            put(&mut bytes, batch, place.inode, &scratch);
            put(&mut bytes, batch, place.block * block_size, blocks);
        }
        let digest = self.wants_digest().then(|| Sha256::digest(&bytes).into());
        if batch.inodes.start == 0 {
            self.lock().head = bytes;
        } else {
            buffers.write(Piece::Inodes { at: batch.inodes.start, bytes });
        }
        Ok(digest)
    }

    fn others(&self, number: usize, buffers: &Buffers, dirs: &mut Dirs<'_>) -> Result<Option<[u8; 32]>> {
        let Job { tree, plan, options, .. } = self.job;
        let batch = self.batches[number];
        let block_size = u64::from(options.block_size);
        let mut bytes = self.room(batch)?;
        let mut hash = Sha256::new();
        let mut content = Content::new(buffers, batch.content.start * block_size, block_size);
        let mut scratch = Vec::new();
        let mut files = 0;
        for id in batch.nodes.clone().filter(|id| !tree.node(*id).is_dir()) {
            let node = tree.node(id);
            let place = plan.place(id);
            let mut tail = Vec::new();
            let mut digest = None;
            match &node.kind {
                Kind::Regular(file) if has_content(node) => {
                    files += 1;
                    self.check()?;
                    let mut reading = file::Reading {
                        work: self,
                        path: &|| tree.path_of(id),
                        hash: (options.fingerprint || self.wants_digest()).then(Sha256::new),
                    };
                    tail = reading.copy(id, file, place, dirs, &mut content)?;
                    digest = reading.hash.map(|hash| <[u8; 32]>::from(hash.finalize()));
                }
                Kind::Symlink(target) => {
                    let (blocks, rest) = target.split_at(target.len() - place.tail as usize);
                    content.put(blocks);
                    tail.extend_from_slice(rest);
                }
                _ => {}
            }
            if !options.fingerprint
                && let Some(digest) = digest.take()
            {
                hash.update(digest);
            }
            emit::put_inode(self.job, id, digest.as_ref(), &tail, &mut scratch);
            put(&mut bytes, batch, place.inode, &scratch);
        }
        content.flush();
        self.job.progress.advance(files, content.counted(true).unwrap_or(0));
        hash.update(if self.wants_digest() { &bytes[..] } else { &[] });
        buffers.write(Piece::Inodes { at: batch.inodes.start, bytes });
        Ok(self.wants_digest().then(|| hash.finalize().into()))
    }

    /// An error if the caller, or another thread's failure, wants this one to stop.
    fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        self.job.options.check_cancelled()
    }

    /// Zeros in the size of a batch's inodes.
    fn room(&self, batch: &Batch) -> Result<Vec<u8>> {
        let found = batch.inodes.end - batch.inodes.start;
        let too_large = |_| Error::TooLarge {
            path: self.job.source.path.clone(),
            what: "bytes of inodes",
            found,
            limit: usize::MAX as u64,
        };
        Ok(vec![0; usize::try_from(found).map_err(too_large)?])
    }
}

/// Copies `what` to where `at` (in bytes of the image) is in the bytes of a batch. The plan gave both.
fn put(bytes: &mut [u8], batch: &Batch, at: u64, what: &[u8]) {
    if what.is_empty() {
        return;
    }
    let start = usize::try_from(at - batch.inodes.start).unwrap_or(usize::MAX);
    bytes[start..start + what.len()].copy_from_slice(what);
}
