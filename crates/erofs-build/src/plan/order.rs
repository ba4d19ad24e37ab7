//! The order in which contents are stored.

use std::cmp::Ordering;

use crate::options::DataOrder;
use crate::tree::{Kind, NodeId, ROOT, Tree};

/// Puts nodes, which are in the order of the tree, into the order that was asked for. Returns how many of the
/// listed paths name nothing.
pub(super) fn arrange(order: &mut Vec<NodeId>, tree: &Tree, how: &DataOrder) -> u64 {
    match how {
        DataOrder::Path => 0,
        DataOrder::Similar => {
            *order = similar(order, tree);
            0
        }
        DataOrder::Listed(paths) => listed(order, tree, paths),
    }
}

/// Files of the same name, in directories of the same name, follow one another: neighbouring versions of a
/// file do. Each such group stands where the first of it would, so that what else is near stays near.
fn similar(order: &[NodeId], tree: &Tree) -> Vec<NodeId> {
    let name = |id: NodeId| &*tree.first_entry(id).name;
    let compare = |a: &NodeId, b: &NodeId| -> Ordering {
        let by_name = name(*a).cmp(name(*b));
        let parent = |id| Some(tree.parent(id)).filter(|dir| *dir != ROOT).map(name);
        by_name.then_with(|| parent(*a).cmp(&parent(*b)))
    };
    let mut by_name = order.to_vec();
    by_name.sort_unstable_by(|a, b| compare(a, b).then(a.cmp(b)));
    // Each node with the first of its group.
    let mut groups = Vec::with_capacity(order.len());
    for group in by_name.chunk_by(|a, b| compare(a, b).is_eq()) {
        groups.extend(group.iter().map(|id| (group[0], *id)));
    }
    drop(by_name);
    groups.sort_unstable();
    groups.into_iter().map(|(_, id)| id).collect()
}

/// What is listed comes first, as it is listed; a directory stands for everything below it.
fn listed(order: &mut Vec<NodeId>, tree: &Tree, paths: &[Vec<u8>]) -> u64 {
    let mut is_taken = vec![false; tree.nodes.len()];
    let mut first = Vec::new();
    let mut unknown = 0;
    for path in paths {
        let Some(found) = find(tree, path) else {
            unknown += 1;
            continue;
        };
        let mut stack = vec![found];
        while let Some(id) = stack.pop() {
            if matches!(tree.node(id).kind, Kind::Directory { .. }) {
                stack.extend(tree.children(id).iter().rev().map(|entry| entry.node));
            } else if !std::mem::replace(&mut is_taken[id as usize], true) {
                first.push(id);
            }
        }
    }
    first.extend(order.iter().filter(|id| !is_taken[**id as usize]));
    *order = first;
    unknown
}

/// The node at a path below the root; a leading `/` and `.` mean nothing.
fn find(tree: &Tree, path: &[u8]) -> Option<NodeId> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").try_fold(
        ROOT,
        |dir, name| {
            let entries = tree.children(dir);
            entries.binary_search_by(|entry| (*entry.name).cmp(name)).ok().map(|nth| entries[nth].node)
        },
    )
}
