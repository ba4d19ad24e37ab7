//! The order in which contents are stored.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};

use crate::options::{BuildOptions, DataOrder};
use crate::tree::{Kind, NodeId, ROOT, Tree};

/// Puts nodes, which are in the order of the tree, into the order that was asked for. Returns how many of the
/// listed paths name nothing.
pub(super) fn arrange(order: &mut Vec<NodeId>, tree: &Tree, options: &BuildOptions) -> u64 {
    let has_fragments = options.compression.as_ref().is_some_and(|how| how.fragments);
    match &options.order {
        DataOrder::Listed(paths) => return listed(order, tree, paths),
        DataOrder::Similar => similar(order, tree),
        DataOrder::Usual if has_fragments => similar(order, tree),
        DataOrder::Usual | DataOrder::Path => {}
    }
    0
}

/// Files of the same name follow one another. Each such group stands where the first of it would, so that what
/// else is near stays near; inside it those come together whose directories have the same names.
fn similar(order: &mut [NodeId], tree: &Tree) {
    let ranks = ranks_from_the_end(tree);
    let mut groups = HashMap::new();
    let mut keys: Vec<(usize, u32, NodeId)> = order
        .iter()
        .map(|&id| {
            let entry = tree.first_entry(id);
            let next = groups.len();
            let group = *groups.entry(tree.name(entry)).or_insert(next);
            (group, ranks[entry.dir as usize], id)
        })
        .collect();
    keys.sort_unstable();
    for (place, (.., id)) in order.iter_mut().zip(keys) {
        *place = id;
    }
}

/// The place of each directory among all of them, sorted by their paths from the last name to the first.
fn ranks_from_the_end(tree: &Tree) -> Vec<u32> {
    let name = |id: NodeId| tree.name(tree.first_entry(id));
    let mut directories: Vec<NodeId> =
        (0..).zip(&tree.nodes).filter(|(_, node)| node.is_dir()).map(|(id, _)| id).collect();
    directories.sort_unstable_by(|&a, &b| {
        let (mut a, mut b) = (a, b);
        while a != b && a != ROOT && b != ROOT {
            match name(a).cmp(name(b)) {
                Ordering::Equal => (a, b) = (tree.parent(a), tree.parent(b)),
                unequal => return unequal,
            }
        }
        (a != ROOT).cmp(&(b != ROOT))
    });
    let mut ranks = vec![0; tree.nodes.len()];
    for (rank, id) in (0..).zip(directories) {
        ranks[id as usize] = rank;
    }
    ranks
}

/// Puts off what has to lie at a multiple of `unit` blocks until what follows it has filled the gap before. Nodes
/// come with their blocks, the first of which is `start`, and whether they have to be aligned.
pub(super) fn fill_gaps(
    nodes: impl Iterator<Item = (NodeId, u64, bool)>,
    start: u64,
    unit: u64,
) -> Vec<NodeId> {
    let mut order = Vec::with_capacity(nodes.size_hint().0);
    let mut waiting: VecDeque<(NodeId, u64)> = VecDeque::new();
    let mut end = start;
    for (id, blocks, is_aligned) in nodes {
        if is_aligned {
            waiting.push_back((id, blocks));
        } else {
            // One that has waited for long enough.
            while end + blocks > end.next_multiple_of(unit)
                && let Some((aligned, length)) = waiting.pop_front()
            {
                order.push(aligned);
                end = end.next_multiple_of(unit) + length;
            }
            order.push(id);
            end += blocks;
        }
        while end.is_multiple_of(unit)
            && let Some((aligned, length)) = waiting.pop_front()
        {
            order.push(aligned);
            end += length;
        }
    }
    order.extend(waiting.into_iter().map(|(id, _)| id));
    order
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
            entries.binary_search_by(|entry| tree.name(entry).cmp(name)).ok().map(|nth| entries[nth].node)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_filled_with_what_follows_and_nothing_is_lost() {
        let fill = |nodes: &[(NodeId, u64, bool)]| fill_gaps(nodes.iter().copied(), 3, 8);
        assert_eq!(fill(&[(0, 9, true), (1, 2, false), (2, 3, false), (3, 4, false)]), [1, 2, 0, 3]);
        assert_eq!(fill(&[(0, 9, true), (1, 100, false), (2, 1, false)]), [0, 1, 2]);
        assert_eq!(fill(&[(0, 5, false), (1, 8, true), (2, 9, true), (3, 16, true)]), [0, 1, 2, 3]);
        assert_eq!(fill(&[(0, 0, false), (1, 0, true)]), [0, 1]);
    }
}
