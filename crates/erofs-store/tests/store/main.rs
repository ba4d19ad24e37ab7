//! The store from outside: real directories, real sockets, keepers on threads and as processes.

mod common;
mod domain;
mod hostile;
mod process;
mod publish;
mod room;
mod speed;
