//! The contents of an image in pieces of work.

use std::ops::Range;

use super::{Plan, stored_chunks};
use crate::inode::Shape;
use crate::options::BuildOptions;
use crate::tree::{Kind, NodeId, Tree};

/// A batch is closed when it has so many bytes to read; larger files are worked on in parts of this size.
/// A multiple of every block size.
const BATCH_BYTES: u64 = 1 << 20;

/// Files that are compressed are worked on in larger parts, since a part ends with a cluster that is not full.
pub(crate) const COMPRESSED_BYTES: u64 = 8 << 20;

/// A batch is closed when it has so many nodes.
const BATCH_NODES: usize = 1024;

/// What a thread works on at once.
#[derive(Debug)]
pub(crate) enum Batch {
    /// Nodes that are no directories, as a range of the order.
    Nodes(Range<usize>),
    /// A part of a large file.
    Part(NodeId, Shape, Part),
}

/// A part of a file with one run of stored bytes at most, and what has to be known of the bytes around.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The bytes of the file that this part stands for. What is not stored of them is a hole or the tail.
    pub(crate) all: Range<u64>,
    /// The bytes that go into blocks.
    pub(crate) stored: Range<u64>,
}

/// The parts of a file that is compressed, or stored in chunks, which are parts of a part.
fn whole_parts(size: u64, length: u64) -> impl Iterator<Item = Part> {
    (0..size.div_ceil(length)).map(move |nth| {
        let all = nth * length..((nth + 1) * length).min(size);
        Part { all: all.clone(), stored: all }
    })
}

/// The parts of a file, in order: without gaps, and at least one.
pub(crate) fn parts(tree: &Tree, id: NodeId, shape: Shape, block_size: u64) -> impl Iterator<Item = Part> {
    let node = tree.node(id);
    let chunks = match &node.kind {
        Kind::Regular(file) if shape.is_chunked() => Some(stored_chunks(file, block_size, shape.chunk_bits)),
        _ => None,
    };
    let chunk = block_size << shape.chunk_bits;
    let size = shape.size;
    let end = size - u64::from(shape.tail);
    let flat = if chunks.is_none() { Some(0..end) } else { None };
    let mut runs = chunks
        .into_iter()
        .flatten()
        .map(move |(first, end, _)| first * chunk..end.saturating_mul(chunk).min(size))
        .chain(flat)
        .filter(|run| !run.is_empty())
        .peekable();
    let mut run = runs.next();
    let mut at = 0;
    let mut over = false;
    std::iter::from_fn(move || {
        if over {
            return None;
        }
        let stored = match &mut run {
            Some(left) => {
                let stored = left.start..left.end.min(left.start.saturating_add(BATCH_BYTES));
                left.start = stored.end;
                if left.is_empty() {
                    run = runs.next();
                }
                stored
            }
            None => end..end,
        };
        over = run.is_none();
        let all = at..if over { size } else { stored.end };
        at = all.end;
        Some(Part { all, stored })
    })
}

/// Gives out the batches one after the other. They depend on the tree and the options only.
pub(crate) struct Batches<'a> {
    options: &'a BuildOptions,
    plan: &'a Plan,
    tree: &'a Tree,
    /// How many nodes were given out, of those of the order.
    given: usize,
    /// The large file that is being given out.
    large: Option<(NodeId, Shape, Box<dyn Iterator<Item = Part> + Send + 'a>)>,
}

impl<'a> Batches<'a> {
    pub(crate) fn new(options: &'a BuildOptions, plan: &'a Plan, tree: &'a Tree) -> Self {
        Self { options, plan, tree, given: 0, large: None }
    }
}

impl Iterator for Batches<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if let Some((id, shape, parts)) = &mut self.large {
            if let Some(part) = parts.next() {
                return Some(Batch::Part(*id, *shape, part));
            }
            self.large = None;
        }
        let (tree, order) = (self.tree, &self.plan.order);
        let first = self.given;
        let mut reads = 0u64;
        while let Some(&id) = order.get(self.given) {
            let node = tree.node(id);
            if let Kind::Regular(file) = &node.kind {
                let is_compressed = self.plan.methods.of(id, file).is_some();
                let block_size = u64::from(self.options.block_size);
                let chunk = self.options.chunk_bits(file).map(|bits| block_size << bits);
                let length =
                    if is_compressed { COMPRESSED_BYTES } else { BATCH_BYTES.max(chunk.unwrap_or(0)) };
                if file.size > length {
                    if self.given > first {
                        break;
                    }
                    self.given += 1;
                    let shape = Shape::of(self.options, self.plan, tree, id);
                    let parts: Box<dyn Iterator<Item = Part> + Send> = if is_compressed || chunk.is_some() {
                        Box::new(whole_parts(file.size, length))
                    } else {
                        Box::new(parts(tree, id, shape, block_size))
                    };
                    self.large = Some((id, shape, parts));
                    return self.next();
                }
                reads += file.size;
            }
            self.given += 1;
            if reads >= BATCH_BYTES || self.given - first >= BATCH_NODES {
                break;
            }
        }
        (self.given > first).then_some(Batch::Nodes(first..self.given))
    }
}

#[cfg(test)]
mod tests {
    use erofs_format::inode::DataLayout;

    use super::*;
    use crate::tree::{Key, Names, Node, Regular, Segment};

    const BLOCK: u64 = 4096;

    fn parts_of(size: u64, tail: u32, data: Option<&[(u64, u64)]>) -> Vec<Part> {
        let key = Key::Number(0);
        let data: Option<Box<[Segment]>> =
            data.map(|data| data.iter().map(|&(start, end)| Segment { start, end }).collect());
        let layout = if data.is_some() { DataLayout::ChunkBased } else { DataLayout::FlatInline };
        let kind = Kind::Regular(Regular { size, data, key });
        let node = Node {
            entry: 0,
            uid: 0,
            gid: 0,
            nlink: 1,
            mtime: (0, 0),
            permissions: 0,
            source: 0,
            xattrs: 0,
            kind,
        };
        let tree =
            Tree { sources: Vec::new(), nodes: vec![node], entries: Vec::new(), names: Names::default() };
        let shape = Shape { layout, extended: false, size, blocks: 0, tail, chunk_bits: 0, core: 0 };
        parts(&tree, 0, shape, BLOCK).collect()
    }

    fn part(all: Range<u64>, stored: Range<u64>) -> Part {
        Part { all, stored }
    }

    #[test]
    fn a_flat_file_is_cut_where_batches_end_and_its_tail_belongs_to_the_last_part() {
        let size = 2 * BATCH_BYTES + 5000;
        assert_eq!(
            parts_of(size, 904, None),
            [
                part(0..BATCH_BYTES, 0..BATCH_BYTES),
                part(BATCH_BYTES..2 * BATCH_BYTES, BATCH_BYTES..2 * BATCH_BYTES),
                part(2 * BATCH_BYTES..size, 2 * BATCH_BYTES..size - 904),
            ]
        );
        assert_eq!(parts_of(10, 10, None), [part(0..10, 0..0)]);
        assert_eq!(parts_of(BATCH_BYTES, 0, None), [part(0..BATCH_BYTES, 0..BATCH_BYTES)]);
    }

    #[test]
    fn holes_belong_to_the_part_behind_them_and_the_last_one_to_the_last_part() {
        let parts = parts_of(100 * BLOCK, 0, Some(&[(BLOCK, 2 * BLOCK), (50 * BLOCK, 51 * BLOCK)]));
        assert_eq!(
            parts,
            [part(0..2 * BLOCK, BLOCK..2 * BLOCK), part(2 * BLOCK..100 * BLOCK, 50 * BLOCK..51 * BLOCK)]
        );
    }

    #[test]
    fn a_file_that_is_one_hole_has_one_part() {
        assert_eq!(parts_of(1 << 62, 0, Some(&[])), [part(0..1 << 62, 1 << 62..1 << 62)]);
    }
}
