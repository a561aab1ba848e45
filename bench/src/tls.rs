//! TLS as the load and the origin speak it. They offer and accept one protocol, one suite, one key exchange, so that every contender
//! does the same work on both its sides or none.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Tls13ClientSessionValue};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, Connection, DigitallySignedStruct, NamedGroup, ServerConfig, SignatureScheme,
    version::TLS13,
};

/// The name on the certificates, which clients ask for.
pub(crate) const NAME: &str = "bench.example";
/// So many tickets are kept for connections to come.
const TICKETS_MAX: usize = 1024;

/// The key of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// ECDSA on P-256.
    P256,
    /// RSA of 2048 bits.
    Rsa2048,
}

impl Key {
    /// Writes a new key and a certificate of its own for it, both into one file.
    pub(crate) fn write(self, file: &Path) -> io::Result<()> {
        let key = match self {
            Self::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Self::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        };
        let key = key.map_err(io::Error::other)?;
        let certificate = CertificateParams::new([NAME.to_owned()])
            .and_then(|params| params.self_signed(&key))
            .map_err(io::Error::other)?;
        fs::write(file, certificate.pem() + &key.serialize_pem())
    }

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::P256 => "ECDSA P-256",
            Self::Rsa2048 => "RSA 2048",
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    let provider = aws_lc_rs::default_provider();
    Arc::new(CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..provider
    })
}

/// The origin's side, with the certificate and the key of a file.
pub(crate) fn server(file: &Path) -> io::Result<Arc<ServerConfig>> {
    let certificate = CertificateDer::from_pem_file(file).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(file).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .map_err(io::Error::other)?;
    Ok(Arc::new(config))
}

/// The load's side, towards a contender that shows the certificate of a file.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Clients {
    /// Without sessions of earlier connections. With `resume`, each connection resumes one as soon as there are any.
    pub(crate) fn new(file: &Path, resume: bool) -> io::Result<Self> {
        let certificate = CertificateDer::from_pem_file(file).map_err(io::Error::other)?;
        let provider = provider();
        let verifier = Arc::new(Expected {
            certificate,
            provider: provider.clone(),
        });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = match resume {
            true => Resumption::store(Arc::new(Tickets::default())),
            false => Resumption::disabled(),
        };
        Ok(Self {
            config: Arc::new(config),
            name: ServerName::try_from(NAME).map_err(io::Error::other)?,
        })
    }

    /// A session that begins.
    pub(crate) fn connect(&self) -> io::Result<Connection> {
        let session = ClientConnection::new(self.config.clone(), self.name.clone());
        Ok(session.map_err(io::Error::other)?.into())
    }
}

/// Takes a server for the contender if it shows its certificate. Whether it has the key to it is not checked: we gave it, and
/// the load's core has enough to do.
#[derive(Debug)]
struct Expected {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Expected {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match *end_entity == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(rustls::Error::General("another certificate".to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The tickets of the one server. rustls's own store keeps fewer than there are connections at a time.
#[derive(Debug, Default)]
struct Tickets {
    kept: Mutex<VecDeque<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < TICKETS_MAX {
            kept.push_back(ticket);
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.pop_front()
    }
}
