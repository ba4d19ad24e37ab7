//! Blobs and the unified address space: which blob holds a block, and where.

use std::sync::Arc;

use erofs_format::device::{DeviceSlot, device_id_mask};
use zerocopy::FromBytes;

use crate::error::{Corruption, Error, Result, Where};
use crate::source::ReadAt;
use crate::superblock::{Device, SuperBlock, until_nul};

/// A source of bytes and where block 0 starts in it.
#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) source: Arc<dyn ReadAt>,
    pub(crate) base: u64,
}

impl Device {
    /// Reads a record of the device table.
    pub(crate) fn parse(bytes: &[u8; size_of::<DeviceSlot>()], bit48: bool) -> Device {
        let slot = DeviceSlot::read_from_bytes(bytes).unwrap_or_default();
        Device { tag: until_nul(&slot.tag), blocks: slot.blocks(bit48), uniaddr: slot.uniaddr(bit48) }
    }
}

/// Where the devices of the device table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Devices {
    /// Each in a blob of its own.
    Given,
    /// All in the primary, at their places in the unified address space.
    Appended,
    /// The primary ends before them.
    Missing,
}

impl Devices {
    /// Looks for devices that are not given behind the primary's own blocks.
    pub(crate) fn find(sb: &SuperBlock, primary: &Blob) -> Self {
        let last = sb.devices.iter().filter(|device| device.blocks > 0).map(|device| device.uniaddr).max();
        let start = last.and_then(|last| last.checked_mul(sb.block_size().into()));
        let there = start.and_then(|start| start.checked_add(primary.base));
        match there.map(|there| primary.source.read_at(there, &mut [0])) {
            Some(Ok(1..)) => Self::Appended,
            _ => Self::Missing,
        }
    }
}

/// Finds the blob and the byte position in it (from its block 0 on) of `position`, a byte position
/// on device `device_id`.
pub(crate) fn locate(
    sb: &SuperBlock,
    devices: Devices,
    device_id: u16,
    position: u64,
    nid: u64,
) -> Result<(usize, u64)> {
    let device_id = device_id & device_id_mask(sb.extra_devices);
    if device_id == 0 {
        return Ok(locate_unified(sb, devices, position));
    }
    let index = usize::from(device_id);
    let Some(device) = sb.devices.get(index - 1) else {
        return Err(Error::corrupt(Where::nid(nid), Corruption::NoSuchDevice { found: device_id }));
    };
    if devices == Devices::Given {
        return Ok((index, position));
    }
    // A device may not be in the unified address space. Linux reads from the primary's beginning then, which
    // holds the metadata.
    if devices == Devices::Missing || device.uniaddr == 0 {
        return Err(Error::Devices { given: 0, expected: sb.devices.len() });
    }
    let start = device.uniaddr.checked_mul(u64::from(sb.block_size()));
    let position = start.and_then(|start| start.checked_add(position));
    position.map(|position| (0, position)).ok_or_else(|| overflow(nid))
}

fn locate_unified(sb: &SuperBlock, devices: Devices, position: u64) -> (usize, u64) {
    if devices == Devices::Given {
        let block = position >> sb.block_bits;
        for (index, device) in sb.devices.iter().enumerate().filter(|(_, device)| device.uniaddr != 0) {
            if let Some(relative) = block.checked_sub(device.uniaddr)
                && relative < device.blocks
            {
                // uniaddr <= block, so this multiplication does not leave `position`.
                return (index + 1, position - (device.uniaddr << sb.block_bits));
            }
        }
    }
    (0, position)
}

/// The error of arithmetic that leaves 64 bits.
pub(crate) fn overflow(nid: u64) -> Error {
    Error::corrupt(Where::nid(nid), Corruption::AddressOverflow)
}
