//! The metabox: a compressed file without a name that holds inodes, and what lies beside them.
//!
//! ```text
//! directories, where the plan has put them | other inodes, in runs
//! ```
//! The root's inode and those of files without names are not in it: they have to be found without it. Runs are
//! compressed as they come; directories come last, when all that they name has a number.

use super::Job;
use super::runs::Waiting;
use crate::directories;
use crate::error::Result;
use crate::plan::nid_in_metabox;
use crate::tree::NodeId;
use crate::zmap::Extent;

/// Bytes that are compressed at once; whole blocks.
const SEGMENT: usize = 4 << 20;

/// Which part of the metabox bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Directories,
    Others,
}

/// The next bytes of a half, to be compressed. They begin with a block.
#[derive(Debug)]
pub(super) struct Portion {
    pub(super) half: Half,
    pub(super) bytes: Vec<u8>,
}

/// The metabox as far as it is known.
#[derive(Debug)]
pub(super) struct Metabox {
    /// How many of the plan's groups are there.
    groups: usize,
    /// Bytes that are not yet being compressed, all of one half.
    waiting: Vec<u8>,
    end: u64,
    directories: Vec<Extent>,
    others: Vec<Extent>,
}

impl Metabox {
    pub(super) fn new(job: Job<'_>) -> Self {
        Self {
            groups: 0,
            waiting: Vec::new(),
            end: job.plan.groups.last().map_or(0, |group| group.boxed.end),
            directories: Vec::new(),
            others: Vec::new(),
        }
    }

    /// Takes all inodes that wait. Returns their numbers, and where the new bytes are among those that wait here.
    pub(super) fn take_run(&mut self, waiting: &mut Waiting, block_size: u64) -> Taken<'_> {
        let run = waiting.lay_out(self.end, block_size);
        self.end += run.bytes.len() as u64;
        let start = self.waiting.len();
        self.waiting.extend_from_slice(&run.bytes);
        let nids = run.places.into_iter().map(|(id, place)| (id, nid_in_metabox(place))).collect();
        Taken { nids, bytes: self.waiting.get(start..).unwrap_or_default() }
    }

    /// A portion of the other inodes, if there is enough for one.
    pub(super) fn portion(&mut self) -> Option<Portion> {
        (self.waiting.len() >= SEGMENT).then(|| self.cut(Half::Others))
    }

    /// The next portion, when no inode waits any more and everything has a number. `note` gets the bytes of
    /// directories.
    pub(super) fn last_portion(
        &mut self,
        job: Job<'_>,
        nids: &[u64],
        mut note: impl FnMut(&[u8]),
    ) -> Result<Option<Portion>> {
        if self.groups == 0 && !self.waiting.is_empty() {
            return Ok(Some(self.cut(Half::Others)));
        }
        while let Some(group) = job.plan.groups.get(self.groups)
            && self.waiting.len() < SEGMENT
        {
            self.groups += 1;
            let bytes = directories::make(job.options, job.plan, job.tree, nids, group)?.boxed;
            note(&bytes);
            self.waiting.extend_from_slice(&bytes);
        }
        Ok((!self.waiting.is_empty()).then(|| self.cut(Half::Directories)))
    }

    fn cut(&mut self, half: Half) -> Portion {
        let length = self.waiting.len().min(SEGMENT);
        let rest = self.waiting.split_off(length);
        Portion { half, bytes: std::mem::replace(&mut self.waiting, rest) }
    }

    /// The clusters of a portion, the first of which is `base` bytes further on.
    pub(super) fn add(&mut self, half: Half, extents: &[Extent], base: u64) {
        let all = match half {
            Half::Directories => &mut self.directories,
            Half::Others => &mut self.others,
        };
        all.extend(extents.iter().map(|extent| extent.moved(base)));
    }

    /// All clusters, in the order of the metabox.
    pub(super) fn extents(&mut self) -> Vec<Extent> {
        let mut all = std::mem::take(&mut self.directories);
        all.append(&mut self.others);
        all
    }
}

/// A run of inodes that went into the metabox.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    pub(super) nids: Vec<(NodeId, u64)>,
    pub(super) bytes: &'a [u8],
}
