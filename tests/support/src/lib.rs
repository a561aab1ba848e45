//! An HTTP/1.1 origin that does real NTLM and Negotiate, bound to the connection, and what is needed to drive it.
//!
//! ntlmfront's `--demo` runs this origin, the tests check the front with it, and the bench puts load on it. Its logins
//! are NTLM version 2 checked in full (proof, integrity code, SPNEGO's signature), so clients that people use log in.
//!
//! # The origin
//!
//! [`Origin::start`] listens on a free port of 127.0.0.1 (or where [`OriginOptions::listen`] says) on a thread of its
//! own, until it is dropped. Every answer says who it was for: `X-Identity` (missing for nobody), `X-Connection` (the
//! origin's number for the connection), `X-Server`. [`Origin::log`], [`Origin::connections`] and [`Origin::accepted`]
//! tell a test the same from the inside; [`Origin::close_idle`] closes the connections that wait.
//!
//! ```
//! use ntlm_origin::client::Connection;
//! use ntlm_origin::{Origin, OriginOptions, User};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let origin = Origin::start(OriginOptions::default())?;
//! let alice = User::new("EXAMPLE", "alice", "wonderland");
//! let mut connection = Connection::open(origin.addr()).await?;
//! assert_eq!(connection.get("/private/whoami").await?.status, 401);
//! assert_eq!(connection.login_ntlm("/private/whoami", &alice).await?.text(), "EXAMPLE\\alice");
//! assert_eq!(connection.get("/whoami").await?.text(), "EXAMPLE\\alice");
//! assert_eq!(Connection::open(origin.addr()).await?.get("/whoami").await?.text(), "anonymous");
//! # Ok(())
//! # }
//! ```
//!
//! | path | answer |
//! |---|---|
//! | `/` `/whoami` | a greeting; the identity, or `anonymous` |
//! | `/echo` `/continue` | the head as it came, byte for byte, then `body-bytes:` and `body-sha256:` |
//! | `/mirror` | the body, chunked, while it comes |
//! | `/bytes/N` `/chunked/N` `/close/N` | N bytes of the alphabet, by length, in chunks, until the close |
//! | `/cut/N` | announces N bytes, closes after half of them |
//! | `/headers/N` | fields of N bytes or a little more |
//! | `/status/N` `/204` `/304` `/redirect` | that status; 302 to `/whoami` |
//! | `/slow/MS` | an answer after so long, unless the client leaves |
//! | `/linger/MS` | an answer; the connection closes unannounced after so long |
//! | `/early` `/early/N` | 401 (or N) before the body is read; it is read after that |
//! | `/early-close/N` `/continue/N` | N and `Connection: close` without reading the body, without 100 |
//! | `/hints` | 103, then 200 |
//! | `/upgrade` | 101 to the protocol that is asked for, then an echo |
//! | `/extra` | an answer, and bytes behind it that nobody asked for |
//! | `/drop` | no answer, the connection closes |
//!
//! All of them exist below `/private` too, where a login is asked for ([`LoginPaths`]). A request with `Expect:
//! 100-continue` gets its 100 before the body is read. [`Kerberos`] chooses what is done with [`kerberos`]' stand-in:
//! declined in favour of NTLM (three legs), good for the connection, or good for one request.
//!
//! # The clients
//!
//! [`client`] is a plain connection with logins at once or leg by leg. [`programs`] runs curl, the Python clients of
//! `tests/clients` and Apache with mod_auth_gssapi; `tools/test` puts them in place.

#![forbid(unsafe_code)]

pub mod client;
pub mod kerberos;
mod login;
pub mod ntlm;
pub mod programs;
mod server;
pub mod spnego;
mod wire;

pub use login::Kerberos;
pub use ntlm::User;
pub use server::{LogEntry, LoginPaths, Origin, OriginOptions};
pub use wire::Headers;
