//! Certificates and keys from PEM files, and which of them a client is shown.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer,
};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, RootCertStore, SignatureAlgorithm};

use crate::config::model::CertificateFiles;
use crate::observe::cause::Cause;

/// Keys of several kinds for one server, in the order of the configuration. Others may take their place at any time.
pub(super) struct Certificates(ArcSwap<Vec<Arc<CertifiedKey>>>);

impl Certificates {
    pub(super) fn new(keys: Vec<Arc<CertifiedKey>>) -> Self {
        Self(ArcSwap::from_pointee(keys))
    }

    pub(super) fn all(&self) -> Arc<Vec<Arc<CertifiedKey>>> {
        self.0.load_full()
    }

    /// Handshakes that begin from now on are shown these.
    pub(super) fn replace(&self, keys: Vec<Arc<CertifiedKey>>) {
        self.0.store(Arc::new(keys));
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificates")
            .field(&self.0.load().len())
            .finish()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |key: &&Arc<CertifiedKey>| {
            key.key.choose_scheme(hello.signature_schemes()).is_some()
                && offers(hello.cipher_suites(), key.key.algorithm())
        };
        let keys = self.0.load();
        let found = keys.iter().find(fits).or(keys.first());
        found.cloned()
    }
}

/// Whether a client offers a suite that such a key can be used with: in TLS 1.2 the suite names the kind of key.
fn offers(suites: &[CipherSuite], algorithm: SignatureAlgorithm) -> bool {
    suites.iter().any(|suite| match u16::from(*suite) {
        0x1301..=0x1303 => true,
        0xc02b | 0xc02c | 0xcca9 => algorithm == SignatureAlgorithm::ECDSA,
        0xc02f | 0xc030 | 0xcca8 => algorithm == SignatureAlgorithm::RSA,
        _ => false,
    })
}

/// Reads a certificate with its issuers, and its key.
///
/// # Errors
/// What nginx would write after `[emerg] `, as far as OpenSSL does not say it.
pub(super) fn load(
    files: &CertificateFiles,
    password_file: Option<&Path>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let chain = chain(&files.certificate)?;
    let shown = files.key.display();
    let text = std::fs::read(&files.key).map_err(|error| {
        format!(
            "cannot load certificate key \"{shown}\" ({})",
            Cause::from(&error)
        )
    })?;
    let key = match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => key,
        Err(_) => decrypted(&text, password_file)
            .map_err(|problem| format!("cannot load certificate key \"{shown}\" ({problem})"))?,
    };
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => format!(
            "the key \"{shown}\" is not the one of the certificate \"{}\"",
            files.certificate.display()
        ),
        error => format!("cannot load certificate key \"{shown}\" ({error})"),
    })
}

/// The certificates of a PEM file: at least one.
pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |problem: &dyn fmt::Display| {
        format!("cannot load certificate \"{}\" ({problem})", path.display())
    };
    let text = std::fs::read(path).map_err(|error| failed(&Cause::from(&error)))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(failed(&"there is none in it")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(failed(&error)),
    }
}

/// Adds the certificates of a PEM file to those that are trusted, and returns them.
pub(super) fn add_roots(
    roots: &mut RootCertStore,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = chain(path)?;
    for certificate in &certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| format!("cannot load certificate \"{}\" ({error})", path.display()))?;
    }
    Ok(certificates)
}

/// The lists of revoked certificates of a PEM file.
pub(super) fn revocations(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let failed = |problem: &dyn fmt::Display| {
        format!("cannot load revocations \"{}\" ({problem})", path.display())
    };
    let text = std::fs::read(path).map_err(|error| failed(&Cause::from(&error)))?;
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
    match lists {
        // Nobody would be looked for in no list.
        Ok(lists) if lists.is_empty() => Err(failed(&"there is none in it")),
        Ok(lists) => Ok(lists),
        Err(error) => Err(failed(&error)),
    }
}

/// The key in an encrypted PKCS#8 file, by the first password that opens it.
fn decrypted(text: &[u8], password_file: Option<&Path>) -> Result<PrivateKeyDer<'static>, String> {
    let none = || "there is none in it".to_owned();
    let text = std::str::from_utf8(text).map_err(|_| none())?;
    if !text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        return Err(match text.contains("ENCRYPTED") {
            true => {
                "it is encrypted in an old way; convert it with openssl pkcs8 -topk8".to_owned()
            }
            false => none(),
        });
    }
    let Some(password_file) = password_file else {
        return Err("it is encrypted, and there is no ssl_password_file".to_owned());
    };
    let passwords = std::fs::read(password_file).map_err(|error: io::Error| {
        format!("\"{}\": {}", password_file.display(), Cause::from(&error))
    })?;
    let (_, document) = pkcs8::SecretDocument::from_pem(text).map_err(|error| error.to_string())?;
    let encrypted = pkcs8::EncryptedPrivateKeyInfo::try_from(document.as_bytes())
        .map_err(|error| error.to_string())?;
    let mut lines = passwords.split(|&byte| byte == b'\n');
    let opened = lines.find_map(|line| {
        let password = line.strip_suffix(b"\r").unwrap_or(line);
        encrypted.decrypt(password).ok()
    });
    let opened = opened.ok_or("no password of ssl_password_file opens it")?;
    Ok(PrivatePkcs8KeyDer::from(opened.as_bytes().to_vec()).into())
}
