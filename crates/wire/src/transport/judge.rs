//! The client's judgement of the server's certificate.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::identity::{
    Fingerprint, IdentityError, Peer, Role, from_tls, provider, read_peer, server_name,
};

/// Whom the client means to reach.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    /// This one, of the cluster of these roots.
    Peer { roots: Arc<RootCertStore>, cluster: String, role: Role, name: String },
    /// Any coordinator under the authority with this fingerprint, which the server must show.
    Authority(Fingerprint),
}

/// What the client found.
#[derive(Debug)]
pub(super) enum Finding {
    /// The one it meant.
    Right(Peer),
    /// A good certificate of somebody else.
    Other(Peer),
    /// No certificate to believe.
    Bad(IdentityError),
}

/// A verifier that remembers its finding: TLS tells the caller no more than an alert.
#[derive(Debug)]
pub(super) struct Judge {
    expected: Expected,
    finding: Mutex<Option<Finding>>,
}

impl Judge {
    pub(super) fn new(expected: Expected) -> Arc<Judge> {
        Arc::new(Judge { expected, finding: Mutex::default() })
    }

    /// The finding, once.
    pub(super) fn take(&self) -> Option<Finding> {
        self.finding.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn find(
        &self,
        leaf: &CertificateDer<'_>,
        shown: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Finding {
        let peer = match read_peer(leaf) {
            Ok(peer) => peer,
            Err(e) => return Finding::Bad(e),
        };
        let roots = match &self.expected {
            Expected::Peer { roots, .. } => roots.clone(),
            Expected::Authority(fingerprint) => match find_authority(shown, *fingerprint) {
                Ok(roots) => roots,
                Err(e) => return Finding::Bad(e),
            },
        };
        // A client's certificate on a server is told as the wrong role, not as a purpose of keys.
        let wrong = match &self.expected {
            Expected::Peer { cluster, role, name, .. } => {
                peer.cluster != *cluster || peer.role != *role || peer.name != *name
            }
            Expected::Authority(_) => peer.role != Role::Coordinator,
        };
        let chain = server_name(&peer.cluster, &peer.name).and_then(|own_name| {
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|e| IdentityError::Malformed(e.to_string()))?;
            verifier.verify_server_cert(leaf, &[], &own_name, &[], now).map_err(|e| from_tls(&e))
        });
        match chain {
            Err(IdentityError::WrongRole(_)) if wrong => Finding::Other(peer),
            Err(e) => Finding::Bad(e),
            Ok(_) if wrong => Finding::Other(peer),
            Ok(_) => Finding::Right(peer),
        }
    }
}

fn find_authority(
    shown: &[CertificateDer<'_>],
    fingerprint: Fingerprint,
) -> Result<Arc<RootCertStore>, IdentityError> {
    let authority = shown
        .iter()
        .find(|certificate| Fingerprint::of(certificate) == fingerprint)
        .ok_or(IdentityError::UnknownAuthority)?;
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.clone().into_owned())
        .map_err(|e| IdentityError::Malformed(e.to_string()))?;
    Ok(Arc::new(roots))
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        shown: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let finding = self.find(leaf, shown, now);
        let verdict = match &finding {
            Finding::Right(_) => Ok(ServerCertVerified::assertion()),
            Finding::Other(_) => Err(CertificateError::NotValidForName),
            Finding::Bad(IdentityError::Expired) => Err(CertificateError::Expired),
            Finding::Bad(IdentityError::UnknownAuthority) => Err(CertificateError::UnknownIssuer),
            Finding::Bad(_) => Err(CertificateError::ApplicationVerificationFailure),
        };
        *self.finding.lock().unwrap_or_else(PoisonError::into_inner) = Some(finding);
        verdict.map_err(Error::InvalidCertificate)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
