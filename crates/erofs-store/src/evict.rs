//! Making room: objects of images that nobody has mounted go, least recently mounted first.

use crate::Digest;
use crate::Domain;
use crate::Result;
use crate::dir;
use crate::images;
use crate::images::Held;
use rustix::fs::AtFlags;
use std::collections::HashMap;
use std::collections::HashSet;

/// An object that belongs to no image may be one whose fact is about to be written.
const ORPHAN_AGE: u64 = 3600;

/// Removes objects until `wanted` bytes on disk have been freed; returns how many were.
///
/// `keep` tells the objects that the caller knows to be in use beyond what the facts on disk say; it is
/// asked under the lock, so that nothing is published in between. Names of an image that is not mounted
/// go from `fresh/` too, or its inodes would keep their blocks.
pub(crate) fn make_room(domain: &Domain, wanted: u64, keep: impl FnOnce() -> HashSet<Digest>) -> Result<u64> {
    let lock = images::open_lock(domain)?;
    let _held = Held::new(&lock, true).map_err(|errno| domain.io("lock", images::LOCK, errno))?;
    let keep = keep();
    let known = images::all(domain)?;
    let mut references = images::references(&known);
    for digest in keep {
        *references.entry(digest).or_insert(0) += 1;
    }
    let sizes = sizes(domain)?;
    let mut freed: u64 = 0;

    let now = dir::now();
    for (digest, object) in &sizes {
        if freed >= wanted {
            return Ok(freed);
        }
        if !references.contains_key(digest) && now.saturating_sub(object.made) >= ORPHAN_AGE {
            remove_object(domain, digest)?;
            freed = freed.saturating_add(object.disk_bytes);
        }
    }
    for image in known.iter().rev() {
        if freed >= wanted {
            break;
        }
        if images::is_mounted(domain, &image.key)? {
            continue;
        }
        let links = domain.by_nid_path(&image.key);
        dir::remove_tree(domain, links.as_str()).map_err(|errno| domain.io("delete", &links, errno))?;
        for digest in image.digests() {
            let Some(count) = references.get_mut(&digest) else { continue };
            *count -= 1;
            if *count == 0
                && let Some(object) = sizes.get(&digest)
            {
                remove_object(domain, &digest)?;
                freed = freed.saturating_add(object.disk_bytes);
            }
        }
    }
    Ok(freed)
}

/// What matters of an object when it is to go.
struct Size {
    disk_bytes: u64,
    /// Seconds since 1970.
    made: u64,
}

fn sizes(domain: &Domain) -> Result<HashMap<Digest, Size>> {
    let mut sizes = HashMap::new();
    domain.objects().list(&mut |object| {
        let made = u64::try_from(object.stat.st_mtime).unwrap_or(0);
        sizes.insert(object.digest, Size { disk_bytes: dir::disk_bytes(&object.stat), made });
        Ok(())
    })?;
    Ok(sizes)
}

/// Removes both names of an object.
pub(crate) fn remove_object(domain: &Domain, digest: &Digest) -> Result<()> {
    for path in [Domain::durable_path(digest), domain.fresh_object_path(digest)] {
        dir::gone_is_fine(rustix::fs::unlinkat(domain, &path, AtFlags::empty()))
            .map_err(|errno| domain.io("delete", &path, errno))?;
    }
    Ok(())
}
