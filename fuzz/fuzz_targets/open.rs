//! Opens arbitrary bytes as an image. Errors are fine; panics are bugs.
#![no_main]

use std::sync::Arc;

use erofs_image::{Image, MemorySource, OpenOptions, Profile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for profile in [Profile::Core, Profile::Plain, Profile::Full] {
        let source = Arc::new(MemorySource::new(bytes));
        let _ = Image::open(source, OpenOptions { profile, ..OpenOptions::default() });
    }
});
