//! The hello: the first thing that is said, in a form that no version will change.
//!
//! TLS 1.3 lets a client believe that it is connected before the server has looked at its
//! certificate. So a connection exists only once the server has answered this. Both sides name their
//! wire version; where they differ, nothing else is exchanged. The client says as what it comes: a
//! certificate of another role is refused here, before it is heard.
//!
//! Ask: `squall`, version (2 bytes, big endian), role (1 byte: 1 coordinator, 2 agent, 3 operator; none
//! from who joins). Answer: `squall`, version, then 0 (welcome), 1 (another version) or 2 (the certificate
//! is of another role). What follows is ignored, so that later versions may say more.

use std::net::SocketAddr;

use super::Channel;
use super::refusals::Reason;
use crate::WireError;
use crate::identity::{Peer, Role};

const MAGIC: &[u8; 6] = b"squall";
const WELCOME: u8 = 0;
const OTHER_VERSION: u8 = 1;
const OTHER_ROLE: u8 = 2;
/// Bytes of a hello, at most.
pub(crate) const MAX_HELLO: usize = 1024;

/// What a side says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// The wire version that it speaks.
    pub version: u16,
    /// As what it connects; none to join.
    pub role: Option<Role>,
}

fn number(role: Role) -> u8 {
    match role {
        Role::Coordinator => 1,
        Role::Agent => 2,
        Role::Operator => 3,
    }
}

fn frame(version: u16, last: Option<u8>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend(last);
    bytes
}

/// Version, and what follows it.
fn parse(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (version, rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*version), rest))
}

fn no_hello(address: SocketAddr) -> WireError {
    let detail = "what it says is no hello".to_owned();
    WireError::Refused { address, reason: Reason::Protocol, detail }
}

/// The client's part.
pub(crate) async fn ask(
    mut channel: Channel,
    own: Greeting,
    address: SocketAddr,
) -> Result<(), WireError> {
    let ours = own.version;
    channel.send_raw(&frame(ours, own.role.map(number))).await?;
    channel.finish();
    let answer = channel.recv_raw().await?.ok_or_else(|| no_hello(address))?;
    let (theirs, rest) = parse(&answer).ok_or_else(|| no_hello(address))?;
    if theirs != ours || rest.first() == Some(&OTHER_VERSION) {
        return Err(WireError::Version { address, ours, theirs });
    }
    match (rest.first(), own.role) {
        (Some(&WELCOME), _) => Ok(()),
        (Some(&OTHER_ROLE), Some(role)) => Err(WireError::NotOfRole { address, role }),
        _ => Err(no_hello(address)),
    }
}

/// The server's part, where TLS has believed `peer`; none is somebody who joins. Where versions or roles
/// differ the client is told before the error returns.
pub(crate) async fn answer(
    mut channel: Channel,
    ours: u16,
    peer: Option<&Peer>,
    address: SocketAddr,
) -> Result<(), WireError> {
    let question = channel.recv_raw().await?.ok_or_else(|| no_hello(address))?;
    let (theirs, rest) = parse(&question).ok_or_else(|| no_hello(address))?;
    let used = Role::ALL.into_iter().find(|role| rest.first() == Some(&number(*role)));
    let (verdict, result) = if theirs != ours {
        (OTHER_VERSION, Err(WireError::Version { address, ours, theirs }))
    } else if let Some(peer) = peer.filter(|peer| used != Some(peer.role)) {
        let used = used.map_or("what it does not say", Role::as_str);
        let detail = format!("the certificate of {peer}, used as {used}");
        (OTHER_ROLE, Err(WireError::Refused { address, reason: Reason::WrongRole, detail }))
    } else {
        (WELCOME, Ok(()))
    };
    channel.send_raw(&frame(ours, Some(verdict))).await?;
    channel.finish();
    result
}
