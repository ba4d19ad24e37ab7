//! How fast a keeper is. Not judged, since it depends on the disk: run with
//! `cargo test --release -p erofs-store -- --ignored --nocapture --test-threads 1`.
#![expect(clippy::print_stderr, reason = "the numbers are what this is for")]

use crate::common::Setup;
use crate::common::blob;
use crate::common::bytes;
use crate::common::key;
use crate::common::whole;
use erofs_store::ImageKey;
use erofs_store::Outcome;
use std::fs::File;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

fn setup() -> Setup {
    let setup = Setup::new();
    setup.domain.set_limit(Some(1 << 40)).unwrap();
    setup
}

#[test]
#[ignore = "a measurement"]
fn speed_of_small_files() {
    let setup = setup();
    small(&setup, 50_000, 4096);
    small(&setup, 50_000, 12_000);
}

#[test]
#[ignore = "a measurement"]
fn speed_of_a_large_file() {
    large(&setup());
}

#[test]
#[ignore = "a measurement"]
fn speed_of_one_file_at_a_time() {
    latency(&setup());
}

fn report(what: &str, time: Duration, count: u64, bytes: u64) {
    let seconds = time.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let (each, rate) = (seconds * 1e6 / count as f64, bytes as f64 / 1e6 / seconds);
    eprintln!("{what}: {seconds:.3} s, {each:.1} us each, {rate:.0} MB/s");
}

/// Small files that all differ, as many as an image of a whole system has.
fn small(setup: &Setup, count: u64, len: usize) {
    let content = bytes(1, len * 2);
    let padded = len.next_multiple_of(4096);
    let mut all = Vec::new();
    for i in 0..count {
        let start = all.len();
        all.extend(&content[..len]);
        all[start..start + 8].copy_from_slice(&i.to_le_bytes());
        all.resize(start + padded, 0);
    }
    let (blob, _) = blob(setup.root.path(), &[&all]);
    blob.sync_all().unwrap();
    let offset = |i: u64| i * padded as u64;
    for claims in ["first image", "second image"] {
        let keeper = setup.keeper();
        let key = if claims == "first image" { key(1) } else { key(2) };
        let key = ImageKey(key.0.map(|byte| byte ^ u8::try_from(len % 251).unwrap()));
        let source = keeper.mount(key, &blob);
        let begin = Instant::now();
        let (sender, receiver) = mpsc::channel();
        for i in 0..count {
            let sender = sender.clone();
            keeper.client.publish(&whole(key, i, None, source, offset(i), len), move |outcome| {
                sender.send(outcome).unwrap();
            });
        }
        drop(sender);
        assert!(receiver.iter().all(|outcome| matches!(outcome, Outcome::Published(_))));
        report(
            &format!("{count} files of {len} bytes, {claims}"),
            begin.elapsed(),
            count,
            count * len as u64,
        );
        let begin = Instant::now();
        keeper.client.flush().unwrap();
        report("  made durable", begin.elapsed(), count, count * len as u64);
        eprintln!("  of the blob cached: {} MB", cached(&blob));
        keeper.end();
    }
}

fn large(setup: &Setup) {
    let len = 100 << 20;
    let content = bytes(2, len);
    let (blob, _) = blob(setup.root.path(), &[&content]);
    blob.sync_all().unwrap();
    let keeper = setup.keeper();
    for (nid, claimed, what) in
        [(1, None, "made"), (2, Some(crate::common::sha256(&content)), "found and hashed again")]
    {
        // Once more from the page cache, since what counts is what we add.
        let mut copy = &blob;
        std::io::Seek::rewind(&mut copy).unwrap();
        std::io::copy(&mut copy, &mut std::io::sink()).unwrap();
        let source = keeper.mount(key(9), &blob);
        let begin = Instant::now();
        let outcome = keeper.publish(&whole(key(9), nid, claimed, source, 0, len));
        assert!(matches!(outcome, Outcome::Published(_)));
        report(&format!("one file of {len} bytes, {what}"), begin.elapsed(), 1, len as u64);
        eprintln!("  of the blob cached: {} MB", cached(&blob));
    }
    keeper.end();
}

fn latency(setup: &Setup) {
    const COUNT: u64 = 2000;
    let files: Vec<Vec<u8>> = (0..COUNT).map(|i| bytes(i + 1000, 4096)).collect();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let (blob, offsets) = blob(setup.root.path(), &files);
    blob.sync_all().unwrap();
    let keeper = setup.keeper();
    for (what, image) in [("made", key(20)), ("found and hashed again", key(21)), ("known", key(21))] {
        let source = keeper.mount(image, &blob);
        let mut times: Vec<Duration> = (0..COUNT)
            .map(|i| {
                let publish = whole(image, i, None, source, offsets[usize::try_from(i).unwrap()], 4096);
                let begin = Instant::now();
                assert!(matches!(keeper.publish(&publish), Outcome::Published(_)));
                begin.elapsed()
            })
            .collect();
        times.sort();
        let at = |percent: usize| times[times.len() * percent / 100];
        eprintln!(
            "one file of 4096 bytes at a time, {what}: median {:?}, 99th percentile {:?}",
            at(50),
            at(99)
        );
    }
    keeper.end();
}

/// MB of the file in the page cache.
fn cached(file: &File) -> u64 {
    erofs_sys::cachestat(file, 0, 0).unwrap().cached * 4096 / 1_000_000
}
