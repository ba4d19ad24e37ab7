//! Answers.

use crate::abi;
use crate::device::{Backing, Device};
use crate::types::{Attr, Entry, OpenFlags, Statfs};
use rustix::io::{Errno, IoSlice};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use zerocopy::IntoBytes;

/// The answer to one request, owed. May be kept and given later, from any thread; dropped, it is EIO.
///
/// An answer that the kernel does not want any more (the request was aborted) disappears silently.
#[derive(Debug)]
#[must_use = "dropping a reply answers EIO"]
pub struct Reply {
    device: Arc<Device>,
    unique: u64,
    answered: bool,
}

impl Reply {
    pub(crate) const fn new(device: Arc<Device>, unique: u64) -> Self {
        Self { device, unique, answered: false }
    }

    /// The request's [`crate::Request::unique`].
    pub const fn unique(&self) -> u64 {
        self.unique
    }

    /// True, once, if an interrupt of this request came before the filesystem knew the request.
    ///
    /// Whoever keeps a reply for later first notes it down where [`crate::Filesystem::interrupt`] finds it and then asks
    /// this; so no interrupt gets lost between several threads. [`crate::Pending`] does both.
    pub fn interrupted(&self) -> bool {
        self.device.take_interrupt(self.unique)
    }

    /// Success, without data.
    pub fn ok(self) {
        self.send(&[]);
    }

    /// An error. Numbers that FUSE cannot carry become EIO.
    pub fn error(mut self, error: Errno) {
        self.fail(error);
    }

    /// A look-up that found something.
    pub fn entry(self, entry: &Entry) {
        let out = abi::EntryOut::from(entry);
        self.send(&[IoSlice::new(out.as_bytes())]);
    }

    /// A look-up of a name that is not there, and may be remembered as such for `validity`. The caller sees ENOENT.
    pub fn negative(self, validity: Duration) {
        if validity.is_zero() {
            return self.error(Errno::NOENT);
        }
        let out = abi::EntryOut {
            entry_valid: validity.as_secs(),
            entry_valid_nsec: validity.subsec_nanos(),
            ..abi::EntryOut::default()
        };
        self.send(&[IoSlice::new(out.as_bytes())]);
    }

    /// Attributes, and how long they may be cached.
    pub fn attr(self, attr: &Attr, validity: Duration) {
        let out = abi::AttrOut {
            attr_valid: validity.as_secs(),
            attr_valid_nsec: validity.subsec_nanos(),
            dummy: 0,
            attr: attr.into(),
        };
        self.send(&[IoSlice::new(out.as_bytes())]);
    }

    /// Bytes: of a file, a link's target, directory entries. Not more than the request asked for.
    pub fn data(self, bytes: &[u8]) {
        self.send(&[IoSlice::new(bytes)]);
    }

    /// Bytes from several places, without copying them together.
    pub fn slices(self, parts: &[IoSlice<'_>]) {
        self.send(parts);
    }

    /// An open file or directory.
    pub fn open(self, fh: u64, flags: OpenFlags) {
        self.opened(fh, flags & !OpenFlags::PASSTHROUGH, 0);
    }

    /// An open file whose bytes the kernel takes from `backing` itself. Of `flags` only `DIRECT_IO` and `NOFLUSH` go with that
    /// (any other is EIO for the caller) and the rest is left out.
    pub fn open_passthrough(self, fh: u64, flags: OpenFlags, backing: &Backing) {
        let flags = flags & (OpenFlags::DIRECT_IO | OpenFlags::NOFLUSH);
        self.opened(fh, flags | OpenFlags::PASSTHROUGH, backing.id());
    }

    /// Registers `file` to back files of this connection. EPERM without `CAP_SYS_ADMIN` in the initial user namespace,
    /// ELOOP where `file` lies on a stacked filesystem.
    pub fn backing(&self, file: impl AsFd) -> Result<Backing, Errno> {
        Backing::open(&self.device, file.as_fd())
    }

    /// The value, or the names, that a request for at most `size` bytes wants: for a size of 0 only the length, and ERANGE
    /// if there is not room enough.
    pub fn xattr(self, size: u32, value: &[u8]) {
        let Ok(length) = u32::try_from(value.len()) else { return self.error(Errno::TOOBIG) };
        if size == 0 {
            self.xattr_size(length);
        } else if length > size {
            self.error(Errno::RANGE);
        } else {
            self.data(value);
        }
    }

    /// How many bytes a value has, in answer to a request of size 0.
    pub fn xattr_size(self, size: u32) {
        let out = abi::GetxattrOut { size, padding: 0 };
        self.send(&[IoSlice::new(out.as_bytes())]);
    }

    /// The filesystem's totals.
    pub fn statfs(self, statfs: &Statfs) {
        let out = abi::StatfsOut::from(statfs);
        self.send(&[IoSlice::new(out.as_bytes())]);
    }

    /// Where the next data or hole is.
    pub fn offset(self, offset: u64) {
        let out = abi::LseekOut { offset };
        self.send(&[IoSlice::new(out.as_bytes())]);
    }

    /// Leaves the request unanswered, for the next server of this connection to get it again. The caller waits until then.
    pub fn abandon(mut self) {
        self.answered = true;
    }

    pub(crate) fn init(self, out: &abi::InitOut) {
        self.send(&[IoSlice::new(out.as_bytes())]);
    }

    fn opened(self, fh: u64, flags: OpenFlags, backing_id: u32) {
        let out = abi::OpenOut { fh, open_flags: flags.bits(), backing_id };
        self.send(&[IoSlice::new(out.as_bytes())]);
    }

    fn send(mut self, parts: &[IoSlice<'_>]) {
        self.answered = true;
        match self.device.send(self.unique, 0, parts) {
            // ENOENT: nobody waits for this any more. ENODEV, EPERM: unmounted.
            Ok(()) | Err(Errno::NOENT | Errno::NODEV | Errno::PERM) => {}
            // The kernel refused the message; if the request is still there it must not wait for ever.
            Err(_) => self.fail(Errno::IO),
        }
    }

    fn fail(&mut self, error: Errno) {
        self.answered = true;
        let number = error.raw_os_error();
        let number = if (1..512).contains(&number) { number } else { Errno::IO.raw_os_error() };
        let _ = self.device.send(self.unique, -number, &[]);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.answered {
            self.fail(Errno::IO);
        }
    }
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
