//! Channel binding: by what a login is bound to a certificate, and which one a server shows.

use std::io;
use std::time::Duration;

use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::model::PeerAddress;

use super::client::GroupTls;

/// How long a server may take to show its certificate.
const PATIENCE: Duration = Duration::from_secs(5);

/// A certificate as somebody shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// `tls-server-end-point` (RFC 5929 section 4.1).
    pub end_point: Vec<u8>,
    /// Whom it is for, for messages.
    pub subject: String,
    /// When it expires, in seconds since 1970.
    pub expires: i64,
}

impl Shown {
    /// Reads a certificate. `None`: it is none.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
        Some(Self {
            end_point: end_point(der, &algorithm),
            subject: certificate.subject().to_string(),
            expires: certificate.validity().not_after.timestamp(),
        })
    }
}

/// The hash that the certificate is signed with, or SHA-256 where that is MD5, SHA-1 or none of its own (RFC 5929 section 4.1).
fn end_point(der: &[u8], algorithm: &str) -> Vec<u8> {
    match algorithm {
        // sha384WithRSAEncryption, ecdsa-with-SHA384
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Sha384::digest(der).to_vec(),
        // sha512WithRSAEncryption, ecdsa-with-SHA512
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Sha512::digest(der).to_vec(),
        _ => Sha256::digest(der).to_vec(),
    }
}

/// Asks a server for its certificate.
///
/// # Errors
/// It cannot be reached, does not answer in five seconds, or speaks no TLS.
pub async fn shown_by(address: &PeerAddress, session: &GroupTls) -> io::Result<Shown> {
    let asked = async {
        let (config, name) = session.unverified();
        let connector = TlsConnector::from(config);
        let chain = match address {
            PeerAddress::Inet(address) => {
                let stream = connector.connect(name, TcpStream::connect(address).await?);
                stream.await?.get_ref().1.peer_certificates().map(first)
            }
            PeerAddress::Unix(path) => {
                let stream = connector.connect(name, UnixStream::connect(path).await?);
                stream.await?.get_ref().1.peer_certificates().map(first)
            }
        };
        let shown = chain.flatten().and_then(|der| Shown::of(&der));
        shown.ok_or_else(|| io::Error::other("it shows no certificate"))
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(shown) => shown,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn first(chain: &[rustls::pki_types::CertificateDer<'_>]) -> Option<Vec<u8>> {
    chain.first().map(|der| der.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_signature() {
        for (algorithm, length) in [
            ("1.2.840.113549.1.1.4", 32),  // md5WithRSAEncryption
            ("1.2.840.113549.1.1.5", 32),  // sha1WithRSAEncryption
            ("1.2.840.113549.1.1.11", 32), // sha256WithRSAEncryption
            ("1.2.840.113549.1.1.12", 48),
            ("1.2.840.113549.1.1.13", 64),
            ("1.2.840.10045.4.3.2", 32), // ecdsa-with-SHA256
            ("1.2.840.10045.4.3.3", 48),
            ("1.2.840.10045.4.3.4", 64),
        ] {
            assert_eq!(
                end_point(b"certificate", algorithm).len(),
                length,
                "{algorithm}"
            );
        }
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let params = rcgen::CertificateParams::new(vec!["mail.test".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let shown = Shown::of(certificate.der()).unwrap();
        assert_eq!(shown.end_point, Sha384::digest(certificate.der()).to_vec());
        assert!(Shown::of(b"nonsense").is_none());
    }
}
