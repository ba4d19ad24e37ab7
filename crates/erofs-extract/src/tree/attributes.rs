//! Owner, extended attributes, mode and times of what was made, in this order: a new owner clears setuid and
//! capabilities, and a mode may take the right to set attributes.

use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use erofs_image::Xattr;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
    chmod, chownat, fchmod, fchown, fremovexattr, fsetxattr, fstat, futimens, openat, removexattr, setxattr,
    utimensat,
};
use rustix::io::Errno;

use super::Tree;
use crate::error::{Error, Result};
use crate::options::Owners;
use crate::select::Step;

const SET_ID: u32 = 0o6000;
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
const NOT_ROOT: &str = "only root may set them";

/// How an entry is reached.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// By its descriptor: files and directories.
    Open(BorrowedFd<'a>),
    /// By a descriptor that only says where it is: what is not to be opened, or cannot be.
    Found(BorrowedFd<'a>),
}

/// What an entry has already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fresh {
    /// It belongs to the caller and to the caller's group.
    pub(super) is_callers: bool,
    /// Its mode is right.
    pub(super) has_mode: bool,
}

impl Fresh {
    pub(super) const fn other(is_callers: bool) -> Self {
        Self { is_callers, has_mode: false }
    }
}

/// Who extracts.
#[derive(Debug)]
pub(super) struct Caller {
    uid: u32,
    gid: u32,
    /// The bits that new files don't get, if they are known.
    umask: Option<u32>,
}

impl Caller {
    pub(super) fn new() -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { uid, gid, umask: umask() }
    }
}

/// The umask, which only the process's status tells without changing it.
fn umask() -> Option<u32> {
    let mut status = String::new();
    std::fs::File::open("/proc/self/status").ok()?.take(4096).read_to_string(&mut status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(line.trim(), 8).ok()
}

impl Tree<'_> {
    /// Whether something new with these attributes belongs to the caller.
    pub(super) fn is_callers(&self, stat: &Stat) -> bool {
        (stat.st_uid, stat.st_gid) == (self.caller.uid, self.caller.gid) && stat.st_mode & SET_ID == 0
    }

    /// The attributes that `step` is to get.
    pub(super) fn xattrs(&self, step: &Step) -> Result<Vec<Xattr>> {
        if !self.context.options.xattrs {
            return Ok(Vec::new());
        }
        self.context.image.xattrs(&step.inode).map_err(Error::image(&step.path))
    }

    /// With which mode to make a file, and whether that is right already. Nobody gets at it before its owner
    /// is right, and an attribute can be set as long as its owner may write.
    pub(super) fn first_mode(&self, step: &Step, xattrs: &[Xattr], is_callers: bool) -> (Mode, bool) {
        let mode = u32::from(step.inode.mode) & 0o7777;
        let stays = is_callers
            && (step.inode.uid, step.inode.gid) == (self.caller.uid, self.caller.gid)
            && xattrs.is_empty()
            && !self.inherits_acl
            && self.caller.umask.is_some_and(|umask| mode & (umask | 0o7000) == 0);
        if stays { (Mode::from_raw_mode(mode), true) } else { (Mode::RUSR | Mode::WUSR, false) }
    }

    /// Sets everything about an entry but its content.
    pub(super) fn set_attributes(
        &self,
        place: Place<'_>,
        step: &Step,
        xattrs: &[Xattr],
        fresh: Fresh,
    ) -> Result<()> {
        let is_link = step.inode.is_symlink();
        if self.inherits_acl && !is_link {
            for name in ACLS {
                // Most have none.
                let _ = place.remove_xattr(name);
            }
        }
        let owner_is_right = self.set_owner(place, step, fresh.is_callers)?;
        for xattr in xattrs {
            self.set_xattr(place, step, xattr)?;
        }
        if !is_link && !fresh.has_mode {
            let mut mode = u32::from(step.inode.mode) & 0o7777;
            if !owner_is_right && mode & SET_ID != 0 {
                // It would lend the caller's rights to others, who were to have somebody else's.
                mode &= !SET_ID;
                self.context.lose("setuid and setgid bits", "the owner is another one", &step.path);
            }
            let set = place.set_mode(Mode::from_raw_mode(mode));
            set.map_err(Error::target(self.path(&step.path), "set the mode of"))?;
        }
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let mtime = Timespec { tv_sec: step.inode.mtime, tv_nsec: step.inode.mtime_nsec.into() };
        let times = Timestamps { last_access: omit, last_modification: mtime };
        place.set_times(&times).map_err(Error::target(self.path(&step.path), "set the times of"))
    }

    /// Finds what was just made in `dir` and has no descriptor. Its name alone would not do: whoever may write
    /// to the directory could have put something else there meanwhile, such as a link to somebody's file.
    pub(super) fn find_made(&self, dir: &OwnedFd, step: &Step) -> Result<OwnedFd> {
        let path = || self.path(&step.path);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat(dir, step.name(), flags, Mode::empty()) {
            Err(Errno::NOENT) => return Err(Error::Replaced { path: path() }),
            found => found.map_err(Error::target(path(), "find again"))?,
        };
        let stat = fstat(&found).map_err(Error::target(path(), "stat"))?;
        let wanted = FileType::from_raw_mode(u32::from(step.inode.mode));
        if FileType::from_raw_mode(stat.st_mode) != wanted || stat.st_nlink > 1 {
            return Err(Error::Replaced { path: path() });
        }
        Ok(found)
    }

    /// Whether the entry belongs to whom the image says.
    fn set_owner(&self, place: Place<'_>, step: &Step, is_callers: bool) -> Result<bool> {
        let (uid, gid) = (step.inode.uid, step.inode.gid);
        let is_right = is_callers && (uid, gid) == (self.caller.uid, self.caller.gid);
        let tries = match self.context.options.owners {
            Owners::Image => true,
            Owners::Auto => self.caller.uid == 0,
            Owners::Caller => return Ok(is_right),
        };
        if is_right {
            return Ok(true);
        }
        let set = if !tries || uid == u32::MAX || gid == u32::MAX {
            // The highest number means "leave it" to the system.
            Err(Errno::PERM)
        } else {
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            match place {
                Place::Open(fd) => fchown(fd, uid, gid),
                Place::Found(fd) => chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH),
            }
        };
        match set {
            Ok(()) => Ok(true),
            // INVAL: the user namespace has no such id.
            Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.context.lose("owners", NOT_ROOT, &step.path);
                Ok(false)
            }
            Err(error) => Err(Error::target(self.path(&step.path), "set the owner of")(error)),
        }
    }

    fn set_xattr(&self, place: Place<'_>, step: &Step, xattr: &Xattr) -> Result<()> {
        let name = xattr.name.as_slice();
        let namespace = name.split(|byte| *byte == b'.').next().unwrap_or_default();
        let namespace = String::from_utf8_lossy(namespace);
        match place.set_xattr(name, &xattr.value) {
            Ok(()) => {}
            Err(Errno::PERM | Errno::ACCESS) => {
                self.context.lose(&format!("{namespace}.* attributes"), NOT_ROOT, &step.path);
            }
            Err(Errno::OPNOTSUPP | Errno::INVAL) => {
                let what = format!("{namespace}.* attributes");
                self.context.lose(&what, "the destination has no such attributes", &step.path);
            }
            // A disk that is full says so for the content too.
            Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE | Errno::DQUOT) => {
                self.context.lose("large attributes", "the destination has no room for them", &step.path);
            }
            Err(error) => {
                return Err(Error::target(self.path(&step.path), "set an extended attribute of")(error));
            }
        }
        Ok(())
    }
}

impl Place<'_> {
    /// A path to what `fd` says, for calls that take no such descriptor. A symbolic link behind it is not
    /// followed.
    fn proc_path(fd: BorrowedFd<'_>) -> String {
        format!("/proc/self/fd/{}", fd.as_raw_fd())
    }

    fn set_xattr(self, name: &[u8], value: &[u8]) -> rustix::io::Result<()> {
        match self {
            Self::Open(fd) => fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Found(fd) => setxattr(Self::proc_path(fd), name, value, XattrFlags::empty()),
        }
    }

    fn remove_xattr(self, name: &[u8]) -> rustix::io::Result<()> {
        match self {
            Self::Open(fd) => fremovexattr(fd, name),
            Self::Found(fd) => removexattr(Self::proc_path(fd), name),
        }
    }

    fn set_mode(self, mode: Mode) -> rustix::io::Result<()> {
        match self {
            Self::Open(fd) => fchmod(fd, mode),
            Self::Found(fd) => chmod(Self::proc_path(fd), mode),
        }
    }

    fn set_times(self, times: &Timestamps) -> rustix::io::Result<()> {
        match self {
            Self::Open(fd) => futimens(fd, times),
            Self::Found(fd) => match utimensat(fd, c"", times, AtFlags::EMPTY_PATH) {
                // Linux before 5.8.
                Err(Errno::INVAL) => utimensat(CWD, Self::proc_path(fd), times, AtFlags::empty()),
                set => set,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::context::Context;
    use crate::options::ExtractOptions;
    use crate::report::Silent;

    #[test]
    fn what_somebody_has_put_in_place_of_what_was_made_is_not_touched() {
        let place = tempfile::tempdir().unwrap();
        let tree = place.path().join("tree");
        fs::create_dir(&tree).unwrap();
        symlink("anywhere", tree.join("link")).unwrap();
        let image = crate::testing::image_of(&tree);
        let options = ExtractOptions { force: true, ..ExtractOptions::default() };
        let context = Context::new(&image, &options, &Silent);
        let (made, top) = Tree::open(&context, &tree).unwrap();
        let inode = image.resolve(b"link", false).unwrap();
        let find = |name: &str| {
            made.find_made(&top, &Step { path: name.into(), depth: 1, inode })
                .map_err(|error| error.to_string())
        };
        assert!(find("link").is_ok());
        fs::write(tree.join("file"), b"precious").unwrap();
        fs::hard_link(tree.join("link"), tree.join("linked")).unwrap();
        for name in ["file", "linked", "nothing"] {
            let said = find(name).unwrap_err();
            assert!(said.ends_with("something else has taken its place"), "{said}");
        }
    }
}
