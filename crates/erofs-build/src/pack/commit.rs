//! Gives addresses, in order: what a job made gets its blocks, and its inodes join those that wait.

mod inodes;

use std::mem::take;
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::blob::{Blob, Device};
use super::chunks::Chunk;
use super::content::Gathered;
use super::known::Known;
use super::metabox::{Half, Metabox};
use super::ordered::Commit;
use super::packed::PackedInode;
use super::placing::Placing;
use super::runs::Waiting;
use super::sections::{Compressed, Ending, Fragment, Piece, Whole};
use super::work::{Item, Made, MadeOf, Stored, Task};
use super::writer::Buffers;
use super::{Job, Packed};
use crate::error::{Error, Result};
use crate::inode::{Shape, address_on};
use crate::zmap::Extent;

/// The image as far as it has addresses.
pub(super) struct Committer<'a> {
    job: Job<'a>,
    buffers: Buffers,
    /// The first byte that nobody has.
    end: u64,
    /// The large file whose parts are coming in.
    large: Option<Large>,
    packed: PackedInode,
    metabox: Option<Metabox>,
    /// Contents of the packed inode, or of the metabox, that wait for the end of the large file, whose blocks have to
    /// lie together.
    held: Vec<(Option<Half>, Vec<Extent>, Gathered)>,
    /// What is in the image already, if equal contents are stored once.
    known: Option<&'a Known>,
    /// Bytes of files that share what others stored.
    shared: u64,
    /// Bytes of clusters that were taken from an earlier image.
    taken: u64,
    /// Blobs of earlier builds, and the one that is being written.
    devices: Vec<Device>,
    blob: Option<Blob>,
    waiting: Waiting,
    /// The number of every node's inode, directories having theirs from the plan, of the packed inode, and of the
    /// metabox.
    nids: Vec<u64>,
    /// Bytes of contents.
    content: u64,
    /// Of everything in the image, in order, if the UUID is a digest.
    hash: Option<Sha256>,
}

/// What is known of a file so far: of a large one, whose parts come one by one, while not all are there.
#[derive(Debug, Default)]
struct Large {
    /// Where the image ended before it.
    before: u64,
    /// Where it starts.
    start: u64,
    extents: Vec<Extent>,
    /// The addresses of its chunks.
    chunks: Vec<Option<u64>>,
}

/// What an item's inode is made of, beside what is in [`Large`].
enum Form {
    /// `tail` is a part of the job's tails.
    Plain {
        shape: Shape,
        tail: Range<usize>,
    },
    Compressed(Ending),
}

/// What a job made that lies neither among its contents nor in inodes.
#[derive(Clone, Copy)]
struct Beside<'a> {
    tails: &'a [u8],
    fragments: &'a [u8],
}

impl<'a> Committer<'a> {
    pub(super) fn new(
        job: Job<'a>,
        known: Option<&'a Known>,
        devices: Vec<Device>,
        buffers: Buffers,
    ) -> Self {
        let mut nids = vec![0; job.tree.nodes.len()];
        for directory in &job.plan.directories {
            nids[directory.id as usize] = directory.nid(job.plan);
        }
        let mut packed = PackedInode::new(job.options.block_size as usize, job.base.is_some());
        let (table, prefixes) = job.plan.areas.prefix_table();
        if prefixes > 0 && job.options.compression.as_ref().is_some_and(|how| how.fragments) {
            // Kernels before 6.17 look for the table in the packed inode, if there is one, at the place where
            // it is on the device.
            let table_at = usize::try_from(job.plan.table_at).unwrap_or(0);
            packed.add(&[&vec![0; table_at], &table[..]].concat(), None);
        }
        Self {
            job,
            buffers,
            end: job.plan.content_block * u64::from(job.options.block_size),
            large: None,
            packed,
            metabox: job.plan.is_boxed.then(|| Metabox::new(job)),
            held: Vec::new(),
            known,
            shared: 0,
            taken: 0,
            devices,
            blob: job.options.blob.as_ref().map(|_| Blob::new(job.options.devices())),
            waiting: Waiting::default(),
            nids,
            content: 0,
            hash: job.options.uuid.is_none().then(Sha256::new),
        }
    }

    pub(super) fn packed(mut self) -> Packed {
        let metabox_nid = if self.metabox.is_some() { self.nids.pop() } else { None };
        let packed_nid = if self.nids.len() > self.job.tree.nodes.len() { self.nids.pop() } else { None };
        let block_size = self.block_size();
        let Self { nids, end, content, shared, taken, hash, mut devices, blob, buffers, .. } = self;
        devices.extend(blob.map(|blob| blob.finish(block_size, &buffers)));
        Packed {
            nids,
            packed_nid,
            metabox_nid,
            blocks: end / block_size,
            content_blocks: content.div_ceil(block_size),
            shared,
            taken,
            devices,
            hash,
        }
    }

    fn block_size(&self) -> u64 {
        self.job.options.block_size.into()
    }

    /// Writes contents that start at `start`, where the image ends or somewhat behind.
    fn write(&mut self, start: u64, content: Gathered) {
        self.content += start - self.end;
        self.end = start;
        for buffer in content.full.into_iter().chain([content.last]) {
            let length = buffer.len() as u64;
            self.buffers.write(self.end, buffer);
            self.end += length;
        }
        self.content += self.end - start;
        self.job.progress.stored(self.end - start);
    }

    /// What the place of something has to be a multiple of.
    fn unit(&self, stored: &Stored, is_first: bool) -> u64 {
        let Stored::Plain { shape, .. } = stored else { return 1 };
        match self.job.options.align {
            Some(align) if is_first && shape.is_aligned(align) => align.into(),
            _ if shape.blocks > 0 => self.block_size(),
            _ => 1,
        }
    }

    /// An item, whose contents are the next of its job's, chunks in the blob if there is one.
    fn item(
        &mut self,
        item: Item,
        placing: &mut Placing,
        in_blob: Option<&mut Placing>,
        beside: Beside<'_>,
    ) -> Result<()> {
        let Item { id, digest, is_last, .. } = item;
        let (large, form) = self.place(item, placing, in_blob)?;
        if !is_last {
            self.large = Some(large);
            return Ok(());
        }
        if let Some((hash, digest)) = self.hash.as_mut().zip(digest.as_ref()) {
            hash.update(digest);
        }
        self.complete(id, digest.as_ref(), &large, form, beside)
    }

    /// Gives an item's contents their places, or those of their equals. Returns what is known of the file with it.
    fn place(
        &mut self,
        item: Item,
        placing: &mut Placing,
        mut in_blob: Option<&mut Placing>,
    ) -> Result<(Large, Form)> {
        let Item { stored, is_first, key, content, .. } = item;
        let there = match &stored {
            Stored::Plain { shape, .. } => {
                self.known.zip(key).and_then(|(known, key)| known.plain(key, shape.blocks))
            }
            _ => None,
        };
        let before = placing.next;
        let unit = if there.is_some() { 1 } else { self.unit(&stored, is_first) };
        placing.go_to(content.start, unit);
        let mut large = if is_first {
            Large { before, start: placing.next, ..Large::default() }
        } else {
            self.large.take().unwrap_or_default()
        };
        let form = match stored {
            Stored::Plain { shape, tail } => {
                if let Some(there) = there {
                    placing.drop(content);
                    if !is_first {
                        // The parts that came before lie where the image ends: they are given back.
                        self.content -= self.end - large.before;
                        self.end = large.before;
                        *placing = Placing { start: self.end, next: self.end, ..take(placing) };
                    }
                    large.start = there;
                    self.shared += shape.blocks * self.block_size();
                } else {
                    placing.keep(&content);
                    if let Some((known, key)) = self.known.zip(key) {
                        known.add_plain(key, large.start, shape.blocks);
                    }
                }
                Form::Plain { shape, tail }
            }
            Stored::Chunks(shape, chunks) => {
                for chunk in chunks {
                    let chunks = in_blob.as_deref_mut().unwrap_or(placing);
                    let place = chunk.map(|chunk| self.chunk(chunk, chunks)).transpose()?;
                    large.chunks.push(place);
                }
                Form::Plain { shape, tail: 0..0 }
            }
            Stored::Compressed(made) => Form::Compressed(self.pieces(made, placing, &mut large.extents)?),
        };
        Ok((large, form))
    }

    /// Gives the pieces of a file their places, or those of their equals; returns what follows them.
    fn pieces(
        &mut self,
        made: Compressed,
        placing: &mut Placing,
        extents: &mut Vec<Extent>,
    ) -> Result<Ending> {
        let Compressed { mut pieces, whole, mut ending } = made;
        // What was made of a last section that nobody needs.
        let mut unused = Vec::new();
        if let Some(Whole { fragment, before }) = whole
            && self.known.zip(fragment.key).is_some_and(|(known, key)| known.fragment(key).is_some())
        {
            unused = pieces.split_off(before);
            ending = Ending::Fragment(fragment);
        }
        for piece in pieces {
            let (Some(known), Some(key)) = (self.known, piece.key) else {
                self.note_taken(&piece);
                placing.put(&piece, extents);
                continue;
            };
            match known.section(key) {
                Some(section) => {
                    placing.drop(piece.bytes);
                    known.put_extents(section, extents);
                    self.shared += u64::from(section.covered);
                }
                None if piece.extents.is_empty() => return Err(lost()),
                None => {
                    let first = extents.len();
                    self.note_taken(&piece);
                    placing.put(&piece, extents);
                    known.add_section(key, extents.get(first..).unwrap_or_default(), piece.is_inline)?;
                }
            }
        }
        for piece in unused {
            placing.drop(piece.bytes);
        }
        Ok(ending)
    }

    fn note_taken(&mut self, piece: &Piece) {
        if piece.is_taken {
            self.taken += piece.bytes.end - piece.bytes.start;
        }
    }

    /// The address of a chunk: where its equal is, or at the end of blob or image.
    fn chunk(&mut self, chunk: Chunk, placing: &mut Placing) -> Result<u64> {
        let known = self.known.ok_or_else(lost)?;
        if let Some(there) = known.plain(chunk.key, 1) {
            placing.drop(chunk.bytes);
            self.shared += chunk.length;
            return Ok(there);
        }
        if chunk.bytes.is_empty() {
            return Err(lost());
        }
        let device = self.blob.as_mut().map_or(0, |blob| {
            blob.note(chunk.length);
            blob.device
        });
        let place = address_on(device, placing.next / self.block_size());
        placing.keep(&chunk.bytes);
        known.add_plain(chunk.key, place, chunk.length.div_ceil(self.block_size()));
        Ok(place)
    }

    /// Where a fragment of the file with this digest is in the packed inode: where its equal is, or at the end.
    fn fragment(&mut self, fragment: &Fragment, fragments: &[u8], digest: Option<&[u8; 32]>) -> Result<u64> {
        let known = self.known.zip(fragment.key);
        if let Some(offset) = known.and_then(|(known, key)| known.fragment(key)) {
            self.shared += fragment.llen;
            return Ok(offset);
        }
        let bytes = fragments.get(fragment.bytes.clone()).unwrap_or_default();
        if bytes.len() as u64 != fragment.llen {
            return Err(lost());
        }
        let offset = self.packed.add(bytes, digest).start;
        if let Some((known, key)) = known {
            known.add_fragment(key, offset);
        }
        Ok(offset)
    }

    /// Puts contents of files without names into place.
    fn release(&mut self) {
        if self.large.is_some() {
            return;
        }
        for (half, extents, content) in take(&mut self.held) {
            let base = self.end;
            self.write(base, content);
            if let Some((half, metabox)) = half.zip(self.metabox.as_mut()) {
                metabox.add(half, &extents, base);
                // Inodes are not contents.
                self.content -= self.end - base;
            } else {
                self.packed.extents.extend(extents.iter().map(|extent| extent.moved(base)));
            }
        }
    }
}

impl Commit for Committer<'_> {
    type Job = Task;
    type Made = Made;

    fn commit(&mut self, made: Made) -> Result<Option<Task>> {
        let Made { what, content, blob } = made;
        match what {
            MadeOf::Packed { extents, is_taken } => {
                if is_taken {
                    self.taken += extents.iter().map(|extent| u64::from(extent.plen)).sum::<u64>();
                }
                self.held.push((None, extents, content));
            }
            MadeOf::Metabox(half, extents) => self.held.push((Some(half), extents, content)),
            MadeOf::Batch { items, tails, fragments } => {
                let mut placing = Placing::new(self.end);
                let mut in_blob = self.blob.as_ref().map(|blob| Placing::new(blob.end));
                let beside = Beside { tails: &tails, fragments: &fragments };
                for item in items {
                    self.item(item, &mut placing, in_blob.as_mut(), beside)?;
                }
                if let Some((to, placing)) = self.blob.as_mut().zip(in_blob) {
                    let Gathered { full, last } = blob.edited(&placing.edits);
                    full.into_iter().chain([last]).for_each(|bytes| to.write(bytes, &self.buffers));
                }
                self.write(placing.start, content.edited(&placing.edits));
            }
        }
        self.release();
        if self.large.is_none() && self.waiting.is_full() {
            self.lay_out()?;
        }
        if let Some(segment) = self.packed.segment(false) {
            return Ok(Some(Task::Packed(segment)));
        }
        // If it has to wait, a later commit takes it along.
        Ok(self.metabox.as_mut().and_then(Metabox::portion).map(Task::Metabox))
    }

    fn finish(&mut self) -> Result<Option<Task>> {
        if let Some(rest) = self.packed.segment(true) {
            return Ok(Some(Task::Packed(rest)));
        }
        if let Some(last) = self.last_portion()? {
            return Ok(Some(last));
        }
        self.hidden_inodes();
        self.lay_out_outside()?;
        Ok(None)
    }
}

/// A job left out what was to be in the image before it.
fn lost() -> Error {
    Error::Option { name: "dedupe", reason: "equal contents were not committed in order".into() }
}
