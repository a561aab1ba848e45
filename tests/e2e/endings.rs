//! Either side ends a connection, or breaks: what ends with it, and what is never sent twice.
#![allow(clippy::unwrap_used)] // what fails in a helper fails its test

use std::io::ErrorKind;
use std::time::Duration;

use ntlm_origin::Kerberos;
use ntlm_origin::client::{Connection, Handshake, Response, Scheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::front::{Front, eventually};
use crate::peer::{Peer, Server, assert_same, numbered};
use crate::prefix::free_address;
use crate::site::{Site, alice, ask, bob, identity, log_in, login_target, origins, place};

/// What a client with a pin is doing when it goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Doing {
    /// Its first leg was answered.
    Handshaking,
    Idle,
    SendingAHead,
    WaitingForTheAnswer,
    WaitingForTheFirstLegsAnswer,
    SendingABody,
    SendingABodyThatComesBack,
    ReceivingABody,
    ReceivingALongBodyUnread,
    InATunnel,
}

const DOING: [Doing; 10] = [
    Doing::Handshaking,
    Doing::Idle,
    Doing::SendingAHead,
    Doing::WaitingForTheAnswer,
    Doing::WaitingForTheFirstLegsAnswer,
    Doing::SendingABody,
    Doing::SendingABodyThatComesBack,
    Doing::ReceivingABody,
    Doing::ReceivingALongBodyUnread,
    Doing::InATunnel,
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Going {
    Close,
    Reset,
    HalfClose,
}

async fn first_leg(client: &mut Connection, target: &str) -> Response {
    let alice = alice();
    let (_, authorization) = Handshake::begin(Scheme::Ntlm, &alice);
    let headers = [("Authorization", &*authorization)];
    client.request("GET", target, &headers, b"").await.unwrap()
}

/// A client that does what is asked for, up to the point where it goes.
async fn doing(site: &Site, what: Doing) -> Connection {
    let mut client = site.client().await;
    let head = |line: &str, fields: &str| format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let authorization = {
        let alice = alice();
        let (_, authorization) = Handshake::begin(Scheme::Ntlm, &alice);
        format!("Authorization: {authorization}\r\n")
    };
    match what {
        Doing::Handshaking => {
            first_leg(&mut client, &login_target("it")).await;
            return client;
        }
        Doing::WaitingForTheFirstLegsAnswer => {
            // The origin reads the body first, so that nothing is answered.
            let fields = format!("{authorization}Content-Length: 10\r\n");
            let text = head("POST /private/echo", &fields);
            client.send(text.as_bytes()).await.unwrap();
            eventually("the leg arrives", || {
                (site.arrivals("/private/echo").iter().sum::<usize>() > 0).then_some(())
            });
            return client;
        }
        _ => {}
    }
    let answer = log_in(&mut client, Scheme::Ntlm, "it", &alice()).await;
    assert_eq!(answer.text(), "EXAMPLE\\alice");
    let (text, path) = match what {
        Doing::Handshaking | Doing::WaitingForTheFirstLegsAnswer | Doing::Idle => return client,
        Doing::SendingAHead => {
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n").await.unwrap();
            return client;
        }
        Doing::WaitingForTheAnswer => (head("GET /slow/600000", ""), "/slow"),
        Doing::SendingABody => (
            head("POST /echo", "Content-Length: 100000\r\n") + "some",
            "/echo",
        ),
        Doing::SendingABodyThatComesBack => (
            head("POST /mirror", "Transfer-Encoding: chunked\r\n") + "4\r\nsome\r\n",
            "/mirror",
        ),
        Doing::ReceivingABody | Doing::ReceivingALongBodyUnread => {
            (head("GET /bytes/400000000", ""), "/bytes")
        }
        Doing::InATunnel => (
            head("GET /upgrade", "Connection: upgrade\r\nUpgrade: words\r\n"),
            "/upgrade",
        ),
    };
    client.send(text.as_bytes()).await.unwrap();
    eventually("the request arrives", || {
        (site.arrivals(path).iter().sum::<usize>() > 0).then_some(())
    });
    match what {
        Doing::SendingABodyThatComesBack | Doing::ReceivingABody => {
            client.response_head("GET").await.unwrap();
            client.body_piece().await.unwrap().unwrap();
        }
        Doing::InATunnel => {
            assert_eq!(client.response_head("GET").await.unwrap().status, 101);
            client.send(b"hello").await.unwrap();
            assert_eq!(client.body_piece().await.unwrap().unwrap(), &b"hello"[..]);
        }
        _ => {}
    }
    client
}

#[tokio::test]
async fn a_client_that_goes_takes_its_upstream_connection_along() {
    for going in [Going::Close, Going::Reset, Going::HalfClose] {
        for what in DOING {
            let servers = origins(1, Kerberos::Declined);
            let http = format!(
                "upstream mail {{ server {}; ntlm; keepalive 8; }}
                 server {{
                     listen 127.0.0.1:0;
                     location / {{ proxy_pass http://mail; }}
                     location /upgrade {{
                         proxy_pass http://mail;
                         proxy_set_header Upgrade $http_upgrade;
                         proxy_set_header Connection upgrade;
                     }}
                 }}",
                servers[0].addr(),
            );
            let site = Site::configured(servers, "worker_processes 1;", &http);
            let mut held = None;
            let mut client = doing(&site, what).await;
            assert_eq!(site.upstream_connections(), 1, "{what:?}");
            match going {
                Going::Close => drop(client),
                Going::Reset => {
                    client.reset_on_close().unwrap();
                    drop(client);
                }
                Going::HalfClose => {
                    client.finish().await.unwrap();
                    held = Some(client);
                }
            }
            println!("{going:?} while {what:?}"); // shown if what follows fails
            site.await_nothing_left();
            drop(held);
        }
    }
}

/// Its answer began before its body ended, and pauses after that.
#[tokio::test]
async fn a_client_that_goes_after_its_body_while_the_answer_pauses_is_noticed() {
    let (addr, server) = scripted(&[&["HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"]]).await;
    let front = Front::start(&format!(
        "upstream mail {{ server {addr}; ntlm; }}
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://mail; }} }}"
    ));
    let sockets = front.sockets();
    let mut client = Connection::open(front.addr(0)).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM x\r\nContent-Length: 8\r\n\r\n";
    client.send(head.as_bytes()).await.unwrap();
    assert_eq!(client.response_head("POST").await.unwrap().status, 200);
    client.body_piece().await.unwrap().unwrap();
    client.send(b"the body").await.unwrap();
    drop(client);
    eventually("the front closes both connections", || {
        (front.sockets() == sockets).then_some(())
    });
    server.abort();
}

#[tokio::test]
async fn a_server_that_closes_an_idle_login_closes_the_client() {
    for what in [Doing::Handshaking, Doing::Idle] {
        let site = Site::with_one_server(Kerberos::Declined, "ntlm; keepalive 8;");
        let mut client = doing(&site, what).await;
        eventually("the server closes", || {
            site.origins[0].close_idle();
            (site.upstream_connections() == 0).then_some(())
        });
        assert!(client.closed().await.unwrap(), "{what:?}");
        site.await_nothing_left();
    }
}

#[tokio::test]
async fn a_client_with_another_login_stays_when_one_server_closes() {
    let servers = origins(2, Kerberos::Declined);
    let http = format!(
        "upstream one {{ server {}; ntlm; }} upstream two {{ server {}; ntlm; }}
         server {{
             listen 127.0.0.1:0;
             location /one/ {{ proxy_pass http://one/; }}
             location /two/ {{ proxy_pass http://two/; }}
         }}",
        servers[0].addr(),
        servers[1].addr(),
    );
    let site = Site::configured(servers, "worker_processes 1;", &http);
    let mut client = site.client().await;
    client.login_ntlm("/one/whoami", &alice()).await.unwrap();
    client.login_ntlm("/two/whoami", &bob()).await.unwrap();
    eventually("the first server closes", || {
        site.origins[0].close_idle();
        (site.origins[0].connections() == 0).then_some(())
    });
    for (path, text) in [
        ("/two/whoami", "EXAMPLE\\bob"),
        ("/one/whoami", "anonymous"),
        ("/two/whoami", "EXAMPLE\\bob"),
    ] {
        assert_eq!(client.get(path).await.unwrap().text(), text);
    }
    eventually("the second server closes", || {
        site.origins[1].close_idle();
        (site.origins[1].connections() == 0).then_some(())
    });
    assert!(client.closed().await.unwrap());
}

#[tokio::test]
async fn bytes_that_no_request_asked_for_end_the_login_and_its_client() {
    let site = Site::with_one_server(Kerberos::Declined, "ntlm;");
    let mut client = site.logged_in("alice", &alice()).await;
    assert_eq!(client.get("/extra").await.unwrap().text(), "complete\n");
    assert!(client.closed().await.unwrap());
    site.await_nothing_left();
}

/// One server's script: for each connection in turn, what it sends for each request head that it reads.
async fn scripted(
    script: &'static [&'static [&'static str]],
) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut open = Vec::new();
        for answers in script {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in *answers {
                read_head(&mut stream).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            open.push(stream);
        }
        // Whatever else comes, the connections stay.
        std::future::pending::<()>().await;
    });
    (addr, task)
}

async fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
}

/// The unasked bytes come together with the answer, whether the client waits or has sent its next request already.
#[tokio::test]
async fn an_answer_and_a_half_ends_the_login_and_its_client() {
    for pipelined in [false, true] {
        let (addr, _server) = scripted(&[&[
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhoHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfalse",
        ]])
        .await;
        let front = Front::start(&format!(
            "upstream mail {{ server {addr}; ntlm; }}
             server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://mail; }} }}"
        ));
        let mut client = Connection::open(front.addr(0)).await.unwrap();
        let headers = [("Authorization", "Negotiate YII=")];
        client.request("GET", "/", &headers, b"").await.unwrap();
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let requests = request.repeat(if pipelined { 2 } else { 1 });
        client.send(requests.as_bytes()).await.unwrap();
        assert_eq!(client.response("GET").await.unwrap().text(), "ho");
        assert!(client.closed().await.unwrap(), "pipelined: {pipelined}");
    }
}

#[tokio::test]
async fn a_login_that_dies_before_its_answer_closes_the_client_without_one() {
    let site = Site::start("ntlm; keepalive 8;");
    let mut client = site.logged_in("alice", &alice()).await;
    client
        .send(b"GET /drop HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    assert!(client.closed().await.unwrap(), "not a byte of an answer");
    assert_eq!(site.arrivals("/drop").iter().sum::<usize>(), 1);
    site.await_nothing_left();
    // The same between the legs.
    let mut client = site.client().await;
    first_leg(&mut client, &login_target("alice")).await;
    client
        .send(b"GET /drop?2 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    assert!(client.closed().await.unwrap(), "not a byte of an answer");
    assert_eq!(site.arrivals("/drop?2").iter().sum::<usize>(), 1);
    site.await_nothing_left();
}

#[tokio::test]
async fn a_login_whose_first_request_dies_is_answered_502() {
    let retry =
        "proxy_next_upstream error timeout invalid_header http_502 http_503 non_idempotent;";
    for pooled in [false, true] {
        let servers = origins(2, Kerberos::Declined);
        let http = crate::site::configuration(&servers, "ntlm; keepalive 8;")
            .replace("listen", &format!("{retry} listen"));
        let site = Site::configured(servers, "worker_processes 1;", &http);
        if pooled {
            // One connection to each of the two servers.
            let (mut one, mut two) = (site.client().await, site.client().await);
            ask(&mut one, "one").await;
            ask(&mut two, "two").await;
            assert_eq!(site.upstream_connections(), 2);
        }
        let accepted = site.upstream_accepted();
        let mut client = site.client().await;
        let answer = first_leg_at_drop(&mut client).await;
        assert_eq!(answer.status, 502, "pooled: {pooled}");
        assert_eq!(
            site.arrivals("/drop").iter().sum::<usize>(),
            1,
            "credentials are sent once"
        );
        if pooled {
            assert_eq!(site.upstream_accepted(), accepted);
        }
        // The client can go on and log in.
        let answer = log_in(&mut client, Scheme::Ntlm, "alice", &alice()).await;
        assert_eq!(answer.text(), "EXAMPLE\\alice");
    }
}

/// A scheme that the origin leaves alone: it goes on to the page, which is to close without an answer.
async fn first_leg_at_drop(client: &mut Connection) -> Response {
    let headers = [("Authorization", "Kerberos x")];
    client.request("GET", "/drop", &headers, b"").await.unwrap()
}

#[tokio::test]
async fn a_refused_connection_is_no_second_try() {
    let refused = free_address();
    let servers = origins(1, Kerberos::Declined);
    let http = format!(
        "log_format one '$upstream_addr $upstream_status'; access_log logs/access.log one;
         upstream mail {{ server {refused} max_fails=0; server {}; ntlm; keepalive 0; }}
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://mail; }} }}",
        servers[0].addr()
    );
    let site = Site::configured(servers, "worker_processes 1;", &http);
    for nth in 0..4 {
        let name = format!("user{nth}");
        let mut client = site.logged_in(&name, &alice()).await;
        assert_eq!(
            identity(&ask(&mut client, &name).await),
            Some("EXAMPLE\\alice")
        );
    }
    let log = eventually("the log", || {
        let log = site.front.access_log();
        (log.lines().count() == 12).then_some(log)
    });
    let tried = format!("{refused}, {} 502, 401", site.origins[0].addr());
    assert!(log.lines().any(|line| line == tried), "{log}");
    assert_eq!(site.assert_nothing_was_shared(), 4);
}

/// Everything that `proxy_next_upstream` can name, for requests that may go nowhere else.
#[tokio::test]
async fn no_failure_sends_credentials_or_a_pins_request_twice() {
    let servers = origins(2, Kerberos::Declined);
    // Failures that put a server aside are not what this is about.
    let http = format!(
        "upstream mail {{ server {} max_fails=0; server {} max_fails=0; ntlm; keepalive 8; }}
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://mail; }} }}",
        servers[0].addr(),
        servers[1].addr(),
    );
    let http = http.replace(
        "listen",
        "proxy_next_upstream error timeout invalid_header http_403 http_503 non_idempotent;
         proxy_read_timeout 300ms;
         listen",
    );
    let site = Site::configured(servers, "worker_processes 1;", &http);
    for (path, status) in [
        ("/slow/600000", 504),
        ("/status/503", 503),
        ("/status/403", 403),
    ] {
        for method in ["GET", "POST"] {
            let name = format!("{path}?{method}");
            // With credentials; on a handshaking pin without; on an established one.
            let mut client = site.client().await;
            let headers = [("Authorization", "Kerberos x")];
            let target = format!("{name}&1");
            let answer = client
                .request(method, &target, &headers, b"")
                .await
                .unwrap();
            assert_eq!(answer.status, status, "{target}");
            let mut client = site.client().await;
            first_leg(&mut client, &login_target("alice")).await;
            let target = format!("{name}&2");
            let answer = client.request(method, &target, &[], b"").await.unwrap();
            assert_eq!(answer.status, status, "{target}");
            let mut client = site.logged_in("alice", &alice()).await;
            let target = format!("{name}&3");
            let answer = client.request(method, &target, &[], b"").await.unwrap();
            assert_eq!(answer.status, status, "{target}");
            if status == 504 {
                // The login is lost, and the client is told so.
                assert!(answer.headers.names("connection", "close"), "{target}");
                assert!(client.closed().await.unwrap(), "{target}");
            } else {
                let answer = ask(&mut client, "alice").await;
                assert_eq!(identity(&answer), Some("EXAMPLE\\alice"), "{target}");
            }
            for nth in 1..=3 {
                let arrived: usize = site.arrivals(&format!("{name}&{nth}")).iter().sum();
                assert_eq!(arrived, 1, "{name}&{nth}");
            }
        }
    }
    // The configuration does send others twice: to both servers, here.
    let mut client = site.client().await;
    assert_eq!(client.get("/status/503?others").await.unwrap().status, 503);
    assert_eq!(site.arrivals("/status/503?others"), [1, 1]);
}

#[tokio::test]
async fn requests_on_a_pin_are_never_repeated() {
    let site = Site::start("ntlm; keepalive 8;");
    for path in ["/drop", "/cut/100000", "/close/10"] {
        let mut client = site.logged_in("alice", &alice()).await;
        let _ = client.get(path).await;
        assert!(client.closed().await.unwrap_or(true), "{path}");
        assert_eq!(site.arrivals(path).iter().sum::<usize>(), 1, "{path}");
    }
    site.await_nothing_left();
}

#[tokio::test]
async fn an_early_answer_is_relayed_at_once_and_the_login_lives_on() {
    let site = Site::start("ntlm; keepalive 8;");
    for (fields, parts, status) in [
        (
            "Content-Length: 100000\r\n",
            ["x".repeat(50_000), "y".repeat(50_000)],
            401,
        ),
        (
            "Transfer-Encoding: chunked\r\n",
            [
                "4\r\nsome\r\n".to_owned(),
                format!("{:x}\r\n{}\r\n0\r\n\r\n", 70_000, "z".repeat(70_000)),
            ],
            403,
        ),
    ] {
        let mut client = site.logged_in("alice", &alice()).await;
        let at = place(&ask(&mut client, "alice").await);
        let head = format!("POST /early/{status} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        client.send(head.as_bytes()).await.unwrap();
        client.send(parts[0].as_bytes()).await.unwrap();
        // Here, with half of the body sent.
        let answer = client.response("POST").await.unwrap();
        assert_eq!((answer.status, place(&answer)), (status, at.clone()));
        client.send(parts[1].as_bytes()).await.unwrap();
        let answer = ask(&mut client, "alice").await;
        assert_eq!(identity(&answer), Some("EXAMPLE\\alice"));
        assert_eq!(place(&answer), at);
    }
}

#[tokio::test]
async fn an_early_answer_that_closes_ends_the_login_and_the_client() {
    let site = Site::start("ntlm; keepalive 8;");
    let mut client = site.logged_in("alice", &alice()).await;
    let head = "POST /early-close/413 HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n";
    client.send(head.as_bytes()).await.unwrap();
    client.send(&[b'x'; 10_000]).await.unwrap();
    let answer = client.response("POST").await.unwrap();
    assert_eq!(answer.status, 413);
    assert!(answer.headers.names("connection", "close"));
    assert!(client.closed().await.unwrap_or(true));
    drop(client);
    site.await_nothing_left();
}

/// A client that leaves half-way through an early answer's body takes the login along.
#[tokio::test]
async fn a_body_that_never_ends_after_an_early_answer_ends_with_its_client() {
    let site = Site::start("ntlm; keepalive 8;");
    let mut client = site.logged_in("alice", &alice()).await;
    let head = "POST /early/401 HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome";
    client.send(head.as_bytes()).await.unwrap();
    assert_eq!(client.response("POST").await.unwrap().status, 401);
    drop(client);
    site.await_nothing_left();
}

/// Both directions of the connection are full when the client goes, so that no read or write tells of it.
#[test]
fn a_reset_is_noticed_while_the_server_does_not_read() {
    for (authorization, tunnel) in [
        ("Authorization: NTLM x\r\n", false),
        ("Authorization: NTLM x\r\n", true),
        ("", false),
        ("", true),
    ] {
        let server = Server::bind();
        let front = Front::start_main(
            "worker_processes 1;",
            &format!(
                "client_max_body_size 0;
                 upstream mail {{ server {}; ntlm; keepalive 8; }}
                 server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://mail; }}
                     location /upgrade {{
                         proxy_pass http://mail;
                         proxy_set_header Upgrade $http_upgrade;
                         proxy_set_header Connection upgrade;
                     }} }}",
                server.addr()
            ),
        );
        let sockets = front.sockets();
        let mut client = Peer::connect(front.addr(0));
        let fields = match tunnel {
            true => "GET /upgrade HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: words",
            false => "POST / HTTP/1.1\r\nContent-Length: 1000000000",
        };
        client.send(format!("{fields}\r\nHost: a\r\n{authorization}\r\n"));
        let mut upstream = server.accept();
        upstream.head();
        if tunnel {
            upstream.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: words\r\n\r\n",
            );
            assert_eq!(client.head().status(), 101);
        }
        // Full is what takes nothing for so long.
        let full = Duration::from_millis(300);
        client.socket().set_write_timeout(Some(full)).unwrap();
        let piece = numbered(1 << 20);
        let error = loop {
            if let Err(error) = client.try_send(&piece) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        client.socket().set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        println!("{authorization:?}, a tunnel: {tunnel}"); // shown if what follows fails
        eventually("the front closes both connections", || {
            (front.sockets() == sockets).then_some(())
        });
        drop(upstream);
    }
}

/// A close on top of bytes that nobody has read would be a reset, and a client that still sends would hear of nothing else.
#[test]
fn an_early_answer_that_closes_is_readable_while_the_body_still_comes() {
    const PIECES: usize = 10;
    let text = "too large\n".repeat(500);
    for authorization in ["Authorization: NTLM x\r\n", ""] {
        for chunked in [false, true] {
            let server = Server::bind();
            let front = Front::start_main(
                "worker_processes 1;",
                &format!(
                    "upstream mail {{ server {}; ntlm; keepalive 8; }}
                     server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://mail; }} }}",
                    server.addr()
                ),
            );
            let sockets = front.sockets();
            let (framing, piece) = match chunked {
                true => (
                    "Transfer-Encoding: chunked".to_owned(),
                    format!("3e8\r\n{}\r\n", "x".repeat(1000)),
                ),
                false => (
                    format!("Content-Length: {}", 1000 * (PIECES + 1)),
                    "x".repeat(1000),
                ),
            };
            let mut client = Peer::connect(front.addr(0));
            client.send(format!(
                "POST / HTTP/1.1\r\nHost: a\r\n{authorization}{framing}\r\n\r\n{piece}"
            ));
            let mut upstream = server.accept();
            upstream.head();
            upstream.send(format!(
                "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            ));
            drop(upstream);
            eventually("the answer is there", || {
                // It shows the first 2000 bytes; the rest came with them or comes behind.
                (client.so_far().len() == 2000).then_some(())
            });
            for nth in 0..PIECES {
                let sent = client.try_send(&piece);
                assert!(
                    sent.is_ok(),
                    "{authorization:?} {framing}: piece {nth}: {sent:?}"
                );
                std::thread::sleep(Duration::from_millis(20));
            }
            let answer = client.answer();
            assert_eq!(answer.status(), 413);
            assert_eq!(answer.head.field("connection"), Some("close"));
            assert_same(&answer.body, text.as_bytes(), "the answer");
            assert_eq!(client.rest(), b"", "and then the end, which is no reset");
            drop(client);
            eventually("nothing is left in the front", || {
                (front.sockets() == sockets).then_some(())
            });
        }
    }
}
