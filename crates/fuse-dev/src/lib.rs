//! The FUSE protocol over /dev/fuse: many connections on few threads.
//!
//! A [`Connection`] is a descriptor of /dev/fuse that belongs to a mount, together with the [`Filesystem`] that answers. It
//! is made from a fresh mount, or from a connection that another process served until it died: the kernel greets only
//! once, so what was [`Negotiated`] then is handed over with the descriptor, and requests in flight are asked for again. An
//! [`EventLoop`] serves any number of connections.
//!
//! This is for filesystems that never change: only what a read-only filesystem answers is known here, nothing is
//! remembered about look-ups, and answers are meant to be cached for ever. Nothing here knows of EROFS.
//!
//! ```no_run
//! use fuse_dev::{Attr, Config, Connection, EventLoop, FOREVER, Filesystem, Reply, Request};
//! use std::sync::Arc;
//!
//! struct Empty;
//!
//! impl Filesystem for Empty {
//!     fn lookup(&self, _: &Request, _name: &[u8], reply: Reply) {
//!         reply.negative(FOREVER);
//!     }
//!     fn getattr(&self, _: &Request, reply: Reply) {
//!         reply.attr(&Attr { ino: 1, mode: 0o040_555, nlink: 2, ..Attr::default() }, FOREVER);
//!     }
//! }
//!
//! # fn mounted() -> std::os::fd::OwnedFd { unimplemented!() }
//! # fn main() -> Result<(), fuse_dev::Error> {
//! let device = mounted(); // an open /dev/fuse whose number was given to mount(2)
//! let events = EventLoop::new(true)?;
//! let handle = events.handle();
//! let connection = Connection::new(device, Arc::new(Empty), Config::default())?;
//! events.handle().add(Arc::new(connection), move |_ended| handle.stop())?;
//! events.run()
//! # }
//! ```
#![forbid(unsafe_code)]

mod abi;
mod config;
mod connection;
mod device;
mod directory;
mod dispatch;
mod error;
mod event_loop;
mod filesystem;
mod follow;
mod helper;
mod pending;
mod reply;
mod types;

pub use config::{Config, InitFlags, Negotiated};
pub use connection::{Connection, Ended};
pub use device::Backing;
pub use directory::{DirBuffer, DirPlusBuffer, dirent_type};
pub use error::Error;
pub use event_loop::{EventLoop, Handle, Token};
pub use filesystem::Filesystem;
pub use pending::Pending;
pub use reply::Reply;
pub use rustix::io::Errno;
pub use types::{Attr, Entry, FOREVER, OpenFlags, ROOT_ID, Request, Statfs};
