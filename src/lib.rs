//! ntlmfront: a front for servers that log people in with NTLM and Negotiate.
//!
//! Follow a request from [`proxy`]: `worker` accepts, `client` reads heads and owns the pins, `forward` chooses the upstream
//! connection, `exchange` and `response` carry one request and its answer, `relay` moves a body. The rooms below it
//! ([`http`], [`pin`], [`balance`], [`limit`], [`config`]) are pure: no descriptor, clock or system call. [`net`] is the only room
//! that knows io_uring and epoll.

pub mod balance;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod http;
pub mod limit;
pub mod net;
pub mod observe;
pub mod pin;
pub mod probe;
pub mod process;
pub mod proxy;
pub mod tls;
