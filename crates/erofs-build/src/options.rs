//! What the caller may choose.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::compress::Compression;
use crate::error::{Error, Result};
use crate::kernel::{Feature, KernelVersion};
use crate::labels::FileContexts;
use crate::plan::MAX_CHUNKS;
use crate::tree::Regular;

/// The xattr that carries a fingerprint, as mkfs.erofs names it. It belongs to no namespace, so no
/// `listxattr` shows it.
pub const DEFAULT_FINGERPRINT_NAME: &str = "erofs.fingerprint.v1";

/// The longest tail of a regular file that is kept beside its inode, as a part of a block, by default: the
/// half.
///
/// A tail beside the inode saves a block of contents, but whoever walks the tree has to read it. One of `t`
/// bytes costs the walk `t` and saves a block less `t`, so the shorter half pays and the longer does not. A
/// tree of 50,000 files in 550 MB (`/usr/share` of a Debian) becomes, in MB, by the longest tail:
///
/// | bytes | 0 | 1024 | 1536 | 2048 | 4000 |
/// | --- | --- | --- | --- | --- | --- |
/// | image | 672 | 609 | 582 | 570 | 565 |
/// | inodes and directories | 9 | 20 | 34 | 45 | 77 |
///
/// (mkfs.erofs, which keeps every tail that fits there: 554 in all.)
pub const DEFAULT_INLINE_PART: u32 = 2;

/// The largest chunk, in bytes: what a thread holds at once.
pub const MAX_CHUNK: u32 = 8 << 20;

/// The largest alignment of data, in bytes: that of the largest page.
pub const MAX_ALIGN: u32 = 1 << 30;

/// Each file is held against all rules.
const MOST_RULES: usize = 200;

/// Everything that shapes an image. `Default` is what `pyerofs build SRC IMAGE` does.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct BuildOptions {
    /// Block size in bytes: a power of two, 512 to 65536. The kernel mounts up to its page size.
    pub block_size: u32,
    /// Volume label, at most 16 bytes.
    pub label: Vec<u8>,
    /// The UUID; without one it is a digest of the image.
    pub uuid: Option<[u8; 16]>,
    /// Times of files and of the image.
    pub times: Times,
    /// Owners of files.
    pub owners: Owners,
    /// Which xattrs are stored.
    pub xattrs: XattrPolicy,
    /// An xattr that more inodes than this have in common is stored once.
    pub share_xattrs_above: u32,
    /// Name prefixes, each with its namespace (`user.company.`), that are kept in the table of long prefixes
    /// besides those that pay for themselves.
    pub xattr_prefixes: Vec<Vec<u8>>,
    /// Store a fingerprint with each regular file that is not empty.
    pub fingerprint: bool,
    /// Full name of the fingerprint's xattr.
    pub fingerprint_name: Vec<u8>,
    /// Oldest Linux that has to mount the image; without one the defaults decide.
    pub target_kernel: Option<KernelVersion>,
    /// Patterns in gitignore syntax, rooted at the source; later ones win.
    pub excludes: Vec<String>,
    /// What becomes of whiteouts in the sources.
    pub whiteouts: Whiteouts,
    /// Regular expressions that leave out the entries in whose path below the source they are found.
    pub exclude_regexes: Vec<String>,
    /// Give each name of a file with several an inode of its own.
    pub separate_links: bool,
    /// The `SELinux` labels of all files, which take the place of those that the source has.
    pub file_contexts: Option<FileContexts>,
    /// Keep the holes of sparse files.
    pub holes: bool,
    /// Longest tail of a regular file that is kept beside its inode, in bytes; 0 keeps none there. Without a
    /// number it is a block divided by [`DEFAULT_INLINE_PART`].
    pub inline_tail: Option<u32>,
    /// How contents are compressed; without it they are stored as they are.
    pub compression: Option<Compression>,
    /// Exceptions from that for some files; of several that match the last one counts.
    pub rules: Vec<Rule>,
    /// Keep inodes, and what lies beside them, in a file of their own, the metabox, which is compressed as `compression`
    /// says, in clusters of so many bytes; it takes Linux 6.17. The larger they are the smaller is the image, and the
    /// more has to be decoded for one inode.
    pub metabox: Option<u32>,
    /// The order in which contents are stored.
    pub order: DataOrder,
    /// Start the data of each file of at least so many bytes that is stored as it is, and has no holes, at a multiple
    /// of them in the image: a power of two from the block size to [`MAX_ALIGN`]. What is smaller goes into the gaps.
    pub align: Option<u32>,
    /// Store equal contents once: files, and parts of large ones.
    pub dedupe: bool,
    /// Store regular files in chunks of so many bytes, a power of two from the block size to [`MAX_CHUNK`], each
    /// different one once. Files that are mostly holes have chunks of their own size.
    pub chunk: Option<u32>,
    /// A file that gets the chunks in place of the image, as a device of it; it must not exist.
    pub blob: Option<PathBuf>,
    /// Blobs of earlier builds, the first devices of the image: a chunk that is there already is not stored again.
    pub reuse: Vec<PathBuf>,
    /// Leave out files and directories that can't be read, or that change while the image is built, and say so in
    /// the report, where there would be an error otherwise.
    pub keep_going: bool,
    /// An earlier image of the tree, from which clusters are taken that would be made again. The result is the same.
    pub base: Option<PathBuf>,
    /// Threads that read and hash; without a number, one per CPU that this process may use.
    pub threads: Option<NonZeroUsize>,
    /// Set it from anywhere and the build ends soon with [`Error::Cancelled`].
    pub cancel: Arc<AtomicBool>,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            block_size: 4096,
            label: Vec::new(),
            uuid: None,
            times: Times::default(),
            owners: Owners::default(),
            xattrs: XattrPolicy::Default,
            share_xattrs_above: 2,
            xattr_prefixes: Vec::new(),
            fingerprint: true,
            fingerprint_name: DEFAULT_FINGERPRINT_NAME.into(),
            target_kernel: None,
            excludes: Vec::new(),
            whiteouts: Whiteouts::Plain,
            exclude_regexes: Vec::new(),
            separate_links: false,
            file_contexts: None,
            holes: true,
            inline_tail: None,
            compression: None,
            rules: Vec::new(),
            metabox: None,
            order: DataOrder::Usual,
            align: None,
            dedupe: false,
            chunk: None,
            blob: None,
            reuse: Vec::new(),
            keep_going: false,
            base: None,
            threads: None,
            cancel: Arc::new(AtomicBool::new(false)),
        }
    }
}

/// The order in which contents are stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DataOrder {
    /// `Similar` where the ends of files and small files are compressed together, as fragments; else `Path`.
    #[default]
    Usual,
    /// That of paths.
    Path,
    /// That of paths, but files of the same name follow one another, where the first of them would be, and of
    /// these first those whose directories have the same names: what is alike, as versions of a file are, is
    /// compressed together.
    Similar,
    /// What these paths name comes first, in this order, and the rest in that of paths. Paths are relative to
    /// the root, with `/` before them or not; a directory stands for everything below it.
    Listed(Vec<Vec<u8>>),
}

/// How files are compressed whose path matches a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// In gitignore syntax, rooted at the source; what lies below a matching directory matches too. A file with
    /// several names is asked about by the first.
    pub pattern: String,
    /// How; without it they are stored as they are. Fragments are compressed together and so in one way: only
    /// [`BuildOptions::compression`] may have them.
    pub compression: Option<Compression>,
}

/// Which xattrs of the source are stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum XattrPolicy {
    /// `user.*`, `security.capability` and POSIX ACLs: what means the same on another machine.
    #[default]
    Default,
    /// Every xattr whose namespace EROFS has.
    All,
    /// None at all; they are not even read.
    None,
    /// Those whose full name matches one of the patterns, in which `*` stands for any bytes and `?` for one.
    Patterns(Vec<String>),
}

/// What becomes of whiteouts: of entries by which a layer of a container image says that something of the
/// layers below it is not there. Those of OCI and AUFS (`.wh.NAME`, `.wh..wh..opq`) and those of overlayfs
/// (character devices 0:0, `trusted.overlay.opaque`) are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Whiteouts {
    /// Nothing: they are entries as others are.
    #[default]
    Plain,
    /// They hide what earlier sources have, and are not themselves in the image.
    Apply,
    /// They hide what earlier sources have, and are in the image in the form that overlayfs has for them, so
    /// that the image is a layer itself.
    Overlay,
}

/// Where the times of an image come from. No clock is ever read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// `SOURCE_DATE_EPOCH`: the build time in seconds since 1970; newer times of files are set back to it.
    pub source_date_epoch: Option<i64>,
    /// The time of every file, and the build time unless `source_date_epoch` says otherwise.
    pub all: Option<i64>,
}

/// How owners are changed, in this order: map, offset, force; `all_root` overrides everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owners {
    /// Everything belongs to 0:0.
    pub all_root: bool,
    /// Ranges of uids that are moved; a uid in none of them stays.
    pub uid_map: Vec<IdRange>,
    /// Ranges of gids that are moved.
    pub gid_map: Vec<IdRange>,
    /// Added to every uid.
    pub uid_offset: i64,
    /// Added to every gid.
    pub gid_offset: i64,
    /// The uid of everything.
    pub force_uid: Option<u32>,
    /// The gid of everything.
    pub force_gid: Option<u32>,
}

/// `count` ids from `from` on become those from `to` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id in the source.
    pub from: u32,
    /// First id in the image.
    pub to: u32,
    /// How many.
    pub count: u32,
}

impl BuildOptions {
    /// Checks what can be checked without the tree.
    pub fn check(&self) -> Result<()> {
        let bad = |name, reason: String| Err(Error::Option { name, reason });
        if !self.block_size.is_power_of_two() || !(512..=65536).contains(&self.block_size) {
            return bad("block-size", format!("{} is not a power of two from 512 to 65536", self.block_size));
        }
        if self.label.len() > 16 {
            return bad("label", format!("{} bytes are more than the 16 there are", self.label.len()));
        }
        if self.label.contains(&0) {
            return bad("label", "contains a NUL byte".into());
        }
        if self.fingerprint && (self.fingerprint_name.is_empty() || self.fingerprint_name.len() > 255) {
            return bad("fingerprint-name", "is not 1 to 255 bytes long".into());
        }
        if let Some(target) = self.target_kernel
            && target < KernelVersion::OLDEST
        {
            let oldest = KernelVersion::OLDEST;
            return bad("target-kernel", format!("{target} has no EROFS, {oldest} is the first"));
        }
        for (name, map) in [("uid-map", &self.owners.uid_map), ("gid-map", &self.owners.gid_map)] {
            check_map(name, map)?;
        }
        for compression in self.compressions() {
            compression.check(self.block_size)?;
            if compression.dense == Some(true) {
                self.require(Feature::EncodedExtents)?;
            }
        }
        if let Some(how) = self.of_metabox() {
            how.check(self.block_size).map_err(|error| match error {
                Error::Option { name: "cluster", reason } => Error::Option { name: "metabox", reason },
                other => other,
            })?;
        } else if self.metabox.is_some() {
            return bad("metabox", "is only for images that are compressed".into());
        }
        for rule in &self.rules {
            crate::plan::pattern(&rule.pattern)?;
            if rule.compression.as_ref().is_some_and(|how| how.fragments)
                && rule.compression != self.compression
            {
                let reason = format!("'{}': fragments can only be compressed in the usual way", rule.pattern);
                return bad("rule", reason);
            }
        }
        if let Some(align) = self.align {
            if !align.is_power_of_two() || align < self.block_size || align > MAX_ALIGN {
                let least = self.block_size;
                return bad("align", format!("{align} is not a power of two from {least} to {MAX_ALIGN}"));
            }
            if self.chunk.is_some() {
                return bad("align", "chunks lie close together".into());
            }
        }
        if self.devices() > 0 && self.chunk.is_none() {
            return bad("blob", "is only for files in chunks".into());
        }
        if let Some(chunk) = self.chunk {
            if !chunk.is_power_of_two() || chunk < self.block_size || chunk > MAX_CHUNK {
                let (least, most) = (self.block_size, MAX_CHUNK);
                return bad("chunk", format!("{chunk} is not a power of two from {least} to {most}"));
            }
            if self.compressions().next().is_some() {
                return bad("chunk", "chunks can't be compressed".into());
            }
        }
        if self.base.is_some() && self.compressions().next().is_none() {
            return bad("base", "is only for images that are compressed".into());
        }
        if self.rules.len() > MOST_RULES {
            return bad("rule", format!("{} are more than the {MOST_RULES} there may be", self.rules.len()));
        }
        self.needed().try_for_each(|feature| self.require(feature))
    }

    /// Every way in which something may be compressed.
    fn compressions(&self) -> impl Iterator<Item = &Compression> {
        self.compression.iter().chain(self.rules.iter().filter_map(|rule| rule.compression.as_ref()))
    }

    /// How the metabox is compressed, if there is to be one.
    pub(crate) fn of_metabox(&self) -> Option<Compression> {
        let usual = self.compression.as_ref()?;
        self.metabox.map(|cluster| Compression {
            cluster,
            fragments: false,
            all_fragments: false,
            inline: false,
            ..usual.clone()
        })
    }

    /// Whether clusters may be of any length. Where fragments gather the ends of files there is little left to
    /// gain by it.
    pub(crate) fn is_dense(&self) -> bool {
        let target = self.target_kernel.is_some_and(|target| target >= Feature::EncodedExtents.since());
        self.compression.as_ref().is_some_and(|how| how.dense.unwrap_or(target && !how.fragments))
    }

    /// Blobs beside the image.
    pub(crate) fn devices(&self) -> u16 {
        u16::try_from(self.reuse.len() + usize::from(self.blob.is_some())).unwrap_or(u16::MAX)
    }

    /// Whether several files, or several places of one, may have the same clusters.
    pub(crate) fn shares_clusters(&self) -> bool {
        self.dedupe && self.compressions().next().is_some()
    }

    /// The chunk size of a file that is stored in chunks by option, over the block size, as a power of two. Maps
    /// have a bound, so huge files have larger chunks.
    pub(crate) fn chunk_bits(&self, file: &Regular) -> Option<u8> {
        let chunk = self.chunk.filter(|_| file.size > 0 && !file.is_mostly_holes())?;
        let bits = u8::try_from((chunk / self.block_size).trailing_zeros()).ok()?;
        (bits..32).find(|bits| file.size.div_ceil(u64::from(self.block_size) << bits) <= MAX_CHUNKS)
    }

    pub(crate) fn longest_tail(&self) -> u64 {
        self.inline_tail.unwrap_or(self.block_size / DEFAULT_INLINE_PART).into()
    }

    /// The kernel for which the image is made: the one asked for, or the oldest longterm kernel that reads what
    /// was asked for.
    pub fn target(&self) -> KernelVersion {
        let needed = || self.needed().map(Feature::since).max().unwrap_or(KernelVersion::OLDEST);
        self.target_kernel.unwrap_or_else(|| needed().longterm())
    }

    /// The features that were asked for, whatever is in the tree.
    fn needed(&self) -> impl Iterator<Item = Feature> {
        let some = |wanted: bool, feature| wanted.then_some(feature);
        [
            some(self.block_size < 4096, Feature::SmallBlocks),
            some(self.label.len() == 16, Feature::LongLabel),
            some(self.fingerprint, Feature::Fingerprints),
            some(!self.xattr_prefixes.is_empty(), Feature::XattrPrefixes),
            some(self.chunk.is_some(), Feature::ChunkedFile),
            some(self.devices() > 0, Feature::Devices),
        ]
        .into_iter()
        .flatten()
        .chain(self.compressions().flat_map(|how| how.features(self.block_size)))
        .chain(some(self.shares_clusters(), Feature::SharedClusters))
        .chain(some(self.metabox.is_some(), Feature::Metabox))
    }

    /// Whether the target kernel has `feature`; without a target every feature that is no newer than what the
    /// defaults need.
    pub(crate) fn allows(&self, feature: Feature) -> bool {
        self.target_kernel.is_none_or(|target| target >= feature.since())
    }

    pub(crate) fn require(&self, feature: Feature) -> Result<()> {
        match self.target_kernel {
            Some(target) if target < feature.since() => Err(Error::Kernel { feature, target }),
            _ => Ok(()),
        }
    }

    pub(crate) fn check_cancelled(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

fn check_map(name: &'static str, map: &[IdRange]) -> Result<()> {
    let mut ranges = map.to_vec();
    ranges.sort_by_key(|range| range.from);
    let mut end = 0u64;
    for range in ranges {
        let from = u64::from(range.from);
        if range.count == 0 {
            return Err(Error::Option { name, reason: format!("the range from {from} is empty") });
        }
        if from < end {
            return Err(Error::Option { name, reason: format!("{from} is in two ranges") });
        }
        end = from + u64::from(range.count);
        let limit = 1u64 << 32;
        if end > limit || u64::from(range.to) + u64::from(range.count) > limit {
            return Err(Error::Option { name, reason: format!("the range from {from} ends above 2^32") });
        }
    }
    Ok(())
}
