//! Reads every file once, hashes it, and gives it its place.
//!
//! ```text
//! batches -> work (many threads) -> commit (one at a time, in order) -> one writer
//! ```
//! What is under way has a bound whatever the files' sizes, and so has the memory.

pub(crate) mod base;
pub(crate) mod blob;
mod board;
mod chain;
mod chunks;
mod clusters;
mod commit;
mod content;
mod cuts;
mod early;
mod known;
mod metabox;
mod ordered;
mod packed;
mod placing;
mod runs;
mod sections;
mod supply;
mod work;
mod writer;

use std::sync::atomic::AtomicBool;

use sha2::Sha256;

use crate::error::{Error, Result};
use crate::options::BuildOptions;
use crate::output::Target;
use crate::plan::{Batches, Plan};
use crate::progress::Progress;
use crate::source::Contents;
use crate::tree::Tree;
use base::Base;
use blob::Device;
use chain::Chain;
use commit::Committer;
use early::Early;
use known::Known;
use work::{Packer, Task};

/// What a build works on.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) options: &'a BuildOptions,
    pub(crate) contents: &'a dyn Contents,
    pub(crate) tree: &'a Tree,
    pub(crate) plan: &'a Plan,
    pub(crate) progress: &'a dyn Progress,
    /// An earlier image that clusters can be taken from.
    pub(crate) base: Option<&'a Base>,
}

/// What packing found out.
pub(crate) struct Packed {
    /// The number of every node's inode.
    pub(crate) nids: Vec<u64>,
    /// Those of the packed inode and of the metabox, if there are any.
    pub(crate) packed_nid: Option<u64>,
    pub(crate) metabox_nid: Option<u64>,
    /// Blocks of the image, and those of them that hold contents.
    pub(crate) blocks: u64,
    pub(crate) content_blocks: u64,
    /// Bytes of files that were not stored because their equals were.
    pub(crate) shared: u64,
    /// Bytes of clusters that were taken from the base.
    pub(crate) taken: u64,
    /// The blobs, in the order of their numbers.
    pub(crate) devices: Vec<Device>,
    /// Of all inodes but directories outside of a metabox, and of all contents; none if the UUID was given.
    pub(crate) hash: Option<Sha256>,
}

/// Writes everything that is no directory.
pub(crate) fn pack(job: Job<'_>, target: &Target, blob: Option<&Target>, threads: usize) -> Result<Packed> {
    let stop = AtomicBool::new(false);
    let (buffers, writing) = writer::new();
    let batches = Batches::new(job.options, job.plan, job.tree).map(Task::Batch);
    let shares = job.options.dedupe || job.options.chunk.is_some();
    let known = shares.then(Known::new).transpose()?;
    let known = known.as_ref();
    let mut devices = Vec::new();
    for path in &job.options.reuse {
        let number = u16::try_from(devices.len() + 1).unwrap_or(u16::MAX);
        let known = known.ok_or(Error::Cancelled)?;
        devices.push(blob::reuse(path, number, job.options.block_size.into(), known)?);
    }
    let committer = Committer::new(job, known, devices, buffers.clone());
    let packer =
        Packer { job, buffers, chain: Chain::default(), early: Early::default(), known, stop: &stop };
    let (packed, written) = std::thread::scope(|scope| {
        let stop = &stop;
        let writer = scope.spawn(move || writing.run(target, blob, stop));
        let packed = ordered::run(&packer, batches, committer, threads, stop).map(Committer::packed);
        // The writer ends when nobody is left who could give it more.
        drop(packer);
        (packed, writer.join())
    });
    match written {
        Ok(written) => written.and(packed),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
