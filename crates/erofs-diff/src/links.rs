//! Which names are one file: the same ones in both trees?

use std::collections::HashMap;

use crate::node::Node;

/// The groups of names met so far. Only names that both trees have count, since the others are reported anyway, and
/// only files that say they have several. Memory goes with the number of such files.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// For each tree: an inode, and the number of the first path that leads to it.
    first: [HashMap<(u64, u64), u64>; 2],
    next: u64,
}

impl Links {
    /// Takes the next path, and says whether it goes with another earlier path in one tree than in the other.
    pub(crate) fn differ(&mut self, a: &Node, b: &Node) -> bool {
        if a.is_dir() || b.is_dir() {
            return false;
        }
        let number = self.next;
        self.next += 1;
        let [first_a, first_b] = &mut self.first;
        leader(first_a, a, number) != leader(first_b, b, number)
    }
}

fn leader(first: &mut HashMap<(u64, u64), u64>, node: &Node, number: u64) -> u64 {
    if node.facts.nlink > 1 { *first.entry(node.identity()).or_insert(number) } else { number }
}
