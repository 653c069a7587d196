//! Secrets on disk: private to their owner, whole or absent.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::{IdentityError, random};

/// Bytes of one file here, at most.
const MAX_FILE: u64 = 64 * 1024;

fn at(path: &Path, source: io::Error) -> IdentityError {
    IdentityError::Io { path: path.to_owned(), source }
}

/// Reads a file that nobody but its owner may read.
pub(super) fn read_secret(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let file = File::open(path).map_err(|e| at(path, e))?;
    let meta = file.metadata().map_err(|e| at(path, e))?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|e| at(path, e))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(IdentityError::Malformed(format!("{}: over {MAX_FILE} bytes", path.display())));
    }
    Ok(bytes)
}

/// Writes `dir/name` with mode 0600 so that a reader, or a crash, sees the old bytes or the new.
pub(super) fn write_secret(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), IdentityError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| at(dir, e))?;
    let path = dir.join(name);
    let temporary = dir.join(format!(".{name}.{}", HEXLOWER.encode(&random::<8>())));
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| {
        // Nothing to add where this fails too: the first error is the one to show.
        let _ = fs::remove_file(&temporary);
        at(&path, e)
    })
}

/// A private key and certificates, as they stand in one file.
pub(super) struct Bundle {
    pub(super) key: PrivatePkcs8KeyDer<'static>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Bundle {
    pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Bundle, IdentityError> {
        let bad = |what: &str| IdentityError::Malformed(format!("{}: {what}", path.display()));
        let key = PrivatePkcs8KeyDer::from_pem_slice(text).map_err(|_| bad("no private key"))?;
        let certificates = CertificateDer::pem_slice_iter(text)
            .collect::<Result<_, _>>()
            .map_err(|_| bad("unreadable PEM"))?;
        Ok(Bundle { key, certificates })
    }

    pub(super) fn certificates<const N: usize>(
        &self,
        path: &Path,
    ) -> Result<[CertificateDer<'static>; N], IdentityError> {
        let found = self.certificates.len();
        self.certificates.clone().try_into().map_err(|_| {
            IdentityError::Malformed(format!(
                "{}: {found} certificates where {N} belong",
                path.display()
            ))
        })
    }
}

/// The text of a [`Bundle`].
pub(super) fn bundle(key: &PrivatePkcs8KeyDer<'_>, certificates: &[&CertificateDer<'_>]) -> String {
    let mut text = pem("PRIVATE KEY", key.secret_pkcs8_der());
    for certificate in certificates {
        text.push_str(&pem("CERTIFICATE", certificate));
    }
    text
}

/// PEM with lines of 64 characters.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let body = BASE64.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        text.push('\n');
    }
    writeln!(text, "-----END {label}-----").expect("a String takes all that is written");
    text
}
