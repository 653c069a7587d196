//! The cluster's own authority: issues certificates, signs requests.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType,
    SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use squall_core::ids::HostName;

use super::certificate::{authority_name, dns_name, role_uri};
use super::{Fingerprint, GossipKey, Identity, IdentityError, Role, files, random};

/// The file of an authority in a directory: its private key and its certificate.
pub const AUTHORITY_FILE: &str = "authority.pem";
/// How long an authority lasts.
const AUTHORITY_DAYS: u32 = 3650;
/// How long a certificate lasts that a joining host gets.
pub(crate) const JOIN_DAYS: u32 = 365;
/// Certificates begin this long before they are issued: hosts' clocks differ, and stepping them is
/// one of our faults.
const BACKDATE: Duration = Duration::from_secs(24 * 60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The authority of one cluster. Whoever holds it can be anybody in the cluster.
pub struct ClusterAuthority {
    cluster: String,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl std::fmt::Debug for ClusterAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterAuthority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// What a host gets when it has joined.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Enrolment {
    /// Its certificate, PEM.
    pub certificate: String,
    /// The authority's certificate, PEM.
    pub authority: String,
    /// The cluster's gossip key.
    pub gossip: GossipKey,
}

/// A private key that waits for its certificate. It never leaves its host.
pub struct PendingIdentity {
    key: KeyPair,
}

impl std::fmt::Debug for PendingIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PendingIdentity(..)")
    }
}

impl PendingIdentity {
    /// Puts key and certificate together.
    ///
    /// # Errors
    /// The certificate is not for this key, or not from that authority.
    pub fn complete(self, enrolment: &Enrolment) -> Result<Identity, IdentityError> {
        let read = |text: &str| {
            CertificateDer::from_pem_slice(text.as_bytes())
                .map_err(|_| IdentityError::Malformed("enrolment: unreadable PEM".to_owned()))
        };
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        Identity::new(read(&enrolment.certificate)?, read(&enrolment.authority)?, key)
    }
}

/// A new private key and a signing request (PEM) for it. The authority takes only the public key
/// from the request; role and name are for it to say.
///
/// # Errors
/// `name` is not a host name.
pub fn make_csr(name: &str) -> Result<(PendingIdentity, String), IdentityError> {
    check_name(name)?;
    let key = KeyPair::generate_for(&PKCS_ED25519).map_err(issue)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    let request = params.serialize_request(&key).map_err(issue)?;
    Ok((PendingIdentity { key }, request.pem().map_err(issue)?))
}

impl ClusterAuthority {
    /// A new authority for a new cluster.
    ///
    /// # Errors
    /// `cluster` does not follow the rule of host names: it becomes the end of every DNS name.
    pub fn create(cluster: &str) -> Result<ClusterAuthority, IdentityError> {
        check_name(cluster)?;
        super::server_name(cluster, "c1")?;
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(issue)?;
        let mut params = dated(AUTHORITY_DAYS);
        params.distinguished_name = common_name(cluster);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(issue)?.der().clone();
        Ok(ClusterAuthority { cluster: cluster.to_owned(), certificate, key })
    }

    /// Reads [`AUTHORITY_FILE`] in `dir`.
    ///
    /// # Errors
    /// The file is missing, readable by others, or malformed.
    pub fn load(dir: &Path) -> Result<ClusterAuthority, IdentityError> {
        let path = dir.join(AUTHORITY_FILE);
        let bundle = files::Bundle::parse(&path, &files::read_secret(&path)?)?;
        let [certificate] = bundle.certificates(&path)?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&bundle.key, &PKCS_ED25519)
            .map_err(|e| IdentityError::Malformed(format!("{}: {e}", path.display())))?;
        if super::certificate::public_key(&certificate)? != key.public_key_raw() {
            let what = format!("{}: the key is not the certificate's", path.display());
            return Err(IdentityError::Malformed(what));
        }
        Ok(ClusterAuthority { cluster: authority_name(&certificate)?, certificate, key })
    }

    /// Writes [`AUTHORITY_FILE`] in `dir` (made where missing), mode 0600, whole or not at all.
    ///
    /// # Errors
    /// The system's.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        let text = files::bundle(&key, &[&self.certificate]);
        files::write_secret(dir, AUTHORITY_FILE, text.as_bytes())
    }

    /// The cluster's name.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Of its certificate; a join token carries it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        files::pem("CERTIFICATE", &self.certificate)
    }

    /// A new key with a certificate that is good for `days` from now.
    ///
    /// # Errors
    /// `name` is not a host name.
    pub fn issue(&self, role: Role, name: &str, days: u32) -> Result<Identity, IdentityError> {
        self.issue_with(role, name, dated(days))
    }

    /// The same with chosen dates.
    pub(crate) fn issue_with(
        &self,
        role: Role,
        name: &str,
        dates: CertificateParams,
    ) -> Result<Identity, IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(issue)?;
        let params = self.params(role, name, dates)?;
        let leaf = params.signed_by(&key, &self.issuer()?).map_err(issue)?.der().clone();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Identity::new(leaf, self.certificate.clone(), key)
    }

    /// A certificate (PEM) for the public key of a signing request. Whatever else the request asks
    /// for is ignored.
    ///
    /// # Errors
    /// The request is malformed, not signed by its own key, not Ed25519, or `name` is not a host name.
    pub fn sign_csr(&self, csr: &str, role: Role, name: &str) -> Result<String, IdentityError> {
        let request = CertificateSigningRequestParams::from_pem(csr)
            .map_err(|e| IdentityError::Malformed(format!("signing request: {e}")))?;
        if request.public_key.algorithm() != &PKCS_ED25519 {
            return Err(IdentityError::Malformed("signing request: not an Ed25519 key".to_owned()));
        }
        let params = self.params(role, name, dated(JOIN_DAYS))?;
        let leaf = params.signed_by(&request.public_key, &self.issuer()?).map_err(issue)?;
        Ok(leaf.pem())
    }

    fn issuer(&self) -> Result<Issuer<'static, &KeyPair>, IdentityError> {
        Issuer::from_ca_cert_der(&self.certificate, &self.key).map_err(issue)
    }

    fn params(
        &self,
        role: Role,
        name: &str,
        mut params: CertificateParams,
    ) -> Result<CertificateParams, IdentityError> {
        check_name(name)?;
        super::server_name(&self.cluster, name)?;
        let uri = role_uri(&self.cluster, role, name);
        let dns = dns_name(&self.cluster, name);
        params.distinguished_name = common_name(name);
        params.subject_alt_names = vec![
            SanType::URI(uri.try_into().map_err(issue)?),
            SanType::DnsName(dns.try_into().map_err(issue)?),
        ];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Only a coordinator's certificate can answer connections at all.
        params.extended_key_usages = match role {
            Role::Coordinator => {
                vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth]
            }
            Role::Agent | Role::Operator => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.serial_number = Some(SerialNumber::from_slice(&random::<16>()));
        Ok(params)
    }
}

fn issue(error: rcgen::Error) -> IdentityError {
    IdentityError::Malformed(format!("certificate: {error}"))
}

fn check_name(name: &str) -> Result<(), IdentityError> {
    name.parse::<HostName>().map(drop).map_err(|e| IdentityError::Malformed(e.to_string()))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// Parameters that hold from a day ago for `days` from now.
fn dated(days: u32) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + DAY * days).into();
    params
}

#[cfg(test)]
impl ClusterAuthority {
    /// An identity whose time is over.
    pub(crate) fn issue_expired(&self, role: Role, name: &str) -> Identity {
        let mut dates = dated(1);
        dates.not_after = (SystemTime::now() - DAY / 2).into();
        self.issue_with(role, name, dates).expect("well-formed")
    }
}
