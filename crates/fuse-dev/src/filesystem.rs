//! What a filesystem implements.

use crate::config::Negotiated;
use crate::reply::Reply;
use crate::types::Request;
use rustix::io::Errno;

/// A read-only filesystem: one method per request that such a one answers.
///
/// Methods are called on the serving threads, several at once if the event loop runs on several. A method that would
/// take long keeps its [`Reply`] ([`crate::Pending`] helps), returns, and answers later from any thread. A request that
/// is not implemented is answered ENOSYS; for most kinds the kernel then asks no more on this connection. What would
/// change the filesystem never gets here: it is answered EROFS. Forgetting has no method: node ids are expected to be
/// computed from the image, so nothing is remembered about look-ups.
///
/// Names are bytes without a NUL or slash. Sizes are the most that the answer may hold.
#[expect(
    unused_variables,
    reason = "the default methods ignore their arguments; the names are documentation"
)]
pub trait Filesystem: Send + Sync {
    /// The connection is ready: after the handshake, or at once for one that was taken over.
    fn init(&self, negotiated: &Negotiated) {}

    /// Find `name` in the directory `request.nodeid`: [`Reply::entry`], or [`Reply::negative`] for a name that is known not
    /// to be there (an ENOENT error would be asked for again each time).
    fn lookup(&self, request: &Request, name: &[u8], reply: Reply) {
        reply.error(Errno::NOSYS);
    }

    /// [`Reply::attr`].
    fn getattr(&self, request: &Request, reply: Reply) {
        reply.error(Errno::NOSYS);
    }

    /// [`Reply::data`] with the target.
    fn readlink(&self, request: &Request, reply: Reply) {
        reply.error(Errno::NOSYS);
    }

    /// [`Reply::open`] or [`Reply::open_passthrough`]. ENOSYS: no file is ever announced again, all are served by node id
    /// with their pages kept (which is the fastest way to open a file that never changes).
    fn open(&self, request: &Request, flags: u32, reply: Reply) {
        reply.error(Errno::NOSYS);
    }

    /// [`Reply::data`] or [`Reply::slices`]; less than `size` bytes means the end of the file.
    fn read(&self, request: &Request, fh: u64, offset: u64, size: u32, reply: Reply) {
        reply.error(Errno::NOSYS);
    }

    /// The last descriptor of an open file is gone: [`Reply::ok`].
    fn release(&self, request: &Request, fh: u64, reply: Reply) {
        reply.ok();
    }

    /// A descriptor of an open file was closed.
    fn flush(&self, request: &Request, fh: u64, reply: Reply) {
        reply.error(Errno::NOSYS);
    }

    /// [`Reply::open`]. ENOSYS: directories are not announced again and their entries are cached.
    fn opendir(&self, request: &Request, flags: u32, reply: Reply) {
        reply.error(Errno::NOSYS);
    }

    /// [`Reply::data`] with a [`crate::DirBuffer`] of `size`, from the entry that `offset` names; empty at the end.
    fn readdir(&self, request: &Request, fh: u64, offset: u64, size: u32, reply: Reply) {
        reply.error(Errno::NOSYS);
    }

    /// The same with a [`crate::DirPlusBuffer`].
    fn readdirplus(&self, request: &Request, fh: u64, offset: u64, size: u32, reply: Reply) {
        reply.error(Errno::NOSYS);
    }

    /// An open directory is gone.
    fn releasedir(&self, request: &Request, fh: u64, reply: Reply) {
        reply.ok();
    }

    /// [`Reply::xattr`] with the value, or ENODATA (never cached; ENOSYS ends xattrs on this connection, EOPNOTSUPP tells
    /// this caller that there is no such kind).
    fn getxattr(&self, request: &Request, name: &[u8], size: u32, reply: Reply) {
        reply.error(Errno::NOSYS);
    }

    /// [`Reply::xattr`] with the names, a NUL after each.
    fn listxattr(&self, request: &Request, size: u32, reply: Reply) {
        reply.error(Errno::NOSYS);
    }

    /// [`Reply::statfs`].
    fn statfs(&self, request: &Request, reply: Reply) {
        reply.error(Errno::NOSYS);
    }

    /// Never asked where the mount has `default_permissions`.
    fn access(&self, request: &Request, mask: u32, reply: Reply) {
        reply.error(Errno::NOSYS);
    }

    /// `SEEK_DATA` or `SEEK_HOLE`: [`Reply::offset`]. ENOSYS: the file is all data.
    fn lseek(&self, request: &Request, fh: u64, offset: u64, whence: u32, reply: Reply) {
        reply.error(Errno::NOSYS);
    }

    /// The caller of the request `unique` got a signal: if it is still waiting, answer it with EINTR at once and return
    /// true, or its process cannot be killed. False: not known here (never was, or is answered).
    ///
    /// A request may be interrupted before its own method had time to note it down; see [`Reply::interrupted`].
    fn interrupt(&self, unique: u64) -> bool {
        false
    }

    /// The filesystem was unmounted, or its connection aborted. Called once, not when the connection is handed over.
    fn destroy(&self) {}
}
