//! Small steps on directories, all relative to a descriptor and none following a symlink at the end.

use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::SystemTime;

/// How deep [`remove_tree`] goes: `fresh/BOOT_ID/.v/KEY/NID` is the deepest thing in a domain.
const MAX_DEPTH: u32 = 8;

/// Opens a directory for reading its names.
pub(crate) fn open(at: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

/// Opens a file for reading.
pub(crate) fn open_file(at: impl AsFd, path: impl rustix::path::Arg) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::openat(at, path, flags, Mode::empty()).map(File::from)
}

/// Makes a directory (0700) unless it is there.
pub(crate) fn make(at: impl AsFd, path: impl rustix::path::Arg) -> Result<(), Errno> {
    match rustix::fs::mkdirat(at, path, Mode::RWXU) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Whether there is anything at the path.
pub(crate) fn exists(at: impl AsFd, path: impl rustix::path::Arg) -> bool {
    rustix::fs::statat(at, path, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Calls `each` with every name but `.` and `..`; a directory that isn't there has none.
pub(crate) fn for_each_name<E: From<Errno>>(
    at: impl AsFd,
    path: impl rustix::path::Arg,
    each: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let directory = match open(at, path) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    for entry in Dir::new(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            each(name)?;
        }
    }
    Ok(())
}

/// All names but `.` and `..`; none if the directory isn't there.
pub(crate) fn names(at: impl AsFd, path: impl rustix::path::Arg) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for_each_name::<Errno>(at, path, &mut |name| {
        names.push(name.to_vec());
        Ok(())
    })?;
    Ok(names)
}

/// Deletes whatever is at the path, directories with all that is in them. Nothing there is fine.
pub(crate) fn remove_tree(at: impl AsFd, path: impl rustix::path::Arg + Copy) -> Result<(), Errno> {
    remove_below(at.as_fd(), path, MAX_DEPTH)
}

fn remove_below(at: impl AsFd, path: impl rustix::path::Arg + Copy, depth: u32) -> Result<(), Errno> {
    let stat = match rustix::fs::statat(&at, path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return gone_is_fine(rustix::fs::unlinkat(&at, path, AtFlags::empty()));
    }
    if depth == 0 {
        return Err(Errno::LOOP);
    }
    let directory = open(&at, path)?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes() == b"." || name.to_bytes() == b".." {
            continue;
        }
        // Most of a domain is files: ask the kernel to unlink and look closer only if it won't.
        match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) => remove_below(&directory, name, depth - 1)?,
            Err(errno) => return Err(errno),
        }
    }
    gone_is_fine(rustix::fs::unlinkat(&at, path, AtFlags::REMOVEDIR))
}

/// Takes "no such file" for success.
pub(crate) fn gone_is_fine(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// A name that nobody else picks.
pub(crate) fn unique_name(prefix: &str) -> Result<String, Errno> {
    let mut random = [0; 8];
    random_bytes(&mut random)?;
    Ok(format!("{prefix}{}", crate::digest::hex(&random)))
}

/// Fills the buffer from the kernel's generator.
pub(crate) fn random_bytes(buffer: &mut [u8]) -> Result<(), Errno> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        done += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}

/// Replaces a small file whole: nobody ever sees half of it.
pub(crate) fn write_whole(at: impl AsFd, directory: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{directory}{}", unique_name(".tmp-")?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&at, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
    let written = File::from(file).write_all(bytes).and_then(|()| {
        rustix::fs::renameat(&at, &temporary, &at, format!("{directory}{name}")).map_err(io::Error::from)
    });
    if written.is_err() {
        // The error that matters is the first one.
        let _ = rustix::fs::unlinkat(&at, &temporary, AtFlags::empty());
    }
    written
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_small(at: impl AsFd, path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(at, path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(Errno::FBIG.into());
    }
    Ok(bytes)
}

/// Renames without replacing anything.
pub(crate) fn rename_new(
    from: impl AsFd,
    old: impl rustix::path::Arg,
    to: impl AsFd,
    new: impl rustix::path::Arg,
) -> Result<(), Errno> {
    rustix::fs::renameat_with(from, old, to, new, RenameFlags::NOREPLACE)
}

/// Seconds since 1970; 0 if the clock is before that.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What a file takes on disk, in bytes.
pub(crate) fn disk_bytes(stat: &rustix::fs::Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)
}

/// A file's size in bytes.
pub(crate) fn size(stat: &rustix::fs::Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}
