//! The contents of an archive's files, once its members are known.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::sparse::Part;
use crate::error::{Error, Result};
use crate::options::BuildOptions;
use crate::source::directory::holes;
use crate::source::{Content, ContentReader};
use crate::tree::{Key, Kind, NodeId, Regular, Segment, Tree};

/// Set in the key of a sparse file, whose other bits are the number of its map; else they are the place of
/// its bytes, which no file has so many of.
const SPARSE: u64 = 1 << 63;

/// The maps of sparse files, with where the bytes of each are.
#[derive(Default)]
pub(super) struct Maps(Vec<(u64, Box<[Part]>)>);

impl Maps {
    /// The file of `size` bytes that are at `at`, or the parts of which are; a map is kept.
    pub(super) fn regular(
        &mut self,
        options: &BuildOptions,
        size: u64,
        at: u64,
        parts: Option<Box<[Part]>>,
    ) -> Regular {
        let Some(parts) = parts else { return Regular { size, data: None, key: Key::Number(at) } };
        let block_size = u64::from(options.block_size);
        let shows_holes = options.holes && size > block_size;
        let segments = parts.iter().map(|part| Segment { start: part.start, end: part.start + part.length });
        let data = if shows_holes { holes::of_parts(segments, size, block_size) } else { None };
        let key = Key::Number(SPARSE | self.0.len() as u64);
        self.0.push((at, parts));
        Regular { size, data, key }
    }
}

/// Size and time of an archive that is read in place.
pub(super) type Stamp = (u64, i64, i64);

pub(super) fn stamp(known: &Metadata) -> Stamp {
    (known.len(), known.mtime(), known.mtime_nsec())
}

/// Where the contents are.
pub(super) struct Archive {
    file: File,
    /// If it is read in place.
    stamp: Option<Stamp>,
    maps: Maps,
}

impl Archive {
    pub(super) fn new(file: File, stamp: Option<Stamp>, maps: Maps) -> Self {
        Self { file, stamp, maps }
    }
}

/// Opens the files of an archive, none before it was read.
pub(super) struct TarReader<'a> {
    archive: Option<&'a Archive>,
    tree: &'a Tree,
}

impl<'a> TarReader<'a> {
    pub(super) fn new(archive: Option<&'a Archive>, tree: &'a Tree) -> Self {
        Self { archive, tree }
    }
}

impl ContentReader for TarReader<'_> {
    fn open(&mut self, id: NodeId) -> Result<Box<dyn Content + '_>> {
        let place = match (self.archive, &self.tree.node(id).kind) {
            (Some(archive), Kind::Regular(Regular { key: Key::Number(key), .. })) => {
                if key & SPARSE == 0 {
                    Some((archive, *key, None))
                } else {
                    let map = usize::try_from(key & !SPARSE).ok().and_then(|map| archive.maps.0.get(map));
                    map.map(|(at, parts)| (archive, *at, Some(&**parts)))
                }
            }
            _ => None,
        };
        let (archive, at, parts) = place.ok_or_else(|| Error::no_such_source(self.tree, id))?;
        Ok(Box::new(TarFile { archive, tree: self.tree, id, at, parts }))
    }
}

struct TarFile<'a> {
    archive: &'a Archive,
    tree: &'a Tree,
    id: NodeId,
    at: u64,
    parts: Option<&'a [Part]>,
}

impl TarFile<'_> {
    fn read_stored(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        let path = || self.tree.path_of(self.id);
        self.archive.file.read_exact_at(buffer, self.at.saturating_add(at)).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                return Error::Changed { path: path(), what: "became shorter" };
            }
            Error::io(&path(), "read")(error)
        })
    }
}

impl Content for TarFile<'_> {
    fn read(&self, mut buffer: &mut [u8], mut at: u64) -> Result<()> {
        let Some(parts) = self.parts else { return self.read_stored(buffer, at) };
        let mut next = parts.partition_point(|part| part.start + part.length <= at);
        while !buffer.is_empty() {
            let part = parts.get(next);
            let hole = part.map_or(u64::MAX, |part| part.start.saturating_sub(at));
            let length = if hole > 0 { hole } else { part.map_or(0, |part| part.start + part.length - at) };
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
            let (now, rest) = buffer.split_at_mut(length);
            match part {
                Some(part) if hole == 0 => {
                    self.read_stored(now, part.at + (at - part.start))?;
                    next += 1;
                }
                _ => now.fill(0),
            }
            at += length as u64;
            buffer = rest;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let Some(known) = self.archive.stamp else { return Ok(()) };
        let path = || self.tree.path_of(self.id);
        let now = self.archive.file.metadata().map_err(|error| Error::io(&path(), "stat")(error))?;
        if stamp(&now) == known { Ok(()) } else { Err(Error::Changed { path: path(), what: "was changed" }) }
    }
}
