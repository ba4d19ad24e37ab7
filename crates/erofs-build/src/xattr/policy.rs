//! Which xattrs are taken.

use erofs_format::xattr::{XATTR_INDEX_NONE, split_name};

use crate::options::{BuildOptions, Whiteouts, XattrPolicy};
use crate::whiteouts::overlay_word;

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
