//! Walks over an image and prints how many entries a second that were, each with its path and inode.
//!
//! `cargo run --release -p erofs-image --example walk IMAGE [ROUNDS]`; `make bench ARGS=reading` uses it.

use std::error::Error;
use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use erofs_image::{FileSource, Image, OpenOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let path = arguments.next().ok_or("usage: walk IMAGE [ROUNDS]")?;
    let rounds: u32 = match arguments.next() {
        Some(text) => text.to_str().ok_or("ROUNDS is no number")?.parse()?,
        None => 1,
    };
    for _ in 0..rounds {
        let started = Instant::now();
        let image = Image::open(Arc::new(FileSource::open(&path)?), OpenOptions::default())?;
        let root = image.inode(image.root_nid())?;
        let mut entries = 0u32;
        for entry in image.walk(&root) {
            black_box(entry?);
            entries += 1;
        }
        let rate = f64::from(entries) / started.elapsed().as_secs_f64();
        writeln!(std::io::stdout(), "{rate:.0} entries/s, {entries} entries")?;
    }
    Ok(())
}
