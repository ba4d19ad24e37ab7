//! The server process: one per domain, one per image outside domains.

use std::io;

/// Why a server ended otherwise than it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not what the protocol says.
    #[error("{0}")]
    Usage(String),
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The error that came back.
        source: io::Error,
    },
}

/// Runs the server until its last mount has gone. `config_json` is `{"v":1,"control":FD,"keeper":FD|null,"domain":FD|null}`.
pub fn main(config_json: &str) -> Result<(), Error> {
    let _: serde_json::Value =
        serde_json::from_str(config_json).map_err(|error| Error::Usage(error.to_string()))?;
    Err(Error::Usage("this build serves nothing yet".into()))
}
