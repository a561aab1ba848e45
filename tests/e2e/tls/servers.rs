//! TLS towards servers: whom the front believes, what it sends, and that logins stay on their connections.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use ntlm_origin::Kerberos;
use ntlm_origin::programs::RealClient;
use rustls::HandshakeKind;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use super::all_log_in;
use super::pki::Pki;
use super::serving::Serving;
use crate::front::{Front, eventually};
use crate::peer::{Peer, Server, alphabet, assert_same, numbered};
use crate::site::origins;

/// What was agreed upon on one connection.
#[derive(Clone, Debug)]
struct Agreed {
    server_name: Option<String>,
    resumed: bool,
    version: String,
    client_certificate: bool,
}

/// TLS before a server that has none, one connection for each.
pub(crate) struct Terminator {
    pub(crate) addr: SocketAddr,
    agreed: Arc<Mutex<Vec<Agreed>>>,
    failed: Arc<AtomicUsize>,
    _serving: Serving,
}

impl Terminator {
    /// Shows the certificate that is `called` so; `clients` is whose certificates it asks for.
    pub(crate) fn before(to: SocketAddr, pki: &Pki, called: &str, clients: Option<&str>) -> Self {
        let read = |name: &str| {
            let path = pki.path(&format!("{name}.pem"));
            let chain = CertificateDer::pem_file_iter(path).expect("a file");
            chain
                .map(|der| der.expect("a certificate"))
                .collect::<Vec<_>>()
        };
        let key = PrivateKeyDer::from_pem_file(pki.path(&format!("{called}.key"))).unwrap();
        let builder = rustls::ServerConfig::builder();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(read(name).remove(0)).unwrap();
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
                builder.with_client_cert_verifier(verifier.unwrap())
            }
        };
        let config = builder.with_single_cert(read(called), key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let agreed: Arc<Mutex<Vec<Agreed>>> = Arc::default();
        let failed: Arc<AtomicUsize> = Arc::default();
        let notes = (Arc::clone(&agreed), Arc::clone(&failed));
        let serving = Serving::start(move |socket| {
            let ((agreed, failed), acceptor) = (notes.clone(), acceptor.clone());
            async move {
                let _ = serve(socket, &acceptor, &agreed, &failed, to).await;
            }
        });
        Self {
            addr: serving.addr,
            agreed,
            failed,
            _serving: serving,
        }
    }

    fn agreed(&self) -> Vec<Agreed> {
        self.agreed.lock().unwrap().clone()
    }
}

async fn serve(
    socket: tokio::net::TcpStream,
    acceptor: &TlsAcceptor,
    agreed: &Mutex<Vec<Agreed>>,
    failed: &AtomicUsize,
    to: SocketAddr,
) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let accepted = acceptor.accept(socket).await;
    let mut stream = accepted.inspect_err(|_| {
        failed.fetch_add(1, Ordering::Relaxed);
    })?;
    let session = stream.get_ref().1;
    agreed.lock().unwrap().push(Agreed {
        server_name: session.server_name().map(str::to_owned),
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        version: format!("{:?}", session.protocol_version().unwrap()),
        client_certificate: session.peer_certificates().is_some(),
    });
    let mut behind = tokio::net::TcpStream::connect(to).await?;
    behind.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut stream, &mut behind).await?;
    Ok(())
}

#[test]
fn real_clients_log_in_over_tls_on_both_legs() {
    let mut pki = Pki::new();
    pki.add("inside", &["exchange.test"]);
    let origins = origins(2, Kerberos::Declined);
    let terminators: Vec<Terminator> = origins
        .iter()
        .map(|origin| Terminator::before(origin.addr(), &pki, "inside", None))
        .collect();
    let front = Front::start(&format!(
        "upstream mail {{ server {}; server {}; ntlm; keepalive 16; }}
         server {{ listen 127.0.0.1:0 ssl; {} location / {{
             proxy_pass https://mail; proxy_ssl_verify on; proxy_ssl_name exchange.test; proxy_ssl_server_name on;
             proxy_ssl_trusted_certificate {};
         }} }}",
        terminators[0].addr,
        terminators[1].addr,
        pki.directives("mail"),
        pki.path("inside.pem").display(),
    ));
    all_log_in(&pki, &front);
    for agreed in terminators.iter().flat_map(Terminator::agreed) {
        assert_eq!(agreed.server_name.as_deref(), Some("exchange.test"));
    }
    let log = front.error_log();
    assert!(!log.contains("[error]"), "{log}");
    // The servers' connections end with their clients.
    eventually("every pin has ended", || {
        (front.error_log().matches(": client_closed").count() >= RealClient::ALL.len())
            .then_some(())
    });
}

#[test]
fn whom_the_front_believes() {
    let mut pki = Pki::new();
    pki.add("inside", &["exchange.test"]);
    pki.add("stranger", &["exchange.test"]);
    let origin = origins(1, Kerberos::Declined).remove(0);
    let tls = Terminator::before(origin.addr(), &pki, "inside", None);
    let trusted = |called: &str| {
        let path = pki.path(&format!("{called}.pem"));
        format!(
            "proxy_ssl_verify on; proxy_ssl_trusted_certificate {};",
            path.display()
        )
    };
    for (settings, expected) in [
        (String::new(), 200),
        (
            "proxy_ssl_verify off; proxy_ssl_name whatever.test;".to_owned(),
            200,
        ),
        (trusted("inside") + "proxy_ssl_name exchange.test;", 200),
        // Not whom the certificate is for; nobody that is trusted; nobody whom the system trusts.
        (trusted("inside") + "proxy_ssl_name other.test;", 502),
        (trusted("stranger") + "proxy_ssl_name exchange.test;", 502),
        (
            "proxy_ssl_verify on; proxy_ssl_name exchange.test;".to_owned(),
            502,
        ),
        // The address that `proxy_pass` names.
        (trusted("inside"), 200),
    ] {
        let front = Front::start(&format!(
            "server {{ listen 127.0.0.1:0; location / {{ proxy_pass https://{}; {settings} }} }}",
            tls.addr
        ));
        let mut client = Peer::connect(front.addr(0));
        assert_eq!(client.get("/whoami").status(), expected, "{settings}");
        let log = match expected {
            502 => front.error_log_with("while SSL handshaking to upstream", 1),
            _ => front.error_log(),
        };
        let said = log.contains("[error]")
            && log.contains("while SSL handshaking to upstream, client: 127.0.0.1");
        assert_eq!(said, expected == 502, "{log}");
        assert_eq!(
            log.contains(&format!("upstream: \"https://{}", tls.addr)),
            said,
            "{log}"
        );
    }
}

#[test]
fn an_authority_s_certificate_is_a_server_s_where_it_is_trusted_itself() {
    let mut pki = Pki::new();
    let day = Duration::from_secs(86_400);
    let now = SystemTime::now();
    pki.add_authority("own", &["exchange.test"], now + day);
    pki.add_authority("other", &["exchange.test"], now + day);
    pki.add_authority("over", &["exchange.test"], now - day);
    let origin = origins(1, Kerberos::Declined).remove(0);
    for (shown, trusted, name, expected) in [
        ("own", "own", "exchange.test", 200),
        ("own", "own", "other.test", 502),
        ("own", "other", "exchange.test", 502),
        ("over", "over", "exchange.test", 502),
    ] {
        let tls = Terminator::before(origin.addr(), &pki, shown, None);
        let front = Front::start(&format!(
            "server {{ listen 127.0.0.1:0; location / {{ proxy_pass https://{}; proxy_ssl_verify on;
                 proxy_ssl_name {name}; proxy_ssl_trusted_certificate {}; }} }}",
            tls.addr,
            pki.path(&format!("{trusted}.pem")).display(),
        ));
        let status = Peer::connect(front.addr(0)).get("/whoami").status();
        assert_eq!(
            status,
            expected,
            "{shown} {trusted} {name}: {}",
            front.error_log()
        );
    }
}

#[test]
fn how_far_a_chain_may_go_and_what_is_revoked() {
    let mut pki = Pki::new();
    pki.add_chain("near", 1);
    pki.add_chain("far", 3);
    let origin = origins(1, Kerberos::Declined).remove(0);
    for (called, settings, expected) in [
        ("near", "", 200),
        ("near", "proxy_ssl_verify_depth 0;", 502),
        ("far", "", 502),
        ("far", "proxy_ssl_verify_depth 3;", 200),
        ("near", "proxy_ssl_crl near-none.crl;", 200),
        ("near", "proxy_ssl_crl near.crl;", 502),
        // Lists of others say nothing about it.
        ("near", "proxy_ssl_crl far-none.crl;", 502),
    ] {
        let tls = Terminator::before(origin.addr(), &pki, called, None);
        let settings = settings.replace("crl ", &format!("crl {}/", pki.path("").display()));
        let front = Front::start(&format!(
            "server {{ listen 127.0.0.1:0; location / {{ proxy_pass https://{}; proxy_ssl_verify on; {settings}
                 proxy_ssl_name exchange.test; proxy_ssl_trusted_certificate {}; }} }}",
            tls.addr,
            pki.path(&format!("{called}-root.pem")).display(),
        ));
        let status = Peer::connect(front.addr(0)).get("/whoami").status();
        assert_eq!(
            status,
            expected,
            "{called} {settings}: {}",
            front.error_log()
        );
    }
}

#[test]
fn what_the_front_shows_and_agrees_upon() {
    let mut pki = Pki::new();
    pki.add("inside", &["exchange.test"]);
    pki.add("front", &["front.test"]);
    let origin = origins(1, Kerberos::Declined).remove(0);
    let shown = {
        let (certificate, key) = (pki.path("front.pem"), pki.path("front.key"));
        format!(
            "proxy_ssl_certificate {}; proxy_ssl_certificate_key {};",
            certificate.display(),
            key.display()
        )
    };
    let with = |asks: Option<&str>, settings: &str| {
        let tls = Terminator::before(origin.addr(), &pki, "inside", asks);
        let front = Front::start_main(
            "worker_processes 1;",
            &format!(
                "upstream u {{ server {}; keepalive 0; }}
                 server {{ listen 127.0.0.1:0; location / {{ proxy_pass https://u; {settings} }} }}",
                tls.addr
            ),
        );
        // No connection is kept, so that each request makes one.
        let mut client = Peer::connect(front.addr(0));
        let statuses = [
            client.get("/whoami").status(),
            client.get("/whoami").status(),
        ];
        (statuses, tls.agreed(), tls.failed.load(Ordering::Relaxed))
    };
    let (statuses, agreed, _) = with(None, "");
    assert_eq!(statuses, [200, 200]);
    assert!(
        agreed[0].server_name.is_none() && !agreed[0].resumed && agreed[1].resumed,
        "{agreed:?}"
    );
    assert_eq!(agreed[0].version, "TLSv1_3");
    let (_, agreed, _) = with(
        None,
        "proxy_ssl_session_reuse off; proxy_ssl_protocols TLSv1.2; proxy_ssl_name a.test; proxy_ssl_server_name on;",
    );
    assert!(
        !agreed[1].resumed && agreed[1].version == "TLSv1_2",
        "{agreed:?}"
    );
    assert_eq!(agreed[0].server_name.as_deref(), Some("a.test"));
    let (statuses, agreed, _) = with(Some("front"), &shown);
    assert_eq!(statuses, [200, 200]);
    assert!(agreed[0].client_certificate);
    let (statuses, _, failed) = with(Some("front"), "");
    assert!(statuses == [502, 502] && failed > 0, "{statuses:?}");
}

#[test]
fn bodies_pass_whole_over_both_legs() {
    let pki = Pki::new();
    let server = Server::bind();
    let tls = Terminator::before(server.addr(), &pki, "mail", None);
    let front = Front::start(&format!(
        "server {{ listen 127.0.0.1:0 ssl; {} client_max_body_size 0; location / {{ proxy_pass https://{}; }} }}",
        pki.directives("mail"),
        tls.addr
    ));
    let (up, down) = (numbered(5_000_000), alphabet(7_000_000));
    let mut client = pki.client(&front, "mail.test");
    let (has_it, waits) = channel::<()>();
    std::thread::scope(|scope| {
        let (up, down, server) = (&up, &down, &server);
        scope.spawn(move || {
            let mut upstream = server.accept();
            upstream.head();
            assert_same(&upstream.take(up.len()), up, "upload");
            upstream.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                down.len()
            ));
            upstream.send(down);
            // Until the client has it.
            let _ = waits.recv();
        });
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
            up.len()
        ));
        client.send(up);
        assert_eq!(client.head().status(), 200);
        assert_same(&client.take(down.len()), down, "download");
        drop(has_it);
    });
}

/// A group that is reached in several ways is one for each of them: a connection of one serves nobody of another.
#[test]
fn each_way_of_being_reached_has_connections_of_its_own() {
    let pki = Pki::new();
    let server = Server::bind();
    let tls = Terminator::before(server.addr(), &pki, "mail", None);
    let front = Front::start_main(
        "worker_processes 1;",
        &format!(
            "upstream u {{ server {}; keepalive 4; }}
             server {{ listen 127.0.0.1:0;
                 location /a {{ proxy_pass https://u; }}
                 location /b {{ proxy_pass https://u; proxy_ssl_name b.test; }}
                 location /plain {{ proxy_pass http://u; }} }}",
            tls.addr
        ),
    );
    let mut client = Peer::connect(front.addr(0));
    let mut kept = Vec::new();
    for (target, new) in [
        ("/a", true),
        ("/a", false),
        ("/b", true),
        ("/a", false),
        ("/b", false),
    ] {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        if new {
            kept.push((target, server.accept()));
        }
        let (_, upstream) = kept.iter_mut().find(|(of, _)| *of == target).unwrap();
        assert!(upstream.head().line().starts_with(&format!("GET {target}")));
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.answer().status(), 200);
    }
    // Without TLS none of the kept ones will do, and the server takes nothing else.
    assert_eq!(client.get("/plain").status(), 502);
    eventually("its handshake failed", || {
        (tls.failed.load(Ordering::Relaxed) == 1).then_some(())
    });
    server.was_left_alone();
}
