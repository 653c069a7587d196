//! What goes wrong between two who speak.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::codec::CodecError;
use crate::identity::{IdentityError, Peer, Role};
use crate::transport::Reason;

/// Why a connection, a channel or a message came to nothing.
///
/// After [`Lost`](WireError::Lost) the connection is gone and a new one must be made; after
/// [`ChannelOver`](WireError::ChannelOver), [`Codec`](WireError::Codec) or
/// [`Truncated`](WireError::Truncated) only the channel is. In every case a message that was being
/// sent may or may not have arrived: unknown, never absent.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A socket could not be made.
    #[error("{address}: {source}")]
    Socket {
        /// Where it was to be bound.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// An identity is not usable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Bytes are no value, or a value is too large.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Nothing answered in time.
    #[error("no answer from {address} within {after:?}")]
    Unanswered {
        /// Who was asked.
        address: SocketAddr,
        /// How long.
        after: Duration,
    },
    /// The other side refused this one.
    #[error("refused by {address}: {why}")]
    RefusedByPeer {
        /// Who.
        address: SocketAddr,
        /// In its words.
        why: String,
    },
    /// The other side refused this one: what it does here is for another role. To ask again is no use.
    #[error("refused by {address}: the certificate shown is not of the role {role}")]
    NotOfRole {
        /// Who.
        address: SocketAddr,
        /// The role that the certificate would have to have.
        role: Role,
    },
    /// This side refused the other.
    #[error("{address} is refused: {reason}: {detail}")]
    Refused {
        /// Who.
        address: SocketAddr,
        /// The kind of reason, as counted.
        reason: Reason,
        /// What exactly.
        detail: String,
    },
    /// The other side is not whom the caller meant.
    #[error("{address} is {found}, not {role} {}", name.as_deref().unwrap_or("of that authority"))]
    WrongPeer {
        /// Where.
        address: SocketAddr,
        /// Who was meant: role.
        role: Role,
        /// Who was meant: name; `None` where any of that role would do.
        name: Option<String>,
        /// Who is there.
        found: Box<Peer>,
    },
    /// The two sides speak different versions; nothing was exchanged.
    #[error("this side speaks wire version {ours}, {address} speaks {theirs}: upgrade the older")]
    Version {
        /// Where.
        address: SocketAddr,
        /// This side's.
        ours: u16,
        /// The other's.
        theirs: u16,
    },
    /// The connection is over.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The other side ended this channel.
    #[error("the channel is over")]
    ChannelOver,
    /// A channel ended in the middle of a frame.
    #[error("the channel ended in the middle of a frame")]
    Truncated,
    /// A frame claims more bytes than are allowed.
    #[error("a frame of {len} bytes is over the limit of {limit}")]
    FrameTooLarge {
        /// What it claims.
        len: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The other side does not take what is queued for it; see [`crate::Sender::queue`].
    #[error("{queued} bytes wait to be taken by the other side")]
    Backlog {
        /// How many.
        queued: usize,
    },
}
