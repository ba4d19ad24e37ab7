//! Looking at a domain's objects.

use crate::Digest;
use crate::Domain;
use crate::Error;
use crate::Result;
use crate::dir;
use crate::domain::is_file;
use rustix::fs::AtFlags;
use rustix::fs::Stat;
use rustix::io::Errno;
use std::fs::File;

/// The objects of a domain, for reading. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Objects {
    domain: Domain,
}

/// An object as a listing finds it.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) digest: Digest,
    /// Relative to the domain.
    pub(crate) path: String,
    pub(crate) stat: Stat,
}

impl Objects {
    pub(crate) fn new(domain: Domain) -> Self {
        Self { domain }
    }

    /// Whether the object is there, durable or fresh: an overlay finds it at
    /// [`Digest::object_path`] either way. One or two system calls.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.find(digest).is_some()
    }

    /// Opens an object for reading.
    pub fn open(&self, digest: &Digest) -> Result<Option<File>> {
        let Some(path) = self.find(digest) else { return Ok(None) };
        match dir::open_file(&self.domain, &path) {
            Ok(file) => Ok(Some(file)),
            // Evicted in between.
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.domain.io("open", &path, errno)),
        }
    }

    /// Calls `each` for every object, durable ones and fresh ones, each once, in no order.
    pub fn for_each(&self, each: &mut dyn FnMut(Digest)) -> Result<()> {
        self.list(&mut |object| {
            each(object.digest);
            Ok(())
        })
    }

    /// Where the object lies, relative to the domain.
    pub(crate) fn find(&self, digest: &Digest) -> Option<String> {
        let durable = Domain::durable_path(digest);
        if is_file(&self.domain, &durable) {
            return Some(durable);
        }
        let fresh = self.domain.fresh_object_path(digest);
        is_file(&self.domain, &fresh).then_some(fresh)
    }

    /// Every object once, with what stat says of it.
    pub(crate) fn list(&self, each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        self.list_below("objects", &mut |object| each(object))?;
        self.list_below(&self.domain.fresh_path(), &mut |object| {
            if is_file(&self.domain, &Domain::durable_path(&object.digest)) { Ok(()) } else { each(object) }
        })
    }

    /// Every object below one of the two roots.
    pub(crate) fn list_below(&self, root: &str, each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        let domain = &self.domain;
        let directories = dir::names(domain, root).map_err(|errno| domain.io("list", root, errno))?;
        for directory in directories.iter().filter(|name| name.len() == 2) {
            let Ok(text) = std::str::from_utf8(directory) else { continue };
            let below = format!("{root}/{text}");
            let opened = dir::open(domain, &below).map_err(|errno| domain.io("open", &below, errno))?;
            dir::for_each_name::<ListError>(domain, &below, &mut |name| {
                let Some(digest) = Digest::from_object_path(directory, name) else { return Ok(()) };
                let path = format!("{root}/{}", digest.object_path());
                match rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => each(Listed { digest, path, stat }).map_err(ListError::Callers),
                    Err(Errno::NOENT) => Ok(()),
                    Err(errno) => Err(errno.into()),
                }
            })
            .map_err(|error| match error {
                ListError::Callers(error) => error,
                ListError::Listing(errno) => domain.io("list", &below, errno),
            })?;
        }
        Ok(())
    }
}

/// An error of the listing, or of whoever looks at what it finds.
enum ListError {
    Callers(Error),
    Listing(Errno),
}

impl From<Errno> for ListError {
    fn from(errno: Errno) -> Self {
        Self::Listing(errno)
    }
}
