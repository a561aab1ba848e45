//! Certificates for one test, and clients that believe them.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::front::Front;
use crate::peer::Peer;

/// A directory of certificates that sign themselves.
pub(crate) struct Pki {
    directory: tempfile::TempDir,
    roots: RootCertStore,
}

impl Pki {
    /// With one certificate, called `mail`, for `mail.test` and 127.0.0.1.
    pub(crate) fn new() -> Self {
        let mut pki = Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            roots: RootCertStore::empty(),
        };
        pki.add("mail", &["mail.test"]);
        pki
    }

    /// Makes another certificate, and its key beside it, for names and for 127.0.0.1.
    pub(crate) fn add(&mut self, called: &str, names: &[&str]) {
        self.add_until(called, names, None, IsCa::NoCa);
    }

    /// Makes another one that may sign others, as `openssl req -x509` does.
    pub(crate) fn add_authority(&mut self, called: &str, names: &[&str], ends: SystemTime) {
        let is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.add_until(called, names, Some(ends), is_ca);
    }

    /// Makes one for `mail.test` that ends in so many days.
    pub(crate) fn add_ending(&mut self, called: &str, days: u64) {
        let end = SystemTime::now() + Duration::from_secs(days * 86_400 - 60);
        self.add_until(called, &["mail.test"], Some(end), IsCa::NoCa);
    }

    /// Makes one for `mail.test` that ended yesterday.
    pub(crate) fn add_expired(&mut self, called: &str) {
        let end = SystemTime::now() - Duration::from_secs(86_400);
        self.add_until(called, &["mail.test"], Some(end), IsCa::NoCa);
    }

    fn add_until(&mut self, called: &str, names: &[&str], end: Option<SystemTime>, is_ca: IsCa) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        params.subject_alt_names.push(SanType::IpAddress(loopback));
        if let Some(end) = end {
            params.not_after = end.into();
        }
        params.is_ca = is_ca;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        self.roots
            .add(CertificateDer::from(certificate.der().to_vec()))
            .expect("a root");
        self.write(&format!("{called}.pem"), &certificate.pem());
        self.write(&format!("{called}.key"), &key.serialize_pem());
    }

    /// Makes a root (`CALLED-root.pem`), so many authorities below it, and the certificate of `exchange.test`, with the lists of what
    /// each of them revoked before its file: `CALLED-none.crl` and, with the certificate in it, `CALLED.crl`.
    pub(crate) fn add_chain(&mut self, called: &str, authorities: usize) {
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let (params, root_key) = (authority(format!("{called} root")), key());
        let root = params.self_signed(&root_key).expect("a root");
        self.write(&format!("{called}-root.pem"), &root.pem());
        let mut issuers = vec![Issuer::new(params, root_key)];
        let mut chain = Vec::new();
        for nth in 0..authorities {
            let (params, key) = (authority(format!("{called} {nth}")), key());
            let certificate = params.signed_by(&key, &issuers[nth]);
            chain.insert(0, certificate.expect("a certificate").pem());
            issuers.push(Issuer::new(params, key));
        }
        let mut params = CertificateParams::new(vec!["exchange.test".to_owned()]).expect("a name");
        params.serial_number = Some(SerialNumber::from(4711));
        let leaf_key = key();
        let leaf = params.signed_by(&leaf_key, issuers.last().expect("a root"));
        chain.insert(0, leaf.expect("a certificate").pem());
        self.write(&format!("{called}.pem"), &chain.concat());
        self.write(&format!("{called}.key"), &leaf_key.serialize_pem());
        for (name, revokes) in [
            (format!("{called}-none.crl"), false),
            (format!("{called}.crl"), true),
        ] {
            let last = issuers.len() - 1;
            let lists = issuers.iter().enumerate().map(|(nth, issuer)| {
                let revoked = (revokes && nth == last).then_some(4711);
                list_of(issuer, revoked)
            });
            let lists: String = lists.collect();
            self.write(&name, &lists);
        }
    }

    /// Makes an authority, `CALLED-root.pem`, that signs certificates for people.
    pub(crate) fn authority(&self, called: &str) -> Authority {
        let params = authority(format!("{called} root"));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let root = params.self_signed(&key).expect("a root");
        self.write(&format!("{called}-root.pem"), &root.pem());
        Authority(Issuer::new(params, key))
    }

    /// As [`Pki::config`], for a client that shows the certificate `called` to whoever asks for one.
    pub(crate) fn config_of(
        &self,
        called: &str,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let certificate = CertificateDer::from_pem_file(self.path(&format!("{called}.pem")));
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{called}.key")));
        let config = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(vec![certificate.expect("it")], key.expect("its key"))
            .expect("they belong together");
        Arc::new(config)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// `ssl_certificate …; ssl_certificate_key …;`
    pub(crate) fn directives(&self, called: &str) -> String {
        let (certificate, key) = (
            self.path(&format!("{called}.pem")),
            self.path(&format!("{called}.key")),
        );
        directives(&certificate, &key)
    }

    /// What a client begins with that believes all of them.
    pub(crate) fn config(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// A client that asks for `name`.
    pub(crate) fn client(&self, front: &Front, name: &str) -> Peer {
        self.try_client(front, name).expect("a handshake")
    }

    pub(crate) fn try_client(&self, front: &Front, name: &str) -> io::Result<Peer> {
        Peer::connect_tls(front.addr(0), name, self.config(rustls::ALL_VERSIONS))
    }
}

/// Who signs the certificates of people.
pub(crate) struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// Makes the certificate of somebody, valid until so many days from now (before it, if negative), with its key beside it.
    pub(crate) fn sign(&self, pki: &Pki, called: &str, serial: u64, days: i64) {
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CountryName, "DE");
        name.push(DnType::OrganizationName, "Example, Ltd.");
        name.push(DnType::CommonName, format!("{called} M\u{fc}ller"));
        params.distinguished_name = name;
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = date_time_ymd(2020, 2, 3);
        let day = Duration::from_secs(86_400);
        let now = SystemTime::now();
        let end = match u32::try_from(days) {
            Ok(days) => now + day * days + day / 2,
            Err(_) => now - day * u32::try_from(-days).expect("few days"),
        };
        params.not_after = end.into();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        pki.write(&format!("{called}.pem"), &certificate.pem());
        pki.write(&format!("{called}.key"), &key.serialize_pem());
    }

    /// Writes the list of the one certificate that is revoked.
    pub(crate) fn revoke(&self, pki: &Pki, file: &str, serial: u64) {
        pki.write(file, &list_of(&self.0, Some(serial)));
    }
}

/// What makes a certificate that of an authority.
fn authority(name: String) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// An authority's list of the certificates that it revoked, as PEM: none, or the one with this number.
fn list_of(issuer: &Issuer<'_, KeyPair>, revoked: Option<u64>) -> String {
    let revoked = revoked.map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: date_time_ymd(2026, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(4000, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.into_iter().collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(issuer).expect("a list");
    list.pem().expect("as PEM")
}

pub(crate) fn directives(certificate: &Path, key: &Path) -> String {
    format!(
        "ssl_certificate {}; ssl_certificate_key {};",
        certificate.display(),
        key.display()
    )
}
