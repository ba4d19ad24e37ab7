//! One job: reads files, hashes them, and gathers what goes into blocks.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use super::Job;
use super::base::{Like, Old};
use super::chain::Chain;
use super::chunks::{self, Chunk};
use super::clusters::{End, Fillers, SAMPLE};
use super::content::{Content, Gathered};
use super::early::Early;
use super::known::{Key, Known};
use super::metabox::{Half, Portion};
use super::ordered::Stages;
use super::packed::Segment;
use super::sections::{Compressed, Ending, Sections};
use super::supply::Supply;
use super::writer::Buffers;
use crate::error::{Error, Result};
use crate::inode::Shape;
use crate::options::BuildOptions;
use crate::plan::{Batch, Part, has_content, parts};
use crate::source::{self, ContentReader};
use crate::tree::{Kind, NodeId, Regular};
use crate::zmap::{Extent, Map};

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What there is to do.
#[derive(Debug)]
pub(super) enum Task {
    Batch(Batch),
    /// Compress the next segment of the packed inode.
    Packed(Segment),
    /// Compress the next portion of the metabox.
    Metabox(Portion),
}

/// What a job made.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) what: MadeOf,
    /// The blocks of everything, one after the other.
    pub(super) content: Gathered,
    /// What goes into the blob.
    pub(super) blob: Gathered,
}

#[derive(Debug)]
pub(super) enum MadeOf {
    Batch {
        items: Vec<Item>,
        /// What the items have beside their inodes.
        tails: Vec<u8>,
        /// What they have in the packed inode.
        fragments: Vec<u8>,
    },
    Packed {
        extents: Vec<Extent>,
        /// They are those of an earlier image.
        is_taken: bool,
    },
    Metabox(Half, Vec<Extent>),
}

/// What was made of a node, or of a part of a large file.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: NodeId,
    /// Its contents in those of the job, in bytes.
    pub(super) content: Range<u64>,
    pub(super) stored: Stored,
    /// The digest of the whole file, once its last part is there.
    pub(super) digest: Option<[u8; 32]>,
    /// The digest of the blocks of a whole file that is stored as it is, if equal ones are to share them.
    pub(super) key: Option<Key>,
    pub(super) is_first: bool,
    pub(super) is_last: bool,
}

/// How an item is stored.
#[derive(Debug)]
pub(super) enum Stored {
    /// As it is; `tail` says where in the job's tails its own is.
    Plain { shape: Shape, tail: Range<usize> },
    /// In clusters.
    Compressed(Compressed),
    /// In chunks, each of which may be a hole.
    Chunks(Shape, Vec<Option<Chunk>>),
}

/// Does the jobs of a build.
pub(super) struct Packer<'a> {
    pub(super) job: Job<'a>,
    pub(super) buffers: Buffers,
    pub(super) chain: Chain,
    pub(super) early: Early,
    /// What the image has already, if equal contents are stored once.
    pub(super) known: Option<&'a Known>,
    pub(super) stop: &'a AtomicBool,
}

/// What a thread keeps from job to job.
pub(super) struct Tools<'a> {
    reader: Box<dyn ContentReader + 'a>,
    fillers: Fillers<'a>,
}

impl<'a> Stages for Packer<'a> {
    type Job = Task;
    type Made = Made;
    type Scratch = Tools<'a>;

    fn scratch(&self) -> Result<Tools<'a>> {
        let Job { options, contents, tree, plan, .. } = self.job;
        let fillers = Fillers::new(plan.methods.all(), options.block_size, plan.is_dense);
        Ok(Tools { reader: contents.reader(tree), fillers })
    }

    fn work(&self, task: Task, tools: &mut Tools<'a>) -> Result<Made> {
        let options = self.job.options;
        let mut content = Content::new(&self.buffers, options.block_size as usize);
        tools.fillers.restart();
        let batch = match (task, self.job.plan.methods.usual()) {
            (Task::Batch(batch), _) => batch,
            (Task::Packed(segment), Some(usual)) => {
                let mut extents = Vec::new();
                let (old, start) = self.old_segment(&segment, usual)?.unzip();
                let mut supply = Supply { filler: tools.fillers.get(usual)?, old, start: start.unwrap_or(0) };
                let (all, end) = (0..segment.bytes.len(), (End::Cluster, Some(0)));
                let (_, is_taken) = supply.fill(&segment.bytes, all, end, &mut content, &mut extents)?;
                let blob = Content::new(&self.buffers, 1).gathered();
                let what = MadeOf::Packed { extents, is_taken };
                return Ok(Made { what, content: content.gathered(), blob });
            }
            (Task::Metabox(Portion { half, bytes }), _) => {
                let mut extents = Vec::new();
                let how = self.job.plan.methods.metabox().ok_or(Error::Cancelled)?;
                tools.fillers.get(how)?.fill(&bytes, Some(0), End::Cluster, &mut content, &mut extents)?;
                let blob = Content::new(&self.buffers, 1).gathered();
                return Ok(Made { what: MadeOf::Metabox(half, extents), content: content.gathered(), blob });
            }
            (Task::Packed(_), None) => return Err(Error::Cancelled),
        };
        let mut making = Making {
            packer: self,
            content,
            fillers: &mut tools.fillers,
            raw: Vec::new(),
            sections: Sections::new(self.known),
            blob: options.blob.is_some().then(|| Content::new(&self.buffers, options.block_size as usize)),
            chunks: HashSet::new(),
            items: Vec::new(),
        };
        match batch {
            Batch::Nodes(range) => {
                let mut files = 0;
                let mut bytes = 0;
                for &id in self.job.plan.order.get(range).unwrap_or_default() {
                    if has_content(self.job.tree.node(id)) {
                        self.check()?;
                        files += 1;
                    }
                    bytes += making.node(id, &mut *tools.reader)?;
                }
                self.job.progress.advance(files, bytes);
            }
            Batch::Part(id, shape, part) => {
                self.check()?;
                let bytes = part.stored.end - part.stored.start;
                let is_last = part.all.end == shape.size;
                making.part(id, shape, &part, &mut *tools.reader)?;
                self.job.progress.advance(u64::from(is_last), bytes);
            }
        }
        let Making { content, blob, sections: Sections { tails, fragments, .. }, items, .. } = making;
        let blob = blob.unwrap_or_else(|| Content::new(&self.buffers, 1)).gathered();
        Ok(Made { what: MadeOf::Batch { items, tails, fragments }, content: content.gathered(), blob })
    }
}

impl Packer<'_> {
    /// An error if the caller, or another thread's failure, wants this one to stop.
    pub(super) fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        self.job.options.check_cancelled()
    }

    /// Whether the SHA-256 of files is needed.
    fn wants_digests(&self, is_compressed: bool) -> bool {
        let BuildOptions { fingerprint, uuid, base, .. } = self.job.options;
        *fingerprint || uuid.is_none() || base.is_some() || (self.known.is_some() && !is_compressed)
    }

    /// The key of a file that is stored as it is, if it has blocks to share.
    fn plain_key(&self, id: NodeId, shape: &Shape, digest: Option<&[u8; 32]>) -> Option<Key> {
        match &self.job.tree.node(id).kind {
            Kind::Regular(file) if shape.blocks > 0 => {
                self.known.zip(digest).map(|(known, digest)| known.plain_key(digest, file, shape))
            }
            _ => None,
        }
    }

    /// Hashes a hole; it is part of what the file says. If there are too many zeros to hash, the digest is not a
    /// fingerprint, and their number is as good.
    fn hash_hole(&self, mut length: u64, is_short: bool, hash: &mut Sha256) -> Result<()> {
        if !is_short {
            hash.update(length.to_le_bytes());
            return Ok(());
        }
        while length > 0 {
            self.check()?;
            let now = length.min(ZEROS.len() as u64);
            hash.update(ZEROS.get(..usize::try_from(now).unwrap_or(0)).unwrap_or_default());
            length -= now;
        }
        Ok(())
    }
}

struct Making<'a, 'b> {
    packer: &'a Packer<'b>,
    content: Content<'a>,
    fillers: &'a mut Fillers<'b>,
    /// The bytes that are being compressed.
    raw: Vec<u8>,
    sections: Sections<'a>,
    /// Where chunks go, if not into the image.
    blob: Option<Content<'a>>,
    /// The chunks that this job made.
    chunks: HashSet<Key>,
    items: Vec<Item>,
}

impl<'b> Making<'_, 'b> {
    /// A whole node; returns how many bytes of it were read.
    fn node(&mut self, id: NodeId, reader: &mut dyn ContentReader) -> Result<u64> {
        let Job { options, plan, tree, .. } = self.packer.job;
        let node = tree.node(id);
        let mut start = self.content.bytes();
        let tail = self.sections.tails.len();
        let (mut digest, mut key) = (None, None);
        let stored = match &node.kind {
            Kind::Regular(file) if file.size > 0 => {
                let open = reader.open(id)?;
                let stored;
                if options.chunk_bits(file).is_some() {
                    self.read_raw(&*open, 0..file.size)?;
                    digest = self.packer.wants_digests(true).then(|| Sha256::digest(&self.raw).into());
                    stored = self.chunks(Shape::of(options, plan, tree, id))?;
                } else if let Some(how) = self.method(id, file, &*open)?
                    && let Some(made) = self.compressed_file(id, how, file, &*open)?
                {
                    (stored, digest) = made;
                } else {
                    self.content.pad();
                    start = self.content.bytes();
                    (stored, digest) = self.plain_file(id, &*open)?;
                    if let Stored::Plain { shape, .. } = &stored {
                        key = self.packer.plain_key(id, shape, digest.as_ref());
                        let known = self.packer.known.zip(key);
                        if known.is_some_and(|(known, key)| known.plain(key, shape.blocks).is_some()) {
                            self.content.rewind(start);
                        }
                    }
                }
                open.check()?;
                stored
            }
            kind => {
                let shape = Shape::of(options, plan, tree, id);
                if let Kind::Symlink(target) = kind {
                    let (blocks, rest) = target.split_at(target.len() - shape.tail as usize);
                    if !blocks.is_empty() {
                        self.content.pad();
                        start = self.content.bytes();
                        self.content.put(blocks);
                        self.content.pad();
                    }
                    self.sections.tails.extend_from_slice(rest);
                }
                Stored::Plain { shape, tail: tail..self.sections.tails.len() }
            }
        };
        let content = start..self.content.bytes();
        self.items.push(Item { id, content, stored, digest, key, is_first: true, is_last: true });
        Ok(if let Kind::Regular(file) = &node.kind { file.stored_bytes() } else { 0 })
    }

    fn plain_file(&mut self, id: NodeId, open: &dyn source::Content) -> Result<(Stored, Option<[u8; 32]>)> {
        let Job { options, plan, tree, .. } = self.packer.job;
        let shape = Shape::of(options, plan, tree, id);
        let tail = self.sections.tails.len();
        let mut hash = self.packer.wants_digests(false).then(Sha256::new);
        for part in parts(tree, id, shape, options.block_size.into()) {
            self.read(open, &part, &shape)?;
            if let Some(hash) = &mut hash {
                self.hash(id, &part, &shape, hash)?;
            }
            self.content.pad();
        }
        let stored = Stored::Plain { shape, tail: tail..self.sections.tails.len() };
        Ok((stored, hash.map(|hash| hash.finalize().into())))
    }

    /// A file in clusters; nothing if these are no smaller than the file as it is.
    fn compressed_file(
        &mut self,
        id: NodeId,
        how: usize,
        file: &Regular,
        open: &dyn source::Content,
    ) -> Result<Option<(Stored, Option<[u8; 32]>)>> {
        self.read_raw(open, 0..file.size)?;
        let digest = self.packer.wants_digests(true).then(|| Sha256::digest(&self.raw).into());
        let old = self.packer.old(digest.as_ref(), file.size, how)?;
        let (start, tails) = (self.content.bytes(), self.sections.tails.len());
        let stored = self.compress(id, how, file, 0, old)?;
        // What equal contents and fragments take is known when they are committed only.
        let Job { options, plan, tree, .. } = self.packer.job;
        let has_all = self.packer.known.is_none()
            && matches!(&stored, Stored::Compressed(made) if !matches!(made.ending, Ending::Fragment(_)));
        let taken = self.content.bytes() - start + (self.sections.tails.len() - tails) as u64;
        let plain = Shape::of(options, plan, tree, id);
        if has_all && taken >= plain.blocks * u64::from(options.block_size) + u64::from(plain.tail) {
            self.content.rewind(start);
            self.sections.tails.truncate(tails);
            return Ok(None);
        }
        Ok(Some((stored, digest)))
    }

    /// A part of a large file, alone in its job.
    fn part(&mut self, id: NodeId, shape: Shape, part: &Part, reader: &mut dyn ContentReader) -> Result<()> {
        let Job { options, tree, .. } = self.packer.job;
        let Kind::Regular(file) = &tree.node(id).kind else { return Ok(()) };
        let open = reader.open(id)?;
        let is_chunked = options.chunk_bits(file).is_some();
        let method = if is_chunked { None } else { self.method(id, file, &*open)? };
        let is_compressed = is_chunked || method.is_some();
        let early = if method.is_some() {
            self.packer.early(id, file.size, part.all.start == 0, &*open)?
        } else {
            None
        };
        let is_last = part.all.end == shape.size;
        let mut plain = part.clone();
        if is_compressed {
            self.read_raw(&*open, part.all.clone())?;
        } else {
            // Where compression was wanted but is not worth it, the parts are cut for it all the same.
            plain.stored.end =
                plain.stored.end.min(shape.size - u64::from(shape.tail)).max(plain.stored.start);
            self.read(&*open, &plain, &shape)?;
        }
        open.check()?;
        let packer = self.packer;
        let mut digest = None;
        if packer.wants_digests(is_compressed) {
            let add = |hash: &mut Sha256| {
                if is_compressed {
                    hash.update(&self.raw);
                    return Ok(());
                }
                self.hash(id, &plain, &shape, hash)
            };
            digest = packer.chain.add(id, part.all.clone(), shape.size, packer.stop, add)?;
        }
        if early.zip(digest).is_some_and(|(early, digest)| early != digest) {
            return Err(Error::Changed { path: tree.path_of(id), what: "was written to" });
        }
        let stored = if is_chunked {
            self.chunks(shape)?
        } else if let Some(how) = method {
            let old = packer.old(early.as_ref(), file.size, how)?;
            self.compress(id, how, file, part.all.start, old)?
        } else {
            self.content.pad();
            Stored::Plain { shape, tail: 0..self.sections.tails.len() }
        };
        let key = if is_compressed { None } else { packer.plain_key(id, &shape, digest.as_ref()) };
        let (content, is_first) = (0..self.content.bytes(), part.all.start == 0);
        self.items.push(Item { id, content, stored, digest, key, is_first, is_last });
        Ok(())
    }

    /// Cuts what was read into chunks.
    fn chunks(&mut self, shape: Shape) -> Result<Stored> {
        let known = self.packer.known.ok_or(Error::Cancelled)?;
        let length = (self.packer.job.options.block_size as usize) << shape.chunk_bits;
        let content = self.blob.as_mut().unwrap_or(&mut self.content);
        let chunks = chunks::cut(&self.raw, length, known, &mut self.chunks, content);
        Ok(Stored::Chunks(shape, chunks))
    }

    /// How a file is compressed, if it is: what the plan says, and samples of it if it is not small.
    fn method(&mut self, id: NodeId, file: &Regular, open: &dyn source::Content) -> Result<Option<usize>> {
        let Some(how) = self.packer.job.plan.methods.of(id, file) else { return Ok(None) };
        let filler = self.fillers.get(how)?;
        // What becomes of a file, or of a part of one, depends on no other.
        filler.restart();
        if file.size < 4 * SAMPLE as u64 {
            return Ok(Some(how));
        }
        let is_worth_it = filler.is_worth_it(file.size, |buffer, at| open.read(buffer, at))?;
        Ok(is_worth_it.then_some(how))
    }

    fn read_raw(&mut self, open: &dyn source::Content, range: Range<u64>) -> Result<()> {
        self.raw.clear();
        // A part, or a file that is no larger than one.
        self.raw.resize(usize::try_from(range.end - range.start).unwrap_or(usize::MAX), 0);
        open.read(&mut self.raw, range.start)
    }

    /// Compresses what was read, which is in the file from `start` on, or takes it from the `old` file.
    fn compress(
        &mut self,
        id: NodeId,
        how: usize,
        file: &Regular,
        start: u64,
        old: Option<(Old<'b>, Like)>,
    ) -> Result<Stored> {
        let is_last = start + self.raw.len() as u64 == file.size;
        let Job { options, plan, tree, .. } = self.packer.job;
        let Some(compression) = plan.methods.all().get(how) else { return Err(Error::Cancelled) };
        if compression.all_fragments && is_last && start == 0 {
            return Ok(Stored::Compressed(self.sections.as_fragment(&self.raw)));
        }
        let filler = self.fillers.get(how)?;
        let end = match compression {
            how if is_last && how.fragments => End::Left,
            how if is_last && how.inline && !plan.is_dense => {
                let room = u64::from(options.block_size).checked_sub(Map::most(
                    file.size,
                    64 + plan.xattr_size(tree.node(id)),
                    options.block_size.into(),
                ));
                room.map_or(End::Cluster, |room| End::LeftIfSmall(usize::try_from(room).unwrap_or(0)))
            }
            _ => End::Cluster,
        };
        // The room beside the inode depends on the xattrs, which need not be what they were.
        let has_same_room = |old: &Old<'_>| old.xattr_size() == plan.xattr_size(tree.node(id));
        let old = old.filter(|(old, _)| !matches!(end, End::LeftIfSmall(_)) || has_same_room(old));
        let mut supply = Supply { filler, old, start };
        self.sections.compress(&self.raw, how, end, &mut supply, &mut self.content).map(Stored::Compressed)
    }

    /// Reads what is stored of a part.
    fn read(&mut self, open: &dyn source::Content, part: &Part, shape: &Shape) -> Result<()> {
        let mut at = part.stored.start;
        while at < part.stored.end {
            let room = self.content.room(part.stored.end - at);
            open.read(room, at)?;
            let length = room.len();
            self.content.filled(length);
            at += length as u64;
        }
        if part.all.end == shape.size && shape.tail > 0 {
            let tails = &mut self.sections.tails;
            let start = tails.len();
            tails.resize(start + shape.tail as usize, 0);
            open.read(&mut tails[start..], shape.size - u64::from(shape.tail))?;
        }
        Ok(())
    }

    /// Hashes a part that was read a moment ago, with what is not stored of it.
    fn hash(&self, id: NodeId, part: &Part, shape: &Shape, hash: &mut Sha256) -> Result<()> {
        let node = self.packer.job.tree.node(id);
        let is_short = !matches!(&node.kind, Kind::Regular(file) if !file.has_short_holes());
        self.packer.hash_hole(part.stored.start - part.all.start, is_short, hash)?;
        self.content.hash_last(part.stored.end - part.stored.start, hash);
        if part.all.end == shape.size && shape.tail > 0 {
            let tails = &self.sections.tails;
            hash.update(&tails[tails.len() - shape.tail as usize..]);
            return Ok(());
        }
        self.packer.hash_hole(part.all.end - part.stored.end, is_short, hash)
    }
}
