//! A file that is nobody's yet: filled first, named only when it is whole.

use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

/// What objects are; whoever makes a file may write it until it is closed.
const READ_ONLY: Mode = Mode::RUSR.union(Mode::RGRP).union(Mode::ROTH);
/// All that a mode may say.
const ALL: Mode = Mode::from_raw_mode(0o7777);

/// A new file without a name, or, where the filesystem has no `O_TMPFILE`, with a hidden one that
/// goes away with this value.
#[derive(Debug)]
pub(crate) struct Temporary<'d> {
    file: File,
    directory: BorrowedFd<'d>,
    name: Option<String>,
}

impl<'d> Temporary<'d> {
    /// Makes a file below `directory`; `prefix` begins its name if it needs one and says in which
    /// folder it is to lie.
    pub(crate) fn new(directory: &'d impl AsFd, prefix: &str) -> Result<Self, Errno> {
        let directory = directory.as_fd();
        let folder = prefix.rsplit_once('/').map_or(".", |(folder, _)| folder);
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(directory, folder, flags | OFlags::TMPFILE, READ_ONLY) {
            Ok(file) => Ok(Self { file: file.into(), directory, name: None }),
            // EISDIR is what a filesystem says that has never heard of the flag.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Self::named(directory, prefix),
            Err(errno) => Err(errno),
        }
    }

    fn named(directory: BorrowedFd<'d>, prefix: &str) -> Result<Self, Errno> {
        let name = crate::dir::unique_name(prefix)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(directory, &name, flags, READ_ONLY)?.into();
        Ok(Self { file, directory, name: Some(name) })
    }

    /// The file, for filling it.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Makes the file unwritable: for good with fs-verity, and by its mode in any case.
    pub(crate) fn seal(&mut self, verity: bool) -> Result<Stat, Errno> {
        let stat = rustix::fs::fstat(&self.file)?;
        // The process' umask may have taken something away.
        if Mode::from_raw_mode(stat.st_mode) & ALL != READ_ONLY {
            rustix::fs::fchmod(&self.file, READ_ONLY)?;
        }
        if verity {
            // The kernel wants to see no writer, so the only one is replaced by a reader.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let reader = rustix::fs::openat(CWD, self.proc_path(), flags, Mode::empty())?;
            self.file = reader.into();
            erofs_sys::fsverity_enable(&self.file, erofs_sys::VerityHash::Sha256)?;
        }
        Ok(stat)
    }

    /// Gives the file a name, at a path below `at`.
    pub(crate) fn link(&self, at: impl AsFd, path: &str) -> Result<(), Errno> {
        if let Some(name) = &self.name {
            return rustix::fs::linkat(self.directory, name, at, path, AtFlags::empty());
        }
        match rustix::fs::linkat(&self.file, "", &at, path, AtFlags::EMPTY_PATH) {
            // Before Linux 6.10 only CAP_DAC_READ_SEARCH may do that.
            Err(Errno::NOENT) => {
                rustix::fs::linkat(CWD, self.proc_path(), &at, path, AtFlags::SYMLINK_FOLLOW)
            }
            other => other,
        }
    }

    fn proc_path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // A name that stays is removed by gc, or with its boot's directory.
            let _ = rustix::fs::unlinkat(self.directory, name, AtFlags::empty());
        }
    }
}

/// Whether files below `folder` can be given fs-verity; asked once, since the answer never changes.
pub(crate) fn has_verity(directory: &impl AsFd, folder: &str) -> bool {
    Temporary::new(directory, &format!("{folder}/.probe-")).is_ok_and(|mut probe| probe.seal(true).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::os::unix::fs::PermissionsExt;

    fn names(directory: &tempfile::TempDir) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Either way a file is seen only when it has been linked, whole and read-only.
    #[test]
    fn nobody_sees_a_file_before_it_is_whole() {
        let place = tempfile::tempdir_in(".").unwrap();
        let directory = crate::dir::open(rustix::fs::CWD, place.path()).unwrap();
        let nameless = Temporary::new(&directory, ".tmp-").unwrap();
        let named = Temporary::named(directory.as_fd(), ".tmp-").unwrap();
        for (mut temporary, name) in [(nameless, "a"), (named, "b")] {
            temporary.file().write_all_at(b"content", 0).unwrap();
            temporary.seal(false).unwrap();
            temporary.link(&directory, name).unwrap();
            assert_eq!(temporary.link(&directory, name), Err(Errno::EXIST));
            assert_eq!(temporary.link(&directory, "missing/x"), Err(Errno::NOENT));
        }
        let mut left = names(&place);
        left.sort();
        assert_eq!(left, ["a", "b"], "the hidden name is gone");
        for name in left {
            let path = place.path().join(name);
            assert_eq!(fs::read(&path).unwrap(), b"content");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o444);
        }
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing() {
        let place = tempfile::tempdir_in(".").unwrap();
        let directory = crate::dir::open(rustix::fs::CWD, place.path()).unwrap();
        drop(Temporary::named(directory.as_fd(), ".tmp-").unwrap());
        drop(Temporary::new(&directory, ".tmp-").unwrap());
        assert!(names(&place).is_empty());
    }
}
