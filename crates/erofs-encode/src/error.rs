//! What can go wrong in an encoder.

/// Why nothing was encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The method has no such level.
    #[error("{method} has no level {level}, only {least} to {most}")]
    Level {
        /// The method's name.
        method: &'static str,
        /// The level asked for.
        level: i64,
        /// The lowest there is.
        least: i64,
        /// The highest there is.
        most: i64,
    },
    /// The window or dictionary is none that Linux reads.
    #[error("{method} can't have a window of {window} bytes")]
    Window {
        /// The method's name.
        method: &'static str,
        /// The window asked for, in bytes.
        window: u64,
    },
    /// A cluster of a size that there is not.
    #[error("no cluster has {0} bytes")]
    Capacity(usize),
    /// A library refused to work, in its own words.
    #[error("{method}: {reason}")]
    Library {
        /// The method's name.
        method: &'static str,
        /// What the library said.
        reason: String,
    },
}

impl EncodeError {
    /// An error if `level` is not in the method's range.
    pub(crate) fn check_level(
        method: &'static str,
        level: i64,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<(), Self> {
        if range.contains(&level) {
            return Ok(());
        }
        Err(Self::Level { method, level, least: *range.start(), most: *range.end() })
    }

    pub(crate) fn library(method: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Library { method, reason: reason.to_string() }
    }
}
