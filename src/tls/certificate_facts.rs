//! What a certificate says, in the words that OpenSSL and nginx have for it.

use std::fmt::Write as _;

use pkcs8::der::pem::{LineEnding, encode_string};
use rustls::CertificateError;
use rustls::pki_types::UnixTime;
use sha1::{Digest as _, Sha1};
use x509_parser::asn1_rs::{Any, BmpString, Class, Tag, ToDer as _};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate, X509Name};
use x509_parser::x509::AttributeTypeAndValue;

/// A certificate as DER, for `$ssl_client_*`.
pub struct CertificateFacts<'a> {
    der: &'a [u8],
    parsed: X509Certificate<'a>,
}

impl<'a> CertificateFacts<'a> {
    /// Reads a certificate. `None`: it is none.
    pub fn of(der: &'a [u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        Some(Self { der, parsed })
    }

    /// Whether its subject is said to be its issuer.
    pub(super) fn names_itself(&self) -> bool {
        self.parsed.subject() == self.parsed.issuer()
    }

    /// Whether it says that it may sign others.
    pub(super) fn is_authority(&self) -> bool {
        self.parsed.is_ca()
    }

    /// Whether a time is within its own.
    ///
    /// # Errors
    /// It has not begun, or is over.
    pub(super) fn verify_dates(&self, now: UnixTime) -> Result<(), CertificateError> {
        let validity = self.parsed.validity();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if seconds < validity.not_before.timestamp() {
            return Err(CertificateError::NotValidYet);
        }
        match seconds > validity.not_after.timestamp() {
            true => Err(CertificateError::Expired),
            false => Ok(()),
        }
    }

    /// PEM, with a line end behind it.
    pub fn pem(&self) -> String {
        encode_string("CERTIFICATE", LineEnding::LF, self.der).unwrap_or_default()
    }

    /// SHA-1 of the certificate in hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        hexadecimal(&Sha1::digest(self.der), false)
    }

    /// The serial number in hexadecimal digits, as OpenSSL writes it.
    pub fn serial(&self) -> String {
        let bytes = self.parsed.raw_serial();
        let start = bytes.iter().position(|byte| *byte != 0);
        let digits = hexadecimal(&bytes[start.unwrap_or(bytes.len())..], true);
        match digits.is_empty() {
            true => "00".to_owned(),
            false => digits,
        }
    }

    /// The subject (RFC 2253).
    pub fn subject(&self) -> String {
        rfc2253(self.parsed.subject())
    }

    /// The issuer (RFC 2253).
    pub fn issuer(&self) -> String {
        rfc2253(self.parsed.issuer())
    }

    /// The subject as `/C=…/CN=…`.
    pub fn subject_in_slashes(&self) -> String {
        in_slashes(self.parsed.subject())
    }

    /// The issuer as `/C=…/CN=…`.
    pub fn issuer_in_slashes(&self) -> String {
        in_slashes(self.parsed.issuer())
    }

    /// From when it is valid, such as `Nov  6 01:02:03 2026 GMT`.
    pub fn start(&self) -> String {
        shown(self.parsed.validity().not_before)
    }

    /// Until when it is valid.
    pub fn end(&self) -> String {
        shown(self.parsed.validity().not_after)
    }

    /// Whole days from `now`, in seconds since 1970, until it ends; 0 when it has ended.
    pub fn days_left(&self, now: i64) -> i64 {
        let end = self.parsed.validity().not_after.timestamp();
        ((end - now) / 86_400).max(0)
    }
}

fn hexadecimal(bytes: &[u8], upper: bool) -> String {
    bytes.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string does not fail.
        let _ = match upper {
            true => write!(digits, "{byte:02X}"),
            false => write!(digits, "{byte:02x}"),
        };
        digits
    })
}

/// A time as OpenSSL prints it.
fn shown(time: ASN1Time) -> String {
    let Ok(time) = jiff::Timestamp::from_second(time.timestamp()) else {
        return "Bad time value".to_owned();
    };
    time.strftime("%b %e %H:%M:%S %Y GMT").to_string()
}

/// OpenSSL's short name of an attribute, or its number.
fn attribute(of: &AttributeTypeAndValue<'_>) -> String {
    let oid = of.attr_type();
    match oid2abbrev(oid, oid_registry()) {
        Ok(name) => name.to_owned(),
        Err(_) => oid.to_id_string(),
    }
}

/// A value as UTF-8 bytes. `None`: it is no text.
fn text(value: &Any<'_>) -> Option<Vec<u8>> {
    if value.class() != Class::Universal {
        return None;
    }
    match value.tag() {
        Tag::BmpString => {
            let text = BmpString::try_from(value).ok()?;
            Some(text.string().into_bytes())
        }
        // Latin-1 in practice.
        Tag::T61String => {
            let characters = value.data.iter().map(|byte| char::from(*byte));
            Some(characters.collect::<String>().into_bytes())
        }
        Tag::Utf8String
        | Tag::PrintableString
        | Tag::Ia5String
        | Tag::NumericString
        | Tag::VisibleString => Some(value.data.to_vec()),
        _ => None,
    }
}

/// The last part first, as OpenSSL's `XN_FLAG_RFC2253` has it.
fn rfc2253(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_rdn()
        .map(|rdn| {
            let mut values: Vec<String> = rdn.iter().map(one_rfc2253).collect();
            values.reverse();
            values.join("+")
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

fn one_rfc2253(of: &AttributeTypeAndValue<'_>) -> String {
    let name = attribute(of);
    let known = !name.starts_with(|c: char| c.is_ascii_digit());
    match text(of.attr_value()) {
        Some(value) if known => format!("{name}={}", escaped(&value)),
        // What it means is not known: RFC 2253 section 2.4.
        _ => {
            let der = of.attr_value().to_der_vec().unwrap_or_default();
            format!("{name}=#{}", hexadecimal(&der, true))
        }
    }
}

/// Escapes as RFC 2253 section 2.4 says; what is not printable ASCII by its bytes.
fn escaped(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len());
    for (at, &byte) in value.iter().enumerate() {
        let edge = at == 0 || at + 1 == value.len();
        let special = matches!(byte, b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';')
            || (byte == b' ' && edge)
            || (byte == b'#' && at == 0);
        match byte {
            b' '..=b'~' => {
                if special {
                    out.push('\\');
                }
                out.push(char::from(byte));
            }
            _ => drop(write!(out, "\\{byte:02X}")),
        }
    }
    out
}

/// `/` before each part, as OpenSSL's `X509_NAME_oneline` has it.
fn in_slashes(name: &X509Name<'_>) -> String {
    let mut out = String::new();
    for of in name.iter_attributes() {
        // Writing to a string does not fail.
        let _ = write!(out, "/{}=", attribute(of));
        for &byte in of.attr_value().data {
            match byte {
                b' '..=b'~' => out.push(char::from(byte)),
                _ => drop(write!(out, "\\x{byte:02X}")),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SerialNumber};

    use super::*;

    fn certificate(serial: &[u8]) -> Vec<u8> {
        let mut name = DistinguishedName::new();
        let printable = DnValue::PrintableString("DE".try_into().expect("printable"));
        name.push(DnType::CountryName, printable);
        name.push(DnType::OrganizationName, "Ex, \"ample\"");
        name.push(DnType::CommonName, "#Jürgen ");
        name.push(DnType::CustomDnType(vec![1, 2, 3, 4]), "own");
        let mut params = CertificateParams::default();
        params.distinguished_name = name;
        params.serial_number = Some(SerialNumber::from_slice(serial));
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2027, 12, 31);
        let key = KeyPair::generate().expect("a key");
        params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .to_vec()
    }

    #[test]
    fn facts_are_in_openssl_s_words() {
        let der = certificate(&[0x0a, 0xbc]);
        let facts = CertificateFacts::of(&der).expect("a certificate");
        assert_eq!(
            facts.subject(),
            "1.2.3.4=#0C036F776E,CN=\\#J\\C3\\BCrgen\\ ,O=Ex\\, \\\"ample\\\",C=DE"
        );
        assert_eq!(facts.subject(), facts.issuer());
        assert_eq!(
            facts.subject_in_slashes(),
            "/C=DE/O=Ex, \"ample\"/CN=#J\\xC3\\xBCrgen /1.2.3.4=own"
        );
        assert_eq!(facts.serial(), "0ABC");
        assert_eq!(facts.start(), "Jan  2 00:00:00 2026 GMT");
        assert_eq!(facts.end(), "Dec 31 00:00:00 2027 GMT");
        let end = 1_830_211_200;
        assert_eq!(facts.days_left(end - 86_400), 1);
        assert_eq!(facts.days_left(end - 86_399), 0);
        assert_eq!(facts.days_left(end + 86_400 * 3), 0);
        assert_eq!(facts.fingerprint().len(), 40);
        assert!(facts.pem().starts_with("-----BEGIN CERTIFICATE-----\nMII"));
        assert!(facts.pem().ends_with("\n-----END CERTIFICATE-----\n"));
        assert!(CertificateFacts::of(&der[..der.len() / 2]).is_none());
    }

    #[test]
    fn serials_have_no_zero_in_front() {
        let der = certificate(&[0x80]);
        let facts = CertificateFacts::of(&der).expect("a certificate");
        assert_eq!(facts.serial(), "80");
    }
}
