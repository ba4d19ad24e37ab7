//! The members of an archive, with all that headers of several kinds say about each.

use super::Problem;
use super::header::{BLOCK, Header, field, number};
use super::input::Input;
use super::pax::{self, RawXattrs, Records};
use super::sparse::{Map, Part};
use crate::tree::Time;

/// All extended headers and long names before one member are no longer; the largest there are, maps of sparse
/// files, are not nearly.
const MAX_METADATA: u64 = 16 << 20;

/// Records that hold for all members are no longer, in bytes: they are copied for each.
const MAX_GLOBALS: usize = 256 << 10;

/// The maps of all sparse members have no more numbers, two for each part: a compressed archive of a few
/// kilobytes may have gigabytes of them, and they are kept in memory.
const MAX_NUMBERS: usize = 8 << 20;

/// A number in a map has no more digits.
const MAX_DIGITS: usize = 20;

/// Where ACLs are text, and the xattrs that they are.
const ACLS: [(&str, &str); 2] =
    [("SCHILY.acl.access", "system.posix_acl_access"), ("SCHILY.acl.default", "system.posix_acl_default")];

/// A member whose contents were passed over.
#[derive(Debug)]
pub(super) struct Member {
    /// As tar has it: a digit.
    pub(super) kind: u8,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: Time,
    pub(super) major: u64,
    pub(super) minor: u64,
    pub(super) xattrs: RawXattrs,
    /// The xattrs that ACLs are, with the text that the archive has for them.
    pub(super) acls: Vec<(&'static str, Vec<u8>)>,
    pub(super) size: u64,
    /// Where the contents were kept.
    pub(super) at: u64,
    /// The parts of a sparse file.
    pub(super) parts: Option<Box<[Part]>>,
}

/// Reads an archive.
pub(super) struct Members<'a> {
    pub(super) input: &'a mut dyn Input,
    /// Bytes read so far.
    pub(super) at: u64,
    globals: Records,
    /// Numbers that the maps of sparse members may still have.
    numbers: usize,
}

/// What was read ahead of a member's own header.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Option<Records>,
    map: Vec<u64>,
    /// Bytes that all of it took in the archive.
    length: u64,
}

impl<'a> Members<'a> {
    pub(super) fn new(input: &'a mut dyn Input) -> Self {
        Self { input, at: 0, globals: Records::new(), numbers: MAX_NUMBERS }
    }

    /// The next member, none at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Member>, Problem> {
        let mut extended = Extended::default();
        loop {
            let Some(block) = self.block()? else {
                return Err(Problem::new("it ends without the blocks that mark an end: it was cut off"));
            };
            if block == [0; BLOCK] {
                return match self.block()? {
                    Some(next) if next != [0; BLOCK] => {
                        Err(Problem::new("there is more behind a block of zeros"))
                    }
                    _ if extended.is_some() => Err(Problem::cut_off()),
                    _ => Ok(None),
                };
            }
            let header = Header::parse(&block).map_err(|problem| {
                self.at = self.at.saturating_sub(BLOCK as u64);
                if self.at == 0 { no_archive() } else { problem }
            })?;
            match header.kind {
                b'L' => extended.name = Some(self.text(header.size, &mut extended.length)?),
                b'K' => extended.link = Some(self.text(header.size, &mut extended.length)?),
                b'x' | b'X' => {
                    let bytes = self.metadata(header.size, &mut extended.length)?;
                    let records = extended.records.get_or_insert_with(|| self.globals.clone());
                    pax::parse(&bytes, records, &mut extended.map)?;
                }
                b'g' => {
                    let bytes = self.metadata(header.size, &mut extended.length)?;
                    pax::parse(&bytes, &mut self.globals, &mut Vec::new())?;
                    let length: usize = self.globals.iter().map(|(key, value)| key.len() + value.len()).sum();
                    if length > MAX_GLOBALS {
                        return Err(Problem::Text(format!(
                            "its global headers have {length} bytes of records, which is longer than any should be"
                        )));
                    }
                }
                // The name of the volume.
                b'V' => self.pass(header.size, 0)?,
                _ => return self.member(header, &block, extended).map(Some),
            }
        }
    }

    fn member(&mut self, header: Header, block: &[u8; BLOCK], extended: Extended) -> Result<Member, Problem> {
        let Extended { name, link, records, map, .. } = extended;
        let records = records.unwrap_or_else(|| self.globals.clone());
        let of = |key| pax::get(&records, key).map(<[u8]>::to_vec);
        let path = of("GNU.sparse.name").or(of("path")).or(name).unwrap_or(header.name);
        let kind = match header.kind {
            // Before there was a type for directories a slash said it. The whole path has to: a name that is
            // too long for the header is cut off anywhere.
            0 | b'0' | b'7' if path.ends_with(b"/") => b'D',
            0 | b'0' | b'7' => b'0',
            other => other,
        };
        let mut member = Member {
            kind,
            path,
            link: of("linkpath").or(link).unwrap_or(header.link),
            mode: header.mode,
            uid: pax::number(&records, "uid")?.unwrap_or(header.uid),
            gid: pax::number(&records, "gid")?.unwrap_or(header.gid),
            mtime: pax::get(&records, "mtime").map_or(Ok((header.mtime, 0)), pax::time)?,
            major: header.major,
            minor: header.minor,
            xattrs: pax::xattrs(&records)?,
            acls: ACLS
                .iter()
                .filter_map(|(key, name)| Some((*name, pax::get(&records, key)?.to_vec())))
                .collect(),
            size: 0,
            at: 0,
            parts: None,
        };
        let stored = pax::number(&records, "size")?.unwrap_or(header.size);
        match member.kind {
            b'0' | b'S' => self.contents(&mut member, stored, block, &records, map)?,
            // What a size means here, writers never agreed on; there is nothing to read, as all readers hold.
            b'1'..=b'6' => {}
            // A directory with contents, which is a list of names in incremental archives of GNU tar.
            b'D' => {
                member.kind = b'5';
                self.pass(stored, 0)?;
            }
            b'M' => return Err(Problem::new("it continues a file of another volume")),
            other => {
                return Err(Problem::Text(format!("a member has the unknown type {:?}", char::from(other))));
            }
        }
        Ok(member)
    }

    /// Passes over the contents of a regular file.
    fn contents(
        &mut self,
        member: &mut Member,
        stored: u64,
        block: &[u8; BLOCK],
        records: &Records,
        pairs: Vec<u64>,
    ) -> Result<(), Problem> {
        let version = (pax::number(records, "GNU.sparse.major")?, pax::number(records, "GNU.sparse.minor")?);
        let mut read = 0;
        let map = if member.kind == b'S' {
            member.size = u64::try_from(number(field(block, 483, 12), "size")?).unwrap_or(u64::MAX);
            let mut map = Map::default();
            let mut more = map.add_old(block, true)?;
            while more && map.len() <= self.numbers {
                more = map.add_old(&self.block()?.ok_or_else(Problem::cut_off)?, false)?;
            }
            Some(map)
        } else {
            member.size = stored;
            match version {
                (Some(1), Some(0)) => {
                    let map;
                    (map, read) = self.leading_map(stored)?;
                    Some(map)
                }
                (Some(0) | None, _) => match pax::get(records, "GNU.sparse.map") {
                    Some(text) => Some(Map::from_text(text)?),
                    None if !pairs.is_empty() => Some(Map::new(pairs)),
                    None => None,
                },
                _ => return Err(Problem::new("a sparse member is of an unknown format")),
            }
        };
        if map.is_some() && member.kind != b'S' {
            let size = pax::number(records, "GNU.sparse.realsize")?;
            let size = size.map_or_else(|| pax::number(records, "GNU.sparse.size"), |size| Ok(Some(size)))?;
            member.size = size.ok_or_else(|| Problem::new("a sparse member has no size"))?;
        }
        let numbers = map.as_ref().map_or(0, Map::len);
        self.numbers = self.numbers.checked_sub(numbers).ok_or_else(too_many_parts)?;
        member.kind = b'0';
        if i64::try_from(member.size.max(stored)).is_err() {
            return Err(Problem::new("a member is larger than any file can be"));
        }
        let kept = stored.checked_sub(read).ok_or_else(Problem::cut_off)?;
        member.at = self.input.keep(kept)?;
        self.at = self.at.saturating_add(kept);
        self.pad(stored)?;
        member.parts = map.map(|map| map.parts(member.size, kept)).transpose()?;
        Ok(())
    }

    /// The map that pax format 1.0 has before the contents: lines with numbers, the first says how many pairs.
    /// Returns how many bytes it took.
    fn leading_map(&mut self, stored: u64) -> Result<(Map, u64), Problem> {
        let bad = || Problem::new("the map of a sparse member makes no sense");
        let (mut numbers, mut wanted) = (Vec::new(), None);
        let (mut line, mut read) = (Vec::new(), 0u64);
        while wanted.is_none_or(|wanted| (numbers.len() as u64) < wanted) {
            read += BLOCK as u64;
            if read > stored {
                return Err(bad());
            }
            if numbers.len() > self.numbers {
                return Err(too_many_parts());
            }
            for byte in self.block()?.ok_or_else(Problem::cut_off)? {
                if wanted.is_some_and(|wanted| numbers.len() as u64 >= wanted) {
                    break;
                }
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > MAX_DIGITS {
                        return Err(bad());
                    }
                    continue;
                }
                let number = pax::decimal(&line).ok_or_else(bad)?;
                line.clear();
                match wanted {
                    None => wanted = Some(number.checked_mul(2).ok_or_else(bad)?),
                    Some(_) => numbers.push(number),
                }
            }
        }
        Ok((Map::new(numbers), read))
    }

    /// The next block; none at the end of the input.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Problem> {
        let mut block = [0; BLOCK];
        match self.input.fill(&mut block)? {
            0 => return Ok(None),
            BLOCK => {}
            _ if self.at == 0 => return Err(no_archive()),
            _ => return Err(Problem::cut_off()),
        }
        self.at = self.at.saturating_add(BLOCK as u64);
        Ok(Some(block))
    }

    /// The contents of a member that describes the next one, `before` of which came ahead of it.
    fn metadata(&mut self, size: u64, before: &mut u64) -> Result<Vec<u8>, Problem> {
        *before = before.saturating_add(size);
        if *before > MAX_METADATA {
            return Err(Problem::Text(format!(
                "extended headers of {before} bytes for one member are longer than any should be"
            )));
        }
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < size {
            bytes.extend_from_slice(&self.block()?.ok_or_else(Problem::cut_off)?);
        }
        bytes.truncate(usize::try_from(size).unwrap_or(0));
        Ok(bytes)
    }

    /// The same, up to a NUL.
    fn text(&mut self, size: u64, before: &mut u64) -> Result<Vec<u8>, Problem> {
        let mut text = self.metadata(size, before)?;
        if let Some(end) = text.iter().position(|byte| *byte == 0) {
            text.truncate(end);
        }
        Ok(text)
    }

    /// Goes past contents that nobody wants, of which `read` bytes were read.
    fn pass(&mut self, size: u64, read: u64) -> Result<(), Problem> {
        self.input.skip(size.saturating_sub(read))?;
        self.at = self.at.saturating_add(size.saturating_sub(read));
        self.pad(size)
    }

    /// Goes past what fills the last block of `size` bytes.
    fn pad(&mut self, size: u64) -> Result<(), Problem> {
        let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        self.input.skip(padding)?;
        self.at = self.at.saturating_add(padding);
        Ok(())
    }
}

fn too_many_parts() -> Problem {
    Problem::Text(format!("its sparse members have more than {} parts", MAX_NUMBERS / 2))
}

/// What is wrong if there is no header where the first one has to be.
fn no_archive() -> Problem {
    Problem::new("it is no tar archive, nor an image or a directory; or it was cut off at once")
}

impl Extended {
    fn is_some(&self) -> bool {
        self.name.is_some() || self.link.is_some() || self.records.is_some()
    }
}
