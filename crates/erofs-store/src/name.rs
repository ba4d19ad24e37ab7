//! The names that a domain may have.

use crate::Error;
use crate::Result;
use std::fmt;

/// A valid domain name: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`, so never `.`, `..`, hidden or a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainName(String);

impl DomainName {
    /// Checks the name.
    pub fn new(name: &str) -> Result<Self> {
        let mut bytes = name.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if first && rest && name.len() <= 64 {
            Ok(Self(name.to_owned()))
        } else {
            Err(Error::Name { name: name.to_owned() })
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_never_be_a_path_out_of_the_state_root() {
        let longest = "a".repeat(64);
        for good in ["a", "0", "build-7.x_y", "A..b", longest.as_str()] {
            assert_eq!(DomainName::new(good).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(65);
        for bad in ["", ".", "..", ".a", "-a", "_a", "a/b", "a\0b", "a b", "a\n", "\u{e4}", &too_long] {
            assert!(DomainName::new(bad).is_err(), "{bad:?}");
        }
    }
}
