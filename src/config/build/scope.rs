//! What is inherited from http to server to location.

use std::time::Duration;

use crate::http::head::HeadLimits;

use super::super::access::{self, AccessRules, Clients};
use super::super::error::Result;
use super::super::model::{
    AccessLog, AddHeader, ClientSettings, ErrorLog, Limits, RealIp, RealIpHeader,
};
use super::super::parse::Directive;
use super::super::value;
use super::proxy::ProxyScope;
use super::tls::TlsScope;
use super::{Builder, Level, level};

/// Fields by which a client finds the end of an answer and knows whether its connection stays: a second one could contradict the
/// first.
const OF_THE_CONNECTION: [&str; 5] = [
    "connection",
    "content-length",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
];

/// The values that hold in a block. A block's own lists take the place of the inherited ones as a whole.
#[derive(Clone)]
pub(super) struct Scope {
    pub(super) access: AccessRules,
    pub(super) real_ip: RealIp,
    pub(super) limits: Limits,
    pub(super) access_logs: Vec<AccessLog>,
    pub(super) error_logs: Vec<ErrorLog>,
    pub(super) client: ClientSettings,
    pub(super) add_headers: Vec<AddHeader>,
    pub(super) proxy: ProxyScope,
    /// `client_header_buffer_size`
    header_buffer: usize,
    pub(super) head: HeadLimits,
    pub(super) header_timeout: Duration,
    pub(super) tls: TlsScope,
}

impl Scope {
    /// The defaults.
    pub(super) fn new(error_logs: Vec<ErrorLog>) -> Self {
        Self {
            access: AccessRules::default(),
            real_ip: RealIp::default(),
            limits: Limits::default(),
            access_logs: Vec::new(),
            error_logs,
            client: ClientSettings {
                max_body_size: 1 << 20,
                body_timeout: Duration::from_secs(60),
                send_timeout: Duration::from_secs(60),
                keepalive_timeout: Duration::from_secs(75),
                keepalive_header: None,
                keepalive_requests: 1000,
                keepalive_time: Duration::from_secs(3600),
                tcp_nodelay: true,
                server_tokens: true,
                default_type: "text/plain".to_owned(),
            },
            add_headers: Vec::new(),
            proxy: ProxyScope::default(),
            header_buffer: 1 << 10,
            head: HeadLimits::default(),
            header_timeout: Duration::from_secs(60),
            tls: TlsScope::default(),
        }
    }
}

impl Builder<'_> {
    /// What holds in the block `level` within `outer`.
    pub(super) fn scope(&mut self, outer: &Scope, level: Level<'_>) -> Result<Scope> {
        let mut scope = outer.clone();
        self.access(level, &mut scope)?;
        self.real_ip(level, &mut scope.real_ip)?;
        self.limits(level, &mut scope.limits)?;
        if let Some(logs) = self.access_logs(level)? {
            scope.access_logs = logs;
        }
        if let Some(logs) = self.error_logs(level)? {
            scope.error_logs = logs;
        }
        client(level, &mut scope.client)?;
        head(level, &mut scope)?;
        self.tls_scope(level, &mut scope.tls)?;
        if level.has("add_header") {
            scope.add_headers = self.add_headers(level)?;
        }
        self.proxy_scope(level, &mut scope.proxy)?;
        Ok(scope)
    }

    /// `allow` and `deny`
    fn access(&mut self, level: Level<'_>, scope: &mut Scope) -> Result<()> {
        let mut rules = AccessRules::default();
        for directive in level.0 {
            let allowed = match &directive.name[..] {
                "allow" => true,
                "deny" => false,
                _ => continue,
            };
            let clients = match &directive.args[0][..] {
                "all" => Clients::All,
                "unix:" => Clients::Unix,
                text => Clients::Net(self.net(directive, text)?),
            };
            rules.push(clients, allowed);
        }
        if level.has("allow") || level.has("deny") {
            scope.access = rules;
        }
        Ok(())
    }

    fn net(&mut self, directive: &Directive, text: &str) -> Result<ipnet::IpNet> {
        let (net, low_bits) = access::net(text).ok_or_else(|| directive.invalid_parameter(text))?;
        if low_bits {
            let message = format!("low address bits of {text} are meaningless");
            self.warn(&directive.place, message);
        }
        Ok(net)
    }

    /// `set_real_ip_from` and `real_ip_header`
    fn real_ip(&mut self, level: Level<'_>, real_ip: &mut RealIp) -> Result<()> {
        if level.has("set_real_ip_from") {
            real_ip.from.clear();
            real_ip.from_unix = false;
        }
        for directive in level.all("set_real_ip_from") {
            let text = &directive.args[0];
            if text == "unix:" {
                real_ip.from_unix = true;
                continue;
            }
            if access::net(text).is_some() {
                let net = self.net(directive, text)?;
                real_ip.from.push(net);
                continue;
            }
            let found = self.resolver.resolve(text).unwrap_or_default();
            if found.is_empty() {
                let message = format!("host not found in set_real_ip_from \"{text}\"");
                return Err(directive.error(message));
            }
            real_ip
                .from
                .extend(found.into_iter().map(ipnet::IpNet::from));
        }
        level.set("real_ip_header", &mut real_ip.header, |directive| {
            let field = directive.args[0].to_ascii_lowercase();
            Ok(match &field[..] {
                "x-real-ip" => RealIpHeader::XRealIp,
                "x-forwarded-for" => RealIpHeader::XForwardedFor,
                "proxy_protocol" => RealIpHeader::ProxyProtocol,
                _ => RealIpHeader::Field(field),
            })
        })
    }

    fn add_headers(&mut self, level: Level<'_>) -> Result<Vec<AddHeader>> {
        let mut headers = Vec::new();
        for directive in level.all("add_header") {
            let header = self.add_header(directive)?;
            if OF_THE_CONNECTION.contains(&&header.name.to_ascii_lowercase()[..]) {
                let message = format!(
                    "\"add_header {}\" has no effect: answers are framed by what is sent",
                    header.name
                );
                self.warn(&directive.place, message);
                continue;
            }
            headers.push(header);
        }
        Ok(headers)
    }

    fn add_header(&self, directive: &Directive) -> Result<AddHeader> {
        let always = match directive.args.get(2).map(|word| &word[..]) {
            None => false,
            Some("always") => true,
            Some(other) => return Err(directive.invalid_parameter(other)),
        };
        let (name, value) = self.header(directive)?;
        Ok(AddHeader {
            name,
            value,
            always,
        })
    }

    /// The first two arguments as a field: nothing that would end it early is allowed in them.
    pub(super) fn header(&self, directive: &Directive) -> Result<(String, super::Template)> {
        let (name, value) = (&directive.args[0], &directive.args[1]);
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(directive.error(format!("invalid header name \"{name}\"")));
        }
        if value
            .bytes()
            .any(|byte| byte.is_ascii_control() && byte != b'\t')
        {
            return Err(directive.error(format!("invalid value of header \"{name}\"")));
        }
        Ok((name.clone(), self.template(directive, value)?))
    }
}

fn client(level: Level<'_>, client: &mut ClientSettings) -> Result<()> {
    level.set(
        "client_max_body_size",
        &mut client.max_body_size,
        Directive::size,
    )?;
    level.set(
        "client_body_timeout",
        &mut client.body_timeout,
        Directive::time,
    )?;
    level.set("send_timeout", &mut client.send_timeout, Directive::time)?;
    if let Some(directive) = level.one("keepalive_timeout") {
        client.keepalive_timeout = directive.time()?;
        let invalid = || directive.error_of("invalid value");
        let header = directive.args.get(1);
        let header = header.map(|text| value::time(text).ok_or_else(invalid));
        client.keepalive_header = header.transpose()?;
    }
    level.set(
        "keepalive_requests",
        &mut client.keepalive_requests,
        Directive::number,
    )?;
    level.set(
        "keepalive_time",
        &mut client.keepalive_time,
        Directive::time,
    )?;
    level.set("tcp_nodelay", &mut client.tcp_nodelay, Directive::flag)?;
    level.set("server_tokens", &mut client.server_tokens, Directive::flag)?;
    level.set("default_type", &mut client.default_type, |d| {
        Ok(d.args[0].clone())
    })
}

/// The directives about request heads, which http and server have.
fn head(level: Level<'_>, scope: &mut Scope) -> Result<()> {
    level.set(
        "client_header_timeout",
        &mut scope.header_timeout,
        Directive::time,
    )?;
    level.set(
        "underscores_in_headers",
        &mut scope.head.underscores,
        Directive::flag,
    )?;
    level::positive(level, "max_headers", &mut scope.head.fields)?;
    level.set("client_header_buffer_size", &mut scope.header_buffer, |d| {
        usize::try_from(d.size()?).map_err(|_| d.error_of("invalid value"))
    })?;
    if let Some(directive) = level.one("large_client_header_buffers") {
        let number = value::number(&directive.args[0]).filter(|&number| number > 0);
        let size = value::size(&directive.args[1]).filter(|&size| size > 0);
        let sizes = number.zip(size).and_then(|(number, size)| {
            let total = usize::try_from(number.checked_mul(size)?).ok()?;
            Some((usize::try_from(size).ok()?, total))
        });
        let (line, total) = sizes.ok_or_else(|| directive.error_of("invalid value"))?;
        scope.head.line = line;
        scope.head.total = total;
    }
    scope.head.line = scope.head.line.max(scope.header_buffer);
    scope.head.total = scope.head.total.max(scope.header_buffer);
    Ok(())
}
