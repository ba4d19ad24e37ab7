//! Where an image goes: a file that appears whole or not at all, or a stream.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, access, fstat, fsync, linkat, openat, renameat, statat,
    unlinkat,
};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::excludes::Hidden;

/// Attempts at finding a temporary name that nobody has.
const ATTEMPTS: u32 = 1000;

/// The destination of a build.
pub struct Output<'a> {
    target: Target,
    place: Place<'a>,
    durable: bool,
}

/// What is written while the image is built.
#[derive(Debug)]
pub(crate) struct Target {
    file: File,
    path: PathBuf,
}

enum Place<'a> {
    Named(Named),
    Stream(&'a mut (dyn Write + Send)),
}

/// A file on its way to its name.
#[derive(Debug)]
struct Named {
    dir: OwnedFd,
    name: OsString,
    /// The name of the unfinished file, if the filesystem has no files without one.
    temporary: Option<OsString>,
    force: bool,
}

impl std::fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("target", &self.target).finish_non_exhaustive()
    }
}

impl<'a> Output<'a> {
    /// An image file at `path`. Nothing is seen there until the build has succeeded; a file that exists
    /// already is an error, or with `force` replaced at that moment.
    pub fn create(path: impl AsRef<Path>, force: bool) -> Result<Output<'static>> {
        Self::create_with(path.as_ref(), force, unnamed)
    }

    fn create_with(
        path: &Path,
        force: bool,
        unnamed: impl FnOnce(&OwnedFd) -> rustix::io::Result<OwnedFd>,
    ) -> Result<Output<'static>> {
        let not_a_file = || Error::NotAFile { path: path.to_owned() };
        let name = path.file_name().ok_or_else(not_a_file)?;
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(not_a_file());
        }
        let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, parent, flags, Mode::empty()).map_err(Error::io(parent, "open"))?;
        match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
                return Err(not_a_file());
            }
            Ok(_) if !force => return Err(Error::Exists { path: path.to_owned() }),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(Error::io(path, "stat")(error)),
        }
        let (file, temporary) = if let Ok(file) = unnamed(&dir) {
            (file, None)
        } else {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let create = |temporary: &OsStr| openat(&dir, temporary, flags, Mode::from_raw_mode(0o666));
            let (file, temporary) = free_name(name, create).map_err(Error::io(path, "create"))?;
            (file, Some(temporary))
        };
        let named = Named { dir, name: name.to_owned(), temporary, force };
        let target = Target { file: file.into(), path: path.to_owned() };
        Ok(Output { target, place: Place::Named(named), durable: true })
    }

    /// A stream such as standard output. The image is spooled to an unnamed file in the directory for
    /// temporary files first, so the stream gets nothing of a build that fails.
    pub fn stream(stream: &'a mut (dyn Write + Send)) -> Result<Self> {
        let path = std::env::temp_dir();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, &path, flags, Mode::empty()).map_err(Error::io(&path, "open"))?;
        let file = unnamed(&dir)
            .or_else(|_| {
                let (file, name) = free_name("pyerofs".as_ref(), |name| {
                    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                    openat(&dir, name, flags, Mode::from_raw_mode(0o600))
                })?;
                unlinkat(&dir, &name, AtFlags::empty())?;
                Ok(file)
            })
            .map_err(|error: Errno| Error::io(&path, "create a file in")(error))?;
        let target = Target { file: file.into(), path };
        Ok(Self { target, place: Place::Stream(stream), durable: false })
    }

    /// Whether the image is to be on the disk, not only in memory, before it gets its name (the default for
    /// files). Without it a power failure soon after may leave a file of zeros.
    pub fn set_durable(&mut self, durable: bool) {
        self.durable = durable;
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The names under which a scan might meet the output.
    pub(crate) fn hidden(&self) -> Result<Vec<Hidden>> {
        let Place::Named(named) = &self.place else { return Ok(Vec::new()) };
        let stat = fstat(&named.dir).map_err(Error::io(&self.target.path, "stat the directory of"))?;
        let names = [Some(&named.name), named.temporary.as_ref()];
        Ok(names
            .into_iter()
            .flatten()
            .map(|name| Hidden { dev: stat.st_dev, ino: stat.st_ino, name: name.as_bytes().to_vec() })
            .collect())
    }

    /// Removes the file that has appeared, because what belongs with it did not.
    pub(crate) fn withdraw(&mut self) {
        if let Place::Named(named) = &mut self.place {
            named.withdraw(&self.target.file);
        }
    }

    /// Makes the image, of `length` bytes, appear. A file is asked about at the last moment.
    pub(crate) fn finish(&mut self, length: u64, may_appear: impl FnOnce() -> bool) -> Result<()> {
        let Target { file, path } = &mut self.target;
        if self.durable {
            fsync(&*file).map_err(Error::io(path, "sync"))?;
        }
        match &mut self.place {
            Place::Named(_) if !may_appear() => Err(Error::Cancelled),
            Place::Named(named) => named.appear(file, path, self.durable),
            Place::Stream(stream) => {
                file.rewind().map_err(Error::io(path, "read back from"))?;
                copy(&mut file.take(length), stream, path)
            }
        }
    }
}

impl Target {
    pub(crate) fn write_at(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, at).map_err(Error::io(&self.path, "write"))
    }

    /// Gives the file its length; what was not written is zeros.
    pub(crate) fn set_len(&self, length: u64) -> Result<()> {
        self.file.set_len(length).map_err(Error::io(&self.path, "write"))
    }
}

impl Named {
    /// Removes the name, if it is this file's still.
    fn withdraw(&self, file: &File) {
        let own = fstat(file);
        let there = statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        if let (Ok(own), Ok(there)) = (own, there)
            && (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino)
        {
            let _ = unlinkat(&self.dir, &self.name, AtFlags::empty());
        }
    }

    fn appear(&mut self, file: &File, path: &Path, durable: bool) -> Result<()> {
        let fail = |error: Errno| match error {
            Errno::EXIST => Error::Exists { path: path.to_owned() },
            error => Error::io(path, "give its name to")(error),
        };
        let own = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = |name: &OsStr| linkat(CWD, own.as_str(), &self.dir, name, AtFlags::SYMLINK_FOLLOW);
        match (&self.temporary, self.force) {
            (None, false) => link(&self.name).map_err(fail)?,
            (None, true) => {
                let ((), temporary) = free_name(&self.name, |name| link(name)).map_err(fail)?;
                self.temporary = Some(temporary);
            }
            (Some(temporary), false) => {
                // A rename would replace what has appeared meanwhile; a link does not.
                linkat(&self.dir, temporary, &self.dir, &self.name, AtFlags::empty()).map_err(fail)?;
                let _ = unlinkat(&self.dir, temporary, AtFlags::empty());
                self.temporary = None;
            }
            (Some(_), true) => {}
        }
        if let Some(temporary) = &self.temporary {
            renameat(&self.dir, temporary, &self.dir, &self.name).map_err(fail)?;
            self.temporary = None;
        }
        if durable {
            fsync(&self.dir).map_err(Error::io(path, "sync the directory of"))?;
        }
        Ok(())
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = unlinkat(&self.dir, temporary, AtFlags::empty());
        }
    }
}

/// A file without a name in `dir`, which can be given one later.
fn unnamed(dir: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    access(c"/proc/self/fd", Access::EXISTS)?;
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    openat(dir, c".", flags, Mode::from_raw_mode(0o666))
}

/// Calls `make` with temporary names for `name` until one is free.
fn free_name<T>(
    name: &OsStr,
    mut make: impl FnMut(&OsStr) -> rustix::io::Result<T>,
) -> rustix::io::Result<(T, OsString)> {
    for attempt in 0..ATTEMPTS {
        let mut temporary = OsString::from(".");
        // Room for the rest within the 255 bytes that a name may have.
        temporary.push(OsStr::from_bytes(&name.as_bytes()[..name.len().min(200)]));
        temporary.push(format!(".{}-{attempt}.tmp", std::process::id()));
        match make(&temporary) {
            Err(Errno::EXIST) => {}
            result => return result.map(|made| (made, temporary)),
        }
    }
    Err(Errno::EXIST)
}

fn copy(from: &mut impl Read, to: &mut (dyn Write + Send), path: &Path) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = from.read(&mut buffer).map_err(Error::io(path, "read back from"))?;
        if length == 0 {
            return to.flush().map_err(Error::io(Path::new("-"), "write"));
        }
        to.write_all(&buffer[..length]).map_err(Error::io(Path::new("-"), "write"))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An output on a filesystem that has no files without a name.
    fn named(path: &Path, force: bool) -> Output<'static> {
        Output::create_with(path, force, |_| Err(Errno::OPNOTSUPP)).unwrap()
    }

    fn names(dir: &Path) -> Vec<OsString> {
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn without_unnamed_files_a_temporary_name_is_used_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        for force in [false, true] {
            let mut output = named(&path, force);
            assert!(!names(dir.path()).contains(&"image".into()) || force);
            assert_eq!(output.hidden().unwrap().len(), 2);
            output.target().write_at(0, &[u8::from(force)]).unwrap();
            output.finish(1, || true).unwrap();
            drop(output);
            assert_eq!(names(dir.path()), ["image"]);
            assert_eq!(std::fs::read(&path).unwrap(), [u8::from(force)]);
        }
        drop(named(&path, true));
        assert_eq!(names(dir.path()), ["image"]);
        assert!(matches!(named(&path, true).finish(0, || false), Err(Error::Cancelled)));
        assert_eq!(std::fs::read(&path).unwrap(), [1]);
    }

    #[test]
    fn a_temporary_name_that_is_taken_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n".repeat(255));
        let (one, two) = (named(&path, false), named(&path, false));
        assert_eq!(names(dir.path()).len(), 2);
        drop((one, two));
        assert!(names(dir.path()).is_empty());
    }
}
