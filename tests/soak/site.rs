//! The front of the soak: its configuration, which the operator varies, and the servers behind it.

use std::net::SocketAddr;
use std::time::Duration;

use ntlm_origin::Origin;

use crate::crowd;
use crate::plan::Limits;

/// Groups of the plan.
pub(crate) const GROUPS: usize = 3;

/// `client_max_body_size` where clients misbehave.
pub(crate) const MAX_BODY_BYTES: u64 = 1 << 20;

/// What the operator gives the timeouts where clients misbehave, in milliseconds.
pub(crate) const TIMEOUTS_MS: std::ops::RangeInclusive<u64> = 1_000..=3_000;
pub(crate) const LONGEST_TIMEOUT: Duration = Duration::from_millis(*TIMEOUTS_MS.end());

/// The order of the `listen` directives.
pub(crate) const FOR_THE_CROWD: usize = 0;
pub(crate) const FOR_WITNESSES: usize = 1;
pub(crate) const FOR_FAULTS: usize = 2;

/// Connections that a worker may have: more than there can be, and less than there are.
pub(crate) const PLENTY: usize = 16_384;
pub(crate) const SHORT: usize = 160;

/// The servers, and where those that misbehave listen.
pub(crate) struct Servers {
    pub(crate) plan: Vec<Origin>,
    pub(crate) witnesses: Origin,
    pub(crate) mixed: Origin,
    pub(crate) hostile: SocketAddr,
    pub(crate) coming_and_going: SocketAddr,
}

/// What the operator changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) worker_connections: usize,
    pub(crate) timeouts_ms: [u64; 4],
}

impl Servers {
    /// Connections that the well-behaved ones have open.
    pub(crate) fn connections(&self) -> usize {
        crowd::connections(&self.plan) + self.witnesses.connections() + self.mixed.connections()
    }

    /// The `http` block.
    pub(crate) fn configuration(&self, settings: &Settings) -> String {
        let (upstreams, locations) = crowd::groups(&self.plan, &crowd::ntlm(&settings.limits));
        let [header, body, send, read] = settings.timeouts_ms;
        let tunnels: String = (0..GROUPS)
            .map(|n| {
                format!(
                    "location /tunnel{n}/ {{
                         proxy_pass http://group{n}/;
                         proxy_set_header Upgrade $http_upgrade;
                         proxy_set_header Connection upgrade;
                     }}\n"
                )
            })
            .collect();
        let Self {
            witnesses,
            mixed,
            hostile,
            coming_and_going,
            ..
        } = self;
        let (witnesses, mixed) = (witnesses.addr(), mixed.addr());
        format!(
            "log_format soak '$connection $request_method $uri $status $pin_state $upstream_addr';
             access_log logs/access.log soak;
             keepalive_requests 1000000000;
             keepalive_timeout 10m;
             {upstreams}
             upstream witnesses {{
                 server {witnesses} max_fails=0;
                 ntlm 1000; ntlm_timeout 1d; ntlm_time 1d; ntlm_requests 1000000000;
             }}
             upstream hostile {{ server {hostile} max_fails=0; keepalive 16; keepalive_timeout 300ms; }}
             upstream gone {{
                 server {coming_and_going} fail_timeout=500ms;
                 keepalive 16; keepalive_timeout 300ms;
             }}
             upstream mixed {{
                 server {mixed} max_fails=0;
                 server {coming_and_going} fail_timeout=500ms;
                 ntlm; keepalive 16; keepalive_timeout 300ms;
             }}
             server {{
                 listen 127.0.0.1:0;
                 {locations}
             }}
             server {{
                 listen 127.0.0.1:0;
                 location = /status {{ stub_status; }}
                 location / {{
                     proxy_pass http://witnesses;
                     add_header X-Client-Number $connection always;
                 }}
             }}
             server {{
                 listen 127.0.0.1:0;
                 client_max_body_size {MAX_BODY_BYTES};
                 client_header_timeout {header}ms;
                 keepalive_timeout {header}ms;
                 client_body_timeout {body}ms;
                 send_timeout {send}ms;
                 proxy_read_timeout {read}ms;
                 proxy_send_timeout {read}ms;
                 {locations}
                 {tunnels}
                 location /h/ {{ proxy_pass http://hostile/; }}
                 location /gone/ {{ proxy_pass http://gone/; }}
                 location /mixed/ {{ proxy_pass http://mixed/; }}
             }}"
        )
    }
}

impl Settings {
    /// The main context.
    pub(crate) fn main(&self) -> String {
        format!(
            "worker_processes 2;\nevents {{ worker_connections {}; }}",
            self.worker_connections
        )
    }
}
