//! The request path, top to bottom: `accept` lets clients in, `client` reads heads and owns the pins, `route` finds the location,
//! `limits` may have a request wait or refuse it, `forward` chooses the upstream connection (`destination` the group, `connect` the server), `exchange` carries the request
//! up and `response` the answer down, `relay` moves a body, `tunnel` what follows a 101.
//! The pure rooms decide; this one carries out.
#![forbid(unsafe_code)]

mod accept;
mod answer;
mod client;
mod connect;
mod destination;
mod exchange;
mod failure;
mod fields;
mod figures;
mod forward;
mod groups;
mod handshake;
mod limits;
mod logins;
mod logs;
mod relay;
mod request;
mod response;
mod route;
mod slot;
mod tls_variables;
mod tunnel;
mod upkeep;
mod upstream;
mod variables;
mod verdicts;
mod worker;

pub use worker::{Command, Deployment, Setup, Sockets, run};
