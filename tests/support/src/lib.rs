//! An HTTP origin that does real NTLM, bound to the connection.
pub mod client;
pub mod kerberos;
mod login;
pub mod ntlm;
mod server;
pub mod spnego;
mod wire;
pub use login::Kerberos;
pub use ntlm::User;
pub use server::{LogEntry, LoginPaths, Origin, OriginOptions};
pub use wire::Headers;
