//! What is known about one image: which object each of its files is.

use crate::Digest;

/// The verified facts of one image: nid -> digest, safe to share between threads.
///
/// What a keeper reports as published while the image is mounted is put in with
/// [`Facts::insert`] by the server, so that a later look-up needs no message.
#[derive(Debug, Default)]
pub struct Facts {}

impl Facts {
    /// The digest that the bytes of this nid were found to have.
    pub fn get(&self, nid: u64) -> Option<Digest> {
        let _ = nid;
        todo!()
    }

    /// Adds what the keeper just answered. Only in memory: the keeper writes the files.
    pub fn insert(&self, nid: u64, digest: Digest) {
        let _ = (nid, digest);
        todo!()
    }

    /// How many files are known.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether nothing is known yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
