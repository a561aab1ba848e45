//! `limit_req`: who passes, who waits and how long, who is refused, and what is written about it.
#![allow(clippy::unwrap_used)] // what fails in a helper fails its test

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ntlm_origin::{Kerberos, Origin, OriginOptions};

use crate::front::{Front, eventually};
use crate::peer::{Peer, Server};
use crate::site::{Site, alice, ask, identity, origins};

/// So slow that nothing flows out in the time of a test: a request more in 62 s.
const SLOW: &str = "limit_req_zone $binary_remote_addr zone=one:1m rate=1r/m;";

/// As slow, and the same for everybody.
const SLOW_TOO: &str = "limit_req_zone all zone=two:1m rate=1r/m;";

const LOG: &str = "log_format limits '$request_uri $status $limit_req_status';
    access_log logs/access.log limits;";

/// A front before an origin, `server` standing in its server block.
fn front(zones: &str, server: &str) -> (Front, Origin) {
    let origin = Origin::start(OriginOptions::default()).unwrap();
    let front = Front::start(&http(&origin, zones, server));
    (front, origin)
}

fn http(origin: &Origin, zones: &str, server: &str) -> String {
    let addr = origin.addr();
    format!(
        "{LOG} {zones}
         server {{ listen 127.0.0.1:0; {server} location / {{ proxy_pass http://{addr}; }} }}"
    )
}

/// The statuses of requests for these targets, one after the other on one connection.
fn statuses(front: &Front, targets: &[&str]) -> Vec<u16> {
    let mut client = Peer::connect(front.addr(0));
    let status = |target: &&str| client.get(target).status();
    targets.iter().map(status).collect()
}

/// Lines of the error log with this in them, without what stands before their level.
fn said(front: &Front, what: &str, number: usize) -> Vec<String> {
    eventually(what, || {
        let log = front.error_log();
        let lines = log.lines().filter(|line| line.contains(what));
        let lines: Vec<_> = lines
            .map(|line| line[line.find('[').unwrap()..].to_owned())
            .collect();
        (lines.len() >= number).then_some(lines)
    })
}

/// Lines of the access log.
fn lines(front: &Front, number: usize) -> Vec<String> {
    eventually("the lines of the access log", || {
        let log = front.access_log();
        let lines: Vec<_> = log.lines().map(str::to_owned).collect();
        (lines.len() >= number).then_some(lines)
    })
}

#[test]
fn as_many_pass_as_the_burst_says_whichever_worker_they_come_to() {
    let (front, origin) = front(SLOW, "limit_req zone=one burst=9 nodelay;");
    let mut clients: Vec<_> = (0..60).map(|_| Peer::connect(front.addr(0))).collect();
    for client in &mut clients {
        client.send("GET /whoami HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    let answered = clients.iter_mut().map(|client| client.answer().status());
    let answered: Vec<u16> = answered.collect();
    let count = |status| answered.iter().filter(|&&found| found == status).count();
    assert_eq!((count(200), count(503)), (10, 50), "{answered:?}");
    assert_eq!(origin.log().len(), 10);
    // A refused client's connection goes on, and is refused again.
    for client in &mut clients {
        assert_eq!(client.get("/whoami").status(), 503);
    }
    let refused = said(&front, "limiting requests", 110);
    let workers = refused.iter().map(|line| {
        let thread = line.split_once('#').unwrap().1;
        thread.split_once(':').unwrap().0.to_owned()
    });
    let workers: BTreeSet<_> = workers.collect();
    assert_eq!(workers.len(), 2, "both workers count in one zone");
}

#[test]
fn a_body_that_is_too_large_anyway_counts_for_nothing() {
    let (front, origin) = front(SLOW, "client_max_body_size 10; limit_req zone=one;");
    for _ in 0..3 {
        let mut client = Peer::connect(front.addr(0));
        client.send("POST /whoami HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\n\r\n");
        assert_eq!(client.answer().status(), 413);
    }
    let mut client = Peer::connect(front.addr(0));
    let statuses = [client.get("/whoami"), client.get("/whoami")].map(|answer| answer.status());
    assert_eq!(statuses, [200, 503]);
    assert_eq!(origin.log().len(), 1);
}

#[test]
fn what_comes_too_fast_waits_for_its_turn_and_nobody_else_does() {
    const RATE: &str = "limit_req_zone $arg_key zone=one:1m rate=10r/s;";
    let (front, origin) = front(RATE, "limit_req zone=one burst=5;");
    let mut clients: Vec<_> = (0..7).map(|_| Peer::connect(front.addr(0))).collect();
    let mut other = Peer::connect(front.addr(0));
    let began = Instant::now();
    for client in &mut clients {
        client.send("GET /whoami?key=a HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    // Another key, and none.
    assert_eq!(other.get("/whoami?key=b").status(), 200);
    assert_eq!(other.get("/whoami").status(), 200);
    assert!(
        began.elapsed() < Duration::from_millis(450),
        "{:?} for a request that need not wait",
        began.elapsed()
    );
    let waiting = std::thread::scope(|scope| {
        let answers: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(move || (client.answer().status(), began.elapsed())))
            .collect();
        let answers = answers.into_iter().map(|answer| answer.join().unwrap());
        answers.collect::<Vec<_>>()
    });
    let refused = waiting.iter().filter(|(status, _)| *status == 503).count();
    assert_eq!(refused, 1, "{waiting:?}");
    let passed = waiting.iter().filter(|(status, _)| *status == 200);
    let mut passed: Vec<_> = passed.map(|(_, after)| after.as_millis()).collect();
    passed.sort_unstable();
    for (nth, after) in passed.iter().enumerate() {
        let due = nth as u128 * 100;
        // Never early but for the milliseconds between sending and `began`; late as a busy machine is.
        assert!(
            (due.saturating_sub(15)..due + 1000).contains(after),
            "{passed:?}"
        );
    }
    assert_eq!(origin.log().len(), 8);
    let delayed = said(&front, "delaying request", 5);
    assert_eq!(delayed.len(), 5);
    for line in delayed {
        assert!(line.starts_with("[warn] "), "{line}");
    }
}

#[test]
fn the_first_of_a_burst_need_not_wait() {
    let (front, _origin) = front(
        "limit_req_zone all zone=one:1m rate=2r/s;",
        "limit_req zone=one burst=3 delay=2;",
    );
    let began = Instant::now();
    assert_eq!(statuses(&front, &["/1", "/2", "/3"]), [404; 3]);
    assert!(began.elapsed() < Duration::from_millis(400));
    assert_eq!(statuses(&front, &["/4"]), [404]);
    assert!(began.elapsed() > Duration::from_millis(400));
    let lines = lines(&front, 4);
    assert_eq!(lines[2], "/3 404 PASSED");
    assert_eq!(lines[3], "/4 404 DELAYED");
}

#[test]
fn lines_are_nginx_s_and_have_the_level_that_is_configured() {
    let (front, _origin) = front(
        SLOW,
        "server_name here; limit_req zone=one;
         location /notice { limit_req_log_level notice; }
         location /delayed { limit_req_log_level info; limit_req zone=one burst=1; }
         location /status { limit_req_status 429; }",
    );
    let targets = ["/a?x", "/b", "/notice", "/status"];
    assert_eq!(statuses(&front, &targets), [404, 503, 503, 429]);
    let mut waits = Peer::connect(front.addr(0));
    waits.send("GET /delayed HTTP/1.1\r\nHost: test\r\n\r\n");
    let delayed = &said(&front, "delaying request", 1)[0];
    let refused = said(&front, "limiting requests", 3);
    for (line, level, message, target) in [
        (
            &refused[0],
            "error",
            "limiting requests, excess: E by",
            "/b",
        ),
        (
            &refused[1],
            "notice",
            "limiting requests, excess: E by",
            "/notice",
        ),
        (
            &refused[2],
            "error",
            "limiting requests, excess: E by",
            "/status",
        ),
        (
            delayed,
            "info",
            "delaying request, excess: E, by",
            "/delayed",
        ),
    ] {
        let (head, message_found) = line.split_once(": *").unwrap();
        assert!(head.starts_with(&format!("[{level}] ")), "{line}");
        let (_, message_found) = message_found.split_once(' ').unwrap();
        // Of 1.000 some thousandths may have flowed out.
        let excess = message_found
            .split_once("excess: ")
            .and_then(|(_, rest)| rest.get(..5))
            .unwrap();
        assert!(
            excess == "1.000" || excess.starts_with("0.9"),
            "{message_found}"
        );
        let expected = format!(
            "{} zone \"one\", client: 127.0.0.1, server: here, request: \"GET {target} HTTP/1.1\", host: \"test\"",
            message.replace('E', excess)
        );
        assert_eq!(message_found, expected);
    }
}

#[test]
fn a_dry_run_only_says_what_would_be() {
    let (front, _origin) = front(SLOW, "limit_req_dry_run on; limit_req zone=one burst=1;");
    let began = Instant::now();
    assert_eq!(statuses(&front, &["/1", "/2", "/3"]), [404; 3]);
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "the delay is 62 s"
    );
    assert_eq!(
        lines(&front, 3),
        [
            "/1 404 PASSED",
            "/2 404 DELAYED_DRY_RUN",
            "/3 404 REJECTED_DRY_RUN"
        ]
    );
    let delayed = &said(&front, "delaying request", 1)[0];
    assert!(
        delayed.contains("delaying request, dry run, excess: "),
        "{delayed}"
    );
    let refused = &said(&front, "limiting requests", 1)[0];
    assert!(
        refused.contains("limiting requests, dry run, excess: "),
        "{refused}"
    );
}

#[test]
fn of_several_limits_each_has_to_let_a_request_through() {
    let zones = format!(
        "limit_req_zone $arg_a zone=a:1m rate=1r/m;
         limit_req_zone $arg_b$arg_c zone=b:1m rate=1r/m; {SLOW_TOO}"
    );
    let (front, _origin) = front(
        &zones,
        "limit_req zone=a; limit_req zone=b burst=1 nodelay;
         location /all { limit_req zone=two burst=2 nodelay; }
         location = /free { return 200 free; }",
    );
    // What the first refuses is not counted by the second, and the other way round.
    let targets = [
        "/?a=1&b=1",
        "/?a=1&b=1",
        "/?a=1&b=1",
        "/?a=2&b=1",
        "/?a=3&b=1",
        "/?a=3&c=2",
    ];
    assert_eq!(statuses(&front, &targets), [200, 503, 503, 200, 503, 200]);
    // One key of two, and none at all.
    assert_eq!(
        statuses(&front, &["/?b=3", "/?b=3", "/?b=3"]),
        [200, 200, 503]
    );
    assert_eq!(
        statuses(&front, &["/?a=4", "/?a=4", "/", "/", "/"]),
        [200, 503, 200, 200, 200]
    );
    // A location's own take the place of all that are inherited.
    assert_eq!(
        statuses(&front, &["/all?a=1", "/all?a=1", "/all", "/all"]),
        [404, 404, 404, 503]
    );
    assert_eq!(
        statuses(&front, &["/free"; 4]),
        [200; 4],
        "what returns is not limited"
    );
    let lines = lines(&front, 22);
    for (line, times) in [
        ("/?a=1&b=1 503 REJECTED", 2),
        ("/ 200 -", 3),
        ("/free 200 -", 4),
    ] {
        let found = lines.iter().filter(|found| *found == line);
        assert_eq!(found.count(), times, "{line}");
    }
}

#[test]
fn a_key_that_is_too_long_is_not_counted() {
    let (front, _origin) = front(
        "large_client_header_buffers 4 100k; limit_req_zone x$arg_k zone=one:1m rate=1r/m;",
        "limit_req zone=one;",
    );
    let longest = format!("/{}", "?k=".to_owned() + &"a".repeat(65_534));
    let longer = format!("{longest}a");
    let targets = [&longest[..], &longest, &longer, &longer];
    assert_eq!(statuses(&front, &targets), [200, 503, 200, 200]);
    let line = &said(&front, "is more than", 2)[0];
    assert!(line.starts_with("[error]"), "{line}");
    let message = "the value of the \"x$arg_k\" key is more than 65535 bytes, client: ";
    assert!(line.contains(message), "{line}");
}

#[test]
fn the_client_is_who_real_ip_says() {
    let (front, _origin) = front(SLOW, "limit_req zone=one; set_real_ip_from 127.0.0.1;");
    let mut client = Peer::connect(front.addr(0));
    let mut from = |address: &str| {
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: test\r\nX-Real-IP: {address}\r\n\r\n"
        ));
        client.answer().status()
    };
    let addresses = [
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.1",
        "::ffff:10.0.0.2",
        "fd00::1",
    ];
    assert_eq!(addresses.map(&mut from), [200, 200, 503, 503, 200]);
}

#[test]
fn denied_clients_are_limited_first() {
    let (front, _origin) = front(SLOW, "limit_req zone=one; deny all;");
    assert_eq!(statuses(&front, &["/", "/"]), [403, 503]);
    let denied = said(&front, "access forbidden by rule", 1);
    assert_eq!(denied.len(), 1);
}

#[test]
fn a_client_that_leaves_before_its_turn_is_forgotten() {
    let server = Server::bind();
    let addr = server.addr();
    let front = Front::start(&format!(
        "{LOG} {SLOW} server {{ listen 127.0.0.1:0;
             location / {{ limit_req zone=one burst=3; proxy_pass http://{addr}; }}
             location /now {{ return 200 now; }} }}"
    ));
    let mut first = Peer::connect(front.addr(0));
    first.send("GET /first HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut upstream = server.accept();
    upstream.head();
    let mut leaving: Vec<_> = (0..2).map(|_| Peer::connect(front.addr(0))).collect();
    leaving[0].send("GET /idle HTTP/1.1\r\nHost: test\r\n\r\n");
    // One with a body that is not there yet.
    leaving[1].send("POST /body HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nhalf");
    said(&front, "delaying request", 2);
    drop(leaving);
    let gone = lines(&front, 2);
    assert!(gone.contains(&"/idle 499 DELAYED".to_owned()), "{gone:?}");
    assert!(gone.contains(&"/body 499 DELAYED".to_owned()), "{gone:?}");
    said(&front, "client prematurely closed connection", 2);
    server.was_left_alone();
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(first.answer().status(), 200);
}

#[tokio::test]
async fn a_refusal_ends_no_login() {
    let origins = origins(1, Kerberos::Declined);
    let addr = origins[0].addr();
    let http = format!(
        "log_format pins '$request_uri|$status|$upstream_addr|$upstream_status|$pin_id|$pin_state|$pin_requests|$auth_scheme||';
         access_log logs/access.log pins; {SLOW}
         upstream mail {{ server {addr}; ntlm; keepalive 0; }}
         server {{ listen 127.0.0.1:0;
             location / {{ proxy_pass http://mail; }}
             location /limited {{ limit_req zone=one; proxy_pass http://mail; }} }}"
    );
    let site = Site::configured(origins, "worker_processes 2;", &http);
    let mut client = site.logged_in("alice", &alice()).await;
    assert_eq!(client.get("/limited?from=alice").await.unwrap().status, 404);
    for body in [&b""[..], b"a body that nobody wants"] {
        let refused = client.request("POST", "/limited?from=alice", &[], body);
        assert_eq!(refused.await.unwrap().status, 503);
    }
    let answer = ask(&mut client, "alice").await;
    assert_eq!(identity(&answer), Some("EXAMPLE\\alice"));
    assert_eq!(site.upstream_accepted(), 1);
    site.assert_nothing_was_shared();
}

#[tokio::test]
async fn a_login_that_waits_makes_room_for_others() {
    let origins = origins(1, Kerberos::Declined);
    let addr = origins[0].addr();
    let http = format!(
        "access_log off; {SLOW}
         upstream mail {{ server {addr}; ntlm 1; keepalive 0; }}
         server {{ listen 127.0.0.1:0;
             location / {{ proxy_pass http://mail; }}
             location /limited {{ limit_req zone=one burst=5; proxy_pass http://mail; }} }}"
    );
    let site = Site::configured(origins, "worker_processes 1;", &http);
    let mut waits = site.logged_in("waits", &alice()).await;
    waits.get("/limited?from=waits").await.unwrap();
    waits
        .send(b"GET /limited?from=waits HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    said(&site.front, "delaying request", 1);
    site.await_upstream_connections(1);
    let mut newcomer = site.logged_in("newcomer", &alice()).await;
    // The one that waits gives its own up now, not when its turn comes.
    site.await_upstream_connections(1);
    let answer = ask(&mut newcomer, "newcomer").await;
    assert_eq!(identity(&answer), Some("EXAMPLE\\alice"));
    site.assert_nothing_was_shared();
}

#[test]
fn statuses_that_end_a_connection() {
    let (front, _origin) = front(
        SLOW,
        "limit_req zone=one;
         location /444 { limit_req_status 444; }
         location /500 { limit_req_status 500; }",
    );
    assert_eq!(statuses(&front, &["/"]), [200]);
    let mut client = Peer::connect(front.addr(0));
    client.send("GET /444 HTTP/1.1\r\nHost: test\r\n\r\n");
    client.ends();
    let mut client = Peer::connect(front.addr(0));
    let answer = client.get("/500");
    assert_eq!(answer.status(), 500);
    assert!(answer.head.has("Connection: close"), "{}", answer.head.text);
    client.ends();
    // Each worker writes its lines when it likes.
    let mut logged = lines(&front, 3);
    logged.retain(|line| line.ends_with("REJECTED"));
    logged.sort_unstable();
    assert_eq!(logged, ["/444 444 REJECTED", "/500 500 REJECTED"]);
}
