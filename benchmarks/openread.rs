//! Times open+read+close, and reading everything, without an interpreter in the way.
//!
//! `openread open LIST COUNT`: COUNT times, in a fixed random order, open a file of LIST (names between NULs,
//! relative to the current directory), read once into 64 KiB, close. Prints nanoseconds per file.
//! `openread all LIST`: read every file of LIST to its end. Prints seconds and bytes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["open", list, count] => count.parse().map_err(io::Error::other).and_then(|count| open(list, count)),
        ["all", list] => all(list),
        _ => Err(io::Error::other("usage: openread open LIST COUNT | openread all LIST")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("openread: {error}");
            ExitCode::FAILURE
        }
    }
}

fn open(list: &str, count: u64) -> io::Result<()> {
    let list = fs::read(list)?;
    let names = names(&list);
    let mut buffer = vec![0_u8; 1 << 16];
    // Once unmeasured, so that what is timed is warm.
    for name in &names {
        File::open(name)?.read(&mut buffer)?;
    }
    let mut state = 1_u64;
    let started = Instant::now();
    for _ in 0..count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let name = names[(state >> 33) as usize % names.len()];
        File::open(name)?.read(&mut buffer)?;
    }
    println!("{:.1}", started.elapsed().as_nanos() as f64 / count as f64);
    Ok(())
}

fn all(list: &str) -> io::Result<()> {
    let list = fs::read(list)?;
    let mut buffer = vec![0_u8; 1 << 20];
    let mut total = 0_u64;
    let started = Instant::now();
    for name in names(&list) {
        let mut file = File::open(name)?;
        loop {
            let got = file.read(&mut buffer)?;
            if got == 0 {
                break;
            }
            total += got as u64;
        }
    }
    println!("{:.6} {total}", started.elapsed().as_secs_f64());
    Ok(())
}

fn names(list: &[u8]) -> Vec<&Path> {
    list.split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| Path::new(OsStr::from_bytes(name)))
        .collect()
}
