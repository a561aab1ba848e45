//! What happens when a worker has as many connections as it may (`worker_connections`): who goes, who stays, who is turned
//! away.

use ntlm_origin::Kerberos;

use crate::front::{Front, eventually};
use crate::peer::{Peer, Server};
use crate::site::{Site, alice, ask, identity, origins};

const FULL: &str = "worker_connections are not enough";
const REUSING: &str = "worker_connections are not enough, reusing connections";

fn main_block(connections: usize) -> String {
    format!("worker_processes 1; events {{ worker_connections {connections}; }}")
}

#[test]
fn a_worker_whose_clients_are_all_busy_turns_others_away_and_says_so() {
    let server = Server::bind();
    let front = Front::start_main(
        &main_block(4),
        &format!(
            "server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://{}; }} location = /ok {{ return 200 ok; }} }}",
            server.addr()
        ),
    );
    // Each has its upstream connection, and its request is there.
    let mut clients: Vec<(Peer, Peer)> = (0..2)
        .map(|_| {
            let mut client = Peer::connect(front.addr(0));
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            let mut upstream = server.accept();
            upstream.head();
            (client, upstream)
        })
        .collect();
    for _ in 0..3 {
        Peer::connect(front.addr(0)).ends();
    }
    let log = front.error_log_with(FULL, 1);
    let told = log.lines().filter(|line| line.contains(FULL));
    assert_eq!(told.clone().count(), 1, "once a second at the most: {log}");
    assert!(told.clone().all(|line| line.contains("[alert]")), "{log}");
    for (client, upstream) in &mut clients {
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(client.answer().text(), "ok", "who was there goes on");
    }
    // The upstream connections are everybody's and idle now: they make room first, then an idle client does.
    let served = |_| {
        eventually("a newcomer is served", || {
            let mut newcomer = Peer::connect(front.addr(0));
            let asked = newcomer.try_send("GET /ok HTTP/1.1\r\nHost: test\r\n\r\n");
            let answered = asked.and_then(|()| newcomer.try_take(1));
            answered.is_ok().then_some(newcomer)
        })
    };
    let _newcomers: Vec<Peer> = (0..3).map(served).collect();
    let mut gone = 0;
    for (client, upstream) in &mut clients {
        upstream.ends();
        let _ = client.try_send("GET /ok HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        gone += usize::from(client.try_rest().unwrap_or_default().is_empty());
    }
    assert_eq!(gone, 1);
}

#[tokio::test]
async fn idle_clients_make_room_and_logged_in_ones_never() {
    let origins = origins(1, Kerberos::Declined);
    let http = format!(
        "upstream mail {{ server {}; ntlm; keepalive 0; }}
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://mail; }}
             location = /long {{ return 200 long; }} location = /brief {{ keepalive_timeout 30s; return 200 brief; }} }}",
        origins[0].addr()
    );
    let site = Site::configured(origins, &main_block(5), &http);
    let mut logged_in = site.logged_in("alice", &alice()).await;
    let client = |target: &str| {
        let mut client = Peer::connect(site.addr());
        assert_eq!(client.get(target).status(), 200);
        client
    };
    let mut long = client("/long");
    let mut brief = client("/brief");
    let mut other = client("/long");
    assert!(!site.front.error_log().contains(FULL), "five fit");
    let mut newcomer = client("/long");
    brief.ends();
    for client in [&mut long, &mut other, &mut newcomer] {
        assert_eq!(client.get("/long").text(), "long");
    }
    assert_eq!(
        identity(&ask(&mut logged_in, "alice").await),
        Some("EXAMPLE\\alice")
    );
    let log = site.front.error_log_with(REUSING, 1);
    let line = log.lines().find(|line| line.contains(REUSING));
    assert!(line.is_some_and(|line| line.contains("[warn]")), "{log}");
    assert!(!log.contains("[alert]"), "{log}");
}

#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let front = Front::start_main(
        &main_block(100),
        "server { listen 127.0.0.1:0; location = /status { stub_status; } location / { return 200 ok; } }",
    );
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.extend((0..50).map(|_| Peer::connect(front.addr(0))));
        let mut client = Peer::connect(front.addr(0));
        assert_eq!(client.get("/").text(), "ok");
        let status = client.get("/status").text();
        let active = status.split_whitespace().nth(2).map(str::parse::<usize>);
        assert!(
            active.is_some_and(|n| n.is_ok_and(|n| n <= 100)),
            "{status}"
        );
    }
    let log = front.error_log_with(REUSING, 1);
    assert!(!log.contains("[alert]"), "{log}");
}
