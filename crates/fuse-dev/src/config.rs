//! The handshake: what is asked for, and what came of it.

use crate::abi;
use crate::error::Error;
use bitflags::bitflags;
use zerocopy::FromBytes;

bitflags! {
    /// `FUSE_*` flags of INIT, as far as they matter to a read-only filesystem.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct InitFlags: u64 {
        /// Several READs of one file at a time.
        const ASYNC_READ = 1 << 0;
        /// READDIRPLUS for every directory (and not only where the kernel guesses that it pays: `READDIRPLUS_AUTO`).
        const DO_READDIRPLUS = 1 << 13;
        /// ENOSYS to OPEN means: never ask again.
        const NO_OPEN_SUPPORT = 1 << 17;
        /// Look-ups and readdirs of one directory at a time.
        const PARALLEL_DIROPS = 1 << 18;
        /// The kernel checks ACLs, for which it asks for one xattr of each inode.
        const POSIX_ACL = 1 << 20;
        /// `max_pages` counts.
        const MAX_PAGES = 1 << 22;
        /// READLINK is cached.
        const CACHE_SYMLINKS = 1 << 23;
        /// ENOSYS to OPENDIR means: never ask again.
        const NO_OPENDIR_SUPPORT = 1 << 24;
        /// Pages are dropped on demand only, not when attributes seem to have changed.
        const EXPLICIT_INVAL_DATA = 1 << 25;
        /// The flags above bit 31 are there.
        const INIT_EXT = 1 << 30;
        /// Files may be backed by others (Linux 6.9).
        const PASSTHROUGH = 1 << 37;
        /// Requests in flight can be sent again (Linux 6.9).
        const HAS_RESEND = 1 << 39;
        /// The mount may be id-mapped (Linux 6.12).
        const ALLOW_IDMAP = 1 << 40;
    }
}

/// What to ask for in the handshake. What the kernel does not offer is left out silently; see [`Negotiated`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Back open files by others: how deep the filesystem may be in a stack, 1 or 2. 1 unless the backing files lie on
    /// overlayfs; with 2 the mount cannot be a lower layer of an overlay any more.
    pub passthrough: Option<u32>,
    /// Check POSIX ACLs. Costs one GETXATTR for each inode, so only for images that have some.
    pub posix_acl: bool,
    /// Allow id-mapped mounts. Needs `default_permissions`, and requests carry no uid any more.
    pub idmap: bool,
    /// Directory entries with attributes, so that `ls -l` and `find` need no look-ups. A filesystem whose directories are
    /// not meant to be listed does without.
    pub readdirplus: bool,
    /// The most bytes to read ahead; the kernel's own limit (usually 128 KiB) if larger.
    pub max_readahead: u32,
    /// Requests that may wait in the background (read-ahead).
    pub max_background: u16,
    /// Pages in one READ at most; 256 is 1 MiB.
    pub max_pages: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            passthrough: None,
            posix_acl: false,
            idmap: false,
            readdirplus: true,
            max_readahead: u32::MAX,
            max_background: 64,
            max_pages: 256,
        }
    }
}

impl Config {
    fn wanted(&self) -> InitFlags {
        let mut wanted = InitFlags::all();
        wanted.set(InitFlags::PASSTHROUGH, self.passthrough.is_some());
        wanted.set(InitFlags::POSIX_ACL, self.posix_acl);
        wanted.set(InitFlags::ALLOW_IDMAP, self.idmap);
        wanted.set(InitFlags::DO_READDIRPLUS, self.readdirplus);
        wanted
    }

    /// Works out the answer to the arguments of an INIT request.
    pub(crate) fn negotiate(&self, arguments: &[u8]) -> Result<Negotiated, Error> {
        let Ok((init, rest)) = abi::InitIn::read_from_prefix(arguments) else {
            return Err(Error::Version { major: 0, minor: 0 });
        };
        if init.major != abi::KERNEL_VERSION || init.minor < abi::OLDEST_MINOR_VERSION {
            return Err(Error::Version { major: init.major, minor: init.minor });
        }
        let mut offered = u64::from(init.flags);
        if offered & InitFlags::INIT_EXT.bits() != 0
            && let Ok((more, _)) = abi::InitInExt::read_from_prefix(rest)
        {
            offered |= u64::from(more.flags2) << 32;
        }
        let flags = self.wanted() & InitFlags::from_bits_truncate(offered);
        let stacked = flags.contains(InitFlags::PASSTHROUGH);
        Ok(Negotiated {
            minor: init.minor.min(abi::KERNEL_MINOR_VERSION),
            flags,
            max_readahead: init.max_readahead.min(self.max_readahead),
            max_background: self.max_background.max(1),
            max_pages: self.max_pages.max(1),
            max_stack_depth: if stacked { self.passthrough.unwrap_or(0).clamp(1, 2) } else { 0 },
        })
    }
}

/// What a handshake settled. With the descriptor it is all that another process needs to go on serving a connection: the
/// kernel sends no second INIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Minor version spoken; the major one is 7.
    pub minor: u32,
    /// Flags that both sides know.
    pub flags: InitFlags,
    /// Bytes read ahead at most.
    pub max_readahead: u32,
    /// Background requests at most.
    pub max_background: u16,
    /// Pages in one READ at most.
    pub max_pages: u16,
    /// Stack depth for passthrough; 0 without.
    pub max_stack_depth: u32,
}

impl Negotiated {
    /// The least that the kernel allows: nothing is ever written to these filesystems.
    const MAX_WRITE: u32 = 4096;

    /// True if the kernel moves the bytes of files opened by [`crate::Reply::open_passthrough`].
    pub const fn passthrough(&self) -> bool {
        self.flags.contains(InitFlags::PASSTHROUGH)
    }

    /// True if requests that a dead server left unanswered can be had again.
    pub const fn can_resend(&self) -> bool {
        self.flags.contains(InitFlags::HAS_RESEND)
    }

    pub(crate) fn reply(&self) -> abi::InitOut {
        let [flags, flags2] = halves(self.flags.bits());
        abi::InitOut {
            major: abi::KERNEL_VERSION,
            minor: self.minor,
            max_readahead: self.max_readahead,
            flags,
            max_background: self.max_background,
            congestion_threshold: self.max_background - self.max_background / 4,
            max_write: Self::MAX_WRITE,
            time_gran: 1,
            max_pages: self.max_pages,
            map_alignment: 0,
            flags2,
            max_stack_depth: self.max_stack_depth,
            request_timeout: 0,
            unused: [0; 11],
        }
    }
}

/// The low and the high half of a number.
#[expect(clippy::cast_possible_truncation, reason = "it is what this is for")]
const fn halves(bits: u64) -> [u32; 2] {
    [bits as u32, (bits >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn kernel(minor: u32, flags: u64) -> Vec<u8> {
        let [flags, flags2] = halves(flags);
        let init = abi::InitIn { major: 7, minor, max_readahead: 131_072, flags };
        let more = abi::InitInExt { flags2, unused: [0; 11] };
        [init.as_bytes(), more.as_bytes()].concat()
    }

    #[test]
    fn only_what_both_sides_know_is_used() {
        let negotiated = Config::default().negotiate(&kernel(45, u64::MAX)).unwrap();
        assert!(negotiated.can_resend());
        assert!(!negotiated.passthrough());
        assert_eq!(
            negotiated.reply().flags & (1 << 16),
            0,
            "the writeback cache would switch passthrough off"
        );
        assert_eq!(negotiated.reply().flags & (1 << 14), 0, "READDIRPLUS_AUTO would cost look-ups");
        assert_eq!(negotiated.reply().flags2 & (1 << 7), 1 << 7);

        let none = Config::default().negotiate(&kernel(31, 0)).unwrap();
        assert_eq!((none.flags, none.minor), (InitFlags::empty(), 31));
    }

    #[test]
    fn high_flags_count_only_where_the_kernel_says_so() {
        let offered = !InitFlags::INIT_EXT.bits();
        assert!(!Config::default().negotiate(&kernel(38, offered)).unwrap().can_resend());
    }

    #[test]
    fn passthrough_carries_a_depth_that_the_kernel_accepts() {
        let config = Config { passthrough: Some(9), ..Config::default() };
        let negotiated = config.negotiate(&kernel(45, u64::MAX)).unwrap();
        assert_eq!(negotiated.reply().max_stack_depth, 2);
        let old = config.negotiate(&kernel(39, 0xffff_ffff)).unwrap();
        assert_eq!((old.passthrough(), old.max_stack_depth), (false, 0));
    }

    #[test]
    fn an_old_or_foreign_kernel_is_refused() {
        assert_eq!(
            Config::default().negotiate(&kernel(27, 0)).unwrap_err(),
            Error::Version { major: 7, minor: 27 }
        );
        assert!(Config::default().negotiate(&[0; 3]).is_err());
    }

    #[test]
    fn limits_of_zero_do_not_stop_the_connection() {
        let config = Config { max_background: 0, max_pages: 0, ..Config::default() };
        let reply = config.negotiate(&kernel(45, u64::MAX)).unwrap().reply();
        assert_eq!((reply.max_background, reply.max_pages), (1, 1));
    }
}
