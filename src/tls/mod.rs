//! TLS: rustls over the sockets of `net`, and what it is configured with.
//!
//! To the rooms above a [`Stream`] is a socket, with or without TLS. The record layer is here alone: a kernel that takes it over
//! changes what a `Stream` does, and nothing above it.

mod binding;
mod certificates;
mod client;
mod protocols;
mod resumption;
mod server;
mod session;
mod stream;

pub use binding::{Shown, shown_by};
pub use client::{GroupTls, load as load_group};
pub use server::{ServerTls, load};
pub use session::Chosen;
pub use stream::Stream;
