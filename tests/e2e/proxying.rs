//! What the configuration makes of a request: where it goes, what is added and taken away, what is logged.

use std::collections::HashSet;

use ntlm_origin::{Origin, OriginOptions};

use crate::front::{Front, eventually};
use crate::peer::{Answer, Head, Peer, Server};
use crate::prefix::free_address;

fn front(http: &str) -> Front {
    Front::start_main("worker_processes 1;", http)
}

fn origins<const N: usize>() -> [Origin; N] {
    std::array::from_fn(|i| {
        Origin::start(OriginOptions {
            name: format!("S{i}"),
            ..OriginOptions::default()
        })
        .expect("an origin starts")
    })
}

fn server_of(answer: &Answer) -> String {
    answer
        .head
        .field("x-server")
        .expect("an origin answered")
        .to_owned()
}

/// Sends a GET for `target` to `host` on a new connection; the head that arrives at `server`.
fn arrives(front: &Front, server: &Server, host: &str, target: &str, more: &str) -> Head {
    let mut client = Peer::connect(front.addr(0));
    client.send(format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n"
    ));
    let mut upstream = server.accept();
    let head = upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    client.rest();
    head
}

fn get(front: &Front, host: &str, target: &str, more: &str) -> Answer {
    let mut client = Peer::connect(front.addr(0));
    client.send(format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n"
    ));
    client.answer()
}

#[test]
fn another_server_is_tried_when_one_cannot_be_reached() {
    let [works] = origins();
    let front = front(&format!(
        "upstream u {{ server {}; server {}; }} access_log logs/access.log up;
         log_format up '$status $upstream_status';
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://u; }}
                   location /off/ {{ proxy_next_upstream off; proxy_pass http://u/; }} }}",
        free_address(),
        works.addr()
    ));
    let mut client = Peer::connect(front.addr(0));
    // Nothing was sent to the first one, so that the method and the body do not matter.
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody");
    let answer = client.answer();
    assert!(answer.text().contains("body-bytes: 4\n"));
    let log = eventually("the access log", || {
        Some(front.access_log()).filter(|log| !log.is_empty())
    });
    assert_eq!(log, "200 502, 200\n");
    // It is known to be down now.
    for _ in 0..5 {
        assert_eq!(server_of(&client.get("/")), "S0");
    }
    let log = front.error_log_with("connect() failed", 1);
    assert_eq!(log.matches("connect() failed").count(), 1);
}

#[test]
fn what_counts_as_a_failure_is_configured() {
    let (first, second) = (Server::bind(), Server::bind());
    let front = front(&format!(
        "upstream u {{ server {} max_fails=0; server {} backup; }}
         proxy_read_timeout 300ms;
         server {{ listen 127.0.0.1:0;
             location /plain {{ proxy_pass http://u; }}
             location /503 {{ proxy_next_upstream error http_503; proxy_pass http://u; }}
             location /timeout {{ proxy_next_upstream timeout; proxy_pass http://u; }}
             location /invalid {{ proxy_next_upstream invalid_header; proxy_pass http://u; }}
             location /error {{ proxy_next_upstream error; proxy_pass http://u; }}
             location /post {{ proxy_next_upstream error non_idempotent; proxy_pass http://u; }}
             location /once {{ proxy_next_upstream_tries 1; proxy_pass http://u; }}
         }}",
        first.addr(),
        second.addr()
    ));
    let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
    // path, method, what the first server says (nothing: it is silent; "close": it closes), whether the second is asked
    for (path, method, said, again) in [
        ("/plain", "GET", busy, None),
        ("/503", "GET", busy, Some(200)),
        ("/503", "POST", busy, None),
        ("/timeout", "GET", "", Some(200)),
        ("/plain", "GET", "close", Some(200)),
        ("/timeout", "GET", "close", None),
        ("/invalid", "GET", "rubbish\r\n\r\n", Some(200)),
        ("/plain", "GET", "rubbish\r\n\r\n", None),
        ("/error", "POST", "close", None),
        ("/error", "PUT", "close", Some(200)),
        ("/post", "POST", "close", Some(200)),
        ("/once", "GET", "close", None),
    ] {
        let shown = format!("{method} {path} {said:?}");
        let mut client = Peer::connect(front.addr(0));
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        ));
        let mut upstream = first.accept();
        upstream.head();
        match said {
            "close" => drop(upstream),
            "" => {
                let mut upstream = second.accept();
                upstream.head();
                upstream.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            }
            said => upstream.send(said),
        }
        if again.is_some() && !said.is_empty() {
            let mut upstream = second.accept();
            assert!(upstream.head().line().starts_with(method), "{shown}");
            upstream.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        }
        let status = client.answer().status();
        let wanted = again.unwrap_or(if said == busy { 503 } else { 502 });
        assert_eq!(status, wanted, "{shown}");
        second.was_left_alone();
        // A connection of the pool would be used for the next one.
        while let Some(peer) = first.try_accept() {
            drop(peer);
        }
    }
}

#[test]
fn a_request_with_credentials_is_never_sent_twice() {
    let (first, second) = (Server::bind(), Server::bind());
    let front = front(&format!(
        "upstream u {{ server {}; server {}; }} upstream pinned {{ server {}; server {}; ntlm; }}
         proxy_next_upstream error timeout http_503 non_idempotent;
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://u; }} location /pinned {{ proxy_pass http://pinned; }} }}",
        first.addr(), second.addr(), first.addr(), second.addr()
    ));
    for path in ["/", "/pinned"] {
        let mut client = Peer::connect(front.addr(0));
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Negotiate YTpi\r\n\r\n"
        ));
        let (mut upstream, other) = eventually("either server is asked", || {
            first
                .try_accept()
                .map(|peer| (peer, &second))
                .or_else(|| second.try_accept().map(|peer| (peer, &first)))
        });
        upstream.head();
        upstream.send("HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.answer().status(), 503);
        other.was_left_alone();
    }
}

#[test]
fn a_server_that_failed_rests_and_backups_stand_in() {
    let [main, backup] = origins();
    let gone = free_address();
    let front = front(&format!(
        "upstream u {{ server {gone} max_fails=1 fail_timeout=1h; server {} backup; server {} down; }}
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://u; }} }}",
        backup.addr(),
        main.addr()
    ));
    for _ in 0..5 {
        assert_eq!(server_of(&get(&front, "test", "/", "")), "S1");
    }
    assert_eq!(main.accepted(), 0, "down is never asked");
    let log = front.error_log_with("upstream server temporarily disabled", 1);
    assert_eq!(log.matches("connect() failed").count(), 1, "{log}");
    assert_eq!(
        log.matches("upstream server temporarily disabled").count(),
        1,
        "{log}"
    );
}

#[test]
fn balancing_methods_choose_as_they_promise() {
    let origins: [Origin; 3] = origins();
    let servers = |method: &str| {
        let servers: String = origins
            .iter()
            .map(|o| format!("server {};", o.addr()))
            .collect();
        format!("{method} {servers} keepalive 0;")
    };
    let front = front(&format!(
        "upstream rr {{ {} }} upstream ip {{ {} }} upstream hash {{ {} }} upstream ring {{ {} }} upstream random {{ {} }} upstream least {{ {} }}
         server {{ listen 127.0.0.1:0;
             location /rr/ {{ proxy_pass http://rr/; }} location /ip/ {{ proxy_pass http://ip/; }}
             location /hash/ {{ proxy_pass http://hash/; }} location /ring/ {{ proxy_pass http://ring/; }}
             location /random/ {{ proxy_pass http://random/; }} location /least/ {{ proxy_pass http://least/; }} }}",
        servers(""), servers("ip_hash;"), servers("hash $arg_k;"), servers("hash $arg_k consistent;"),
        servers("random;"), servers("least_conn;")
    ));
    let ask = |target: &str| server_of(&get(&front, "test", target, ""));
    let turns: Vec<String> = (0..6).map(|_| ask("/rr/")).collect();
    assert_eq!(
        turns[..3].iter().collect::<HashSet<_>>().len(),
        3,
        "{turns:?}"
    );
    assert_eq!(turns[..3], turns[3..]);
    let same: HashSet<String> = (0..6).map(|_| ask("/ip/")).collect();
    assert_eq!(same.len(), 1);
    for method in ["hash", "ring"] {
        let mut all = HashSet::new();
        for key in 0..20 {
            let target = format!("/{method}/?k={key}");
            let chosen = ask(&target);
            assert_eq!(ask(&target), chosen);
            all.insert(chosen);
        }
        assert_eq!(all.len(), 3, "{method}");
    }
    let all: HashSet<String> = (0..60).map(|_| ask("/random/")).collect();
    assert_eq!(all.len(), 3);
    // Two servers are busy, so that the third is the one.
    let busy: Vec<Peer> = (0..2)
        .map(|_| {
            let mut client = Peer::connect(front.addr(0));
            client.send("POST /least/mirror HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n");
            client.head();
            client
        })
        .collect();
    let free: HashSet<String> = (0..4).map(|_| ask("/least/")).collect();
    assert_eq!(free.len(), 1);
    drop(busy);
}

#[test]
fn clean_connections_are_used_again_by_everybody() {
    let [origin] = origins();
    let front = front(&format!(
        "upstream u {{ server {}; }} server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://u; }} }}",
        origin.addr()
    ));
    for _ in 0..10 {
        get(&front, "test", "/", "");
    }
    assert_eq!(origin.accepted(), 1);
    // Credentials taint a connection, also without ntlm.
    for _ in 0..3 {
        get(&front, "test", "/", "Authorization: NTLM x\r\n");
    }
    eventually("tainted connections are closed", || {
        (origin.connections() <= 1).then_some(())
    });
}

#[test]
fn a_stale_connection_of_the_pool_is_not_the_client_s_problem() {
    let server = Server::bind();
    let front = front(&format!(
        "upstream u {{ server {}; }} server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://u; }} }}",
        server.addr()
    ));
    let mut client = Peer::connect(front.addr(0));
    client.send("GET /1 HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut stale = server.accept();
    stale.head();
    stale.send("HTTP/1.1 204 No Content\r\n\r\n");
    client.answer();
    // The server takes the request and closes: it may have decided to close before it saw it.
    client.send("GET /2 HTTP/1.1\r\nHost: test\r\n\r\n");
    stale.head();
    drop(stale);
    let mut upstream = server.accept();
    assert_eq!(upstream.head().line(), "GET /2 HTTP/1.1");
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(client.answer().status(), 204);
    // What is not idempotent is not repeated.
    client.send("POST /3 HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    upstream.head();
    drop(upstream);
    assert_eq!(client.answer().status(), 502);
    server.was_left_alone();
}

#[test]
fn targets_become_what_proxy_pass_says() {
    let server = Server::bind();
    let addr = server.addr();
    let front = front(&format!(
        "upstream u {{ server {addr}; }}
         server {{ listen 127.0.0.1:0;
             location /as-is/ {{ proxy_pass http://u; }}
             location /swap/ {{ proxy_pass http://u/new/; }}
             location /cut {{ proxy_pass http://u/; }}
             location /literal/ {{ proxy_pass http://{addr}/x?a=; }}
             location /var/ {{ set $where u; proxy_pass http://$where$request_uri; }}
             location /var-address/ {{ set $where {addr}; proxy_pass http://$where; }}
             location ~ ^/re/(?<rest>.*)$ {{ proxy_pass http://u/$rest$is_args$args; }}
             location ~ ^/numbered/(.*)/(.*)$ {{ proxy_pass http://u/$2/$1; }}
             location /nowhere {{ set $where no.such.host; proxy_pass http://$where; }}
             location /broken {{ set $where ftp; proxy_pass $where://u; }}
         }}"
    ));
    for (asked, line) in [
        ("/as-is/%41//b?c=%20", "/as-is/%41//b?c=%20"),
        ("/swap/a%20b?c", "/new/a%20b?c"),
        ("/sw%61p/a", "/new/a"),
        ("/cut/a", "//a"),
        ("/cut", "/"),
        ("/literal/y", "/x?a=y"),
        ("/var/a?b", "/var/a?b"),
        ("/var-address/a?b", "/var-address/a?b"),
        ("/re/a/b?c=d", "/a/b?c=d"),
        ("/re/a%20b", "/a%20b"),
        ("/numbered/a/b", "/b/a"),
    ] {
        let head = arrives(&front, &server, "test", asked, "");
        assert_eq!(head.line(), format!("GET {line} HTTP/1.1"), "{asked}");
    }
    assert_eq!(get(&front, "test", "/nowhere", "").status(), 502);
    assert_eq!(get(&front, "test", "/broken", "").status(), 500);
    assert_eq!(get(&front, "test", "/", "").status(), 404);
    server.was_left_alone();
}

#[test]
fn fields_are_set_removed_and_left_alone() {
    let server = Server::bind();
    let front = front(&format!(
        "upstream u {{ server {0}; }}
         server {{ listen 127.0.0.1:0; server_name front.example;
             location /default {{ proxy_pass http://u; }}
             location /literal {{ proxy_pass http://{0}; }}
             location /set {{
                 proxy_set_header Host $host; proxy_set_header X-Real-IP $remote_addr;
                 proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
                 proxy_set_header X-Text \"a b;c\"; proxy_set_header Accept-Encoding \"\"; proxy_set_header X-Empty $arg_none;
                 proxy_set_header Connection \"\"; proxy_set_header Authorization $http_authorization;
                 proxy_pass http://u; }}
         }}",
        server.addr()
    ));
    let sent = "x-forwarded-for: 1.1.1.1\r\nX-Text: theirs\r\nAccept-Encoding: gzip\r\nX-Empty: theirs\r\nX-Stays: yes\r\nAuthorization: Basic YTpi\r\n";
    let head = arrives(&front, &server, "Front.Example:80", "/default", sent);
    assert_eq!(head.text, format!("GET /default HTTP/1.1\r\n{sent}Host: u"));
    let head = arrives(&front, &server, "front.example", "/literal", "");
    assert_eq!(head.field("host"), Some(&*server.addr().to_string()));
    let head = arrives(&front, &server, "Front.Example:80", "/set", sent);
    let mut lines: Vec<&str> = head.text.split("\r\n").skip(1).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "Authorization: Basic YTpi",
            "Host: front.example",
            "X-Forwarded-For: 1.1.1.1, 127.0.0.1",
            "X-Forwarded-Proto: http",
            "X-Real-IP: 127.0.0.1",
            "X-Stays: yes",
            "X-Text: a b;c",
        ]
    );
}

/// What the client gets of a response with these lines.
fn answered(front: &Front, server: &Server, target: &str, status: &str, lines: &str) -> Head {
    let mut client = Peer::connect(front.addr(0));
    client.send(format!(
        "GET {target} HTTP/1.1\r\nHost: front.example:8080\r\n\r\n"
    ));
    let mut upstream = server.accept();
    upstream.head();
    upstream.send(format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n{lines}\r\n"
    ));
    client.head()
}

#[test]
fn response_fields_are_hidden_passed_and_added() {
    let server = Server::bind();
    let front = front(&format!(
        "upstream u {{ server {}; }}
         server {{ listen 127.0.0.1:0;
             location / {{ proxy_pass http://u; proxy_hide_header X-Secret; proxy_pass_header Server;
                 add_header X-Added $upstream_http_x_kept; add_header X-Always yes always; add_header X-None $arg_none; }}
             location /plain {{ proxy_pass http://u; }}
         }}",
        server.addr()
    ));
    let lines = "Server: theirs\r\nDate: theirs\r\nX-Secret: x\r\nx-secret: y\r\nX-Kept: kept\r\nX-Accel-Redirect: /x\r\nX-Pad: x\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n";
    let head = answered(&front, &server, "/", "200 OK", lines);
    assert_eq!(head.fields("server").collect::<Vec<_>>(), ["theirs"]);
    assert_eq!(
        head.fields("set-cookie").collect::<Vec<_>>(),
        ["a=b", "c=d"]
    );
    for gone in ["x-secret", "x-accel-redirect", "x-pad", "x-none"] {
        assert_eq!(head.field(gone), None, "{gone}");
    }
    assert_eq!(head.fields("date").count(), 1);
    assert!(!head.has("Date: theirs"));
    assert_eq!(head.field("x-added"), Some("kept"));
    assert_eq!(head.field("x-always"), Some("yes"));
    let head = answered(&front, &server, "/", "500 Oh", lines);
    assert_eq!(head.field("x-added"), None);
    assert_eq!(head.field("x-always"), Some("yes"));
    let head = answered(&front, &server, "/plain", "200 OK", lines);
    assert_eq!(
        head.field("server"),
        Some(concat!("ntlmfront/", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(head.fields("x-secret").count(), 2);
}

#[test]
fn redirects_of_the_server_lead_back_to_the_front() {
    let server = Server::bind();
    let front = front(&format!(
        "upstream u {{ server {}; }}
         server {{ listen 127.0.0.1:0;
             location /default/ {{ proxy_pass http://u/app/; }}
             location /off/ {{ proxy_redirect off; proxy_pass http://u/app/; }}
             location /own/ {{ proxy_redirect http://inner/ https://$host/own/; proxy_redirect ~^https?://([a-z]+)\\.internal/(.*)$ /$1/$2; proxy_pass http://u; }}
         }}",
        server.addr()
    ));
    for (target, said, wanted) in [
        ("/default/x", "http://u/app/y?z", "/default/y?z"),
        (
            "/default/x",
            "http://elsewhere/app/y",
            "http://elsewhere/app/y",
        ),
        ("/off/x", "http://u/app/y", "http://u/app/y"),
        ("/own/x", "http://inner/a", "https://front.example/own/a"),
        ("/own/x", "https://mail.internal/b/c", "/mail/b/c"),
        ("/own/x", "/relative", "/relative"),
    ] {
        let head = answered(
            &front,
            &server,
            target,
            "302 Found",
            &format!("Location: {said}\r\n"),
        );
        assert_eq!(
            head.fields("location").collect::<Vec<_>>(),
            [wanted],
            "{said}"
        );
    }
    let head = answered(
        &front,
        &server,
        "/default/x",
        "200 OK",
        "Refresh: 5; url=http://u/app/y\r\n",
    );
    assert_eq!(head.field("refresh"), Some("5; url=/default/y"));
}

#[test]
fn return_answers_with_text_redirects_and_nothing() {
    let front = front(
        "server { listen 127.0.0.1:0; default_type text/html; add_header X-Added yes;
             location /text { return 200 'hello $arg_a'; }
             location /plain { default_type text/plain; return 200 x; }
             location /code { return 403; }
             location /503 { return 503 busy; }
             location /204 { return 204; }
             location /301 { return 301 https://$host$request_uri; }
             location /path { return 302 /elsewhere; }
             location /url { return https://example.com/; }
             location /444 { return 444; }
         }",
    );
    let ask = |target: &str| get(&front, "front.example:8080", target, "");
    let answer = ask("/text?a=b");
    assert_eq!((answer.status(), &*answer.text()), (200, "hello b"));
    assert_eq!(answer.head.field("content-type"), Some("text/html"));
    assert_eq!(answer.head.field("x-added"), Some("yes"));
    assert_eq!(ask("/plain").head.field("content-type"), Some("text/plain"));
    let answer = ask("/code");
    assert_eq!(answer.status(), 403);
    assert!(
        answer
            .text()
            .contains("<center><h1>403 Forbidden</h1></center>")
    );
    assert_eq!(answer.head.field("x-added"), None);
    assert_eq!((ask("/503").status(), &*ask("/503").text()), (503, "busy"));
    assert_eq!((ask("/204").status(), &*ask("/204").text()), (204, ""));
    let answer = ask("/301?a=b");
    assert_eq!(answer.head.line(), "HTTP/1.1 301 Moved Permanently");
    assert_eq!(
        answer.head.field("location"),
        Some("https://front.example/301?a=b")
    );
    assert!(answer.text().contains("<h1>301 Moved Permanently</h1>"));
    assert_eq!(
        ask("/url").head.field("location"),
        Some("https://example.com/")
    );
    assert_eq!(ask("/url").status(), 302);
    let location = ask("/path")
        .head
        .field("location")
        .map(str::to_owned)
        .expect("a location");
    assert!(
        location.starts_with("http://front.example") && location.ends_with("/elsewhere"),
        "{location}"
    );
    let mut client = Peer::connect(front.addr(0));
    client.send("GET /444 HTTP/1.1\r\nHost: test\r\n\r\n");
    client.ends();
}

#[test]
fn the_most_fitting_server_and_location_answer() {
    // All servers listen on the same address, for which port 0 is no use.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let address = directory.path().join("socket");
    let listen = format!("listen unix:{}", address.display());
    let _front = front(
        &"map $http_user_agent $kind { default other; ~*outlook outlook; '' none; }
         map $host $tenant { hostnames; default -; *.example.org org; mail.example.org mail; }
         server { listen 127.0.0.1:0 default_server; location / { return 200 default; } }
         server { listen 127.0.0.1:0; server_name exact.example; return 200 exact; }
         server { listen 127.0.0.1:0; server_name *.example; return 200 wild; }
         server { listen 127.0.0.1:0; server_name www.*; return 200 tail; }
         server { listen 127.0.0.1:0; server_name ~^(?<tenant_name>[a-z]+)\\.regex\\.test$; return 200 'regex $tenant_name'; }
         server { listen 127.0.0.1:0; server_name l.test;
             set $x 1;
             location / { return 200 'prefix $kind'; }
             location = / { return 200 'exact'; }
             location /a/ { return 200 '/a/'; location /a/nested/ { return 200 'nested'; } location ~ \\.php$ { return 200 'nested regex'; } }
             location ^~ /static/ { return 200 'no regex'; }
             location ~ \\.(?<extension>gif|jpg)$ { return 200 'regex $extension $1'; }
             location ~* \\.PNG$ { return 200 'insensitive'; }
             location /set { set $x 2; return 200 '$x $tenant'; }
         }
         server { listen 127.0.0.1:0; server_name mail.example.org; return 200 $tenant; }
         server { listen 127.0.0.1:0; server_name .example.org; return 200 $tenant; }"
            .replace("listen 127.0.0.1:0", &listen),
    );
    for (host, target, wanted) in [
        ("unknown", "/", "default"),
        ("exact.example", "/", "exact"),
        ("EXACT.example:80", "/", "exact"),
        ("exact.example.", "/", "exact"),
        ("other.example", "/", "wild"),
        ("www.anything", "/", "tail"),
        ("alpha.regex.test", "/", "regex alpha"),
        ("l.test", "/", "exact"),
        ("l.test", "/x", "prefix outlook"),
        ("l.test", "/a/x", "/a/"),
        ("l.test", "/a/nested/x", "nested"),
        ("l.test", "/a/x.php", "nested regex"),
        ("l.test", "/static/x.gif", "no regex"),
        ("l.test", "/x.gif", "regex gif gif"),
        ("l.test", "/a/x.jpg", "regex jpg jpg"),
        ("l.test", "/x.png", "insensitive"),
        ("l.test", "/%61/x", "/a/"),
        ("l.test", "/y/../a//nested/x", "nested"),
        ("l.test", "/set", "2 -"),
        ("mail.example.org", "/", "mail"),
        ("web.example.org", "/", "org"),
    ] {
        let mut client = Peer::connect_unix(&address);
        client.send(format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Microsoft Outlook\r\n\r\n"
        ));
        assert_eq!(client.answer().text(), wanted, "{host} {target}");
    }
}

#[test]
fn addresses_are_let_in_or_kept_out_by_who_they_really_are() {
    let front = front(
        "set_real_ip_from 127.0.0.0/8; real_ip_header X-Forwarded-For;
         server { listen 127.0.0.1:0;
             location /open { allow all; return 200 '$remote_addr $realip_remote_addr'; }
             location /inside { allow 10.0.0.0/8; deny all; stub_status; }
             location /outside { deny 10.0.0.0/8; allow all; stub_status; }
             location /added { return 200 $proxy_add_x_forwarded_for; }
             location /untrusted { set_real_ip_from 192.0.2.1; return 200 $remote_addr; }
         }",
    );
    let ask = |target: &str, from: &str| {
        get(
            &front,
            "test",
            target,
            &format!("X-Forwarded-For: {from}\r\n"),
        )
    };
    assert_eq!(ask("/open", "10.1.2.3").text(), "10.1.2.3 127.0.0.1");
    assert_eq!(
        ask("/open", "1.1.1.1, 2001:db8::1").text(),
        "2001:db8::1 127.0.0.1"
    );
    assert_eq!(ask("/open", "rubbish").text(), "127.0.0.1 127.0.0.1");
    // A proxy that adds a line of its own adds it behind what the client said.
    let lines = "1.1.1.1\r\nX-Forwarded-For: 2.2.2.2, 10.1.2.3";
    assert_eq!(ask("/open", lines).text(), "10.1.2.3 127.0.0.1");
    assert_eq!(
        ask("/added", lines).text(),
        "1.1.1.1, 2.2.2.2, 10.1.2.3, 10.1.2.3"
    );
    assert_eq!(ask("/untrusted", "10.1.2.3").text(), "127.0.0.1");
    for (target, from, status) in [
        ("/inside", "10.1.2.3", 200),
        ("/inside", "11.1.2.3", 403),
        ("/outside", "10.1.2.3", 403),
        ("/outside", "11.1.2.3", 200),
    ] {
        assert_eq!(ask(target, from).status(), status, "{target} {from}");
    }
    front.error_log_with("access forbidden by rule, client: ", 2);
}

#[test]
fn stub_status_counts_as_nginx_does() {
    let front = front(
        "server { listen 127.0.0.1:0; location = /status { stub_status; } location / { return 204; } }",
    );
    let mut idle = Peer::connect(front.addr(0));
    idle.get("/");
    let mut client = Peer::connect(front.addr(0));
    client.get("/");
    let answer = client.get("/status");
    assert_eq!(answer.head.field("content-type"), Some("text/plain"));
    assert_eq!(
        answer.text(),
        "Active connections: 2 \nserver accepts handled requests\n 2 2 3 \nReading: 0 Writing: 1 Waiting: 1 \n"
    );
}

#[test]
fn log_lines_say_what_happened() {
    let server = Server::bind();
    let addr = server.addr();
    let front = front(&format!(
        "log_format all '$remote_addr|$remote_user|$request|$request_method|$request_uri|$uri|$args|$is_args|$arg_b'
                        '|$status|$body_bytes_sent|$http_user_agent|$http_x_none|$host|$server_name|$server_protocol'
                        '|$scheme|$connection_requests|$upstream_addr|$upstream_status|$upstream_http_x_server'
                        '|$sent_http_content_type|$cookie_c|$content_length|$proxy_host|$proxy_port|$server_port'
                        '|$pin_id|$auth_scheme|$http_authorization';
         log_format numbers '$request_length $bytes_sent $upstream_bytes_sent $upstream_bytes_received $upstream_response_length';
         log_format json escape=json '{{\"agent\":\"$http_user_agent\",\"none\":\"$http_x_none\"}}';
         access_log logs/access.log all; access_log logs/json.log json; access_log logs/numbers.log numbers;
         access_log logs/if.log all if=$arg_log;
         upstream u {{ server {addr}; }}
         server {{ listen 127.0.0.1:0; server_name log.test; location / {{ proxy_pass http://u; }} }}",
    ));
    let request = "POST //%65cho/../a/b?a=1&b=2 HTTP/1.1\r\nHost: Log.Test:99\r\nUser-Agent: \"a\\b\t\u{e9}\"\r\n\
                   Cookie: c=d\r\nContent-Length: 3\r\nAuthorization: NTLM secret\r\n\r\nabc";
    let mut client = Peer::connect(front.addr(0));
    client.send(request);
    let mut upstream = server.accept();
    let received = upstream.until(b"\r\n\r\nabc").len() + 7;
    let response = "HTTP/1.1 201 Created\r\nContent-Type: a/b\r\nX-Server: s\r\nContent-Length: 5\r\n\r\nhello";
    upstream.send(response);
    let answer = client.answer();
    let sent = answer.head.text.len() + 4 + 5;
    let line = |file: &str| {
        let path = front.path().join("logs").join(file);
        eventually("the access log", || {
            std::fs::read_to_string(&path)
                .ok()
                .filter(|log| log.ends_with('\n'))
        })
    };
    let port = front.addr(0).port();
    assert_eq!(
        line("access.log"),
        format!(
            "127.0.0.1|-|POST //%65cho/../a/b?a=1&b=2 HTTP/1.1|POST|//%65cho/../a/b?a=1&b=2|/a/b|a=1&b=2|?|2\
             |201|5|\\x22a\\x5Cb\\x09\\xC3\\xA9\\x22|-|log.test|log.test|HTTP/1.1\
             |http|1|{addr}|201|s|a/b|d|3|u|80|{port}|-|ntlm|NTLM\n"
        )
    );
    assert_eq!(
        line("json.log"),
        "{\"agent\":\"\\\"a\\\\b\\t\u{e9}\\\"\",\"none\":\"\"}\n"
    );
    let numbers = format!("{} {sent} {received} {} 5\n", request.len(), response.len());
    assert_eq!(line("numbers.log"), numbers);
    let conditional = front.path().join("logs/if.log");
    assert_eq!(
        std::fs::read_to_string(conditional).expect("the file is there"),
        ""
    );
}

#[test]
fn the_size_of_a_large_answer_is_logged() {
    let [origin] = origins();
    let front = front(&format!(
        "log_format sizes '$body_bytes_sent $upstream_response_length $upstream_bytes_received $bytes_sent';
         access_log logs/access.log sizes; upstream u {{ server {}; }}
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://u; }} }}",
        origin.addr()
    ));
    let answer = get(&front, "test", "/bytes/1000000", "");
    let log = eventually("the access log", || {
        Some(front.access_log()).filter(|log| log.ends_with('\n'))
    });
    let numbers: Vec<usize> = log
        .split_whitespace()
        .map(|word| word.parse().expect("a number"))
        .collect();
    assert_eq!(numbers[..2], [1_000_000; 2]);
    assert!((1_000_050..1_000_500).contains(&numbers[2]), "{log}");
    assert_eq!(numbers[3], 1_000_000 + answer.head.text.len() + 4);
}

#[test]
fn pooled_connections_end_after_their_requests_and_their_time() {
    let [origin] = origins();
    let front = front(&format!(
        "upstream counted {{ server {0}; keepalive_requests 2; }} upstream timed {{ server {0}; keepalive_timeout 200ms; }}
         upstream none {{ server {0}; keepalive 0; }}
         server {{ listen 127.0.0.1:0; location /counted/ {{ proxy_pass http://counted/; }}
             location /timed/ {{ proxy_pass http://timed/; }} location /none/ {{ proxy_pass http://none/; }} }}",
        origin.addr()
    ));
    let ask = |target: &str, n: u64| {
        let before = origin.accepted();
        (0..n).for_each(|_| assert_eq!(get(&front, "test", target, "").status(), 200));
        origin.accepted() - before
    };
    assert_eq!(ask("/counted/", 6), 3);
    assert_eq!(ask("/none/", 3), 3);
    assert_eq!(ask("/timed/", 1), 1);
    eventually("all idle connections are closed", || {
        (origin.connections() == 0).then_some(())
    });
}
