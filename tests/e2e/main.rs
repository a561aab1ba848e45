//! The front from outside: the real binary, real sockets, real servers and clients.

#[path = "../crowd/mod.rs"]
mod crowd;
#[allow(dead_code)] // each group of tests uses its own part
mod front;
#[allow(dead_code)]
mod haproxy;
mod nginx;
#[allow(dead_code)]
mod peer;
#[path = "../plan/mod.rs"]
mod plan;
#[allow(dead_code)]
mod prefix;
#[allow(dead_code)]
mod site;

mod activation;
mod answers;
mod bodies;
mod cli;
mod clients;
mod demo;
mod drain;
mod endings;
mod examples;
mod fail_delay;
mod hostile;
mod isolation;
mod last_bytes;
mod limit_conn;
mod limit_req;
mod limits;
mod login_lines;
mod logs;
mod messages;
mod metrics;
mod old_clients;
mod packaging;
mod pins;
mod probe;
mod process;
mod proxy_protocol;
mod proxying;
mod queue;
mod reloads;
mod retries;
mod rights;
mod room;
mod rules;
mod scaling;
mod secrets;
mod service;
mod signals;
mod smoke;
mod status;
mod tls;
mod unpinned;
mod upgrade;
mod zones;
