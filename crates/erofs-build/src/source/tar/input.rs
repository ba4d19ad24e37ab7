//! Where an archive's bytes come from: a file that is read in place, or a stream that is kept in a temporary one.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use super::Problem;

/// An archive that is read from front to back.
pub(super) trait Input {
    /// Fills `buffer`, or as much of it as there is.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Problem>;

    /// Goes past `length` bytes of contents; returns where they can be read later.
    fn keep(&mut self, length: u64) -> Result<u64, Problem>;

    /// Goes past `length` bytes.
    fn skip(&mut self, length: u64) -> Result<(), Problem>;

    /// Reads what follows the archive, so that the whole stream is checked; returns the file with the contents.
    fn finish(self: Box<Self>) -> Result<File, Problem>;
}

/// An uncompressed archive in a regular file.
pub(super) struct InPlace {
    file: BufReader<File>,
    at: u64,
    end: u64,
}

impl InPlace {
    pub(super) fn new(mut file: File, at: u64, end: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(at))?;
        Ok(Self { file: BufReader::with_capacity(64 << 10, file), at, end })
    }
}

impl Input for InPlace {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        let filled = fill(&mut self.file, buffer)?;
        self.at += filled as u64;
        Ok(filled)
    }

    fn keep(&mut self, length: u64) -> Result<u64, Problem> {
        let at = self.at;
        self.skip(length)?;
        Ok(at)
    }

    fn skip(&mut self, length: u64) -> Result<(), Problem> {
        let next = self.at.checked_add(length).filter(|next| *next <= self.end);
        self.at = next.ok_or_else(Problem::cut_off)?;
        let step = i64::try_from(length).map_err(|_| Problem::cut_off())?;
        self.file.seek_relative(step).map_err(Problem::from)
    }

    fn finish(self: Box<Self>) -> Result<File, Problem> {
        Ok(self.file.into_inner())
    }
}

/// Any other archive; contents are kept in an unnamed temporary file.
pub(super) struct Spooled<R> {
    stream: R,
    spool: BufWriter<File>,
    kept: u64,
}

impl<R: Read> Spooled<R> {
    pub(super) fn new(stream: R) -> Result<Self, Problem> {
        let spool = tempfile::tempfile().map_err(|error| Problem::spool(&error))?;
        Ok(Self { stream, spool: BufWriter::with_capacity(256 << 10, spool), kept: 0 })
    }
}

impl<R: Read> Input for Spooled<R> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        fill(&mut self.stream, buffer)
    }

    fn keep(&mut self, length: u64) -> Result<u64, Problem> {
        let at = self.kept;
        let mut buffer = vec![0; 64 << 10];
        let mut left = length;
        while left > 0 {
            let now = usize::try_from(left.min(buffer.len() as u64)).unwrap_or(buffer.len());
            let part = buffer.get_mut(..now).unwrap_or_default();
            if fill(&mut self.stream, part)? < now {
                return Err(Problem::cut_off());
            }
            self.spool.write_all(part).map_err(|error| Problem::spool(&error))?;
            left -= now as u64;
        }
        self.kept += length;
        Ok(at)
    }

    fn skip(&mut self, length: u64) -> Result<(), Problem> {
        let skipped = io::copy(&mut (&mut self.stream).take(length), &mut io::sink())?;
        if skipped < length { Err(Problem::cut_off()) } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<File, Problem> {
        io::copy(&mut self.stream, &mut io::sink())?;
        self.spool.into_inner().map_err(|error| Problem::spool(error.error()))
    }
}

fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Problem> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}
