//! The beginning of a client connection where TLS is spoken.

use std::io;

use rustls::server::ClientHello;

use crate::config::model::Level;
use crate::net::now;
use crate::observe::cause::Cause;
use crate::tls::Chosen;

use super::client::Client;
use super::slot::{Phase, Timer};
use super::worker::Settings;

/// The first byte of a record with a message of the handshake in it (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

impl Client {
    /// Has the client's handshake made. False if the connection is over. A client that begins with something else is served without
    /// TLS, so that it can be told.
    pub(super) async fn shake_hands(&mut self, settings: &Settings) -> bool {
        let server = settings.default_server(self.listener);
        let timeout = match &server.tls {
            Some(tls) => tls.handshake_timeout,
            None => server.header_timeout,
        };
        let deadline = now() + timeout;
        self.slot.phase.set(Phase::Reading);
        if self.buffered.is_empty() && !self.receive_more(timeout).await {
            return false;
        }
        if self.buffered[0] != HANDSHAKE {
            self.connection.plain_for_tls = true;
            return true;
        }
        let received = std::mem::take(&mut self.buffered);
        self.connection.socket.begin_accept(received);
        let mut choose = |hello: &ClientHello<'_>| choose(settings, self.listener, hello);
        let left = deadline.saturating_duration_since(now());
        let shaken = self.slot.timed(Timer::ClientRead, left, |cx| {
            self.socket.poll_accepted(cx, &mut choose)
        });
        let problem = match shaken.await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        let seen = self.seen(settings);
        let log = |message| seen.log_connection(Level::Info, message);
        match problem.kind() {
            io::ErrorKind::TimedOut => log(format_args!(
                "client timed out (110: Connection timed out) while SSL handshaking"
            )),
            io::ErrorKind::UnexpectedEof => log(format_args!(
                "peer closed connection in SSL handshake while SSL handshaking"
            )),
            io::ErrorKind::InvalidData => log(format_args!(
                "SSL_do_handshake() failed (SSL: {problem}) while SSL handshaking"
            )),
            io::ErrorKind::Other => log(format_args!("{problem} while SSL handshaking")),
            _ => log(format_args!(
                "recv() failed ({}) while SSL handshaking",
                Cause::from(&problem)
            )),
        }
        // The alert has to arrive although the client may have sent more.
        self.linger().await;
        false
    }
}

/// The server that a client asks for by name, or the default one, says how to go on.
fn choose(settings: &Settings, listener: usize, hello: &ClientHello<'_>) -> Chosen {
    let http = &settings.config().http;
    let names = &http.listeners[listener].names;
    let name = hello.server_name().unwrap_or_default();
    let mut server = names.find(name.as_bytes(), &mut Vec::new(), |_, _| {});
    // One without a certificate uses the default server's, as in nginx.
    if http.servers[server].tls.is_none() {
        server = names.default;
    }
    match &settings.deployment.tls[server] {
        Some(tls) => Chosen::Config(tls.config()),
        None => Chosen::Rejected,
    }
}
