//! The walk: which entries are wanted, in order, a directory always before what is in it.

use std::collections::VecDeque;

use erofs_image::{Image, Inode, Walk};

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::options::ExtractOptions;

/// An entry that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The path in the image, names joined by slashes; empty for the root.
    pub(crate) path: Vec<u8>,
    /// How many names the path has.
    pub(crate) depth: usize,
    pub(crate) inode: Inode,
}

impl Step {
    /// The last name of the path; empty for the root.
    pub(crate) fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

/// Where a walk starts, and the directories that lead there, the root first.
#[derive(Debug)]
struct Start {
    above: Vec<(Vec<u8>, Inode)>,
    path: Vec<u8>,
    inode: Inode,
}

/// A directory on the way to the present entry.
#[derive(Debug)]
struct Frame {
    path: Vec<u8>,
    inode: Inode,
    /// It has been a step already. Those that only lead somewhere become one when something below is wanted.
    shown: bool,
    /// What is in it is wanted unless a pattern says otherwise.
    included: bool,
}

/// The steps of an extraction, and the errors that are met on the way.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    image: &'a Image,
    filter: Filter,
    starts: VecDeque<Result<Start>>,
    walk: Option<(Walk<'a>, Start)>,
    /// The directory of each depth, the root at 0.
    frames: Vec<Frame>,
    ready: VecDeque<Step>,
    left_out: u64,
}

impl<'a> Selection<'a> {
    pub(crate) fn new(image: &'a Image, options: &ExtractOptions) -> Result<Self> {
        let filter = Filter::new(options)?;
        let root = image.inode(image.root_nid()).map_err(Error::image(b""))?;
        let mut starts = VecDeque::new();
        if options.paths.is_empty() {
            starts.push_back(Ok(Start { above: Vec::new(), path: Vec::new(), inode: root }));
        }
        let mut within: Option<Vec<u8>> = None;
        for names in sorted_paths(&options.paths)? {
            let start = find(image, root, &names);
            if let Ok(start) = &start {
                // What is below a directory that was found comes with it.
                if within.as_ref().is_some_and(|above| is_below(&start.path, above)) {
                    continue;
                }
                within = Some(start.path.clone());
            }
            starts.push_back(start);
        }
        let (frames, ready) = (Vec::new(), VecDeque::new());
        Ok(Self { image, filter, starts, walk: None, frames, ready, left_out: 0 })
    }

    /// Entries that a pattern left out so far.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    fn begin(&mut self, start: Start) {
        // Directories that the last path came through too have been steps already.
        let common =
            self.frames.iter().zip(&start.above).take_while(|(frame, (path, _))| frame.path == *path);
        self.frames.truncate(common.count());
        for (path, inode) in start.above.get(self.frames.len()..).unwrap_or_default() {
            let included = self.filter.includes_root();
            self.frames.push(Frame { path: path.clone(), inode: *inode, shown: false, included });
        }
        self.walk = Some((self.image.walk(&start.inode), start));
    }

    /// Takes an entry of the walk: makes it a step, keeps it in mind, or leaves it out.
    fn offer(&mut self, path: Vec<u8>, depth: usize, inode: Inode) {
        self.frames.truncate(depth);
        let is_dir = inode.is_dir();
        let mut included = self.filter.includes_root();
        if depth > 0 {
            if self.filter.excludes(&path, is_dir) {
                self.left_out = self.left_out.saturating_add(1);
                if let Some((walk, _)) = self.walk.as_mut().filter(|_| is_dir) {
                    walk.skip_dir();
                }
                return;
            }
            let parent = self.frames.last().is_none_or(|frame| frame.included);
            included = self.filter.includes(&path, is_dir, parent);
        }
        if !is_dir {
            if included {
                self.show_frames();
                self.ready.push_back(Step { path, depth, inode });
            } else {
                self.left_out = self.left_out.saturating_add(1);
            }
            return;
        }
        self.frames.push(Frame { path, inode, shown: false, included });
        if included {
            self.show_frames();
        }
    }

    fn show_frames(&mut self) {
        for (depth, frame) in self.frames.iter_mut().enumerate().filter(|(_, frame)| !frame.shown) {
            frame.shown = true;
            self.ready.push_back(Step { path: frame.path.clone(), depth, inode: frame.inode });
        }
    }
}

impl Iterator for Selection<'_> {
    type Item = Result<Step>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(step) = self.ready.pop_front() {
                return Some(Ok(step));
            }
            let Some((walk, start)) = &mut self.walk else {
                match self.starts.pop_front()? {
                    Ok(start) => self.begin(start),
                    Err(error) => return Some(Err(error)),
                }
                continue;
            };
            match walk.next() {
                None => self.walk = None,
                Some(Ok(entry)) => {
                    let path = join(&start.path, &entry.path);
                    let depth = start.above.len().saturating_add(usize::try_from(entry.depth).unwrap_or(0));
                    self.offer(path, depth, entry.inode);
                }
                Some(Err(failed)) => {
                    let path = join(&start.path, &failed.path);
                    // What nobody wants may be as broken as it likes. Whether it is a directory is not known.
                    let parent = self.frames.last().is_none_or(|frame| frame.included);
                    if !self.filter.excludes(&path, false) && self.filter.includes(&path, false, parent) {
                        return Some(Err(Error::Image { path, source: failed.error }));
                    }
                }
            }
        }
    }
}

fn join(above: &[u8], path: &[u8]) -> Vec<u8> {
    if above.is_empty() || path.is_empty() { [above, path].concat() } else { [above, b"/", path].concat() }
}

fn is_below(path: &[u8], above: &[u8]) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.starts_with(b"/"))
}

/// The paths as names, in order, so that one is followed by those below it.
fn sorted_paths(paths: &[Vec<u8>]) -> Result<Vec<Vec<&[u8]>>> {
    let mut sorted = Vec::new();
    for path in paths {
        let names: Vec<_> =
            path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
        if names.contains(&&b".."[..]) {
            let reason = format!("{} has a '..' in it", String::from_utf8_lossy(path));
            return Err(Error::Option { name: "path", reason });
        }
        sorted.push(names);
    }
    sorted.sort();
    sorted.dedup();
    Ok(sorted)
}

/// Looks a path up, name by name; links are not followed.
fn find(image: &Image, root: Inode, names: &[&[u8]]) -> Result<Start> {
    let path = names.join(&b'/');
    let mut above = Vec::new();
    let mut here = root;
    let mut so_far = Vec::new();
    for name in names {
        if here.is_symlink() {
            let target = image.read_link(&here).map_err(Error::image(&so_far))?;
            return Err(Error::ThroughSymlink { path, link: so_far, target });
        }
        let found = image.lookup(&here, name).map_err(Error::image(&path))?;
        let found = found.ok_or(erofs_image::Error::NotFound).map_err(Error::image(&path))?;
        above.push((so_far.clone(), here));
        so_far = join(&so_far, name);
        here = image.inode(found.nid).map_err(Error::image(&so_far))?;
    }
    Ok(Start { above, path, inode: here })
}
