//! What the server gives up before it looks at an image.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::set_no_new_privs;

use crate::error::{Error, Result};

/// Gives up gaining privileges, and being read or traced by other processes of the same user: the server holds descriptors that they may
/// not have.
pub(crate) fn enter() -> Result<()> {
    set_no_new_privs(true).map_err(|error| Error::io("no_new_privs", error))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| Error::io("dumpable", error))
}
