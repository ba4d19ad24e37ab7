//! Contents of a directory's files, exactly as they were when the tree was read.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fstat};
use rustix::io::{Errno, pread};

use super::dir::open_unseen;
use super::entry::stamp;
use super::open_dirs::OpenDirs;
use crate::error::{Error, Result};
use crate::source::Layer;
use crate::source::{Content, ContentReader, DirSource, ScanJob, Source};
use crate::tree::{Key, Kind, NodeId, Regular, Stamp, Tree};

impl Source for DirSource {
    fn path(&self) -> &Path {
        &self.path
    }

    fn scan(&mut self, job: &ScanJob<'_>) -> Result<Layer> {
        super::scan(self, job)
    }

    fn is_live(&self) -> bool {
        true
    }

    fn reader<'a>(&'a self, tree: &'a Tree) -> Box<dyn ContentReader + 'a> {
        Box::new(DirReader { tree, dirs: OpenDirs::new(&self.root) })
    }
}

struct DirReader<'a> {
    tree: &'a Tree,
    dirs: OpenDirs<'a>,
}

impl ContentReader for DirReader<'_> {
    fn open(&mut self, id: NodeId) -> Result<Box<dyn Content + '_>> {
        let entry = self.tree.first_entry(id);
        let Kind::Regular(Regular { size, key: Key::Stamp(stamp), .. }) = self.tree.node(id).kind else {
            return Err(changed(self.tree.path_of(id), "is no regular file"));
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = self
            .dirs
            .get(self.tree, entry.dir)
            .and_then(|dir| open_unseen(dir, self.tree.name(entry), flags));
        let fd = opened.map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {
                changed(self.tree.path_of(id), "vanished or became something else")
            }
            error => Error::io(&self.tree.path_of(id), "open")(error),
        })?;
        Ok(Box::new(OpenFile { fd, tree: self.tree, id, size, stamp }))
    }
}

struct OpenFile<'a> {
    fd: OwnedFd,
    tree: &'a Tree,
    id: NodeId,
    size: u64,
    stamp: Stamp,
}

impl Content for OpenFile<'_> {
    fn read(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match pread(&self.fd, &mut buffer[done..], at + done as u64) {
                Ok(0) => return Err(changed(self.tree.path_of(self.id), "became shorter")),
                Ok(length) => done += length,
                Err(Errno::INTR) => {}
                // What took the file's place could be opened, too.
                Err(Errno::ISDIR | Errno::SPIPE | Errno::NXIO) => {
                    return Err(changed(self.tree.path_of(self.id), "became something else"));
                }
                Err(error) => return Err(Error::io(&self.tree.path_of(self.id), "read")(error)),
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let path = || self.tree.path_of(self.id);
        let stat = fstat(&self.fd).map_err(|error| Error::io(&path(), "stat")(error))?;
        if u64::try_from(stat.st_size) != Ok(self.size) {
            return Err(changed(path(), "changed its size"));
        }
        if stamp(&stat) != self.stamp {
            return Err(changed(path(), "was changed or replaced"));
        }
        Ok(())
    }
}

fn changed(path: PathBuf, what: &'static str) -> Error {
    Error::Changed { path, what }
}
