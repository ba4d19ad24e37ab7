//! Walks an image and asks everything of every inode.
#![no_main]

#[path = "common.rs"]
mod common;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(image) = common::open(bytes) else { return };
    let Ok(root) = image.inode(image.root_nid()) else { return };
    let mut buf = [0; 8192];
    for step in image.walk(&root).flatten() {
        let inode = step.inode;
        let _ = image.xattrs(&inode);
        let _ = image.fingerprint(&inode);
        let _ = image.read_link(&inode);
        for offset in [0, 4095, inode.size.saturating_sub(4096)] {
            let _ = image.read(&inode, offset, &mut buf);
        }
        for extent in image.extents(&inode).flatten() {
            assert!(extent.len > 0 && extent.logical + extent.len <= inode.size);
        }
    }
});
