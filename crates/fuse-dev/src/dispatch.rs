//! From a request's bytes to a method of the filesystem.

use crate::abi::{self, opcode};
use crate::filesystem::Filesystem;
use crate::reply::Reply;
use crate::types::Request;
use rustix::io::Errno;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Answers one request. Arguments that are not as the kernel makes them are EIO.
pub(crate) fn dispatch(
    filesystem: &dyn Filesystem,
    opcode: u32,
    request: &Request,
    arguments: &[u8],
    reply: Reply,
) {
    match opcode {
        opcode::LOOKUP => match name(arguments) {
            Some(name) => filesystem.lookup(request, name, reply),
            None => reply.error(Errno::IO),
        },
        opcode::GETATTR => filesystem.getattr(request, reply),
        opcode::READLINK => filesystem.readlink(request, reply),
        opcode::OPEN => with(arguments, reply, |open: abi::OpenIn, _, reply| {
            filesystem.open(request, open.flags, reply);
        }),
        opcode::READ => with(arguments, reply, |read: abi::ReadIn, _, reply| {
            filesystem.read(request, read.fh, read.offset, read.size, reply);
        }),
        opcode::STATFS => filesystem.statfs(request, reply),
        opcode::RELEASE => with(arguments, reply, |release: abi::ReleaseIn, _, reply| {
            filesystem.release(request, release.fh, reply);
        }),
        opcode::GETXATTR => with(arguments, reply, |get: abi::GetxattrIn, rest, reply| match name(rest) {
            Some(name) => filesystem.getxattr(request, name, get.size, reply),
            None => reply.error(Errno::IO),
        }),
        opcode::LISTXATTR => with(arguments, reply, |list: abi::GetxattrIn, _, reply| {
            filesystem.listxattr(request, list.size, reply);
        }),
        opcode::FLUSH => with(arguments, reply, |flush: abi::FlushIn, _, reply| {
            filesystem.flush(request, flush.fh, reply);
        }),
        opcode::OPENDIR => with(arguments, reply, |open: abi::OpenIn, _, reply| {
            filesystem.opendir(request, open.flags, reply);
        }),
        opcode::READDIR => with(arguments, reply, |read: abi::ReadIn, _, reply| {
            filesystem.readdir(request, read.fh, read.offset, read.size, reply);
        }),
        opcode::READDIRPLUS => with(arguments, reply, |read: abi::ReadIn, _, reply| {
            filesystem.readdirplus(request, read.fh, read.offset, read.size, reply);
        }),
        opcode::RELEASEDIR => with(arguments, reply, |release: abi::ReleaseIn, _, reply| {
            filesystem.releasedir(request, release.fh, reply);
        }),
        opcode::ACCESS => with(arguments, reply, |access: abi::AccessIn, _, reply| {
            filesystem.access(request, access.mask, reply);
        }),
        opcode::LSEEK => with(arguments, reply, |seek: abi::LseekIn, _, reply| {
            filesystem.lseek(request, seek.fh, seek.offset, seek.whence, reply);
        }),
        opcode::SETATTR
        | opcode::SYMLINK
        | opcode::MKNOD
        | opcode::MKDIR
        | opcode::UNLINK
        | opcode::RMDIR
        | opcode::RENAME
        | opcode::LINK
        | opcode::WRITE
        | opcode::SETXATTR
        | opcode::REMOVEXATTR
        | opcode::CREATE
        | opcode::FALLOCATE
        | opcode::RENAME2
        | opcode::COPY_FILE_RANGE
        | opcode::TMPFILE
        | opcode::COPY_FILE_RANGE_64 => reply.error(Errno::ROFS),
        // FSYNC, BMAP, IOCTL, POLL, SYNCFS, STATX, ... and what later kernels invent.
        _ => reply.error(Errno::NOSYS),
    }
}

fn with<T: FromBytes + KnownLayout + Immutable>(
    arguments: &[u8],
    reply: Reply,
    serve: impl FnOnce(T, &[u8], Reply),
) {
    match T::read_from_prefix(arguments) {
        Ok((value, rest)) => serve(value, rest, reply),
        Err(_) => reply.error(Errno::IO),
    }
}

/// A NUL-terminated name.
fn name(arguments: &[u8]) -> Option<&[u8]> {
    let end = arguments.iter().position(|byte| *byte == 0)?;
    arguments.get(..end)
}
