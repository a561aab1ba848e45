//! TLS: rustls over the sockets of `net`, and what it is configured with.
//!
//! To the rooms above a [`Stream`] is a socket, with or without TLS. The record layer is here alone: a kernel that takes it over
//! changes what a `Stream` does, and nothing above it.

mod binding;
mod certificate_facts;
mod certificates;
mod client;
mod client_certificate;
mod protocols;
mod resumption;
mod server;
mod session;
mod signatures;
mod stream;

pub use binding::{Shown, shown_by};
pub use certificate_facts::CertificateFacts;
pub use client::{GroupTls, judge, load as load_group, trusting_anybody, trusting_the_system};
pub use client_certificate::{ClientRules, Presented, Verdict};
pub use server::{ServerTls, load};
pub use session::{Agreed, Chosen};
pub use stream::Stream;
