//! `limit_conn`: requests that are processed at the same time, whatever way they end.
#![allow(clippy::unwrap_used)] // what fails in a helper fails its test

use std::time::Duration;

use socket2::SockRef;

use ntlm_origin::{Origin, OriginOptions};

use crate::front::{Front, eventually};
use crate::peer::{Peer, Server};
use crate::prefix::free_address;

const ZONE: &str = "limit_conn_zone $binary_remote_addr zone=addr:1m;";

const LOG: &str = "log_format limits '$request_uri $status $limit_conn_status';
    access_log logs/access.log limits;";

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

const LAST_OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// A front before a server that answers when the test says so.
fn held(zones: &str, server: &str) -> (Front, Server) {
    let upstream = Server::bind();
    let front = Front::start(&http(&upstream, zones, server));
    (front, upstream)
}

fn http(upstream: &Server, zones: &str, server: &str) -> String {
    let addr = upstream.addr();
    format!(
        "{LOG} {zones} proxy_read_timeout 3s;
         server {{ listen 127.0.0.1:0; {server} location / {{ proxy_pass http://{addr}; }} }}"
    )
}

/// A client that has asked for `target`.
fn asks(front: &Front, target: &str) -> Peer {
    let mut client = Peer::connect(front.addr(0));
    client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
    client
}

/// A client whose request is at the server, and the server's side of it.
fn held_by(front: &Front, upstream: &Server, target: &str) -> (Peer, Peer) {
    let client = asks(front, target);
    let mut server = upstream.accept();
    server.head();
    (client, server)
}

fn lines(front: &Front, number: usize) -> Vec<String> {
    eventually("the lines of the access log", || {
        let log = front.access_log();
        let lines: Vec<_> = log.lines().map(str::to_owned).collect();
        (lines.len() >= number).then_some(lines)
    })
}

#[track_caller]
fn assert_refused(front: &Front, target: &str) {
    assert_eq!(asks(front, target).answer().status(), 503, "{target}");
}

#[test]
fn as_many_are_processed_as_the_limit_says_whichever_worker_they_come_to() {
    let (front, upstream) = held(ZONE, "limit_conn addr 3;");
    let mut clients: Vec<_> = (0..40).map(|_| Peer::connect(front.addr(0))).collect();
    for round in 0..5 {
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        // Those that are not refused are at the server.
        let refused = (round + 1) * 37;
        eventually("the refusals", || {
            let log = front.error_log();
            (log.matches("limiting connections by zone \"addr\"").count() == refused).then_some(())
        });
        let mut held: Vec<_> = (0..3).map(|_| upstream.accept()).collect();
        upstream.was_left_alone();
        for server in &mut held {
            server.head();
            server.send(LAST_OK);
        }
        let answers = clients.iter_mut().map(|client| client.answer().status());
        let answers: Vec<u16> = answers.collect();
        let passed = answers.iter().filter(|&&status| status == 200).count();
        assert_eq!(passed, 3, "{answers:?}");
        eventually("the end of the three", || {
            let log = front.access_log();
            (log.matches("200 PASSED").count() == (round + 1) * 3).then_some(())
        });
    }
    let log = front.error_log();
    let threads = log
        .lines()
        .filter(|line| line.contains("limiting connections"));
    let threads = threads.filter_map(|line| line.split_once('#')?.1.split_once(':'));
    let threads: std::collections::BTreeSet<_> = threads.map(|(thread, _)| thread).collect();
    assert_eq!(threads.len(), 2, "both workers count in one zone");
}

#[test]
fn only_requests_count_and_not_connections() {
    let (front, upstream) = held(ZONE, "limit_conn addr 1;");
    let (mut first, mut server) = held_by(&front, &upstream, "/first");
    // Connected, or in the middle of a head.
    let mut second = Peer::connect(front.addr(0));
    second.send("GET /second HTTP/1.1\r\nHost: ");
    assert_refused(&front, "/third");
    server.send(LAST_OK);
    assert_eq!(first.answer().status(), 200);
    lines(&front, 2);
    // The first is idle.
    second.send("test\r\n\r\n");
    let mut server = upstream.accept();
    assert!(server.head().text.starts_with("GET /second "));
    first.send("GET /first HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(first.answer().status(), 503, "and its connection goes on");
    server.send(OK);
    assert_eq!(second.answer().status(), 200);
    let mut seen = lines(&front, 4);
    // Lines of two workers have no order.
    seen.sort();
    let expected = [
        "/first 200 PASSED",
        "/first 503 REJECTED",
        "/second 200 PASSED",
        "/third 503 REJECTED",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn lines_levels_and_statuses() {
    let (front, upstream) = held(
        ZONE,
        "server_name here; limit_conn addr 1; limit_conn_log_level info; limit_conn_status 429;
         location /wet { limit_conn_log_level warn; limit_conn_dry_run on; }",
    );
    let (mut client, mut server) = held_by(&front, &upstream, "/");
    assert_eq!(asks(&front, "/a").answer().status(), 429);
    assert_eq!(
        asks(&front, "/wet").answer().status(),
        404,
        "nobody is refused"
    );
    for (level, dry, target) in [("info", "", "/a"), ("warn", ", dry run,", "/wet")] {
        let request = format!("GET {target} ");
        let log = front.error_log_with(&request, 1);
        let found = log.lines().find(|line| line.contains(&request)).unwrap();
        assert!(found.contains(&format!(" [{level}] ")), "{found}");
        let expected = format!(
            " limiting connections{dry} by zone \"addr\", client: 127.0.0.1, server: here, request: \"GET {target} HTTP/1.1\", host: \"test\""
        );
        assert!(found.ends_with(&expected), "{found}");
    }
    server.send(OK);
    assert_eq!(client.answer().status(), 200);
    let mut seen = lines(&front, 3);
    seen.sort();
    let expected = [
        "/ 200 PASSED",
        "/a 429 REJECTED",
        "/wet 404 REJECTED_DRY_RUN",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn of_several_limits_one_that_refuses_counts_nothing_in_the_others() {
    let zones = "limit_conn_zone $arg_a zone=a:1m; limit_conn_zone $arg_b zone=b:1m;";
    let (front, upstream) = held(zones, "limit_conn a 2; limit_conn b 1;");
    let (mut one, mut server) = held_by(&front, &upstream, "/?a=1&b=1");
    for _ in 0..3 {
        assert_refused(&front, "/?a=1&b=1");
    }
    // There is room for one more in `a`, whatever `b` has refused.
    let (mut two, mut other) = held_by(&front, &upstream, "/?a=1&b=2");
    assert_refused(&front, "/?a=1&b=3");
    // Neither key, or one.
    let (mut three, mut third) = held_by(&front, &upstream, "/none");
    let (mut four, mut fourth) = held_by(&front, &upstream, "/?b=3");
    for (client, server) in [
        (&mut one, &mut server),
        (&mut two, &mut other),
        (&mut three, &mut third),
        (&mut four, &mut fourth),
    ] {
        server.send(OK);
        assert_eq!(client.answer().status(), 200);
    }
    assert!(lines(&front, 8).contains(&"/none 200 -".to_owned()));
}

#[test]
fn a_key_that_is_too_long_is_not_counted() {
    let (front, upstream) = held("limit_conn_zone $arg_k zone=k:1m;", "limit_conn k 1;");
    let longest = format!("/?k={}", "a".repeat(255));
    let longer = format!("{longest}a");
    let held: Vec<_> = [&longest, &longer, &longer]
        .map(|target| held_by(&front, &upstream, target))
        .into();
    assert_refused(&front, &longest);
    drop(held);
    let log = front.error_log_with("is more than", 1);
    let expected = "[error]";
    let line = log.lines().find(|line| line.contains("is more than"));
    let line = line.unwrap();
    assert!(line.contains(expected), "{line}");
    let message = "the value of the \"$arg_k\" key is more than 255 bytes, client: ";
    assert!(line.contains(message), "{line}");
}

#[test]
fn the_count_is_zero_again_after_whatever_clients_and_servers_do() {
    let origin = Origin::start(OriginOptions::default()).unwrap();
    let addr = origin.addr();
    let dead = free_address();
    let front = Front::start(&format!(
        "{LOG} {ZONE} limit_req_zone all zone=rate:1m rate=1r/m; proxy_read_timeout 100ms;
         server {{ listen 127.0.0.1:0; limit_conn addr 1000; client_max_body_size 1k;
             location / {{ proxy_pass http://{addr}; }}
             location /dead {{ proxy_pass http://{dead}; }}
             location /denied {{ deny all; }}
             location /delayed {{ limit_req zone=rate burst=1000; proxy_pass http://{addr}; }}
             location /upgrade {{ proxy_pass http://{addr}; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }}
             location /one {{ limit_conn addr 1; proxy_pass http://{addr}/whoami; }} }}"
    ));
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n");
    let post = |target: &str, rest: &str| {
        format!("POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {rest}")
    };
    let requests = [
        get("/whoami"),
        get("/slow/60000"),
        get("/bytes/30000000"),
        get("/chunked/30000000"),
        get("/cut/100000"),
        get("/drop"),
        get("/dead"),
        get("/denied"),
        get("/delayed"),
        get("/delayed"),
        get("/whoami") + &get("/slow/60000"),
        post("/echo", "100\r\n\r\nhalf"),
        post("/echo", "4\r\n\r\nbody"),
        post("/early", "1000\r\n\r\nhalf"),
        post("/whoami", "100000\r\n\r\nhalf"),
        "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal"
            .to_owned(),
        "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nnonsense"
            .to_owned(),
        "GET /upgrade HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
            .to_owned(),
    ];
    let sockets = front.sockets();
    for round in 0..12 {
        let mut clients = Vec::new();
        for request in &requests {
            let mut client = Peer::connect(front.addr(0));
            client.send(request);
            clients.push(client);
        }
        // Those that get an answer have got some of it; the others wait.
        if round % 3 > 0 {
            let _ = clients[0].head();
            let _ = clients[2].head();
        }
        for (nth, client) in clients.into_iter().enumerate() {
            match (round + nth) % 3 {
                0 => drop(client),
                1 => {
                    let socket: SockRef<'_> = client.socket();
                    socket.set_linger(Some(Duration::ZERO)).unwrap();
                }
                _ => {
                    let mut client = client;
                    client.finish();
                }
            }
        }
    }
    eventually("all of them are gone", || {
        (front.sockets() <= sockets + 4).then_some(())
    });
    // With nothing left behind, one passes where one may, and with nothing too few, no second one does.
    let mut one = eventually("the count is zero again", || {
        let mut client = asks(&front, "/one");
        (client.answer().status() == 200).then_some(client)
    });
    for _ in 0..20 {
        assert_eq!(one.get("/one").status(), 200);
    }
    let mut busy = asks(&front, "/bytes/30000000");
    assert_eq!(busy.head().status(), 200);
    assert_refused(&front, "/one");
    drop(busy);
    eventually("one passes", || {
        (asks(&front, "/one").answer().status() == 200).then_some(())
    });
}
