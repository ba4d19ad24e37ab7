//! What a thread needs to read compressed data: decoders and the bytes fetched last.
//!
//! Who reads many files keeps a [`Scratch`]. Single reads take their tools from the image's small
//! store of them and put them back, so that no thread keeps any when it has gone.

use std::sync::Mutex;

use erofs_codec::Decoder;

use crate::lock::lock;
use crate::window::Window;

/// Sets of tools that an image keeps for the next reads. More threads may read at once; what they
/// need beyond this is given back to the system.
const KEPT: usize = 4;

/// Room that reading needs, kept from one file to the next: what is decoded into, what is read
/// ahead, the decoders' own tables. One for each thread that reads; it belongs to no image.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) tools: Tools,
    pub(crate) output: Vec<u8>,
}

impl Scratch {
    /// Room that nothing has been read into.
    pub fn new() -> Self {
        Self::default()
    }

    /// Room for `len` bytes to be read into. Callers bound `len`.
    pub(crate) fn room(&mut self, len: usize) -> &mut [u8] {
        if self.output.len() < len {
            self.output.resize(len, 0);
        }
        self.output.get_mut(..len).unwrap_or_default()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Tools {
    pub(crate) decoder: Decoder,
    pub(crate) window: Window,
    /// Room for what is decoded has been taken, or is not counted.
    pub(crate) has_room: bool,
}

/// The tools that nobody is using.
#[derive(Debug, Default)]
pub(crate) struct Toolbox {
    idle: Mutex<Vec<Tools>>,
}

impl Toolbox {
    /// Lends tools for one call.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Tools) -> T) -> T {
        let idle = lock(&self.idle).pop();
        let mut tools = idle.unwrap_or_default();
        let result = work(&mut tools);
        let mut idle = lock(&self.idle);
        if idle.len() < KEPT {
            idle.push(tools);
        }
        result
    }
}
