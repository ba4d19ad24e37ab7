//! The different sets of xattrs that inodes have. Most inodes have none, most others one of few.

use std::collections::HashMap;
use std::sync::Arc;

/// Number of a set; 0 is the empty one.
pub(crate) type SetId = u32;

/// A full name and a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Xattr {
    pub(crate) name: Box<[u8]>,
    pub(crate) value: Box<[u8]>,
}

/// The xattrs of an inode, sorted by name.
pub(crate) type Xattrs = Arc<[Xattr]>;

#[derive(Debug)]
pub(crate) struct Sets {
    sets: Vec<(Xattrs, u64)>,
    ids: HashMap<Xattrs, SetId>,
}

impl Default for Sets {
    fn default() -> Self {
        Self { sets: vec![(Xattrs::default(), 0)], ids: HashMap::new() }
    }
}

impl Sets {
    /// The number of the set `xattrs`, which one more inode has.
    pub(crate) fn add(&mut self, xattrs: &Xattrs) -> SetId {
        let id = if xattrs.is_empty() {
            0
        } else if let Some(id) = self.ids.get(xattrs) {
            *id
        } else {
            // There are no more sets than inodes, and those are counted with 32 bits.
            let id = SetId::try_from(self.sets.len()).unwrap_or(SetId::MAX);
            self.sets.push((Arc::clone(xattrs), 0));
            self.ids.insert(Arc::clone(xattrs), id);
            id
        };
        self.sets[id as usize].1 += 1;
        id
    }

    /// One more inode has the set of this number.
    pub(crate) fn again(&mut self, id: SetId) {
        self.sets[id as usize].1 += 1;
    }

    /// One inode less has the set of this number.
    pub(crate) fn remove(&mut self, id: SetId) {
        let uses = &mut self.sets[id as usize].1;
        *uses = uses.saturating_sub(1);
    }

    /// An inode that had the set of this number has it with `xattr` now.
    pub(crate) fn extend(&mut self, id: SetId, xattr: Xattr) -> SetId {
        let (known, uses) = &mut self.sets[id as usize];
        *uses -= 1;
        let mut xattrs: Vec<_> = known.iter().cloned().chain([xattr]).collect();
        xattrs.sort();
        self.add(&Xattrs::from(xattrs))
    }

    /// Every set with the number of inodes that have it, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[Xattr], u64)> {
        self.sets.iter().map(|(xattrs, uses)| (&**xattrs, *uses))
    }
}
