//! How many entries a second: listing with every inode (what `find` makes a server do), a walk,
//! and look-ups by path. 500 directories of 100 files, from memory and from a file.
#![allow(clippy::print_stdout, reason = "a benchmark prints what it measures")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use erofs_format::inode::DataLayout;
use erofs_image::{FileSource, Image, MemorySource, OpenOptions, ReadAt, Result};
use support::{Builder, DIR, REG, ROOT, compact, dir_block, dots};

const DIRS: u64 = 500;
const FILES: u64 = 100;

/// Directories have one block each behind all inodes; files are empty.
fn image_bytes() -> Vec<u8> {
    let first_file = 1024;
    let first_block = 1 + (first_file + DIRS * FILES) * 32 / 4096 + 16;
    let mut builder = Builder::new(12);
    let mut root = Vec::new();
    for dir in 0..DIRS {
        let (nid, block) = (dir + 1, first_block + dir);
        let names: Vec<String> = (0..FILES).map(|file| format!("some-file-name-{file:03}")).collect();
        let mut entries = Vec::new();
        for (name, file) in names.iter().zip(first_file + dir * FILES..) {
            builder.put_inode(file, &compact(DataLayout::FlatPlain, REG, 0, 0));
            entries.push((name.as_str(), file, 1));
        }
        let bytes = dir_block(&dots(nid, ROOT, &entries));
        let inode = compact(DataLayout::FlatPlain, DIR, bytes.len() as u64, u32::try_from(block).unwrap());
        builder.put_inode(nid, &inode).put_block(block, &bytes);
        root.push((format!("d{dir:03}"), nid, 2));
    }
    let root: Vec<_> = root.iter().map(|(name, nid, kind)| (name.as_str(), *nid, *kind)).collect();
    let mut blocks = Vec::new();
    for (part, entries) in dots(ROOT, ROOT, &root).chunks(200).enumerate() {
        blocks.resize(part * 4096, 0);
        blocks.extend(dir_block(entries));
    }
    let block = first_block + DIRS;
    let inode = compact(DataLayout::FlatPlain, DIR, blocks.len() as u64, u32::try_from(block).unwrap());
    builder.put_inode(ROOT, &inode).put_block(block, &blocks);
    builder.finish()
}

fn list_all(image: &Image) -> Result<u64> {
    let (mut todo, mut count) = (vec![image.inode(image.root_nid())?], 0);
    while let Some(dir) = todo.pop() {
        let mut failed = Ok(());
        image.read_dir(&dir, 0, &mut |entry| {
            if matches!(entry.name, b"." | b"..") {
                return ControlFlow::Continue(());
            }
            count += 1;
            match image.inode(entry.nid) {
                Ok(inode) if inode.is_dir() => todo.push(inode),
                Ok(_) => (),
                Err(error) => failed = Err(error),
            }
            ControlFlow::Continue(())
        })?;
        failed?;
    }
    Ok(count)
}

fn walk_all(image: &Image) -> Result<u64> {
    let mut count = 0;
    for step in image.walk(&image.inode(image.root_nid())?) {
        step?;
        count += 1;
    }
    Ok(count)
}

fn resolve_all(image: &Image) -> Result<u64> {
    let mut count = 0;
    for step in image.walk(&image.inode(image.root_nid())?) {
        image.resolve(&step?.path, false)?;
        count += 1;
    }
    Ok(count)
}

fn measure(what: &str, image: &Image, run: fn(&Image) -> Result<u64>) {
    let best = (0..5).map(|_| {
        let start = Instant::now();
        let count = run(image).expect("the image is good");
        let seconds = start.elapsed().as_secs_f64();
        assert!(count >= DIRS * (FILES + 1));
        // Below 2^53, so nothing is lost.
        f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / seconds
    });
    println!("{what}: {:.2} million entries a second", best.fold(0.0, f64::max) / 1e6);
}

fn main() {
    let bytes = image_bytes();
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&bytes).expect("room for the image");
    let sources: [(&str, Arc<dyn ReadAt>); 2] =
        [("memory", Arc::new(MemorySource::new(bytes))), ("file", Arc::new(FileSource::new(file)))];
    for (name, source) in sources {
        let image = Image::open(source, OpenOptions::default()).expect("the image is good");
        measure(&format!("{name}: list with inodes"), &image, list_all);
        measure(&format!("{name}: walk"), &image, walk_all);
        measure(&format!("{name}: walk and resolve"), &image, resolve_all);
    }
}
