//! What was removed at one path and added at another.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::change::{Event, Failure, Kind, Side};
use crate::compare::Judge;
use crate::content::{Buffers, digest};
use crate::error::Result;
use crate::node::Node;

/// Larger files are not hashed: an image may claim any size for a hole, and a false size is not worth hours. This
/// many bytes take some minutes.
const MAX_HASHED: u64 = 256 << 30;

/// An event that waits until it is known what has moved, with the file if it may have.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) event: Event,
    pub(crate) node: Option<Node>,
}

/// The fingerprint of a file's content: two are equal if the files are. Empty files are told apart by their names, or
/// each would be each other's successor.
type Key = ([u8; 32], Vec<u8>);

/// Puts each removed file together with an added one of equal content, one of the same name if there is one, else
/// the first. Other events stay as they are, and all in their order.
pub(crate) fn resolve(held: Vec<Held>, judge: &Judge, stop: &AtomicBool) -> Vec<Event> {
    let mut digests = digests(&held, judge, stop);
    let mut removed: HashMap<Key, VecDeque<usize>> = HashMap::new();
    let mut added: Vec<(usize, Key)> = Vec::new();
    let mut failures: HashMap<usize, Failure> = HashMap::new();
    for (index, one) in held.iter().enumerate() {
        let (Some(digest), Some((kind, path))) = (digests.remove(&index), appearance(one)) else { continue };
        match digest {
            Ok(digest) => {
                let empty = one.node.as_ref().is_some_and(|node| node.facts.size == 0);
                let key = (digest, if empty { name(path).to_vec() } else { Vec::new() });
                if kind == Kind::Removed {
                    removed.entry(key).or_default().push_back(index);
                } else {
                    added.push((index, key));
                }
            }
            Err(error) => {
                let side = if kind == Kind::Removed { Side::A } else { Side::B };
                failures.insert(index, Failure { side, path: Box::from(path), error });
            }
        }
    }
    let sources = match_up(&held, &mut removed, &added);
    let gone: HashSet<usize> = sources.values().copied().collect();
    let pairs = sources.iter().filter_map(|(to, from)| Some((*to, held.get(*from)?, held.get(*to)?)));
    let mut moves: HashMap<usize, Vec<Event>> =
        pairs.map(|(index, from, to)| (index, moved(judge, from, to))).collect();
    let mut ordered = Vec::with_capacity(held.len());
    for (index, one) in held.into_iter().enumerate() {
        if let Some(events) = moves.remove(&index) {
            ordered.extend(events);
        } else if !gone.contains(&index) {
            ordered.push(one.event);
        }
        ordered.extend(failures.remove(&index).map(Event::Failure));
    }
    ordered
}

/// Whether an event is about a file that may have moved.
fn appearance(held: &Held) -> Option<(Kind, &[u8])> {
    match (&held.event, &held.node) {
        (Event::Change(change), Some(_)) => Some((change.kind, &change.path)),
        _ => None,
    }
}

fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// For each added file the removed one that it was.
fn match_up(
    held: &[Held],
    removed: &mut HashMap<Key, VecDeque<usize>>,
    added: &[(usize, Key)],
) -> HashMap<usize, usize> {
    let name_at = |index: usize| held.get(index).and_then(appearance).map(|(_, path)| name(path));
    let mut sources = HashMap::new();
    // Where many files are equal, their names are looked up and not tried out.
    let mut by_name: HashMap<(&Key, &[u8]), VecDeque<usize>> = HashMap::new();
    for (key, waiting) in &*removed {
        for index in waiting {
            if let Some(name) = name_at(*index) {
                by_name.entry((key, name)).or_default().push_back(*index);
            }
        }
    }
    for (index, key) in added {
        let same = name_at(*index).and_then(|name| by_name.get_mut(&(key, name)));
        if let Some(source) = same.and_then(VecDeque::pop_front) {
            sources.insert(*index, source);
        }
    }
    let taken: HashSet<usize> = sources.values().copied().collect();
    for (index, key) in added {
        if sources.contains_key(index) {
            continue;
        }
        let Some(waiting) = removed.get_mut(key) else { continue };
        while let Some(source) = waiting.pop_front() {
            if !taken.contains(&source) {
                sources.insert(*index, source);
                break;
            }
        }
    }
    sources
}

fn moved(judge: &Judge, from: &Held, to: &Held) -> Vec<Event> {
    match (appearance(from), &from.node, appearance(to), &to.node) {
        (Some((_, old)), Some(a), Some((_, new)), Some(b)) => judge.moved(old.into(), new.into(), [a, b]),
        _ => Vec::new(),
    }
}

/// The digests of all files that may have moved: those of a size that was both removed and added.
fn digests(held: &[Held], judge: &Judge, stop: &AtomicBool) -> HashMap<usize, Result<[u8; 32]>> {
    let mut sizes: HashMap<u64, (bool, bool)> = HashMap::new();
    let candidates = || {
        held.iter().enumerate().filter_map(|(index, one)| {
            let size = one.node.as_ref()?.facts.size;
            Some((index, appearance(one)?.0, size)).filter(|_| size <= MAX_HASHED)
        })
    };
    for (_, kind, size) in candidates() {
        let (removed, added) = sizes.entry(size).or_default();
        *(if kind == Kind::Removed { removed } else { added }) = true;
    }
    let work: Vec<usize> = candidates()
        .filter(|(_, _, size)| sizes.get(size) == Some(&(true, true)))
        .map(|(index, ..)| index)
        .collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(HashMap::new());
    let threads = judge.options.threads.get().min(work.len());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut buffers = Buffers::default();
                while let Some(index) = work.get(next.fetch_add(1, Ordering::Relaxed))
                    && !stop.load(Ordering::Relaxed)
                {
                    let Some(node) = held.get(*index).and_then(|one| one.node.as_ref()) else { continue };
                    let digest = digest(node, judge.options.trust_fingerprints, &mut buffers, stop);
                    done.lock().unwrap_or_else(PoisonError::into_inner).insert(*index, digest);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}
