//! The beginning of a client connection where TLS is spoken.

use std::io;
use std::sync::Arc;

use rustls::server::ClientHello;

use crate::config::model::{Level, ServerIndex};
use crate::net::now;
use crate::observe::cause::Cause;
use crate::tls::{Chosen, Presented, ServerTls, Verdict};

use super::client::Client;
use super::request::Request;
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
        let mut rules = None;
        let mut choose = |hello: &ClientHello<'_>| {
            let name = hello.server_name().unwrap_or_default();
            let Some(tls) = speaker(settings, self.listener, name.as_bytes()) else {
                return Chosen::Rejected;
            };
            rules = tls.client_rules().cloned();
            Chosen::Config {
                config: tls.config(),
                keep_offered: settings.config().http.shows_offered,
            }
        };
        let left = deadline.saturating_duration_since(now());
        let shaken = self.slot.timed(Timer::ClientRead, left, |cx| {
            self.socket.poll_accepted(cx, &mut choose)
        });
        let problem = match shaken.await {
            Ok(Ok(())) => {
                if let Some(shaken) = self.socket.agreed(|agreed| agreed.shaken()) {
                    self.worker.counters.client_tls.succeeded(shaken);
                }
                self.connection.presented = rules.map(|rules| {
                    let presented = self.socket.agreed(|agreed| {
                        let chain = agreed.session.peer_certificates();
                        Presented::new(Arc::clone(&rules), chain.unwrap_or_default())
                    });
                    Box::new(presented.unwrap_or_else(|| Presented::new(rules, &[])))
                });
                return true;
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        let failure = problem.kind().into();
        self.worker.counters.client_tls.failed(failure);
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

    /// The status that a request is answered with because of what its client has shown, or was not asked for.
    pub(super) fn refuses_certificate(
        &self,
        settings: &Settings,
        request: &Request,
    ) -> Option<u16> {
        let asked = with_certificate(settings, self.listener, request.server);
        let rules = asked.and_then(|tls| tls.client_rules());
        let log = |message| self.seen(settings).log(Level::Info, request, message);
        let presented = match (&self.presented, rules) {
            (None, None) => return None,
            (Some(presented), Some(rules)) if presented.rules().equal(rules) => presented,
            // Without a name, only a server that would have asked minds.
            (_, rules) => {
                let named = self.socket.agreed(|agreed| agreed.server_name.is_some());
                if rules.is_none() && named != Some(true) {
                    return None;
                }
                log(format_args!(
                    "client attempted to request the server name different from the one that was negotiated"
                ));
                return Some(421);
            }
        };
        if !presented.is_refused() {
            return None;
        }
        match presented.verdict() {
            Verdict::Invalid(number, words) => {
                log(format_args!(
                    "client SSL certificate verify error: ({number}:{words}) while reading client request headers"
                ));
                Some(495)
            }
            _ => {
                log(format_args!(
                    "client sent no required SSL certificate while reading client request headers"
                ));
                Some(496)
            }
        }
    }
}

/// Who speaks TLS with clients that ask for `name`. `None`: their handshakes are rejected.
fn speaker<'a>(settings: &'a Settings, listener: usize, name: &[u8]) -> Option<&'a Arc<ServerTls>> {
    let names = &settings.config().http.listeners[listener].names;
    let server = names.find(name, &mut Vec::new(), |_, _| {});
    with_certificate(settings, listener, server)
}

/// A server without a certificate uses the default server's, as in nginx, and with it that one's rules.
fn with_certificate(
    settings: &Settings,
    listener: usize,
    server: ServerIndex,
) -> Option<&Arc<ServerTls>> {
    let http = &settings.config().http;
    let server = match http.servers[server].tls {
        Some(_) => server,
        None => http.listeners[listener].names.default,
    };
    settings.deployment.tls[server].as_ref()
}
