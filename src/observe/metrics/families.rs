//! Every metric: the one table that the page prints its heads from, and `docs/metrics.md` is printed from.

use super::encode::{Family, Kind};

macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal)*] $help:literal;)*) => {
        $(pub(super) static $constant: Family = Family {
            name: concat!("ntlmfront_", $name),
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// All of them, in the order in which they are shown.
        #[cfg(test)]
        pub(super) static ALL: &[&Family] = &[$(&$constant),*];
    };
}

families! {
    // The process
    BUILD: Info "build" ["version" "driver"] "Version, and what the workers wait with.";
    START_TIME: Gauge "start_time_seconds" [] "When the process began, in seconds since 1970.";
    RELOADS: Counter "config_reloads" ["result"] "Reloads: success changed the configuration, failure left the old one in force.";
    LAST_RELOAD: Gauge "config_last_reload_successful" [] "1 if the configuration in force is the one of the last reload, or of the start; 0 if the last reload was refused.";
    LOG_FAILURES: Counter "log_write_failures" ["log"] "Writes of log lines that failed, by log.";
    LOG_LOST: Counter "log_lines_lost" ["log"] "Lines that were lost, by log: it could not be written for too long, or not fast enough.";
    // Workers
    CPU: Counter "worker_cpu_seconds" ["worker"] "Processor time of the worker's thread.";
    TURNS: Counter "worker_turns" ["worker"] "Looks at what the kernel has to tell.";
    TASKS: Gauge "worker_tasks" ["worker"] "Tasks, most of them client connections.";
    CONNECTIONS_LIMIT: Gauge "worker_connections_limit" [] "worker_connections: clients and upstream connections that one worker may have.";
    CONNECTIONS: Gauge "connections" ["worker" "state"] "Client connections: idle has no request, pinned has none and holds a login, reading is within a request head, answering has a request.";
    ACCEPTED: Counter "connections_accepted" ["worker"] "Client connections that were accepted.";
    HANDLED: Counter "connections_handled" ["worker"] "Client connections that were accepted and not closed at once for want of worker_connections.";
    RECEIVED: Counter "received_bytes" ["worker"] "Bytes of requests.";
    SENT: Counter "sent_bytes" ["worker"] "Bytes of answers.";
    // Requests
    REQUESTS: Counter "http_requests" ["worker"] "Requests whose head was read.";
    RESPONSES: Counter "http_responses" ["worker" "class"] "Answers by class of their status.";
    REQUEST_TIME: Histogram "http_request_duration_seconds" [] "From a request's head to the end of its answer.";
    CLIENT_ABORTS: Counter "http_client_aborts" ["worker"] "Requests whose client left before the end of the answer.";
    REFUSALS: Counter "http_refusals" ["reason"] "Messages of clients and servers that broke a rule, by the word that the error log has for it.";
    // Pins
    PINS: Gauge "pins" ["worker" "upstream" "state"] "Logged-in upstream connections: handshaking ones, active ones with a request in flight, idle ones.";
    PIN_TABLE: Gauge "pin_table_size" ["upstream"] "ntlm: idle logins that one worker keeps.";
    PINS_CREATED: Counter "pins_created" ["worker"] "Upstream connections that were bound to a client.";
    PINS_ENDED: Counter "pins_ended" ["reason"] "Pins that ended, by reason.";
    PIN_TABLE_FULL: Counter "pin_table_full" ["worker" "upstream"] "Idle logins that were ended because ntlm allows no more of them.";
    // Logins
    LOGINS: Counter "logins" ["scheme" "result"] "Logins that ended: succeeded, failed (the server refused it), or aborted without a verdict.";
    LOGIN_LEGS: Counter "login_legs" [] "Requests that were legs of logins, those of logins under way included.";
    // Servers
    UPSTREAM_CONNECTIONS: Gauge "upstream_connections" ["worker"] "Open connections to servers.";
    UPSTREAM_OPENED: Counter "upstream_connections_opened" ["worker"] "Connections to servers that were opened.";
    UPSTREAM_REUSED: Counter "upstream_connections_reused" ["worker"] "Requests that took an idle connection from the pool.";
    UPSTREAM_FAILED: Counter "upstream_failures" ["worker"] "Connections that could not be opened or that failed with a request on them.";
    UPSTREAM_TIME: Histogram "upstream_header_duration_seconds" [] "From a request's having been sent to the head of the answer, as $upstream_header_time less $upstream_connect_time.";
    SERVER_STATE: Gauge "upstream_server_state" ["upstream" "server" "state"] "How many workers see the server as up, full (max_conns), failed (max_fails, not yet back), or down (as configured).";
    SERVER_CONNECTIONS: Gauge "upstream_server_connections" ["upstream" "server" "state"] "Open connections: active carry a request or are somebody's login, idle wait in the pool.";
    SERVER_OPENED: Counter "upstream_server_connections_opened" ["upstream" "server"] "Connections that were opened.";
    SERVER_RESPONSES: Counter "upstream_server_responses" ["upstream" "server" "class"] "Answers by class of their status.";
    SERVER_FAILURES: Counter "upstream_server_failures" ["upstream" "server"] "Connections that could not be opened and requests that failed, as max_fails counts them.";
    SERVER_TIME: Summary "upstream_server_header_duration_seconds" ["upstream" "server"] "From a request's having been sent to the head of the answer.";
    // TLS
    HANDSHAKES: Counter "tls_handshakes" ["side" "protocol" "resumed"] "TLS handshakes that succeeded, with clients and with upstream servers.";
    HANDSHAKE_FAILURES: Counter "tls_handshake_failures" ["side" "reason"] "TLS handshakes that failed.";
    CERTIFICATE: Gauge "certificate_expiry_timestamp_seconds" ["server" "subject"] "When a certificate that clients are shown expires, in seconds since 1970.";
    SERVER_CERTIFICATE: Gauge "upstream_certificate_expiry_timestamp_seconds" ["upstream" "server" "subject"] "When the certificate of a server behind expires, in seconds since 1970; of those that logins are passed to.";
    BINDING: Gauge "channel_binding_state" ["server" "upstream" "upstream_server" "state"] "1 for what is known: whether clients are shown the same certificate as the server behind shows, so that Extended Protection lets logins through.";
    MISMATCHES: Counter "channel_binding_mismatches" [] "Comparisons of certificates that came to be different.";
    // Below everything
    PIPES: Gauge "pipes" ["worker" "state"] "Pipes that bodies are spliced through: used ones, and free ones that are kept.";
    PIPES_REFUSED: Counter "pipes_refused" ["worker"] "Bodies that were copied because the kernel gave no pipe.";
    COMPLETIONS: Counter "ring_completions" ["worker"] "What io_uring completed.";
    BUFFERS: Gauge "ring_buffers" ["worker" "state"] "Receive buffers of io_uring: used ones hold bytes that nobody has taken yet.";
    BUFFERS_EXHAUSTED: Counter "ring_buffers_exhausted" ["worker"] "Receives that found no free buffer, and took a system call of their own.";
}
