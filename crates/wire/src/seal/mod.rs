//! Sealed datagrams: gossip and beats under the cluster's key.
//!
//! A datagram is `version (1) · salt (16) · sequence (8) · ciphertext · tag (16)`. Each life of a
//! sender draws its own salt and derives its own key from the cluster's (HKDF-SHA256), so that the
//! sequence can be the nonce: with one key for all and random nonces, a fleet of 64 that beats five
//! times a second would pass the safe number of datagrams within days. Inside stand the sender's
//! name, its run and the payload. Forged and replayed datagrams are errors, and counted.

mod window;

use std::collections::BTreeMap;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use serde::{Deserialize, Serialize};
use squall_core::ids::HostName;
use squall_core::registry::MAX_HOSTS;

use crate::codec;
use crate::identity::{GossipKey, random};
use window::{Seen, Window};

/// The first byte of every sealed datagram.
const FORMAT: u8 = 1;
const SALT: usize = 16;
const HEADER: usize = 1 + SALT + 8;
const TAG: usize = 16;
/// Bytes by which a sealed datagram is longer than its payload, at most.
pub const OVERHEAD: usize = HEADER + TAG + 1 + 64 + 9 + 5;
/// Bytes of a datagram that is looked at, at most: the most that UDP carries.
pub const MAX_DATAGRAM: usize = 65_507;
/// Senders that an [`Opener`] remembers, at most: all hosts that there can be, in some twelve mebibytes.
/// For one more the one is forgotten that was silent for longest.
const MAX_SENDERS: usize = MAX_HOSTS;

/// Why a datagram is refused. Nothing follows from such a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not sealed with this cluster's key, or changed since.
    #[error("forged or damaged")]
    Forged,
    /// Seen before, or too old to say.
    #[error("replayed")]
    Replayed,
    /// From an earlier life of its sender.
    #[error("from an earlier run of its sender")]
    OlderRun,
}

/// How many datagrams an [`Opener`] took and refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealCounts {
    /// Opened.
    pub opened: u64,
    /// [`SealError::Forged`].
    pub forged: u64,
    /// [`SealError::Replayed`].
    pub replayed: u64,
    /// [`SealError::OlderRun`].
    pub older_run: u64,
}

#[derive(Serialize, Deserialize)]
struct Inside {
    sender: HostName,
    run: u64,
    payload: Vec<u8>,
}

fn derive(key: &GossipKey, salt: &[u8]) -> LessSafeKey {
    let pseudorandom = Salt::new(HKDF_SHA256, salt).extract(&key.0);
    let material = pseudorandom
        .expand(&[b"squall seal v1"], &CHACHA20_POLY1305)
        .expect("32 bytes are less than HKDF can give");
    LessSafeKey::new(UnboundKey::from(material))
}

fn nonce(sequence: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&sequence.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// Seals what one life of one host sends.
pub struct Sealer {
    key: LessSafeKey,
    header: [u8; 1 + SALT],
    sender: HostName,
    run: u64,
    sequence: u64,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("sender", &self.sender).finish_non_exhaustive()
    }
}

impl Sealer {
    /// A sealer for `sender`. `run` must be larger in every later life of the same sender: take the
    /// wall clock's milliseconds at the start, or one more than the last run where that is on disk
    /// and larger (a clock may be stepped back).
    #[must_use]
    pub fn new(key: GossipKey, sender: HostName, run: u64) -> Sealer {
        let salt: [u8; SALT] = random();
        let mut header = [FORMAT; 1 + SALT];
        header[1..].copy_from_slice(&salt);
        Sealer { key: derive(&key, &salt), header, sender, run, sequence: 0 }
    }

    /// A datagram for `payload`, at most [`OVERHEAD`] bytes longer. Each has a sequence number of its
    /// own: seal once for each datagram that is sent.
    pub fn seal(&mut self, payload: &[u8]) -> Vec<u8> {
        self.sequence += 1;
        let inside =
            Inside { sender: self.sender.clone(), run: self.run, payload: payload.to_vec() };
        let mut body = codec::encode(&inside).expect("what fits a datagram fits a frame");
        let mut datagram = Vec::with_capacity(HEADER + body.len() + TAG);
        datagram.extend_from_slice(&self.header);
        datagram.extend_from_slice(&self.sequence.to_be_bytes());
        self.key
            .seal_in_place_append_tag(nonce(self.sequence), Aad::from(&datagram[..]), &mut body)
            .expect("a datagram is far below the cipher's limit");
        datagram.append(&mut body);
        datagram
    }
}

/// Opens what the hosts of one cluster seal, each datagram once.
///
/// An opener that has just been made, or has forgotten a sender, knows no past: of datagrams recorded
/// earlier it takes each at most once, and only until it has heard something newer of that sender.
pub struct Opener {
    key: GossipKey,
    senders: BTreeMap<HostName, Sender>,
    counts: SealCounts,
}

/// What an [`Opener`] knows of one host.
#[derive(Default)]
struct Sender {
    window: Window,
    /// How many datagrams had been opened when its last one came.
    last: u64,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Opener {
    /// An opener that has heard nothing.
    #[must_use]
    pub fn new(key: GossipKey) -> Opener {
        Opener { key, senders: BTreeMap::new(), counts: SealCounts::default() }
    }

    /// Sender and payload of one datagram.
    ///
    /// # Errors
    /// See [`SealError`]; each is counted, and none changes what is accepted later.
    pub fn open(&mut self, datagram: &[u8]) -> Result<(HostName, Vec<u8>), SealError> {
        let result = self.check(datagram);
        let counter = match &result {
            Ok(_) => &mut self.counts.opened,
            Err(SealError::Forged) => &mut self.counts.forged,
            Err(SealError::Replayed) => &mut self.counts.replayed,
            Err(SealError::OlderRun) => &mut self.counts.older_run,
        };
        *counter += 1;
        result
    }

    fn check(&mut self, datagram: &[u8]) -> Result<(HostName, Vec<u8>), SealError> {
        if datagram.len() > MAX_DATAGRAM || datagram.len() < HEADER + TAG || datagram[0] != FORMAT {
            return Err(SealError::Forged);
        }
        let (header, body) = datagram.split_at(HEADER);
        let (salt, sequence) = header[1..].split_at(SALT);
        let sequence = u64::from_be_bytes(sequence.try_into().map_err(|_| SealError::Forged)?);
        let mut body = body.to_vec();
        let plain = derive(&self.key, salt)
            .open_in_place(nonce(sequence), Aad::from(header), &mut body)
            .map_err(|_| SealError::Forged)?;
        let inside: Inside = codec::decode(plain).map_err(|_| SealError::Forged)?;
        if !self.senders.contains_key(&inside.sender) && self.senders.len() >= MAX_SENDERS {
            self.forget_one();
        }
        let sender = self.senders.entry(inside.sender.clone()).or_default();
        match sender.window.take(inside.run, sequence) {
            Seen::New => {
                sender.last = self.counts.opened;
                Ok((inside.sender, inside.payload))
            }
            Seen::Before => Err(SealError::Replayed),
            Seen::OlderRun => Err(SealError::OlderRun),
        }
    }

    fn forget_one(&mut self) {
        let oldest = self.senders.iter().min_by_key(|(_, sender)| sender.last);
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            self.senders.remove(&name);
        }
    }

    /// What was taken and refused so far.
    #[must_use]
    pub fn counts(&self) -> SealCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests;
