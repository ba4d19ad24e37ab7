//! The only unsafe code of pyerofs: system calls that no safe library offers.
#![allow(unsafe_code)]
