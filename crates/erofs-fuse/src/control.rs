//! The control protocol: one JSON object a packet, descriptors beside it.
//!
//! The mounter sends a descriptor of /dev/fuse and the image's own descriptors; the server never opens a path that a message names.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use erofs_image::ErrorKind;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send,
};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The version that both sides write.
pub(crate) const VERSION: u32 = 1;

/// The longest packet.
pub(crate) const MAX_PACKET: usize = 64 << 10;

/// The most mounters connected at once; others wait.
pub(crate) const MAX_CLIENTS: usize = 64;

/// The most descriptors in one packet: what the kernel passes at once (`SCM_MAX_FD`).
const MAX_FDS: usize = 253;

/// A message to the server.
#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    /// [`VERSION`].
    pub(crate) v: u32,
    /// What to do.
    #[serde(flatten)]
    pub(crate) operation: Operation,
}

/// What a message asks for.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(crate) enum Operation {
    /// Serve an image over FUSE descriptors whose mounts the mounter makes.
    Mount(MountRequest),
    /// Open an image and say what it is, or what is wrong with it; serve nothing.
    Check {
        /// The image.
        image: ImageRequest,
    },
    /// Say what is served.
    Status,
}

/// One mount. Descriptors: fuse, (overlay: lazy fuse), image, devices.
#[derive(Debug, Deserialize)]
pub(crate) struct MountRequest {
    /// The mounter's name for it.
    pub(crate) id: String,
    /// Which filesystems serve it.
    pub(crate) kind: Kind,
    /// The image.
    pub(crate) image: ImageRequest,
    /// Whom all files belong to, or nobody: owners as the image says.
    pub(crate) owners: Option<Owners>,
}

/// An image as a message names it.
#[derive(Debug, Deserialize)]
pub(crate) struct ImageRequest {
    /// For messages only: nothing is opened by it.
    pub(crate) path: String,
    /// The image's key in a domain, 64 hexadecimal digits.
    #[serde(default)]
    pub(crate) key: Option<String>,
    /// Where in its file the image starts.
    #[serde(default)]
    pub(crate) offset: u64,
    /// How many device descriptors follow the image's own.
    #[serde(default)]
    pub(crate) devices: usize,
}

/// Which filesystems serve a mount.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// One filesystem that serves metadata and bytes.
    Fuse,
    /// A metadata layer and a lazy layer, for an overlay that the mounter makes.
    Overlay,
    /// One filesystem whose files the kernel reads from the domain's objects.
    Passthrough,
}

impl Kind {
    /// How many FUSE descriptors a mount of this kind brings.
    pub(crate) fn connections(self) -> usize {
        match self {
            Self::Fuse | Self::Passthrough => 1,
            Self::Overlay => 2,
        }
    }
}

/// The owner that every file is shown with.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Owners {
    /// User id, as the mount's user namespace counts.
    pub(crate) uid: u32,
    /// Group id, likewise.
    pub(crate) gid: u32,
}

/// The answer to one message.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    /// To `mount` and `check`.
    Image { ok: bool, inodes: u64, blocks: u64, block_size: u32 },
    /// To `status`.
    Status { ok: bool, pid: u32, mounts: Vec<MountStatus> },
    /// To anything that failed.
    Failed { ok: bool, error: Failure },
}

/// One mount in the answer to `status`.
#[derive(Debug, Serialize)]
pub(crate) struct MountStatus {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) path: String,
    pub(crate) key: Option<String>,
    /// Requests answered so far, over all connections of the mount.
    pub(crate) requests: u64,
}

/// What went wrong, for a program and for a person.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) kind: &'static str,
    pub(crate) errno: i32,
    pub(crate) message: String,
}

impl From<&Error> for Answer {
    fn from(error: &Error) -> Self {
        let kind = match error {
            Error::Usage(_) => "usage",
            Error::Io { .. } | Error::Domain(_) | Error::Fuse(_) => "io",
            Error::Image { source, .. } => match source.kind() {
                ErrorKind::Corrupt => "corrupt",
                ErrorKind::Unsupported => "unsupported",
                ErrorKind::Limit => "limit",
                ErrorKind::Io => "io",
                ErrorKind::Usage => "usage",
            },
        };
        Self::Failed { ok: false, error: Failure { kind, errno: error.errno(), message: error.to_string() } }
    }
}

/// A packet as it came.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

/// Takes one packet; `None` when the other side has closed.
pub(crate) fn receive(socket: impl AsFd) -> Result<Option<Packet>> {
    let mut bytes = vec![0; MAX_PACKET];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message =
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .map_err(|error| Error::io("control socket", error))?;
    let fds: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Error::Usage(format!(
            "a control message is longer than {MAX_PACKET} bytes or {MAX_FDS} descriptors"
        )));
    }
    if message.bytes == 0 && fds.is_empty() {
        return Ok(None);
    }
    bytes.truncate(message.bytes);
    Ok(Some(Packet { bytes, fds }))
}

/// Sends one answer, without waiting for a mounter that does not read.
pub(crate) fn answer(socket: impl AsFd, answer: &Answer) -> Result<()> {
    let bytes = serde_json::to_vec(answer).map_err(|error| Error::Usage(error.to_string()))?;
    send(socket, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
        .map_err(|error| Error::io("control socket", error))?;
    Ok(())
}

/// Reads a message.
pub(crate) fn parse(bytes: &[u8]) -> Result<Operation> {
    let request: Request =
        serde_json::from_slice(bytes).map_err(|error| Error::Usage(format!("control message: {error}")))?;
    if request.v != VERSION {
        return Err(Error::Usage(format!("control message of version {}, expected {VERSION}", request.v)));
    }
    Ok(request.operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_message_is_read_as_the_mounter_writes_it() {
        let text = br#"{"v":1,"op":"mount","id":"m1","kind":"overlay","image":{"path":"/a.erofs","key":"00","offset":512,
            "devices":2},"owners":{"uid":7,"gid":8}}"#;
        let Operation::Mount(mount) = parse(text).unwrap() else { panic!("not a mount") };
        assert_eq!(
            (mount.id.as_str(), mount.kind, mount.image.offset, mount.image.devices),
            ("m1", Kind::Overlay, 512, 2)
        );
        assert_eq!(mount.owners.map(|owners| (owners.uid, owners.gid)), Some((7, 8)));
        let Operation::Check { image } = parse(br#"{"v":1,"op":"check","image":{"path":"x"}}"#).unwrap()
        else {
            panic!()
        };
        assert_eq!((image.offset, image.devices), (0, 0));
        assert!(matches!(parse(br#"{"v":1,"op":"status"}"#).unwrap(), Operation::Status));
    }

    #[test]
    fn a_message_of_another_version_or_shape_is_a_usage_error() {
        for text in [
            &b"{"[..],
            b"[]",
            br#"{"v":2,"op":"status"}"#,
            br#"{"v":1,"op":"format"}"#,
            br#"{"op":"status"}"#,
        ] {
            assert!(matches!(parse(text), Err(Error::Usage(_))));
        }
    }

    #[test]
    fn a_failure_tells_kind_and_errno() {
        let answer = Answer::from(&Error::Usage("no".into()));
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            r#"{"ok":false,"error":{"kind":"usage","errno":22,"message":"no"}}"#
        );
    }
}
