#![allow(clippy::unwrap_used)] // a test: a panic is a failure

use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::config::model::{TlsProtocols, UpstreamTls};
use crate::net::{Driver, SCRATCH_BYTES, run, sleep};
use nix::sys::socket::{MsgFlags, recv};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

fn settings() -> UpstreamTls {
    UpstreamTls {
        protocols: TlsProtocols {
            tls12: false,
            tls13: true,
            suites12: Vec::new(),
            suites13: vec![0x1301],
        },
        verify: false,
        trusted: None,
        crl: None,
        verify_depth: 1,
        name: "mail.test".to_owned(),
        server_name: false,
        certificate: None,
        password_file: None,
        session_reuse: false,
    }
}

/// A server of one connection that says `text` in one go, and what the client has to do about it.
fn with_server(text: Vec<u8>, client: impl AsyncFnOnce(Stream) + Send + 'static) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["mail.test".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(certificate.der().to_vec())],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    config.send_tls13_tickets = 0;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket).unwrap();
        }
        session.writer().write_all(&text).unwrap();
        let mut records = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut records).unwrap();
        }
        socket.write_all(&records).unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
    });
    let (done, is_done) = channel();
    std::thread::spawn(move || {
        let session = crate::tls::load_group(&settings()).unwrap();
        run(Driver::Epoll, async {
            let mut stream = Stream::from(Socket::connect(addr, None, false).unwrap());
            poll_fn(|cx| stream.poll_connected(cx)).await.unwrap();
            stream.begin_connect(session.begin().unwrap());
            poll_fn(|cx| stream.poll_shaken(cx)).await.unwrap();
            client(stream).await;
        })
        .unwrap();
        done.send(()).unwrap();
    });
    let patience = Duration::from_secs(60);
    assert!(
        is_done.recv_timeout(patience).is_ok(),
        "it failed, or spins"
    );
}

/// Nobody knows whether more is there when a receive brought all that it asked for: one look has to settle it.
#[test]
fn a_record_that_fills_a_receive_leaves_nothing_unasked() {
    const RECORD: usize = 16 << 10;
    // What a record of TLS 1.3 adds: its header, the type of its contents, the tag.
    let text = vec![b'x'; RECORD - 22];
    with_server(text, async |stream| {
        let mut buffer = [0; 2 * RECORD];
        let fd = stream.socket.as_raw_fd();
        while recv(fd, &mut buffer, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) != Ok(RECORD) {
            sleep(Duration::from_millis(1)).await;
        }
        let loan = stream.try_recv(RECORD).unwrap().unwrap();
        assert_eq!(loan.len(), RECORD - 22);
        drop(loan);
        assert!(stream.may_hold_more(), "as far as anybody knows");
        let pending = poll_fn(|cx| Poll::Ready(stream.poll_unasked(cx).is_pending()));
        assert!(pending.await);
        assert!(!stream.has_unasked());
    });
}

/// A look takes whole records, and loses nothing of what is in them.
#[test]
fn what_a_look_finds_is_received_next() {
    with_server(b"hello".to_vec(), async |stream| {
        poll_fn(|cx| stream.poll_unasked(cx)).await;
        assert_eq!(stream.peek(), Peek::Bytes);
        assert!(stream.has_unasked());
        let loan = stream.try_recv(SCRATCH_BYTES).unwrap().unwrap();
        assert_eq!(&*loan, b"hello");
        drop(loan);
        assert_eq!(stream.peek(), Peek::Nothing);
        assert!(!stream.has_unasked());
    });
}
