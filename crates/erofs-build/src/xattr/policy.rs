//! Which xattrs are taken.

use std::path::PathBuf;

use erofs_format::xattr::{XATTR_INDEX_NONE, split_name};

use super::{Xattr, Xattrs};
use crate::error::{Error, Result};
use crate::options::{BuildOptions, Whiteouts, XattrPolicy};
use crate::tree::whiteouts::overlay_word;

/// `XATTR_NAME_MAX`: no system call takes longer names, in bytes.
const LONGEST_NAME: usize = 255;

/// The policy of a build together with what no policy can change.
#[derive(Debug)]
pub(crate) struct Filter<'a> {
    policy: &'a XattrPolicy,
    /// This name is the builder's own; a value that the source has for it is a claim about other bytes.
    reserved: Option<&'a [u8]>,
    /// Attributes of overlayfs are looked at, whatever the policy is, and taken out later.
    whiteouts: bool,
}

impl<'a> Filter<'a> {
    pub(crate) fn new(options: &'a BuildOptions) -> Self {
        let reserved = options.fingerprint.then_some(options.fingerprint_name.as_slice());
        Self { policy: &options.xattrs, reserved, whiteouts: options.whiteouts != Whiteouts::Plain }
    }

    /// Whether xattrs need not even be listed.
    pub(crate) fn takes_none(&self) -> bool {
        *self.policy == XattrPolicy::None && !self.whiteouts
    }

    /// Those of a file's xattrs that are taken, and how many are not. `path` is the file's, for messages.
    pub(crate) fn pick(
        &self,
        all: Vec<(Vec<u8>, Vec<u8>)>,
        path: &dyn Fn() -> PathBuf,
    ) -> Result<(Xattrs, u64)> {
        let mut left_out = 0;
        let mut found = Vec::new();
        for (name, value) in all {
            if !self.takes(&name) {
                left_out += 1;
                continue;
            }
            let reason = if value.len() > usize::from(u16::MAX) {
                "its value is longer than 65535 bytes"
            } else if name.len() > LONGEST_NAME {
                "its name is longer than 255 bytes"
            } else if name.contains(&0) {
                "its name contains a NUL byte"
            } else {
                found.push(Xattr { name: name.into(), value: value.into() });
                continue;
            };
            return Err(Error::Xattr { path: path(), name, reason });
        }
        found.sort();
        for (one, next) in found.iter().zip(found.iter().skip(1)) {
            if one.name == next.name {
                let (name, reason) = (one.name.to_vec(), "there are two of this name");
                return Err(Error::Xattr { path: path(), name, reason });
            }
        }
        Ok((Xattrs::from(found), left_out))
    }

    /// Whether the xattr `name` is stored.
    pub(crate) fn takes(&self, name: &[u8]) -> bool {
        let (namespace, _) = split_name(name);
        if namespace == XATTR_INDEX_NONE || Some(name) == self.reserved {
            return false;
        }
        if self.whiteouts && overlay_word(name).is_some() {
            return true;
        }
        match self.policy {
            XattrPolicy::All => true,
            XattrPolicy::None => false,
            XattrPolicy::Default => is_portable(name),
            XattrPolicy::Patterns(patterns) => patterns.iter().any(|p| matches(p.as_bytes(), name)),
        }
    }
}

fn is_portable(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || [&b"security.capability"[..], b"system.posix_acl_access", b"system.posix_acl_default"]
            .contains(&name)
}

/// Whether `name` matches `pattern`, where `*` stands for any bytes and `?` for one. After a mismatch only
/// the last `*` has to be tried again, so the time is bounded by the product of the lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut last_star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                last_star = Some((p, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((star, from)) = last_star else { return false };
                last_star = Some((star, from + 1));
                p = star + 1;
                n = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_a_shell_would() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("user.*", "user.a.b", true),
            ("user.*", "trusted.a", false),
            ("*.b", "user.a.b", true),
            ("*a*b", "user.aab.c.b", true),
            ("user.?", "user.", false),
            ("user.?", "user.x", true),
            ("user.x", "user.xy", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn labels_of_this_machine_are_left_out_by_default() {
        let options = BuildOptions::default();
        let filter = Filter::new(&options);
        assert!(filter.takes(b"user.mime_type"));
        assert!(filter.takes(b"security.capability"));
        assert!(filter.takes(b"system.posix_acl_default"));
        assert!(!filter.takes(b"security.selinux"));
        assert!(!filter.takes(b"trusted.overlay.opaque"));
        assert!(!filter.takes(b"system.nfs4_acl"));
    }

    #[test]
    fn a_fingerprint_of_the_source_is_never_taken_over() {
        let mut options = BuildOptions {
            xattrs: XattrPolicy::All,
            fingerprint_name: b"trusted.fingerprint".to_vec(),
            ..BuildOptions::default()
        };
        assert!(!Filter::new(&options).takes(b"trusted.fingerprint"));
        options.fingerprint = false;
        assert!(Filter::new(&options).takes(b"trusted.fingerprint"));
    }
}
