//! One mount: the image it shows and the filesystems that show it.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use erofs_image::{FileSource, Image, OpenOptions, Profile, ReadAt};
use erofs_store::{Domain, DomainLock, ImageKey, KeeperClient};
use fuse_dev::{Config, Connection, Filesystem};
use rustix::fs::{Advice, fadvise};

use crate::attr::Shown;
use crate::control::{ImageRequest, Kind, MountRequest};
use crate::error::{Error, Result};
use crate::lazy::LazyFs;
use crate::log::Log;
use crate::meta::MetaFs;
use crate::passthrough::PassthroughFs;
use crate::plain::PlainFs;
use crate::sharing::{Decoders, Sharing};
use crate::ticker::Ticker;
use crate::tree::Tree;

/// How much of an image's metadata is asked of the disk at once when it is mounted. The first listing of a large tree would seek for
/// each inode otherwise; an image of a million files has some 64 MiB of inodes and directories.
const PREFETCH: u64 = 64 << 20;

/// Where the objects of this server's domain come from.
#[derive(Debug)]
pub(crate) struct Sharer {
    pub(crate) domain: Domain,
    /// Keeps objects from being removed also when the keeper has died, for as long as this server lives.
    pub(crate) _lock: DomainLock,
    pub(crate) keeper: Arc<KeeperClient>,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) decoders: Arc<Decoders>,
}

/// Opens the image whose descriptors are `fds`: its own, then its devices'.
pub(crate) fn open_image(request: &ImageRequest, fds: Vec<OwnedFd>) -> Result<Image> {
    if fds.len() != request.devices.saturating_add(1) {
        let (given, devices) = (fds.len(), request.devices);
        return Err(Error::Usage(format!(
            "{}: an image with {devices} devices came with {given} descriptors",
            request.path
        )));
    }
    let mut sources = fds.into_iter().map(|fd| Arc::new(FileSource::new(File::from(fd))) as Arc<dyn ReadAt>);
    let Some(primary) = sources.next() else { return Err(Error::Usage("no descriptor".into())) };
    let options = OpenOptions {
        devices: sources.collect(),
        offset: request.offset,
        profile: Profile::Full,
        ..OpenOptions::default()
    };
    Image::open(primary, options).map_err(|source| Error::Image { path: request.path.clone(), source })
}

/// Makes the connections that serve a mount, in the order of its FUSE descriptors.
pub(crate) fn connections(
    request: &MountRequest,
    image: Image,
    devices: Vec<OwnedFd>,
    sharer: Option<&Sharer>,
) -> Result<Vec<Arc<Connection>>> {
    prefetch(&image);
    let image = Arc::new(image);
    let log = Arc::new(Log::new(&request.image.path));
    let tree = |shown| Tree::new(Arc::clone(&image), Arc::clone(&log), request.owners, shown);
    // No field of an image says that it has no ACLs. Where every file is shown as its reader's they would name strangers.
    let config = Config { posix_acl: request.owners.is_none(), ..Config::default() };
    let served: Vec<(Arc<dyn Filesystem>, Config)> = match request.kind {
        Kind::Fuse => vec![(Arc::new(PlainFs::new(tree(Shown::Plain))), config)],
        Kind::Passthrough => {
            let sharing = sharing(request, &image, &log, sharer)?;
            let config = Config { passthrough: Some(1), ..config };
            vec![(PassthroughFs::new(tree(Shown::Plain), sharing), config)]
        }
        Kind::Overlay => {
            let sharing = sharing(request, &image, &log, sharer)?;
            let meta = MetaFs::new(tree(Shown::UnderOverlay), Arc::clone(&sharing));
            let lazy = LazyFs::new(tree(Shown::Plain), sharing, request.owners);
            let lazy_config = Config { readdirplus: false, ..Config::default() };
            vec![(Arc::new(meta), config), (Arc::new(lazy), lazy_config)]
        }
    };
    devices
        .into_iter()
        .zip(served)
        .map(|(device, (filesystem, config))| Ok(Arc::new(Connection::new(device, filesystem, config)?)))
        .collect()
}

fn sharing(
    request: &MountRequest,
    image: &Arc<Image>,
    log: &Arc<Log>,
    sharer: Option<&Sharer>,
) -> Result<Arc<Sharing>> {
    let Some(sharer) = sharer else {
        return Err(Error::Usage("nothing is shared outside a domain: this server has no keeper".into()));
    };
    let key = request.image.key.as_deref().and_then(ImageKey::from_hex);
    let key = key.ok_or_else(|| Error::Usage("an image in a domain needs its key".into()))?;
    Sharing::new(sharer, Arc::clone(image), key, &request.image.path, Arc::clone(log))
}

/// Has the disk read the metadata ahead, in the order in which it lies.
fn prefetch(image: &Image) {
    let Some(fd) = image.blob(0).and_then(|blob| blob.as_fd()) else { return };
    let start = u64::from(image.superblock().meta_blkaddr).saturating_mul(u64::from(image.block_size()));
    // Advice: where it can't be taken everything still works.
    let _ = fadvise(fd, image.offset().saturating_add(start), NonZeroU64::new(PREFETCH), Advice::WillNeed);
}
