//! What is left out: patterns in gitignore syntax, and the output itself.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use crate::error::{Error, Result};

/// A name in a directory that must not be read: the output, or its temporary form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hidden {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) name: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Excludes {
    patterns: Gitignore,
    regexes: Vec<Regex>,
    hidden: Vec<Hidden>,
}

impl Excludes {
    pub(crate) fn new(lines: &[String], regexes: &[String], hidden: Vec<Hidden>) -> Result<Self> {
        let regexes = regexes.iter().map(|text| regex(text)).collect::<Result<_>>()?;
        let bad = |error: &ignore::Error| Error::Option { name: "exclude", reason: error.to_string() };
        let mut builder = GitignoreBuilder::new("");
        for line in lines {
            builder.add_line(None, line).map_err(|error| bad(&error))?;
        }
        Ok(Self { patterns: builder.build().map_err(|error| bad(&error))?, regexes, hidden })
    }

    /// Whether any pattern was given, so that paths are worth making.
    pub(crate) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty() || !self.regexes.is_empty()
    }

    /// Whether the entry at `path` below the source is left out. What an excluded directory holds is never
    /// asked about, so, as with git, no later pattern brings it back.
    pub(crate) fn excludes(&self, path: &Path, is_dir: bool) -> bool {
        self.patterns.matched(path, is_dir).is_ignore()
            || self.regexes.iter().any(|regex| regex.is_match(path.as_os_str().as_bytes()))
    }

    pub(crate) fn hides(&self, dir: (u64, u64), name: &[u8]) -> bool {
        self.hidden.iter().any(|hidden| (hidden.dev, hidden.ino) == dir && hidden.name == name)
    }
}

/// A regular expression over bytes.
fn regex(text: &str) -> Result<Regex> {
    Regex::builder()
        .syntax(syntax::Config::new().utf8(false).unicode(false))
        .build(text)
        .map_err(|error| Error::Option { name: "exclude-regex", reason: format!("'{text}': {error}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_rooted_at_the_source_as_in_gitignore() {
        let lines = ["*.pyc", "!keep.pyc", "/top", "cache/", "a/**/z"].map(String::from);
        let excludes = Excludes::new(&lines, &[], Vec::new()).unwrap();
        for (path, is_dir, expected) in [
            ("x.pyc", false, true),
            ("d/x.pyc", false, true),
            ("d/keep.pyc", false, false),
            ("top", false, true),
            ("d/top", false, false),
            ("d/cache", true, true),
            ("d/cache", false, false),
            ("a/z", false, true),
            ("a/b/c/z", false, true),
            ("b/z", false, false),
        ] {
            assert_eq!(excludes.excludes(Path::new(path), is_dir), expected, "{path}");
        }
    }

    #[test]
    fn expressions_are_found_anywhere_in_the_path() {
        let excludes = Excludes::new(&[], &["b/c$".into(), r"^t\.[ch]".into()], Vec::new()).unwrap();
        assert!(excludes.has_patterns());
        for (path, expected) in
            [("a/b/c", true), ("b/c", true), ("b/cd", false), ("t.c", true), ("tac", false), ("d/t.c", false)]
        {
            assert_eq!(excludes.excludes(Path::new(path), false), expected, "{path}");
        }
        let error = Excludes::new(&[], &["a(".into()], Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("exclude-regex: 'a('"), "{error}");
    }

    #[test]
    fn a_pattern_that_makes_no_sense_is_named() {
        let error = Excludes::new(&["a[z-a]".into()], &[], Vec::new()).unwrap_err();
        assert!(error.to_string().contains("a[z-a]"), "{error}");
    }
}
