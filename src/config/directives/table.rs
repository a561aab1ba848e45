//! The table itself.

use super::Block::{Context, Entries};
use super::*;

/// Rows of: name, contexts, arguments, repeat, syntax, default, disposition, documentation.
macro_rules! directives {
    ($($name:literal, $contexts:expr, $arguments:expr, $repeat:expr, $syntax:literal, $default:literal, $disposition:expr, $doc:literal;)*) => {
        &[$(Definition {
            name: $name,
            contexts: $contexts,
            arguments: $arguments,
            repeat: $repeat,
            syntax: $syntax,
            default: $default,
            disposition: $disposition,
            doc: $doc,
        }),*]
    };
}

/// Rows of: name, contexts, arguments, reason.
macro_rules! accepted {
    ($($name:literal, $contexts:expr, $arguments:expr, $reason:expr;)*) => {
        &[$(Definition {
            name: $name,
            contexts: $contexts,
            arguments: $arguments,
            repeat: Many,
            syntax: "",
            default: "",
            disposition: Accepted($reason),
            doc: "",
        }),*]
    };
}

/// Rows of: name, contexts, arguments, the only value, hint.
macro_rules! only {
    ($($name:literal, $contexts:expr, $arguments:expr, $value:literal, $hint:literal;)*) => {
        &[$(Definition {
            name: $name,
            contexts: $contexts,
            arguments: $arguments,
            repeat: Once,
            syntax: "",
            default: "",
            disposition: Only($value, $hint),
            doc: "",
        }),*]
    };
}

/// Rows of: name, hint.
macro_rules! refused {
    ($($name:literal, $hint:expr;)*) => {
        &[$(Definition {
            name: $name,
            contexts: EVERYWHERE,
            arguments: words(0, MANY),
            repeat: Many,
            syntax: "",
            default: "",
            disposition: Refused($hint),
            doc: "",
        }),*]
    };
}

/// All of them.
pub(super) fn directives() -> impl Iterator<Item = &'static Definition> {
    [HONOURED, ACCEPTED, ONLY, REFUSED].into_iter().flatten()
}

#[rustfmt::skip]
static HONOURED: &[Definition] = directives! {
    // main and events
    "daemon", MAIN, FLAG, Once, "on | off", "on", Honoured, "Goes to the background; the command returns when every listener accepts.";
    "pid", MAIN, words(1, 1), Once, "file", "logs/ntlmfront.pid", Honoured, "Where the process number is written.";
    "error_log", MAIN_REQUEST, words(1, 2), Many, "file | stderr | syslog:server=address[,…] [level]", "logs/error.log error", Honoured, "Levels: `debug` `info` `notice` `warn` `error` `crit` `alert` `emerg`. A context without one has those of the context around it. `syslog:` as in `access_log`; the severity is that of the line. `memory:` is refused.";
    "user", MAIN, words(1, 2), Once, "user [group]", "", Honoured, "Whom a process of root becomes after it has opened its listeners, logs and keys. What a reload or a renewal reads and opens later, it does as this user; a start and `-t` warn of keys that the user cannot read.";
    "worker_processes", MAIN, words(1, 1), Once, "number | auto", "1", Honoured, "Number of workers: threads of one process. `auto` is one for each core.";
    "worker_cpu_affinity", MAIN, words(1, 1), Once, "auto", "", Honoured, "Binds each worker to a core. Masks are refused.";
    "worker_rlimit_nofile", MAIN, words(1, 1), Once, "number", "", Honoured, "Limit of open descriptors.";
    "worker_shutdown_timeout", MAIN, words(1, 1), Once, "time", "", Honoured, "How long a graceful stop waits for what is in flight. Without it, or with 0: as long as it takes.";
    "include", EVERYWHERE, words(1, 1), Many, "file | mask", "", Honoured, "Reads another file here. Relative to the configuration file's directory; a mask may match nothing.";
    "events", MAIN, block(0, 0, Context(EVENTS)), Once, "", "", Honoured, "The events context.";
    "worker_connections", EVENTS, words(1, 1), Once, "number", "512", Honoured, "Connections of one worker, those to upstream servers included. Where they are not enough, idle upstream connections without a login go first, then idle clients that hold no pin; only then a new client is turned away (its connection is closed) or a request answered with 500.";
    // http
    "http", MAIN, block(0, 0, Context(HTTP)), Once, "", "", Honoured, "The http context.";
    "server", HTTP, block(0, 0, Context(SERVER)), Many, "", "", Honoured, "A virtual server. Without `listen` it listens on `*:80`.";
    "upstream", HTTP, block(1, 1, Context(UPSTREAM)), Many, "name", "", Honoured, "A group of servers, before or after the `proxy_pass` that names it.";
    "map", HTTP, block(2, 2, Entries), Many, "string $variable", "", Honoured, "Makes a variable whose value depends on another. Entries: text, `~regex`, `~*regex`, with `hostnames` wildcards, `default`; `volatile` is accepted.";
    "log_format", HTTP, words(2, MANY), Many, "name [escape=default|json|none] string …", "combined …", Honoured, "A format for `access_log`. `combined` is there from the start. In JSON, bytes that are no UTF-8 are written as `\\u00XX`.";
    "listen", SERVER, words(1, MANY), Many, "[address:]port | unix:path [default_server] [reuseport] [backlog=n] [proxy_protocol] [so_keepalive=…] [ipv6only=on|off] [bind]", "*:80", Honoured, "An address to accept connections on. Every worker has its own socket, as with `reuseport`. Port 0 lets the kernel choose. `deferred`, `rcvbuf`, `sndbuf` and `fastopen` are accepted without effect.";
    "server_name", SERVER, words(1, MANY), Many, "name …", "\"\"", Honoured, "Exact names, `*.example.com`, `.example.com`, `www.*`, `~regex` with named captures.";
    "location", SERVER_LOCATION, block(1, 2, Context(LOCATION)), Many, "[= | ~ | ~* | ^~] uri | @name", "", Honoured, "What holds for some paths: exact, longest prefix, then regular expressions in order.";
    "return", SERVER_LOCATION, words(1, 2), Many, "code [text] | code URL | URL", "", Honoured, "Answers at once. 444 closes the connection without an answer.";
    "set", SERVER_LOCATION, words(2, 2), Many, "$variable value", "", Honoured, "Gives a variable a value.";
    "access_log", REQUEST, words(1, MANY), Many, "path [format [buffer=size] [flush=time] [if=condition]] | syslog:server=address[:port][,facility=…][,tag=…][,severity=…][,nohostname] [format [if=condition]] | off", "off", Honoured, "A line for each request. Unlike nginx, no file is opened unasked. Lines are written by a thread of each log, at most some hundredths of a second later; with `buffer=`, when the next one does not fit into the worker's buffer, when the first is as old as `flush=` says, at USR1, at a reload and at the end. What a log takes too slowly is lost and counted, and requests never wait for it. Lines of two workers may change places within that time. `path` may be a FIFO; variables in it and `gzip` are refused. Over syslog (UDP, port 514, or `unix:path`) the facility is `local7`, the severity `info` and the tag `nginx` unless they are named.";
    "default_type", REQUEST, words(1, 1), Once, "mime-type", "text/plain", Honoured, "`Content-Type` of the text of `return`.";
    "keepalive_timeout", REQUEST, words(1, 2), Once, "timeout [header_timeout]", "75s", Honoured, "How long an idle client connection stays open; 0 closes after each answer. The second value is sent as `Keep-Alive: timeout=`.";
    "keepalive_requests", REQUEST, words(1, 1), Once, "number", "1000", Honoured, "Requests of one client connection. Never ends a connection that holds a pin: its user would be logged out.";
    "keepalive_time", REQUEST, words(1, 1), Once, "time", "1h", Honoured, "Age after which a client connection is closed. Never ends a connection that holds a pin.";
    "client_header_timeout", HTTP_SERVER, words(1, 1), Once, "time", "60s", Honoured, "Time for a whole request head; then 408.";
    "ntlm_channel_binding", REQUEST, words(1, 1), Once, "warn | require | off", "warn", Honoured, "Extended Protection binds a login to the certificate that the client saw. Where logins pass, the certificates of front and servers are compared at the start, at reloads, by `-t` and every hour. `require` refuses a configuration that cannot work; `off` compares nothing.";
    "proxy_ssl_verify", REQUEST, FLAG, Once, "on | off", "off", Honoured, "Whether the servers' certificates are verified.";
    "proxy_ssl_trusted_certificate", REQUEST, words(1, 1), Once, "file", "", Honoured, "Who may stand behind the servers' certificates, as PEM. Without it, those that the system trusts.";
    "proxy_ssl_crl", REQUEST, words(1, 1), Once, "file", "", Honoured, "Revoked certificates, as PEM.";
    "proxy_ssl_verify_depth", REQUEST, words(1, 1), Once, "number", "1", Honoured, "How many certificates that a server sends beside its own may be used for its verification.";
    "proxy_ssl_name", REQUEST, words(1, 1), Once, "name", "$proxy_host", Honoured, "Whom the servers' certificates have to be for, and the name that `proxy_ssl_server_name` sends. No variable but `$proxy_host`.";
    "proxy_ssl_server_name", REQUEST, FLAG, Once, "on | off", "off", Honoured, "Whether that name is sent (SNI).";
    "proxy_ssl_certificate", REQUEST, words(1, 1), Once, "file", "", Honoured, "The certificate by which the servers know the front.";
    "proxy_ssl_certificate_key", REQUEST, words(1, 1), Once, "file", "", Honoured, "Its key.";
    "proxy_ssl_password_file", REQUEST, words(1, 1), Once, "file", "", Honoured, "Passwords for an encrypted key, one a line.";
    "proxy_ssl_protocols", REQUEST, words(1, MANY), Once, "[TLSv1.2] [TLSv1.3]", "TLSv1.2 TLSv1.3", Honoured, "What the servers are spoken to in. Older protocols are refused.";
    "proxy_ssl_ciphers", REQUEST, words(1, 1), Once, "list", "DEFAULT", Honoured, "As `ssl_ciphers`.";
    "proxy_ssl_conf_command", REQUEST, words(2, 2), Many, "Ciphersuites list", "", Honoured, "As `ssl_conf_command`.";
    "proxy_ssl_session_reuse", REQUEST, FLAG, Once, "on | off", "on", Honoured, "Whether sessions with the servers are resumed.";
    "ssl_certificate", HTTP_SERVER, words(1, 1), Many, "file", "", Honoured, "The server's certificate and those of its issuers, as PEM. Repeated for keys of another kind (RSA and ECDSA).";
    "ssl_certificate_key", HTTP_SERVER, words(1, 1), Many, "file", "", Honoured, "The private key of the certificate that stands at the same place in the order. Both are read again when their files change, as `user`: a pair that does not belong together changes nothing.";
    "ssl_password_file", HTTP_SERVER, words(1, 1), Once, "file", "", Honoured, "Passwords for encrypted keys (PKCS#8), one a line; each is tried.";
    "ssl_protocols", HTTP_SERVER, words(1, MANY), Once, "[TLSv1.2] [TLSv1.3]", "TLSv1.2 TLSv1.3", Honoured, "What clients may speak. Older protocols are refused.";
    "ssl_ciphers", HTTP_SERVER, words(1, 1), Once, "list", "HIGH:!aNULL:!MD5", Honoured, "OpenSSL's list of suites of TLS 1.2. There are those with ECDHE and AES-GCM or ChaCha20-Poly1305; names of others warn.";
    "ssl_conf_command", HTTP_SERVER, words(2, 2), Many, "Ciphersuites list", "", Honoured, "Suites of TLS 1.3. Other commands warn and have no effect.";
    "ssl_prefer_server_ciphers", HTTP_SERVER, FLAG, Once, "on | off", "off", Honoured, "Whether the order of `ssl_ciphers` decides instead of the client's.";
    "ssl_session_cache", HTTP_SERVER, words(1, 2), Once, "off | none | [builtin[:size]] [shared:name:size]", "none", Honoured, "How many sessions are kept for clients that resume without tickets. Each server has its own cache, whatever the name.";
    "ssl_session_tickets", HTTP_SERVER, FLAG, Once, "on | off", "on", Honoured, "Whether clients get tickets. Each server has keys of its own, made at the start and at each reload.";
    "ssl_session_timeout", HTTP_SERVER, words(1, 1), Once, "time", "5m", Honoured, "How long a session can be resumed.";
    "ssl_handshake_timeout", HTTP_SERVER, words(1, 1), Once, "time", "60s", Honoured, "Time for a whole handshake.";
    "ssl_reject_handshake", HTTP_SERVER, FLAG, Once, "on | off", "off", Honoured, "Refuses handshakes that ask for this server's name, or for none that is known if it is the default one.";
    "ssl_verify_client", HTTP_SERVER, words(1, 1), Once, "on | off | optional | optional_no_ca", "off", Honoured, "Whether clients are asked for certificates. Requests of a client whose certificate is not valid, or that has none where there has to be one, are answered with 400; those that ask for a server with other rules than the one whose name the client sent, with 421.";
    "ssl_client_certificate", HTTP_SERVER, words(1, 1), Once, "file", "", Honoured, "Who may have signed them, as PEM. Clients are told these names.";
    "ssl_trusted_certificate", HTTP_SERVER, words(1, 1), Once, "file", "", Honoured, "Who else may have signed them; clients are not told.";
    "ssl_crl", HTTP_SERVER, words(1, 1), Once, "file", "", Honoured, "Revoked certificates, as PEM: a list of everybody who has signed one.";
    "ssl_verify_depth", HTTP_SERVER, words(1, 1), Once, "number", "1", Honoured, "How many certificates that a client sends beside its own may be used for its verification.";
    "client_body_timeout", REQUEST, words(1, 1), Once, "time", "60s", Honoured, "Time between two reads of a request body.";
    "send_timeout", REQUEST, words(1, 1), Once, "time", "60s", Honoured, "Time between two writes to the client.";
    "client_max_body_size", REQUEST, words(1, 1), Once, "size", "1m", Honoured, "Longest request body; more is answered with 413. 0 is no limit.";
    "client_header_buffer_size", HTTP_SERVER, words(1, 1), Once, "size", "1k", Honoured, "A head of this size is accepted even if `large_client_header_buffers` says less.";
    "large_client_header_buffers", HTTP_SERVER, words(2, 2), Once, "number size", "1 64k", Honoured, "A line of a request head may have `size` bytes, the whole head `number` times as much; else 414 or 431.";
    "max_headers", HTTP_SERVER, words(1, 1), Once, "number", "100", Honoured, "Header lines of a request.";
    "underscores_in_headers", HTTP_SERVER, FLAG, Once, "on | off", "off", Honoured, "Whether fields with an underscore in their name are passed on.";
    "tcp_nodelay", REQUEST, FLAG, Once, "on | off", "on", Honoured, "TCP_NODELAY for client connections.";
    "server_tokens", REQUEST, FLAG, Once, "on | off", "on", Honoured, "Whether the version is shown in error pages and `Server`.";
    "add_header", REQUEST, words(2, 3), Many, "name value [always]", "", Honoured, "Adds a field to answers with status 200, 201, 204, 206, 301, 302, 303, 304, 307 and 308, or to all. Inherited only where there is none.";
    "allow", REQUEST, words(1, 1), Many, "address | CIDR | unix: | all", "", Honoured, "Lets clients in. The first rule that matches decides. Inherited only where there is neither `allow` nor `deny`.";
    "deny", REQUEST, words(1, 1), Many, "address | CIDR | unix: | all", "", Honoured, "Keeps clients out: 403.";
    "set_real_ip_from", REQUEST, words(1, 1), Many, "address | CIDR | unix:", "", Honoured, "Whose word about the client's address is believed.";
    "real_ip_header", REQUEST, words(1, 1), Once, "field | X-Real-IP | X-Forwarded-For | proxy_protocol", "X-Real-IP", Honoured, "Where the client's address is told. Of `X-Forwarded-For` the last address counts.";
    "limit_req_zone", HTTP, words(3, 3), Many, "key zone=name:size rate=number(r/s | r/m)", "", Honoured, "Memory in which all workers together count the requests of each key; 1m has places for 65536 keys, and one that finds none takes the place of one that has been quiet for longest. A reload keeps what is in it, unless the size changes; the key must stay. Requests whose key is empty are not counted.";
    "limit_req", REQUEST, words(1, 3), Many, "zone=name [burst=number] [nodelay | delay=number]", "", Honoured, "Requests that come faster than the zone's rate are delayed, and refused when more than `burst` of them are ahead of it; those up to `delay`, or with `nodelay` all, are not delayed. With several each has to let the request through. Inherited only where there is none. Not for what `return` answers.";
    "limit_req_status", REQUEST, words(1, 1), Once, "code", "503", Honoured, "Answer to a refused request, 400 to 599; 444 closes the connection without one.";
    "limit_req_log_level", REQUEST, words(1, 1), Once, "info | notice | warn | error", "error", Honoured, "Level of the line about a refused request; the one about a delayed request is a level less severe.";
    "limit_req_dry_run", REQUEST, FLAG, Once, "on | off", "off", Honoured, "Counts and logs, and neither delays nor refuses. `$limit_req_status` tells what would have been: `PASSED`, `DELAYED`, `REJECTED`, `DELAYED_DRY_RUN` or `REJECTED_DRY_RUN`.";
    "limit_conn_zone", HTTP, words(2, 2), Many, "key zone=name:size", "", Honoured, "As `limit_req_zone`, for requests that are being processed: one that finds no place, because all hold such requests, is refused.";
    "limit_conn", REQUEST, words(2, 2), Many, "zone number", "", Honoured, "How many requests of one key may be processed at the same time, from their complete heads to the ends of their answers; idle connections do not count. Inherited only where there is none. Not for what `return` answers.";
    "limit_conn_status", REQUEST, words(1, 1), Once, "code", "503", Honoured, "As `limit_req_status`.";
    "limit_conn_log_level", REQUEST, words(1, 1), Once, "info | notice | warn | error", "error", Honoured, "Level of the line about a refused request.";
    "limit_conn_dry_run", REQUEST, FLAG, Once, "on | off", "off", Honoured, "Logs and does not refuse. `$limit_conn_status` is `PASSED`, `REJECTED` or `REJECTED_DRY_RUN`.";
    "stub_status", SERVER_LOCATION, words(0, 1), Once, "", "", Honoured, "Answers with nginx's counters.";
    "metrics", SERVER_LOCATION, words(0, 0), Once, "", "", Honoured, "Answers with everything that is counted, for Prometheus: in OpenMetrics where `Accept` asks for it. See [metrics.md](metrics.md). Let only those in who collect it (`allow`, `deny`).";
    "status", SERVER_LOCATION, words(0, 0), Once, "", "", Honoured, "Answers with a page that shows every second what the front does and what is wrong; with `?format=json` its figures. See [status.md](status.md). It says who is behind: let only operators in (`allow`, `deny`).";
    // proxy
    "proxy_pass", LOCATION, words(1, 1), Once, "http://host[:port][uri] | http://unix:path[:uri]", "", Honoured, "Where requests go: an `upstream` group or an address, with variables a group or an IP address. With a URI part, that takes the place of the location's prefix. A location whose path ends with a slash sends requests without the slash there (301).";
    "proxy_set_header", REQUEST, words(2, 2), Many, "field value", "Host $proxy_host", Honoured, "Replaces a field of the request; an empty value removes it. Inherited only where there is none. `Authorization $http_authorization` changes nothing and hides nothing.";
    "proxy_hide_header", REQUEST, words(1, 1), Many, "field", "", Honoured, "A field of the answer that is not passed on, besides `Date`, `Server`, `X-Pad` and `X-Accel-…`.";
    "proxy_pass_header", REQUEST, words(1, 1), Many, "field", "", Honoured, "Passes on a field that would be hidden.";
    "proxy_connect_timeout", REQUEST, words(1, 1), Once, "time", "60s", Honoured, "Time for opening an upstream connection.";
    "proxy_read_timeout", REQUEST, words(1, 1), Once, "time", "60s", Honoured, "Time between two reads of an answer; then 504. Long polls of mail clients need more than 60s.";
    "proxy_send_timeout", REQUEST, words(1, 1), Once, "time", "60s", Honoured, "Time between two writes of a request.";
    "proxy_next_upstream", REQUEST, words(1, MANY), Once, "error | timeout | invalid_header | http_500 | http_502 | http_503 | http_504 | http_403 | http_404 | http_429 | non_idempotent | off …", "error timeout", Honoured, "When another server is tried. Never for a request with credentials or on a pin.";
    "proxy_next_upstream_tries", REQUEST, words(1, 1), Once, "number", "0", Honoured, "How many servers are tried; 0 is no limit.";
    "proxy_next_upstream_timeout", REQUEST, words(1, 1), Once, "time", "0", Honoured, "For how long servers are tried; 0 is no limit.";
    "proxy_redirect", REQUEST, words(1, 2), Many, "default | off | from to | ~regex to", "default", Honoured, "Changes the beginning of `Location` and `Refresh`.";
    "proxy_bind", REQUEST, words(1, 2), Once, "address | off", "", Honoured, "The local address of upstream connections.";
    "proxy_socket_keepalive", REQUEST, FLAG, Once, "on | off", "off", Honoured, "TCP keepalive on upstream connections.";
    "ntlm", SERVER_LOCATION, words(0, 1), Once, "[connections]", "100", Honoured, "As in `upstream`, for a `proxy_pass` to an address or with variables.";
    "ntlm_timeout", SERVER_LOCATION, words(1, 1), Once, "time", "60s", Honoured, "As in `upstream`.";
    "ntlm_time", SERVER_LOCATION, words(1, 1), Once, "time", "1h", Honoured, "As in `upstream`.";
    "ntlm_requests", SERVER_LOCATION, words(1, 1), Once, "number", "1000", Honoured, "As in `upstream`.";
    "ntlm_reauth", SERVER_LOCATION, words(1, 1), Once, "same | fresh", "fresh", Honoured, "As in `upstream`.";
    "ntlm_pins_per_client", REQUEST, words(1, 1), Once, "number", "8", Honoured, "Pins that one client connection holds at most, one for each group that it logged in to. One more ends the one that it used least recently.";
    "ntlm_fail_delay", REQUEST, words(1, 4), Once, "off | time [after=number] [forget=time] [max=time]", "off", Honoured, "Slows a client address whose NTLM or Negotiate logins keep failing, since replayed handshakes lock accounts. Once `after` (3) of them have failed, its logins go to the servers one at a time and at least `time` apart, twice as far with every further failure, up to `max` (30s); one whose turn would come later than that is answered with 429. Every `forget` (1m) one failure is forgotten. An address is that of `$remote_addr`, of IPv6 the first 64 bits; all workers count together. Logged-in clients are not touched.";
    "ntlm_refuse_via", REQUEST, FLAG, Once, "on | off", "off", Honoured, "Refuses credentials (403, and the connection is closed) in requests that carry `Via`: they came through a proxy, which may put several people on one connection, and those would share the login.";
    "ntlm_log_user", REQUEST, FLAG, Once, "on | off", "off", Honoured, "Whether the line that `error_log … info` has about each login names the domain and the user, as the client's NTLM message spells them. Kerberos shows no name.";
    // upstream
    "server", UPSTREAM, words(1, MANY), Many, "address [weight=n] [max_fails=n] [fail_timeout=time] [max_conns=n] [backup] [down]", "", Honoured, "A server, by address, `unix:path` or name; a name stands for all its addresses.";
    "keepalive", UPSTREAM, words(1, 2), Once, "connections", "32", Honoured, "Idle connections that one worker keeps; 0 keeps none. A connection that carried credentials is never among them.";
    "keepalive_timeout", UPSTREAM, words(1, 1), Once, "timeout", "60s", Honoured, "How long one stays idle.";
    "keepalive_requests", UPSTREAM, words(1, 1), Once, "number", "1000", Honoured, "Requests after which one is closed.";
    "keepalive_time", UPSTREAM, words(1, 1), Once, "time", "1h", Honoured, "Age after which one is closed.";
    "least_conn", UPSTREAM, words(0, 0), Many, "", "", Honoured, "The server with the fewest connections, weights considered.";
    "ip_hash", UPSTREAM, words(0, 0), Many, "", "", Honoured, "The same server for the same client address.";
    "hash", UPSTREAM, words(1, 2), Many, "key [consistent]", "", Honoured, "The same server for the same key.";
    "random", UPSTREAM, words(0, 2), Many, "[two [least_conn]]", "", Honoured, "Any server, or of two the one with fewer connections.";
    "ntlm", UPSTREAM, words(0, 1), Once, "[connections]", "100", Honoured, "Every login gets an upstream connection of its own (a pin). The number is that of idle established pins one worker keeps; one more closes the least recently used, which logs its user out.";
    "ntlm_timeout", UPSTREAM, words(1, 1), Once, "time", "60s", Honoured, "How long an established pin may stay idle.";
    "ntlm_time", UPSTREAM, words(1, 1), Once, "time", "1h", Honoured, "Age of a pin, from the opening of its upstream connection.";
    "ntlm_requests", UPSTREAM, words(1, 1), Once, "number", "1000", Honoured, "Requests sent over a pin.";
    "ntlm_reauth", UPSTREAM, words(1, 1), Once, "same | fresh", "fresh", Honoured, "What credentials on an established pin mean: `fresh`, a new login on a new connection; `same`, for servers that want Kerberos with every request, they stay on the pin unless they are NTLM.";
};

const STREAMED: &str = "bodies are streamed both ways, never stored";
const NO_FILES: &str = "there are no files to serve here";
const ONE_PROCESS: &str = "there is one process with a thread for each worker";
const OWN_EVENTS: &str = "each worker has its own listening sockets and waits for its own events";
const TABLES: &str = "tables are as large as they need to be";
const OWN_MEMORY: &str = "memory is not kept in pools here";

#[rustfmt::skip]
static ACCEPTED: &[Definition] = accepted! {
    "env", MAIN, words(1, 1), "the environment is kept as it is";
    "ssl_dhparam", HTTP_SERVER, words(1, 1), "keys are agreed upon by elliptic curves alone";
    "ssl_ecdh_curve", HTTP_SERVER, words(1, 1), "clients choose among X25519MLKEM768, X25519, P-256 and P-384";
    "ssl_buffer_size", HTTP_SERVER, words(1, 1), "an answer goes out in as few records as it can";
    "master_process", MAIN, FLAG, ONE_PROCESS;
    "thread_pool", MAIN, words(2, 3), ONE_PROCESS;
    "worker_priority", MAIN, words(1, 1), "the priority is that of the process";
    "pcre_jit", MAIN, FLAG, "regular expressions are compiled in any case";
    "lock_file", MAIN, words(1, 1), OWN_EVENTS;
    "timer_resolution", MAIN, words(1, 1), OWN_EVENTS;
    "use", EVENTS, words(1, 1),
        "--io on the command line chooses what workers wait with";
    "accept_mutex", EVENTS, FLAG, OWN_EVENTS;
    "accept_mutex_delay", EVENTS, words(1, 1), OWN_EVENTS;
    "multi_accept", EVENTS, FLAG, OWN_EVENTS;
    "worker_aio_requests", EVENTS, words(1, 1), OWN_EVENTS;
    "zone", UPSTREAM, words(1, 2), "each worker counts for itself";
    "proxy_buffering", REQUEST, FLAG, STREAMED;
    "proxy_request_buffering", REQUEST, FLAG, STREAMED;
    "proxy_buffers", REQUEST, words(2, 2), STREAMED;
    "proxy_buffer_size", REQUEST, words(1, 1), STREAMED;
    "proxy_busy_buffers_size", REQUEST, words(1, 1), STREAMED;
    "proxy_max_temp_file_size", REQUEST, words(1, 1), STREAMED;
    "proxy_temp_file_write_size", REQUEST, words(1, 1), STREAMED;
    "proxy_temp_path", REQUEST, words(1, 4), STREAMED;
    "client_body_temp_path", REQUEST, words(1, 4), STREAMED;
    "client_body_buffer_size", REQUEST, words(1, 1), STREAMED;
    "client_body_in_file_only", REQUEST, words(1, 1), STREAMED;
    "client_body_in_single_buffer", REQUEST, FLAG, STREAMED;
    "fastcgi_temp_path", REQUEST, words(1, 4), STREAMED;
    "uwsgi_temp_path", REQUEST, words(1, 4), STREAMED;
    "scgi_temp_path", REQUEST, words(1, 4), STREAMED;
    "grpc_temp_path", REQUEST, words(1, 4), STREAMED;
    "postpone_output", REQUEST, words(1, 1), STREAMED;
    "output_buffers", REQUEST, words(2, 2), STREAMED;
    "sendfile", REQUEST, FLAG, NO_FILES;
    "sendfile_max_chunk", REQUEST, words(1, 1), NO_FILES;
    "tcp_nopush", REQUEST, FLAG, NO_FILES;
    "aio", REQUEST, words(1, 1), NO_FILES;
    "directio", REQUEST, words(1, 1), NO_FILES;
    "root", REQUEST, words(1, 1), NO_FILES;
    "index", REQUEST, words(1, MANY), NO_FILES;
    "types", REQUEST, block(0, 0, Entries), NO_FILES;
    "open_file_cache_valid", REQUEST, words(1, 1), NO_FILES;
    "open_file_cache_min_uses", REQUEST, words(1, 1), NO_FILES;
    "open_file_cache_errors", REQUEST, FLAG, NO_FILES;
    "log_not_found", REQUEST, FLAG, NO_FILES;
    "types_hash_max_size", REQUEST, words(1, 1), TABLES;
    "types_hash_bucket_size", REQUEST, words(1, 1), TABLES;
    "server_names_hash_max_size", HTTP, words(1, 1), TABLES;
    "server_names_hash_bucket_size", HTTP, words(1, 1), TABLES;
    "variables_hash_max_size", HTTP, words(1, 1), TABLES;
    "variables_hash_bucket_size", HTTP, words(1, 1), TABLES;
    "map_hash_max_size", HTTP, words(1, 1), TABLES;
    "map_hash_bucket_size", HTTP, words(1, 1), TABLES;
    "proxy_headers_hash_max_size", REQUEST, words(1, 1), TABLES;
    "proxy_headers_hash_bucket_size", REQUEST, words(1, 1), TABLES;
    "connection_pool_size", HTTP_SERVER, words(1, 1), OWN_MEMORY;
    "request_pool_size", HTTP_SERVER, words(1, 1), OWN_MEMORY;
    "open_log_file_cache", REQUEST, words(1, 4), "names of log files hold no variables here";
    "gzip_vary", REQUEST, FLAG, "nothing is compressed here";
    "gzip_proxied", REQUEST, words(1, MANY), "nothing is compressed here";
    "gzip_comp_level", REQUEST, words(1, 1), "nothing is compressed here";
    "gzip_buffers", REQUEST, words(2, 2), "nothing is compressed here";
    "gzip_http_version", REQUEST, words(1, 1), "nothing is compressed here";
    "gzip_min_length", REQUEST, words(1, 1), "nothing is compressed here";
    "gzip_types", REQUEST, words(1, MANY), "nothing is compressed here";
    "gzip_disable", REQUEST, words(1, MANY), "nothing is compressed here";
};

#[rustfmt::skip]
static ONLY: &[Definition] = only! {
    "ignore_invalid_headers", HTTP_SERVER, FLAG, "on", "invalid headers are never passed on";
    "proxy_http_version", REQUEST, words(1, 1), "1.1", "a login lives on a connection that HTTP/1.0 would close and that HTTP/2 does not know";
    "ssl_early_data", HTTP_SERVER, FLAG, "off", "early data can be replayed, and a login with it";
    "ssl_stapling", HTTP_SERVER, FLAG, "off", "nothing is asked of certificate authorities; clients ask them";
    "ssl_stapling_verify", HTTP_SERVER, FLAG, "off", "nothing is asked of certificate authorities; clients ask them";
    "ssl_ocsp", HTTP_SERVER, words(1, 1), "off", "nothing is asked of certificate authorities; use ssl_crl";
    "http2", HTTP_SERVER, FLAG, "off", "Windows authentication does not exist in HTTP/2";
    "http3", HTTP_SERVER, FLAG, "off", "Windows authentication does not exist in HTTP/3";
    "gzip", REQUEST, FLAG, "off", "answers pass as the server made them; compress them there";
    "auth_basic", REQUEST, words(1, 1), "off", "the servers behind ask for the login; use allow and deny here";
    "auth_request", REQUEST, words(1, 1), "off", "the servers behind ask for the login; there are no subrequests here";
    "autoindex", REQUEST, FLAG, "off", "there are no files to serve here";
    "charset", REQUEST, words(1, 1), "off", "answers pass as the server made them";
    "chunked_transfer_encoding", REQUEST, FLAG, "on", "an answer of unknown length is chunked for HTTP/1.1 clients";
    "expires", REQUEST, words(1, 2), "off", "use add_header";
    "limit_rate", REQUEST, words(1, 1), "0", "there is no limit of the rate";
    "open_file_cache", REQUEST, words(1, 2), "off", "there are no files to serve here";
    "proxy_cache", REQUEST, words(1, 1), "off", "answers to logged-in users are not for a cache";
    "proxy_force_ranges", REQUEST, FLAG, "off", "answers pass as the server made them";
    "proxy_ignore_client_abort", REQUEST, FLAG, "off", "a client that leaves takes its upstream connection with it";
    "proxy_intercept_errors", REQUEST, FLAG, "off", "answers pass as the server made them; a 401 is part of the login";
    "proxy_pass_request_body", REQUEST, FLAG, "on", "requests are passed on whole";
    "proxy_pass_request_headers", REQUEST, FLAG, "on", "requests are passed on whole; use proxy_set_header to remove a field";
    "proxy_store", REQUEST, words(1, 1), "off", "bodies are streamed, never stored";
    "real_ip_recursive", REQUEST, FLAG, "off", "the last address of X-Forwarded-For counts";
    "satisfy", REQUEST, words(1, 1), "all", "allow and deny are the only conditions there are";
    "ssi", REQUEST, FLAG, "off", "answers pass as the server made them";
};

const TLS: &str = "OpenSSL's own settings have no counterpart here";
const NO_SUBREQUESTS: &str = "there are no internal redirects and subrequests here";
const OTHER_PROTOCOL: &str = "only HTTP servers are proxied: use proxy_pass";
const AS_MADE: &str = "answers pass as the server made them";
const NO_CODE: &str = "no code runs inside the front";
const NO_RATES: &str = "there is no limit of bytes in a time; limit requests with limit_req";

#[rustfmt::skip]
static REFUSED: &[Definition] = refused! {
    "load_module", "modules of nginx cannot be loaded; ntlm is built in, remove the line";
    "stream", "only HTTP is proxied";
    "mail", "only HTTP is proxied";
    "if", "there is no if by design; use map, location or separate servers";
    "rewrite", "use return, or proxy_pass with a URI part";
    "rewrite_log", "there is no rewrite";
    "break", "there is no rewrite";
    "try_files", "there are no files to serve here; use location and proxy_pass";
    "alias", "there are no files to serve here";
    "error_page", NO_SUBREQUESTS;
    "internal", NO_SUBREQUESTS;
    "mirror", NO_SUBREQUESTS;
    "mirror_request_body", NO_SUBREQUESTS;
    "auth_request_set", NO_SUBREQUESTS;
    "auth_basic_user_file", "the servers behind ask for the login";
    "auth_jwt*", "the servers behind ask for the login";
    "auth_ldap*", "the servers behind ask for the login";
    "auth_gss*", "the servers behind ask for the login";
    "limit_except", "decide on methods in the servers behind";
    "limit_rate_after", NO_RATES;
    "proxy_limit_rate", NO_RATES;
    "more_set_headers", "use add_header with always, and proxy_hide_header";
    "more_clear_headers", "use proxy_hide_header";
    "more_set_input_headers", "use proxy_set_header";
    "more_clear_input_headers", "use proxy_set_header with an empty value";
    "headers_more*", "use add_header and proxy_set_header";
    "add_trailer", "trailers are not passed on";
    "sub_filter*", AS_MADE;
    "gunzip*", AS_MADE;
    "gzip_static", "there are no files to serve here";
    "brotli*", AS_MADE;
    "zstd*", AS_MADE;
    "proxy_cookie_*", AS_MADE;
    "proxy_cache_*", "answers to logged-in users are not for a cache";
    "proxy_no_cache", "answers to logged-in users are not for a cache";
    "proxy_ignore_headers", "X-Accel fields are hidden and have no effect";
    "proxy_method", "requests are passed on whole";
    "proxy_set_body", "requests are passed on whole";
    "proxy_ssl*", TLS;
    "ssl", "say listen … ssl";
    "ssl_*", TLS;
    "http2_*", "Windows authentication does not exist in HTTP/2";
    "http3_*", "Windows authentication does not exist in HTTP/3";
    "quic_*", "Windows authentication does not exist in HTTP/3";
    "fastcgi_*", OTHER_PROTOCOL;
    "uwsgi_*", OTHER_PROTOCOL;
    "scgi_*", OTHER_PROTOCOL;
    "grpc_*", OTHER_PROTOCOL;
    "memcached_*", OTHER_PROTOCOL;
    "*_by_lua*", NO_CODE;
    "lua_*", NO_CODE;
    "js_*", NO_CODE;
    "perl*", NO_CODE;
    "modsecurity*", "there is no filter of requests here";
    "geo", "use map";
    "geoip*", "use map";
    "split_clients", "use map, or hash in upstream";
    "sticky", "a login stays on its connection by itself; for the rest use ip_hash or hash";
    "health_check", "servers are judged by max_fails and fail_timeout";
    "check", "servers are judged by max_fails and fail_timeout";
    "check_*", "servers are judged by max_fails and fail_timeout";
    "queue", "a request waits for no server; see max_conns";
    "resolver", "names are resolved when the configuration is read; reload after a change";
    "resolver_timeout", "names are resolved when the configuration is read";
    "vhost_traffic_status*", "use stub_status";
};
