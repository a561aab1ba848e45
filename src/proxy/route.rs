//! Which server and location a request belongs to, and what they say before anybody is asked.

use crate::config::model::{Action, RealIpHeader, Return};
use crate::config::template::Template;
use crate::http::host;
use crate::http::refusal::Refusal;
use crate::http::target::normalize;
use crate::net::ClientAddress;

use super::request::{ClientRef, Request};
use super::worker::Settings;

/// What becomes of a request.
pub(super) enum Routed {
    /// The server itself has a `return`; its root location holds the rest.
    ServerReturns,
    /// `deny`
    Forbidden,
    /// The location's action.
    Act,
}

/// Finds server and location, assigns variables on the way, and checks access.
///
/// # Errors
/// The path cannot be normalised.
pub(super) fn route(
    client: ClientRef<'_>,
    listener: usize,
    request: &mut Request,
) -> Result<Routed, Refusal> {
    let settings = client.settings;
    let http = &settings.config().http;
    let rendered = |request: &Request, value: &Template| {
        let mut rendered = Vec::new();
        value.render(&client.view(request), &mut rendered);
        rendered
    };
    let (name, _) = host::split(request.head.host.of(&request.bytes));
    request.host.extend(name.iter().map(u8::to_ascii_lowercase));
    if request.host.last() == Some(&b'.') {
        request.host.pop();
    }
    let user = &mut request.user;
    request.server = http.listeners[listener].names.find(
        &request.host,
        &mut request.captures,
        |variable, value| {
            Request::assign(user, variable, value);
        },
    );
    let server = &http.servers[request.server];
    request.location = server.root;
    normalize(request.head.path.of(&request.bytes), &mut request.path)?;
    request.client = real_client(client, request);
    for (variable, value) in &server.sets {
        let value = rendered(request, value);
        Request::assign(&mut request.user, *variable, &value);
    }
    if server.returns.is_some() {
        return Ok(Routed::ServerReturns);
    }
    let user = &mut request.user;
    let found = server
        .locations
        .find(&request.path, &mut request.captures, |variable, value| {
            Request::assign(user, variable, value);
        });
    request.location = found.unwrap_or(server.root);
    let location = &http.locations[request.location];
    request.client = real_client(client, request);
    for (variable, value) in &location.sets {
        let value = rendered(request, value);
        Request::assign(&mut request.user, *variable, &value);
    }
    // As in nginx, `return` comes before `deny`.
    if !matches!(location.action, Action::Return(_)) && !location.access.allows(request.client.ip())
    {
        return Ok(Routed::Forbidden);
    }
    Ok(Routed::Act)
}

/// The `return` that answers this request, if one does.
pub(super) fn returned<'a>(
    settings: &'a Settings,
    request: &Request,
    routed: &Routed,
) -> Option<&'a Return> {
    let http = &settings.config().http;
    match routed {
        Routed::ServerReturns => http.servers[request.server].returns.as_ref(),
        Routed::Act => match &http.locations[request.location].action {
            Action::Return(returned) => Some(returned),
            _ => None,
        },
        Routed::Forbidden => None,
    }
}

/// The client's address as `real_ip_header` says it, if the connection's peer may say so.
fn real_client(client: ClientRef<'_>, request: &Request) -> ClientAddress {
    let real_ip = &client.settings.config().http.locations[request.location].real_ip;
    let trusted = match client.address.ip() {
        Some(ip) => real_ip
            .from
            .iter()
            .any(|net| net.contains(&ip.to_canonical())),
        None => real_ip.from_unix,
    };
    if !trusted {
        return client.address;
    }
    let field = match &real_ip.header {
        RealIpHeader::ProxyProtocol => {
            return client.proxied.as_ref().map_or(client.address, |proxied| {
                ClientAddress::Inet(proxied.source)
            });
        }
        RealIpHeader::XRealIp => "x-real-ip",
        RealIpHeader::XForwardedFor => "x-forwarded-for",
        RealIpHeader::Field(name) => name,
    };
    // Those who add a line of their own add it behind the others.
    let said = request
        .head
        .values(&request.bytes, field)
        .next_back()
        .and_then(|value| {
            let last = value
                .rsplit(|&b| b == b',')
                .next()
                .unwrap_or_default()
                .trim_ascii();
            let text = std::str::from_utf8(last).ok()?;
            text.parse()
                .or_else(|_| text.parse().map(|ip| std::net::SocketAddr::new(ip, 0)))
                .ok()
        });
    said.map_or(client.address, ClientAddress::Inet)
}
