//! Pins: what credentials are, the life of a pin, its limits, and the order in which idle pins are given up.
//!
//! The one promise: an upstream connection that has ever carried credentials belongs to the client connection that sent
//! them, is used for nothing else, and is closed with it at the latest. It is kept by ownership: [`Pins`] is a field of
//! the client connection and holds the upstream connections themselves (`C`), so nothing can hand one to anyone else; and
//! [`Pool`], which lends clean connections to everybody, takes back only what [`Pins`] never held.
//!
//! Events go in, decisions come out; `now` is an argument; no input or output.
#![forbid(unsafe_code)]

pub mod account;
pub mod credentials;
pub mod idle;
pub mod login;
pub mod pins;
pub mod pool;
mod token;

pub use account::Account;
pub use credentials::{Credentials, Scheme};
pub use idle::{IdleKey, IdleOrder};
pub use login::{Login, LoginEnd};
pub use pins::{Answer, EndReason, GroupId, Limits, Pinned, Pins, Plan, State};
pub use pool::Pool;

#[cfg(test)]
#[path = "../../tests/plan/mod.rs"]
mod random_plan;
#[cfg(test)]
mod simulation;
