//! Images for the tests of this crate.

use std::path::Path;
use std::sync::Arc;

use erofs_build::{BuildOptions, DirSource, Output, Silent};
use erofs_image::{FileSource, Image, OpenOptions};

/// An image of a directory.
pub(crate) fn image_of(tree: &Path) -> Image {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("image");
    let mut output = Output::create(path.clone(), false).unwrap();
    let source = DirSource::open(tree).unwrap();
    erofs_build::build(&BuildOptions::default(), source, &mut output, &Silent).unwrap();
    Image::open(Arc::new(FileSource::open(path).unwrap()), OpenOptions::default()).unwrap()
}
