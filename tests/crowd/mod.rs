//! A crowd that carries out the random plan of `tests/plan` over real sockets, and the servers behind the front that it
//! goes to. After every answer the clients' own books say whose identity it may carry.
//!
//! The isolation test drives it as fast as it goes, the soak for as long as it is told to.

// Each of the tests that include this module uses its own part of it.
#![allow(dead_code)]

pub(crate) mod books;
pub(crate) mod clients;

use ntlm_origin::{Kerberos, Origin, OriginOptions};

use crate::plan::Limits;
use clients::USERS;

/// Servers of one group.
pub(crate) const SERVERS: usize = 2;

/// Pipe ends that two workers may keep for the next body: 64 pipes each.
pub(crate) const PIPE_ENDS_KEPT: usize = 2 * 64 * 2;

/// Group by group, the servers, which do with a ticket what it says.
pub(crate) fn origins(groups: usize) -> Vec<Origin> {
    (0..groups * SERVERS)
        .map(|n| origin(format!("{}-{}", n / SERVERS, n % SERVERS)))
        .collect()
}

/// One server that knows everybody in the crowd.
pub(crate) fn origin(name: String) -> Origin {
    let options = OriginOptions {
        name,
        users: USERS.clone(),
        kerberos: Kerberos::AsTheTicketSays,
        ..OriginOptions::default()
    };
    Origin::start(options).expect("an origin")
}

/// `upstream` blocks, with `in_upstreams` in each, and locations for a configuration where group n is at `/n/`. Servers
/// that close connections here are not out of order, not even when they close one that has just been opened: hence
/// `max_fails=0`.
pub(crate) fn groups(origins: &[Origin], in_upstreams: &str) -> (String, String) {
    let (mut upstreams, mut locations) = (String::new(), String::new());
    for (n, servers) in origins.chunks(SERVERS).enumerate() {
        let servers: String = servers
            .iter()
            .map(|origin| format!("server {} max_fails=0; ", origin.addr()))
            .collect();
        upstreams += &format!("upstream group{n} {{ {servers} {in_upstreams} }}\n");
        locations += &format!("location /{n}/ {{ proxy_pass http://group{n}/; }}\n");
    }
    (upstreams, locations)
}

/// What stands in an `upstream` block whose logins have these limits.
pub(crate) fn ntlm(limits: &Limits) -> String {
    format!(
        "ntlm {}; ntlm_timeout {}ms; ntlm_time {}ms; ntlm_requests {}; ntlm_reauth {};
         keepalive 16; keepalive_timeout 300ms;",
        limits.connections,
        limits.timeout_millis,
        limits.time_millis,
        limits.requests,
        if limits.reauth_same { "same" } else { "fresh" },
    )
}

/// Connections that the servers have open.
pub(crate) fn connections(origins: &[Origin]) -> usize {
    origins.iter().map(Origin::connections).sum()
}
