//! Two entries of one path.

use std::sync::atomic::AtomicBool;

use crate::change::{Change, Event, Failure, Fields, Kind, Options, Side, Way, XattrChange};
use crate::content::{Buffers, SameBlobs, same};
use crate::error::Error;
use crate::node::{Node, Place};

/// Permissions with setuid, setgid and sticky.
const PERMISSIONS: u32 = 0o7777;

/// What the threads that compare have in common.
#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) options: Options,
    blobs: SameBlobs,
    /// Attributes that hold fingerprints in one of the images.
    fingerprints: Vec<Vec<u8>>,
}

impl Judge {
    pub(crate) fn new(options: Options, a: &Node, b: &Node) -> Self {
        let name_in = |node: &Node| match &node.place {
            Place::Image { image, .. } => image.fingerprint_name(),
            Place::Disk { .. } => None,
        };
        let fingerprints = [a, b].into_iter().filter_map(name_in).collect();
        Self { blobs: SameBlobs::of(a, b), options, fingerprints }
    }

    fn looks_at(&self, field: Fields) -> bool {
        !self.options.ignore.intersects(field)
    }

    /// Compares two entries of the same path, with their contents.
    pub(crate) fn compare(
        &self,
        path: &[u8],
        nodes: [&Node; 2],
        links_differ: bool,
        buffers: &mut Buffers,
        stop: &AtomicBool,
    ) -> Vec<Event> {
        let mut found = Found::default();
        self.compare_attributes(nodes, &mut found);
        if links_differ && self.looks_at(Fields::LINKS) {
            found.fields |= Fields::LINKS;
        }
        let [a, b] = nodes;
        if a.is_file() && b.is_file() && self.looks_at(Fields::CONTENT) {
            match same(nodes, self.options.trust_fingerprints, &self.blobs, buffers, stop) {
                Ok(true) => {}
                Ok(false) => found.fields |= Fields::CONTENT,
                Err((side, error)) => found.failures.push((side, error)),
            }
        }
        let failed = std::mem::take(&mut found.failures).into_iter();
        let mut events = Vec::new();
        if !found.fields.is_empty() {
            events.push(Event::Change(found.change(Kind::Changed, path.into(), None, nodes)));
        }
        events.extend(failed.map(|(side, error)| Event::Failure(Failure { side, path: path.into(), error })));
        events
    }

    /// Compares a file that has moved with what it was; its content is known to be equal.
    pub(crate) fn moved(&self, from: Box<[u8]>, path: Box<[u8]>, nodes: [&Node; 2]) -> Vec<Event> {
        let mut found = Found::default();
        self.compare_attributes(nodes, &mut found);
        let mut events = Vec::new();
        for (side, error) in found.failures.drain(..) {
            let path = if side == Side::A { &from } else { &path };
            events.push(Event::Failure(Failure { side, path: path.clone(), error }));
        }
        events.insert(0, Event::Change(found.change(Kind::Moved, path, Some(from), nodes)));
        events
    }

    fn compare_attributes(&self, nodes: [&Node; 2], found: &mut Found) {
        let [a, b] = nodes;
        let [old, new] = [&a.facts, &b.facts];
        let same_type = a.file_type() == b.file_type();
        if !same_type {
            found.fields |= Fields::TYPE;
        // What permissions a symbolic link has is the filesystem's affair.
        } else if !is_link(a) {
            self.note(found, Fields::MODE, old.mode & PERMISSIONS != new.mode & PERMISSIONS);
            self.note(found, Fields::DEVICE, old.device != new.device);
        }
        self.note(found, Fields::OWNER, (old.uid, old.gid) != (new.uid, new.gid));
        let fraction = !self.options.whole_seconds && old.mtime_nsec != new.mtime_nsec;
        self.note(found, Fields::MTIME, old.mtime != new.mtime || fraction);
        if same_type && is_link(a) && self.looks_at(Fields::TARGET) {
            match (a.target(), b.target()) {
                (Ok(one), Ok(other)) if one == other => {}
                (Ok(one), Ok(other)) => {
                    found.fields |= Fields::TARGET;
                    found.targets = Some(Box::new([one, other]));
                }
                (one, other) => found.failed(one, other),
            }
        }
        if self.looks_at(Fields::XATTRS) {
            let wanted = |name: &[u8]| self.wants_xattr(name);
            match (a.xattrs(&wanted), b.xattrs(&wanted)) {
                (Ok(one), Ok(other)) => {
                    found.xattrs = xattr_changes(&one, &other);
                    if !found.xattrs.is_empty() {
                        found.fields |= Fields::XATTRS;
                    }
                }
                (one, other) => found.failed(one, other),
            }
        }
    }

    fn note(&self, found: &mut Found, field: Fields, different: bool) {
        if different && self.looks_at(field) {
            found.fields |= field;
        }
    }

    fn wants_xattr(&self, name: &[u8]) -> bool {
        let usual = !self.options.usual_xattrs_only
            || name.starts_with(b"user.")
            || name.starts_with(b"system.posix_acl_")
            || name == b"security.capability";
        usual && !self.fingerprints.iter().any(|hidden| hidden == name)
    }
}

fn is_link(node: &Node) -> bool {
    node.file_type() == rustix::fs::FileType::Symlink
}

/// What differs between two entries, as far as it could be read.
#[derive(Debug)]
struct Found {
    fields: Fields,
    targets: Option<Box<[Vec<u8>; 2]>>,
    xattrs: Vec<XattrChange>,
    failures: Vec<(Side, Error)>,
}

impl Default for Found {
    fn default() -> Self {
        Self { fields: Fields::empty(), targets: None, xattrs: Vec::new(), failures: Vec::new() }
    }
}

impl Found {
    fn failed<T>(&mut self, one: Result<T, Error>, other: Result<T, Error>) {
        self.failures.extend(one.err().map(|error| (Side::A, error)));
        self.failures.extend(other.err().map(|error| (Side::B, error)));
    }

    fn change(self, kind: Kind, path: Box<[u8]>, from: Option<Box<[u8]>>, nodes: [&Node; 2]) -> Change {
        let [old, new] = nodes.map(|node| Some(node.facts));
        Change { kind, path, from, fields: self.fields, old, new, targets: self.targets, xattrs: self.xattrs }
    }
}

/// Merges two lists in order of name.
fn xattr_changes(a: &[(Vec<u8>, Vec<u8>)], b: &[(Vec<u8>, Vec<u8>)]) -> Vec<XattrChange> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut changes = Vec::new();
    loop {
        let order = match (a.peek(), b.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Less,
            (None, Some(_)) => Greater,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let one = if order == Greater { None } else { a.next() };
        let other = if order == Less { None } else { b.next() };
        let (name, way) = match (one, other) {
            (Some((name, _)), None) => (name, Way::Removed),
            (None, Some((name, _))) => (name, Way::Added),
            (Some((name, old)), Some((_, new))) if order == Equal && old != new => (name, Way::Changed),
            _ => continue,
        };
        changes.push(XattrChange { name: name.clone(), way });
    }
}
