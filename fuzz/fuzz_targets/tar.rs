//! Builds images of any bytes as a tar archive, alone and over another: clear errors or an image, never a panic.
#![no_main]

use erofs_build::{BuildOptions, Output, Silent, Sources, TarSource, Whiteouts, build};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let options = BuildOptions { whiteouts: Whiteouts::Apply, ..BuildOptions::default() };
    let (first, second) = bytes.split_at(bytes.len() / 1024 * 512);
    for archives in [&[bytes][..], &[first, second]] {
        let mut sources = Sources::new();
        for archive in archives {
            sources.push(TarSource::from_stream(std::io::Cursor::new(archive.to_vec()), "fuzz.tar"));
        }
        let mut image = Vec::new();
        let mut output = Output::stream(&mut image);
        if let Ok(output) = &mut output {
            let _ = build(&options, sources, output, &Silent);
        }
    }
});
