//! HTTP/2: preferred, alone, and given up by the server.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::parts::{Probe, Scripted};
use super::{BOTH, LOGS_IN, origin};
use crate::nginx::Nginx;
use crate::tls::pki::Pki;
use crate::tls::serving::Serving;

const PREFERRED: &str =
    "clients that can speak HTTP/2 are made to, and Windows authentication does not exist in it.";

#[test]
fn a_front_that_prefers_it() {
    let pki = Pki::new();
    let origin = origin("A", BOTH);
    let nginx = Nginx::start(&format!(
        "server {{ listen ADDR ssl http2; {} location / {{ proxy_pass http://{}; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}",
        pki.directives("mail"),
        origin.addr(),
    ));
    // The certificate is for the name.
    let problems = [
        PREFERRED,
        "the certificate is for another name.",
        "the login is not kept on one connection: ",
    ];
    let url = format!("https://{}/", nginx.addr);
    let probe = Probe::new(&url).trusting(&pki.path("mail.pem"));
    let probed = probe.alice().finds(&problems);
    let line = "http/2      chosen, and answered 401\n";
    assert!(probed.text.contains(line), "{}", probed.text);
}

/// A TLS server that offers `protocols`: over HTTP/2 it answers 401, or asks for HTTP/1.1, and HTTP/1.1 goes to `origin`.
fn server(pki: &Pki, protocols: &[&[u8]], steps_back: bool, origin: SocketAddr) -> Serving {
    let chain = CertificateDer::pem_file_iter(pki.path("mail.pem")).unwrap();
    let chain = chain.map(|der| der.unwrap()).collect();
    let key = PrivateKeyDer::from_pem_file(pki.path("mail.key")).unwrap();
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Serving::start(move |socket| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(socket).await else {
                return;
            };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                answer(stream, steps_back).await;
            } else if let Ok(mut behind) = TcpStream::connect(origin).await {
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
            }
        }
    })
}

async fn answer(stream: TlsStream<TcpStream>, steps_back: bool) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        if steps_back {
            respond.send_reset(h2::Reason::HTTP_1_1_REQUIRED);
            continue;
        }
        let response = http::Response::builder()
            .status(401)
            .header("www-authenticate", "NTLM")
            .body(())
            .unwrap();
        let _ = respond.send_response(response, true);
    }
}

#[test]
fn a_server_that_speaks_nothing_else() {
    let pki = Pki::new();
    let origin = origin("A", BOTH);
    let server = server(&pki, &[b"h2"], false, origin.addr());
    let url = format!("https://{}/", server.addr);
    let probe = Probe::new(&url).trusting(&pki.path("mail.pem"));
    let alone = "only HTTP/2 is spoken here, and Windows authentication does not exist in it.";
    probe.alice().finds(&[PREFERRED, alone]);
}

/// What goes wrong with HTTP/1.1 there, too, has its own causes.
#[test]
fn a_server_that_prefers_it_and_answers_too_much() {
    let pki = Pki::new();
    let page = Scripted::start(|| {
        let head = "HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 99999999\r\n\r\n";
        Box::new(move |_| Some(format!("{head}{}", "x".repeat(17 << 20))))
    });
    let server = server(&pki, &[b"h2", b"http/1.1"], false, page.addr);
    let url = format!("https://{}/", server.addr);
    let probe = Probe::new(&url).trusting(&pki.path("mail.pem"));
    let too_large = "the answer is too large to be read to its end.";
    probe.alice().finds(&[PREFERRED, too_large]);
}

/// As IIS does where it is asked to log people in.
#[test]
fn a_server_that_steps_back_to_http_1_1_succeeds() {
    let pki = Pki::new();
    let origin = origin("A", BOTH);
    for (steps_back, line) in [
        (
            true,
            "http/2      chosen, and answered that HTTP/1.1 is required\n",
        ),
        (false, "http/2      chosen, and answered 401\n"),
    ] {
        let protocols: &[&[u8]] = &[b"h2", b"http/1.1"];
        let server = server(&pki, protocols, steps_back, origin.addr());
        let url = format!("https://{}/", server.addr);
        let probe = Probe::new(&url).trusting(&pki.path("mail.pem")).alice();
        let probed = match steps_back {
            true => probe.succeeds(LOGS_IN),
            false => probe.finds(&[PREFERRED]),
        };
        assert!(probed.text.contains(line), "{}", probed.text);
    }
}
