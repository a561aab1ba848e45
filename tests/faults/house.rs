//! The front that all cells share, and what is known of it before and after.

use std::net::SocketAddr;

use ntlm_origin::{Origin, OriginOptions};

use crate::front::{Front, eventually};
use crate::peer::Server;

/// How long the hasty address waits for anything, in milliseconds.
pub(crate) const HASTE_MS: u64 = 500;

/// Ends of pipes that two workers may keep for the next body.
const PIPE_ENDS_KEPT: usize = 2 * 16 * 2;

/// One of the ways through the front that runs use at the same time: its own group, its own server.
pub(crate) struct Lane {
    pub(crate) number: usize,
    pub(crate) server: Server,
}

/// The front, what is behind it, and its figures at the beginning.
pub(crate) struct House {
    pub(crate) front: Front,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) origin: Origin,
    pipes: usize,
}

impl House {
    /// Starts a front of two workers.
    pub(crate) fn start(lanes: usize) -> Self {
        let origin = Origin::start(OriginOptions::default()).expect("the origin starts");
        let lanes: Vec<Lane> = (0..lanes)
            .map(|number| Lane {
                number,
                server: Server::bind(),
            })
            .collect();
        let front = Front::start(&configuration(&lanes, &origin));
        let pipes = front.pipes();
        Self {
            front,
            lanes,
            origin,
            pipes,
        }
    }

    /// The address with ordinary timeouts, or the one whose timeouts are short.
    pub(crate) fn addr(&self, hasty: bool) -> SocketAddr {
        self.front.addr(usize::from(hasty))
    }

    /// Waits until the front has `sockets` sockets again; fails if it ended, or something of it did.
    #[track_caller]
    pub(crate) fn await_sockets(&self, sockets: usize) {
        let mut now = 0;
        let same = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually("the front's sockets are those of before", || {
                now = self.front.sockets();
                (now == sockets).then_some(())
            })
        }));
        assert!(same.is_ok(), "{now} sockets, there were {sockets}");
        let kept = self.front.pipes().saturating_sub(self.pipes);
        assert!(kept <= PIPE_ENDS_KEPT, "{kept} ends of pipes are left");
        let stderr = std::fs::read_to_string(self.front.path().join("logs/stderr"));
        assert_eq!(stderr.unwrap_or_default(), "", "a worker complains");
    }
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(pid: i32) -> usize {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: usize = kib.and_then(|kib| kib.parse().ok()).expect("a number");
    kib << 10
}

fn configuration(lanes: &[Lane], origin: &Origin) -> String {
    let (mut groups, mut locations) = (String::new(), String::new());
    for Lane { number, server } in lanes {
        let addr = server.addr();
        // What a server does here does not make it one that is out of order.
        groups += &format!(
            "upstream lane{number} {{ server {addr} max_fails=0; ntlm; keepalive 0; }}
             upstream pool{number} {{ server {addr} max_fails=0; ntlm; keepalive 4; keepalive_timeout 1s; }}\n"
        );
        locations += &format!(
            "location /l{number}/ {{ proxy_pass http://lane{number}; }}
             location /p{number}/ {{ proxy_pass http://pool{number}; }}
             location /t{number}/ {{
                 proxy_pass http://lane{number};
                 proxy_set_header Upgrade $http_upgrade;
                 proxy_set_header Connection upgrade;
             }}\n"
        );
    }
    let ms = HASTE_MS;
    format!(
        "log_format pins '$request_uri|$status|$pin_id';
         access_log logs/access.log pins;
         client_max_body_size 0;
         keepalive_requests 1000000000;
         {groups}
         upstream witness {{ server {origin}; ntlm; ntlm_requests 1000000000; keepalive 0; }}
         server {{
             listen 127.0.0.1:0;
             {locations}
             location / {{ proxy_pass http://witness; add_header X-Client $connection; }}
         }}
         server {{
             listen 127.0.0.1:0;
             client_header_timeout {ms}ms;
             client_body_timeout {ms}ms;
             send_timeout {ms}ms;
             keepalive_timeout {ms}ms;
             proxy_connect_timeout {ms}ms;
             proxy_send_timeout {ms}ms;
             proxy_read_timeout {ms}ms;
             {locations}
         }}",
        origin = origin.addr(),
    )
}
