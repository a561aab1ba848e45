//! `syslog:server=…` of `access_log` and `error_log`.

use super::super::address::Address;
use super::super::error::Result;
use super::super::model::Syslog;
use super::super::parse::Directive;
use super::Builder;

const DEFAULT_PORT: u16 = 514;

/// Longest tag of RFC 3164 section 4.1.3.
const TAG_BYTES_MAX: usize = 32;

/// By their numbers, as nginx names them.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "intern", "lpr", "news", "uucp", "clock", "authpriv",
    "ftp", "ntp", "audit", "alert", "cron", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];
const LOCAL7: u8 = 23;

/// The same.
const SEVERITIES: [&str; 8] = [
    "emerg", "alert", "crit", "error", "warn", "notice", "info", "debug",
];
const INFO: u8 = 6;

impl Builder<'_> {
    /// Reads what follows `syslog:`.
    pub(super) fn syslog(&self, directive: &Directive, parameters: &str) -> Result<Syslog> {
        let (mut server, mut facility, mut severity, mut tag) = (None, None, None, None);
        let mut hostname = true;
        for parameter in parameters.split(',') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let is_double = match name {
                "server" => server.is_some(),
                "facility" => facility.is_some(),
                "severity" => severity.is_some(),
                "tag" => tag.is_some(),
                _ => false,
            };
            if is_double {
                return Err(directive.error(format!("duplicate syslog \"{name}\"")));
            }
            let number = |words: &[&str]| {
                let found = words.iter().position(|&word| word == value);
                let found = found.and_then(|number| u8::try_from(number).ok());
                let message = format!("unknown syslog {name} \"{value}\"");
                found.ok_or_else(|| directive.error(message))
            };
            match name {
                "server" => {
                    let failed =
                        |what| directive.error(format!("{what} in syslog server \"{value}\""));
                    let address = Address::parse(value, false).map_err(failed)?;
                    if address.port == Some(0) {
                        return Err(failed("invalid port"));
                    }
                    let found = address.resolve(DEFAULT_PORT, self.resolver);
                    server = found.map_err(failed)?.into_iter().next();
                }
                "facility" => facility = Some(number(&FACILITIES)?),
                "severity" => severity = Some(number(&SEVERITIES)?),
                "tag" => tag = Some(checked_tag(directive, value)?),
                "nohostname" if parameter == name => hostname = false,
                _ => {
                    let message = format!("unknown syslog parameter \"{parameter}\"");
                    return Err(directive.error(message));
                }
            }
        }
        Ok(Syslog {
            server: server.ok_or_else(|| directive.error("no syslog server specified"))?,
            facility: facility.unwrap_or(LOCAL7),
            severity: severity.unwrap_or(INFO),
            tag: tag.unwrap_or_else(|| "nginx".to_owned()),
            hostname,
        })
    }
}

fn checked_tag(directive: &Directive, tag: &str) -> Result<String> {
    if tag.len() > TAG_BYTES_MAX {
        let message = format!("syslog tag length exceeds {TAG_BYTES_MAX}");
        return Err(directive.error(message));
    }
    if !tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        let message = "syslog \"tag\" only allows alphanumeric characters and underscore";
        return Err(directive.error(message));
    }
    Ok(tag.to_owned())
}
