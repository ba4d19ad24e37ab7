//! Fetching compressed bytes: as few reads as possible, none where the source lends its bytes.

use crate::error::Result;
use crate::image::Image;

/// The most bytes that are fetched at once beyond what is needed now. They stay in a core's own
/// cache until they are decoded.
const MOST: usize = 128 << 10;

/// Bytes of a blob that were fetched last. Clusters of a file lie one behind the other, and those
/// of the next file behind them, so the next cluster is mostly here already.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// The image (see [`Image::id`]), its blob, and the position there from block 0 on.
    place: (u64, usize, u64),
    bytes: Vec<u8>,
    len: usize,
}

impl Window {
    /// `len` bytes (1 MiB at most) at `position` of a blob. `ahead` bytes behind `position` are
    /// likely to be needed soon.
    pub(crate) fn fetch<'a>(
        &'a mut self,
        image: &'a Image,
        blob: usize,
        position: u64,
        len: usize,
        ahead: u64,
    ) -> Result<&'a [u8]> {
        if let Some(bytes) = image.lent(blob, position, len) {
            return Ok(bytes);
        }
        let start = match self.find(image, blob, position, len) {
            Some(start) => start,
            None => self.refill(image, blob, position, len, ahead)?,
        };
        Ok(self.bytes.get(start..start + len).unwrap_or_default())
    }

    fn find(&self, image: &Image, blob: usize, position: u64, len: usize) -> Option<usize> {
        let (of_image, of_blob, start) = self.place;
        if (of_image, of_blob) != (image.id(), blob) {
            return None;
        }
        let start = usize::try_from(position.checked_sub(start)?).ok()?;
        (start.checked_add(len)? <= self.len).then_some(start)
    }

    fn refill(&mut self, image: &Image, blob: usize, position: u64, len: usize, ahead: u64) -> Result<usize> {
        let (of_image, of_blob, start) = self.place;
        let end = start.saturating_add(self.len as u64);
        // Who goes on where the last fetch ended, or close to it, is likely to go on further.
        let goes_on = (of_image, of_blob) == (image.id(), blob) && (start..=end).contains(&position);
        let ahead = usize::try_from(ahead).unwrap_or(usize::MAX).min(MOST);
        let ahead = if goes_on { ahead.max(self.len.saturating_mul(2)) } else { ahead };
        let wanted = len.max(ahead.min(MOST));
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
        self.len = 0;
        self.place = (image.id(), blob, position);
        let room = self.bytes.get_mut(..wanted).unwrap_or_default();
        match image.read_blob_some(blob, position, room) {
            Ok(count) if count >= len => self.len = count,
            // What lies behind the bytes that are needed may be unreadable; they may be not.
            _ => {
                image.read_blob(blob, position, self.bytes.get_mut(..len).unwrap_or_default())?;
                self.len = len;
            }
        }
        Ok(0)
    }
}
