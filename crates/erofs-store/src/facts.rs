//! What is known about one image: which object each of its files is.
//!
//! `images/KEY` is a header and then records of 64 bytes, only ever appended. A record never
//! crosses a block of any filesystem, and carries a checksum over itself and the image's key, so
//! what a crash leaves (a half, a block of zeros) is not taken for a fact.
//!
//! ```text
//! header:  "pyerofs facts\0v1" (16)  key (32)     zeros (12)               crc32c (4)
//! record:  nid (8)  size (8)         digest (32)  zeros (12)               crc32c (4)
//! ```

use crate::Digest;
use crate::Domain;
use crate::ImageKey;
use crate::Result;
use crate::dir;
use rustix::io::Errno;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::io::Read;
use std::sync::PoisonError;
use std::sync::RwLock;

/// The size of the header and of every record.
pub(crate) const RECORD: usize = 64;
const MAGIC: &[u8; 16] = b"pyerofs facts\0v1";
/// Facts beyond so many are not read: 1 GiB of them is more than any image has files.
const MAX_FACTS: usize = 1 << 24;

/// The verified facts of one image: nid -> digest, safe to share between threads.
///
/// What a keeper reports as published while the image is mounted is put in with
/// [`Facts::insert`] by the server, so that a later look-up needs no message.
#[derive(Debug, Default)]
pub struct Facts {
    known: RwLock<HashMap<u64, Digest>>,
}

impl Facts {
    pub(crate) fn from_file(file: &FactsFile) -> Self {
        Self { known: RwLock::new(file.facts.iter().map(|(&nid, fact)| (nid, fact.digest)).collect()) }
    }

    /// The digest that the bytes of this nid were found to have.
    pub fn get(&self, nid: u64) -> Option<Digest> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&nid).copied()
    }

    /// Adds what the keeper just answered. Only in memory: the keeper writes the files.
    pub fn insert(&self, nid: u64, digest: Digest) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(nid, digest);
    }

    /// How many files are known.
    pub fn len(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nothing is known yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the bytes of a nid were found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// A facts file as it was read.
#[derive(Debug, Default)]
pub(crate) struct FactsFile {
    pub(crate) facts: HashMap<u64, Fact>,
    /// Records that are no facts: torn, or two that contradict each other.
    pub(crate) bad: u64,
    /// Whether the header is there and this image's; if not, a writer begins anew.
    pub(crate) has_header: bool,
}

/// Where an image's facts lie.
pub(crate) fn path(image: &ImageKey) -> String {
    format!("images/{image}")
}

/// Reads what is known about an image.
pub(crate) fn read(domain: &Domain, image: &ImageKey) -> Result<FactsFile> {
    let path = path(image);
    let file = match dir::open_file(domain, &path) {
        Err(Errno::NOENT) => return Ok(FactsFile::default()),
        other => other.map_err(|errno| domain.io("open", &path, errno))?,
    };
    parse(io::BufReader::with_capacity(1 << 16, file), image).map_err(|error| domain.io("read", &path, error))
}

fn parse(mut reader: impl Read, image: &ImageKey) -> io::Result<FactsFile> {
    let mut file = FactsFile::default();
    let mut record = [0; RECORD];
    if !read_record(&mut reader, &mut record)? {
        return Ok(file);
    }
    if record != header(image) {
        file.bad = 1;
        return Ok(file);
    }
    file.has_header = true;
    let mut contradicted = Vec::new();
    for _ in 0..MAX_FACTS {
        if !read_record(&mut reader, &mut record)? {
            break;
        }
        let Some((nid, fact)) = decode(&record, image) else {
            file.bad += 1;
            continue;
        };
        match file.facts.entry(nid) {
            Entry::Vacant(entry) => {
                entry.insert(fact);
            }
            Entry::Occupied(entry) if *entry.get() != fact => {
                contradicted.push(nid);
                file.bad += 1;
            }
            Entry::Occupied(_) => {}
        }
    }
    // An image never changes, so one of the two is wrong, and nobody knows which: hash again.
    for nid in contradicted {
        file.facts.remove(&nid);
    }
    Ok(file)
}

/// Whether another whole record could be read.
fn read_record(reader: &mut impl Read, record: &mut [u8; RECORD]) -> io::Result<bool> {
    match reader.read_exact(record) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The first 64 bytes of an image's facts.
pub(crate) fn header(image: &ImageKey) -> [u8; RECORD] {
    seal(image, &[MAGIC, &image.0])
}

/// A fact's 64 bytes.
pub(crate) fn encode(image: &ImageKey, nid: u64, fact: &Fact) -> [u8; RECORD] {
    seal(image, &[&nid.to_le_bytes(), &fact.size.to_le_bytes(), &fact.digest.0])
}

fn seal(image: &ImageKey, parts: &[&[u8]]) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    for (to, from) in record.iter_mut().zip(parts.iter().copied().flatten()) {
        *to = *from;
    }
    let (content, check) = record.split_at_mut(RECORD - 4);
    check.copy_from_slice(&checksum(image, content).to_le_bytes());
    record
}

fn decode(record: &[u8; RECORD], image: &ImageKey) -> Option<(u64, Fact)> {
    let (nid, rest) = record.split_first_chunk::<8>()?;
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let (digest, _) = rest.split_first_chunk::<32>()?;
    let nid = u64::from_le_bytes(*nid);
    let fact = Fact { digest: Digest(*digest), size: u64::from_le_bytes(*size) };
    (encode(image, nid, &fact) == *record).then_some((nid, fact))
}

fn checksum(image: &ImageKey, content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&image.0), content)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: ImageKey = ImageKey([3; 32]);

    fn fact(byte: u8) -> Fact {
        Fact { digest: Digest([byte; 32]), size: u64::from(byte) }
    }

    fn file(records: &[[u8; RECORD]]) -> Vec<u8> {
        [&[header(&IMAGE)], records].concat().concat()
    }

    #[test]
    fn facts_are_read_back() {
        let bytes = file(&[encode(&IMAGE, 1, &fact(1)), encode(&IMAGE, u64::MAX, &fact(2))]);
        let read = parse(bytes.as_slice(), &IMAGE).unwrap();
        assert!(read.has_header);
        assert_eq!((read.facts.len(), read.bad), (2, 0));
        assert_eq!(read.facts[&u64::MAX], fact(2));
    }

    #[test]
    fn a_torn_tail_is_ignored_at_every_length() {
        let bytes = file(&[encode(&IMAGE, 1, &fact(1)), encode(&IMAGE, 2, &fact(2))]);
        for length in 0..bytes.len() {
            let read = parse(&bytes[..length], &IMAGE).unwrap();
            assert_eq!(read.facts.len(), (length / RECORD).saturating_sub(1), "{length}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_no_fact() {
        let good = encode(&IMAGE, 7, &fact(7));
        for bit in 0..RECORD * 8 {
            let mut record = good;
            record[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&record, &IMAGE), None, "bit {bit}");
        }
        assert_eq!(decode(&[0; RECORD], &IMAGE), None);
    }

    #[test]
    fn another_images_facts_are_not_this_ones() {
        let other = ImageKey([4; 32]);
        assert_eq!(decode(&encode(&other, 1, &fact(1)), &IMAGE), None);
        let bytes = [header(&other), encode(&IMAGE, 1, &fact(1))].concat();
        let read = parse(bytes.as_slice(), &IMAGE).unwrap();
        assert!(read.facts.is_empty() && !read.has_header);
    }

    #[test]
    fn facts_that_contradict_each_other_are_both_dropped() {
        let bytes = file(&[
            encode(&IMAGE, 1, &fact(1)),
            encode(&IMAGE, 1, &fact(2)),
            encode(&IMAGE, 1, &fact(1)),
            encode(&IMAGE, 2, &fact(2)),
            encode(&IMAGE, 2, &fact(2)),
        ]);
        let read = parse(bytes.as_slice(), &IMAGE).unwrap();
        assert_eq!(read.facts.into_keys().collect::<Vec<_>>(), [2]);
        assert_eq!(read.bad, 1);
    }
}
