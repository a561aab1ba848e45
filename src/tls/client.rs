//! TLS towards servers, as a group has it.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    Resumption, UnbufferedClientConnection, WebPkiServerVerifier, verify_server_name,
};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest as _, Sha256};

use crate::config::model::UpstreamTls;

use super::certificate_facts::CertificateFacts;
use super::certificates;
use super::protocols::{provider, versions};
use super::signatures::checks_signatures;

/// What a handshake with a group's servers needs.
#[derive(Clone)]
pub struct GroupTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl fmt::Debug for GroupTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GroupTls").field(&self.name).finish()
    }
}

impl GroupTls {
    /// The same for a look at the certificate alone, which may be anybody's.
    pub(super) fn unverified(&self) -> (Arc<ClientConfig>, ServerName<'static>) {
        let mut config = ClientConfig::clone(&self.config);
        let verifier = Verifier {
            checked: None,
            depth: 0,
            provider: Arc::clone(self.config.crypto_provider()),
        };
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(verifier));
        config.resumption = Resumption::disabled();
        (Arc::new(config), self.name.clone())
    }

    /// Begins a session.
    ///
    /// # Errors
    /// rustls has no random bytes.
    pub fn begin(&self) -> Result<UnbufferedClientConnection, rustls::Error> {
        UnbufferedClientConnection::new(Arc::clone(&self.config), self.name.clone())
    }
}

/// Reads the files of a group's settings and makes what its handshakes need.
///
/// # Errors
/// A file cannot be read or used, or the name is none: what nginx would write after `[emerg] `.
pub fn load(settings: &UpstreamTls) -> Result<GroupTls, String> {
    let provider = Arc::new(provider(&settings.protocols));
    let checked = match settings.verify {
        true => Some(verifier(settings, &provider)?),
        false => None,
    };
    let verifier = Arc::new(Verifier {
        checked,
        depth: settings.verify_depth,
        provider: Arc::clone(&provider),
    });
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(&settings.protocols))
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &settings.certificate {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let password_file = settings.password_file.as_deref();
            let key = certificates::load(files, password_file, &provider)?;
            let key = rustls::sign::SingleCertAndKey::from(key);
            builder.with_client_cert_resolver(Arc::new(key))
        }
    };
    config.enable_sni = settings.server_name;
    if !settings.session_reuse {
        config.resumption = Resumption::disabled();
    }
    let name = ServerName::try_from(settings.name.clone());
    let name =
        name.map_err(|_| format!("invalid name \"{}\" of \"proxy_ssl_name\"", settings.name))?;
    Ok(GroupTls {
        config: Arc::new(config),
        name,
    })
}

/// What certificates are verified by.
fn verifier(
    settings: &UpstreamTls,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<Checked>, String> {
    let mut roots = RootCertStore::empty();
    let trusted = match &settings.trusted {
        Some(path) => certificates::add_roots(&mut roots, path)?,
        None => add_system_roots(&mut roots),
    };
    if roots.is_empty() {
        return Err(
            "the system trusts no certificate, and there is no \"proxy_ssl_trusted_certificate\""
                .to_owned(),
        );
    }
    let mut builder =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let mut trusted: HashSet<_> = trusted.iter().map(digest).collect();
    if let Some(path) = &settings.crl {
        builder = builder.with_crls(certificates::revocations(path)?);
        trusted.clear();
    }
    let verifier = builder.build().map_err(|error| error.to_string())?;
    Ok(Arc::new(Checked { verifier, trusted }))
}

/// A client's settings that take any certificate, and offer these protocols (ALPN). [`judge`] says what others would have made of
/// it.
///
/// # Errors
/// rustls knows no version of TLS.
pub fn trusting_anybody(protocols: &[&[u8]]) -> Result<Arc<ClientConfig>, rustls::Error> {
    offering(protocols, None)
}

/// The same of a client that takes the certificates that this system trusts.
///
/// # Errors
/// It trusts none, or rustls knows no version of TLS.
pub fn trusting_the_system(protocols: &[&[u8]]) -> Result<Arc<ClientConfig>, rustls::Error> {
    offering(protocols, Some(system_verifier()?))
}

fn offering(
    protocols: &[&[u8]],
    checked: Option<Arc<Checked>>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Verifier {
        checked,
        depth: usize::MAX,
        provider: Arc::clone(&provider),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Whether a client that trusts what this system trusts takes a chain, the server's own certificate first, for `name`.
///
/// # Errors
/// Why not.
pub fn judge(chain: &[CertificateDer<'_>], name: &ServerName<'_>) -> Result<(), rustls::Error> {
    let Some((own, others)) = chain.split_first() else {
        return Err(rustls::Error::NoCertificatesPresented);
    };
    let verified = system_verifier()?.verify(own, others, name, &[], UnixTime::now());
    verified.map(|_| ())
}

/// Adds the certificates that the system trusts, those of `SSL_CERT_FILE` and `SSL_CERT_DIR` where these are set, and returns them.
fn add_system_roots(roots: &mut RootCertStore) -> Vec<CertificateDer<'static>> {
    let certificates = rustls_native_certs::load_native_certs().certs;
    roots.add_parsable_certificates(certificates.iter().cloned());
    certificates
}

fn system_verifier() -> Result<Arc<Checked>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let trusted = add_system_roots(&mut roots).iter().map(digest).collect();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    Ok(Arc::new(Checked { verifier, trusted }))
}

/// Verifies certificates, or takes all of them; that the server has the key to its own is checked in any case.
#[derive(Debug)]
struct Verifier {
    checked: Option<Arc<Checked>>,
    depth: usize,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(checked) = &self.checked else {
            return Ok(ServerCertVerified::assertion());
        };
        let depth = self.depth.min(intermediates.len());
        checked.verify(end_entity, &intermediates[..depth], name, ocsp, now)
    }

    checks_signatures!();
}

/// What certificates are verified by.
#[derive(Debug)]
struct Checked {
    verifier: Arc<WebPkiServerVerifier>,
    /// SHA-256 of those that are trusted as they are; none where revoked ones are looked for, which nobody lists for himself.
    trusted: HashSet<[u8; 32]>,
}

impl Checked {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // webpki takes no authority's certificate for a server's, but one that signs itself is made as an authority's by default
        // (`openssl req -x509`), and OpenSSL takes it where it is trusted itself.
        if self.trusted.contains(&digest(end_entity))
            && let Some(facts) = CertificateFacts::of(end_entity)
            && facts.is_authority()
        {
            facts.verify_dates(now)?;
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        let verifier = &self.verifier;
        verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }
}

fn digest(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}
