//! What credentials contain is shown nowhere; and HTTP/2, where logins do not exist, is offered nowhere.
#![allow(clippy::unwrap_used)] // what fails in a helper fails its test

use std::collections::BTreeSet;
use std::fs;

use ntlm_origin::client::{Connection, Handshake, Response, Scheme, ticket};
use ntlm_origin::{Kerberos, User};

use crate::front::{Front, command, eventually};
use crate::peer::{Peer, Server};
use crate::site::{Site, alice, identity, origins};

/// Every variable there is, and the fields that carry logins by each of their names.
const VARIABLES: &str = "$host $proxy_host $proxy_port $proxy_add_x_forwarded_for $remote_addr $remote_port \
    $remote_user $realip_remote_addr $realip_remote_port $scheme $https $server_name $server_addr $server_port \
    $server_protocol $request $request_method $request_uri $uri $args $is_args $request_id $request_length \
    $request_time $request_completion $status $bytes_sent $body_bytes_sent $connection $connection_requests \
    $connection_time $content_length $content_type $msec $time_local $time_iso8601 $pid $pipe $hostname \
    $nginx_version $upstream_addr $upstream_status $upstream_response_time $upstream_connect_time \
    $upstream_header_time $upstream_bytes_sent $upstream_bytes_received $upstream_response_length $pin_id \
    $pin_state $pin_age $pin_requests $auth_scheme $document_uri $query_string \
    $http_authorization $HTTP_AUTHORIZATION $http_proxy_authorization $http_authentication \
    $upstream_http_www_authenticate $upstream_http_proxy_authenticate $upstream_http_authentication_info \
    $upstream_http_proxy_authentication_info $sent_http_www_authenticate $sent_http_proxy_authenticate \
    $sent_http_authentication_info $upstream_cookie_x $cookie_x $copied $mapped $named";

/// Everything that was sent as a token, either way.
#[derive(Default)]
struct Tokens(BTreeSet<String>);

impl Tokens {
    fn note(&mut self, value: &str) {
        let token = value.split_once(' ').map_or(value, |(_, token)| token);
        // What is shorter could be found in a log by chance.
        if token.len() >= 12 {
            self.0.insert(token.to_owned());
        }
    }

    fn note_answer(&mut self, answer: &Response) {
        answer
            .headers
            .all("www-authenticate")
            .for_each(|value| self.note(value));
    }

    async fn login(&mut self, client: &mut Connection, scheme: Scheme, user: &User) -> Response {
        let (mut handshake, mut authorization) = Handshake::begin(scheme, user);
        loop {
            self.note(&authorization);
            let headers = [("Authorization", &*authorization)];
            let answer = client
                .request("GET", "/private/whoami", &headers, b"")
                .await
                .unwrap();
            self.note_answer(&answer);
            match handshake.next(&answer) {
                Some(next) => authorization = next,
                None => return answer,
            }
        }
    }
}

#[tokio::test]
async fn what_credentials_contain_is_shown_nowhere() {
    let servers = origins(2, Kerberos::Declined);
    let http = format!(
        "log_format plain '{VARIABLES}';
         log_format json escape=json '{{\"all\": \"{VARIABLES}\"}}';
         map $http_authorization $mapped {{ default $http_authorization; }}
         map $http_authorization $named {{ ~(?<whole>.*) $whole; }}
         access_log logs/access.log plain;
         access_log logs/json.log json;
         upstream mail {{ server {}; server {}; ntlm 1; }}
         server {{
             listen 127.0.0.1:0;
             set $copied \"$http_authorization $http_proxy_authorization\";
             error_log logs/debug.log debug;
             ntlm_log_user on;
             add_header X-Shown \"$http_authorization $copied $mapped $upstream_http_www_authenticate\" always;
             location / {{
                 proxy_pass http://mail;
                 proxy_set_header X-Passed \"$http_authorization $copied $mapped\";
             }}
             location = /status {{ stub_status; }}
             location = /none {{ proxy_pass http://127.0.0.1:1; }}
             location = /shown {{ return 200 \"$http_authorization $copied $mapped $named\"; }}
         }}",
        servers[0].addr(),
        servers[1].addr(),
    );
    let main = "worker_processes 1; error_log logs/all.log debug;";
    let site = Site::configured(servers, main, &http);
    let wrong = User::new("EXAMPLE", "alice", "w0nderland-mistaken");
    let (right, mut tokens) = (alice(), Tokens::default());
    let mut shown = String::new();
    // All of them stay, so that the full table is reported.
    let mut clients = Vec::new();
    for scheme in [
        Scheme::Ntlm,
        Scheme::NegotiateBare,
        Scheme::Negotiate,
        Scheme::NegotiateAfterKerberos,
    ] {
        for user in [&right, &wrong] {
            let mut client = site.client().await;
            let answer = tokens.login(&mut client, scheme, user).await;
            assert_eq!(identity(&answer).is_some(), user == &right, "{scheme:?}");
            let answer = client.get("/status").await.unwrap();
            shown += &answer.text();
            clients.push(client);
        }
    }
    let ticket = ticket(&right, 500);
    let (_, bare) = Handshake::begin(Scheme::Ntlm, &right);
    for value in [&ticket, &bare] {
        tokens.note(value);
        // Answers of the front's own, and failures: no server, a dead one, one that answers what is no answer.
        for path in [
            "/none", "/shown", "/status", "/drop", "/cut/100", "/missing",
        ] {
            for name in ["Authorization", "authorization", "Proxy-Authorization"] {
                let mut client = site.client().await;
                let answer = client.request("GET", path, &[(name, value)], b"").await;
                if let Ok(answer) = answer {
                    tokens.note_answer(&answer);
                    shown += &answer.text();
                    shown += answer.headers.first("x-shown").unwrap_or_default();
                }
            }
        }
        // What is refused for what its credentials are like, or in spite of them.
        for text in [
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {value}\r\nAuthorization: {value}\r\n\r\n"
            ),
            format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {value}\x01\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {value}\n\r\n"),
            format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization : {value}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\n {value}\r\n\r\n"),
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {value}\r\nContent-Length: x\r\n\r\n"
            ),
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {value}{}\r\n\r\n",
                "x".repeat(100_000)
            ),
            format!("GET / HTTP/1.1\r\nAuthorization: {value}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n"),
            format!("CONNECT a:1 HTTP/1.1\r\nHost: a\r\nAuthorization: {value}\r\n\r\n"),
        ] {
            let mut client = site.client().await;
            // It may be answered before all of it was taken.
            let _ = client.send(text.as_bytes()).await;
            let answer = client
                .response("GET")
                .await
                .unwrap_or_else(|error| panic!("{error}: {text}"));
            assert!(
                (400..500).contains(&answer.status),
                "{}: {text}",
                answer.status
            );
            shown += &answer.text();
        }
    }
    eventually("the full table is reported", || {
        all_logs(&site.front).contains("raise it").then_some(())
    });
    // Nothing is looked for in vain: the lines are there, with the schemes alone.
    let logs = eventually("the last lines", || {
        let logs = all_logs(&site.front);
        (logs.matches("CONNECT a:1").count() >= 4).then_some(logs)
    });
    assert!(logs.contains(" NTLM "), "{logs}");
    assert!(logs.contains(" Negotiate "), "{logs}");
    assert!(shown.contains("Active connections"));
    assert!(shown.contains("NTLM"));
    assert!(tokens.0.len() > 20, "{}", tokens.0.len());
    for (place, text) in [("a log", &logs), ("an answer", &shown)] {
        for token in &tokens.0 {
            assert!(
                !text.contains(&token[..12]),
                "{place} shows {token}:\n{text}"
            );
        }
        for secret in [
            &right.password,
            &wrong.password,
            "TlRMTVNT",
            "NTLMSSP",
            // "wonderland" in base64.
            "d29uZGVybGFu",
        ] {
            assert!(!text.contains(secret), "{place} shows {secret}:\n{text}");
        }
    }
}

/// What stands where a request line is expected need not be one.
#[test]
fn a_token_where_a_request_line_belongs_is_shown_in_no_log() {
    const TOKEN: &str = "TOKENTOKENTOKEN";
    let server = Server::bind();
    let front = Front::start_main(
        "worker_processes 1; error_log logs/all.log debug;",
        &format!(
            "log_format words '[$request] [$request_uri] [$request_method] [$uri] [$args] [$status]';
             access_log logs/access.log words;
             client_header_timeout 200ms;
             server {{ listen 127.0.0.1:0; location / {{ return 204; }}
                       location /pass {{ proxy_pass http://{}; }} }}",
            server.addr()
        ),
    );
    let field = format!("Authorization: NTLM {TOKEN}");
    let long = format!("{field}{}", "x".repeat(100_000));
    let host = "Host: a\r\n";
    for (text, statuses) in [
        // An empty line too many.
        (
            format!("GET /1 HTTP/1.1\r\n{host}\r\n{field}\r\n\r\n"),
            &[204, 400][..],
        ),
        (format!("GET /1 HTTP/1.1\r\n\r\n{field}\r\n\r\n"), &[400]),
        // A body longer than its length says.
        (
            format!("POST /1 HTTP/1.1\r\n{host}Content-Length: 2\r\n\r\n\r\n{field}\r\n\r\n"),
            &[204, 400],
        ),
        (format!("{field}\r\n{host}\r\n"), &[400]),
        (format!("\r\n{field}\r\n{host}\r\n"), &[400]),
        (format!("NTLM {TOKEN}\r\n{host}\r\n"), &[400]),
        (format!("Negotiate {TOKEN} HTTP/1.1\r\n{host}\r\n"), &[400]),
        (format!("GET / NTLM {TOKEN} HTTP/1.1\r\n\r\n"), &[400]),
        (format!("GET / NTLM {TOKEN} HTTP/1.1\r\n{host}\r\n"), &[400]),
        (format!("GET / {field} HTTP/1.1\r\n{host}\r\n"), &[400]),
        (format!("GET / HTTP/1.1 {field}\r\n{host}\r\n"), &[400]),
        (format!("GET /\t{field}\r\n{host}\r\n"), &[400]),
        // Lines that end, if they do, by half of what ends a line.
        (format!("GET / HTTP/1.1\nHost: a\n{field}\n\n"), &[400]),
        (
            format!("GET / HTTP/1.1\rHost: a\r{field}\r\r\n\r\n"),
            &[400],
        ),
        (format!("GET / HTTP/1.1\x0b{field}\r\n{host}\r\n"), &[400]),
        // Too long, and never ended.
        (format!("{long}\r\n\r\n"), &[414, 400]),
        (format!("GET / {long}\r\n\r\n"), &[414, 400]),
        (field.clone(), &[408, 400]),
        (format!("GET / NTLM {TOKEN}"), &[408, 400]),
    ] {
        let shown = &text[..text.len().min(200)];
        let before = front.access_log().lines().count();
        let mut client = Peer::connect(front.addr(0));
        // It may be answered before all of it was taken.
        let _ = client.try_send(&text);
        // Two in turn, or either of two.
        let in_turn = statuses.len() == 2 && statuses[0] == 204;
        if in_turn {
            assert_eq!(client.answer().status(), 204, "{shown}");
        }
        let answer = client.answer();
        assert!(statuses.contains(&answer.status()), "{shown}: {answer:?}");
        assert!(!answer.text().contains(TOKEN), "{shown}: {answer:?}");
        drop(client);
        let log = eventually("the line of the access log", || {
            let log = front.access_log();
            (log.lines().count() > before + usize::from(in_turn)).then_some(log)
        });
        let line = log.lines().last().unwrap_or_default();
        assert!(line.ends_with(&format!("[{}]", answer.status())), "{line}");
    }
    let logs = all_logs(&front);
    let showing: Vec<&str> = logs.lines().filter(|line| line.contains(TOKEN)).collect();
    assert!(showing.is_empty(), "{showing:#?}");
    server.was_left_alone();
    // Lines that are request lines are shown.
    let answer = Peer::connect(front.addr(0)).get("/2?it");
    assert_eq!(answer.status(), 204);
    eventually("the line", || {
        let log = front.access_log();
        log.contains("[GET /2?it HTTP/1.1] [/2?it] [GET] [/2] [it] [204]")
            .then_some(())
    });
}

/// Every file below the front's `logs`.
fn all_logs(front: &Front) -> String {
    let files = fs::read_dir(front.path().join("logs")).unwrap();
    files
        .map(|file| String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap()).into_owned())
        .collect()
}

#[tokio::test]
async fn http_2_is_refused_on_the_wire() {
    let site = Site::start("ntlm;");
    let mut client = site.client().await;
    client
        .send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let answer = client.response("GET").await.unwrap();
    assert_eq!(answer.status, 505);
    assert!(client.closed().await.unwrap());
    // Nor by an upgrade: the request is answered as if it had not asked.
    let mut client = site.client().await;
    let headers = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"),
    ];
    let answer = client.request("GET", "/echo", &headers, b"").await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(!answer.text().to_lowercase().contains("h2c"));
    assert_eq!(site.upstream_accepted(), 1);
}

#[test]
fn http_2_is_refused_in_the_configuration() {
    for directives in [
        "listen 127.0.0.1:0; http2 on;",
        "listen 127.0.0.1:0 http2;",
        "listen 127.0.0.1:0 ssl http2;",
        "listen 127.0.0.1:0; location / { proxy_http_version 2; proxy_pass http://127.0.0.1:1; }",
    ] {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("logs")).unwrap();
        let text = format!("events {{}}\nhttp {{ server {{\n{directives}\n}} }}\n");
        fs::write(directory.path().join("front.conf"), text).unwrap();
        let status = command(directory.path()).arg("-t").status().unwrap();
        let said = fs::read_to_string(directory.path().join("logs/stderr")).unwrap();
        assert_eq!(status.code(), Some(1), "{directives}: {said}");
        assert!(said.contains("[emerg]"), "{directives}: {said}");
        if !directives.contains("ssl") && directives.contains("http2") {
            assert!(
                said.contains("does not exist in HTTP/2"),
                "{directives}: {said}"
            );
        }
    }
}
