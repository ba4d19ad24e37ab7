//! Hard links: which entry a further name belongs to.
//!
//! An inode with several links is remembered from its first name to its last, by the number of links that the
//! image claims, so a table for an honest image holds only what is under way. A lying one could fill memory,
//! so the table has a bound; an inode that finds no room is extracted anew for each of its names.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, PoisonError};

use erofs_image::Inode;

use crate::context::lock;
use crate::select::Step;

/// Bytes that the table may take, about.
const ROOM: usize = 48 << 20;
/// Bytes of an entry besides its name: the key, the slot, the allocation.
const ENTRY: usize = 160;
/// Names that may wait for a first one, before the walk does too.
const MAX_WAITING: usize = 4096;

/// What is to be done with a name. `P` is the place of a name: what it takes to link to it or to make it.
pub(crate) enum Meet<P> {
    /// It has one name only, as far as anybody needs to know.
    Single,
    /// It is the first of several: [`Links::settle`] must be called.
    First,
    /// The first one is still being made, and this one will be made by who settles it.
    Waits,
    /// Too many wait already: the caller has to see to it that the first one is made, see
    /// [`Links::wait`], and to ask again.
    Full,
    /// The first one, with this path, is there.
    Made(P, Vec<u8>),
    /// The first one, with this path, could not be made.
    Lost(Vec<u8>),
}

/// A further name that waited, see [`Meet::Waits`].
pub(crate) struct Waiting<P> {
    pub(crate) place: P,
    pub(crate) step: Step,
}

enum State<P> {
    Pending(Vec<Waiting<P>>),
    Made,
    Lost,
}

struct Group<P> {
    place: P,
    /// The path of the first name.
    path: Vec<u8>,
    /// Names that are still to come.
    left: u32,
    state: State<P>,
}

pub(crate) struct Links<P> {
    table: Mutex<Table<P>>,
    settled: Condvar,
}

struct Table<P> {
    groups: HashMap<u64, Group<P>>,
    room: usize,
}

impl<P: Clone> Links<P> {
    pub(crate) fn new() -> Self {
        let table = Table { groups: HashMap::new(), room: ROOM };
        Self { table: Mutex::new(table), settled: Condvar::new() }
    }

    /// Says what to do with the name `step` at `place`. Places that it gives up are put into `unused`.
    pub(crate) fn meet(&self, step: &Step, place: &P, unused: &mut Vec<P>) -> Meet<P> {
        let Inode { nid, nlink, .. } = step.inode;
        if nlink < 2 || step.inode.is_dir() {
            return Meet::Single;
        }
        let mut table = lock(&self.table);
        let Some(group) = table.groups.get_mut(&nid) else {
            let needed = ENTRY + step.path.len();
            let Some(room) = table.room.checked_sub(needed) else { return Meet::Single };
            table.room = room;
            let (place, path) = (place.clone(), step.path.clone());
            let group = Group { place, path, left: nlink - 1, state: State::Pending(Vec::new()) };
            table.groups.insert(nid, group);
            return Meet::First;
        };
        let met = match &mut group.state {
            State::Pending(waiting) if waiting.len() >= MAX_WAITING => return Meet::Full,
            State::Pending(waiting) => {
                waiting.push(Waiting { place: place.clone(), step: step.clone() });
                Meet::Waits
            }
            State::Made => Meet::Made(group.place.clone(), group.path.clone()),
            State::Lost => Meet::Lost(group.path.clone()),
        };
        group.left = group.left.saturating_sub(1);
        if group.left == 0 && !matches!(group.state, State::Pending(_)) {
            unused.extend(table.forget(nid));
        }
        met
    }

    /// Waits until the first name of `nid` is settled, which another thread has to do.
    pub(crate) fn wait(&self, nid: u64) {
        let pending = |table: &mut Table<P>| {
            table.groups.get(&nid).is_some_and(|group| matches!(group.state, State::Pending(_)))
        };
        drop(self.settled.wait_while(lock(&self.table), pending).unwrap_or_else(PoisonError::into_inner));
    }

    /// Says whether the first name of `nid` could be made. Returns its place and path, and the names that
    /// have waited for it; places that are given up are put into `unused`.
    pub(crate) fn settle(
        &self,
        nid: u64,
        made: bool,
        unused: &mut Vec<P>,
    ) -> Option<(P, Vec<u8>, Vec<Waiting<P>>)> {
        let mut table = lock(&self.table);
        let group = table.groups.get_mut(&nid)?;
        let state = std::mem::replace(&mut group.state, if made { State::Made } else { State::Lost });
        let State::Pending(waiting) = state else { return None };
        let settled = (group.place.clone(), group.path.clone(), waiting);
        if group.left == 0 {
            unused.extend(table.forget(nid));
        }
        drop(table);
        self.settled.notify_all();
        Some(settled)
    }

    /// The places of all that is left, once everything is done.
    pub(crate) fn drain(&self) -> Vec<P> {
        lock(&self.table).groups.drain().map(|(_, group)| group.place).collect()
    }
}

impl<P> Table<P> {
    fn forget(&mut self, nid: u64) -> Option<P> {
        let group = self.groups.remove(&nid)?;
        self.room = self.room.saturating_add(ENTRY + group.path.len());
        Some(group.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(image: &erofs_image::Image, path: &str) -> Step {
        let mut inode = image.inode(image.root_nid()).unwrap();
        // Not a directory, as far as the table is concerned.
        inode = image.resolve(b"file", false).unwrap_or(inode);
        inode.nlink = 3;
        Step { path: path.into(), depth: 1, inode }
    }

    fn image() -> erofs_image::Image {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), b"x").unwrap();
        crate::testing::image_of(dir.path())
    }

    #[test]
    fn a_group_is_forgotten_with_its_last_name() {
        let (image, links, mut unused) = (image(), Links::<u8>::new(), Vec::new());
        assert!(matches!(links.meet(&step(&image, "a"), &1, &mut unused), Meet::First));
        assert!(matches!(links.meet(&step(&image, "b"), &2, &mut unused), Meet::Waits));
        let nid = step(&image, "a").inode.nid;
        let (place, path, waiting) = links.settle(nid, true, &mut unused).unwrap();
        assert_eq!((place, &*path, waiting.len()), (1, &b"a"[..], 1));
        assert!(unused.is_empty());
        assert!(matches!(links.meet(&step(&image, "c"), &3, &mut unused), Meet::Made(1, _)));
        assert_eq!(unused, [1]);
        // An image that claimed too few links gets a new file for the rest.
        assert!(matches!(links.meet(&step(&image, "d"), &4, &mut unused), Meet::First));
        assert_eq!(links.drain(), [4]);
    }

    #[test]
    fn names_that_wait_for_ever_take_bounded_memory() {
        let (image, links, mut unused) = (image(), Links::<u8>::new(), Vec::new());
        let mut one = step(&image, "a");
        one.inode.nlink = u32::MAX;
        assert!(matches!(links.meet(&one, &1, &mut unused), Meet::First));
        let waiting =
            (0..MAX_WAITING * 2).take_while(|_| matches!(links.meet(&one, &1, &mut unused), Meet::Waits));
        assert_eq!(waiting.count(), MAX_WAITING);
        links.settle(one.inode.nid, true, &mut unused);
        links.wait(one.inode.nid);
    }
}
