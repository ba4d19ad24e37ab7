//! `SELinux` labels from a `file_contexts` file, as libselinux reads it.
//!
//! ```text
//! # pattern of whole paths    type    label
//! /usr/bin(/.*)?              --      system_u:object_r:bin_t:s0
//! /tmp/.*                             <<none>>
//! ```
//! Of the lines that match a path, one without special characters counts before all others, and else the last.

use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, OnceLock};

use erofs_format::dirent::FileType;
use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use crate::error::{Error, Result};
use crate::tree::{NodeId, Tree};
use crate::xattr::{Sets, Xattr, Xattrs};

/// The xattr that holds a file's label.
const NAME: &[u8] = b"security.selinux";

/// What has a meaning in patterns.
const SPECIAL: &[char] = &['.', '^', '$', '?', '*', '+', '|', '[', '(', '{'];

/// The labels of paths.
#[derive(Debug, Clone, Default)]
pub struct FileContexts {
    /// Those that count most come first.
    lines: Arc<[Line]>,
}

#[derive(Debug)]
struct Line {
    pattern: String,
    /// What every path begins with that matches.
    prefix: Vec<u8>,
    /// Made when a path begins so; patterns were looked at when they were read.
    regex: OnceLock<Option<Regex>>,
    kind: Option<FileType>,
    /// Without one, files have none.
    label: Option<Box<[u8]>>,
}

impl FileContexts {
    /// Reads the text of a file; `name` is its name for messages.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let mut literal = Vec::new();
        let mut others = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |reason: String| Error::Option {
                name: "file-contexts",
                reason: format!("{name}, line {}: {reason}", index + 1),
            };
            let fields: Vec<_> = line.split_whitespace().collect();
            let (pattern, kind, label) = match fields[..] {
                [pattern, label] => (pattern, None, label),
                [pattern, kind, label] => (pattern, Some(file_type(kind).map_err(bad)?), label),
                _ => return Err(bad("not a pattern, a type or none, and a label".into())),
            };
            syntax::parse_with(&whole(pattern), &configuration())
                .map_err(|error| bad(format!("'{pattern}': {error}")))?;
            let label = (label != "<<none>>").then(|| label.as_bytes().into());
            let (prefix, is_literal) = literal_prefix(pattern);
            let line = Line { pattern: pattern.to_owned(), prefix, regex: OnceLock::new(), kind, label };
            let lines = if is_literal { &mut literal } else { &mut others };
            lines.push(line);
        }
        Ok(Self { lines: literal.into_iter().rev().chain(others.into_iter().rev()).collect() })
    }

    /// The label of the file at `path`, which begins with a slash.
    fn label(&self, path: &[u8], kind: FileType) -> Option<&[u8]> {
        let matches = |line: &&Line| line.kind.is_none_or(|wanted| wanted == kind) && line.matches(path);
        self.lines.iter().find(matches)?.label.as_deref()
    }

    /// Gives every node its label, in place of the one that it has.
    pub(crate) fn apply(&self, tree: &mut Tree, sets: &mut Sets) -> Result<()> {
        let old: Vec<Xattrs> = sets.iter().map(|(xattrs, _)| xattrs.into()).collect();
        let mut labelled = Sets::default();
        for id in crate::plan::node_ids(tree)? {
            let path = path_in_image(tree, id);
            let node = &mut tree.nodes[id as usize];
            let label = self.label(&path, node.file_type());
            let known = old.get(node.xattrs as usize).map_or(&[][..], |known| &known[..]);
            let mut xattrs: Vec<_> = known.iter().filter(|xattr| *xattr.name != *NAME).cloned().collect();
            xattrs.extend(label.map(|label| Xattr { name: NAME.into(), value: label.into() }));
            xattrs.sort();
            node.xattrs = labelled.add(&xattrs.into());
        }
        *sets = labelled;
        Ok(())
    }
}

impl Line {
    fn matches(&self, path: &[u8]) -> bool {
        if !path.starts_with(&self.prefix) {
            return false;
        }
        let regex = self
            .regex
            .get_or_init(|| Regex::builder().syntax(configuration()).build(&whole(&self.pattern)).ok());
        regex.as_ref().is_some_and(|regex| regex.is_match(Input::new(path).anchored(Anchored::Yes)))
    }
}

/// Patterns stand for whole paths, which are bytes.
fn whole(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

fn configuration() -> syntax::Config {
    syntax::Config::new().utf8(false).unicode(false).dot_matches_new_line(true)
}

fn file_type(word: &str) -> std::result::Result<FileType, String> {
    Ok(match word {
        "--" => FileType::Regular,
        "-d" => FileType::Directory,
        "-l" => FileType::Symlink,
        "-c" => FileType::CharDevice,
        "-b" => FileType::BlockDevice,
        "-p" => FileType::Fifo,
        "-s" => FileType::Socket,
        _ => return Err(format!("'{word}' is no file type; there are --, -d, -l, -c, -b, -p and -s")),
    })
}

/// What every match of a pattern begins with, and whether that is all there is to it.
fn literal_prefix(pattern: &str) -> (Vec<u8>, bool) {
    if has_alternatives(pattern) {
        return (Vec::new(), false);
    }
    let mut prefix = String::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                // Escaped letters and digits are classes.
                Some(escaped) if !escaped.is_ascii_alphanumeric() => prefix.push(escaped),
                _ => return (prefix.into_bytes(), false),
            },
            '?' | '*' | '{' => {
                prefix.pop();
                return (prefix.into_bytes(), false);
            }
            special if SPECIAL.contains(&special) => return (prefix.into_bytes(), false),
            other => prefix.push(other),
        }
    }
    (prefix.into_bytes(), true)
}

/// Whether there is a `|` outside of parentheses, so that matches may begin in several ways.
fn has_alternatives(pattern: &str) -> bool {
    let mut depth = 0u32;
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// The path that a node has once the image is mounted at the root.
fn path_in_image(tree: &Tree, id: NodeId) -> Vec<u8> {
    [&b"/"[..], tree.path_below(id).as_os_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r"
        # what libselinux's own files look like
        /.*                         system_u:object_r:default_t:s0
        /usr/bin(/.*)?              system_u:object_r:bin_t:s0
        /usr/bin/.*         -l      system_u:object_r:link_t:s0
        /usr/bin/su         --      system_u:object_r:su_exec_t:s0
        /usr/bin/s.         --      system_u:object_r:later_t:s0
        /lib(64)?/ld-[0-9]+\.so     system_u:object_r:ld_so_t:s0
        /tmp/.*                     <<none>>
        /a|/b                       system_u:object_r:either_t:s0
        /x?y                        system_u:object_r:maybe_t:s0
    ";

    fn label(path: &str, kind: FileType) -> Option<String> {
        let contexts = FileContexts::parse(TEXT, "test").unwrap();
        contexts.label(path.as_bytes(), kind).map(|label| String::from_utf8_lossy(label).into_owned())
    }

    #[test]
    fn the_last_line_counts_but_literal_ones_first() {
        for (path, kind, expected) in [
            ("/", FileType::Directory, Some("default_t")),
            ("/usr/bin", FileType::Directory, Some("bin_t")),
            ("/usr/bin/ls", FileType::Regular, Some("bin_t")),
            ("/usr/bin/ls", FileType::Symlink, Some("link_t")),
            ("/usr/bin/su", FileType::Regular, Some("su_exec_t")),
            ("/usr/bin/sh", FileType::Regular, Some("later_t")),
            ("/usr/binary", FileType::Regular, Some("default_t")),
            ("/lib64/ld-2.so", FileType::Regular, Some("ld_so_t")),
            ("/lib/ld-12.so", FileType::Regular, Some("ld_so_t")),
            ("/lib/ld-12xso", FileType::Regular, Some("default_t")),
            ("/tmp/new\nline", FileType::Regular, None),
            ("/b", FileType::Regular, Some("either_t")),
            ("/y", FileType::Regular, Some("maybe_t")),
        ] {
            let expected = expected.map(|name| format!("system_u:object_r:{name}:s0"));
            assert_eq!(label(path, kind), expected, "{path}");
        }
    }

    #[test]
    fn lines_that_make_no_sense_are_named() {
        for (text, message) in [
            ("/a", "x, line 1: not a pattern"),
            ("\n/a -q l", "x, line 2: '-q' is no file type"),
            ("/a( l", "line 1: '/a('"),
            ("/a -- l more", "not a pattern, a type"),
        ] {
            let error = FileContexts::parse(text, "x").unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
