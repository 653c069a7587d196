//! Who a member of the gossip is, and how foca's messages become bytes.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Identity, Member};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use squall_core::ids::HostName;
use squall_core::registry::MAX_HOSTS;
use squall_wire::codec::{self, CodecError};

/// One life of one host in the gossip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MemberId {
    pub name: HostName,
    pub at: SocketAddr,
    /// Larger in every later life, and one larger after each refuted death.
    pub run: u64,
}

impl Identity for MemberId {
    type Addr = HostName;

    fn renew(&self) -> Option<Self> {
        Some(MemberId { run: self.run + 1, ..self.clone() })
    }

    fn addr(&self) -> HostName {
        self.name.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.run, self.at) > (adversary.run, adversary.at)
    }
}

/// Why foca's bytes are no message.
#[derive(Debug, thiserror::Error)]
pub(super) enum GossipError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("ends in the middle of an item")]
    Short,
    #[error("no room for an item of {0} bytes")]
    NoRoom(usize),
    #[error("`{0}` would be one host more than a cluster has")]
    TooMany(HostName),
}

/// Our codec, each item behind two bytes of length: foca puts items next to each other, and the
/// codec must be given exactly its own bytes. It knows the names that it has let in, as many as a cluster
/// has hosts: foca keeps what it is told of, and whoever has the cluster's key may invent names.
#[derive(Debug, Default)]
pub(super) struct GossipCodec {
    names: BTreeSet<HostName>,
}

impl GossipCodec {
    fn admit(&mut self, name: &HostName) -> Result<(), GossipError> {
        if self.names.contains(name) {
            return Ok(());
        }
        if self.names.len() >= MAX_HOSTS {
            return Err(GossipError::TooMany(name.clone()));
        }
        self.names.insert(name.clone());
        Ok(())
    }
}

const LENGTH: usize = 2;

fn put(item: &impl Serialize, mut buf: impl BufMut) -> Result<(), GossipError> {
    let bytes = codec::encode(item)?;
    let length = u16::try_from(bytes.len()).map_err(|_| GossipError::NoRoom(bytes.len()))?;
    if buf.remaining_mut() < LENGTH + bytes.len() {
        return Err(GossipError::NoRoom(bytes.len()));
    }
    buf.put_u16(length);
    buf.put_slice(&bytes);
    Ok(())
}

fn take<T: DeserializeOwned>(mut buf: impl Buf) -> Result<T, GossipError> {
    if buf.remaining() < LENGTH {
        return Err(GossipError::Short);
    }
    let length = usize::from(buf.get_u16());
    if buf.remaining() < length {
        return Err(GossipError::Short);
    }
    Ok(codec::decode(&buf.copy_to_bytes(length))?)
}

impl Codec<MemberId> for GossipCodec {
    type Error = GossipError;

    fn encode_header(
        &mut self,
        header: &Header<MemberId>,
        buf: impl BufMut,
    ) -> Result<(), GossipError> {
        put(header, buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<MemberId>, GossipError> {
        let header: Header<MemberId> = take(buf)?;
        self.admit(&header.src.name)?;
        Ok(header)
    }

    fn encode_member(
        &mut self,
        member: &Member<MemberId>,
        buf: impl BufMut,
    ) -> Result<(), GossipError> {
        put(member, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<MemberId>, GossipError> {
        let member: Member<MemberId> = take(buf)?;
        self.admit(&member.id().name)?;
        Ok(member)
    }
}

#[cfg(test)]
mod tests {
    use foca::State;

    use super::*;

    fn id(name: &str, run: u64) -> MemberId {
        MemberId { name: name.parse().unwrap(), at: "[::1]:7".parse().unwrap(), run }
    }

    #[test]
    fn a_later_life_replaces_an_earlier_one_and_renewal_is_later() {
        assert!(id("h1", 2).win_addr_conflict(&id("h1", 1)));
        assert!(!id("h1", 1).win_addr_conflict(&id("h1", 2)));
        let renewed = id("h1", 1).renew().unwrap();
        assert!(renewed.win_addr_conflict(&id("h1", 1)));
    }

    #[test]
    fn items_stand_next_to_each_other_and_a_full_buffer_stays_clean() {
        let members: Vec<Member<MemberId>> = [("h1", 3), ("h2", 4)]
            .map(|(name, run)| Member::new(id(name, run), 9, State::Suspect))
            .into();
        let mut codec = GossipCodec::default();
        let mut bytes = Vec::new();
        for member in &members {
            codec.encode_member(member, &mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        for member in &members {
            assert_eq!(codec.decode_member(&mut rest).unwrap(), *member);
        }
        assert!(rest.is_empty());
        for cut in 0..bytes.len() / 2 {
            assert!(codec.decode_member(&bytes[..cut]).is_err());
        }
        let mut narrow = [0_u8; 4];
        let mut room = narrow.as_mut_slice();
        assert!(codec.encode_member(&members[0], &mut room).is_err());
        assert_eq!((room.len(), narrow), (4, [0; 4]));
    }

    #[test]
    fn no_more_names_are_let_in_than_a_cluster_has_hosts() {
        let mut codec = GossipCodec::default();
        let mut tell = |name: &str| {
            let mut bytes = Vec::new();
            put(&Member::new(id(name, 1), 1, State::Alive), &mut bytes).unwrap();
            codec.decode_member(bytes.as_slice()).map(drop)
        };
        for n in 0..MAX_HOSTS {
            tell(&format!("h{n}")).unwrap();
        }
        assert!(matches!(tell("one-more"), Err(GossipError::TooMany(_))));
        tell("h7").unwrap();
    }
}
