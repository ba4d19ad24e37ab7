use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::record::{ENCODERS, difference};
use crate::compress::{Compression, CompressionAlgorithm};
use crate::pack::clusters::{End, Filler};
use crate::pack::content::Content;
use crate::pack::cuts::cuts;
use crate::pack::packed::Cutter;
use crate::pack::writer;

/// Words, noise, zeros and words again.
fn sample() -> Vec<u8> {
    let mut state = 11u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut bytes = Vec::new();
    for part in 0..6 {
        for _ in 0..30_000 {
            match part {
                2 => bytes.extend_from_slice(&next().to_le_bytes()),
                3 => bytes.extend_from_slice(&[0; 5]),
                _ => bytes.extend_from_slice(format!("{:x} ", next() % 3000).as_bytes()),
            }
        }
    }
    bytes
}

/// The digest of what all encoders make of the sample, and of where it is cut.
fn generation() -> String {
    let (buffers, _writing) = writer::new();
    let sample = sample();
    let mut hash = Sha256::new();
    for algorithm in CompressionAlgorithm::ALL {
        for (is_dense, end) in [(false, End::Section), (false, End::Left), (true, End::Cluster)] {
            let how = Compression { cluster: 16384, ..Compression::new(algorithm) };
            let mut filler = Filler::new(&how, 4096, is_dense).unwrap();
            let read = |buffer: &mut [u8], at| {
                let at = usize::try_from(at).unwrap();
                buffer.copy_from_slice(&sample[at..at + buffer.len()]);
                Ok(())
            };
            assert!(filler.is_worth_it(sample.len() as u64, read).unwrap());
            let mut content = Content::new(&buffers, 4096);
            let mut extents = Vec::new();
            filler.fill(&sample, Some(0), end, &mut content, &mut extents).unwrap();
            for extent in extents {
                hash.update(format!("{} {} {} ", extent.llen, extent.plen, extent.is_coded));
            }
            content.hash_last(content.bytes(), &mut hash);
        }
    }
    let large: Vec<u8> = (0..40).flat_map(|nth| sample.iter().map(move |byte| byte ^ nth)).collect();
    hash.update(format!("{:?}", cuts(&large, 65536)));
    let mut cutter = Cutter::default();
    for nth in 0..20_000u64 {
        hash.update([u8::from(cutter.ends_before(nth % 7000)), u8::from(cutter.ends_after(nth % 7000))]);
    }
    hash.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Clusters of images with the same record are taken for those of this build.
#[test]
fn whoever_changes_what_encoders_make_changes_the_record() {
    assert_eq!(
        (ENCODERS, generation().as_str()),
        (1, "f7032dda8c22c5b4"),
        "the same input gives other clusters than before: count ENCODERS up in record.rs, unless no release has had the \
         number, and write the new digest here"
    );
}

#[test]
fn a_difference_of_records_is_said_in_their_words() {
    let ours = "pyerofs build 1\nencoders 1\ncompress zstd,level=3,cluster=65536,fragments\n";
    assert_eq!(difference(ours, Some(ours)), None);
    let theirs = ours.replace("level=3", "level=9") + "dedupe\n";
    let said = difference(ours, Some(&theirs)).unwrap();
    assert!(said.contains("level=9") && said.contains("dedupe") && said.contains("level=3"), "{said}");
    assert!(difference(ours, None).unwrap().contains("does not say"));
}
