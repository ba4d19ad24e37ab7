//! The bytes of directories, written when every inode has its number.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::inode::{Data, InodeWriter, Said};
use crate::options::BuildOptions;
use crate::output::Target;
use crate::plan::{Directory, Group, Plan, dirents};
use crate::tree::Tree;

/// Writes all directories but those of the first group, as far as they are not in the metabox; returns that one's
/// bytes, which begin with room for the superblock. `hash` gets everything.
pub(crate) fn write(
    options: &BuildOptions,
    plan: &Plan,
    tree: &Tree,
    nids: &[u64],
    target: &Target,
    mut hash: Option<&mut Sha256>,
) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    for group in &plan.groups {
        let bytes = make(options, plan, tree, nids, group)?.bytes;
        if let Some(hash) = &mut hash {
            hash.update(&bytes);
        }
        if group.bytes.start == 0 {
            head = bytes;
        } else {
            target.write_at(group.bytes.start, &bytes)?;
        }
    }
    Ok(head)
}

/// The bytes of a group.
pub(crate) struct Made {
    pub(crate) bytes: Vec<u8>,
    /// Those for the metabox.
    pub(crate) boxed: Vec<u8>,
}

/// Makes the bytes of a group.
pub(crate) fn make(
    options: &BuildOptions,
    plan: &Plan,
    tree: &Tree,
    nids: &[u64],
    group: &Group,
) -> Result<Made> {
    let block_size = u64::from(options.block_size);
    let writer = InodeWriter { plan, tree, block_size };
    let zeros = |range: &Range<u64>| vec![0; usize::try_from(range.end - range.start).unwrap_or(usize::MAX)];
    let mut made = Made { bytes: zeros(&group.bytes), boxed: zeros(&group.boxed) };
    let put = |bytes: &mut [u8], range: &Range<u64>, at: u64, what: &[u8]| {
        if !what.is_empty() {
            let start = usize::try_from(at - range.start).unwrap_or(usize::MAX);
            bytes[start..start + what.len()].copy_from_slice(what);
        }
    };
    let mut inode_bytes = Vec::new();
    for directory in &plan.directories[group.directories.clone()] {
        let Directory { id, inode, block, shape } = directory;
        options.check_cancelled()?;
        let data = dirents::write(tree, *id, block_size, |node| nids[node as usize]);
        let (blocks, tail) = data.split_at(data.len() - shape.tail as usize);
        inode_bytes.clear();
        writer.put(*id, shape, Said { data: Data::From(*block), digest: None, tail }, &mut inode_bytes);
        if directory.is_boxed(plan) {
            put(&mut made.boxed, &group.boxed, *inode, &inode_bytes);
        } else {
            put(&mut made.bytes, &group.bytes, *inode, &inode_bytes);
        }
        put(&mut made.bytes, &group.bytes, block * block_size, blocks);
    }
    Ok(made)
}
