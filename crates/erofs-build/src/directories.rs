//! The bytes of directories, written when every inode has its number.

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::inode::{Data, InodeWriter, Said};
use crate::options::BuildOptions;
use crate::output::Target;
use crate::plan::{Directory, Group, Plan, dirents};
use crate::tree::Tree;

/// Writes all directories but those of the first group; returns that one's bytes, which begin with room for
/// the superblock. `hash` gets everything.
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
        let bytes = make(options, plan, tree, nids, group)?;
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

fn make(options: &BuildOptions, plan: &Plan, tree: &Tree, nids: &[u64], group: &Group) -> Result<Vec<u8>> {
    let block_size = u64::from(options.block_size);
    let writer = InodeWriter { plan, tree, block_size };
    let mut bytes = vec![0; usize::try_from(group.bytes.end - group.bytes.start).unwrap_or(usize::MAX)];
    let mut put = |at: u64, what: &[u8]| {
        if !what.is_empty() {
            let start = usize::try_from(at - group.bytes.start).unwrap_or(usize::MAX);
            bytes[start..start + what.len()].copy_from_slice(what);
        }
    };
    let mut inode_bytes = Vec::new();
    for Directory { id, inode, block, shape } in &plan.directories[group.directories.clone()] {
        options.check_cancelled()?;
        let data = dirents::write(tree, *id, block_size, |node| nids[node as usize]);
        let (blocks, tail) = data.split_at(data.len() - shape.tail as usize);
        inode_bytes.clear();
        writer.put(*id, shape, Said { data: Data::From(*block), digest: None, tail }, &mut inode_bytes);
        put(*inode, &inode_bytes);
        put(block * block_size, blocks);
    }
    Ok(bytes)
}
