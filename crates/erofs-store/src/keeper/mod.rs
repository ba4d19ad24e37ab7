//! The keeper: the only process that writes a domain.

pub mod client;

use crate::Domain;
use crate::Result;
use std::os::fd::OwnedFd;

/// The keeper's process: `{"v":1,"socket":FD,"domain":FD|"PATH"}`; returns when the socket ends.
pub fn main(config_json: &str) -> Result<()> {
    let _ = config_json;
    todo!()
}

/// Serves one socket (`SOCK_SEQPACKET`) until its other end is closed; then finishes the batch.
pub fn serve(socket: OwnedFd, domain: &Domain) -> Result<()> {
    let _ = (socket, domain);
    todo!()
}
