//! Makes inodes, those of files without names too, and gives them their places.

use std::mem::take;

use erofs_format::compression::Algorithm;
use sha2::Digest;

use super::{Beside, Committer, Form, Large};
use crate::compress::Compression;
use crate::error::Result;
use crate::inode::{Data, InodeWriter, Said, Shape};
use crate::pack::Job;
use crate::pack::metabox::Metabox;
use crate::pack::sections::Ending;
use crate::pack::work::Task;
use crate::plan::{MAX_BLOCK, nid, too_large};
use crate::tree::{Key, Kind, Node, NodeId, Regular};
use crate::zmap::{Extent, Map, Tail};

impl Committer<'_> {
    /// Makes the inode of a file, all of whose contents have their places.
    pub(super) fn complete(
        &mut self,
        id: NodeId,
        content_digest: Option<&[u8; 32]>,
        large: &Large,
        form: Form,
        beside: Beside<'_>,
    ) -> Result<()> {
        let (plan, tree) = (self.job.plan, self.job.tree);
        let node = tree.node(id);
        let digest = content_digest.filter(|_| plan.has_fingerprint(node));
        let writer = InodeWriter { plan, tree, block_size: self.block_size() };
        let ending = match form {
            Form::Compressed(ending) => ending,
            Form::Plain { shape, tail } => {
                let tail = beside.tails.get(tail).unwrap_or_default();
                let data = if large.chunks.is_empty() {
                    Data::From(large.start / self.block_size())
                } else {
                    Data::Chunks(&large.chunks)
                };
                let said = Said { data, digest, tail };
                self.waiting.add(id, &shape, |out| writer.put(id, &shape, said, out));
                return Ok(());
            }
        };
        let (map_tail, tail) = match ending {
            Ending::Nothing => (Tail::Nothing, &[][..]),
            Ending::Fragment(fragment) => {
                let offset = self.fragment(&fragment, beside.fragments, content_digest)?;
                (Tail::Fragment { llen: fragment.llen, offset }, &[][..])
            }
            Ending::Inline { tail, llen, is_coded } => {
                let bytes = beside.tails.get(tail).unwrap_or_default();
                let plen = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
                (Tail::Inline { llen, plen, is_coded }, bytes)
            }
        };
        let how = match &node.kind {
            Kind::Regular(file) => plan.methods.of(id, file),
            _ => None,
        };
        let map = self.map(how, &large.extents, map_tail);
        let shape = Shape::compressed(plan, node, &map);
        let said = Said { data: Data::Mapped(map), digest, tail };
        self.waiting.add(id, &shape, |out| writer.put(id, &shape, said, out));
        Ok(())
    }

    /// Makes the inodes of packed inode and metabox, which come last.
    pub(super) fn hidden_inodes(&mut self) {
        let methods = &self.job.plan.methods;
        let extents = take(&mut self.packed.extents);
        if !extents.is_empty() {
            self.hidden_inode(self.map(methods.usual(), &extents, Tail::Nothing));
        }
        if let Some(extents) = self.metabox.as_mut().map(Metabox::extents) {
            // Directories are at its beginning but were written last, which no short index can say.
            let map = self.map(methods.metabox(), &extents, Tail::Nothing);
            self.hidden_inode(Map { is_dense: true, ..map });
        }
    }

    fn hidden_inode(&mut self, map: Map<'_>) {
        let id = NodeId::try_from(self.nids.len()).unwrap_or(NodeId::MAX);
        let (plan, tree) = (self.job.plan, self.job.tree);
        let node = Node {
            entry: 0,
            uid: 0,
            gid: 0,
            nlink: 1,
            mtime: (plan.times.epoch, plan.times.fixed_nsec),
            permissions: 0,
            source: 0,
            xattrs: 0,
            // Its size is that of the map; as a file without content it carries no fingerprint.
            kind: Kind::Regular(Regular { size: 0, data: None, key: Key::Number(0) }),
        };
        let shape = Shape::compressed(plan, &node, &map);
        let writer = InodeWriter { plan, tree, block_size: self.block_size() };
        let said = Said { data: Data::Mapped(map), digest: None, tail: &[] };
        self.nids.push(0);
        self.waiting.add(id, &shape, |out| writer.put_node(id, &node, &shape, said, out));
    }

    /// The map of a file that is compressed in the way of this number.
    fn map<'b>(&self, how: Option<usize>, extents: &'b [Extent], tail: Tail) -> Map<'b> {
        let Job { options, plan, .. } = self.job;
        let how = how.and_then(|number| plan.methods.all().get(number));
        Map {
            extents,
            tail,
            algorithm: how.map_or(Algorithm::Lz4, Compression::algorithm),
            is_big: how.is_some_and(|how| how.cluster > options.block_size),
            is_dense: plan.is_dense,
            block_bits: options.block_size.trailing_zeros(),
        }
    }

    /// Gives the inodes that wait their places, in the metabox if there is one.
    pub(super) fn lay_out(&mut self) -> Result<()> {
        let block_size = self.block_size();
        let Some(metabox) = &mut self.metabox else { return self.lay_out_outside() };
        let taken = metabox.take_run(&mut self.waiting, block_size);
        for (id, nid) in taken.nids {
            self.nids[id as usize] = nid;
        }
        if let Some(hash) = &mut self.hash {
            hash.update(taken.bytes);
        }
        Ok(())
    }

    /// What is still to go into the metabox, when everything else has its place.
    pub(super) fn last_portion(&mut self) -> Result<Option<Task>> {
        if self.metabox.is_some() {
            self.lay_out()?;
        }
        let Some(metabox) = &mut self.metabox else { return Ok(None) };
        let note = |bytes: &[u8]| {
            if let Some(hash) = &mut self.hash {
                hash.update(bytes);
            }
        };
        Ok(metabox.last_portion(self.job, &self.nids, note)?.map(Task::Metabox))
    }

    /// Gives the inodes that wait their places in the image.
    pub(super) fn lay_out_outside(&mut self) -> Result<()> {
        let start = self.end.next_multiple_of(self.block_size());
        let run = self.waiting.lay_out(start, self.block_size());
        self.end = start + run.bytes.len() as u64;
        let blocks = self.end / self.block_size();
        if blocks > MAX_BLOCK {
            return Err(too_large(self.job.tree, "blocks of the image", blocks, MAX_BLOCK));
        }
        for (id, place) in run.places {
            self.nids[id as usize] = nid(place);
        }
        if let Some(hash) = &mut self.hash {
            hash.update(&run.bytes);
        }
        self.buffers.write(start, run.bytes);
        Ok(())
    }
}
