//! Netlink messages by hand: a builder for attributes, a socket that asks and reads the answers.
//!
//! Source: `linux/netlink.h`; every number is in the host's byte order unless a name ends in `_be`.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv, send,
    socket_with, sockopt,
};

/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x01;
/// `NLM_F_ACK`.
pub const ACK: u16 = 0x04;
/// `NLM_F_DUMP`.
pub const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`.
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub const APPEND: u16 = 0x800;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NESTED: u16 = 0x8000;
/// Above any answer of the kernel: dumps come in pieces of at most 32 KiB.
const RECV_BYTES: usize = 64 * 1024;
/// Above any batch of ours: a table with the most peers and ports that a fault may name.
const SEND_BYTES: usize = 1024 * 1024;
/// Objects of one dump, at most.
pub const MAX_OBJECTS: usize = 65_536;

/// A payload under construction: a fixed header, then attributes.
#[derive(Clone, Debug, Default)]
pub struct Payload(Vec<u8>);

impl Payload {
    /// Begins with the family's fixed header, as raw bytes.
    #[must_use]
    pub fn new(header: &[u8]) -> Payload {
        Payload(header.to_vec())
    }

    /// Appends one attribute.
    pub fn attr(&mut self, kind: u16, data: &[u8]) -> &mut Payload {
        let len =
            u16::try_from(4 + data.len()).expect("attributes stay under 64 KiB by our limits");
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Appends a zero-terminated text.
    pub fn text(&mut self, kind: u16, text: &str) -> &mut Payload {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// Appends a u32 in the host's order.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Payload {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends a u32 in network order, as nf_tables wants it.
    pub fn u32_be(&mut self, kind: u16, value: u32) -> &mut Payload {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends a u64 in network order.
    pub fn u64_be(&mut self, kind: u16, value: u64) -> &mut Payload {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends attributes that stand inside one.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Payload)) -> &mut Payload {
        let mut inner = Payload::default();
        fill(&mut inner);
        self.attr(kind | NESTED, &inner.0)
    }

    /// Appends another payload's attributes as they are.
    pub fn append(&mut self, other: &Payload) {
        self.0.extend_from_slice(&other.0);
    }

    /// The bytes so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One message to send.
#[derive(Clone, Debug)]
pub struct Message {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`; [`REQUEST`] is added.
    pub flags: u16,
    /// What follows the header.
    pub payload: Payload,
}

/// One message received.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `nlmsg_type`.
    pub kind: u16,
    /// What follows the header.
    pub payload: Vec<u8>,
}

/// A netlink socket, close-on-exec. What it owns in the kernel goes when it closes.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    seq: u32,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket {
    /// Opens a socket of `protocol` (`NETLINK_ROUTE` 0, `NETLINK_NETFILTER` 12) in the network
    /// namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(protocol: u32) -> io::Result<Socket> {
        let protocol = rustix::net::RawProtocol::new(protocol).map(rustix::net::Protocol::from_raw);
        let fd =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        bind(&fd, &netlink::SocketAddrNetlink::new(0, 0))?;
        // Without the privilege the default stays, which takes batches of some hundred objects.
        let _ = sockopt::set_socket_send_buffer_size_force(&fd, SEND_BYTES);
        Ok(Socket { fd, seq: 0 })
    }

    /// Sends the messages in one datagram and waits for an acknowledgement of each that asks for
    /// one. The first refusal is the error; for a batch of nf_tables it means that nothing was done.
    ///
    /// # Errors
    /// The kernel's refusal as an OS error, or a failure of the socket.
    pub fn request(&mut self, messages: &[Message]) -> io::Result<()> {
        let (bytes, mut left) = self.frame(messages);
        self.send_all(&bytes)?;
        let mut refused = None;
        while left > 0 {
            for (kind, seq, payload) in self.receive()? {
                if kind != NLMSG_ERROR || !self.is_current(seq, messages.len()) {
                    continue;
                }
                left -= 1;
                let code = error_code(&payload);
                if code != 0 {
                    refused.get_or_insert_with(|| io::Error::from_raw_os_error(-code));
                    // A refused nf_tables batch is not acknowledged further.
                    left = 0;
                    break;
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Asks for a dump and returns all of it.
    ///
    /// # Errors
    /// The kernel's refusal as an OS error, `QuotaExceeded` for more than `limit` objects (then the
    /// socket is of no more use), or a failure of the socket.
    pub fn dump(&mut self, kind: u16, payload: Payload, limit: usize) -> io::Result<Vec<Answer>> {
        self.ask(Message { kind, flags: DUMP, payload }, true, limit)
    }

    /// Asks for one object and returns the answer.
    ///
    /// # Errors
    /// The kernel's refusal as an OS error (`ENOENT` for what is not there), or a failure of the
    /// socket.
    pub fn get(&mut self, kind: u16, payload: Payload) -> io::Result<Answer> {
        let mut all = self.ask(Message { kind, flags: 0, payload }, false, 1)?;
        all.pop().ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    fn ask(&mut self, message: Message, until_done: bool, limit: usize) -> io::Result<Vec<Answer>> {
        let (bytes, _) = self.frame(std::slice::from_ref(&message));
        self.send_all(&bytes)?;
        let mut answers = Vec::new();
        loop {
            for (kind, seq, payload) in self.receive()? {
                if !self.is_current(seq, 1) {
                    continue;
                }
                match kind {
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => match error_code(&payload) {
                        0 => return Ok(answers),
                        code => return Err(io::Error::from_raw_os_error(-code)),
                    },
                    _ if answers.len() == limit => return Err(ErrorKind::QuotaExceeded.into()),
                    kind => answers.push(Answer { kind, payload }),
                }
            }
            if !until_done && !answers.is_empty() {
                return Ok(answers);
            }
        }
    }

    fn is_current(&self, seq: u32, sent: usize) -> bool {
        self.seq.wrapping_sub(seq) < sent as u32
    }

    fn frame(&mut self, messages: &[Message]) -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        let mut awaited = 0;
        for message in messages {
            self.seq = self.seq.wrapping_add(1);
            let len = 16 + message.payload.0.len();
            bytes.extend_from_slice(&u32::try_from(len).expect("within our limits").to_ne_bytes());
            bytes.extend_from_slice(&message.kind.to_ne_bytes());
            bytes.extend_from_slice(&(message.flags | REQUEST).to_ne_bytes());
            bytes.extend_from_slice(&self.seq.to_ne_bytes());
            bytes.extend_from_slice(&0u32.to_ne_bytes());
            bytes.extend_from_slice(&message.payload.0);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            awaited += usize::from(message.flags & ACK != 0);
        }
        (bytes, awaited)
    }

    fn send_all(&self, bytes: &[u8]) -> io::Result<()> {
        send(&self.fd, bytes, SendFlags::empty())?;
        Ok(())
    }

    fn receive(&self) -> io::Result<Vec<(u16, u32, Vec<u8>)>> {
        let mut buffer = vec![0u8; RECV_BYTES];
        let (len, _) = loop {
            match recv(&self.fd, buffer.as_mut_slice(), RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        let mut messages = Vec::new();
        let mut rest = &buffer[..len];
        while let Some((head, _)) = rest.split_at_checked(16) {
            let size = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
            if size < 16 || size > rest.len() {
                break;
            }
            let kind = u16::from_ne_bytes([head[4], head[5]]);
            let seq = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]);
            messages.push((kind, seq, rest[16..size].to_vec()));
            rest = &rest[size.next_multiple_of(4).min(rest.len())..];
        }
        Ok(messages)
    }

    /// The descriptor's number, for messages that name it.
    #[must_use]
    pub fn raw(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

fn error_code(payload: &[u8]) -> i32 {
    payload.first_chunk::<4>().map_or(-libc::EBADMSG, |b| i32::from_ne_bytes(*b))
}

/// Walks the attributes of a received payload, `header` bytes into it. Nested flags are stripped.
pub fn attributes(payload: &[u8], header: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = payload.get(header..).unwrap_or_default();
    std::iter::from_fn(move || {
        let head = rest.first_chunk::<4>()?;
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let data = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, data))
    })
}
