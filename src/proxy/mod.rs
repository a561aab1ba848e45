//! The request path, top to bottom: `worker` accepts, `client` reads heads and owns the pins, `route` finds the location,
//! `forward` chooses the upstream connection, `exchange` carries one request and its response, `relay` moves a body.
//! The pure rooms decide; this one carries out.
#![forbid(unsafe_code)]

mod answer;
mod client;
mod exchange;
mod fields;
mod forward;
mod proxy_header;
mod relay;
mod request;
mod route;
mod slot;
mod upstream;
mod worker;

pub use worker::{Command, Deployment, Setup, run};
