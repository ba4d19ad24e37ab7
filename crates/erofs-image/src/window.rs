//! Fetching compressed bytes: as few reads as possible, none where the source lends its bytes.

use crate::error::Result;
use crate::image::Image;

/// The most bytes that are fetched at once beyond what is needed now. They stay in a core's own
/// cache until they are decoded.
pub(crate) const MOST: usize = 128 << 10;

/// Two pieces of blobs that were fetched last. Clusters of a file lie one behind the other, and
/// those of the next file behind them, so the next cluster is mostly here already. Two: where each
/// file's end lies in the packed inode, the way goes on in two places by turns.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// The one that was used last comes first.
    panes: [Pane; 2],
}

#[derive(Debug, Default)]
struct Pane {
    /// The image (see [`Image::id`]), its blob, and the position there from block 0 on.
    place: (u64, usize, u64),
    bytes: Vec<u8>,
    len: usize,
}

impl Window {
    /// `len` bytes ([`MOST`] at most) at `position` of a blob. `ahead` bytes behind `position` are
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
        let [first, second] = &self.panes;
        let place = (image.id(), blob, position);
        let is_second = match (first.find(place, len), second.find(place, len)) {
            (Some(_), _) => false,
            (None, Some(_)) => true,
            // The one that it goes on from, else the one that was not needed for longer.
            (None, None) => second.leads_to(place) || !first.leads_to(place),
        };
        if is_second {
            self.panes.swap(0, 1);
        }
        let [pane, _] = &mut self.panes;
        let start = match pane.find(place, len) {
            Some(start) => start,
            None => pane.refill(image, place, len, ahead)?,
        };
        Ok(pane.bytes.get(start..start + len).unwrap_or_default())
    }
}

impl Pane {
    fn find(&self, (image, blob, position): (u64, usize, u64), len: usize) -> Option<usize> {
        let (of_image, of_blob, start) = self.place;
        if (of_image, of_blob) != (image, blob) {
            return None;
        }
        let start = usize::try_from(position.checked_sub(start)?).ok()?;
        (start.checked_add(len)? <= self.len).then_some(start)
    }

    /// Whether a fetch goes on where the last one ended, or close to it.
    fn leads_to(&self, (image, blob, position): (u64, usize, u64)) -> bool {
        let (of_image, of_blob, start) = self.place;
        let end = start.saturating_add(self.len as u64);
        (of_image, of_blob) == (image, blob) && (start..=end).contains(&position)
    }

    fn refill(&mut self, image: &Image, place: (u64, usize, u64), len: usize, ahead: u64) -> Result<usize> {
        let ahead = usize::try_from(ahead).unwrap_or(usize::MAX).min(MOST);
        // Who goes on is likely to go on further.
        let ahead = if self.leads_to(place) { ahead.max(self.len.saturating_mul(2)) } else { ahead };
        let wanted = len.max(ahead.min(MOST));
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
        self.len = 0;
        self.place = place;
        let (_, blob, position) = place;
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
