//! `ssl_*`: TLS towards clients.

use std::path::PathBuf;
use std::time::Duration;

use super::super::ciphers;
use super::super::error::Result;
use super::super::model::{CertificateFiles, Tls};
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
    settings: Tls,
}

impl Default for TlsScope {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            keys: Vec::new(),
            settings: Tls {
                certificates: Vec::new(),
                password_file: None,
                tls12: true,
                tls13: true,
                suites12: ciphers::all_tls12(),
                suites13: ciphers::all_tls13(),
                prefer_server_ciphers: false,
                sessions: 0,
                tickets: true,
                session_timeout: Duration::from_secs(300),
                handshake_timeout: Duration::from_secs(60),
                rejects: false,
            },
        }
    }
}

impl TlsScope {
    /// The settings of the server that `directive` begins; `None`: it has no certificate and rejects no handshake.
    ///
    /// # Errors
    /// A certificate has no key.
    pub(super) fn settings(&self, directive: &Directive) -> Result<Option<Tls>> {
        if self.certificates.is_empty() && !self.settings.rejects {
            return Ok(None);
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
            ..self.settings.clone()
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
        let settings = &mut scope.settings;
        if let Some(directive) = level.one("ssl_password_file") {
            settings.password_file = Some(self.conf_path(&directive.args[0]));
        }
        if let Some(directive) = level.one("ssl_protocols") {
            self.protocols(directive, settings)?;
        }
        if let Some(directive) = level.one("ssl_ciphers") {
            let (suites, unknown) = ciphers::parse_list(&directive.args[0]);
            self.chosen_suites(directive, &suites, &unknown)?;
            settings.suites12 = suites;
        }
        for directive in level.all("ssl_conf_command") {
            let [name, value] = &directive.args[..] else {
                continue;
            };
            if !name.eq_ignore_ascii_case("Ciphersuites") {
                let message = format!("\"{name}\" of \"ssl_conf_command\" has no effect");
                self.warn(&directive.place, message);
                continue;
            }
            let (suites, unknown) = ciphers::parse_tls13(value);
            self.chosen_suites(directive, &suites, &unknown)?;
            settings.suites13 = suites;
        }
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

    fn protocols(&mut self, directive: &Directive, settings: &mut Tls) -> Result<()> {
        (settings.tls12, settings.tls13) = (false, false);
        for name in &directive.args {
            match &name[..] {
                "TLSv1.2" => settings.tls12 = true,
                "TLSv1.3" => settings.tls13 = true,
                "SSLv2" | "SSLv3" | "TLSv1" | "TLSv1.1" => {
                    let message = format!("\"{name}\" of \"ssl_protocols\" is not supported");
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
