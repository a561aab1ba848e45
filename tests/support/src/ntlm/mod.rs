//! NTLM version 2 as \[MS-NLMP\] describes it, both sides, with nothing that HTTP does not need.
//!
//! Why not a ready library: a server is wanted that checks the proof of clients which send no integrity code (curl),
//! takes their 32-byte first message, and adds little to a production binary, which links this crate for its demo and its
//! probe.

mod acceptor;
mod crypto;
mod initiator;
mod message;

pub use acceptor::{Accepted, Challenged, Refusal, User, challenge};
pub use crypto::SessionKeys;
pub use initiator::{Authenticate, Binding, type1, type3, type3_bound};
pub use message::{ServerNames, is_message};
