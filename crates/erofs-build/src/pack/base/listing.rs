//! What an earlier image has, by digest.

use std::collections::HashSet;
use std::path::Path;
use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use erofs_image::{EncodedPlace, Image, Inode};

use crate::options::BuildOptions;
use crate::plan::{COMPRESSED_BYTES, Plan};

/// Files of the same content that are looked at before it is given up to find one that can be used.
const MOST_EQUAL: usize = 64;

/// The end of a file in the packed inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fragment {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// A compressed file that has a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct File {
    pub(super) digest: [u8; 32],
    pub(super) fragment: Option<Fragment>,
    nid: u64,
    /// The number of the way in which it was compressed.
    how: u8,
}

/// The files of an image.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Sorted.
    files: Vec<File>,
    /// The sizes of files that are worked on in parts.
    large: HashSet<u64>,
}

pub(super) enum Failed {
    Image(erofs_image::Error),
    Cancelled,
}

impl From<erofs_image::Error> for Failed {
    fn from(error: erofs_image::Error) -> Self {
        Self::Image(error)
    }
}

/// Reads all inodes of the image; the second result are all fragments, sorted.
pub(super) fn read(
    image: &Image,
    plan: &Plan,
    options: &BuildOptions,
) -> Result<(Listing, Vec<Fragment>), Failed> {
    let mut listing = Listing::default();
    let mut fragments = Vec::new();
    let root = image.inode(image.root_nid())?;
    for entry in image.walk(&root) {
        if options.check_cancelled().is_err() {
            return Err(Failed::Cancelled);
        }
        let entry = entry.map_err(erofs_image::Error::from)?;
        let inode = entry.inode;
        if !inode.is_file() || inode.size == 0 {
            continue;
        }
        let Some(fragment) = ending(image, &inode)? else { continue };
        fragments.extend(fragment);
        // Which of its names decided how a file is compressed is not known.
        if !plan.methods.has_rules() || inode.nlink == 1 {
            let below = entry.path.strip_prefix(b"/").unwrap_or(&entry.path);
            let how = plan.methods.of_path(Path::new(OsStr::from_bytes(below)));
            if let (Some(how), Some(digest)) = (how, image.fingerprint(&inode)?) {
                listing.files.push(File { digest, fragment, nid: inode.nid, how });
                if inode.size > COMPRESSED_BYTES {
                    listing.large.insert(inode.size);
                }
            }
        }
    }
    listing.files.sort_unstable();
    listing.files.dedup();
    listing.files.shrink_to_fit();
    fragments.sort_unstable();
    fragments.dedup();
    Ok((listing, fragments))
}

/// The fragment of a compressed file, if it has one; nothing at all if the file is not compressed.
#[expect(clippy::option_option, reason = "two questions, the second of which is asked after the first")]
fn ending(image: &Image, inode: &Inode) -> erofs_image::Result<Option<Option<Fragment>>> {
    let Some(mut encoding) = image.encoding(inode)? else { return Ok(None) };
    let last = encoding.at(inode.size - 1)?;
    Ok(Some(match last.place {
        EncodedPlace::Fragment { offset } => Some(Fragment { offset, length: last.len }),
        _ => None,
    }))
}

impl Listing {
    pub(super) fn has_large(&self, size: u64) -> bool {
        self.large.contains(&size)
    }

    /// The files with a digest; a few if there are many.
    fn equal(&self, digest: &[u8; 32]) -> &[File] {
        let first = self.files.partition_point(|file| file.digest < *digest);
        let rest = self.files.get(first..).unwrap_or_default();
        let count = rest.iter().take(MOST_EQUAL).take_while(|file| file.digest == *digest).count();
        rest.get(..count).unwrap_or_default()
    }

    /// The number of the inode with this digest that was compressed in the way of number `how`.
    pub(super) fn file(&self, digest: &[u8; 32], how: usize) -> Option<u64> {
        self.equal(digest).iter().find(|file| usize::from(file.how) == how).map(|file| file.nid)
    }

    /// Whether a file with this digest has this fragment.
    pub(super) fn has_fragment(&self, digest: &[u8; 32], fragment: Fragment) -> bool {
        // Equal ones are sorted by their fragments.
        let at = self.files.partition_point(|file| (file.digest, file.fragment) < (*digest, Some(fragment)));
        self.files.get(at).is_some_and(|file| file.digest == *digest && file.fragment == Some(fragment))
    }

    pub(super) fn files(&self) -> &[File] {
        &self.files
    }
}
