//! Blobs: files of chunks beside the image, which several images may share.
//!
//! ```text
//! chunks, each from a block on | their lengths, 4 bytes each | footer, the last 64 bytes of a block
//! ```
//! A blob says itself where its chunks are, so that a later build can hash them again and refer to them. It is
//! never changed. Its tag in the device table is its SHA-256.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use erofs_format::device::DeviceSlot;
use sha2::{Digest, Sha256};

use super::known::Known;
use super::writer::{BUFFER, Buffers};
use crate::error::{Error, Result};
use crate::inode::{address_on, split_address};
use crate::options::MAX_CHUNK;

const MAGIC: &[u8; 16] = b"pyerofs chunks 1";
const FOOTER: usize = 64;

/// What the device table says of a blob.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    tag: [u8; 64],
    pub(crate) blocks: u64,
}

impl Device {
    fn new(hash: Sha256, blocks: u64) -> Self {
        let digest: [u8; 32] = hash.finalize().into();
        let mut tag = [0; 64];
        for (pair, byte) in tag.chunks_exact_mut(2).zip(digest) {
            let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 15)];
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte)]);
        }
        Self { tag, blocks }
    }

    /// The slot of a device with `before` blocks of the image and of other devices in front of it. That is its
    /// place among the blocks of all: an image with its blobs behind it is mounted without naming them, and one
    /// without them has no data, where Linux would take that from the beginning of the image.
    pub(crate) fn slot(&self, before: u64, is_wide: bool) -> DeviceSlot {
        let (blocks_lo, blocks_hi) = split_address(self.blocks);
        let is_there = is_wide || u32::try_from(before).is_ok();
        let (uniaddr_lo, uniaddr_hi) = if is_there { split_address(before) } else { (0, 0) };
        DeviceSlot {
            tag: self.tag,
            blocks_lo: blocks_lo.into(),
            blocks_hi: blocks_hi.into(),
            uniaddr_lo: uniaddr_lo.into(),
            uniaddr_hi: uniaddr_hi.into(),
            ..DeviceSlot::default()
        }
    }
}

/// A blob that is being written.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) device: u16,
    /// Its bytes so far.
    pub(super) end: u64,
    lengths: Vec<u8>,
    hash: Sha256,
}

impl Blob {
    pub(super) fn new(device: u16) -> Self {
        Self { device, end: 0, lengths: Vec::new(), hash: Sha256::new() }
    }

    /// The next chunk has so many bytes.
    pub(super) fn note(&mut self, length: u64) {
        self.lengths.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    }

    pub(super) fn write(&mut self, bytes: Vec<u8>, buffers: &Buffers) {
        self.hash.update(&bytes);
        let length = bytes.len() as u64;
        buffers.write_blob(self.end, bytes);
        self.end += length;
    }

    /// Writes what says where the chunks are.
    pub(super) fn finish(mut self, block_size: u64, buffers: &Buffers) -> Device {
        let (at, lengths) = (self.end, std::mem::take(&mut self.lengths));
        let count = lengths.len() as u64 / 4;
        let end = (at + lengths.len() as u64 + FOOTER as u64).next_multiple_of(block_size);
        let mut table = lengths;
        table.resize(usize::try_from(end - at).unwrap_or(usize::MAX) - FOOTER, 0);
        table.extend_from_slice(MAGIC);
        for value in [block_size, at, count] {
            table.extend_from_slice(&value.to_le_bytes());
        }
        table.resize(usize::try_from(end - at).unwrap_or(usize::MAX), 0);
        for part in table.chunks(BUFFER) {
            self.write(part.to_vec(), buffers);
        }
        Device::new(self.hash, self.end / block_size)
    }
}

/// Reads a blob of an earlier build and makes its chunks known as those of `device`.
pub(super) fn reuse(path: &Path, device: u16, block_size: u64, known: &Known) -> Result<Device> {
    let failed = |action| Error::io(path, action);
    let broken = || Error::Option {
        name: "reuse",
        reason: format!("{} is not a blob of this block size that pyerofs made", path.display()),
    };
    let file = File::open(path).map_err(failed("open"))?;
    let size = file.metadata().map_err(failed("stat"))?.len();
    let mut footer = [0; FOOTER];
    let footer_at = size.checked_sub(FOOTER as u64).ok_or_else(broken)?;
    file.read_exact_at(&mut footer, footer_at).map_err(failed("read"))?;
    let number = |nth: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&footer[16 + 8 * nth..24 + 8 * nth]);
        u64::from_le_bytes(bytes)
    };
    let (at, count) = (number(1), number(2));
    let table_end = count.checked_mul(4).and_then(|length| at.checked_add(length)).ok_or_else(broken)?;
    if !footer.starts_with(MAGIC)
        || number(0) != block_size
        || table_end > footer_at
        || size % block_size != 0
    {
        return Err(broken());
    }
    let mut hash = Sha256::new();
    let mut bytes = Vec::new();
    let mut place = 0u64;
    for nth in 0..count {
        let mut length = [0; 4];
        file.read_exact_at(&mut length, at + 4 * nth).map_err(failed("read"))?;
        let length = u32::from_le_bytes(length);
        let room = u64::from(length).next_multiple_of(block_size);
        if length == 0 || length > MAX_CHUNK || place + room > at {
            return Err(broken());
        }
        bytes.resize(usize::try_from(room).unwrap_or(usize::MAX), 0);
        file.read_exact_at(&mut bytes, place).map_err(failed("read"))?;
        hash.update(&bytes);
        let key = known.chunk_key(bytes.get(..length as usize).unwrap_or_default());
        if known.plain(key, 1).is_none() {
            known.add_plain(key, address_on(device, place / block_size), room / block_size);
        }
        place += room;
    }
    if place != at {
        return Err(broken());
    }
    while place < size {
        bytes.resize(usize::try_from(size - place).unwrap_or(BUFFER).min(BUFFER), 0);
        file.read_exact_at(&mut bytes, place).map_err(failed("read"))?;
        hash.update(&bytes);
        place += bytes.len() as u64;
    }
    Ok(Device::new(hash, size / block_size))
}
