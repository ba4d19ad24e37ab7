//! 48-bit addresses, which no image that a test could write needs: forced on small trees, planned for large.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use erofs_image::{Image, MemorySource, OpenOptions};

use crate::build::build_with;
use crate::inode::Shape;
use crate::kernel::{Feature, KernelVersion};
use crate::plan::Plan;
use crate::tree::{Key, Kind, Names, Node, ROOT, Regular, Tree};
use crate::xattr::Sets;
use crate::{BuildOptions, Compression, CompressionAlgorithm, DirSource, Output, Silent};

#[test]
fn an_image_with_48_bit_addresses_reads_as_any_other() {
    check(&BuildOptions::default());
}

#[test]
fn a_compressed_image_with_48_bit_addresses_does_too() {
    let compression = Some(Compression::new(CompressionAlgorithm::Zstd));
    check(&BuildOptions { compression, ..BuildOptions::default() });
}

fn check(options: &BuildOptions) {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    let noise: Vec<u8> = (0..=250).cycle().take(100_000).collect();
    fs::write(source.join("flat"), &noise).unwrap();
    fs::write(source.join("small"), b"small").unwrap();
    let sparse = File::create(source.join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    sparse.write_all_at(&noise, 500_000).unwrap();
    let path = dir.path().join("image");
    let mut output = Output::create(&path, false).unwrap();
    let source = DirSource::open(&source).unwrap();
    let planner =
        |options: &_, tree: &_, sets: &_| Plan::with_width(options, tree, sets, true).map(|(plan, _)| plan);
    let report = build_with(options, source.into(), &mut output, &Silent, planner).unwrap();
    assert_eq!(report.oldest_kernel, KernelVersion(6, 15));

    let image =
        Image::open(Arc::new(MemorySource::new(fs::read(&path).unwrap())), OpenOptions::default()).unwrap();
    let read = |name: &[u8]| {
        let inode = image.resolve(name, false).unwrap();
        let mut bytes = vec![0; usize::try_from(inode.size).unwrap()];
        let mut done = 0;
        while done < bytes.len() {
            done += image.read(&inode, done as u64, &mut bytes[done..]).unwrap();
        }
        bytes
    };
    assert!(read(b"/flat") == noise);
    assert_eq!(read(b"/small"), b"small");
    let sparse = read(b"/sparse");
    assert!(sparse[500_000..600_000] == noise && sparse[..500_000].iter().all(|byte| *byte == 0));
}

#[test]
fn a_tree_of_more_than_2_to_the_32_blocks_takes_48_bit_addresses_or_is_refused() {
    let node = |kind| Node {
        entry: 0,
        uid: 0,
        gid: 0,
        nlink: 2,
        mtime: (0, 0),
        permissions: 0o755,
        source: 0,
        xattrs: 0,
        kind,
    };
    let key = Key::Number(0);
    let large = Kind::Regular(Regular { size: 1 << 45, data: None, key });
    let mut names = Names::default();
    let entry = crate::tree::Entry { dir: ROOT, node: 1, name: names.add(b"large") };
    let tree = Tree {
        sources: vec!["tree".into()],
        nodes: vec![node(Kind::Directory { first: 0, count: 1 }), node(large)],
        entries: vec![entry],
        names,
    };
    let mut sets = Sets::default();
    sets.add(&Arc::default());
    let mut options = BuildOptions::default();
    let plan = Plan::new(&options, &tree, &sets).unwrap();
    assert!(plan.wide && plan.reads > 1 << 44 && plan.features.contains(&Feature::Addresses48));
    assert!(Shape::of(&options, &plan, &tree, 1).extended);
    options.target_kernel = Some(KernelVersion(6, 12));
    let error = Plan::new(&options, &tree, &sets).unwrap_err();
    assert!(error.to_string().contains("48-bit addresses need Linux 6.15"), "{error}");
}
