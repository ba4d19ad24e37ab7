//! What in a layer says that something of the layers below is not there.
//!
//! Two ways of saying it are understood, wherever they occur: that of AUFS, which OCI took over, by names
//! (`.wh.NAME`, `.wh..wh..opq`), and that of overlayfs, by devices 0:0 and extended attributes.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::options::Whiteouts;
use crate::source::{Found, Layer, Listing, ListingId, What};
use crate::tree::{Kind, Regular};
use crate::xattr::{Xattr, Xattrs};

const PREFIX: &[u8] = b".wh.";
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// Names that AUFS keeps for itself.
const OWN_PREFIX: &[u8] = b".wh..wh.";

const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// The part behind `trusted.overlay.` or `user.overlay.` of a name.
pub(crate) fn overlay_word(name: &[u8]) -> Option<&[u8]> {
    OVERLAY.iter().find_map(|prefix| name.strip_prefix(*prefix))
}

/// Turns what stands for whiteouts and opaque directories into them. `path` makes the path of the entry that
/// a listing has under a name, for messages.
pub(crate) fn interpret(layer: &mut Layer, path: &dyn Fn(&[u8]) -> std::path::PathBuf) -> Result<()> {
    let mut opaque: Vec<ListingId> = Vec::new();
    for listing in layer.listings.values_mut() {
        interpret_listing(listing, &mut opaque, path)?;
    }
    for id in opaque {
        layer.listings.entry(id).or_default().is_opaque = true;
    }
    Ok(())
}

fn interpret_listing(
    listing: &mut Listing,
    opaque: &mut Vec<ListingId>,
    path: &dyn Fn(&[u8]) -> std::path::PathBuf,
) -> Result<()> {
    // A whiteout keeps owner and time of what says it: nothing that reads one looks at them, but a layer that is
    // built anew should not differ from itself.
    let mut hidden: Vec<Found> = Vec::new();
    let entries = std::mem::take(&mut listing.entries);
    for (mut found, child) in entries {
        if &*found.name == OPAQUE_NAME {
            listing.is_opaque = true;
            continue;
        }
        if found.name.starts_with(OWN_PREFIX) {
            continue;
        }
        if let Some(name) = found.name.strip_prefix(PREFIX) {
            if name.is_empty() || name == b"." || name == b".." {
                return Err(Error::Name { path: path(&found.name), reason: "it is a whiteout of no name" });
            }
            let name = name.into();
            hidden.push(whiteout(Found { name, ..found }, 0));
            continue;
        }
        let is_device = matches!(found.what, What::Node(Kind::CharDevice(0)));
        if is_device || take_overlay_words(&mut found, child, opaque, path)? {
            let mode = if is_device { found.mode } else { 0 };
            hidden.push(whiteout(found, mode));
            continue;
        }
        listing.entries.push((found, child));
    }
    if hidden.is_empty() {
        return Ok(());
    }
    hidden.sort_by(|a, b| a.name.cmp(&b.name));
    hidden.dedup_by(|next, first| next.name == first.name);
    for whiteout in hidden {
        match listing.entries.binary_search_by(|(found, _)| found.name.cmp(&whiteout.name)) {
            // It says that what is below is gone, and has something of its own there.
            Ok(index) => opaque.extend(listing.entries.get(index).and_then(|(_, child)| *child)),
            Err(index) => listing.entries.insert(index, (whiteout, None)),
        }
    }
    Ok(())
}

/// The whiteout that an entry stands for. Permissions are none, as overlayfs makes them, unless it is a device
/// already.
fn whiteout(said: Found, mode: u32) -> Found {
    Found { what: What::Whiteout, mode, identity: None, xattrs: Xattrs::default(), ..said }
}

/// Takes overlayfs' own attributes from an entry; whether they make a whiteout of it.
fn take_overlay_words(
    found: &mut Found,
    child: Option<ListingId>,
    opaque: &mut Vec<ListingId>,
    path: &dyn Fn(&[u8]) -> std::path::PathBuf,
) -> Result<bool> {
    if !found.xattrs.iter().any(|xattr| overlay_word(&xattr.name).is_some()) {
        return Ok(false);
    }
    let mut is_whiteout = false;
    for xattr in &*found.xattrs {
        match overlay_word(&xattr.name) {
            Some(b"opaque") if *xattr.value == *b"y" => opaque.extend(child),
            Some(b"whiteout") => {
                is_whiteout = matches!(found.what, What::Node(Kind::Regular(Regular { size: 0, .. })));
            }
            Some(b"redirect" | b"metacopy") => {
                return Err(Error::Xattr {
                    path: path(&found.name),
                    name: xattr.name.to_vec(),
                    reason: "overlayfs has its content elsewhere; make the layer with redirect_dir=off,metacopy=off",
                });
            }
            _ => {}
        }
    }
    found.xattrs = found.xattrs.iter().filter(|xattr| overlay_word(&xattr.name).is_none()).cloned().collect();
    Ok(is_whiteout)
}

impl Whiteouts {
    /// What becomes of a whiteout that is still there when all layers are merged.
    pub(crate) fn kept(self, whiteout: Found) -> Option<Found> {
        (self == Self::Overlay).then_some(Found { what: What::Node(Kind::CharDevice(0)), ..whiteout })
    }

    /// What a directory has in which a whiteout is kept: without it overlayfs shows the whiteout as an entry, if
    /// no other layer has that directory.
    pub(crate) fn origin() -> Xattr {
        Xattr { name: (*b"trusted.overlay.origin").into(), value: Box::default() }
    }

    /// The xattrs of a directory that is opaque.
    pub(crate) fn opaque(self, xattrs: Xattrs) -> Xattrs {
        if self != Self::Overlay {
            return xattrs;
        }
        let mark = Xattr { name: (*b"trusted.overlay.opaque").into(), value: (*b"y").into() };
        let mut marked: Vec<_> = xattrs.iter().cloned().chain([mark]).collect();
        marked.sort();
        Arc::from(marked)
    }
}
