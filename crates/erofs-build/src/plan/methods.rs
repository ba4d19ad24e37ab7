//! Which file is compressed how.

use std::path::Path;

use erofs_format::compression::Algorithm;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::compress::Compression;
use crate::error::{Error, Result};
use crate::options::BuildOptions;
use crate::tree::{Kind, NodeId, Regular, Tree};

/// In the order of their bits and of their records.
const ALGORITHMS: [Algorithm; 4] = [Algorithm::Lz4, Algorithm::Lzma, Algorithm::Deflate, Algorithm::Zstd];

/// The ways in which the files of an image are compressed.
#[derive(Debug, Default)]
pub(crate) struct Methods {
    /// Each once.
    all: Vec<Compression>,
    /// That of files that no rule matches, and of the packed inode.
    usual: Option<usize>,
    /// That of the metabox, if there is one.
    metabox: Option<usize>,
    /// Those of all nodes, if there are rules.
    of: Vec<Option<u8>>,
    /// A file of no more bytes takes as much compressed as it does as it is, if its end is not treated
    /// otherwise.
    unit: u64,
    rules: Vec<(Gitignore, Option<u8>)>,
}

impl Methods {
    /// Asks the rules about every file.
    pub(crate) fn choose(options: &BuildOptions, tree: &Tree) -> Result<Self> {
        let unit = if options.is_dense() { 0 } else { options.block_size.into() };
        let mut methods = Self { unit, ..Self::default() };
        methods.usual = options.compression.as_ref().map(|how| methods.number(how));
        methods.metabox = options.of_metabox().map(|how| methods.number(&how));
        if options.rules.is_empty() {
            return Ok(methods);
        }
        for rule in &options.rules {
            let number = rule.compression.as_ref().map(|how| methods.number(how));
            let number = number.and_then(|number| u8::try_from(number).ok());
            methods.rules.push((pattern(&rule.pattern)?, number));
        }
        for (id, node) in tree.nodes.iter().enumerate() {
            let mut of = None;
            if let (Kind::Regular(_), Ok(id)) = (&node.kind, NodeId::try_from(id)) {
                of = methods.of_path(&tree.path_below(id));
            }
            methods.of.push(of);
        }
        Ok(methods)
    }

    /// How a file with this path below the root is compressed.
    pub(crate) fn of_path(&self, below: &Path) -> Option<u8> {
        let usual = self.usual.and_then(|number| u8::try_from(number).ok());
        let matches = |rule: &&(Gitignore, Option<u8>)| {
            !below.has_root() && rule.0.matched_path_or_any_parents(below, false).is_ignore()
        };
        self.rules.iter().rev().find(matches).map_or(usual, |rule| rule.1)
    }

    /// Whether there are rules that make a difference.
    pub(crate) fn has_rules(&self) -> bool {
        let usual = self.usual.and_then(|number| u8::try_from(number).ok());
        self.rules.iter().any(|(_, number)| *number != usual)
    }

    /// The number of a way, which is new or known.
    fn number(&mut self, how: &Compression) -> usize {
        self.all.iter().position(|known| known == how).unwrap_or_else(|| {
            self.all.push(how.clone());
            self.all.len() - 1
        })
    }

    pub(crate) fn all(&self) -> &[Compression] {
        &self.all
    }

    /// How the packed inode is compressed, and all that no rule is about.
    pub(crate) fn usual(&self) -> Option<usize> {
        self.usual
    }

    /// How the metabox is compressed, if there is to be one.
    pub(crate) fn metabox(&self) -> Option<usize> {
        self.metabox
    }

    /// How a node is compressed, if it is. One that is mostly holes is not: there would be no end to zeros. Nor is
    /// one that would take a block in any case, while as it is most of these lie beside their inodes.
    pub(crate) fn of(&self, id: NodeId, file: &Regular) -> Option<usize> {
        if file.is_mostly_holes() {
            return None;
        }
        let number = self.of.get(id as usize).map_or(self.usual, |number| number.map(usize::from))?;
        let gains = self.all.get(number).is_none_or(|how| how.fragments || how.inline);
        (gains || file.size > self.unit).then_some(number)
    }

    /// Whether there is anything but LZ4 in clusters of a block, which alone needs no records.
    pub(crate) fn needs_records(&self, block_size: u32, is_dense: bool) -> bool {
        self.all.iter().any(|how| how.needs_record(block_size, is_dense))
    }

    /// The bits of the algorithms that there are.
    pub(crate) fn algorithms(&self) -> u16 {
        self.all.iter().fold(0, |bits, how| bits | (1 << how.algorithm() as u16))
    }

    /// The records behind the superblock: what the kernel's decoders have to be ready for.
    pub(crate) fn records(&self, block_size: u32, is_dense: bool) -> Vec<u8> {
        if !self.needs_records(block_size, is_dense) {
            return Vec::new();
        }
        // The largest clusters of an algorithm have the largest windows.
        let largest = |algorithm| {
            self.all.iter().filter(move |how| how.algorithm() == algorithm).max_by_key(|how| how.cluster)
        };
        ALGORITHMS.into_iter().filter_map(largest).flat_map(|how| how.record(block_size, is_dense)).collect()
    }
}

/// One pattern, which matches files and whatever lies below matching directories.
pub(crate) fn pattern(text: &str) -> Result<Gitignore> {
    let bad = |reason: String| Error::Option { name: "rule", reason };
    if text.starts_with(['!', '#']) || text.trim().is_empty() {
        return Err(bad(format!("'{text}' is not a pattern that files can match")));
    }
    let mut builder = GitignoreBuilder::new(Path::new(""));
    builder.add_line(None, text).map_err(|error| bad(error.to_string()))?;
    builder.build().map_err(|error| bad(error.to_string()))
}
