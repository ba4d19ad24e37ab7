//! Reads every file of an image in several ways: mapped, at its ends, whole, and all alike.
#![no_main]

#[path = "common.rs"]
mod common;

use erofs_image::{Image, Inode};
use libfuzzer_sys::fuzz_target;

/// As much of a file is read at once.
const WHOLE: usize = 1 << 20;
/// In steps of this it is read again: no divisor of a cluster's size.
const STEP: usize = 5001;

fuzz_target!(|bytes: &[u8]| {
    let Some(image) = common::open(bytes) else { return };
    let Ok(root) = image.inode(image.root_nid()) else { return };
    for step in image.walk(&root).flatten() {
        if step.inode.is_file() {
            read(&image, &step.inode);
        }
    }
    // Those have no name.
    for nid in [image.superblock().packed_nid, image.superblock().metabox_nid].into_iter().flatten() {
        if let Ok(inode) = image.inode(nid) {
            read(&image, &inode);
        }
    }
});

fn read(image: &Image, inode: &Inode) {
    for extent in image.extents(inode).flatten() {
        assert!(extent.len > 0 && extent.logical + extent.len <= inode.size);
    }
    let mut tail = [0; 64];
    let _ = image.read(inode, inode.size / 2, &mut tail);
    let _ = image.read(inode, inode.size.saturating_sub(64), &mut tail);
    let mut whole = vec![0; WHOLE.min(usize::try_from(inode.size).unwrap_or(WHOLE))];
    let Ok(count) = image.read(inode, 0, &mut whole) else { return };
    let mut step = vec![0; STEP];
    for start in (0..count).step_by(STEP) {
        // What was readable as a whole is so in parts, and the same.
        let found = image.read(inode, start as u64, &mut step).expect("it was readable before");
        let end = count.min(start + found);
        assert!(found >= count.min(start + STEP) - start && step[..end - start] == whole[start..end]);
    }
}
