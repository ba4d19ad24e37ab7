//! Directory data: which names go into which block, and its bytes.

use erofs_format::dirent::{DIRENT_SIZE, Dirent};
use zerocopy::IntoBytes;

use crate::tree::{NodeId, Tree};

/// The names of a directory in the order of their bytes, "." and ".." among them.
fn names(tree: &Tree, dir: NodeId) -> impl Iterator<Item = (&[u8], NodeId)> {
    let entries = tree.children(dir);
    let before = |name: &[u8]| entries.partition_point(|entry| tree.name(entry) < name);
    let (dot, dot_dot) = (before(b"."), before(b".."));
    let plain =
        |range: std::ops::Range<usize>| entries[range].iter().map(|entry| (tree.name(entry), entry.node));
    plain(0..dot)
        .chain([(&b"."[..], dir)])
        .chain(plain(dot..dot_dot))
        .chain([(&b".."[..], tree.parent(dir))])
        .chain(plain(dot_dot..entries.len()))
}

/// Bytes of a directory's data. Every block but the last counts whole.
pub(crate) fn size(tree: &Tree, dir: NodeId, block_size: u64) -> u64 {
    let mut full = 0;
    let mut used = 0;
    for (name, _) in names(tree, dir) {
        let need = (DIRENT_SIZE + name.len()) as u64;
        if used + need > block_size {
            full += 1;
            used = 0;
        }
        used += need;
    }
    full * block_size + used
}

/// A directory's data, [`size`] bytes. `nid` tells where a node's inode is.
pub(crate) fn write(tree: &Tree, dir: NodeId, block_size: u64, nid: impl Fn(NodeId) -> u64) -> Vec<u8> {
    let mut data = Vec::new();
    let mut block: Vec<(&[u8], NodeId)> = Vec::new();
    let mut used = 0;
    for (name, node) in names(tree, dir) {
        let need = (DIRENT_SIZE + name.len()) as u64;
        if used + need > block_size {
            put_block(&mut data, tree, &block, &nid);
            let aligned = (data.len() as u64).next_multiple_of(block_size);
            data.resize(usize::try_from(aligned).unwrap_or(data.len()), 0);
            block.clear();
            used = 0;
        }
        used += need;
        block.push((name, node));
    }
    put_block(&mut data, tree, &block, &nid);
    data
}

fn put_block(data: &mut Vec<u8>, tree: &Tree, block: &[(&[u8], NodeId)], nid: &impl Fn(NodeId) -> u64) {
    let mut name_at = block.len() * DIRENT_SIZE;
    for (name, node) in block {
        let entry = Dirent {
            nid: nid(*node).into(),
            nameoff: u16::try_from(name_at).unwrap_or(u16::MAX).into(),
            file_type: tree.node(*node).file_type() as u8,
            reserved: 0,
        };
        data.extend_from_slice(entry.as_bytes());
        name_at += name.len();
    }
    for (name, _) in block {
        data.extend_from_slice(name);
    }
}
