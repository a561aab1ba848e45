//! The `proxy_*` directives.

use std::time::Duration;

use crate::limit::failures::FailLimits;
use crate::pin;

use super::super::address::Address;
use super::super::error::Result;
use super::super::model::{
    ChannelBinding, Group, NextUpstream, PassTarget, ProxyPass, ProxySettings, Redirect,
    RedirectFrom,
};
use super::super::parse::Directive;
use super::super::template::{Part, Template};
use super::super::value;
use super::super::variable::Variable;
use super::tls::UpstreamTlsScope;
use super::upstream::pin_limits;
use super::{Builder, Level, level, regex};

/// Fields of an answer that nginx does not pass on, in lower case.
const HIDDEN: [&str; 8] = [
    "date",
    "server",
    "x-pad",
    "x-accel-expires",
    "x-accel-redirect",
    "x-accel-limit-rate",
    "x-accel-buffering",
    "x-accel-charset",
];

/// The inherited `proxy_*` values, before it is known where a location passes to.
#[derive(Clone)]
pub(super) struct ProxyScope {
    /// Without nginx's default fields, hidden fields, redirects and `ntlm`.
    settings: ProxySettings,
    hide: Vec<String>,
    pass: Vec<String>,
    redirects: Vec<RedirectRule>,
    pins: bool,
    limits: pin::Limits,
    pub(super) tls: UpstreamTlsScope,
}

/// A `proxy_redirect`; `off` is none.
#[derive(Clone)]
enum RedirectRule {
    Default,
    Given(Redirect),
}

/// A `proxy_pass`, and what else depends on how it is written.
pub(super) struct Pass {
    pub(super) pass: ProxyPass,
    /// What `proxy_redirect default` stands for; `None` with variables.
    pub(super) redirect: Option<Redirect>,
}

impl Default for ProxyScope {
    fn default() -> Self {
        Self {
            settings: ProxySettings {
                set_headers: Vec::new(),
                hidden: Vec::new(),
                connect_timeout: Duration::from_secs(60),
                read_timeout: Duration::from_secs(60),
                send_timeout: Duration::from_secs(60),
                next_upstream: NextUpstream {
                    error: true,
                    timeout: true,
                    invalid_header: false,
                    non_idempotent: false,
                    statuses: Vec::new(),
                },
                next_upstream_tries: 0,
                next_upstream_timeout: None,
                redirects: Vec::new(),
                bind: None,
                socket_keepalive: false,
                ntlm: None,
                pins_per_client: 8,
                fail_delay: None,
                refuse_via: false,
                log_user: false,
                channel_binding: ChannelBinding::Warn,
            },
            hide: Vec::new(),
            pass: Vec::new(),
            redirects: vec![RedirectRule::Default],
            pins: false,
            limits: pin::Limits::default(),
            tls: UpstreamTlsScope::default(),
        }
    }
}

/// Fields that a request has once: a second line would say something else to some server.
const ONCE: [&str; 6] = [
    "Authorization",
    "Connection",
    "Expect",
    "Host",
    "Proxy-Authorization",
    "Upgrade",
];

impl ProxyScope {
    /// The settings of a location; `default_redirect` is what `proxy_redirect default` means there.
    pub(super) fn settings(&self, default_redirect: Option<Redirect>) -> ProxySettings {
        let mut settings = self.settings.clone();
        let is_host = |(name, _): &(String, Template)| name.eq_ignore_ascii_case("host");
        if !settings.set_headers.iter().any(is_host) {
            let host = Template {
                parts: vec![Part::Variable(Variable::ProxyHost)],
            };
            settings.set_headers.push(("Host".to_owned(), host));
        }
        let hidden = HIDDEN
            .map(str::to_owned)
            .into_iter()
            .chain(self.hide.iter().cloned());
        settings.hidden = hidden.filter(|name| !self.pass.contains(name)).collect();
        let rules = self.redirects.iter();
        settings.redirects = rules
            .filter_map(|rule| match rule {
                RedirectRule::Default => default_redirect.clone(),
                RedirectRule::Given(redirect) => Some(redirect.clone()),
            })
            .collect();
        settings.ntlm = self.pins.then_some(self.limits);
        settings
    }
}

impl Builder<'_> {
    /// Reads the `proxy_*` directives of a block.
    pub(super) fn proxy_scope(&mut self, level: Level<'_>, scope: &mut ProxyScope) -> Result<()> {
        if level.has("proxy_set_header") {
            scope.settings.set_headers = self.set_headers(level)?;
        }
        let lower = |d: &Directive| d.args[0].to_ascii_lowercase();
        if level.has("proxy_hide_header") {
            scope.hide = level.all("proxy_hide_header").map(lower).collect();
        }
        if level.has("proxy_pass_header") {
            scope.pass = level.all("proxy_pass_header").map(lower).collect();
        }
        if level.has("proxy_redirect") {
            scope.redirects = self.redirects(level)?;
        }
        self.upstream_tls_scope(level, &mut scope.tls)?;
        let settings = &mut scope.settings;
        level.set(
            "proxy_connect_timeout",
            &mut settings.connect_timeout,
            Directive::time,
        )?;
        level.set(
            "proxy_read_timeout",
            &mut settings.read_timeout,
            Directive::time,
        )?;
        level.set(
            "proxy_send_timeout",
            &mut settings.send_timeout,
            Directive::time,
        )?;
        level.set(
            "proxy_next_upstream",
            &mut settings.next_upstream,
            next_upstream,
        )?;
        level.set(
            "proxy_next_upstream_tries",
            &mut settings.next_upstream_tries,
            |d| u32::try_from(d.number()?).map_err(|_| d.error_of("invalid number")),
        )?;
        level.set(
            "proxy_next_upstream_timeout",
            &mut settings.next_upstream_timeout,
            |d| Ok(Some(d.time()?).filter(|time| !time.is_zero())),
        )?;
        level.set(
            "proxy_socket_keepalive",
            &mut settings.socket_keepalive,
            Directive::flag,
        )?;
        level.set("proxy_bind", &mut settings.bind, |d| self.bind(d))?;
        level::positive(level, "ntlm_pins_per_client", &mut settings.pins_per_client)?;
        level.set("ntlm_fail_delay", &mut settings.fail_delay, fail_delay)?;
        level.set("ntlm_refuse_via", &mut settings.refuse_via, Directive::flag)?;
        level.set("ntlm_log_user", &mut settings.log_user, Directive::flag)?;
        level.set(
            "ntlm_channel_binding",
            &mut settings.channel_binding,
            channel_binding,
        )?;
        scope.pins |= level.has("ntlm");
        pin_limits(level, &mut scope.limits)
    }

    fn set_headers(&mut self, level: Level<'_>) -> Result<Vec<(String, Template)>> {
        let mut headers: Vec<(String, Template)> = Vec::new();
        for directive in level.all("proxy_set_header") {
            let (name, value) = self.header(directive)?;
            let twice = headers
                .iter()
                .any(|(set, _)| set.eq_ignore_ascii_case(&name));
            if twice && ONCE.iter().any(|once| once.eq_ignore_ascii_case(&name)) {
                let message = format!("\"proxy_set_header\" names \"{name}\" twice");
                return Err(directive.error(message));
            }
            match &name.to_ascii_lowercase()[..] {
                // The field passes as it came, and rendering it would give the scheme alone.
                "authorization" if is_authorization(&value) => continue,
                "content-length" | "transfer-encoding" => {
                    let message = format!(
                        "\"proxy_set_header {name}\" has no effect: bodies are framed by what is sent"
                    );
                    self.warn(&directive.place, message);
                    continue;
                }
                _ => headers.push((name, value)),
            }
        }
        Ok(headers)
    }

    fn redirects(&mut self, level: Level<'_>) -> Result<Vec<RedirectRule>> {
        let mut rules = Vec::new();
        let mut off = false;
        for directive in level.all("proxy_redirect") {
            if off {
                return Err(directive.error_of("is duplicate"));
            }
            let rule = match &directive.args[..] {
                [word] if word == "off" => {
                    off = true;
                    continue;
                }
                [word] if word == "default" => RedirectRule::Default,
                [from, to] => RedirectRule::Given(self.redirect(directive, from, to)?),
                args => return Err(directive.invalid_parameter(&args[0])),
            };
            rules.push(rule);
        }
        Ok(rules)
    }

    fn redirect(&self, directive: &Directive, from: &str, to: &str) -> Result<Redirect> {
        let Some(pattern) = from.strip_prefix('~') else {
            return Ok(Redirect {
                from: RedirectFrom::Prefix(self.template(directive, from)?),
                to: self.template(directive, to)?,
            });
        };
        let regex = match pattern.strip_prefix('*') {
            Some(pattern) => regex(directive, pattern, true)?,
            None => regex(directive, pattern, false)?,
        };
        let to = self.captured_template(directive, to, &regex)?;
        let from = RedirectFrom::Regex(regex);
        Ok(Redirect { from, to })
    }

    fn bind(&self, directive: &Directive) -> Result<Option<Template>> {
        if let Some(other) = directive.args.get(1) {
            let message = format!("invalid parameter \"{other}\"");
            return Err(directive.hinted(message, "upstream servers see the front's address"));
        }
        if directive.args[0] == "off" {
            return Ok(None);
        }
        let address = self.template(directive, &directive.args[0])?;
        if let Some(text) = address.as_literal()
            && text.parse::<std::net::IpAddr>().is_err()
        {
            return Err(directive.error(format!("invalid address \"{text}\"")));
        }
        Ok(Some(address))
    }

    /// Reads a `proxy_pass`. `prefix` is the path of the location, empty if it has none that a URI could replace.
    pub(super) fn pass(
        &mut self,
        directive: &Directive,
        prefix: &str,
        tls: &UpstreamTlsScope,
    ) -> Result<Pass> {
        let url = &directive.args[0];
        let template = self.template(directive, url)?;
        let scheme = |name: &str| {
            let start = url.get(..name.len())?;
            start.eq_ignore_ascii_case(name).then(|| &url[name.len()..])
        };
        let secure = scheme("https://");
        if template.as_literal().is_none() {
            if secure.is_some() {
                return Err(directive.hinted(
                    "variables in \"proxy_pass https://\" are not supported",
                    "name an upstream block",
                ));
            }
            return Ok(Pass {
                pass: ProxyPass {
                    target: PassTarget::Variable(template),
                    uri: None,
                },
                redirect: None,
            });
        }
        let rest = secure
            .or_else(|| scheme("http://"))
            .ok_or_else(|| directive.error("invalid URL prefix"))?;
        let address = Address::parse(rest, true)
            .map_err(|error| directive.error(format!("{error} in upstream \"{rest}\"")))?;
        let uri = match &address.uri[..] {
            "" => None,
            _ if prefix.is_empty() => {
                return Err(directive.error(
                    "\"proxy_pass\" cannot have URI part in location given by regular expression, \
                     or inside named location, or inside \"if\" statement, \
                     or inside \"limit_except\" block",
                ));
            }
            query if query.starts_with('?') => Some(format!("/{query}")),
            uri => Some(uri.to_owned()),
        };
        let authority = &rest[..rest.len() - address.uri.len()];
        let tls = secure.map(|_| tls);
        let group = self.group_for(directive, &address, authority, tls)?;
        let redirect = match &uri {
            Some(_) => (url.clone(), prefix),
            None => (format!("{url}/"), "/"),
        };
        Ok(Pass {
            pass: ProxyPass {
                target: PassTarget::Group(group),
                uri,
            },
            redirect: Some(Redirect {
                from: RedirectFrom::Prefix(Template::from_literal(&redirect.0)),
                to: Template::from_literal(redirect.1),
            }),
        })
    }

    /// Warns of request fields that keep logins from working where pins are wanted.
    pub(super) fn warn_of_lost_logins(
        &mut self,
        directive: &Directive,
        scope: &ProxyScope,
        pass: &Pass,
    ) {
        let group_pins = match pass.pass.target {
            PassTarget::Group(group) => self.http.groups[group].ntlm.is_some(),
            PassTarget::Variable(_) => false,
        };
        if !group_pins && !scope.pins {
            return;
        }
        if let PassTarget::Group(group) = pass.pass.target
            && let Group {
                name,
                tls: Some(tls),
                ..
            } = &self.http.groups[group]
            && !tls.verify
        {
            let message = format!(
                "\"proxy_ssl_verify\" is off for \"{name}\" where \"ntlm\" is used: logins go to whoever answers at its address"
            );
            if !self.unverified.contains(&group) {
                self.unverified.push(group);
                self.warn(&directive.place, message);
            }
        }
        for (name, value) in &scope.settings.set_headers {
            let Some(value) = value.as_literal() else {
                continue;
            };
            let message = match &name.to_ascii_lowercase()[..] {
                "connection" if value.eq_ignore_ascii_case("close") => {
                    "\"proxy_set_header Connection close\" ends every login at once"
                }
                "authorization" if value.is_empty() => {
                    "\"proxy_set_header Authorization\" with an empty value keeps every login away"
                }
                _ => continue,
            };
            self.warn(
                &directive.place,
                format!("{message} where \"ntlm\" is used"),
            );
        }
    }
}

fn channel_binding(directive: &Directive) -> Result<ChannelBinding> {
    match &directive.args[0][..] {
        "warn" => Ok(ChannelBinding::Warn),
        "require" => Ok(ChannelBinding::Require),
        "off" => Ok(ChannelBinding::Off),
        _ => {
            let message = directive.invalid_value_of(0);
            let message = format!("{message}, it must be \"warn\", \"require\" or \"off\"");
            Err(directive.error(message))
        }
    }
}

fn fail_delay(directive: &Directive) -> Result<Option<FailLimits>> {
    if directive.args == ["off"] {
        return Ok(None);
    }
    let delay = directive.time()?;
    if delay.is_zero() {
        return Err(directive.error_of("invalid value"));
    }
    let mut limits = FailLimits::new(delay);
    limits.max = limits.max.max(delay);
    for parameter in &directive.args[1..] {
        let time = |text: &str| value::time(text).filter(|time| !time.is_zero());
        let understood = match parameter.split_once('=') {
            Some(("after", text)) => value::number(text)
                .and_then(|number| u8::try_from(number).ok())
                .map(|number| limits.after = number),
            Some(("forget", text)) => time(text)
                .filter(|forget| forget.subsec_nanos() == 0)
                .map(|forget| limits.forget = forget),
            Some(("max", text)) => time(text)
                .filter(|&max| max >= delay)
                .map(|max| limits.max = max),
            _ => None,
        };
        understood.ok_or_else(|| directive.invalid_parameter(parameter))?;
    }
    Ok(Some(limits))
}

fn is_authorization(value: &Template) -> bool {
    let field = Variable::Http("authorization".to_owned());
    value.parts == [Part::Variable(field)]
}

fn next_upstream(directive: &Directive) -> Result<NextUpstream> {
    let mut next = NextUpstream {
        error: false,
        timeout: false,
        invalid_header: false,
        non_idempotent: false,
        statuses: Vec::new(),
    };
    for word in &directive.args {
        match &word[..] {
            "error" => next.error = true,
            "timeout" => next.timeout = true,
            "invalid_header" => next.invalid_header = true,
            "non_idempotent" => next.non_idempotent = true,
            "off" => {}
            _ => {
                let status = word.strip_prefix("http_").and_then(value::number);
                match status {
                    Some(status @ (403 | 404 | 429 | 500 | 502 | 503 | 504)) => {
                        next.statuses.push(status as u16);
                    }
                    _ => return Err(directive.error(format!("invalid value \"{word}\""))),
                }
            }
        }
    }
    Ok(next)
}
