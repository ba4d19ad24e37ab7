//! What extended attribute names look like under an overlay.
//!
//! Overlayfs with `userxattr` takes `user.overlay.NAME` of a lower layer as an order to itself, and `user.overlay.overlay.NAME` as the
//! file's own attribute `user.overlay.NAME`. So what an image stores under the reserved prefix is shown to overlayfs with one
//! `overlay.` more, and overlayfs takes it off again: programs see the image's attribute, and overlayfs obeys only ours.
//! `trusted.overlay.*` means nothing to an overlay with `userxattr` and is passed through it as what it is.

use std::borrow::Cow;

/// What overlayfs reads its orders from.
const RESERVED: &[u8] = b"user.overlay.";

/// What marks an attribute of the file's own below [`RESERVED`].
const ESCAPED: &[u8] = b"user.overlay.overlay.";

/// The names that the metadata layer itself gives to overlayfs.
pub(crate) const METACOPY: &[u8] = b"user.overlay.metacopy";
pub(crate) const REDIRECT: &[u8] = b"user.overlay.redirect";

/// What a name asked for by overlayfs stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked<'a> {
    /// Overlayfs asks for an order of ours (metacopy, redirect, opaque, whiteout, origin, ...).
    Order,
    /// An attribute of the image, under the name that it has there.
    OfImage(Cow<'a, [u8]>),
}

/// Reads a name as overlayfs uses it.
pub(crate) fn asked(name: &[u8]) -> Asked<'_> {
    if let Some(rest) = name.strip_prefix(ESCAPED) {
        Asked::OfImage(Cow::Owned([RESERVED, rest].concat()))
    } else if name.starts_with(RESERVED) {
        Asked::Order
    } else {
        Asked::OfImage(Cow::Borrowed(name))
    }
}

/// The name under which overlayfs must see the image's attribute `name`.
pub(crate) fn escaped(name: &[u8]) -> Cow<'_, [u8]> {
    match name.strip_prefix(RESERVED) {
        Some(rest) => Cow::Owned([ESCAPED, rest].concat()),
        None => Cow::Borrowed(name),
    }
}

/// Whether absence is told as "not supported". `ls -l` asks `security.selinux` of every file every time unless it is told once that
/// there is no such thing here.
pub(crate) fn absent_means_unsupported(name: &[u8]) -> bool {
    name.starts_with(b"security.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_stored_in_an_image_never_reaches_overlayfs_as_an_order() {
        for stored in [
            &b"user.overlay.redirect"[..],
            b"user.overlay.metacopy",
            b"user.overlay.opaque",
            b"user.overlay.overlay.redirect",
            b"user.overlay.",
        ] {
            let shown = escaped(stored);
            assert_ne!(asked(&shown), Asked::Order);
            assert!(shown.starts_with(ESCAPED));
            assert_eq!(asked(&shown), Asked::OfImage(Cow::Borrowed(stored)));
        }
    }

    #[test]
    fn other_names_stay_as_they_are() {
        for name in [
            &b"user.mime"[..],
            b"user.overlay",
            b"user.overlayfs.x",
            b"trusted.overlay.redirect",
            b"security.capability",
        ] {
            assert_eq!(escaped(name), name);
            assert_eq!(asked(name), Asked::OfImage(Cow::Borrowed(name)));
        }
    }

    #[test]
    fn what_overlayfs_asks_for_itself_is_never_looked_up_in_the_image() {
        for name in [
            METACOPY,
            REDIRECT,
            b"user.overlay.opaque",
            b"user.overlay.whiteout",
            b"user.overlay.origin",
            b"user.overlay.protattr",
        ] {
            assert_eq!(asked(name), Asked::Order);
        }
    }
}
