//! Where a sparse file has data.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::tree::Segment;

/// A file in more pieces than this is seen through a coarser grid, so that no file, however finely it is
/// cut up, takes memory without bound.
const MAX_SEGMENTS: usize = 1 << 16;

/// The parts of a file of `size` bytes that hold data, as the filesystem tells; `None` if there is no hole
/// that a block of `grain` bytes could show.
pub(crate) fn segments(file: BorrowedFd<'_>, size: u64, grain: u64) -> io::Result<Option<Box<[Segment]>>> {
    let mut found = Segments::new(grain);
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            // A filesystem that can't tell has no holes to tell of.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let end = match seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        if end <= start {
            break;
        }
        found.add(Segment { start, end }, size);
        at = end;
    }
    Ok(found.finish(size))
}

/// The same for parts that are known, ascending.
pub(crate) fn of_parts(
    parts: impl Iterator<Item = Segment>,
    size: u64,
    grain: u64,
) -> Option<Box<[Segment]>> {
    let mut found = Segments::new(grain);
    parts.for_each(|part| found.add(part, size));
    found.finish(size)
}

#[derive(Debug)]
struct Segments {
    parts: Vec<Segment>,
    /// Segments start at multiples of this and end there or at the end of the file.
    grain: u64,
    limit: usize,
}

impl Segments {
    fn new(grain: u64) -> Self {
        Self { parts: Vec::new(), grain, limit: MAX_SEGMENTS }
    }

    fn finish(self, size: u64) -> Option<Box<[Segment]>> {
        let dense = matches!(self.parts[..], [Segment { start: 0, end }] if end == size);
        (!dense).then(|| self.parts.into_boxed_slice())
    }

    fn add(&mut self, segment: Segment, size: u64) {
        self.push(segment, size);
        while self.parts.len() > self.limit {
            let Some(grain) = self.grain.checked_mul(2) else { return };
            self.grain = grain;
            for part in std::mem::take(&mut self.parts) {
                self.push(part, size);
            }
        }
    }

    fn push(&mut self, segment: Segment, size: u64) {
        let start = segment.start - segment.start % self.grain;
        let end = segment.end.checked_next_multiple_of(self.grain).map_or(size, |end| end.min(size));
        match self.parts.last_mut() {
            Some(last) if last.end >= start => last.end = end,
            _ => self.parts.push(Segment { start, end }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn finely_cut_files_are_seen_through_a_coarser_grid() {
        let size = 1 << 20;
        let mut found = Segments { parts: Vec::new(), grain: 512, limit: 8 };
        for nth in 0..64 {
            found.add(Segment { start: nth * 8192, end: nth * 8192 + 100 }, size);
        }
        found.add(Segment { start: size - 10, end: size }, size);
        assert!(found.parts.len() <= 8);
        assert_eq!(found.parts.first().map(|part| part.start), Some(0));
        assert_eq!(found.parts.last().map(|part| part.end), Some(size));
        assert!(found.parts.is_sorted_by(|a, b| a.end < b.start));
    }

    #[test]
    fn a_file_of_nothing_but_a_hole_has_no_segments_and_a_dense_one_no_list() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let found = segments(file.as_fd(), 1 << 20, 4096).unwrap();
        assert!(found.is_none_or(|parts| parts.is_empty()));
        file.write_all_at(&vec![1; 1 << 20], 0).unwrap();
        assert_eq!(segments(file.as_fd(), 1 << 20, 4096).unwrap(), None);
    }
}
