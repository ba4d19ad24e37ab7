//! The device table: where the blocks of further blobs lie in the unified address space.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `erofs_deviceslot`.
///
/// Headers before Linux 7.1 gave `blocks_hi` four bytes; this is the corrected layout.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DeviceSlot {
    /// Name of the device, free to the tools (a digest, for one).
    pub tag: [u8; 64],

    /// Low half of the number of blocks.
    pub blocks_lo: U32,
    /// Low half of the first block in the unified address space; 0: not in it.
    pub uniaddr_lo: U32,
    /// High half of the number of blocks, if 48BIT.
    pub blocks_hi: U16,
    /// High half of the first block in the unified address space, if 48BIT.
    pub uniaddr_hi: U16,
    /// Must be 0.
    pub reserved: [u8; 52],
}

impl Default for DeviceSlot {
    fn default() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }
}

impl DeviceSlot {
    /// Number of blocks.
    pub fn blocks(&self, bit48: bool) -> u64 {
        join(self.blocks_lo, self.blocks_hi, bit48)
    }

    /// First block in the unified address space; 0: not in it.
    pub fn uniaddr(&self, bit48: bool) -> u64 {
        join(self.uniaddr_lo, self.uniaddr_hi, bit48)
    }
}

fn join(low: U32, high: U16, bit48: bool) -> u64 {
    u64::from(low) | if bit48 { u64::from(high) << 32 } else { 0 }
}

/// What `device_id` of a chunk index is masked with: one less than the power of two that holds all
/// of the primary and `extra_devices` devices.
pub const fn device_id_mask(extra_devices: u16) -> u16 {
    match (extra_devices as u32 + 1).next_power_of_two() - 1 {
        mask if mask > 0xffff => 0xffff,
        #[expect(clippy::cast_possible_truncation, reason = "the arm above took what does not fit")]
        mask => mask as u16,
    }
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn sizes_and_offsets_are_those_on_disk() {
        assert_eq!(size_of::<DeviceSlot>(), 128);
        assert_eq!(offset_of!(DeviceSlot, blocks_lo), 0x40);
        assert_eq!(offset_of!(DeviceSlot, uniaddr_lo), 0x44);
        assert_eq!(offset_of!(DeviceSlot, blocks_hi), 0x48);
        assert_eq!(offset_of!(DeviceSlot, uniaddr_hi), 0x4A);
    }

    #[test]
    fn high_halves_count_only_in_48_bit_images() {
        let slot = DeviceSlot { blocks_lo: 5.into(), blocks_hi: 1.into(), ..DeviceSlot::default() };
        assert_eq!(slot.blocks(false), 5);
        assert_eq!(slot.blocks(true), 0x1_0000_0005);
    }

    #[test]
    fn the_mask_holds_every_device_id() {
        assert_eq!(device_id_mask(0), 0);
        assert_eq!(device_id_mask(1), 1);
        assert_eq!(device_id_mask(2), 3);
        assert_eq!(device_id_mask(3), 3);
        assert_eq!(device_id_mask(4), 7);
        assert_eq!(device_id_mask(u16::MAX), u16::MAX);
    }
}
