//! Cuts what was read into chunks, each of which is stored once.

use std::collections::HashSet;
use std::ops::Range;

use super::content::Content;
use super::known::{Key, Known};

/// A chunk that is no hole.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) key: Key,
    /// Its bytes in the file.
    pub(super) length: u64,
    /// Its place in the job's content, whole blocks; empty if it is known.
    pub(super) bytes: Range<u64>,
}

/// Puts the chunks of `raw`, of `length` bytes each, into `content`, but for those that are known or were made
/// before by the same job, as `made` says. Chunks of zeros are holes.
pub(super) fn cut(
    raw: &[u8],
    length: usize,
    known: &Known,
    made: &mut HashSet<Key>,
    content: &mut Content<'_>,
) -> Vec<Option<Chunk>> {
    let mut chunks = Vec::with_capacity(raw.len().div_ceil(length));
    for bytes in raw.chunks(length) {
        if bytes.iter().all(|byte| *byte == 0) {
            chunks.push(None);
            continue;
        }
        let key = known.chunk_key(bytes);
        let start = content.bytes();
        if known.plain(key, 1).is_none() && made.insert(key) {
            content.put(bytes);
            content.pad();
        }
        chunks.push(Some(Chunk { key, length: bytes.len() as u64, bytes: start..content.bytes() }));
    }
    chunks
}
