//! Reading and believing certificates.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use squall_core::ids::HostName;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Fingerprint, IdentityError, Peer, Role, provider};

/// Names in one certificate that are looked at, at most.
const MAX_NAMES: usize = 16;

/// The DNS name under which `name` of `cluster` is known to TLS.
pub(crate) fn dns_name(cluster: &str, name: &str) -> String {
    format!("{name}.{cluster}")
}

/// The same, as rustls wants it.
pub(crate) fn server_name(cluster: &str, name: &str) -> Result<ServerName<'static>, IdentityError> {
    ServerName::try_from(dns_name(cluster, name))
        .map_err(|_| IdentityError::Malformed(format!("`{name}.{cluster}` is not a DNS name")))
}

/// The URI that carries the role.
pub(crate) fn role_uri(cluster: &str, role: Role, name: &str) -> String {
    format!("spiffe://{cluster}/{role}/{name}")
}

fn malformed(what: &str) -> IdentityError {
    IdentityError::Malformed(format!("certificate: {what}"))
}

/// Whom a certificate shows. Says nothing about who issued it: that is [`Trust::verify`].
pub(crate) fn read_peer(der: &[u8]) -> Result<Peer, IdentityError> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| malformed("not X.509"))?;
    if !rest.is_empty() {
        return Err(malformed("bytes after its end"));
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| malformed("unreadable names"))?
        .ok_or_else(|| malformed("no names"))?;
    let names = &names.value.general_names;
    if names.len() > MAX_NAMES {
        return Err(malformed("too many names"));
    }
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let uri = uris.next().ok_or_else(|| malformed("no role URI"))?;
    if uris.next().is_some() {
        return Err(malformed("more than one URI"));
    }
    let (cluster, role, name) = split_uri(uri).ok_or_else(|| malformed("not a role URI"))?;
    let dns = dns_name(&cluster, &name);
    if !names.iter().any(|n| matches!(n, GeneralName::DNSName(d) if *d == dns)) {
        return Err(malformed("its DNS name is not that of its role URI"));
    }
    Ok(Peer { cluster, role, name, fingerprint: Fingerprint::of(der) })
}

fn split_uri(uri: &str) -> Option<(String, Role, String)> {
    let mut parts = uri.strip_prefix("spiffe://")?.split('/');
    let cluster = parts.next()?.parse::<HostName>().ok()?;
    let role = parts.next()?.parse::<Role>().ok()?;
    let name = parts.next()?.parse::<HostName>().ok()?;
    parts.next().is_none().then(|| (cluster.into(), role, name.into()))
}

/// The raw Ed25519 key that a certificate certifies.
pub(crate) fn public_key(der: &[u8]) -> Result<Vec<u8>, IdentityError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| malformed("not X.509"))?;
    Ok(certificate.public_key().subject_public_key.data.to_vec())
}

/// The cluster's authority as a judge of certificates.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    /// Judges certificates of those who connect, and of all who sign.
    pub(crate) clients: Arc<dyn ClientCertVerifier>,
    pub(crate) roots: Arc<RootCertStore>,
    cluster: String,
}

impl Trust {
    pub(crate) fn new(ca: &CertificateDer<'static>) -> Result<Trust, IdentityError> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone()).map_err(|e| malformed(&format!("the authority's: {e}")))?;
        let roots = Arc::new(roots);
        // Absence is allowed here for hosts that join; the transport refuses it everywhere else.
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|e| malformed(&format!("the authority's: {e}")))?;
        Ok(Trust { clients, roots, cluster: authority_name(ca)? })
    }

    /// Believes a certificate: issued by the authority, its time not over, its URI well-formed and
    /// of this cluster.
    pub(crate) fn verify(&self, leaf: &CertificateDer<'_>) -> Result<Peer, IdentityError> {
        self.clients.verify_client_cert(leaf, &[], UnixTime::now()).map_err(|e| from_tls(&e))?;
        self.read(leaf)
    }

    /// Whom a certificate shows that TLS has believed already.
    pub(crate) fn read(&self, leaf: &CertificateDer<'_>) -> Result<Peer, IdentityError> {
        let peer = read_peer(leaf)?;
        if peer.cluster == self.cluster { Ok(peer) } else { Err(IdentityError::UnknownAuthority) }
    }
}

/// The cluster that an authority's certificate names: its common name.
pub(crate) fn authority_name(ca: &[u8]) -> Result<String, IdentityError> {
    let (_, certificate) = X509Certificate::from_der(ca).map_err(|_| malformed("not X.509"))?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next().and_then(|cn| cn.as_str().ok()).ok_or_else(|| malformed("no name"))?;
    let name = name.parse::<HostName>().map_err(|e| IdentityError::Malformed(e.to_string()))?;
    Ok(name.into())
}

/// What TLS says about a certificate, in our words.
pub(crate) fn from_tls(error: &rustls::Error) -> IdentityError {
    use rustls::CertificateError as C;
    match error {
        rustls::Error::InvalidCertificate(
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. },
        ) => IdentityError::Expired,
        rustls::Error::InvalidCertificate(C::UnknownIssuer | C::BadSignature) => {
            IdentityError::UnknownAuthority
        }
        rustls::Error::InvalidCertificate(C::InvalidPurpose | C::InvalidPurposeContext { .. }) => {
            IdentityError::WrongRole("its key may not be used so".to_owned())
        }
        other => IdentityError::Malformed(format!("certificate: {other}")),
    }
}
