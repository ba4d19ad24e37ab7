//! Reads every file of an image in several ways: mapped, at its ends, whole, in parts and piece by
//! piece, which must give the same.
#![no_main]

use std::ops::ControlFlow;

#[path = "common.rs"]
mod common;

use erofs_image::{DataLayout, Image, Inode, Piece, Scratch};
use libfuzzer_sys::fuzz_target;

/// As much of a file is read at once.
const WHOLE: usize = 1 << 20;
/// In steps of this it is read again: no divisor of a cluster's size.
const STEP: usize = 5001;

fuzz_target!(|bytes: &[u8]| {
    let Some(image) = common::open(bytes) else { return };
    let Ok(root) = image.inode(image.root_nid()) else { return };
    let mut inodes: Vec<Inode> = image.walk(&root).flatten().map(|step| step.inode).collect();
    // These have no name.
    let nids = [image.superblock().packed_nid, image.superblock().metabox_nid];
    inodes.extend(nids.into_iter().flatten().filter_map(|nid| image.inode(nid).ok()));
    // Extent records that do not ascend may be found in another way from elsewhere; in an index, a
    // byte is the same wherever a read begins, or an error.
    let is_fixed = inodes.iter().all(|inode| inode.layout != DataLayout::CompressedFull);
    for inode in inodes.iter().filter(|inode| inode.is_file()) {
        read(&image, inode, is_fixed);
    }
});

fn read(image: &Image, inode: &Inode, is_fixed: bool) {
    for extent in image.extents(inode).flatten() {
        assert!(extent.len > 0 && extent.logical + extent.len <= inode.size);
    }
    let mut tail = [0; 64];
    let _ = image.read(inode, inode.size / 2, &mut tail);
    let _ = image.read(inode, inode.size.saturating_sub(64), &mut tail);
    let mut whole = vec![0; WHOLE.min(usize::try_from(inode.size).unwrap_or(WHOLE))];
    let Ok(count) = image.read(inode, 0, &mut whole) else { return };
    let mut behind = 0;
    let done = image.for_each_piece(inode, 0..count as u64, &mut Scratch::new(), &mut |at, piece| {
        assert_eq!(at, behind);
        match piece {
            Piece::Data(data) => {
                let start = usize::try_from(at).unwrap();
                assert!(!is_fixed || whole[start..start + data.len()] == *data);
                behind += data.len() as u64;
            }
            Piece::Hole(len) => behind += len,
        }
        ControlFlow::Continue(())
    });
    assert!(!is_fixed || done.is_ok(), "it was read before");
    let mut step = vec![0; STEP];
    for start in (0..count).step_by(STEP) {
        let Ok(found) = image.read(inode, start as u64, &mut step) else { continue };
        let end = count.min(start + found);
        assert!(found >= count.min(start + STEP) - start);
        assert!(!is_fixed || step[..end - start] == whole[start..end]);
    }
}
