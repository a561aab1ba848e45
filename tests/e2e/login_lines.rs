//! `error_log … info`: one line for each login that ended, whichever way.
#![allow(clippy::unwrap_used)] // what fails in a helper fails its test

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ntlm_origin::client::{Handshake, Scheme, ticket};
use ntlm_origin::ntlm::{type1, type3};
use ntlm_origin::{Kerberos, User};
use regex::Regex;

use crate::front::eventually;
use crate::peer::{Peer, Server};
use crate::site::{Site, alice, identity, login_target, origins};

fn site(kerberos: Kerberos, location: &str) -> Site {
    let servers = origins(1, kerberos);
    let http = format!(
        "upstream mail {{ server {}; ntlm; }}
         server {{ listen 127.0.0.1:0; server_name mail.test; location / {{ {location} proxy_pass http://mail; }} }}",
        servers[0].addr()
    );
    Site::configured(servers, "worker_processes 1;", &http)
}

/// The lines about logins, from the word on, once there are so many.
#[track_caller]
fn lines(site: &Site, number: usize) -> Vec<String> {
    lines_of(number, || site.front.error_log())
}

#[track_caller]
fn lines_of(number: usize, log: impl Fn() -> String) -> Vec<String> {
    let found = eventually("the lines about logins", || {
        let log = log();
        let lines = log
            .lines()
            .filter_map(|line| line.find("login ").map(|at| &line[at..]));
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        (lines.len() >= number).then_some(lines)
    });
    assert_eq!(found.len(), number, "{found:#?}");
    found
}

#[track_caller]
fn assert_is(line: &str, pattern: &str) {
    let pattern = Regex::new(&format!("^{pattern}$")).unwrap();
    assert!(pattern.is_match(line), "{line}\nis not\n{pattern}");
}

/// What stands behind the figures.
const CONTEXT: &str = r#", client: 127\.0\.0\.1, server: mail\.test, request: "GET /whoami\?from=\w+&login HTTP/1\.1", upstream: "http://127\.0\.0\.1:\d+/whoami\?from=\w+&login", host: "[^"]+""#;

#[tokio::test]
async fn each_login_has_one_line_that_says_how_it_ended() {
    for (location, shown) in [
        ("", ""),
        ("ntlm_log_user off;", ""),
        ("ntlm_log_user on;", "domain \"EXAMPLE\", user \"alice\", "),
    ] {
        let site = site(Kerberos::Declined, location);
        let wrong = User::new("EXAMPLE", "alice", "mistyped");
        let mut number = 0;
        for (scheme, word, legs) in [
            (Scheme::Ntlm, "ntlm", 2),
            (Scheme::NegotiateBare, "negotiate", 2),
            (Scheme::Negotiate, "negotiate", 2),
            (Scheme::NegotiateAfterKerberos, "negotiate", 3),
        ] {
            for (user, end, status) in [(alice(), "succeeded", 200), (wrong.clone(), "failed", 401)]
            {
                let mut client = site.client().await;
                let answer = client
                    .login(scheme, &login_target("a"), &user)
                    .await
                    .unwrap();
                assert_eq!(answer.status, status);
                // What follows on the pin is no login.
                client.get("/whoami").await.unwrap();
                number += 1;
                let line = lines(&site, number).pop().unwrap();
                let said = format!(
                    r"login {end}: scheme {word}, ntlm messages 1 3, {shown}legs {legs}, time 0\.\d\d\d, status {status}{CONTEXT}"
                );
                assert_is(&line, &said);
            }
        }
    }
}

#[tokio::test]
async fn kerberos_has_no_message_and_shows_no_name() {
    let ticket = ticket(&alice(), 100);
    for (kerberos, requests) in [(Kerberos::BindsConnection, 1), (Kerberos::PerRequest, 3)] {
        let site = site(kerberos, "ntlm_log_user on;");
        let mut client = site.client().await;
        // Where each request carries its ticket, only the first is a login.
        for _ in 0..requests {
            let fields = [("Authorization", &*ticket)];
            let target = login_target("a");
            let answer = client.request("GET", &target, &fields, b"").await.unwrap();
            assert_eq!(identity(&answer), Some("EXAMPLE\\alice"));
        }
        drop(client);
        eventually("the pin ends", || {
            site.front
                .error_log()
                .contains("client_closed")
                .then_some(())
        });
        let line = lines(&site, 1).pop().unwrap();
        let said = r"login succeeded: scheme negotiate, ntlm messages -, domain -, user -, legs 1, time 0\.\d\d\d, status 200";
        assert_is(&line, &format!("{said}{CONTEXT}"));
    }
}

#[tokio::test]
async fn a_login_without_a_verdict_says_why() {
    let site = site(Kerberos::Declined, "");
    let alice = alice();
    let behind = r", client: 127\.0\.0\.1, server: mail\.test, upstream: 127\.0\.0\.1:\d+";
    let behind = behind.replace("upstream: ", "upstream: \"") + "\"";
    let aborted = |legs: u32, why: &str| {
        format!(
            r"login aborted: scheme ntlm, ntlm messages 1, legs {legs}, time \d+\.\d\d\d, {why}{behind}"
        )
    };
    let (_, first) = Handshake::begin(Scheme::Ntlm, &alice);
    let fields = [("Authorization", &*first)];
    // The client begins anew, and leaves between the legs.
    let mut client = site.client().await;
    for _ in 0..2 {
        let target = login_target("a");
        let answer = client.request("GET", &target, &fields, b"").await.unwrap();
        assert_eq!(answer.status, 401);
    }
    assert_is(&lines(&site, 1)[0], &aborted(1, "new_credentials"));
    drop(client);
    assert_is(&lines(&site, 2)[1], &aborted(1, "client_closed"));
    // The server leaves.
    let mut client = site.client().await;
    let target = login_target("a");
    client.request("GET", &target, &fields, b"").await.unwrap();
    site.origins[0].close_idle();
    assert!(client.closed().await.unwrap());
    assert_is(&lines(&site, 3)[2], &aborted(1, "upstream_closed"));
}

#[test]
fn what_is_no_answer_to_a_login_is_no_verdict() {
    let server = Server::bind();
    let front = crate::front::Front::start(&format!(
        "upstream mail {{ server {}; ntlm; }}
         server {{ listen 127.0.0.1:0; location / {{ ntlm_log_user on; proxy_pass http://mail; }} }}",
        server.addr()
    ));
    let first = BASE64_STANDARD.encode(type1());
    for (nth, (answer, end)) in [
        ("200 OK", "aborted"),
        ("401 Unauthorized", "failed"),
        // A token that ends the negotiation: NegTokenResp with negState reject.
        (
            "401 Unauthorized\r\nWWW-Authenticate: Negotiate oQcwBaADCgEC",
            "failed",
        ),
        ("400 Bad Request", "aborted"),
        ("503 Service Unavailable", "aborted"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Peer::connect(front.addr(0));
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM {first}\r\n\r\n"
        ));
        let mut upstream = server.accept();
        upstream.head();
        upstream.send(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n"));
        client.answer();
        drop(client);
        let line = lines_of(nth + 1, || front.error_log()).pop().unwrap();
        let begin =
            format!("login {end}: scheme ntlm, ntlm messages 1, domain -, user -, legs 1, ");
        assert!(line.starts_with(&begin), "{line}");
        let status = format!(", status {}, ", &answer[..3]);
        assert!(line.contains(&status), "{line}");
    }
    let mut client = Peer::connect(front.addr(0));
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM {first}\r\n\r\n"
    ));
    server.accept().head();
    assert_eq!(client.answer().status(), 502);
    let line = lines_of(6, || front.error_log()).pop().unwrap();
    assert!(
        line.starts_with("login aborted: ") && line.contains(", upstream_closed, "),
        "{line}"
    );
}

#[tokio::test]
async fn names_cannot_break_a_line_and_responses_are_no_names() {
    let site = site(Kerberos::Declined, "ntlm_log_user on;");
    let mut number = 0;
    for (domain, user, shown) in [
        (
            "A\"B",
            "x\r\n2026/01/01 [emerg] y\u{1b}[1m\u{202e}",
            r#"domain "A\x22B", user "x\x0D\x0A2026/01/01 [emerg] y\x1B[1m\xE2\x80\xAE", "#,
        ),
        ("", "alice@example", r#"domain "", user "alice@example", "#),
        ("", "", r#"domain "", user "", "#),
    ] {
        let mut client = site.client().await;
        let user = User::new(domain, user, "secret");
        let target = login_target("a");
        assert_eq!(client.login_ntlm(&target, &user).await.unwrap().status, 401);
        number += 1;
        let line = lines(&site, number).pop().unwrap();
        assert!(line.contains(shown), "{line}\nlacks\n{shown}");
    }
    // The user's name lies over the proof of the password.
    let mut client = site.client().await;
    let fields = |token: &[u8]| format!("NTLM {}", BASE64_STANDARD.encode(token));
    let first = fields(&type1());
    let answer = client
        .request("GET", &login_target("a"), &[("Authorization", &first)], b"")
        .await
        .unwrap();
    let challenge = answer.headers.first("www-authenticate").unwrap();
    let challenge = BASE64_STANDARD
        .decode(challenge.split_once(' ').unwrap().1)
        .unwrap();
    let mut last = type3(&challenge, "alice", "EXAMPLE", "secret")
        .unwrap()
        .message;
    let (nt_response, user) = (20, 36);
    last.copy_within(nt_response..nt_response + 8, user);
    let last = fields(&last);
    client
        .request("GET", &login_target("a"), &[("Authorization", &last)], b"")
        .await
        .unwrap();
    let line = lines(&site, number + 1).pop().unwrap();
    assert!(
        line.contains("ntlm messages 1 3, domain -, user -, legs 2"),
        "{line}"
    );
}

#[tokio::test]
async fn other_levels_have_no_such_line() {
    let servers = origins(1, Kerberos::Declined);
    let http = format!(
        "upstream mail {{ server {}; ntlm; }} error_log logs/own.log notice;
         server {{ listen 127.0.0.1:0; location / {{ ntlm_log_user on; proxy_pass http://mail; }}
                   location /info {{ error_log logs/info.log info; ntlm_log_user on; proxy_pass http://mail/; }} }}",
        servers[0].addr()
    );
    let site = Site::configured(servers, "worker_processes 1;", &http);
    let read = |name: &str| {
        let path = site.front.path().join("logs").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    for target in ["/whoami", "/info/whoami"] {
        let mut client = site.client().await;
        assert_eq!(
            client.login_ntlm(target, &alice()).await.unwrap().status,
            200
        );
    }
    let line = lines_of(1, || read("info.log")).pop().unwrap();
    assert!(line.contains("GET /info/whoami"), "{line}");
    assert!(!read("own.log").contains("login "));
    assert!(!site.front.error_log().contains("login "));
}
