//! Leaving out what can't be read, where that is asked for.
//!
//! Where things lie in an image depends on every name, so nothing is left out of one that is half packed: the file
//! is taken out of the tree, and packing begins again. Before it does, every file is opened once more, or even read
//! if a disk has failed, so that one pass finds all that can be found. The image is the same as one of a tree that
//! never had those files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::lock::{into_inner, lock};
use crate::options::BuildOptions;
use crate::plan::has_content;
use crate::source::{Content, ContentReader, Contents, Sources};
use crate::tree::{Entry, Kind, NodeId, Tree};
use crate::xattr::Sets;

/// Files that a thread checks at a time.
const FILES: usize = 256;

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 20;

/// An entry of a source that is not in the image because it could not be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Skipped {
    /// Where it is, as errors name it.
    pub path: PathBuf,
    /// Why it is not in the image.
    pub reason: String,
}

/// What is left out while sources are scanned.
#[derive(Debug, Default)]
pub(crate) struct Skips(Mutex<Vec<Skipped>>);

impl Skips {
    /// Leaves out what the error names; gives it back if nothing can be left out because of it.
    pub(crate) fn take(&self, error: Error) -> Result<()> {
        match (reason(&error), error.path()) {
            (Some(reason), Some(path)) => {
                let skipped = Skipped { path: path.to_owned(), reason };
                lock(&self.0).push(skipped);
                Ok(())
            }
            _ => Err(error),
        }
    }

    pub(crate) fn into_list(self) -> Vec<Skipped> {
        into_inner(self.0)
    }
}

/// Why a file is left out because of this error, which reading it gave; nothing if that would not be safe.
fn reason(error: &Error) -> Option<String> {
    match error {
        Error::Changed { what, .. } => Some(format!("{what} while the image was built")),
        Error::Io { action, source, .. } => {
            // These say something about this process or machine, and nothing about the file.
            let of_process = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR];
            let is_of_process = of_process.iter().any(|e| source.raw_os_error() == Some(e.raw_os_error()));
            let text = source.to_string();
            let words = text.split(" (os error").next().unwrap_or_default();
            (source.raw_os_error().is_some() && !is_of_process).then(|| format!("can't {action}: {words}"))
        }
        _ => None,
    }
}

/// The contents of sources; remembers which files could not be read, and why.
pub(crate) struct Watched<'a> {
    sources: &'a Sources,
    failed: Mutex<BTreeMap<NodeId, String>>,
    /// A file could be opened and not be read: a disk may have failed.
    is_damaged: AtomicBool,
}

impl<'a> Watched<'a> {
    pub(crate) fn new(sources: &'a Sources) -> Self {
        Self { sources, failed: Mutex::default(), is_damaged: AtomicBool::new(false) }
    }

    /// Opens every file, and reads them all if reading one has failed.
    pub(crate) fn check(&self, options: &BuildOptions, tree: &Tree, threads: usize) -> Result<()> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut reader = self.reader(tree);
            let mut buffer = Vec::new();
            loop {
                options.check_cancelled()?;
                let first = next.fetch_add(FILES, Ordering::Relaxed);
                if first >= tree.nodes.len() {
                    return Ok(());
                }
                for index in first..tree.nodes.len().min(first + FILES) {
                    let id = NodeId::try_from(index).unwrap_or(NodeId::MAX);
                    if self.is_watched(tree, id)
                        && let Err(error) = self.check_file(options, tree, id, &mut *reader, &mut buffer)
                        && !self.has_failed(id)
                    {
                        return Err(error);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for other in others {
                done = done.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            done
        })
    }

    fn check_file(
        &self,
        options: &BuildOptions,
        tree: &Tree,
        id: NodeId,
        reader: &mut dyn ContentReader,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        let Kind::Regular(file) = &tree.node(id).kind else { return Ok(()) };
        let open = reader.open(id)?;
        open.check()?;
        if !self.is_damaged.load(Ordering::Relaxed) {
            return Ok(());
        }
        buffer.resize(BUFFER, 0);
        let whole = [crate::tree::Segment { start: 0, end: file.size }];
        for part in file.data.as_deref().unwrap_or(&whole) {
            let mut at = part.start;
            while at < part.end {
                options.check_cancelled()?;
                let now = usize::try_from(part.end - at).unwrap_or(BUFFER).min(BUFFER);
                open.read(buffer.get_mut(..now).unwrap_or_default(), at)?;
                at += now as u64;
            }
        }
        Ok(())
    }

    fn is_watched(&self, tree: &Tree, id: NodeId) -> bool {
        let node = tree.node(id);
        let source = self.sources.list.get(usize::from(node.source));
        has_content(node) && source.is_some_and(|source| source.is_live())
    }

    /// Whether a file could not be read since the last were removed.
    pub(crate) fn has_any(&self) -> bool {
        !lock(&self.failed).is_empty()
    }

    fn has_failed(&self, id: NodeId) -> bool {
        lock(&self.failed).contains_key(&id)
    }

    /// Remembers a failure that is about the file only.
    fn note<T>(&self, tree: &Tree, id: NodeId, action: &'static str, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && self.is_watched(tree, id)
            && let Some(reason) = reason(error)
        {
            lock(&self.failed).entry(id).or_insert(reason);
            if action == "read" && matches!(error, Error::Io { .. }) {
                self.is_damaged.store(true, Ordering::Relaxed);
            }
        }
        result
    }

    /// Takes the files that failed out of the tree; returns them by name.
    pub(crate) fn remove(&self, tree: &mut Tree, sets: &mut Sets) -> Vec<Skipped> {
        let failed = std::mem::take(&mut *lock(&self.failed));
        if failed.is_empty() {
            return Vec::new();
        }
        let skipped = tree.entries.iter().filter_map(|entry| {
            let reason = failed.get(&entry.node)?.clone();
            Some(Skipped { path: tree.path_of_entry(tree.node(entry.node).source, entry), reason })
        });
        let skipped = skipped.collect();
        remove(tree, sets, |id| failed.contains_key(&id));
        skipped
    }
}

impl Contents for Watched<'_> {
    fn reader<'a>(&'a self, tree: &'a Tree) -> Box<dyn ContentReader + 'a> {
        Box::new(WatchedReader { watched: self, tree, reader: self.sources.reader(tree) })
    }
}

struct WatchedReader<'a> {
    watched: &'a Watched<'a>,
    tree: &'a Tree,
    reader: Box<dyn ContentReader + 'a>,
}

impl ContentReader for WatchedReader<'_> {
    fn open(&mut self, id: NodeId) -> Result<Box<dyn Content + '_>> {
        let (watched, tree) = (self.watched, self.tree);
        let content = watched.note(tree, id, "open", self.reader.open(id))?;
        Ok(Box::new(WatchedContent { watched, tree, id, content }))
    }
}

struct WatchedContent<'a> {
    watched: &'a Watched<'a>,
    tree: &'a Tree,
    id: NodeId,
    content: Box<dyn Content + 'a>,
}

impl Content for WatchedContent<'_> {
    fn read(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        self.watched.note(self.tree, self.id, "read", self.content.read(buffer, at))
    }

    fn check(&self) -> Result<()> {
        self.watched.note(self.tree, self.id, "check", self.content.check())
    }
}

/// Takes nodes that are no directories out of a tree, with all their names; what is left keeps its order.
fn remove(tree: &mut Tree, sets: &mut Sets, is_gone: impl Fn(NodeId) -> bool) {
    // What the number of every node and entry becomes, and what that of a next one would.
    let nodes = numbers(tree.nodes.len(), |id| !is_gone(id));
    let entries = numbers(tree.entries.len(), |index| !is_gone(tree.entries[index as usize].node));
    let mut id = 0;
    tree.nodes.retain_mut(|node| {
        id += 1;
        if is_gone(id - 1) {
            sets.remove(node.xattrs);
            return false;
        }
        node.entry = entries[node.entry as usize];
        if let Kind::Directory { first, count } = &mut node.kind {
            let end = entries[(*first + *count) as usize];
            *first = entries[*first as usize];
            *count = end - *first;
        }
        true
    });
    tree.entries.retain_mut(|Entry { dir, node, .. }| {
        let is_kept = !is_gone(*node);
        (*dir, *node) = (nodes[*dir as usize], nodes[*node as usize]);
        is_kept
    });
}

/// How many of those before each number are kept, and of all.
fn numbers(count: usize, is_kept: impl Fn(u32) -> bool) -> Vec<u32> {
    let mut kept = 0;
    let mut numbers = vec![0];
    for number in 0..u32::try_from(count).unwrap_or(u32::MAX) {
        kept += u32::from(is_kept(number));
        numbers.push(kept);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io;
    use std::path::Path;

    use super::*;
    use crate::source::{Found, Layer, Listing, TOP, What};
    use crate::source::{ScanJob, Source};
    use crate::tree::{Key, Regular};
    use crate::{Output, Phase, Progress, build};

    /// A source of 3000 files on a disk of which some can't be read any more.
    #[derive(Debug)]
    struct Disk;

    const FILES: u64 = 3000;

    fn is_bad(number: u64) -> bool {
        number % 100 == 7
    }

    struct File(u64);

    impl Content for File {
        fn read(&self, buffer: &mut [u8], _at: u64) -> Result<()> {
            let error = || Err(io::Error::from_raw_os_error(Errno::IO.raw_os_error()));
            if is_bad(self.0) {
                return error().map_err(Error::io(Path::new("disk"), "read"));
            }
            buffer.fill(b'x');
            Ok(())
        }

        fn check(&self) -> Result<()> {
            Ok(())
        }
    }

    struct Reader<'a>(&'a Tree);

    impl ContentReader for Reader<'_> {
        fn open(&mut self, id: NodeId) -> Result<Box<dyn Content + '_>> {
            match &self.0.node(id).kind {
                Kind::Regular(Regular { key: Key::Number(number), .. }) => Ok(Box::new(File(*number))),
                _ => Err(Error::no_such_source(self.0, id)),
            }
        }
    }

    impl Source for Disk {
        fn path(&self) -> &Path {
            Path::new("disk")
        }

        fn scan(&mut self, _job: &ScanJob<'_>) -> Result<Layer> {
            let file = |number: u64| {
                let regular = Regular { size: 5000, data: None, key: Key::Number(number) };
                let name = format!("{number:04}").into_bytes().into();
                (Found { what: What::Node(Kind::Regular(regular)), ..Found::implied(name) }, None)
            };
            let listing = Listing { entries: (0..FILES).map(file).collect(), is_opaque: false };
            let listings = HashMap::from([(TOP, listing)]);
            Ok(Layer { root: Found::implied(Box::default()), listings, excluded: 0 })
        }

        fn is_live(&self) -> bool {
            true
        }

        fn reader<'a>(&'a self, tree: &'a Tree) -> Box<dyn ContentReader + 'a> {
            Box::new(Reader(tree))
        }
    }

    /// Counts how often packing begins.
    #[derive(Default)]
    struct Passes(AtomicUsize);

    impl Progress for Passes {
        fn phase(&self, phase: Phase, _files: u64, _bytes: u64) {
            self.0.fetch_add(usize::from(phase == Phase::Pack), Ordering::Relaxed);
        }

        fn advance(&self, _files: u64, _bytes: u64) {}

        fn stored(&self, _bytes: u64) {}
    }

    #[test]
    fn many_files_on_a_failing_disk_are_found_in_one_pass() {
        let mut bytes = Vec::new();
        let mut output = Output::stream(&mut bytes).unwrap();
        let options = BuildOptions { keep_going: true, ..BuildOptions::default() };
        let passes = Passes::default();
        let report = build(&options, Sources::of(Disk), &mut output, &passes).unwrap();
        assert_eq!(passes.0.into_inner(), 2);
        assert_eq!((report.files, report.skipped.len()), (FILES - FILES / 100, 30));
        assert_eq!(report.skipped[1].path, Path::new("disk/0107"));
        assert_eq!(report.skipped[1].reason, "can't read: Input/output error");
    }

    #[test]
    fn what_says_nothing_about_the_file_is_no_reason() {
        for (errno, is_reason) in [(Errno::ACCESS, true), (Errno::IO, true), (Errno::MFILE, false)] {
            let error = Error::io(Path::new("file"), "open")(errno);
            assert_eq!(Skips::default().take(error).is_ok(), is_reason, "{errno}");
        }
        assert!(Skips::default().take(Error::Cancelled).is_err());
    }
}
