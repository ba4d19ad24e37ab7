//! What is wanted: patterns in gitignore syntax, rooted at the image.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::error::{Error, Result};
use crate::options::ExtractOptions;

#[derive(Debug)]
pub(crate) struct Filter {
    includes: Option<Gitignore>,
    excludes: Gitignore,
}

impl Filter {
    pub(crate) fn new(options: &ExtractOptions) -> Result<Self> {
        let includes =
            (!options.includes.is_empty()).then(|| patterns("include", &options.includes)).transpose()?;
        Ok(Self { includes, excludes: patterns("exclude", &options.excludes)? })
    }

    /// Whether everything is included that is not below something else.
    pub(crate) fn includes_root(&self) -> bool {
        self.includes.is_none()
    }

    /// Whether the entry is left out. What an excluded directory holds is never asked about, so, as with git,
    /// no later pattern brings it back.
    pub(crate) fn excludes(&self, path: &[u8], is_dir: bool) -> bool {
        !self.excludes.is_empty() && self.excludes.matched(as_path(path), is_dir).is_ignore()
    }

    /// Whether the entry is wanted, given whether the directory is that it lies in.
    pub(crate) fn includes(&self, path: &[u8], is_dir: bool, parent: bool) -> bool {
        match self.includes.as_ref().map(|includes| includes.matched(as_path(path), is_dir)) {
            Some(Match::Ignore(_)) => true,
            Some(Match::Whitelist(_)) => false,
            Some(Match::None) | None => parent,
        }
    }
}

fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

fn patterns(name: &'static str, lines: &[String]) -> Result<Gitignore> {
    let bad = |error: &ignore::Error| Error::Option { name, reason: error.to_string() };
    let mut builder = GitignoreBuilder::new("");
    for line in lines {
        builder.add_line(None, line).map_err(|error| bad(&error))?;
    }
    builder.build().map_err(|error| bad(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_include_takes_what_is_below_it_and_a_later_one_may_take_back() {
        let includes = vec!["/usr".to_owned(), "*.so".to_owned(), "!secret".to_owned()];
        let options = ExtractOptions { includes, ..ExtractOptions::default() };
        let filter = Filter::new(&options).unwrap();
        assert!(!filter.includes_root());
        assert!(filter.includes(b"usr", true, false));
        assert!(filter.includes(b"usr/bin", true, true));
        assert!(!filter.includes(b"usr/secret", false, true));
        assert!(!filter.includes(b"opt", true, false));
        assert!(filter.includes(b"opt/x.so", false, false));
        assert!(!filter.includes(b"opt/usr", true, false));
    }

    #[test]
    fn a_pattern_that_makes_no_sense_is_named_with_its_option() {
        let options = ExtractOptions { excludes: vec!["a[z-a]".into()], ..ExtractOptions::default() };
        let error = Filter::new(&options).unwrap_err().to_string();
        assert!(error.starts_with("exclude: ") && error.contains("a[z-a]"), "{error}");
    }
}
