//! Faults of TLS on either leg: handshakes that stall or make no sense, records that are cut, too long, or garbage, and ends of which
//! nobody said that they are one.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::front::{PATIENCE, eventually};
use crate::peer::{Peer, Server};
use crate::pki::Pki;
use crate::world::World;

/// A record of data with nonsense in it.
const GARBAGE: [u8; 29] = [
    23, 3, 3, 0, 24, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
    23, 24,
];

/// The beginning of a record that is longer than any may be (RFC 8446 section 5.2).
const TOO_LONG: [u8; 6] = [23, 3, 3, 0xff, 0xff, 0];

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A server that speaks TLS, when the test says so.
struct Secure {
    listener: TcpListener,
    config: Arc<ServerConfig>,
}

type Session = StreamOwned<ServerConnection, TcpStream>;

impl Secure {
    fn bind(pki: &Pki) -> Self {
        let certificate = CertificateDer::from_pem_file(pki.path("mail.pem")).expect("it");
        let key = PrivateKeyDer::from_pem_file(pki.path("mail.key")).expect("its key");
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("they belong together");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener");
        Self {
            listener,
            config: Arc::new(config),
        }
    }

    fn addr(&self) -> SocketAddr {
        self.listener.local_addr().expect("an address")
    }

    /// The next connection, on which nothing was said.
    fn accept(&self) -> TcpStream {
        let socket = eventually("a connection to the server", || {
            self.listener.accept().ok().map(|(socket, _)| socket)
        });
        socket.set_nonblocking(false).expect("a blocking socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket
    }

    /// The next connection, and the request that came over it.
    fn accept_request(&self) -> Session {
        let session = ServerConnection::new(Arc::clone(&self.config)).expect("a session");
        let mut stream = StreamOwned::new(session, self.accept());
        head(&mut stream);
        stream
    }
}

fn head(stream: &mut Session) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a request");
        head.push(byte[0]);
    }
}

/// Sends half of what is ready to be sent.
fn send_half(session: &mut Session) {
    let mut records = Vec::new();
    session.conn.write_tls(&mut records).expect("records");
    let half = &records[..records.len() / 2];
    session.sock.write_all(half).expect("sending");
}

/// What somebody does wrong, and how.
type Break<Side> = (&'static str, fn(&mut Side));

/// How somebody who has shaken hands goes on wrongly.
const BREAKS: [Break<Peer>; 5] = [
    ("garbage", |client| raw(client, &GARBAGE)),
    ("a record that is too long", |client| raw(client, &TOO_LONG)),
    ("plain HTTP", |client| {
        raw(client, b"GET / HTTP/1.1\r\n\r\n")
    }),
    ("a record that is cut", |client| {
        raw(client, &GARBAGE[..20]);
        client.finish();
    }),
    ("the end without a word", Peer::finish),
];

fn raw(client: &mut Peer, bytes: &[u8]) {
    client.raw().write_all(bytes).expect("sending");
}

#[test]
fn clients_that_break_tls() {
    let _turn = crate::turn();
    let (pki, server) = (Pki::new(), Server::bind());
    let mut world = World::start(
        2,
        "",
        &format!(
            "upstream one {{ server {} max_fails=0; ntlm; keepalive 0; }}
             server {{
                 listen 127.0.0.1:0 ssl; {} ssl_handshake_timeout 300ms; client_header_timeout 300ms;
                 location / {{ proxy_pass http://one; }}
             }}",
            server.addr(),
            pki.directives("mail"),
        ),
        "",
    );
    let runs = crate::runs();
    let addr = world.front.addr(1);
    let hello = {
        let name = "mail.test".try_into().expect("a name");
        let config = pki.config(rustls::ALL_VERSIONS);
        let mut session = rustls::ClientConnection::new(config, name).expect("a session");
        let mut hello = Vec::new();
        session.write_tls(&mut hello).expect("a first message");
        hello
    };
    world.cell(
        "a client's handshake stalls",
        "its connection is closed in time",
        runs,
        |_| {
            let cuts = [0, 1, 5, 6, hello.len() / 2, hello.len() - 1, hello.len()];
            let mut all: Vec<Peer> = cuts
                .into_iter()
                .map(|cut| {
                    let mut client = Peer::connect(addr);
                    client.send(&hello[..cut]);
                    client
                })
                .collect();
            for client in &mut all {
                let _ = client.try_rest();
            }
        },
    );
    world.cell(
        "a client leaves in its handshake",
        "nothing is left",
        runs,
        |_| {
            for cut in [1, 5, hello.len() / 2, hello.len()] {
                for resets in [false, true] {
                    let mut client = Peer::connect(addr);
                    client.send(&hello[..cut]);
                    if resets {
                        let linger = Some(Duration::ZERO);
                        client.socket().set_linger(linger).expect("an option");
                    }
                }
            }
        },
    );
    let handshakes: [&[u8]; 6] = [
        &[22, 3, 1, 0, 5, 9, 9, 9, 9, 9],
        &[22, 3, 3, 0xff, 0xff, 1, 0, 0, 0],
        &[22, 3, 3, 0, 4, 1, 0xff, 0xff, 0xff],
        &[22, 0xff, 0xff, 0, 1, 1],
        &[22, 3, 1, 0, 0],
        &[21, 3, 1, 0, 2, 2, 0],
    ];
    world.cell("garbage for a handshake", "closed", runs, |_| {
        for bytes in handshakes {
            let mut client = Peer::connect(addr);
            client.send(bytes);
            let _ = client.try_rest();
        }
    });
    for (name, go_wrong) in BREAKS {
        let cell = format!("{name} from somebody logged in");
        world.cell(&cell, "both connections end", runs, |_| {
            for version in [&TLS12, &TLS13] {
                let config = pki.config(&[version]);
                let connected = Peer::connect_tls(addr, "mail.test", config);
                let mut client = connected.expect("a handshake");
                client
                    .send("GET / HTTP/1.1\r\nHost: test\r\nAuthorization: Negotiate YII=\r\n\r\n");
                let mut upstream = server.accept();
                upstream.head();
                upstream.send(OK);
                assert_eq!(client.answer().status(), 200);
                go_wrong(&mut client);
                upstream.ends();
                let _ = client.raw().read_to_end(&mut Vec::new());
            }
        });
        let cell = format!("{name} in an upload");
        world.cell(&cell, "the server sees no whole body", runs, |_| {
            for version in [&TLS12, &TLS13] {
                for framing in ["Content-Length: 20", "Transfer-Encoding: chunked"] {
                    let config = pki.config(&[version]);
                    let connected = Peer::connect_tls(addr, "mail.test", config);
                    let mut client = connected.expect("a handshake");
                    client.send(format!(
                        "POST / HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n"
                    ));
                    client.send("5\r\nhello\r\n");
                    let mut upstream = server.accept();
                    upstream.head();
                    go_wrong(&mut client);
                    let rest = upstream.try_rest().unwrap_or_default();
                    assert!(!rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
                    assert!(framing.contains("chunked") || rest.len() < 20, "{rest:?}");
                }
            }
        });
    }
    world.finish("TLS of clients");
}

#[test]
fn servers_that_break_tls() {
    let _turn = crate::turn();
    let pki = Pki::new();
    let server = Secure::bind(&pki);
    let mut world = World::start(
        2,
        "",
        &format!(
            "upstream one {{ server {} max_fails=0; ntlm; keepalive 0; }}",
            server.addr()
        ),
        "location /one/ { proxy_pass https://one; proxy_connect_timeout 300ms; ntlm_channel_binding off; }",
    );
    let runs = crate::runs();
    let ask = |world: &World| {
        let mut client = world.client();
        client.send("GET /one/ HTTP/1.1\r\nHost: test\r\n\r\n");
        client
    };
    for (name, says, ends, status) in [
        ("stalls", &b""[..], false, 504),
        ("stalls in a record", &[22, 3, 3, 0, 122, 2], false, 504),
        ("ends", b"", true, 502),
        ("ends in a record", &[22, 3, 3, 0, 122, 2], true, 502),
        ("is an alert", &[21, 3, 3, 0, 2, 2, 40], false, 502),
        ("is garbage", &GARBAGE, false, 502),
        ("is a record that is too long", &TOO_LONG, false, 502),
        (
            "is a plain answer",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            false,
            502,
        ),
    ] {
        let cell = format!("a server's handshake {name}");
        let expected = format!("{status}, the client stays");
        world.cell(&cell, &expected, runs, |world| {
            let mut client = ask(world);
            let mut upstream = server.accept();
            upstream.write_all(says).expect("sending");
            if ends {
                upstream
                    .shutdown(std::net::Shutdown::Write)
                    .expect("an end");
            }
            assert_eq!(client.answer().status(), status);
            assert_eq!(client.get("/whoami").status(), 200);
            // Nothing of the request was sent.
            let mut got = Vec::new();
            let _ = upstream.read_to_end(&mut got);
            assert!(!got.windows(4).any(|bytes| bytes == b"HTTP"), "{got:?}");
        });
    }
    let answers: [Break<Session>; 5] = [
        ("garbage", |session| {
            session.sock.write_all(&GARBAGE).expect("sending");
        }),
        ("a record that is too long", |session| {
            session.sock.write_all(&TOO_LONG).expect("sending");
        }),
        ("half a record", |session| {
            session
                .conn
                .writer()
                .write_all(OK.as_bytes())
                .expect("room");
            send_half(session);
        }),
        ("the end without a word", |_| {}),
        ("the end", |session| {
            session.conn.send_close_notify();
            session.flush().expect("sending");
        }),
    ];
    for (name, go_wrong) in answers {
        let cell = format!("{name} in place of an answer over TLS");
        world.cell(&cell, "502, the client stays", runs, |world| {
            let mut client = ask(world);
            let mut session = server.accept_request();
            go_wrong(&mut session);
            drop(session);
            assert_eq!(client.answer().status(), 502);
            assert_eq!(client.get("/whoami").status(), 200);
        });
        for (framing, announced) in [("length", "Content-Length: 10\r\n"), ("close", "")] {
            let cell = format!("{name} in a body of known {framing} over TLS");
            // Where the close is the end, only one that TLS calls so is one.
            let whole = framing == "close" && name == "the end";
            let expected = match whole {
                true => "the body is whole",
                false => "the client sees that it is cut",
            };
            world.cell(&cell, expected, runs, |world| {
                let mut client = ask(world);
                let mut session = server.accept_request();
                let head = format!("HTTP/1.1 200 OK\r\n{announced}\r\nhello");
                session.write_all(head.as_bytes()).expect("sending");
                session.flush().expect("sending");
                client.head();
                assert_eq!(client.take(5), b"hello");
                go_wrong(&mut session);
                drop(session);
                // A body with a length is cut in any case; another one ends in a reset unless it is whole.
                let rest = client.try_rest();
                let complete = announced.is_empty() && rest.is_ok();
                assert_eq!(complete, whole, "{rest:?}");
            });
        }
    }
    world.finish("TLS of servers");
}
