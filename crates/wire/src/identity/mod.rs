//! Who somebody is: a role and a name in a cluster, shown by a certificate of the cluster's own
//! authority.
//!
//! The role stands in the certificate as the URI `spiffe://<cluster>/<role>/<name>`, beside the DNS
//! name `<name>.<cluster>` that TLS itself compares with whom the caller meant.

mod authority;
mod certificate;
mod files;
mod gossip_key;
mod token;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use ring::digest;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

pub use authority::{AUTHORITY_FILE, ClusterAuthority, Enrolment, PendingIdentity, make_csr};
pub(crate) use certificate::{Trust, dns_name, from_tls, public_key, read_peer, server_name};
pub use gossip_key::{GOSSIP_FILE, GossipKey};
pub use token::{InvalidToken, JoinToken, MAX_TOKEN_COORDINATORS};

/// The file in an identity's directory: private key, own certificate, the authority's certificate.
/// One file, so that a crash never leaves a key beside the certificate of another.
pub const IDENTITY_FILE: &str = "identity.pem";
/// Written and removed by [`prepare`].
const TRIED_FILE: &str = ".tried";

/// What somebody may do; each message is authorised by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Agrees on experiments, orders agents, answers operators. Only it may be connected to.
    Coordinator,
    /// Holds faults on one host.
    Agent,
    /// A person with a command line.
    Operator,
}

impl Role {
    pub(crate) const ALL: [Role; 3] = [Role::Coordinator, Role::Agent, Role::Operator];

    /// The word that stands in a certificate.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Coordinator => "coordinator",
            Role::Agent => "agent",
            Role::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Role::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| IdentityError::Malformed(format!("`{text}` is not a role")))
    }
}

/// SHA-256 of a certificate's DER bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    pub(crate) fn of(der: &[u8]) -> Fingerprint {
        Fingerprint(sha256(der))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Somebody, as shown by a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The cluster.
    pub cluster: String,
    /// The role in it.
    pub role: Role,
    /// The name, unique among those of its role.
    pub name: String,
    /// Of the certificate that shows it.
    pub fingerprint: Fingerprint,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of {}", self.role, self.name, self.cluster)
    }
}

/// Why an identity could not be made, read, kept or believed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file with a secret can be read by others.
    #[error("{path} holds a secret and others may read it (mode {mode:o}): chmod 600 it", path = path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Something is not what it should be.
    #[error("{0}")]
    Malformed(String),
    /// Another authority issued the certificate, or none.
    #[error("the certificate is not from this cluster's authority")]
    UnknownAuthority,
    /// The certificate's time is over or has not begun, by this host's wall clock.
    #[error("the certificate has expired or is not yet valid (by this host's clock)")]
    Expired,
    /// The certificate is good but shows another role than is needed here.
    #[error("the certificate shows another role: {0}")]
    WrongRole(String),
}

/// One's own: certificate, private key, and the authority's certificate.
pub struct Identity {
    pub(crate) leaf: CertificateDer<'static>,
    pub(crate) ca: CertificateDer<'static>,
    pub(crate) key: PrivatePkcs8KeyDer<'static>,
    pub(crate) trust: Trust,
    peer: Peer,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Identity {
            leaf: self.leaf.clone(),
            ca: self.ca.clone(),
            key: self.key.clone_key(),
            trust: self.trust.clone(),
            peer: self.peer.clone(),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Identity {
    /// Puts the parts together and checks that they belong together. Does not check the time: an
    /// expired identity can be loaded, shown and renewed; peers refuse it.
    pub(crate) fn new(
        leaf: CertificateDer<'static>,
        ca: CertificateDer<'static>,
        key: PrivatePkcs8KeyDer<'static>,
    ) -> Result<Identity, IdentityError> {
        let trust = Trust::new(&ca)?;
        match trust.verify(&leaf) {
            Ok(_) | Err(IdentityError::Expired) => {}
            Err(e) => return Err(e),
        }
        let peer = read_peer(&leaf)?;
        let identity = Identity { leaf, ca, key, trust, peer };
        rustls::sign::CertifiedKey::from_der(
            vec![identity.leaf.clone()],
            PrivateKeyDer::Pkcs8(identity.key.clone_key()),
            &rustls::crypto::ring::default_provider(),
        )
        .map_err(|e| {
            IdentityError::Malformed(format!("the private key is not the certificate's: {e}"))
        })?;
        Ok(identity)
    }

    /// Reads [`IDENTITY_FILE`] in `dir`.
    ///
    /// # Errors
    /// The file is missing, readable by others, malformed, or its parts do not belong together.
    pub fn load(dir: &Path) -> Result<Identity, IdentityError> {
        let path = dir.join(IDENTITY_FILE);
        let bundle = files::Bundle::parse(&path, &files::read_secret(&path)?)?;
        let [leaf, ca] = bundle.certificates(&path)?;
        Identity::new(leaf, ca, bundle.key)
    }

    /// Writes [`IDENTITY_FILE`] in `dir` (made where missing), mode 0600, whole or not at all.
    ///
    /// # Errors
    /// The system's.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let text = files::bundle(&self.key, &[&self.leaf, &self.ca]);
        files::write_secret(dir, IDENTITY_FILE, text.as_bytes())
    }

    /// Who this is.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The fingerprint of the authority that issued it.
    #[must_use]
    pub fn authority(&self) -> Fingerprint {
        Fingerprint::of(&self.ca)
    }

    /// Own certificate and the authority's, as TLS sends them. The authority's own is sent too, for
    /// hosts that join and know it by fingerprint only.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.leaf.clone(), self.ca.clone()]
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }
}

/// Makes `dir` where it is missing and shows that secrets can be written there: before a token is used up
/// for one.
///
/// # Errors
/// The system's.
pub fn prepare(dir: &Path) -> Result<(), IdentityError> {
    files::write_secret(dir, TRIED_FILE, b"")?;
    let path = dir.join(TRIED_FILE);
    std::fs::remove_file(&path).map_err(|source| IdentityError::Io { path, source })
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// `N` bytes from the system's generator.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut out)
        .expect("the kernel's random generator answers once the host has booted");
    out
}

pub(crate) type Provider = Arc<rustls::crypto::CryptoProvider>;

/// The one provider, passed explicitly everywhere: a process-wide default could be set by others.
pub(crate) fn provider() -> Provider {
    Arc::new(rustls::crypto::ring::default_provider())
}
