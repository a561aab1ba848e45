//! Certificates that clients show: `ssl_verify_client` and what goes with it.
//!
//! As in nginx, a handshake goes on whatever a client shows, if it has the key to it, so that its request can be answered with a page
//! that says what is wrong. What the certificate is worth is found out when the handshake is over.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DistinguishedName, Error, RootCertStore};

use crate::config::model::{ClientCertificates, Demand};

use super::certificate_facts::CertificateFacts;
use super::certificates;
use super::signatures::checks_signatures;

/// What a server asks of its clients' certificates.
#[derive(Debug)]
pub struct ClientRules {
    settings: ClientCertificates,
    /// `None`: nobody is trusted.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

/// What the certificate of a client is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is none.
    None,
    /// Somebody trusted signed it, and it is valid.
    Valid,
    /// The number and the words that OpenSSL has for it (`X509_V_ERR_*`).
    Invalid(u16, &'static str),
}

/// Under which rules a client was asked for a certificate, and what came of it.
pub struct Presented {
    rules: Arc<ClientRules>,
    verdict: Verdict,
}

/// That nobody trusted has signed a certificate, in OpenSSL's words.
const SELF_SIGNED: Verdict = Verdict::Invalid(18, "self-signed certificate");
const UNKNOWN_ISSUER: Verdict = Verdict::Invalid(20, "unable to get local issuer certificate");
const ALONE: Verdict = Verdict::Invalid(21, "unable to verify the first certificate");

impl ClientRules {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read or used: what nginx would write after `[emerg] `.
    pub(super) fn load(
        settings: &ClientCertificates,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let mut told = RootCertStore::empty();
        let mut roots = RootCertStore::empty();
        for (path, is_told) in [(&settings.authorities, true), (&settings.trusted, false)] {
            let Some(path) = path else { continue };
            certificates::add_roots(&mut roots, path)?;
            if is_told {
                certificates::add_roots(&mut told, path)?;
            }
        }
        let verifier = match roots.is_empty() {
            true => None,
            false => {
                let mut builder = WebPkiClientVerifier::builder_with_provider(
                    Arc::new(roots),
                    Arc::clone(provider),
                );
                if let Some(path) = &settings.crl {
                    builder = builder.with_crls(certificates::revocations(path)?);
                }
                Some(builder.build().map_err(|error| error.to_string())?)
            }
        };
        Ok(Self {
            settings: settings.clone(),
            verifier,
            hints: told.subjects(),
            provider: Arc::clone(provider),
        })
    }

    /// Whether a client that satisfies these rules satisfies the others, and the other way around.
    pub fn equal(&self, other: &Self) -> bool {
        self.settings == other.settings
    }

    fn judge(&self, chain: &[CertificateDer<'_>]) -> Verdict {
        let Some((leaf, issuers)) = chain.split_first() else {
            return Verdict::None;
        };
        let Some(verifier) = &self.verifier else {
            return unknown_issuer(leaf, issuers);
        };
        let depth = self.settings.verify_depth.min(issuers.len());
        match verifier.verify_client_cert(leaf, &issuers[..depth], UnixTime::now()) {
            Ok(_) => Verdict::Valid,
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                unknown_issuer(leaf, issuers)
            }
            Err(Error::InvalidCertificate(error)) => in_words(&error),
            Err(_) => Verdict::Invalid(1, "unspecified certificate verification error"),
        }
    }
}

fn unknown_issuer(leaf: &CertificateDer<'_>, issuers: &[CertificateDer<'_>]) -> Verdict {
    let facts = CertificateFacts::of(leaf);
    match issuers.is_empty() {
        false => UNKNOWN_ISSUER,
        true if facts.is_some_and(|facts| facts.names_itself()) => SELF_SIGNED,
        true => ALONE,
    }
}

fn in_words(error: &CertificateError) -> Verdict {
    let (number, words) = match error {
        CertificateError::BadSignature => (7, "certificate signature failure"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            (9, "certificate is not yet valid")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            (10, "certificate has expired")
        }
        CertificateError::UnknownRevocationStatus => (3, "unable to get certificate CRL"),
        CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => (12, "CRL has expired"),
        CertificateError::Revoked => (23, "certificate revoked"),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            (26, "unsuitable certificate purpose")
        }
        _ => (1, "unspecified certificate verification error"),
    };
    Verdict::Invalid(number, words)
}

impl Presented {
    /// What a client has shown under `rules`: its certificate and those of the issuers that it sent.
    pub fn new(rules: Arc<ClientRules>, chain: &[CertificateDer<'_>]) -> Self {
        let verdict = rules.judge(chain);
        Self { rules, verdict }
    }

    /// The rules that held for the handshake.
    pub fn rules(&self) -> &ClientRules {
        &self.rules
    }

    /// What came of it.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether that is not enough for a request to be served.
    pub fn is_refused(&self) -> bool {
        match (self.rules.settings.demand, self.verdict) {
            (_, Verdict::Valid) => false,
            (demand, Verdict::None) => demand == Demand::Required,
            // As in nginx, all that may be wrong is who signed it.
            (demand, verdict) => {
                let unsigned = [SELF_SIGNED, UNKNOWN_ISSUER, ALONE].contains(&verdict);
                demand != Demand::OptionalNoCa || !unsigned
            }
        }
    }
}

/// Asks for a certificate and takes any, if the client has its key.
#[derive(Debug)]
pub(super) struct Asking(pub(super) Arc<ClientRules>);

impl Asking {
    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.0.provider.signature_verification_algorithms
    }
}

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.0.hints
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    checks_signatures!();
}
