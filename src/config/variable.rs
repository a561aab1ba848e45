//! Variables: the closed list of what can be named in a configuration.

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
}

impl Variable {
    /// The variable called `name` (without `$`), if it is one of the built-in ones.
    pub fn builtin(_name: &str) -> Option<Self> {
        todo!()
    }
}
