//! Both trees side by side: each path once, a directory before what is in it, names in the order of their bytes.

use std::cmp::Ordering;
use std::collections::{HashSet, VecDeque};

use erofs_image::{Corruption, Where};

use crate::change::{Failure, Fields, Options, Side};
use crate::error::{Error, Result};
use crate::links::Links;
use crate::node::{Listing, Node, Place, Root};

/// Directories one in another on disk; Linux has no name for deeper ones.
const MAX_DEPTH: u64 = 2048;

/// What a path leads to in the two trees.
#[derive(Debug)]
pub(crate) enum Step {
    One { side: Side, path: Box<[u8]>, node: Node },
    Both { path: Box<[u8]>, a: Node, b: Node, links_differ: bool },
    Failed(Failure),
}

/// The walk. Memory goes with the directories on the way down, with the directories of an image that were entered
/// (16 bytes each, so that a loop has an end) and with the files of several names.
#[derive(Debug)]
pub(crate) struct Merge {
    start: Option<[Node; 2]>,
    frames: Vec<Frame>,
    path: Vec<u8>,
    ready: VecDeque<Step>,
    links: Option<Links>,
    entered: [HashSet<u64>; 2],
    visited: [u64; 2],
}

/// A directory of one tree or both.
#[derive(Debug)]
struct Frame {
    levels: [Option<Level>; 2],
    /// How long its path is.
    path: usize,
}

#[derive(Debug)]
struct Level {
    listing: Listing,
    at: usize,
}

const SIDES: [Side; 2] = [Side::A, Side::B];

impl Merge {
    pub(crate) fn new(a: Root, b: Root, options: &Options) -> Self {
        Self {
            start: Some([a.0, b.0]),
            frames: Vec::new(),
            path: Vec::new(),
            ready: VecDeque::new(),
            links: (!options.ignore.contains(Fields::LINKS)).then(Links::default),
            entered: Default::default(),
            visited: [0; 2],
        }
    }

    /// Takes what the current path leads to.
    fn take(&mut self, nodes: [Option<Result<Node>>; 2]) {
        let mut found: [Option<Node>; 2] = [None, None];
        let mut whole = true;
        for ((node, side), found) in nodes.into_iter().zip(SIDES).zip(&mut found) {
            match node {
                Some(Ok(node)) => *found = Some(node),
                Some(Err(error)) => {
                    whole = false;
                    self.fail(side, error);
                }
                None => {}
            }
        }
        // What can't be read on one side may be anything there, and can't be compared with the other.
        if !whole {
            return;
        }
        let levels = [0, 1].map(|side| found[side].as_ref().filter(|node| node.is_dir()).cloned());
        let path = Box::from(self.path.as_slice());
        self.ready.extend(match found {
            [Some(a), Some(b)] => {
                let links_differ = self.links.as_mut().is_some_and(|links| links.differ(&a, &b));
                Some(Step::Both { path, a, b, links_differ })
            }
            [Some(node), None] => Some(Step::One { side: Side::A, path, node }),
            [None, Some(node)] => Some(Step::One { side: Side::B, path, node }),
            [None, None] => None,
        });
        self.descend(levels);
    }

    /// Goes into the directories at the current path.
    fn descend(&mut self, dirs: [Option<Node>; 2]) {
        let mut levels = [None, None];
        let mut whole = true;
        for (index, dir) in dirs.into_iter().enumerate() {
            let Some(dir) = dir else { continue };
            match self.enter(index, &dir).and_then(|()| dir.list()) {
                Ok(listing) => levels[index] = Some(Level { listing, at: 0 }),
                Err(error) => {
                    whole = false;
                    self.fail(SIDES[index], error);
                }
            }
        }
        if whole && levels.iter().any(Option::is_some) {
            self.frames.push(Frame { levels, path: self.path.len() });
        }
    }

    fn enter(&mut self, index: usize, dir: &Node) -> Result<()> {
        let depth = self.frames.len() as u64;
        let Place::Image { image, inode } = &dir.place else {
            return if depth < MAX_DEPTH { Ok(()) } else { Err(Error::Depth { limit: MAX_DEPTH }) };
        };
        let place = Where::nid(inode.nid);
        let limit = image.limits().depth;
        if depth >= limit {
            let value = depth.saturating_add(1);
            return Err(erofs_image::Error::Limit { place, name: "depth", value, limit }.into());
        }
        if self.entered[index].insert(inode.nid) {
            Ok(())
        } else {
            let what = Corruption::DirectoryTwice;
            Err(erofs_image::Error::Corrupt { place, what }.into())
        }
    }

    fn fail(&mut self, side: Side, error: Error) {
        self.ready.push_back(Step::Failed(Failure { side, path: Box::from(self.path.as_slice()), error }));
    }

    /// The next name in the directory on top; `None` at its end.
    fn advance(&mut self) -> Option<[Option<Result<Node>>; 2]> {
        let frame = self.frames.last_mut()?;
        let [a, b] = &frame.levels;
        let name_of = |level: &Option<Level>| {
            level.as_ref().and_then(|level| level.listing.name(level.at)).map(<[u8]>::to_vec)
        };
        let (name, takes) = match (name_of(a), name_of(b)) {
            (None, None) => return None,
            (Some(name), None) => (name, [true, false]),
            (None, Some(name)) => (name, [false, true]),
            (Some(one), Some(other)) => match one.cmp(&other) {
                Ordering::Less => (one, [true, false]),
                Ordering::Greater => (other, [false, true]),
                Ordering::Equal => (one, [true, true]),
            },
        };
        self.path.truncate(frame.path);
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&name);
        let mut nodes = [None, None];
        for index in [0, 1] {
            let Some(level) = frame.levels[index].as_mut().filter(|_| takes[index]) else { continue };
            nodes[index] = Some(level.listing.node(level.at));
            level.at += 1;
            self.visited[index] += 1;
        }
        Some(nodes)
    }

    /// Ends the walk if an image shows more entries than its limits allow.
    fn over_limit(&mut self, nodes: &[Option<Result<Node>>; 2]) -> bool {
        for (index, node) in nodes.iter().enumerate() {
            let Some(Ok(Node { place: Place::Image { image, inode }, .. })) = node else { continue };
            let (value, limit) = (self.visited[index], image.limits().walk_entries);
            if value > limit {
                let place = Where::nid(inode.nid);
                let error = erofs_image::Error::Limit { place, name: "walk_entries", value, limit };
                self.fail(SIDES[index], error.into());
                self.frames.clear();
                return true;
            }
        }
        false
    }
}

impl Iterator for Merge {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if let Some([a, b]) = self.start.take() {
            self.take([Some(Ok(a)), Some(Ok(b))]);
        }
        loop {
            if let Some(step) = self.ready.pop_front() {
                return Some(step);
            }
            if self.frames.is_empty() {
                return None;
            }
            match self.advance() {
                Some(nodes) => {
                    if !self.over_limit(&nodes) {
                        self.take(nodes);
                    }
                }
                None => {
                    self.frames.pop();
                }
            }
        }
    }
}
