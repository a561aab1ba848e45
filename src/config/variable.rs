//! Variables: the closed list of what can be named in a configuration.

use ClientCertificateVariable as Fact;

use crate::http::proxy_tlv::Tlv;

/// Index into [`super::model::Http::user_variables`].
pub type UserVariable = usize;

/// A variable, parsed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // each is the variable of that name, as nginx documents it
pub enum Variable {
    /// `$http_NAME`: lower case with `-` for `_`.
    Http(String),
    SentHttp(String),
    UpstreamHttp(String),
    UpstreamCookie(String),
    Cookie(String),
    Arg(String),
    /// `$1` to `$9` of the last regex that matched.
    Capture(u8),
    /// Assigned by `set` or a named capture.
    User(UserVariable),
    /// A `map`'s, by index.
    Map(usize),
    Host,
    ProxyHost,
    ProxyPort,
    ProxyAddXForwardedFor,
    RemoteAddr,
    RemotePort,
    RemoteUser,
    BinaryRemoteAddr,
    RealipRemoteAddr,
    RealipRemotePort,
    ProxyProtocolAddr,
    ProxyProtocolPort,
    ProxyProtocolServerAddr,
    ProxyProtocolServerPort,
    ProxyProtocolTlv(Tlv),
    Scheme,
    Https,
    ServerName,
    ServerAddr,
    ServerPort,
    ServerProtocol,
    Request,
    RequestMethod,
    RequestUri,
    Uri,
    Args,
    IsArgs,
    RequestId,
    RequestLength,
    RequestTime,
    RequestCompletion,
    Status,
    BytesSent,
    BodyBytesSent,
    Connection,
    ConnectionRequests,
    ConnectionTime,
    ContentLength,
    ContentType,
    Msec,
    TimeLocal,
    TimeIso8601,
    Pid,
    Pipe,
    Hostname,
    NginxVersion,
    UpstreamAddr,
    UpstreamStatus,
    UpstreamResponseTime,
    UpstreamConnectTime,
    UpstreamHeaderTime,
    UpstreamBytesSent,
    UpstreamBytesReceived,
    UpstreamResponseLength,
    PinId,
    PinState,
    PinAge,
    PinRequests,
    AuthScheme,
    LimitReqStatus,
    LimitConnStatus,
    Tls(TlsVariable),
    ClientCertificate(ClientCertificateVariable),
}

/// `$ssl_*` about a client's TLS session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // each is the variable of that name
pub enum TlsVariable {
    Protocol,
    Cipher,
    /// All that the client offered.
    Ciphers,
    Curve,
    /// All that the client offered.
    Curves,
    ServerName,
    SessionId,
    SessionReused,
    EarlyData,
    AlpnProtocol,
}

/// `$ssl_client_*`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientCertificateVariable {
    /// `$ssl_client_verify`
    Verify,
    /// `$ssl_client_raw_cert`
    Raw,
    /// `$ssl_client_cert`
    Folded,
    /// `$ssl_client_escaped_cert`
    Escaped,
    /// `$ssl_client_fingerprint`
    Fingerprint,
    /// `$ssl_client_s_dn`
    Subject,
    /// `$ssl_client_i_dn`
    Issuer,
    /// `$ssl_client_s_dn_legacy`
    SubjectLegacy,
    /// `$ssl_client_i_dn_legacy`
    IssuerLegacy,
    /// `$ssl_client_serial`
    Serial,
    /// `$ssl_client_v_start`
    Start,
    /// `$ssl_client_v_end`
    End,
    /// `$ssl_client_v_remain`
    DaysLeft,
}

impl Variable {
    /// Whether its values are made of digits, letters and `.:,/+- []` only, whatever peers send: they need no escaping.
    pub fn is_plain(&self) -> bool {
        matches!(
            self,
            Self::RemoteAddr
                | Self::RemotePort
                | Self::RealipRemoteAddr
                | Self::RealipRemotePort
                | Self::ServerPort
                | Self::RequestLength
                | Self::RequestTime
                | Self::Status
                | Self::BytesSent
                | Self::BodyBytesSent
                | Self::Connection
                | Self::ConnectionRequests
                | Self::ConnectionTime
                | Self::Msec
                | Self::TimeLocal
                | Self::TimeIso8601
                | Self::Pid
                | Self::UpstreamStatus
                | Self::UpstreamResponseTime
                | Self::UpstreamConnectTime
                | Self::UpstreamHeaderTime
                | Self::UpstreamBytesSent
                | Self::UpstreamBytesReceived
                | Self::UpstreamResponseLength
                | Self::PinId
                | Self::PinState
                | Self::PinAge
                | Self::PinRequests
        )
    }

    /// The variable called `name` (without `$`), if it is one of the built-in ones. Names are compared without regard to
    /// case; those of cookies and arguments are kept as written, and compared without regard to case as well.
    pub fn builtin(name: &str) -> Option<Self> {
        type Family = (&'static str, fn(&str) -> Variable);
        const FAMILIES: [Family; 6] = [
            ("http_", |name| Variable::Http(field(name))),
            ("sent_http_", |name| Variable::SentHttp(field(name))),
            ("upstream_http_", |name| Variable::UpstreamHttp(field(name))),
            ("upstream_cookie_", |name| {
                Variable::UpstreamCookie(name.to_owned())
            }),
            ("cookie_", |name| Variable::Cookie(name.to_owned())),
            ("arg_", |name| Variable::Arg(name.to_owned())),
        ];
        let lower = name.to_ascii_lowercase();
        if let Some((_, variable)) = NAMES.iter().find(|(known, _)| *known == lower) {
            return Some(variable.clone());
        }
        if let Some(name) = lower.strip_prefix("proxy_protocol_tlv_") {
            return Tlv::named(name).map(Variable::ProxyProtocolTlv);
        }
        FAMILIES.iter().find_map(|(prefix, make)| {
            lower.strip_prefix(prefix)?;
            let rest = &name[prefix.len()..];
            (!rest.is_empty()).then(|| make(rest))
        })
    }
}

/// `x_forwarded_for` → `x-forwarded-for`
fn field(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// The names that stand for themselves.
static NAMES: &[(&str, Variable)] = &[
    ("host", Variable::Host),
    ("proxy_host", Variable::ProxyHost),
    ("proxy_port", Variable::ProxyPort),
    ("proxy_add_x_forwarded_for", Variable::ProxyAddXForwardedFor),
    ("remote_addr", Variable::RemoteAddr),
    ("remote_port", Variable::RemotePort),
    ("remote_user", Variable::RemoteUser),
    ("binary_remote_addr", Variable::BinaryRemoteAddr),
    ("realip_remote_addr", Variable::RealipRemoteAddr),
    ("realip_remote_port", Variable::RealipRemotePort),
    ("proxy_protocol_addr", Variable::ProxyProtocolAddr),
    ("proxy_protocol_port", Variable::ProxyProtocolPort),
    (
        "proxy_protocol_server_addr",
        Variable::ProxyProtocolServerAddr,
    ),
    (
        "proxy_protocol_server_port",
        Variable::ProxyProtocolServerPort,
    ),
    ("scheme", Variable::Scheme),
    ("https", Variable::Https),
    ("server_name", Variable::ServerName),
    ("server_addr", Variable::ServerAddr),
    ("server_port", Variable::ServerPort),
    ("server_protocol", Variable::ServerProtocol),
    ("request", Variable::Request),
    ("request_method", Variable::RequestMethod),
    ("request_uri", Variable::RequestUri),
    ("uri", Variable::Uri),
    ("args", Variable::Args),
    ("is_args", Variable::IsArgs),
    ("request_id", Variable::RequestId),
    ("request_length", Variable::RequestLength),
    ("request_time", Variable::RequestTime),
    ("request_completion", Variable::RequestCompletion),
    ("status", Variable::Status),
    ("bytes_sent", Variable::BytesSent),
    ("body_bytes_sent", Variable::BodyBytesSent),
    ("connection", Variable::Connection),
    ("connection_requests", Variable::ConnectionRequests),
    ("connection_time", Variable::ConnectionTime),
    ("content_length", Variable::ContentLength),
    ("content_type", Variable::ContentType),
    ("msec", Variable::Msec),
    ("time_local", Variable::TimeLocal),
    ("time_iso8601", Variable::TimeIso8601),
    ("pid", Variable::Pid),
    ("pipe", Variable::Pipe),
    ("hostname", Variable::Hostname),
    ("nginx_version", Variable::NginxVersion),
    ("upstream_addr", Variable::UpstreamAddr),
    ("upstream_status", Variable::UpstreamStatus),
    ("upstream_response_time", Variable::UpstreamResponseTime),
    ("upstream_connect_time", Variable::UpstreamConnectTime),
    ("upstream_header_time", Variable::UpstreamHeaderTime),
    ("upstream_bytes_sent", Variable::UpstreamBytesSent),
    ("upstream_bytes_received", Variable::UpstreamBytesReceived),
    ("upstream_response_length", Variable::UpstreamResponseLength),
    ("pin_id", Variable::PinId),
    ("pin_state", Variable::PinState),
    ("pin_age", Variable::PinAge),
    ("pin_requests", Variable::PinRequests),
    ("auth_scheme", Variable::AuthScheme),
    ("limit_req_status", Variable::LimitReqStatus),
    ("limit_conn_status", Variable::LimitConnStatus),
    ("ssl_protocol", Variable::Tls(TlsVariable::Protocol)),
    ("ssl_cipher", Variable::Tls(TlsVariable::Cipher)),
    ("ssl_ciphers", Variable::Tls(TlsVariable::Ciphers)),
    ("ssl_curve", Variable::Tls(TlsVariable::Curve)),
    ("ssl_curves", Variable::Tls(TlsVariable::Curves)),
    ("ssl_server_name", Variable::Tls(TlsVariable::ServerName)),
    ("ssl_session_id", Variable::Tls(TlsVariable::SessionId)),
    (
        "ssl_session_reused",
        Variable::Tls(TlsVariable::SessionReused),
    ),
    ("ssl_early_data", Variable::Tls(TlsVariable::EarlyData)),
    (
        "ssl_alpn_protocol",
        Variable::Tls(TlsVariable::AlpnProtocol),
    ),
    (
        "ssl_client_verify",
        Variable::ClientCertificate(Fact::Verify),
    ),
    (
        "ssl_client_raw_cert",
        Variable::ClientCertificate(Fact::Raw),
    ),
    ("ssl_client_cert", Variable::ClientCertificate(Fact::Folded)),
    (
        "ssl_client_escaped_cert",
        Variable::ClientCertificate(Fact::Escaped),
    ),
    (
        "ssl_client_fingerprint",
        Variable::ClientCertificate(Fact::Fingerprint),
    ),
    (
        "ssl_client_s_dn",
        Variable::ClientCertificate(Fact::Subject),
    ),
    ("ssl_client_i_dn", Variable::ClientCertificate(Fact::Issuer)),
    (
        "ssl_client_s_dn_legacy",
        Variable::ClientCertificate(Fact::SubjectLegacy),
    ),
    (
        "ssl_client_i_dn_legacy",
        Variable::ClientCertificate(Fact::IssuerLegacy),
    ),
    (
        "ssl_client_serial",
        Variable::ClientCertificate(Fact::Serial),
    ),
    (
        "ssl_client_v_start",
        Variable::ClientCertificate(Fact::Start),
    ),
    ("ssl_client_v_end", Variable::ClientCertificate(Fact::End)),
    (
        "ssl_client_v_remain",
        Variable::ClientCertificate(Fact::DaysLeft),
    ),
    ("document_uri", Variable::Uri),
    ("query_string", Variable::Args),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builtin() {
        for (name, expected) in [
            ("host", Some(Variable::Host)),
            ("Host", Some(Variable::Host)),
            ("time_iso8601", Some(Variable::TimeIso8601)),
            (
                "proxy_add_x_forwarded_for",
                Some(Variable::ProxyAddXForwardedFor),
            ),
            ("query_string", Some(Variable::Args)),
            ("https", Some(Variable::Https)),
            ("http_host", Some(Variable::Http("host".to_owned()))),
            (
                "HTTP_X_Real_IP",
                Some(Variable::Http("x-real-ip".to_owned())),
            ),
            (
                "sent_http_content_type",
                Some(Variable::SentHttp("content-type".to_owned())),
            ),
            (
                "upstream_http_www_authenticate",
                Some(Variable::UpstreamHttp("www-authenticate".to_owned())),
            ),
            ("cookie_Sid", Some(Variable::Cookie("Sid".to_owned()))),
            ("arg_Q", Some(Variable::Arg("Q".to_owned()))),
            ("arg_", None),
            ("http_", None),
            ("nonsense", None),
            ("", None),
            ("ssl_protocol", Some(Variable::Tls(TlsVariable::Protocol))),
            ("ssl_nonsense", None),
            (
                "proxy_protocol_tlv_0xEA",
                Some(Variable::ProxyProtocolTlv(Tlv::Type(0xea))),
            ),
            ("proxy_protocol_tlv_nonsense", None),
        ] {
            assert_eq!(Variable::builtin(name), expected, "{name}");
        }
    }
}
