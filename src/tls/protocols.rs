//! What may be spoken, in rustls's terms.

use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};

use crate::config::model::TlsProtocols;

/// The cryptography with the chosen suites alone, in their order.
pub(super) fn provider(protocols: &TlsProtocols) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let all = std::mem::take(&mut provider.cipher_suites);
    let chosen = protocols.suites13.iter().chain(&protocols.suites12);
    provider.cipher_suites = chosen
        .filter_map(|suite| all.iter().find(|known| u16::from(known.suite()) == *suite))
        .copied()
        .collect();
    provider
}

/// The chosen versions.
pub(super) fn versions(protocols: &TlsProtocols) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(protocols.tls13, &TLS13), (protocols.tls12, &TLS12)];
    let chosen = all.into_iter().filter(|(on, _)| *on);
    chosen.map(|(_, version)| version).collect()
}
