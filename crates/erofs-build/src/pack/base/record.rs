//! What the clusters of an image depend on, in words.

use std::fmt::Write as _;

use erofs_format::record::RECORD_LINE;
use sha2::{Digest, Sha256};

use crate::compress::Compression;
use crate::options::BuildOptions;
use crate::plan::Plan;

/// The generation of everything that turns contents into clusters: `erofs-encode`, `pack/clusters.rs`, `sections.rs`,
/// `cuts.rs` and `packed.rs`. Whoever changes what they make counts it up; a test knows.
pub(crate) const ENCODERS: u32 = 1;

/// The record of an image, which is empty if nothing in it is compressed.
pub(crate) fn text(options: &BuildOptions, plan: &Plan) -> String {
    if plan.methods.all().is_empty() {
        return String::new();
    }
    let mut text = format!("{RECORD_LINE}encoders {ENCODERS}\nblock-size {}\n", options.block_size);
    let usual = options.compression.as_ref().map_or_else(|| "none".into(), Compression::in_words);
    let _ = writeln!(text, "compress {usual}");
    for (is_so, word) in [(options.dedupe, "dedupe"), (plan.is_dense, "dense")] {
        if is_so {
            let _ = writeln!(text, "{word}");
        }
    }
    if plan.methods.has_rules() {
        let mut hash = Sha256::new();
        for rule in &options.rules {
            let how = rule.compression.as_ref().map_or_else(|| "none".into(), Compression::in_words);
            hash.update(format!("{}\0{how}\0", rule.pattern));
        }
        let digest = hash.finalize();
        let _ = writeln!(
            text,
            "rules {}",
            digest.iter().fold(String::new(), |all, byte| all + &format!("{byte:02x}"))
        );
    }
    text
}

/// Why clusters of an image with the record `theirs` are of no use to a build with the record `ours`.
pub(super) fn difference(ours: &str, theirs: Option<&str>) -> Option<String> {
    let Some(theirs) = theirs else {
        return Some(
            "it does not say how it was compressed, as only images that pyerofs compressed do".into(),
        );
    };
    if ours == theirs {
        return None;
    }
    let only = |one: &str, other: &str| {
        let lines: Vec<_> = one.lines().filter(|line| !other.lines().any(|known| known == *line)).collect();
        if lines.is_empty() { "nothing more".into() } else { lines.join(", ") }
    };
    Some(format!("it was built with other options ({}; here: {})", only(theirs, ours), only(ours, theirs)))
}
