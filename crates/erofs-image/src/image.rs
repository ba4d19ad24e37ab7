//! An open image: its blobs, its superblock and how metadata is fetched.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use erofs_codec::Codec;
use erofs_format::Profile;
use erofs_format::compression::Algorithm;
use erofs_format::device::DeviceSlot;

use crate::cache::{Bytes, Cache, UnitKey};
use crate::clusters::Clusters;
use crate::device::{Blob, Devices, overflow};
use crate::encoded::Work;
use crate::error::{Corruption, Error, Feature, Result, Where};
use crate::inode::{DataStart, Inode};
use crate::limits::Limits;
use crate::lock::lock;
use crate::prefix::{LongPrefix, PrefixTable};
use crate::scratch::Toolbox;
use crate::source::ReadAt;
use crate::superblock::{Device, SuperBlock};
use crate::zmap::MapCorruption;

/// The smallest unit of the metadata cache.
const MIN_UNIT: u64 = 4096;

/// What the cache of metadata takes the metabox for.
const METABOX_BLOB: usize = usize::MAX;

/// Tells images apart for whoever keeps bytes of several.
static IDS: AtomicU64 = AtomicU64::new(1);

/// How to open an image.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// The further blobs, in the order of the device table; or none although the table has some,
    /// if they lie concatenated behind the primary.
    pub devices: Vec<Arc<dyn ReadAt>>,
    /// Byte position in the primary source at which the image starts.
    pub offset: u64,
    /// How much work the image may cause.
    pub limits: Limits,
    /// Which features the image may use.
    pub profile: Profile,
}

/// An open image. It is `Sync`; share it by an `Arc`.
#[derive(Debug)]
pub struct Image {
    sb: SuperBlock,
    blobs: Vec<Blob>,
    devices: Devices,
    limits: Limits,
    profile: Profile,
    cache: Cache,
    unit_size: u64,
    metabox: Option<Inode>,
    packed: OnceLock<Inode>,
    prefixes: PrefixTable,
    clusters: Clusters,
    toolbox: Toolbox,
    metabox_lock: Mutex<()>,
    id: u64,
}

/// What a position of metadata counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// Bytes of the primary from block 0 on.
    Primary,
    /// Bytes of the metabox inode's data.
    Metabox,
}

impl Image {
    /// Opens the image in `source`: verifies the superblock, reads the tables, checks the root.
    pub fn open(source: Arc<dyn ReadAt>, options: OpenOptions) -> Result<Self> {
        let OpenOptions { devices, offset, limits, profile } = options;
        let primary = Blob { source, base: offset };
        let sb = SuperBlock::read(profile, &mut |position, buf| primary.read_exact(0, position, buf))?;
        let is_given = devices.len() == usize::from(sb.extra_devices);
        if !is_given && !devices.is_empty() {
            return Err(Error::Devices { given: devices.len(), expected: usize::from(sb.extra_devices) });
        }
        let mut blobs = vec![primary];
        blobs.extend(devices.into_iter().map(|source| Blob { source, base: 0 }));
        let unit_size = u64::from(sb.block_size()).max(MIN_UNIT);
        let mut image = Self {
            sb,
            blobs,
            devices: Devices::Given,
            limits,
            profile,
            cache: Cache::new(limits.cache_bytes, unit_size),
            unit_size,
            metabox: None,
            packed: OnceLock::new(),
            prefixes: PrefixTable::default(),
            clusters: Clusters::new(limits.decoded_cache_bytes),
            toolbox: Toolbox::default(),
            metabox_lock: Mutex::new(()),
            id: IDS.fetch_add(1, Ordering::Relaxed),
        };
        image.sb.devices = image.read_device_table()?;
        if let (false, Some(primary)) = (is_given, image.blobs.first()) {
            image.devices = Devices::find(&image.sb, primary);
        }
        image.metabox = image.sb.metabox_nid.map(|nid| image.inode(nid)).transpose()?;
        image.prefixes = PrefixTable::read(&image)?;
        let root = image.inode(image.sb.root_nid)?;
        if !root.is_dir() {
            let what = Corruption::RootNotDirectory { found: root.mode };
            return Err(Error::corrupt(Where::nid(root.nid), what));
        }
        Ok(image)
    }

    /// What the superblock says.
    pub fn superblock(&self) -> &SuperBlock {
        &self.sb
    }

    /// The root directory.
    pub fn root_nid(&self) -> u64 {
        self.sb.root_nid
    }

    /// Bytes of a block.
    pub fn block_size(&self) -> u32 {
        self.sb.block_size()
    }

    /// Blocks of the primary and all devices, as the image claims.
    pub fn block_count(&self) -> u64 {
        self.sb.devices.iter().fold(self.sb.blocks, |sum, device| sum.saturating_add(device.blocks))
    }

    /// The bounds that the image was opened with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The profile that the image was opened with.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// A blob's source: 0 is the primary, then the devices that were given.
    pub fn blob(&self, index: usize) -> Option<&Arc<dyn ReadAt>> {
        self.blobs.get(index).map(|blob| &blob.source)
    }

    /// How many blobs there are.
    pub fn blob_count(&self) -> usize {
        self.blobs.len()
    }

    /// Byte position in the primary source at which the image starts.
    pub fn offset(&self) -> u64 {
        self.blobs.first().map_or(0, |primary| primary.base)
    }

    pub(crate) fn devices(&self) -> Devices {
        self.devices
    }

    pub(crate) fn metabox(&self) -> Option<Inode> {
        self.metabox
    }

    /// The packed inode. `nid` is who has a fragment in it.
    pub(crate) fn packed(&self, nid: u64) -> Result<Inode> {
        if let Some(packed) = self.packed.get() {
            return Ok(*packed);
        }
        let Some(packed) = self.sb.packed_nid else {
            return Err(Error::corrupt(Where::nid(nid), MapCorruption::NoPackedInode));
        };
        let packed = self.inode(packed)?;
        Ok(*self.packed.get_or_init(|| packed))
    }

    pub(crate) fn long_prefix(&self, index: u8) -> Option<&LongPrefix> {
        self.prefixes.get(index)
    }

    /// The decoded clusters.
    pub(crate) fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    /// Tools for single reads.
    pub(crate) fn toolbox(&self) -> &Toolbox {
        &self.toolbox
    }

    /// A number that no other image of this process has.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// How `algorithm` is set up in this image; `nid` is who uses it.
    pub(crate) fn codec(&self, algorithm: Algorithm, nid: u64) -> Result<Codec> {
        let missing = || Error::corrupt(Where::nid(nid), MapCorruption::AlgorithmNotAvailable { algorithm });
        self.sb.codecs.get(algorithm).ok_or_else(missing)
    }

    /// `position` of a blob, counted from its block 0, as a byte position in its source.
    pub(crate) fn absolute(&self, blob: usize, position: u64, nid: u64) -> Result<u64> {
        let base = self.blobs.get(blob).map_or(0, |blob| blob.base);
        base.checked_add(position).ok_or_else(|| overflow(nid))
    }

    /// `len` bytes of metadata at `position`. Callers bound `len`: at most a block or an xattr
    /// area.
    pub(crate) fn bytes(&self, space: Space, position: u64, len: usize) -> Result<Bytes<'_>> {
        match (space, &self.metabox) {
            (Space::Primary, _) => self.blob_bytes(0, position, len),
            (Space::Metabox, Some(metabox)) if metabox.data == DataStart::Compressed => {
                self.metabox_bytes(metabox, position, len)
            }
            (Space::Metabox, Some(metabox)) => self.file_bytes(metabox, position, len),
            (Space::Metabox, None) => Err(Error::corrupt(Where::offset(position), Corruption::NoMetabox)),
        }
    }

    /// `len` bytes of metadata of a blob, at `position` from its block 0 on.
    pub(crate) fn blob_bytes(&self, index: usize, position: u64, len: usize) -> Result<Bytes<'_>> {
        let Some(blob) = self.blobs.get(index) else {
            return Err(Error::corrupt(Where::offset(position), past_end(index, len)));
        };
        if let Some(bytes) = blob.base.checked_add(position).and_then(|start| blob.source.slice(start, len)) {
            return Ok(Bytes::Borrowed(bytes));
        }
        let key = (index, position / self.unit_size);
        let read = |position, unit: &mut [u8]| blob.read(index, position, unit);
        if let Some(bytes) = self.unit_bytes(key, position, len, &read)? {
            return Ok(bytes);
        }
        let mut bytes = vec![0; len];
        blob.read_exact(index, position, &mut bytes)?;
        Ok(Bytes::Owned(bytes))
    }

    /// `len` bytes of a compressed metabox.
    fn metabox_bytes(&self, metabox: &Inode, position: u64, len: usize) -> Result<Bytes<'_>> {
        if position.checked_add(len as u64).is_none_or(|end| end > metabox.size) {
            let what = Corruption::PastFileEnd { needed: len as u64, size: metabox.size };
            return Err(Error::corrupt(Where::at(metabox.nid, position), what));
        }
        let key = (METABOX_BLOB, position / self.unit_size);
        let read = |position, unit: &mut [u8]| self.read_metabox(metabox, position, unit);
        if let Some(bytes) = self.unit_bytes(key, position, len, &read)? {
            return Ok(bytes);
        }
        let mut bytes = vec![0; len];
        self.read_metabox(metabox, position, &mut bytes)?;
        Ok(Bytes::Owned(bytes))
    }

    /// Reads the data of a compressed metabox, one thread at a time: who needs it may have taken
    /// room for what it decodes, and must not wait for more.
    fn read_metabox(&self, metabox: &Inode, position: u64, buf: &mut [u8]) -> Result<usize> {
        let _alone = lock(&self.metabox_lock);
        self.toolbox.with(|tools| {
            tools.has_room = true;
            let mut work = Work::new(self, buf.len() as u64, 1);
            let done = self.read_encoded(tools, &mut work, metabox, position, buf);
            tools.has_room = false;
            done
        })
    }

    /// `len` bytes at `position`, from the cache of metadata or by way of it, if they lie in one
    /// unit of it and are there. `read` reads what there is at a position.
    fn unit_bytes(
        &self,
        key: UnitKey,
        position: u64,
        len: usize,
        read: &dyn Fn(u64, &mut [u8]) -> Result<usize>,
    ) -> Result<Option<Bytes<'_>>> {
        let start = usize::try_from(position % self.unit_size).unwrap_or(usize::MAX);
        let end = start.saturating_add(len);
        if end as u64 > self.unit_size {
            return Ok(None);
        }
        let unit = if let Some(unit) = self.cache.get(key) {
            unit
        } else {
            let mut bytes = vec![0; usize::try_from(self.unit_size).unwrap_or_default()];
            let count = read(position - position % self.unit_size, &mut bytes)?;
            bytes.truncate(count);
            let unit = Arc::from(bytes);
            self.cache.put(key, &unit);
            unit
        };
        Ok((end <= unit.len()).then_some(Bytes::Shared(unit, start..end)))
    }

    fn read_device_table(&self) -> Result<Vec<Device>> {
        let count = u64::from(self.sb.extra_devices);
        if count > self.limits.devices {
            let place = Where::offset(self.sb.device_table);
            return Err(Error::Limit { place, name: "devices", value: count, limit: self.limits.devices });
        }
        let mut devices = Vec::new();
        for index in 0..count {
            let position = self.sb.device_table + index * size_of::<DeviceSlot>() as u64;
            let bytes = self.blob_bytes(0, position, size_of::<DeviceSlot>())?;
            devices.extend(bytes.first_chunk().map(|slot| Device::parse(slot, self.sb.is_48bit())));
        }
        Ok(devices)
    }

    /// The error for what the profile excludes.
    pub(crate) fn exclude(&self, nid: u64, what: &'static str) -> Error {
        Error::unsupported(Where::nid(nid), Feature::Excluded { profile: self.profile, what })
    }

    /// Bytes of a blob that its source lends.
    pub(crate) fn lent(&self, index: usize, position: u64, len: usize) -> Option<&[u8]> {
        let blob = self.blobs.get(index)?;
        blob.source.slice(blob.base.checked_add(position)?, len)
    }

    /// Reads what there is at `position` of a blob, counted from its block 0.
    pub(crate) fn read_blob_some(&self, index: usize, position: u64, buf: &mut [u8]) -> Result<usize> {
        self.blobs.get(index).map_or(Ok(0), |blob| blob.read(index, position, buf))
    }

    /// Fills `buf` from `position` of a blob, counted from its block 0.
    pub(crate) fn read_blob(&self, index: usize, position: u64, buf: &mut [u8]) -> Result<()> {
        match self.blobs.get(index) {
            Some(blob) => blob.read_exact(index, position, buf),
            None => Err(Error::corrupt(Where::offset(position), past_end(index, buf.len()))),
        }
    }
}

fn past_end(blob: usize, needed: usize) -> Corruption {
    Corruption::PastEnd { blob, needed: needed as u64 }
}

impl Blob {
    /// Reads what there is at `position` from block 0 on.
    fn read(&self, index: usize, position: u64, buf: &mut [u8]) -> Result<usize> {
        let Some(offset) = self.base.checked_add(position) else {
            return Err(Error::corrupt(Where::offset(position), Corruption::AddressOverflow));
        };
        let count = self.source.read_at(offset, buf);
        // A source that says it read more than it could is not to be believed, nor a panic.
        count.map(|count| count.min(buf.len())).map_err(|source| Error::Io { blob: index, offset, source })
    }

    /// Fills `buf` from `position` from block 0 on, or fails if the blob ends before.
    fn read_exact(&self, index: usize, position: u64, buf: &mut [u8]) -> Result<()> {
        let count = self.read(index, position, buf)?;
        if count == buf.len() {
            return Ok(());
        }
        Err(Error::corrupt(Where::offset(position), past_end(index, buf.len())))
    }
}
