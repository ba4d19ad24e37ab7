//! Hard links taken apart.

use crate::tree::{Entry, Node, NodeId, ROOT, Tree};
use crate::xattr::Sets;

/// Gives every name an inode of its own. Nodes keep their order, as if the source had no hard links.
pub(crate) fn separate(tree: &mut Tree, sets: &mut Sets) {
    if tree.entries.len() + 1 == tree.nodes.len() {
        return;
    }
    // Nodes come in the order of the entries that name them first, so now entry `i` names node `i + 1`. A
    // number of a node fits into 32 bits if that of an entry does: there are fewer than 2^32 of them.
    let number = |index: usize| NodeId::try_from(index).unwrap_or(NodeId::MAX - 1) + 1;
    let mut new_ids = vec![ROOT; tree.nodes.len()];
    for (index, entry) in tree.entries.iter().enumerate() {
        if tree.nodes[entry.node as usize].entry as usize == index {
            new_ids[entry.node as usize] = number(index);
        }
    }
    let mut nodes = Vec::with_capacity(tree.entries.len() + 1);
    nodes.push(copy(&tree.nodes[ROOT as usize], 0));
    for (index, Entry { dir, node, .. }) in tree.entries.iter_mut().enumerate() {
        let shared = &tree.nodes[*node as usize];
        if shared.entry as usize != index {
            sets.again(shared.xattrs);
        }
        nodes.push(copy(shared, number(index) - 1));
        *node = number(index);
        *dir = new_ids[*dir as usize];
    }
    tree.nodes = nodes;
}

/// A node for one name.
fn copy(node: &Node, entry: u32) -> Node {
    let nlink = if node.is_dir() { node.nlink } else { 1 };
    Node { entry, nlink, ..node.clone() }
}
