//! Tar archives: ustar, GNU and pax, as they are or compressed.
//!
//! The parser is ours because none of the libraries says all that has to be known: times with fractions and
//! before 1970, libarchive's xattrs, every form of sparse file and what global headers mean. An archive that
//! lies about a size or is cut off is an error, never a shorter file.

mod acl;
mod decompress;
mod header;
mod input;
mod members;
mod pax;
mod reader;
mod sparse;
mod stream;

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::error::{Error, Result};
use crate::source::paths::PathTree;
use crate::source::{ContentReader, ScanJob, Source, Sources, open_to_read};
use crate::source::{Found, Layer, What};
use crate::tree::{Kind, Tree, device_number};
use acl::Acl;
use decompress::{Compressed, MAGIC};
use input::{InPlace, Input, Spooled};
use members::{Member, Members};
use reader::{Archive, Maps, Stamp, TarReader, stamp};
use stream::{Failed, Stream, Watched};

/// What is wrong with an archive.
#[derive(Debug)]
pub(crate) enum Problem {
    Text(String),
    Read(io::Error),
    Spool(io::Error),
}

/// A tar archive, compressed with gzip, bzip2, xz or Zstandard or not.
///
/// Files in an uncompressed archive that is a regular file are read from where they lie. What comes from a
/// stream or has to be decompressed is kept in an unnamed file in the directory for temporary files.
pub struct TarSource {
    path: PathBuf,
    from: Option<Stream>,
    contents: Option<Archive>,
}

impl TarSource {
    /// Opens the archive `path`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Ok(Self::from_file(open_to_read(path)?, path))
    }

    /// Takes a file, pipe or socket that is open, and reads it from where it stands; `path` is for messages.
    pub fn from_file(file: File, path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), from: Some(Stream::File(file)), contents: None }
    }

    /// Takes any stream; `path` is for messages.
    pub fn from_stream(stream: impl Read + Send + Sync + 'static, path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), from: Some(Stream::Other(Box::new(stream))), contents: None }
    }
}

impl fmt::Debug for TarSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TarSource").field("path", &self.path).finish_non_exhaustive()
    }
}

impl From<TarSource> for Sources {
    fn from(source: TarSource) -> Self {
        Self::of(source)
    }
}

impl Source for TarSource {
    fn path(&self) -> &Path {
        &self.path
    }

    fn scan(&mut self, job: &ScanJob<'_>) -> Result<Layer> {
        let path = || self.path.clone();
        let from = self.from.take().ok_or_else(|| Error::Changed { path: path(), what: "was read" })?;
        let failed = Failed::default();
        let fail = |problem, at| {
            // That somebody wants to stop, and what the stream itself says, come before what a decoder makes of it.
            if let Err(cancelled) = job.options.check_cancelled() {
                return cancelled;
            }
            match failed.take().map_or(problem, Problem::Read) {
                Problem::Text(reason) => Error::Archive { path: path(), at, reason },
                Problem::Read(source) => Error::Io { path: path(), action: "read", source },
                Problem::Spool(source) => {
                    Error::Io { path: std::env::temp_dir(), action: "keep an archive's contents in", source }
                }
            }
        };
        let (mut input, stamp) =
            open(from, &job.options.cancel, &failed).map_err(|problem| fail(problem, 0))?;
        let mut tree = PathTree::new(&self.path);
        let mut maps = Maps::default();
        let mut members = Members::new(&mut *input);
        loop {
            job.options.check_cancelled()?;
            let next = members.next().map_err(|problem| fail(problem, members.at))?;
            let Some(member) = next else { break };
            add(&mut tree, job, member, &mut maps)?;
        }
        let at = members.at;
        let file = input.finish().map_err(|problem| fail(problem, at))?;
        let layer = tree.finish(job)?;
        self.contents = Some(Archive::new(file, stamp, maps));
        Ok(layer)
    }

    fn reader<'a>(&'a self, tree: &'a Tree) -> Box<dyn ContentReader + 'a> {
        Box::new(TarReader::new(self.contents.as_ref(), tree))
    }
}

/// The archive as something to read, and the stamp of a file that is read in place.
fn open<'a>(
    from: Stream,
    cancel: &'a AtomicBool,
    failed: &Failed,
) -> std::result::Result<(Box<dyn Input + 'a>, Option<Stamp>), Problem> {
    let mut start = Vec::with_capacity(MAGIC);
    let from = match from {
        Stream::File(mut file) => {
            let known = file.metadata()?;
            if known.is_dir() {
                return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
            }
            if known.is_file() {
                let at = file.stream_position()?;
                (&file).take(MAGIC as u64).read_to_end(&mut start)?;
                file.seek(io::SeekFrom::Start(at))?;
                if Compressed::by_magic(&start).is_none() {
                    return Ok((Box::new(InPlace::new(file, at, known.len())?), Some(stamp(&known))));
                }
                start.clear();
            }
            Stream::File(file)
        }
        other @ Stream::Other(_) => other,
    };
    let mut stream = Watched::new(from, cancel, failed);
    (&mut stream).take(MAGIC as u64).read_to_end(&mut start)?;
    let compressed = Compressed::by_magic(&start);
    let stream = io::Cursor::new(start).chain(stream);
    Ok(match compressed {
        Some(how) => (Box::new(Spooled::new(how.decode(stream)?)?), None),
        None => (Box::new(Spooled::new(stream)?), None),
    })
}

/// Puts a member into the tree.
fn add(tree: &mut PathTree<'_>, job: &ScanJob<'_>, mut member: Member, maps: &mut Maps) -> Result<()> {
    let name = std::mem::take(&mut member.path);
    if member.kind == b'1' {
        return tree.link(&name, &member.link);
    }
    let path = || tree.message_path(&name);
    take_acls(job, &mut member, &path)?;
    let (xattrs, xattrs_left_out) = job.filter.pick(member.xattrs, &path)?;
    let id = |what, found| {
        let limit = u64::from(u32::MAX);
        u32::try_from(found).map_err(|_| Error::TooLarge { path: path(), what, found, limit })
    };
    let (uid, gid) = (id("uid", member.uid)?, id("gid", member.gid)?);
    let kind = match member.kind {
        b'2' => Kind::Symlink(member.link.into()),
        b'3' => Kind::CharDevice(device_number(member.major, member.minor, &path)?),
        b'4' => Kind::BlockDevice(device_number(member.major, member.minor, &path)?),
        b'5' => Kind::Directory { first: 0, count: 0 },
        b'6' => Kind::Fifo,
        _ => Kind::Regular(maps.regular(job.options, member.size, member.at, member.parts)),
    };
    let found = Found {
        what: What::Node(kind),
        mode: member.mode,
        uid,
        gid,
        mtime: member.mtime,
        xattrs,
        xattrs_left_out,
        ..Found::implied(Box::default())
    };
    tree.add(&name, found).map(drop)
}

/// Takes the ACLs that the archive has as text into the xattrs, unless it has them as xattrs too, and into the
/// permissions, which libarchive writes as they would be without.
fn take_acls(job: &ScanJob<'_>, member: &mut Member, path: &dyn Fn() -> PathBuf) -> Result<()> {
    for (name, text) in std::mem::take(&mut member.acls) {
        let bytes = name.as_bytes();
        if member.xattrs.iter().any(|(known, _)| known == bytes) {
            continue;
        }
        let is_taken = job.filter.takes(bytes);
        let fail = |reason| Error::Xattr { path: path(), name: bytes.to_vec(), reason };
        let acl = match Acl::from_text(&text) {
            Err(reason) if is_taken => return Err(fail(reason)),
            acl => acl.ok(),
        };
        let is_default = name.ends_with("default");
        if let Some(acl) = acl.as_ref().filter(|_| !is_default) {
            member.mode = member.mode & !0o777 | acl.permissions();
        }
        let value = match acl {
            Some(acl) if is_taken => acl.value(is_default).map_err(fail)?,
            // It is counted with what is left out.
            _ => Some(text),
        };
        member.xattrs.extend(value.map(|value| (bytes.to_vec(), value)));
    }
    Ok(())
}

impl Problem {
    fn new(text: &str) -> Self {
        Self::Text(text.into())
    }

    fn cut_off() -> Self {
        Self::new("it ends in the middle of a member: it was cut off, or a size in it is wrong")
    }

    fn spool(error: &io::Error) -> Self {
        Self::Spool(error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error))
    }
}

impl From<io::Error> for Problem {
    /// What the system says is about reading; anything else came from a decoder.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            _ if error.raw_os_error().is_some() => Self::Read(error),
            io::ErrorKind::UnexpectedEof => Self::cut_off(),
            io::ErrorKind::IsADirectory => Self::Read(error),
            _ => Self::Text(format!("it can't be decompressed: {error}")),
        }
    }
}
