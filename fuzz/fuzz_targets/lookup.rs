//! Whatever a listing shows, a look-up finds: the same name, the same inode.
#![no_main]

#[path = "common.rs"]
mod common;

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(image) = common::open(bytes) else { return };
    let Ok(root) = image.inode(image.root_nid()) else { return };
    for step in image.walk(&root).flatten().filter(|step| step.inode.is_dir()) {
        let mut entries = Vec::new();
        let listed = image.read_dir(&step.inode, 0, &mut |entry| {
            entries.push((entry.name.to_vec(), entry.nid));
            ControlFlow::Continue(())
        });
        if listed.is_err() {
            continue;
        }
        for (name, nid) in entries {
            let found = image.lookup(&step.inode, &name).expect("a good listing").expect("a listed name");
            assert_eq!(found.nid, nid);
        }
        let _ = image.resolve(&step.path, true);
    }
});
