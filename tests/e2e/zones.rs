//! Zones of `limit_req` and `limit_conn`: what a reload makes of them, and that they do what nginx's do.
#![allow(clippy::unwrap_used)] // what fails in a helper fails its test

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::front::{Front, eventually};
use crate::nginx::{Nginx, assert_same_mistakes};
use crate::peer::{Peer, Server};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(front: &Front, target: &str) -> u16 {
    Peer::connect(front.addr(0)).get(target).status()
}

#[test]
fn a_reload_keeps_what_was_counted_unless_the_zone_is_another_one() {
    let upstream = Server::bind();
    let addr = upstream.addr();
    let http = |zones: &str, more: &str| {
        format!(
            "{zones} server {{ listen 127.0.0.1:0; {more}
                 location / {{ limit_req zone=r burst=2 nodelay; }}
                 location /held {{ limit_conn c 1; proxy_pass http://{addr}; }} }}"
        )
    };
    let zones = "limit_req_zone all zone=r:1m rate=1r/m; limit_conn_zone all zone=c:1m;";
    let front = Front::start(&http(zones, ""));
    assert_eq!([get(&front, "/"), get(&front, "/")], [404; 2]);
    let mut client = Peer::connect(front.addr(0));
    client.send("GET /held HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut server = upstream.accept();
    server.head();

    // Other zones stand before them, and the rate is another one.
    let others = "limit_conn_zone all zone=x:1m; limit_req_zone all zone=y:1m rate=1r/s;
        limit_conn_zone all zone=c:1m; limit_req_zone all zone=r:1m rate=2r/m;";
    front.reload(&http(others, "server_name second;"));
    assert_eq!([get(&front, "/"), get(&front, "/")], [404, 503]);
    assert_eq!(get(&front, "/held"), 503);

    // Another key: nothing of the new configuration takes effect.
    for (wrong, message) in [
        (
            "limit_req_zone $uri zone=r:1m rate=1r/m; limit_conn_zone all zone=c:1m;",
            "[emerg] PID: limit_req \"r\" uses the \"$uri\" key while previously it used the \"all\" key",
        ),
        (
            "limit_req_zone all zone=r:1m rate=1r/m; limit_conn_zone $uri zone=c:1m;",
            "[emerg] PID: limit_conn_zone \"c\" uses the \"$uri\" key while previously it used the \"all\" key",
        ),
    ] {
        let file = front.path().join("front.conf");
        let before = fs::read_to_string(&file).unwrap();
        let start = before.find("limit_conn_zone all zone=x").unwrap();
        let end = before.find(" server {").unwrap();
        let text = format!("{}{wrong}{}", &before[..start], &before[end..]);
        fs::write(&file, text).unwrap();
        front.signal(Signal::SIGHUP);
        let (_, words) = message.split_once("PID: ").unwrap();
        eventually(words, || front.error_log().contains(words).then_some(()));
        fs::write(&file, before).unwrap();
        assert_eq!([get(&front, "/"), get(&front, "/held")], [503; 2]);
    }

    // Another size: a new zone, also for connections; those of the old one go on with it.
    let larger = "limit_req_zone $uri zone=r:2m rate=1r/m; limit_conn_zone all zone=c:32k;";
    front.reload(&http(larger, ""));
    let all = [(); 4].map(|()| get(&front, "/"));
    assert_eq!(all, [404, 404, 404, 503]);
    let mut second = Peer::connect(front.addr(0));
    second.send("GET /held HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut other = upstream.accept();
    other.head();
    server.send(OK);
    assert_eq!(client.answer().status(), 200);
    assert_eq!(
        get(&front, "/held"),
        503,
        "its end is nothing to the new zone"
    );
    other.send(OK);
    assert_eq!(second.answer().status(), 200);
}

const SCENE: &str = "
    log_format limits '$request_uri $status $limit_req_status $limit_conn_status';
    access_log logs/access.log limits;
    limit_req_zone $arg_k zone=slow:1m rate=1r/m;
    limit_req_zone $uri$arg_k zone=fast:1m rate=2r/s;
    limit_conn_zone $arg_c zone=conn:1m;
    limit_conn_zone $uri$arg_all zone=all:1m;
    server {
        listen ADDR;
        limit_req zone=slow burst=2 nodelay;
        location / { }
        location /inherits { limit_req_status 429; limit_req_log_level warn; }
        location /delay { limit_req zone=fast burst=2; }
        location /both { limit_req zone=fast burst=1; limit_req zone=slow burst=1 nodelay; }
        location /later { limit_req zone=fast burst=3 delay=2; limit_req_log_level notice; }
        location /dry { limit_req_dry_run on; limit_req zone=slow burst=1; }
        location /denied { deny all; }
        location /returns { return 204; }
        location /held { limit_conn conn 1; limit_conn all 2; proxy_pass http://UPSTREAM; }
        location /held/dry { limit_conn conn 1; limit_conn_dry_run on; limit_conn_log_level info; }
        location /closed { limit_req_status 444; }
        location /status/400 { limit_req_status 400; }
        location /status/403 { limit_req_status 403; }
        location /status/408 { limit_req_status 408; }
        location /status/418 { limit_req_status 418; }
        location /status/499 { limit_req_status 499; }
        location /status/500 { limit_req_status 500; }
        location /status/599 { limit_req_status 599; }
    }";

/// Plays the scene against whoever listens on `addr` and logs to `directory/logs`, and returns everything that could be
/// seen of it: `at_least` so many lines.
fn play(addr: SocketAddr, directory: &Path, upstream: &Server, at_least: usize) -> Vec<String> {
    let connect = || Peer::connect(addr);
    let mut seen = Vec::new();
    let mut requests = 0;
    let mut ask = |target: &str, times: usize| {
        let mut client = connect();
        for _ in 0..times {
            client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
            requests += 1;
            let answer = client.answer();
            let (status, text) = (answer.status(), answer.text());
            let closes = answer.head.has("Connection: close");
            let page = text.contains("nginx") || text.contains("ntlmfront");
            seen.push(format!("{target}: {status} {closes} {page}"));
            if closes {
                client.ends();
                client = connect();
            }
        }
    };
    ask("/?k=1", 5);
    ask("/inherits?k=1", 2);
    ask("/inherits?k=2", 5);
    ask("/?", 4);
    ask("/delay?k=1", 4);
    ask("/both?k=3", 4);
    ask("/later?k=1", 5);
    ask("/dry?k=4", 4);
    ask("/denied?k=5", 4);
    ask("/returns?k=6", 4);
    ask(&format!("/?k={}", "x".repeat(300)), 4);
    for status in [400, 403, 418, 500, 599] {
        ask(&format!("/status/{status}?k={status}"), 5);
    }
    for target in ["/closed?k=8", "/status/408?k=8", "/status/499?k=8"] {
        let mut refused = 0;
        for _ in 0..4 {
            let mut client = connect();
            let head = format!("GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
            client.send(head);
            requests += 1;
            let answered = client.try_rest().is_ok_and(|bytes| !bytes.is_empty());
            refused += usize::from(!answered);
        }
        seen.push(format!("{target}: {refused} without an answer"));
    }
    // Requests that are at the server.
    let mut held = Vec::new();
    let hold = |target: &str| {
        let mut client = connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let mut server = upstream.accept();
        server.head();
        (client, server)
    };
    held.push(hold("/held?c=1"));
    let mut refused = |target: &str| {
        let mut client = connect();
        let statuses = [(); 2].map(|()| client.get(target).status());
        requests += 2;
        seen.push(format!("{target}: {statuses:?}"));
    };
    refused("/held?c=1");
    held.push(hold("/held?c=2"));
    refused("/held?c=3");
    refused("/held/dry?c=1");
    refused("/held/dry?c=3");
    held.push(hold(&format!("/held?all=1&c={}", "y".repeat(300))));
    for (mut client, mut server) in held {
        server.send(OK);
        requests += 1;
        seen.push(format!("{} when it is let go", client.answer().status()));
    }
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
    let lines = eventually("the lines of the access log", || {
        let log = read("logs/access.log");
        (log.lines().count() >= requests).then_some(log)
    });
    seen.extend(lines.lines().map(str::to_owned));
    let about = ["limiting ", "delaying ", " is more than "];
    let errors = || {
        let log = read("logs/error.log");
        let is_one = |line: &&str| about.iter().any(|about| line.contains(about));
        log.lines().filter(is_one).map(normal).collect::<Vec<_>>()
    };
    seen.extend(eventually("the lines of the error log", || {
        Some(errors()).filter(|errors| seen.len() + errors.len() >= at_least)
    }));
    seen
}

/// A line of the error log without what differs from run to run: time, process, connection and thousandths that have flowed
/// out since.
fn normal(line: &str) -> String {
    let level = line.find('[').unwrap();
    let (level, rest) = line[level..].split_once(' ').unwrap();
    let (_, message) = rest.split_once(": *").unwrap();
    let (_, message) = message.split_once(' ').unwrap();
    // nginx shows the value, which may be a secret.
    if let Some((about, value)) = message.split_once(" bytes: \"") {
        let (_, context) = value.split_once("\", client: ").unwrap_or(("", value));
        return format!("{level} {about} bytes, client: {context}");
    }
    let Some((before, after)) = message.split_once("excess: ") else {
        return format!("{level} {message}");
    };
    let number: f64 = after[..5].parse().unwrap();
    format!("{level} {before}excess: {}{}", number.round(), &after[5..])
}

#[test]
fn the_same_requests_end_as_they_do_with_nginx() {
    let upstream = Server::bind();
    let scene = SCENE.replace("UPSTREAM", &upstream.addr().to_string());
    let nginx = Nginx::start(&scene);
    let theirs = play(nginx.addr, nginx.path(), &upstream, 0);
    // As nginx has it, too: the order of lines is asked for.
    let scene = scene.replace("ADDR", "127.0.0.1:0");
    let front = Front::start_main("worker_processes 1;", &scene);
    let ours = play(front.addr(0), front.path(), &upstream, theirs.len());
    let pairs = ours.iter().zip(&theirs);
    let different: Vec<_> = pairs.filter(|(ours, theirs)| ours != theirs).collect();
    assert!(different.is_empty(), "(ours, theirs): {different:#?}");
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn mistakes_are_named_as_nginx_names_them() {
    const ZONES: &str =
        "limit_req_zone $uri zone=r:1m rate=1r/s;\nlimit_conn_zone $uri zone=c:1m;\n";
    assert_same_mistakes(
        ZONES,
        &[
            "limit_req_zone $uri zone=a:1m;",
            "limit_req_zone $uri zone=a rate=1r/s;",
            "limit_req_zone $uri zone=a:x rate=1r/s;",
            "limit_req_zone $uri zone=a:31k rate=1r/s;",
            "limit_req_zone $uri zone=:1m rate=1r/s;",
            "limit_req_zone $uri zone=a:1m rate=1.5r/s;",
            "limit_req_zone $uri zone=a:1m x=1;",
            "limit_req_zone $uri zone=r:1m rate=1r/s;",
            "limit_req_zone $uri zone=r:2m rate=1r/s;",
            "limit_req_zone $uri zone=c:1m rate=1r/s;",
            "limit_conn_zone $uri zone=c:1m;",
            "limit_conn_zone $uri c:1m;",
            "limit_req burst=1;",
            "limit_req zone=r burst=0;",
            "limit_req zone=r delay=x;",
            "limit_req zone=r now;",
            "limit_req zone=r; limit_req zone=r;",
            "limit_req zone=c;",
            "limit_conn c 0;",
            "limit_conn c 65536;",
            "limit_conn c 1; limit_conn c 2;",
            "limit_req_status 399;",
            "limit_req_status x;",
            "limit_conn_status 429; limit_conn_status 430;",
            "limit_req_log_level crit;",
            "limit_conn_dry_run maybe;",
            "server { limit_conn_zone $uri zone=a:1m; }",
        ],
    );
}
