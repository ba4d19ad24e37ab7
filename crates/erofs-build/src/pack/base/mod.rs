//! Takes compressed clusters from an earlier image of the same tree, where they would be made again.
//!
//! ```text
//! record.rs    what clusters depend on, written into every compressed image; equal records, equal clusters
//! listing.rs   what the earlier image has, by digest of the file
//! segments.rs  the same for segments of its packed inode
//! take.rs      extents of it, as an encoder would have made them
//! ```
//! A clean build gives the same bytes. So something is only taken if it was made of the same input in the same way:
//! by a build with the same record, from a file with the same digest, and as a unit that depends on nothing else,
//! which is a file, a part of a large one, a section, or a segment of the packed inode.
//!
//! The earlier image is the user's own: its fingerprints and clusters are believed. Its structure is not: whatever it
//! says, nothing is read outside it, and extents are only taken if this build could have made them.

mod listing;
pub(crate) mod record;
mod segments;
mod take;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use erofs_image::{FileSource, Image, Inode, OpenOptions};

use crate::error::{Error, Result};
use crate::options::BuildOptions;
use crate::pack::packed::Segment;
use crate::plan::Plan;
use listing::Listing;
use segments::Segments;
pub(crate) use take::{Like, Old};

/// An earlier image that clusters can be taken from.
#[derive(Debug)]
pub(crate) struct Base {
    path: PathBuf,
    image: Image,
    listing: Listing,
    segments: Segments,
}

/// What there is to take from the image that was named.
#[derive(Debug)]
pub(crate) enum Found {
    Usable(Box<Base>),
    /// It was made otherwise, as this says.
    Unusable(String),
}

/// Opens the image that the options name, if they name one.
pub(crate) fn open(options: &BuildOptions, plan: &Plan) -> Result<Option<Found>> {
    let Some(path) = &options.base else { return Ok(None) };
    let failed = failed(path);
    let source = FileSource::open(path).map_err(Error::io(path, "open"))?;
    let image = Image::open(Arc::new(source), OpenOptions::default()).map_err(&failed)?;
    let ours = record::text(options, plan);
    if let Some(reason) = record::difference(&ours, image.build_record().map_err(&failed)?.as_deref()) {
        return Ok(Some(Found::Unusable(reason)));
    }
    if image.superblock().ishare_xattr_prefix_id.is_none() {
        let reason = format!(
            "{} has no fingerprints, by which unchanged files are known: build it without --no-fingerprint",
            path.display()
        );
        return Err(Error::Option { name: "base", reason });
    }
    let (listing, fragments) = listing::read(&image, plan, options).map_err(|error| match error {
        listing::Failed::Image(error) => failed(error),
        listing::Failed::Cancelled => Error::Cancelled,
    })?;
    let segments = Segments::find(&image, &listing, &fragments, options.block_size).map_err(&failed)?;
    Ok(Some(Found::Usable(Box::new(Base { path: path.clone(), image, listing, segments }))))
}

fn failed(path: &Path) -> impl Fn(erofs_image::Error) -> Error {
    move |source| Error::Image { path: path.to_owned(), source }
}

impl Base {
    /// Whether it may have a file of this size, larger than a part.
    pub(crate) fn has_large(&self, size: u64) -> bool {
        self.listing.has_large(size)
    }

    /// The compressed file with this digest and size that was compressed in the way of this number.
    pub(crate) fn file(&self, digest: &[u8; 32], size: u64, how: usize) -> Result<Option<Old<'_>>> {
        let Some(nid) = self.listing.file(digest, how) else { return Ok(None) };
        let inode = self.image.inode(nid).map_err(failed(&self.path))?;
        if inode.size != size {
            return Ok(None);
        }
        self.old(&inode)
    }

    /// The packed inode with the place of a segment of the same fragments in it.
    pub(crate) fn segment(&self, segment: &Segment) -> Result<Option<(Old<'_>, u64)>> {
        let Some(start) = self.segments.start(&self.listing, segment) else { return Ok(None) };
        let Some(inode) = self.image.packed_inode().map_err(failed(&self.path))? else { return Ok(None) };
        Ok(self.old(&inode)?.map(|old| (old, start)))
    }

    fn old(&self, inode: &Inode) -> Result<Option<Old<'_>>> {
        let encoding = self.image.encoding(inode).map_err(failed(&self.path))?;
        Ok(encoding.map(|encoding| Old::new(self, *inode, encoding)))
    }
}
