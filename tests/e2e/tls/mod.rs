//! TLS towards clients: what is offered, who is shown what, and that nothing else changes.
#![allow(clippy::unwrap_used)] // what fails in a helper fails its test

pub(crate) mod binding;
pub(crate) mod client_certificates;
mod figures;
pub(crate) mod pki;
pub(crate) mod servers;
pub(crate) mod serving;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use ntlm_origin::Kerberos;
use ntlm_origin::programs::RealClient;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::version::{TLS12, TLS13};

use crate::front::{Front, PATIENCE, eventually};
use crate::peer::{Peer, Server, alphabet, assert_same, numbered};
use crate::prefix::free_address;
use crate::site::{alice, origins};

use pki::Pki;

/// A front that passes everything to `server`, with TLS.
fn front(pki: &Pki, server: &Server, more: &str) -> Front {
    Front::start(&format!(
        "server {{ listen 127.0.0.1:0 ssl; {} {more} location / {{ proxy_pass http://{}; }} }}",
        pki.directives("mail"),
        server.addr()
    ))
}

/// Has all real clients log in over TLS, each on one connection.
fn all_log_in(pki: &Pki, front: &Front) {
    let url = format!("https://{}/private/whoami", front.addr(0));
    std::thread::scope(|scope| {
        for client in RealClient::ALL {
            let url = &url;
            scope.spawn(move || {
                let ca = pki.path("mail.pem");
                let answers = client.get_trusting(Some(&ca), url, &alice(), 4).unwrap();
                for answer in &answers {
                    let got = (answer.status, answer.identity.as_deref());
                    assert_eq!(got, (200, Some("EXAMPLE\\alice")), "{client:?}");
                    assert_eq!(answer.connection, answers[0].connection, "{client:?}");
                }
            });
        }
    });
}

/// Runs a program that gets the certificates; what it wrote.
fn run(pki: &Pki, program: &str, arguments: &[&str], front: &Front) -> String {
    let port = front.addr(0).port();
    let mut command = Command::new(program);
    for argument in arguments {
        command.arg(argument.replace("PORT", &port.to_string()));
    }
    let output = command
        .env("CURL_CA_BUNDLE", pki.path("mail.pem"))
        .env("SSL_CERT_FILE", pki.path("mail.pem"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn real_clients_log_in_over_tls_and_stay_on_their_pin() {
    let pki = Pki::new();
    let origins = origins(2, Kerberos::Declined);
    let servers: String = origins
        .iter()
        .map(|origin| format!("server {}; ", origin.addr()))
        .collect();
    let front = Front::start(&format!(
        "upstream mail {{ {servers} ntlm; keepalive 16; }}
         server {{ listen 127.0.0.1:0 ssl; {} location / {{ proxy_pass http://mail; }} }}",
        pki.directives("mail")
    ));
    all_log_in(&pki, &front);
    let log = front.error_log();
    assert!(!log.contains("[error]"), "{log}");
}

#[test]
fn what_is_offered() {
    let pki = Pki::new();
    let server = Server::bind();
    let front = front(&pki, &server, "location /own { return 200 own; }");
    let curl = |arguments: &[&str]| {
        let mut all = vec![
            "--disable",
            "--silent",
            "--show-error",
            "--verbose",
            "--max-time",
            "60",
        ];
        all.extend(["--noproxy", "*", "--resolve", "mail.test:PORT:127.0.0.1"]);
        all.extend(arguments);
        all.push("https://mail.test:PORT/own");
        run(&pki, "curl", &all, &front)
    };
    for (arguments, expected) in [
        (&[][..], "SSL connection using TLSv1.3"),
        (
            &["--tls-max", "1.2"],
            "SSL connection using TLSv1.2 / ECDHE-ECDSA-AES256-GCM-SHA384",
        ),
        (&["--http2"], "server accepted http/1.1"),
    ] {
        let said = curl(arguments);
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(
            said.contains("\nown") || said.contains("own*") || said.ends_with("own"),
            "{said}"
        );
    }
    let said = curl(&[
        "--tlsv1.0",
        "--tls-max",
        "1.1",
        "--ciphers",
        "DEFAULT@SECLEVEL=0",
    ]);
    assert!(said.contains("alert"), "{said}");
    let openssl = |arguments: &[&str]| {
        let mut all = vec![
            "s_client",
            "-connect",
            "127.0.0.1:PORT",
            "-servername",
            "mail.test",
        ];
        all.extend(arguments);
        run(&pki, "openssl", &all, &front)
    };
    // Of all suites of OpenSSL, these are taken; of old protocols, none; nothing is compressed, nothing renegotiated.
    let listed = run(
        &pki,
        "openssl",
        &[
            "ciphers",
            "-s",
            "-tls1_2",
            "ALL:COMPLEMENTOFALL:@SECLEVEL=0",
        ],
        &front,
    );
    let taken: Vec<&str> = listed
        .trim()
        .split(':')
        .filter(|cipher| {
            let said = openssl(&["-tls1_2", "-cipher", &format!("{cipher}:@SECLEVEL=0")]);
            said.contains("Cipher    : ECDHE") || said.contains(&format!("Cipher is {cipher}"))
        })
        .collect();
    println!("suites of TLS 1.2 that are taken: {taken:?}");
    let mut sorted = taken.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        [
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-CHACHA20-POLY1305"
        ]
    );
    for protocol in ["-tls1", "-tls1_1"] {
        let said = openssl(&[protocol, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(said.contains("Cipher is (NONE)"), "{protocol}: {said}");
    }
    let said = openssl(&["-tls1_2", "-alpn", "h2"]);
    assert!(said.contains("no application protocol"), "{said}");
    let said = openssl(&["-tls1_2", "-alpn", "h2,http/1.1", "-comp"]);
    assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
    assert!(said.contains("Compression: NONE"), "{said}");
    assert!(said.contains("Secure Renegotiation IS supported"), "{said}");
}

#[test]
fn keys_of_two_kinds_serve_whom_each_can() {
    let pki = Pki::new();
    let path = |name: &str| pki.path(name).display().to_string();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=mail.test",
        ])
        .args(["-keyout", &path("rsa.key"), "-out", &path("rsa.pem")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let server = Server::bind();
    let front = front(&pki, &server, &pki.directives("rsa"));
    for (arguments, expected) in [
        (&["-tls1_3"][..], "Peer signature type: ECDSA"),
        (
            &["-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"],
            "Peer signature type: RSA-PSS",
        ),
        (&["-tls1_2"], "Peer signature type: ECDSA"),
        (
            &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
            "Server public key is 2048 bit",
        ),
        (
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
            "Server public key is 256 bit",
        ),
    ] {
        let mut all = vec![
            "s_client",
            "-connect",
            "127.0.0.1:PORT",
            "-servername",
            "mail.test",
        ];
        all.extend(arguments);
        let said = run(&pki, "openssl", &all, &front);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn the_name_chooses_the_server_and_its_certificate() {
    let mut pki = Pki::new();
    pki.add("other", &["other.test", "*.wild.test"]);
    let address = free_address();
    let front = Front::start(&format!(
        "server {{ listen {address} ssl default_server; server_name mail.test; {} return 200 $server_name-$ssl_server_name; }}
         server {{ listen {address} ssl; server_name other.test *.wild.test; {} return 200 $server_name-$ssl_server_name; }}
         server {{ listen {address} ssl; server_name plain.test mail; return 200 inherits; }}
         server {{ listen {address} ssl; server_name no.test; ssl_reject_handshake on; }}",
        pki.directives("mail"),
        pki.directives("other"),
    ));
    for (name, host, expected) in [
        ("mail.test", "mail.test", "mail.test-mail.test"),
        ("other.test", "other.test", "other.test-other.test"),
        ("a.wild.test", "a.wild.test", "other.test-a.wild.test"),
        // No name is sent for an address.
        ("127.0.0.1", "mail.test", "mail.test-"),
    ] {
        let mut client = pki.client(&front, name);
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.answer().text(), expected);
    }
    // One without a certificate shows the default server's.
    let error = pki
        .try_client(&front, "plain.test")
        .unwrap_err()
        .to_string();
    assert!(error.contains("not valid for name"), "{error}");
    let error = pki.try_client(&front, "no.test").unwrap_err().to_string();
    assert!(error.contains("UnrecognisedName"), "{error}");
    eventually("it is logged", || {
        front
            .error_log()
            .contains("handshake rejected while SSL handshaking")
            .then_some(())
    });
}

#[test]
fn variables_know_what_was_agreed_upon() {
    let pki = Pki::new();
    let text = "$scheme $https $ssl_protocol $ssl_cipher $ssl_curve $ssl_alpn_protocol $ssl_session_reused";
    let front = Front::start(&format!(
        "server {{ listen 127.0.0.1:0 ssl; {} location / {{ return 200 '{text}'; }} location /to {{ return 301 /x; }} }}
         server {{ listen 127.0.0.1:0; return 200 '{text}'; }}",
        pki.directives("mail")
    ));
    let mut client = pki.client(&front, "mail.test");
    let said = client.get("/").text();
    let mut words: Vec<&str> = said.split(' ').collect();
    assert!(
        ["X25519", "X25519MLKEM768", "prime256v1"].contains(&words.remove(4)),
        "{said}"
    );
    assert_eq!(
        words,
        [
            "https",
            "on",
            "TLSv1.3",
            "TLS_AES_256_GCM_SHA384",
            "http/1.1",
            "."
        ]
    );
    let answer = client.get("/to");
    assert!(
        answer
            .head
            .field("Location")
            .unwrap()
            .starts_with("https://test"),
        "{answer:?}"
    );
    assert_eq!(Peer::connect(front.addr(1)).get("/").text(), "http      ");
}

#[test]
fn clients_resume_as_often_as_they_may() {
    for (directives, version, expected) in [
        ("", &TLS13, true),
        ("", &TLS12, true),
        ("ssl_session_tickets off;", &TLS13, false),
        ("ssl_session_tickets off;", &TLS12, false),
        (
            "ssl_session_tickets off; ssl_session_cache shared:a:1m;",
            &TLS12,
            true,
        ),
        (
            "ssl_session_tickets off; ssl_session_cache builtin:100;",
            &TLS13,
            true,
        ),
        (
            "ssl_session_timeout 0; ssl_session_cache shared:a:1m;",
            &TLS13,
            false,
        ),
        (
            "ssl_session_timeout 0; ssl_session_cache shared:a:1m;",
            &TLS12,
            false,
        ),
    ] {
        let mut pki = Pki::new();
        pki.add("other", &["other.test"]);
        let address = free_address();
        let server = |name: &str, called: &str| {
            format!(
                "server {{ listen {address} ssl; server_name {name}; {} return 200 $ssl_session_reused; }}",
                pki.directives(called)
            )
        };
        let front = Front::start(&format!(
            "ssl_protocols TLSv1.2 TLSv1.3; {directives} {} {}",
            server("mail.test", "mail"),
            server("other.test", "other")
        ));
        let config = pki.config(&[version]);
        let reused = |name: &str| {
            let mut client = Peer::connect_tls(front.addr(0), name, config.clone()).unwrap();
            let text = client.get("/").text();
            let resumed = client.session().handshake_kind() == Some(HandshakeKind::Resumed);
            assert_eq!(text == "r", resumed, "{text}");
            resumed
        };
        assert!(!reused("mail.test"));
        assert_eq!(reused("mail.test"), expected, "{directives} {version:?}");
        assert!(!reused("other.test"));
    }
}

#[test]
fn plain_http_is_told_that_tls_is_spoken_here() {
    let pki = Pki::new();
    let server = Server::bind();
    let front = front(&pki, &server, "access_log logs/access.log combined;");
    let mut client = Peer::connect(front.addr(0));
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.head.line(), "HTTP/1.1 400 Bad Request");
    assert!(
        answer
            .text()
            .contains("The plain HTTP request was sent to HTTPS port")
    );
    client.ends();
    server.was_left_alone();
    eventually("it is logged", || {
        front.access_log().contains("\" 400 ").then_some(())
    });
}

#[test]
fn bodies_pass_whole_in_both_directions() {
    for version in [&TLS12, &TLS13] {
        let pki = Pki::new();
        let server = Server::bind();
        let front = front(&pki, &server, "client_max_body_size 0;");
        let config = pki.config(&[version]);
        let mut client = Peer::connect_tls(front.addr(0), "mail.test", config).unwrap();
        let (up, down) = (numbered(5_000_000), alphabet(7_000_000));
        for chunked in [false, true] {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut upstream = server.accept();
                    upstream.head();
                    let got = upstream.take(up.len());
                    assert_same(&got, &up, "upload");
                    if chunked {
                        upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
                        for piece in down.chunks(100_000) {
                            upstream.send(format!("{:x}\r\n", piece.len()));
                            upstream.send(piece);
                            upstream.send("\r\n");
                        }
                        upstream.send("0\r\n\r\n");
                    } else {
                        upstream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", down.len()));
                        upstream.send(&down);
                    }
                });
                client.send(format!(
                    "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
                    up.len()
                ));
                client.send(&up);
                let head = client.head();
                assert_eq!(head.status(), 200);
                let got = if chunked {
                    client.chunked().data
                } else {
                    client.take(down.len())
                };
                assert_same(&got, &down, "download");
            });
        }
    }
}

#[test]
fn a_body_that_ends_with_the_close_is_complete_only_if_tls_says_so() {
    let pki = Pki::new();
    for whole in [true, false] {
        let server = Server::bind();
        let front = front(&pki, &server, "");
        let mut client = pki.client(&front, "mail.test");
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut upstream = server.accept();
        upstream.head();
        upstream.send("HTTP/1.1 200 OK\r\n\r\nhello");
        client.head();
        assert_eq!(client.take(5), b"hello");
        if !whole {
            upstream.socket().set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(upstream);
        // Without a close_notify rustls reports the end as an error.
        assert_eq!(client.try_rest().is_ok(), whole);
    }
}

/// What a client says, recorded and cut anywhere: the session is made anew, since records are for one connection only.
#[test]
fn records_may_come_byte_by_byte() {
    let pki = Pki::new();
    let server = Server::bind();
    let front = front(&pki, &server, "location /own { return 200 own; }");
    for version in [&TLS12, &TLS13] {
        let config = pki.config(&[version]);
        let mut socket = TcpStream::connect(front.addr(0)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = "mail.test".try_into().unwrap();
        let mut session = rustls::ClientConnection::new(config, name).unwrap();
        session
            .writer()
            .write_all(b"GET /own HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        loop {
            let mut bytes = Vec::new();
            while session.wants_write() {
                session.write_tls(&mut bytes).unwrap();
            }
            for byte in bytes {
                socket.write_all(&[byte]).unwrap();
            }
            if session.read_tls(&mut socket).unwrap() == 0 {
                break;
            }
            session.process_new_packets().unwrap();
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = session.reader().read(&mut buffer) {
                answer.extend_from_slice(&buffer[..n]);
            }
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("own"),
            "{answer}"
        );
    }
}

#[test]
fn clients_that_break_tls_leave_nothing_behind() {
    let pki = Pki::new();
    let server = Server::bind();
    let front = front(&pki, &server, "ssl_handshake_timeout 1s;");
    let before = front.sockets();
    let raw = |bytes: &[u8]| {
        let mut peer = Peer::connect(front.addr(0));
        peer.send(bytes);
        peer
    };
    // A handshake that does not go on, at its beginning and in the middle of a record.
    let mut stalled = vec![
        Peer::connect(front.addr(0)),
        raw(&[22, 3, 1, 0, 200, 1]),
        raw(&[22]),
    ];
    // What is no handshake, a record that is too long, and an alert.
    let mut broken = vec![
        raw(&[22, 3, 1, 0, 5, 9, 9, 9, 9, 9]),
        raw(&[22, 3, 3, 0xff, 0xff, 1, 0, 0, 0]),
        raw(&[22, 3, 3, 0, 4, 1, 0xff, 0xff, 0xff]),
    ];
    for peer in &mut broken {
        let _ = peer.try_rest();
    }
    for peer in &mut stalled {
        let _ = peer.try_rest();
    }
    // Garbage, a record that is too long, and the end in the middle of a record, after the handshake.
    for bytes in [
        &[
            23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
        ][..],
        &[23, 3, 3, 0xff, 0xff, 0],
        &[23, 3, 3, 0, 20, 1],
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut peer = pki.client(&front, "mail.test");
        peer.raw().write_all(bytes).unwrap();
        peer.finish();
        let mut rest = Vec::new();
        let _ = peer.raw().read_to_end(&mut rest);
    }
    drop((stalled, broken));
    server.was_left_alone();
    eventually("everything is closed", || {
        (front.sockets() == before).then_some(())
    });
    for said in [
        "client timed out (110: Connection timed out) while SSL handshaking",
        "SSL_do_handshake() failed (SSL: ",
    ] {
        front.error_log_with(said, 1);
    }
    let log = front.error_log();
    assert!(
        !log.contains("[error]") && !log.contains("panicked"),
        "{log}"
    );
}

#[test]
fn what_is_wrong_with_certificates_is_said() {
    let mut pki = Pki::new();
    pki.add("other", &["other.test"]);
    let openssl = |arguments: &[&str]| {
        let ran = Command::new("openssl").args(arguments).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
    };
    let path = |name: &str| pki.path(name).display().to_string();
    openssl(&[
        "pkcs8",
        "-topk8",
        "-in",
        &path("mail.key"),
        "-out",
        &path("locked.key"),
        "-passout",
        "pass:secret",
    ]);
    pki.write("empty.pem", "");
    pki.write("wrong", "guess\nanother\n");
    pki.write("right", "guess\nsecret\n");
    let server = |more: &str| format!("listen 127.0.0.1:0 ssl; {more} return 200 ok;");
    let pair = |certificate: &str, key: &str| {
        format!(
            "ssl_certificate {}; ssl_certificate_key {};",
            path(certificate),
            path(key)
        )
    };
    let passwords = |file: &str| format!("ssl_password_file {};", path(file));
    for (text, expected) in [
        (
            server(""),
            "no \"ssl_certificate\" is defined for the \"listen ... ssl\" directive in ",
        ),
        (
            server(&format!("ssl_certificate {};", path("mail.pem"))),
            "no \"ssl_certificate_key\" is defined for certificate \"",
        ),
        (
            server(&pair("missing.pem", "mail.key")),
            "missing.pem\" (2: No such file or directory)",
        ),
        (
            server(&pair("empty.pem", "mail.key")),
            "empty.pem\" (there is none in it)",
        ),
        (
            server(&pair("mail.pem", "other.key")),
            "is not the one of the certificate",
        ),
        (
            server(&pair("mail.pem", "empty.pem")),
            "empty.pem\" (there is none in it)",
        ),
        (
            server(&pair("mail.pem", "locked.key")),
            "it is encrypted, and there is no ssl_password_file",
        ),
        (
            server(&(pair("mail.pem", "locked.key") + &passwords("wrong"))),
            "no password of ssl_password_file opens it",
        ),
        (
            server(&(pair("mail.pem", "locked.key") + &passwords("right"))),
            "test is successful",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("logs")).unwrap();
        std::fs::write(
            directory.path().join("front.conf"),
            format!("events {{}} http {{ server {{ {text} }} }}"),
        )
        .unwrap();
        let output = crate::front::command(directory.path())
            .arg("-t")
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(expected), "{text}: {said}");
    }
}

/// One byte of one flight is another one: each ends in an alert or in nothing, and the front goes on.
#[test]
fn handshakes_with_a_wrong_byte_do_no_harm() {
    let pki = Pki::new();
    let server = Server::bind();
    let front = front(
        &pki,
        &server,
        "ssl_handshake_timeout 1s; client_header_timeout 1s; location /own { return 200 own; }",
    );
    let before = front.sockets();
    let once = |seed: u64| {
        let mut random = StdRng::seed_from_u64(seed);
        let version = if seed.is_multiple_of(2) {
            &TLS12
        } else {
            &TLS13
        };
        let mut socket = TcpStream::connect(front.addr(0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = "mail.test".try_into().unwrap();
        let mut session = rustls::ClientConnection::new(pki.config(&[version]), name).unwrap();
        let mut writer = session.writer();
        writer
            .write_all(b"GET /own HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            .unwrap();
        let wrong = random.random_range(0..3);
        for flight in 0.. {
            let mut bytes = Vec::new();
            while session.wants_write() {
                session.write_tls(&mut bytes).unwrap();
            }
            if flight == wrong && !bytes.is_empty() {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= random.random_range(1..=255);
            }
            // What the front does not want any more, it does not get.
            let gone = socket.write_all(&bytes).is_err();
            if gone || !matches!(session.read_tls(&mut socket), Ok(1..)) {
                return;
            }
            if session.process_new_packets().is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let once = &once;
            scope.spawn(move || (0..20).for_each(|nth| once(thread * 20 + nth)));
        }
    });
    let mut client = pki.client(&front, "mail.test");
    assert_eq!(client.get("/own").text(), "own");
    drop(client);
    eventually("everything is closed", || {
        (front.sockets() == before).then_some(())
    });
    assert!(!front.error_log().contains("panicked") && front.stderr().is_empty());
    server.was_left_alone();
}

#[test]
fn certificates_change_with_their_files_and_logins_stay() {
    let mut pki = Pki::new();
    pki.add("next", &["mail.test"]);
    let origins = origins(1, Kerberos::Declined);
    let front = Front::start(&format!(
        "upstream mail {{ server {}; ntlm; }}
         server {{ listen 127.0.0.1:0 ssl; {} location / {{ proxy_pass http://mail; }} }}",
        origins[0].addr(),
        pki.directives("mail")
    ));
    let read = |name: &str| std::fs::read(pki.path(name)).unwrap();
    let shown = || {
        let client = pki.client(&front, "mail.test");
        client.session().peer_certificates().unwrap()[0].to_vec()
    };
    let (before, key, next) = (read("mail.pem"), read("mail.key"), read("next.pem"));
    let der = |pem: &[u8]| CertificateDer::from_pem_slice(pem).unwrap().to_vec();
    // Bound to its connection, whatever happens to the certificate.
    let mut pinned = pki.client(&front, "mail.test");
    pinned.send("GET /private/whoami HTTP/1.1\r\nHost: test\r\nAuthorization: NTLM TlRMTVNTUAABAAAAB4IIAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n");
    let challenge = pinned.answer();
    assert_eq!(challenge.status(), 401);
    let connection = challenge.head.field("X-Connection").unwrap().to_owned();
    assert_eq!(shown(), der(&before));
    // The certificate without its key: the old pair is shown.
    std::fs::write(pki.path("mail.pem"), &next).unwrap();
    eventually("it is noticed", || {
        front
            .error_log()
            .contains("the old certificate is kept")
            .then_some(())
    });
    assert_eq!(shown(), der(&before));
    std::fs::write(pki.path("mail.key"), read("next.key")).unwrap();
    eventually("it is renewed", || {
        front
            .error_log()
            .contains("mail.pem\" renewed")
            .then_some(())
    });
    assert_eq!(shown(), der(&next));
    // Files that take the others' places, as certbot does it.
    for (name, content) in [("mail.pem", &before), ("mail.key", &key)] {
        std::fs::write(pki.path("new"), content).unwrap();
        std::fs::rename(pki.path("new"), pki.path(name)).unwrap();
    }
    eventually("it is renewed again", || {
        (front.error_log().matches("mail.pem\" renewed").count() == 2).then_some(())
    });
    assert_eq!(shown(), der(&before));
    assert_eq!(
        pinned.get("/whoami").head.field("X-Connection"),
        Some(&connection[..])
    );
}
