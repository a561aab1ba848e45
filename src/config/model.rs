//! The typed configuration that the rest of the program works from. Indices instead of references, so that it is one
//! immutable value that every worker shares.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::balance;
use crate::http::head::HeadLimits;
use crate::limit::failures::FailLimits;
use crate::limit::rate::Rate;
use crate::pin;
use crate::pin::pool::PoolLimits;

use super::access::AccessRules;
use super::ciphers::Suite;
use super::location::Locations;
use super::names::ServerNames;
use super::template::{Map, Template};
use super::variable::UserVariable;

/// Index into [`Http::servers`].
pub type ServerIndex = usize;
/// Index into [`Http::locations`].
pub type LocationIndex = usize;
/// Index into [`Http::groups`].
pub type GroupIndex = usize;
/// Index into [`Http::limit_zones`].
pub type ZoneIndex = usize;

/// A whole configuration.
#[derive(Debug)]
pub struct Config {
    /// The main and events contexts.
    pub main: Main,
    /// The http context.
    pub http: Http,
    /// What the operator should know, in order (`accepted without effect`, doubtful settings), without level or newline.
    pub warnings: Vec<String>,
    /// Every file that was read, with its text: what `-T` prints.
    pub files: Vec<(PathBuf, String)>,
}

/// Directives of the main and events contexts.
#[derive(Clone, Debug)]
pub struct Main {
    /// `daemon`, default on as in nginx.
    pub daemon: bool,
    /// `pid`, default `logs/ntlmfront.pid` under the prefix.
    pub pid: PathBuf,
    /// `user name [group]`
    pub user: Option<(String, Option<String>)>,
    /// `worker_processes`; `None` is `auto`. Default 1 as in nginx.
    pub workers: Option<usize>,
    /// `worker_cpu_affinity auto`. (Workers are pinned if their number is that of the cores as well.)
    pub cpu_affinity: bool,
    /// `worker_rlimit_nofile`
    pub rlimit_nofile: Option<u64>,
    /// `worker_shutdown_timeout`; `None` waits as long as it takes.
    pub shutdown_timeout: Option<Duration>,
    /// `worker_connections`, default 512 as in nginx.
    pub worker_connections: usize,
    /// `error_log` of the main context; default `logs/error.log error`.
    pub error_logs: Vec<ErrorLog>,
}

/// Levels of the error log, least severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Level {
    Debug,
    Info,
    Notice,
    Warn,
    Error,
    Crit,
    Alert,
    Emerg,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogTarget {
    /// `stderr`
    Stderr,
    /// A file, opened for appending, reopened on USR1.
    File(PathBuf),
    /// `syslog:…`
    Syslog(Syslog),
}

/// A syslog server and what the messages to it say (RFC 3164).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Syslog {
    /// `server=`: UDP, port 514 if none is named, or a unix socket. Of a name its first address.
    pub server: PeerAddress,
    /// `facility=` as a number, default 23 (local7).
    pub facility: u8,
    /// `severity=` as a number, default 6 (info). Lines of an error log have that of their level instead.
    pub severity: u8,
    /// `tag=`, default `nginx`.
    pub tag: String,
    /// Without `nohostname`: the host's name is in each message.
    pub hostname: bool,
}

/// One `error_log` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorLog {
    /// Where to.
    pub target: LogTarget,
    /// Least severe level that is written.
    pub level: Level,
}

/// The http context.
#[derive(Debug, Default)]
pub struct Http {
    /// One for each distinct address that some server listens on.
    pub listeners: Vec<Listener>,
    /// All servers.
    pub servers: Vec<Server>,
    /// All locations of all servers, nested ones too, and one for each server itself ([`Server::root`]).
    pub locations: Vec<Location>,
    /// `upstream` blocks, then one implicit group for each literal `proxy_pass` address.
    pub groups: Vec<Group>,
    /// `map` blocks, by the index in [`super::variable::Variable::Map`].
    pub maps: Vec<Map>,
    /// `limit_req_zone` and `limit_conn_zone`, in order.
    pub limit_zones: Vec<LimitZone>,
    /// Names of the variables that `set` and named captures assign, by [`UserVariable`].
    pub user_variables: Vec<String>,
    /// Something shows what clients offer in their handshakes: `$ssl_ciphers` or `$ssl_curves`.
    pub shows_offered: bool,
}

/// A listening address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `addr:port`; port 0 lets the kernel choose.
    Inet(SocketAddr),
    /// `unix:path`
    Unix(PathBuf),
}

/// One address to listen on and the servers behind it.
#[derive(Debug)]
pub struct Listener {
    /// Where.
    pub address: ListenAddress,
    /// `backlog=`, default 511.
    pub backlog: i32,
    /// `ipv6only=`, default on.
    pub ipv6only: bool,
    /// `so_keepalive=`
    pub keepalive: Option<TcpKeepalive>,
    /// `proxy_protocol`
    pub proxy_protocol: bool,
    /// `ssl`
    pub ssl: bool,
    /// The servers that listen there.
    pub servers: Vec<ServerIndex>,
    /// The servers by name, and the default one.
    pub names: ServerNames,
}

/// `so_keepalive=on|off|[keepidle]:[keepintvl]:[keepcnt]`; `None` in a part leaves the system's setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// `off` was said.
    pub off: bool,
    /// Idle time before the first probe.
    pub idle: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
    /// Number of probes.
    pub count: Option<u32>,
}

/// A `server` block.
#[derive(Debug)]
pub struct Server {
    /// `$server_name`: the first name, or empty.
    pub name: String,
    /// What holds where no location matches.
    pub root: LocationIndex,
    /// Its locations.
    pub locations: Locations,
    /// Named captures of the server's regex names are assigned by [`ServerNames`]; `set` directives of the server run
    /// before the location is chosen.
    pub sets: Vec<(UserVariable, Template)>,
    /// A `return` of the server itself answers before any location is looked for.
    pub returns: Option<Return>,
    /// `large_client_header_buffers`, `max_headers`, `underscores_in_headers`.
    pub head: HeadLimits,
    /// `client_header_timeout`, default 60s.
    pub header_timeout: Duration,
    /// `ssl_*`; `None`: it has no certificate, and rejects no handshake.
    pub tls: Option<Tls>,
    /// All of its locations, nested ones included.
    pub all_locations: std::ops::Range<LocationIndex>,
}

/// `ntlm_channel_binding`: what a login that cannot be bound to the certificate that the client saw (RFC 5929) leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// A warning.
    Warn,
    /// Such a configuration is refused.
    Require,
    /// Nothing: the servers do not ask for it.
    Off,
}

/// `ssl_*` of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `ssl_certificate` and `ssl_certificate_key`, in order.
    pub certificates: Vec<CertificateFiles>,
    /// `ssl_password_file`: each line is tried on an encrypted key.
    pub password_file: Option<PathBuf>,
    /// `ssl_protocols`, `ssl_ciphers` and `ssl_conf_command Ciphersuites`.
    pub protocols: TlsProtocols,
    /// `ssl_prefer_server_ciphers`, default off.
    pub prefer_server_ciphers: bool,
    /// `ssl_session_cache`: how many sessions are kept, default 0.
    pub sessions: usize,
    /// `ssl_session_tickets`, default on.
    pub tickets: bool,
    /// `ssl_session_timeout`, default 5m.
    pub session_timeout: Duration,
    /// `ssl_handshake_timeout`, default 60s.
    pub handshake_timeout: Duration,
    /// `ssl_reject_handshake`
    pub rejects: bool,
    /// `ssl_verify_client`; `None`: off.
    pub client_certificates: Option<ClientCertificates>,
}

/// Which certificates clients have to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// `ssl_verify_client`
    pub demand: Demand,
    /// `ssl_client_certificate`: who may have signed them. Clients are told their names.
    pub authorities: Option<PathBuf>,
    /// `ssl_trusted_certificate`: who else may have signed them.
    pub trusted: Option<PathBuf>,
    /// `ssl_crl`: those that are revoked.
    pub crl: Option<PathBuf>,
    /// `ssl_verify_depth`, default 1: certificates between the client's and a trusted one.
    pub verify_depth: usize,
}

/// How much a server insists on its clients' certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// `on`: there has to be one.
    Required,
    /// `optional`: if there is one, it has to be valid.
    Optional,
    /// `optional_no_ca`: if there is one, anybody may have signed it.
    OptionalNoCa,
}

/// What may be spoken on a side of the front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsProtocols {
    /// TLS 1.2
    pub tls12: bool,
    /// TLS 1.3
    pub tls13: bool,
    /// The suites of TLS 1.2, the preferred one first.
    pub suites12: Vec<Suite>,
    /// The suites of TLS 1.3, the preferred one first.
    pub suites13: Vec<Suite>,
}

/// `proxy_ssl_*` of a group that is reached by `https://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// `proxy_ssl_protocols`, `proxy_ssl_ciphers` and `proxy_ssl_conf_command Ciphersuites`.
    pub protocols: TlsProtocols,
    /// `proxy_ssl_verify`, default off.
    pub verify: bool,
    /// `proxy_ssl_trusted_certificate`; `None`: those that the system trusts.
    pub trusted: Option<PathBuf>,
    /// `proxy_ssl_crl`
    pub crl: Option<PathBuf>,
    /// `proxy_ssl_verify_depth`, default 1: certificates between the server's and a trusted one.
    pub verify_depth: usize,
    /// `proxy_ssl_name`, default `$proxy_host` without a port: whom the certificate has to be for.
    pub name: String,
    /// `proxy_ssl_server_name`, default off: the name is sent (SNI).
    pub server_name: bool,
    /// `proxy_ssl_certificate` and `proxy_ssl_certificate_key`: who the front is to the server.
    pub certificate: Option<CertificateFiles>,
    /// `proxy_ssl_password_file`
    pub password_file: Option<PathBuf>,
    /// `proxy_ssl_session_reuse`, default on.
    pub session_reuse: bool,
}

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Everything that holds for requests of one location, inherited values filled in.
#[derive(Debug)]
pub struct Location {
    /// As written (`/owa`, `~ \.asmx$`), for logs; empty for a server's own.
    pub name: String,
    /// The prefix that a `proxy_pass` with URI replaces; empty for a regex or named location.
    pub prefix: Vec<u8>,
    /// `set` directives of the location, in order.
    pub sets: Vec<(UserVariable, Template)>,
    /// What answers.
    pub action: Action,
    /// `allow` and `deny`.
    pub access: AccessRules,
    /// `set_real_ip_from` and `real_ip_header`.
    pub real_ip: RealIp,
    /// `limit_req` and `limit_conn`; `None`: there are none.
    pub limits: Option<Box<Limits>>,
    /// `access_log`; empty is `off`. Default: none (nginx's default file is not opened unasked).
    pub access_logs: Vec<AccessLog>,
    /// `error_log`; the main context's if none is nearer.
    pub error_logs: Vec<ErrorLog>,
    /// Directives about the client's connection and request.
    pub client: ClientSettings,
    /// `add_header`
    pub add_headers: Vec<AddHeader>,
    /// The `proxy_*` directives.
    pub proxy: ProxySettings,
}

/// What a location does with a request.
#[derive(Debug)]
pub enum Action {
    /// There are no files here: 404.
    NotFound,
    /// `return`
    Return(Return),
    /// `proxy_pass`
    Proxy(ProxyPass),
    /// `stub_status` and the like
    Show(FiguresForm),
}

/// The front's own figures, in what form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FiguresForm {
    /// `stub_status`: nginx's text.
    StubStatus,
    /// `metrics`: for Prometheus.
    Metrics,
    /// `status`: a page for people, and JSON.
    Status,
}

/// `return code [text | URL]` or `return URL`.
#[derive(Clone, Debug)]
pub struct Return {
    /// 444 closes the connection without an answer, as in nginx.
    pub status: u16,
    /// Body, or the `Location` for 301, 302, 303, 307, 308. `None`: nginx's page for the status.
    pub text: Option<Template>,
}

/// `proxy_pass http://…`
#[derive(Debug)]
pub struct ProxyPass {
    /// Where to.
    pub target: PassTarget,
    /// The URI part that takes the place of the location's prefix; `None` if `proxy_pass` has none. Unused with `Variable`.
    pub uri: Option<String>,
}

/// The server part of a `proxy_pass`.
#[derive(Debug)]
pub enum PassTarget {
    /// A group, named or implicit.
    Group(GroupIndex),
    /// With variables: rendered for each request to a whole URL whose host is a group's name or an IP address.
    Variable(Template),
}

/// Directives about the client's connection and request.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// `client_max_body_size` in bytes, default 1 MiB; 0 is no limit.
    pub max_body_size: u64,
    /// `client_body_timeout`, default 60s, between two reads.
    pub body_timeout: Duration,
    /// `send_timeout`, default 60s, between two writes.
    pub send_timeout: Duration,
    /// `keepalive_timeout`, default 75s; zero closes after each answer.
    pub keepalive_timeout: Duration,
    /// Second argument of `keepalive_timeout`: the `Keep-Alive: timeout=` field.
    pub keepalive_header: Option<Duration>,
    /// `keepalive_requests`, default 1000. Never ends a connection that holds a pin (see docs/directives.md).
    pub keepalive_requests: u64,
    /// `keepalive_time`, default 1h. The same.
    pub keepalive_time: Duration,
    /// `tcp_nodelay`, default on.
    pub tcp_nodelay: bool,
    /// `server_tokens`: the version is shown.
    pub server_tokens: bool,
    /// `default_type`, default `text/plain`.
    pub default_type: String,
}

/// `add_header name value [always]`
#[derive(Debug, Clone)]
pub struct AddHeader {
    /// Name as written.
    pub name: String,
    /// Nothing is added where it renders empty.
    pub value: Template,
    /// Also on statuses other than 200, 201, 204, 206, 301, 302, 303, 304, 307, 308.
    pub always: bool,
}

/// The `proxy_*` directives of a location.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// What is sent besides the client's own fields, in order, nginx's defaults (`Host $proxy_host`) included unless
    /// overridden. Empty values are not sent. A client's field of the same name is never passed on.
    /// `Connection` is here only if configured. `Authorization $http_authorization` is left out: the field passes as it came.
    pub set_headers: Vec<(String, Template)>,
    /// Lower-case names of response fields not passed on: nginx's defaults (`date server x-pad x-accel-*` as single names)
    /// and `proxy_hide_header`, less `proxy_pass_header`.
    pub hidden: Vec<String>,
    /// `proxy_connect_timeout`, default 60s.
    pub connect_timeout: Duration,
    /// `proxy_read_timeout`, default 60s, between two reads.
    pub read_timeout: Duration,
    /// `proxy_send_timeout`, default 60s, between two writes.
    pub send_timeout: Duration,
    /// `proxy_next_upstream`
    pub next_upstream: NextUpstream,
    /// `proxy_next_upstream_tries`, 0 is no limit.
    pub next_upstream_tries: u32,
    /// `proxy_next_upstream_timeout`; `None` is no limit.
    pub next_upstream_timeout: Option<Duration>,
    /// `proxy_redirect`, in order; the first that matches is used. nginx's default is filled in.
    pub redirects: Vec<Redirect>,
    /// `proxy_bind`
    pub bind: Option<Template>,
    /// `proxy_socket_keepalive`
    pub socket_keepalive: bool,
    /// `ntlm` and its limits of the server or location, for a literal or variable `proxy_pass`.
    pub ntlm: Option<pin::Limits>,
    /// `ntlm_pins_per_client`, default 8, never 0: pins that one client connection holds.
    pub pins_per_client: usize,
    /// `ntlm_fail_delay`, default off.
    pub fail_delay: Option<FailLimits>,
    /// `ntlm_channel_binding`, default warn.
    pub channel_binding: ChannelBinding,
    /// `ntlm_refuse_via`, default off: no credentials in requests that carry `Via`.
    pub refuse_via: bool,
    /// `ntlm_log_user`, default off: the line about a login names its user.
    pub log_user: bool,
}

/// The conditions of `proxy_next_upstream`. Never applies to a request with credentials or on a pin.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NextUpstream {
    pub error: bool,
    pub timeout: bool,
    pub invalid_header: bool,
    pub non_idempotent: bool,
    /// Statuses of `http_500` and so on.
    pub statuses: Vec<u16>,
}

/// One `proxy_redirect`.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// A prefix of the `Location`, rendered for each request, or a regex.
    pub from: RedirectFrom,
    /// What takes its place.
    pub to: Template,
}

/// The first argument of `proxy_redirect`.
#[derive(Clone, Debug)]
pub enum RedirectFrom {
    /// A literal prefix, with variables.
    Prefix(Template),
    /// `~` or `~*`
    Regex(regex::bytes::Regex),
}

/// `set_real_ip_from` and `real_ip_header`.
#[derive(Clone, Debug, Default)]
pub struct RealIp {
    /// Whose word is believed.
    pub from: Vec<ipnet::IpNet>,
    /// `unix:` is among them.
    pub from_unix: bool,
    /// Which field says it.
    pub header: RealIpHeader,
}

/// `real_ip_header`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RealIpHeader {
    /// `X-Real-IP`, nginx's default.
    #[default]
    XRealIp,
    /// `X-Forwarded-For`: its last address.
    XForwardedFor,
    /// `proxy_protocol`
    ProxyProtocol,
    /// Another field, lower case.
    Field(String),
}

/// `limit_req_zone` or `limit_conn_zone`
#[derive(Debug)]
pub struct LimitZone {
    /// What makes it the same zone after a reload, if size and use are the same, too.
    pub name: String,
    /// Its size in bytes.
    pub bytes: usize,
    /// The key as written: it may not change at a reload.
    pub key_text: String,
    /// What is counted by. Requests for which it is empty are not counted.
    pub key: Template,
    /// What for.
    pub kind: ZoneUse,
}

/// What a zone is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneUse {
    /// `limit_req_zone`, and its rate.
    Requests(Rate),
    /// `limit_conn_zone`
    Connections,
}

impl ZoneUse {
    /// Whether it counts what is there, as opposed to what comes.
    pub fn counts(self) -> bool {
        self == Self::Connections
    }
}

/// The limits of a location.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// `limit_req`
    pub requests: RequestLimits,
    /// `limit_conn`
    pub connections: ConnectionLimits,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.requests.limits.is_empty() && self.connections.limits.is_empty()
    }
}

/// `limit_req` and what belongs to it.
#[derive(Clone, Debug, Default)]
pub struct RequestLimits {
    /// In order.
    pub limits: Vec<RequestLimit>,
    /// What becomes of those above the limit.
    pub answer: LimitAnswer,
}

/// One `limit_req`. In thousandths of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimit {
    /// Where it is counted.
    pub zone: ZoneIndex,
    /// Highest excess that is not refused.
    pub burst: u64,
    /// Highest excess that is not delayed; the highest number with `nodelay`.
    pub undelayed: u64,
}

/// `limit_conn` and what belongs to it.
#[derive(Clone, Debug, Default)]
pub struct ConnectionLimits {
    /// In order.
    pub limits: Vec<ConnectionLimit>,
    /// What becomes of those above the limit.
    pub answer: LimitAnswer,
}

/// One `limit_conn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// Where it is counted.
    pub zone: ZoneIndex,
    /// How many requests of one key may be processed at the same time.
    pub number: u64,
}

/// `limit_…_status`, `limit_…_log_level` and `limit_…_dry_run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitAnswer {
    /// Default 503.
    pub status: u16,
    /// Of the log line about a refusal; one about a delay is a level less severe. Default error.
    pub level: Level,
    /// Only said, not done.
    pub dry_run: bool,
}

impl Default for LimitAnswer {
    fn default() -> Self {
        Self {
            status: 503,
            level: Level::Error,
            dry_run: false,
        }
    }
}

/// One `access_log` line.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// Where to.
    pub target: LogTarget,
    /// The format's parts.
    pub format: std::sync::Arc<LogFormat>,
    /// `if=`: the line is not written where this renders to nothing or `0`.
    pub condition: Option<Template>,
    /// `buffer=` and `flush=` of its file; `None`: lines do not wait.
    pub buffering: Option<Buffering>,
}

/// How lines wait in a worker before they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffering {
    /// `buffer=`, never 0: they are written when one more does not fit.
    pub bytes: usize,
    /// `flush=`, never zero: or when the first of them is that old.
    pub flush: Option<Duration>,
}

/// `log_format name [escape=default|json|none] string …`
#[derive(Debug)]
pub struct LogFormat {
    /// Its name.
    pub name: String,
    /// How values of variables are escaped.
    pub escape: Escape,
    /// The line without its newline.
    pub template: Template,
}

/// `escape=` of `log_format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Escape {
    #[default]
    Default,
    Json,
    None,
}

/// An upstream group.
#[derive(Debug)]
pub struct Group {
    /// Name of the `upstream` block, or `host:port` (`unix:path`) of a literal `proxy_pass`.
    pub name: String,
    /// What makes it the same group after a reload: the name, and how it is reached.
    pub key: String,
    /// `$proxy_host`: the name of the block, or of a literal address what a client would send as `Host`: without the port
    /// if that is 80, and `localhost` for a unix socket.
    pub proxy_host: String,
    /// `$proxy_port`
    pub port: u16,
    /// It stands for a literal address.
    pub implicit: bool,
    /// Balancing method.
    pub method: balance::Method,
    /// The key of `hash`.
    pub hash_key: Option<Template>,
    /// One for each address of each `server` line, in order.
    pub peers: Vec<(balance::Peer, PeerAddress)>,
    /// `keepalive` and its limits.
    pub pool: PoolLimits,
    /// `ntlm` and its limits; `None`: the group does not pin.
    pub ntlm: Option<pin::Limits>,
    /// `https://`; a group that is reached both ways, or with other settings, is one for each of them: connections of one are
    /// nothing to the others.
    pub tls: Option<Box<UpstreamTls>>,
}

impl Group {
    /// `http` or `https`: what its servers are spoken to in.
    pub fn scheme(&self) -> &'static str {
        match self.tls {
            Some(_) => "https",
            None => "http",
        }
    }
}

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerAddress {
    /// TCP
    Inet(SocketAddr),
    /// A stream socket in the file system.
    Unix(PathBuf),
}
