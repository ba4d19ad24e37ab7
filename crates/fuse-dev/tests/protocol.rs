//! The protocol byte by byte, with a socket in the place of the kernel: no rights are needed.
#![allow(missing_docs)]

use fuse_dev::{Config, Connection, Ended, Errno, Error, EventLoop, Filesystem, Handle, Reply, Request};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const INIT: u32 = 26;
const LOOKUP: u32 = 1;

/// Answers every look-up with what it was asked, as an errno of its length.
#[derive(Debug, Default)]
struct Echo {
    names: Mutex<Vec<Vec<u8>>>,
    interrupts: Mutex<Vec<u64>>,
}

impl Filesystem for Echo {
    fn lookup(&self, _request: &Request, name: &[u8], reply: Reply) {
        self.names.lock().unwrap().push(name.to_vec());
        reply.error(Errno::NOENT);
    }

    fn read(&self, _request: &Request, _fh: u64, _offset: u64, _size: u32, reply: Reply) {
        reply.data(b"data");
    }

    fn interrupt(&self, unique: u64) -> bool {
        self.interrupts.lock().unwrap().push(unique);
        false
    }
}

/// The kernel's end of a connection.
struct Kernel {
    socket: OwnedFd,
    echo: Arc<Echo>,
    ended: Receiver<Ended>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Kernel {
    fn new() -> Self {
        let (socket, device) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let echo = Arc::new(Echo::default());
        let filesystem = Arc::clone(&echo) as Arc<dyn Filesystem>;
        let connection = Connection::new(device, filesystem, Config::default()).unwrap();
        let events = EventLoop::new(true).unwrap();
        let handle = events.handle();
        let (sender, ended) = channel();
        handle.add(Arc::new(connection), move |end| sender.send(end).unwrap_or_default()).unwrap();
        let thread = thread::spawn(move || events.run().unwrap());
        Self { socket, echo, ended, handle, thread: Some(thread) }
    }

    fn greeted() -> Self {
        let kernel = Self::new();
        kernel.request(INIT, 2, &init(7, 45));
        assert_eq!(kernel.answer().map(|answer| (answer.error, answer.body.len())), Some((0, 64)));
        kernel
    }

    fn raw(&self, bytes: &[u8]) {
        send(&self.socket, bytes, SendFlags::empty()).unwrap();
    }

    fn request(&self, opcode: u32, unique: u64, arguments: &[u8]) {
        self.raw(&message(opcode, unique, arguments));
    }

    /// The next answer; `None` if the connection was closed instead.
    fn answer(&self) -> Option<Answer> {
        let mut bytes = [0; 4096];
        let (length, _) = recv(&self.socket, &mut bytes[..], RecvFlags::empty()).unwrap();
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        (length > 0).then(|| {
            assert_eq!(word(0) as usize, length);
            let unique = u64::from_ne_bytes(bytes[8..16].try_into().unwrap());
            Answer { unique, error: word(4).cast_signed(), body: bytes[16..length].to_vec() }
        })
    }

    fn end(&self) -> Ended {
        self.ended.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok(), "the serving thread panicked");
        }
    }
}

#[derive(Debug, PartialEq)]
struct Answer {
    unique: u64,
    error: i32,
    body: Vec<u8>,
}

fn message(opcode: u32, unique: u64, arguments: &[u8]) -> Vec<u8> {
    let length = u32::try_from(40 + arguments.len()).unwrap();
    let mut bytes = [length.to_ne_bytes(), opcode.to_ne_bytes()].concat();
    bytes.extend(unique.to_ne_bytes());
    bytes.extend([0; 24]);
    bytes.extend(arguments);
    bytes
}

fn init(major: u32, minor: u32) -> Vec<u8> {
    let mut arguments = [major, minor, 131_072, u32::MAX, u32::MAX].map(u32::to_ne_bytes).concat();
    arguments.resize(64, 0);
    arguments
}

#[test]
fn a_kernel_that_is_too_old_is_told_so() {
    let kernel = Kernel::new();
    kernel.request(INIT, 2, &init(7, 20));
    assert_eq!(kernel.answer().map(|answer| answer.error), Some(-Errno::PROTO.raw_os_error()));
    assert_eq!(kernel.end(), Ended::Failed(Error::Version { major: 7, minor: 20 }));
}

#[test]
fn a_connection_that_was_greeted_by_another_is_not_guessed_at() {
    let kernel = Kernel::new();
    kernel.request(LOOKUP, 2, b"name\0");
    assert_eq!(kernel.answer().map(|answer| answer.error), Some(-Errno::IO.raw_os_error()));
    assert_eq!(kernel.end(), Ended::Failed(Error::NoHandshake { opcode: LOOKUP }));
}

#[test]
fn names_end_at_their_nul() {
    let kernel = Kernel::greeted();
    for (unique, name) in [(4, &b"name\0"[..]), (6, b"two\0words\0"), (8, b"\0"), (10, b"no end"), (12, b"")]
    {
        kernel.request(LOOKUP, unique, name);
        let answer = kernel.answer().unwrap();
        let expected = if name.contains(&0) { Errno::NOENT } else { Errno::IO };
        assert_eq!((answer.unique, answer.error), (unique, -expected.raw_os_error()));
    }
    assert_eq!(*kernel.echo.names.lock().unwrap(), [&b"name"[..], b"two", b""]);
}

#[test]
fn a_request_that_contradicts_its_own_length_is_an_error() {
    let kernel = Kernel::greeted();
    for claimed in [0_u32, 39, 200, u32::MAX] {
        let mut bytes = message(LOOKUP, 4, b"name\0");
        bytes[..4].copy_from_slice(&claimed.to_ne_bytes());
        kernel.raw(&bytes);
        assert_eq!(kernel.answer().map(|answer| answer.error), Some(-Errno::IO.raw_os_error()), "{claimed}");
    }
    kernel.raw(b"less than a header");
    kernel.request(LOOKUP, 6, b"name\0");
    assert_eq!(kernel.answer().map(|answer| answer.unique), Some(6));
}

#[test]
fn forgetting_and_interrupting_are_not_answered() {
    let kernel = Kernel::greeted();
    kernel.request(2, 4, &[0; 8]);
    kernel.request(42, 6, &[0; 64]);
    kernel.request(36, 9, &8_u64.to_ne_bytes());
    kernel.request(36, 9, &[]);
    kernel.request(LOOKUP, 10, b"name\0");
    assert_eq!(kernel.answer().map(|answer| answer.unique), Some(10));
    assert_eq!(
        *kernel.echo.interrupts.lock().unwrap(),
        [8, 8],
        "asked again, in case it was being noted down"
    );
}

#[test]
fn what_nobody_knows_is_enosys_and_what_writes_is_erofs() {
    let kernel = Kernel::greeted();
    let answer = |opcode| {
        kernel.request(opcode, 4, &[0; 64]);
        kernel.answer().unwrap().error
    };
    for opcode in [20, 30, 37, 39, 50, 52, 54, 4096, u32::MAX] {
        assert_eq!(answer(opcode), -Errno::NOSYS.raw_os_error(), "{opcode}");
    }
    for opcode in [4, 6, 8, 9, 10, 11, 12, 13, 16, 21, 24, 35, 43, 45, 47, 51, 53] {
        assert_eq!(answer(opcode), -Errno::ROFS.raw_os_error(), "{opcode}");
    }
}

#[test]
fn every_well_or_ill_formed_request_gets_exactly_one_answer() {
    let kernel = Kernel::greeted();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for unique in (4..20_000).step_by(2) {
        let opcode = (random() % 56) as u32;
        if matches!(opcode, INIT | 2 | 36 | 42) {
            continue;
        }
        let length = (random() % 100) as usize;
        let arguments: Vec<u8> = (0..length).map(|_| random().to_le_bytes()[0]).collect();
        kernel.request(opcode, unique, &arguments);
        assert_eq!(kernel.answer().map(|answer| answer.unique), Some(unique));
    }
}

#[test]
fn the_end_of_the_kernel_is_the_end_of_the_connection() {
    let mut kernel = Kernel::greeted();
    let (other, _) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    kernel.socket = other;
    assert_eq!(kernel.end(), Ended::Unmounted);
}
