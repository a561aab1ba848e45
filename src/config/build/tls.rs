//! `ssl_*`: TLS towards clients.

use std::path::PathBuf;
use std::time::Duration;

use super::super::ciphers;
use super::super::error::Result;
use super::super::model::{
    CertificateFiles, ClientCertificates, Demand, Tls, TlsProtocols, UpstreamTls,
};
use super::super::parse::Directive;
use super::super::value;
use super::{Builder, Level};

/// Sessions for which a megabyte of a cache stands (nginx documentation, `ssl_session_cache`).
const SESSIONS_PER_MIB: u64 = 4000;

/// Sessions of a `builtin` cache without a size (nginx documentation, `ssl_session_cache`).
const BUILTIN_SESSIONS: u64 = 20480;

/// What holds of `ssl_*` in a block.
#[derive(Clone)]
pub(super) struct TlsScope {
    certificates: Vec<PathBuf>,
    keys: Vec<PathBuf>,
    /// `None`: clients are not asked for certificates.
    demand: Option<Demand>,
    /// Which ones they would be asked for.
    client_certificates: ClientCertificates,
    settings: Tls,
}

impl Default for TlsScope {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            keys: Vec::new(),
            demand: None,
            client_certificates: ClientCertificates {
                demand: Demand::Required,
                authorities: None,
                trusted: None,
                crl: None,
                verify_depth: 1,
            },
            settings: Tls {
                certificates: Vec::new(),
                password_file: None,
                protocols: all_protocols(),
                prefer_server_ciphers: false,
                sessions: 0,
                tickets: true,
                session_timeout: Duration::from_secs(300),
                handshake_timeout: Duration::from_secs(60),
                rejects: false,
                client_certificates: None,
            },
        }
    }
}

impl TlsScope {
    /// The settings of the server that `directive` begins; `None`: it has no certificate and rejects no handshake.
    ///
    /// # Errors
    /// A certificate has no key, or clients are asked for certificates and nothing says by whom.
    pub(super) fn settings(&self, directive: &Directive) -> Result<Option<Tls>> {
        if self.certificates.is_empty() && !self.settings.rejects {
            // Such a server's clients follow the rules of the default server, and its own would be none.
            let own = Level(&directive.children).one("ssl_verify_client");
            return match (own, self.demand) {
                (Some(own), Some(_)) => Err(own.hinted(
                    "\"ssl_verify_client\" has no effect in a server without \"ssl_certificate\"",
                    "give the server a certificate of its own",
                )),
                _ => Ok(None),
            };
        }
        if let Some(certificate) = self.certificates.get(self.keys.len()) {
            return Err(directive.error(format!(
                "no \"ssl_certificate_key\" is defined for certificate \"{}\"",
                certificate.display()
            )));
        }
        let pairs = self.certificates.iter().zip(&self.keys);
        let certificates = pairs.map(|(certificate, key)| CertificateFiles {
            certificate: certificate.clone(),
            key: key.clone(),
        });
        Ok(Some(Tls {
            certificates: certificates.collect(),
            client_certificates: self.client_certificates(directive)?,
            ..self.settings.clone()
        }))
    }
}

impl TlsScope {
    fn client_certificates(&self, directive: &Directive) -> Result<Option<ClientCertificates>> {
        let Some(demand) = self.demand else {
            return Ok(None);
        };
        let files = &self.client_certificates;
        let someone = files.authorities.is_some() || files.trusted.is_some();
        if !someone && demand != Demand::OptionalNoCa {
            return Err(directive.error(
                "no \"ssl_client_certificate\" or \"ssl_trusted_certificate\" for \"ssl_verify_client\"",
            ));
        }
        Ok(Some(ClientCertificates {
            demand,
            ..files.clone()
        }))
    }
}

impl Builder<'_> {
    /// Reads the `ssl_*` directives of a block into what holds around it.
    pub(super) fn tls_scope(&mut self, level: Level<'_>, scope: &mut TlsScope) -> Result<()> {
        let paths = |name: &str| -> Vec<PathBuf> {
            let all = level.all(name);
            all.map(|directive| self.conf_path(&directive.args[0]))
                .collect()
        };
        for (name, slot) in [
            ("ssl_certificate", &mut scope.certificates),
            ("ssl_certificate_key", &mut scope.keys),
        ] {
            let found = paths(name);
            if !found.is_empty() {
                *slot = found;
            }
        }
        for name in ["ssl_certificate", "ssl_certificate_key"] {
            if let Some(directive) = level.all(name).find(|d| d.args[0].contains('$')) {
                return Err(directive.error(format!(
                    "variables in \"{name}\" are not supported: certificates are read at the start"
                )));
            }
        }
        let files = &mut scope.client_certificates;
        let settings = &mut scope.settings;
        for (name, slot) in [
            ("ssl_password_file", &mut settings.password_file),
            ("ssl_client_certificate", &mut files.authorities),
            ("ssl_trusted_certificate", &mut files.trusted),
            ("ssl_crl", &mut files.crl),
        ] {
            self.file(level, name, slot);
        }
        level.set("ssl_verify_depth", &mut files.verify_depth, depth)?;
        level.set(
            "ssl_verify_client",
            &mut scope.demand,
            |directive| match &directive.args[0][..] {
                "off" => Ok(None),
                "on" => Ok(Some(Demand::Required)),
                "optional" => Ok(Some(Demand::Optional)),
                "optional_no_ca" => Ok(Some(Demand::OptionalNoCa)),
                _ => Err(directive.error(directive.invalid_value_of(0))),
            },
        )?;
        self.tls_protocols(
            level,
            ["ssl_protocols", "ssl_ciphers", "ssl_conf_command"],
            &mut settings.protocols,
        )?;
        level.set(
            "ssl_prefer_server_ciphers",
            &mut settings.prefer_server_ciphers,
            Directive::flag,
        )?;
        level.set("ssl_session_cache", &mut settings.sessions, session_cache)?;
        level.set(
            "ssl_session_tickets",
            &mut settings.tickets,
            Directive::flag,
        )?;
        level.set(
            "ssl_session_timeout",
            &mut settings.session_timeout,
            Directive::time,
        )?;
        level.set(
            "ssl_handshake_timeout",
            &mut settings.handshake_timeout,
            Directive::time,
        )?;
        level.set(
            "ssl_reject_handshake",
            &mut settings.rejects,
            Directive::flag,
        )
    }

    /// Reads the name of a file; an empty one takes back what holds around the block.
    fn file(&self, level: Level<'_>, name: &str, slot: &mut Option<PathBuf>) {
        if let Some(directive) = level.one(name) {
            *slot = match &directive.args[0][..] {
                "" => None,
                path => Some(self.conf_path(path)),
            };
        }
    }

    /// Reads what may be spoken: the directives of protocols, of suites of TLS 1.2 and of OpenSSL's commands.
    fn tls_protocols(
        &mut self,
        level: Level<'_>,
        [protocols, suites, command]: [&str; 3],
        settings: &mut TlsProtocols,
    ) -> Result<()> {
        if let Some(directive) = level.one(protocols) {
            self.protocols(directive, settings)?;
        }
        if let Some(directive) = level.one(suites) {
            let (suites, unknown) = ciphers::parse_list(&directive.args[0]);
            self.chosen_suites(directive, &suites, &unknown)?;
            settings.suites12 = suites;
        }
        for directive in level.all(command) {
            let [name, value] = &directive.args[..] else {
                continue;
            };
            if !name.eq_ignore_ascii_case("Ciphersuites") {
                let message = format!("\"{name}\" of \"{command}\" has no effect");
                self.warn(&directive.place, message);
                continue;
            }
            let (suites, unknown) = ciphers::parse_tls13(value);
            self.chosen_suites(directive, &suites, &unknown)?;
            settings.suites13 = suites;
        }
        Ok(())
    }

    fn protocols(&mut self, directive: &Directive, settings: &mut TlsProtocols) -> Result<()> {
        (settings.tls12, settings.tls13) = (false, false);
        for name in &directive.args {
            match &name[..] {
                "TLSv1.2" => settings.tls12 = true,
                "TLSv1.3" => settings.tls13 = true,
                "SSLv2" | "SSLv3" | "TLSv1" | "TLSv1.1" => {
                    let message = format!("\"{name}\" of \"{}\" is not supported", directive.name);
                    return Err(directive.hinted(
                        message,
                        "it is broken, and no client that is still maintained needs it (RFC 8996)",
                    ));
                }
                other => {
                    return Err(directive.error(format!("invalid value \"{other}\"")));
                }
            }
        }
        Ok(())
    }

    /// Warns of names that stand for no suite; one has to be left.
    fn chosen_suites(
        &mut self,
        directive: &Directive,
        suites: &[ciphers::Suite],
        unknown: &[&str],
    ) -> Result<()> {
        if suites.is_empty() {
            let message = format!(
                "\"{}\" leaves no cipher suite that there is",
                directive.name
            );
            return Err(directive.hinted(
                message,
                "those with forward secrecy and authenticated encryption are there",
            ));
        }
        if !unknown.is_empty() {
            let message = format!(
                "\"{}\" names cipher suites that are not there: {}",
                directive.name,
                unknown.join(", ")
            );
            self.warn(&directive.place, message);
        }
        Ok(())
    }
}

/// What is spoken unless somebody says otherwise.
fn all_protocols() -> TlsProtocols {
    TlsProtocols {
        tls12: true,
        tls13: true,
        suites12: ciphers::all_tls12(),
        suites13: ciphers::all_tls13(),
    }
}

/// What holds of `proxy_ssl_*` in a block.
#[derive(Clone)]
pub(super) struct UpstreamTlsScope {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    /// Its name is empty unless one was given.
    settings: UpstreamTls,
}

impl Default for UpstreamTlsScope {
    fn default() -> Self {
        Self {
            certificate: None,
            key: None,
            settings: UpstreamTls {
                protocols: all_protocols(),
                verify: false,
                trusted: None,
                crl: None,
                verify_depth: 1,
                name: String::new(),
                server_name: false,
                certificate: None,
                password_file: None,
                session_reuse: true,
            },
        }
    }
}

impl UpstreamTlsScope {
    /// The settings for a `proxy_pass` to `proxy_host`.
    ///
    /// # Errors
    /// A certificate has no key.
    pub(super) fn settings(&self, directive: &Directive, proxy_host: &str) -> Result<UpstreamTls> {
        let mut settings = self.settings.clone();
        if settings.name.is_empty() {
            settings.name = without_port(proxy_host).to_owned();
        }
        settings.certificate = match (&self.certificate, &self.key) {
            (None, _) => None,
            (Some(certificate), Some(key)) => Some(CertificateFiles {
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            (Some(certificate), None) => {
                return Err(directive.error(format!(
                    "no \"proxy_ssl_certificate_key\" is defined for certificate \"{}\"",
                    certificate.display()
                )));
            }
        };
        Ok(settings)
    }
}

impl Builder<'_> {
    /// Reads the `proxy_ssl_*` directives of a block into what holds around it.
    pub(super) fn upstream_tls_scope(
        &mut self,
        level: Level<'_>,
        scope: &mut UpstreamTlsScope,
    ) -> Result<()> {
        let settings = &mut scope.settings;
        for (name, slot) in [
            ("proxy_ssl_certificate", &mut scope.certificate),
            ("proxy_ssl_certificate_key", &mut scope.key),
            ("proxy_ssl_trusted_certificate", &mut settings.trusted),
            ("proxy_ssl_crl", &mut settings.crl),
            ("proxy_ssl_password_file", &mut settings.password_file),
        ] {
            self.file(level, name, slot);
        }
        self.tls_protocols(
            level,
            [
                "proxy_ssl_protocols",
                "proxy_ssl_ciphers",
                "proxy_ssl_conf_command",
            ],
            &mut settings.protocols,
        )?;
        level.set("proxy_ssl_verify", &mut settings.verify, Directive::flag)?;
        level.set("proxy_ssl_verify_depth", &mut settings.verify_depth, depth)?;
        level.set(
            "proxy_ssl_server_name",
            &mut settings.server_name,
            Directive::flag,
        )?;
        level.set(
            "proxy_ssl_session_reuse",
            &mut settings.session_reuse,
            Directive::flag,
        )?;
        level.set(
            "proxy_ssl_name",
            &mut settings.name,
            |directive| match &directive.args[0][..] {
                "$proxy_host" => Ok(String::new()),
                name if name.contains('$') => Err(directive.hinted(
                    "variables in \"proxy_ssl_name\" are not supported",
                    "a connection to a server is for everybody who asks for its group",
                )),
                name => Ok(without_port(name).to_owned()),
            },
        )
    }
}

/// `host` of `host:port`, without the brackets of an IPv6 address.
fn without_port(text: &str) -> &str {
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => text,
    }
}

fn depth(directive: &Directive) -> Result<usize> {
    usize::try_from(directive.number()?).map_err(|_| directive.error_of("invalid number"))
}

/// `off`, `none`, or the last of `builtin[:size]` and `shared:name:size`: how many sessions are kept.
fn session_cache(directive: &Directive) -> Result<usize> {
    let mut sessions = 0;
    for text in &directive.args {
        let invalid = || directive.error(format!("invalid session cache \"{text}\""));
        let mut parts = text.split(':');
        let kept = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("off" | "none"), None, None, None) => 0,
            (Some("builtin"), None, None, None) => BUILTIN_SESSIONS,
            (Some("builtin"), Some(number), None, None) => {
                value::number(number).ok_or_else(invalid)?
            }
            (Some("shared"), Some(name), Some(size), None) if !name.is_empty() => {
                let bytes = value::size(size).ok_or_else(invalid)?;
                // nginx wants eight pages.
                if bytes < 8 * 4096 {
                    return Err(directive.error(format!("session cache \"{name}\" is too small")));
                }
                (bytes * SESSIONS_PER_MIB) >> 20
            }
            _ => return Err(invalid()),
        };
        sessions = usize::try_from(kept).map_err(|_| invalid())?;
    }
    Ok(sessions)
}
