//! The values of `$ssl_*`.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};

use crate::config::ciphers;
use crate::config::variable::{ClientCertificateVariable, TlsVariable};
use crate::tls::{Agreed, CertificateFacts, Presented, Verdict};

/// What was agreed upon with a client, in OpenSSL's words. Nothing is there of what only nginx's OpenSSL knows.
pub(super) fn of_session(variable: TlsVariable, agreed: &Agreed<'_>, out: &mut Vec<u8>) -> bool {
    let session = agreed.session;
    let text = match variable {
        TlsVariable::Protocol => match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => Some("TLSv1.2"),
            Some(ProtocolVersion::TLSv1_3) => Some("TLSv1.3"),
            _ => None,
        },
        TlsVariable::Cipher => session
            .negotiated_cipher_suite()
            .and_then(|suite| ciphers::name(suite.suite().into())),
        TlsVariable::Curve => session
            .negotiated_key_exchange_group()
            .and_then(|group| curve(group.name())),
        TlsVariable::SessionReused => match session.handshake_kind() {
            Some(HandshakeKind::Resumed) => Some("r"),
            _ => Some("."),
        },
        TlsVariable::AlpnProtocol => session
            .alpn_protocol()
            .and_then(|name| std::str::from_utf8(name).ok()),
        TlsVariable::ServerName => agreed.server_name,
        // None is ever taken.
        TlsVariable::EarlyData => None,
        TlsVariable::SessionId => {
            let digits = agreed.session_id.iter();
            out.extend(digits.flat_map(|byte| format!("{byte:02x}").into_bytes()));
            return !agreed.session_id.is_empty();
        }
        TlsVariable::Ciphers => {
            let offered = agreed.offered.map(|offered| &offered.suites[..]);
            return list(out, offered, ciphers::name);
        }
        TlsVariable::Curves => {
            let offered = agreed.offered.map(|offered| &offered.groups[..]);
            return list(out, offered, |group| curve(NamedGroup::from(group)));
        }
    };
    text.map(|text| out.extend_from_slice(text.as_bytes()))
        .is_some()
}

/// Names between colons; what has none by its number.
fn list(
    out: &mut Vec<u8>,
    numbers: Option<&[u16]>,
    name: impl Fn(u16) -> Option<&'static str>,
) -> bool {
    let Some(numbers) = numbers else {
        return false;
    };
    for (nth, &number) in numbers.iter().enumerate() {
        if nth > 0 {
            out.push(b':');
        }
        match name(number) {
            Some(name) => out.extend_from_slice(name.as_bytes()),
            None => out.extend_from_slice(format!("0x{number:04x}").as_bytes()),
        }
    }
    true
}

/// What OpenSSL calls a group.
fn curve(group: NamedGroup) -> Option<&'static str> {
    match group {
        NamedGroup::secp256r1 => Some("prime256v1"),
        NamedGroup::secp384r1 => Some("secp384r1"),
        NamedGroup::secp521r1 => Some("secp521r1"),
        NamedGroup::X25519 => Some("X25519"),
        NamedGroup::X448 => Some("X448"),
        NamedGroup::FFDHE2048 => Some("ffdhe2048"),
        NamedGroup::FFDHE3072 => Some("ffdhe3072"),
        NamedGroup::FFDHE4096 => Some("ffdhe4096"),
        NamedGroup::FFDHE6144 => Some("ffdhe6144"),
        NamedGroup::FFDHE8192 => Some("ffdhe8192"),
        NamedGroup::X25519MLKEM768 => Some("X25519MLKEM768"),
        _ => None,
    }
}

/// Percent-encoded, but for the unreserved characters (RFC 3986 section 2.3).
fn escaped(text: &str) -> String {
    let bytes = text.bytes();
    let one = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    bytes.map(one).collect()
}

/// What the client's certificate says, or what it is worth.
pub(super) fn of_certificate(
    variable: ClientCertificateVariable,
    agreed: &Agreed<'_>,
    presented: Option<&Presented>,
    out: &mut Vec<u8>,
) -> bool {
    use ClientCertificateVariable as Fact;
    if variable == Fact::Verify {
        let words = match presented.map_or(Verdict::None, Presented::verdict) {
            Verdict::None => "NONE".to_owned(),
            Verdict::Valid => "SUCCESS".to_owned(),
            Verdict::Invalid(_, words) => format!("FAILED:{words}"),
        };
        out.extend_from_slice(words.as_bytes());
        return true;
    }
    let leaf = agreed.session.peer_certificates().and_then(<[_]>::first);
    let Some(facts) = leaf.and_then(|leaf| CertificateFacts::of(leaf)) else {
        return false;
    };
    let text = match variable {
        Fact::Verify => return false,
        Fact::Raw => facts.pem(),
        // Each line but the first begins with a tab, so that it can be a field.
        Fact::Folded => facts.pem().trim_end().replace('\n', "\n\t"),
        Fact::Escaped => escaped(&facts.pem()),
        Fact::Fingerprint => facts.fingerprint(),
        Fact::Subject => facts.subject(),
        Fact::Issuer => facts.issuer(),
        Fact::SubjectLegacy => facts.subject_in_slashes(),
        Fact::IssuerLegacy => facts.issuer_in_slashes(),
        Fact::Serial => facts.serial(),
        Fact::Start => facts.start(),
        Fact::End => facts.end(),
        Fact::DaysLeft => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.unwrap_or_default().as_secs().cast_signed();
            facts.days_left(now).to_string()
        }
    };
    out.extend_from_slice(text.as_bytes());
    true
}
