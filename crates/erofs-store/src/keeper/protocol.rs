//! The packets between a server and its keeper.
//!
//! One packet of a `SOCK_SEQPACKET` socket is one message, little-endian, beginning with its kind.
//! Numbers of sources and calls are the client's. Whatever does not decode ends the connection: an
//! honest client never sends it.

use super::client::Outcome;
use super::client::Piece;
use super::client::SourceId;
use crate::Digest;
use crate::Error;
use crate::ImageKey;
use crate::Result;

/// The largest packet that either side sends or receives.
pub(crate) const MAX_PACKET: usize = 32 << 10;
/// The pieces of one file; more are refused (6 MiB of them).
pub(crate) const MAX_PIECES: usize = 1 << 18;
/// How much of an image's name is kept.
pub(crate) const MAX_NAME: usize = 4096;
/// The blobs of one image.
pub(crate) const MAX_SOURCES: usize = 1024;

const PIECE: usize = 20;
/// What a packet of pieces holds beside its header, which is the largest of all.
const PIECES_PER_PACKET: usize = (MAX_PACKET - 128) / PIECE;
/// The source that stands for a hole.
const HOLE: u32 = u32::MAX;

const SOURCE: u8 = 1;
const FORGET_SOURCE: u8 = 2;
const MOUNT: u8 = 3;
const UNMOUNT: u8 = 4;
const PUBLISH: u8 = 5;
const PIECES: u8 = 6;
const FLUSH: u8 = 7;
const HANDED: u8 = 8;

const HAS_CLAIM: u8 = 1;
const HAS_MORE: u8 = 2;

/// What a server asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// The packet carries the source's descriptor. `handed`: it holds bytes of one file, not a blob.
    Source {
        id: SourceId,
        handed: bool,
    },
    ForgetSource {
        id: SourceId,
    },
    Mount {
        call: u64,
        key: ImageKey,
        sources: Vec<SourceId>,
        name: String,
    },
    Unmount {
        key: ImageKey,
    },
    /// `more`: [`Request::Pieces`] of the same call come next.
    Publish {
        call: u64,
        file: File,
        more: bool,
    },
    Pieces {
        call: u64,
        pieces: Vec<Piece>,
        more: bool,
    },
    Flush {
        call: u64,
    },
}

/// A file to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) image: ImageKey,
    pub(crate) nid: u64,
    pub(crate) claimed: Option<Digest>,
    pub(crate) size: u64,
    pub(crate) pieces: Vec<Piece>,
}

/// The packets of one publish, in order.
pub(crate) fn encode_publish(
    call: u64,
    image: &ImageKey,
    nid: u64,
    claimed: Option<Digest>,
    size: u64,
    pieces: &[Piece],
) -> Vec<Vec<u8>> {
    let mut rest = pieces.chunks(PIECES_PER_PACKET);
    let first = rest.next().unwrap_or_default();
    let mut more = first.len() < pieces.len();
    let mut packet = vec![PUBLISH, u8::from(claimed.is_some()) * HAS_CLAIM + u8::from(more) * HAS_MORE];
    packet.extend(call.to_le_bytes());
    packet.extend(image.0);
    packet.extend(nid.to_le_bytes());
    packet.extend(size.to_le_bytes());
    packet.extend(claimed.map_or([0; 32], |digest| digest.0));
    encode_pieces(&mut packet, first);
    let mut packets = vec![packet];
    let mut sent = first.len();
    for chunk in rest {
        sent += chunk.len();
        more = sent < pieces.len();
        let mut packet = vec![PIECES, u8::from(more) * HAS_MORE];
        packet.extend(call.to_le_bytes());
        encode_pieces(&mut packet, chunk);
        packets.push(packet);
    }
    packets
}

fn encode_pieces(packet: &mut Vec<u8>, pieces: &[Piece]) {
    for piece in pieces {
        let (source, offset, len) = match *piece {
            Piece::Data { source, offset, len } => (source.0, offset, len),
            Piece::Hole { len } => (HOLE, 0, len),
        };
        packet.extend(source.to_le_bytes());
        packet.extend(offset.to_le_bytes());
        packet.extend(len.to_le_bytes());
    }
}

impl Request {
    /// The packet of any request but a publish, which may take several.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Source { id, handed } => {
                let kind = if *handed { HANDED } else { SOURCE };
                [&[kind][..], &id.0.to_le_bytes()].concat()
            }
            Self::ForgetSource { id } => [&[FORGET_SOURCE][..], &id.0.to_le_bytes()].concat(),
            Self::Mount { call, key, sources, name } => {
                let mut packet = vec![MOUNT];
                packet.extend(call.to_le_bytes());
                packet.extend(key.0);
                packet.extend(u32::try_from(sources.len()).unwrap_or(u32::MAX).to_le_bytes());
                packet.extend(sources.iter().flat_map(|id| id.0.to_le_bytes()));
                packet.extend(name.as_bytes());
                packet
            }
            Self::Unmount { key } => [&[UNMOUNT][..], &key.0].concat(),
            Self::Publish { call, file, .. } => {
                encode_publish(*call, &file.image, file.nid, file.claimed, file.size, &file.pieces)
                    .into_iter()
                    .next()
                    .unwrap_or_default()
            }
            Self::Pieces { call, pieces, more } => {
                let mut packet = vec![PIECES, u8::from(*more) * HAS_MORE];
                packet.extend(call.to_le_bytes());
                encode_pieces(&mut packet, pieces);
                packet
            }
            Self::Flush { call } => [&[FLUSH][..], &call.to_le_bytes()].concat(),
        }
    }

    /// Reads a packet.
    pub(crate) fn decode(packet: &[u8]) -> Result<Self> {
        let mut reader = Reader(packet);
        let request = match reader.byte()? {
            kind @ (SOURCE | HANDED) => Self::Source { id: SourceId(reader.u32()?), handed: kind == HANDED },
            FORGET_SOURCE => Self::ForgetSource { id: SourceId(reader.u32()?) },
            MOUNT => {
                let call = reader.u64()?;
                let key = ImageKey(reader.bytes()?);
                let count = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
                if count > MAX_SOURCES {
                    return Err(Error::Protocol("an image of too many sources"));
                }
                let sources = (0..count).map(|_| reader.u32().map(SourceId)).collect::<Result<_>>()?;
                let name = reader.rest();
                if name.len() > MAX_NAME {
                    return Err(Error::Protocol("an image's name is too long"));
                }
                Self::Mount { call, key, sources, name: String::from_utf8_lossy(name).into_owned() }
            }
            UNMOUNT => Self::Unmount { key: ImageKey(reader.bytes()?) },
            PUBLISH => {
                let flags = reader.flags(HAS_CLAIM | HAS_MORE)?;
                let call = reader.u64()?;
                let image = ImageKey(reader.bytes()?);
                let nid = reader.u64()?;
                let size = reader.u64()?;
                let claimed = Digest(reader.bytes()?);
                let claimed = (flags & HAS_CLAIM != 0).then_some(claimed);
                let pieces = reader.pieces()?;
                let file = File { image, nid, claimed, size, pieces };
                Self::Publish { call, file, more: flags & HAS_MORE != 0 }
            }
            PIECES => {
                let more = reader.flags(HAS_MORE)? != 0;
                Self::Pieces { call: reader.u64()?, pieces: reader.pieces()?, more }
            }
            FLUSH => Self::Flush { call: reader.u64()? },
            _ => return Err(Error::Protocol("a packet of unknown kind")),
        };
        reader.end()?;
        Ok(request)
    }
}

const PUBLISHED: u8 = 1;
const MISMATCH: u8 = 2;
const NO_SPACE: u8 = 3;
const FAILED: u8 = 4;
const DONE: u8 = 5;

/// What a keeper answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) call: u64,
    pub(crate) answer: Answer,
}

/// The answer to a publish, or to another call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A publish has ended; any call has failed.
    Outcome(Outcome),
    /// Another call has ended well.
    Done,
}

impl Reply {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut packet = Vec::with_capacity(41);
        let (kind, bytes) = match &self.answer {
            Answer::Outcome(Outcome::Published(digest)) => (PUBLISHED, &digest.0[..]),
            Answer::Outcome(Outcome::Mismatch { found }) => (MISMATCH, &found.0[..]),
            Answer::Outcome(Outcome::NoSpace) => (NO_SPACE, &[][..]),
            Answer::Outcome(Outcome::Io(errno)) => (FAILED, &errno.to_le_bytes()[..]),
            Answer::Done => (DONE, &[][..]),
        };
        packet.push(kind);
        packet.extend(self.call.to_le_bytes());
        packet.extend(bytes);
        packet
    }

    pub(crate) fn decode(packet: &[u8]) -> Result<Self> {
        let mut reader = Reader(packet);
        let kind = reader.byte()?;
        let call = reader.u64()?;
        let answer = match kind {
            PUBLISHED => Answer::Outcome(Outcome::Published(Digest(reader.bytes()?))),
            MISMATCH => Answer::Outcome(Outcome::Mismatch { found: Digest(reader.bytes()?) }),
            NO_SPACE => Answer::Outcome(Outcome::NoSpace),
            FAILED => Answer::Outcome(Outcome::Io(i32::from_le_bytes(reader.bytes()?))),
            DONE => Answer::Done,
            _ => return Err(Error::Protocol("an answer of unknown kind")),
        };
        reader.end()?;
        Ok(Self { call, answer })
    }
}

/// Takes a packet apart from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Error::Protocol("a packet ends too early"))?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn byte(&mut self) -> Result<u8> {
        self.bytes().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn flags(&mut self, known: u8) -> Result<u8> {
        let flags = self.byte()?;
        if flags & !known == 0 { Ok(flags) } else { Err(Error::Protocol("an unknown flag")) }
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn pieces(&mut self) -> Result<Vec<Piece>> {
        let mut pieces = Vec::with_capacity(self.0.len() / PIECE);
        while !self.0.is_empty() {
            let source = self.u32()?;
            let offset = self.u64()?;
            let len = self.u64()?;
            pieces.push(match source {
                HOLE => Piece::Hole { len },
                source => Piece::Data { source: SourceId(source), offset, len },
            });
        }
        Ok(pieces)
    }

    fn end(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Protocol("a packet is too long")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(count: u64) -> Vec<Piece> {
        (0..count)
            .map(|i| match i % 3 {
                0 => Piece::Hole { len: i + 1 },
                _ => Piece::Data { source: SourceId(7), offset: i, len: u64::MAX - i },
            })
            .collect()
    }

    fn requests() -> Vec<Request> {
        let key = ImageKey([9; 32]);
        vec![
            Request::Source { id: SourceId(1), handed: false },
            Request::Source { id: SourceId(2), handed: true },
            Request::ForgetSource { id: SourceId(2) },
            Request::Mount {
                call: 3,
                key,
                sources: vec![SourceId(1), SourceId(2)],
                name: "a/b.erofs".into(),
            },
            Request::Unmount { key },
            Request::Publish {
                call: 4,
                file: File { image: key, nid: 5, claimed: Some(Digest([1; 32])), size: 6, pieces: pieces(5) },
                more: false,
            },
            Request::Publish {
                call: 4,
                file: File { image: key, nid: 5, claimed: None, size: 0, pieces: vec![] },
                more: false,
            },
            Request::Pieces { call: 7, pieces: pieces(3), more: true },
            Request::Flush { call: u64::MAX },
        ]
    }

    #[test]
    fn what_is_sent_is_what_is_received() {
        for request in requests() {
            assert_eq!(Request::decode(&request.encode()).unwrap(), request);
        }
        for answer in [
            Answer::Done,
            Answer::Outcome(Outcome::Published(Digest([2; 32]))),
            Answer::Outcome(Outcome::Mismatch { found: Digest([3; 32]) }),
            Answer::Outcome(Outcome::NoSpace),
            Answer::Outcome(Outcome::Io(5)),
        ] {
            let reply = Reply { call: 8, answer };
            assert_eq!(Reply::decode(&reply.encode()).unwrap(), reply);
        }
    }

    #[test]
    fn a_file_of_many_pieces_goes_in_packets_that_fit() {
        let all = pieces(10_000);
        let packets = encode_publish(1, &ImageKey([0; 32]), 2, None, 3, &all);
        assert!(packets.len() > 1);
        let mut seen = Vec::new();
        let last = packets.len() - 1;
        for (index, packet) in packets.iter().enumerate() {
            assert!(packet.len() <= MAX_PACKET);
            let (pieces, more) = match Request::decode(packet).unwrap() {
                Request::Publish { file, more, .. } if index == 0 => (file.pieces, more),
                Request::Pieces { pieces, more, .. } if index > 0 => (pieces, more),
                other => panic!("{other:?}"),
            };
            assert_eq!(more, index < last);
            seen.extend(pieces);
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_packet_cut_anywhere_never_panics_and_mostly_fails() {
        for request in requests() {
            let packet = request.encode();
            for length in 0..packet.len() {
                if let Ok(other) = Request::decode(&packet[..length]) {
                    assert_ne!(other, request);
                }
            }
        }
    }

    #[test]
    fn garbage_is_refused() {
        for packet in [&[][..], &[0], &[255; 100], &[PUBLISH, 0xff], &[FLUSH, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(Request::decode(packet).is_err(), "{packet:?}");
        }
        let mut mount = vec![MOUNT];
        mount.extend([0; 40]);
        mount.extend(u32::MAX.to_le_bytes());
        assert!(Request::decode(&mount).is_err(), "a count is not believed");
    }
}
