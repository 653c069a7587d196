//! Signed stop records: a stop that travels from host to host, with no coordinator in reach.
//!
//! The coordinator that took the stop signs it with the key of its certificate, and the certificate
//! travels with it. Whoever holds the cluster's authority can judge it; nobody but a coordinator can
//! make one. There is no record of a resume: that never travels so.

use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use squall_core::ids::StopId;

use crate::codec::{self, CodecError};
use crate::identity::{self, Identity, IdentityError, Peer, Role};

/// Bytes of one record, at most: it fits one datagram of every path that IPv6 allows.
pub const MAX_RECORD: usize = 1200;
/// What else these keys sign is TLS, whose signed texts begin with 64 spaces.
const DOMAIN: &[u8] = b"squall stop v1\0";

/// Why a record is no stop. Nothing follows from such a record; count it.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// Longer than any record.
    #[error("a stop record of {0} bytes is over the limit of {MAX_RECORD}")]
    TooLong(usize),
    /// Not a record at all.
    #[error("stop record: {0}")]
    Codec(#[from] CodecError),
    /// Its certificate is not to be believed, or not a coordinator's.
    #[error("stop record: {0}")]
    Signer(#[from] IdentityError),
    /// Its signature is not of this stop by that certificate.
    #[error("stop record: the signature does not fit")]
    Forged,
}

#[derive(Serialize, Deserialize)]
struct SignedStop {
    stop: StopId,
    certificate: Vec<u8>,
    signature: Vec<u8>,
}

fn signed_text(stop: StopId, signer: &Peer) -> Vec<u8> {
    let mut text = DOMAIN.to_vec();
    text.extend_from_slice(stop.0.as_bytes());
    for part in [signer.cluster.as_bytes(), signer.name.as_bytes()] {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part);
    }
    text
}

impl Identity {
    /// A record of `stop` under this identity's signature. Others believe it only from a
    /// coordinator.
    #[must_use]
    pub fn sign_stop(&self, stop: StopId) -> Vec<u8> {
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(self.key.secret_pkcs8_der())
            .expect("an Identity holds only keys that fit its Ed25519 certificate");
        let signature = key.sign(&signed_text(stop, self.peer())).as_ref().to_vec();
        let record = SignedStop { stop, certificate: self.leaf.to_vec(), signature };
        codec::encode(&record).expect("a record is far below the frame limit")
    }

    /// The stop in a record, and the coordinator that took it.
    ///
    /// # Errors
    /// The record is malformed, its certificate is not a coordinator's of this cluster or has
    /// expired, or its signature does not fit.
    pub fn verify_stop(&self, record: &[u8]) -> Result<(StopId, Peer), StopError> {
        if record.len() > MAX_RECORD {
            return Err(StopError::TooLong(record.len()));
        }
        let record: SignedStop = codec::decode(record)?;
        let certificate = CertificateDer::from(record.certificate);
        let signer = self.trust.verify(&certificate)?;
        if signer.role != Role::Coordinator {
            return Err(IdentityError::WrongRole(signer.to_string()).into());
        }
        let key = identity::public_key(&certificate)?;
        UnparsedPublicKey::new(&ED25519, key)
            .verify(&signed_text(record.stop, &signer), &record.signature)
            .map_err(|_| StopError::Forged)?;
        Ok((record.stop, signer))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::golden;
    use crate::identity::ClusterAuthority;

    fn stop(n: u128) -> StopId {
        StopId(Uuid::from_u128(n))
    }

    #[test]
    fn every_host_believes_a_coordinators_stop_and_it_fits_a_datagram() {
        let long = "c".repeat(63);
        let authority = ClusterAuthority::create(&long).unwrap();
        let coordinator = authority.issue(Role::Coordinator, &long, 1).unwrap();
        let agent = authority.issue(Role::Agent, "h1", 1).unwrap();
        let record = coordinator.sign_stop(stop(7));
        assert!(record.len() <= MAX_RECORD, "{} bytes", record.len());
        let (heard, by) = agent.verify_stop(&record).unwrap();
        assert_eq!((heard, &by), (stop(7), coordinator.peer()));
    }

    #[test]
    fn nobody_else_can_make_one() {
        let authority = ClusterAuthority::create("storm").unwrap();
        let judge = authority.issue(Role::Agent, "h1", 1).unwrap();
        for role in [Role::Agent, Role::Operator] {
            let record = authority.issue(role, "h2", 1).unwrap().sign_stop(stop(1));
            let error = judge.verify_stop(&record).unwrap_err();
            assert!(matches!(error, StopError::Signer(IdentityError::WrongRole(_))), "{error}");
        }
        let stranger = ClusterAuthority::create("storm").unwrap();
        let record = stranger.issue(Role::Coordinator, "c1", 1).unwrap().sign_stop(stop(1));
        let error = judge.verify_stop(&record).unwrap_err();
        assert!(matches!(error, StopError::Signer(IdentityError::UnknownAuthority)), "{error}");
        let record = authority.issue_expired(Role::Coordinator, "c1").sign_stop(stop(1));
        let error = judge.verify_stop(&record).unwrap_err();
        assert!(matches!(error, StopError::Signer(IdentityError::Expired)), "{error}");
    }

    #[test]
    fn a_signature_fits_one_stop_and_one_signer() {
        let authority = ClusterAuthority::create("storm").unwrap();
        let judge = authority.issue(Role::Agent, "h1", 1).unwrap();
        let c1 = authority.issue(Role::Coordinator, "c1", 1).unwrap();
        let c2 = authority.issue(Role::Coordinator, "c2", 1).unwrap();
        let mut record: SignedStop = codec::decode(&c1.sign_stop(stop(1))).unwrap();
        record.stop = stop(2);
        let forged = codec::encode(&record).unwrap();
        assert!(matches!(judge.verify_stop(&forged), Err(StopError::Forged)));
        record.stop = stop(1);
        record.certificate = c2.leaf.to_vec();
        let forged = codec::encode(&record).unwrap();
        assert!(matches!(judge.verify_stop(&forged), Err(StopError::Forged)));
    }

    #[test]
    fn every_changed_byte_is_refused() {
        let authority = ClusterAuthority::create("storm").unwrap();
        let judge = authority.issue(Role::Agent, "h1", 1).unwrap();
        let record = authority.issue(Role::Coordinator, "c1", 1).unwrap().sign_stop(stop(1));
        for at in 0..record.len() {
            let mut changed = record.clone();
            changed[at] ^= 0x40;
            assert!(judge.verify_stop(&changed).is_err(), "byte {at} changed");
            assert!(judge.verify_stop(&record[..at]).is_err(), "cut at {at}");
        }
        assert!(matches!(judge.verify_stop(&[1; MAX_RECORD + 1]), Err(StopError::TooLong(_))));
    }

    #[test]
    fn a_record_has_the_bytes_that_it_had_and_so_has_what_is_signed() {
        let record =
            SignedStop { stop: stop(7), certificate: vec![1, 2, 3], signature: vec![4, 5] };
        let authority = ClusterAuthority::create("storm").unwrap();
        let c1 = authority.issue(Role::Coordinator, "c1", 1).unwrap();
        let mut lines = golden::Lines::new();
        golden::add(&mut lines, "SignedStop", &record);
        golden::add(&mut lines, "SignedText", &signed_text(stop(7), c1.peer()));
        golden::compare(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/stop.txt"), &lines);
    }
}
