//! A domain's store of verified objects and its keeper.
#![forbid(unsafe_code)]
