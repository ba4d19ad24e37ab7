//! The store from outside: real directories, real sockets, keepers on threads and as processes.

mod common;
mod publish;
mod speed;
