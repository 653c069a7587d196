//! The hello: the first thing that is said, in a form that no version will change.
//!
//! TLS 1.3 lets a client believe that it is connected before the server has looked at its
//! certificate. So a connection exists only once the server has answered this. Both sides name their
//! wire version; where they differ, nothing else is exchanged.
//!
//! Ask: `squall`, version (2 bytes, big endian). Answer: the same, then 0 (welcome) or 1 (another
//! version). What follows is ignored, so that later versions may say more.

use std::net::SocketAddr;

use super::Channel;
use super::refusals::Reason;
use crate::WireError;

const MAGIC: &[u8; 6] = b"squall";
const WELCOME: u8 = 0;
const OTHER_VERSION: u8 = 1;
/// Bytes of a hello, at most.
pub(crate) const MAX_HELLO: usize = 1024;

fn frame(version: u16, verdict: Option<u8>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend(verdict);
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
    ours: u16,
    address: SocketAddr,
) -> Result<(), WireError> {
    channel.send_raw(&frame(ours, None)).await?;
    channel.finish();
    let answer = channel.recv_raw().await?.ok_or_else(|| no_hello(address))?;
    let (theirs, rest) = parse(&answer).ok_or_else(|| no_hello(address))?;
    if theirs != ours || rest.first() == Some(&OTHER_VERSION) {
        return Err(WireError::Version { address, ours, theirs });
    }
    if rest.first() == Some(&WELCOME) { Ok(()) } else { Err(no_hello(address)) }
}

/// The server's part. Where the versions differ the client is told before the error returns.
pub(crate) async fn answer(
    mut channel: Channel,
    ours: u16,
    address: SocketAddr,
) -> Result<(), WireError> {
    let question = channel.recv_raw().await?.ok_or_else(|| no_hello(address))?;
    let (theirs, _) = parse(&question).ok_or_else(|| no_hello(address))?;
    let same = theirs == ours;
    channel.send_raw(&frame(ours, Some(if same { WELCOME } else { OTHER_VERSION }))).await?;
    channel.finish();
    if same { Ok(()) } else { Err(WireError::Version { address, ours, theirs }) }
}
