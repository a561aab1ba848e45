//! `ntlm_fail_delay`: addresses whose logins keep failing are slowed, and nobody else.
#![allow(clippy::unwrap_used)] // what fails in a helper fails its test

use std::time::{Duration, Instant};

use ntlm_origin::client::{Connection, Handshake, Response, Scheme};
use ntlm_origin::{Kerberos, User};

use crate::front::{Front, eventually};
use crate::peer::{Peer, Server};
use crate::site::{Site, alice, identity, login_target, origins};

const DELAYING: &str = "delaying login by ";
const REFUSING: &str = "refusing login, logins of this address keep failing";

/// A front of two workers whose clients say which address is theirs.
fn site(fail_delay: &str) -> Site {
    let origins = origins(1, Kerberos::Declined);
    let http = http(&origins[0].addr().to_string(), fail_delay);
    Site::configured(origins, "worker_processes 2;", &http)
}

fn http(server: &str, fail_delay: &str) -> String {
    format!(
        "upstream mail {{ server {server}; ntlm; keepalive 0; }}
         set_real_ip_from 127.0.0.1;
         server {{ listen 127.0.0.1:0; location / {{ {fail_delay} proxy_pass http://mail; }} }}"
    )
}

/// One leg of a login of a client at `address`.
async fn leg(client: &mut Connection, address: &str, authorization: &str) -> Response {
    let headers = [("X-Real-IP", address), ("Authorization", authorization)];
    let target = login_target("somebody");
    client.request("GET", &target, &headers, b"").await.unwrap()
}

/// A login on the connection, to its last answer.
async fn log_in_on(
    client: &mut Connection,
    address: &str,
    scheme: Scheme,
    user: &User,
) -> Response {
    let (mut handshake, authorization) = Handshake::begin(scheme, user);
    let mut answer = leg(client, address, &authorization).await;
    while let Some(authorization) = handshake.next(&answer) {
        answer = leg(client, address, &authorization).await;
    }
    answer
}

/// A login on a connection of its own: its last status, and how long it took.
async fn login(site: &Site, address: &str, user: &User) -> (u16, Duration) {
    let mut client = site.client().await;
    let began = Instant::now();
    let answer = log_in_on(&mut client, address, Scheme::Ntlm, user).await;
    (answer.status, began.elapsed())
}

fn mistyped() -> User {
    User::new("EXAMPLE", "alice", "wrong")
}

#[tokio::test]
async fn logins_of_an_address_that_keep_failing_wait() {
    let site = site("ntlm_fail_delay 300ms after=2 max=1s;");
    let (alice, mistyped) = (alice(), mistyped());
    let address = "192.0.2.1";
    // The first two cost nothing, and the next has its turn at once.
    for _ in 0..3 {
        assert_eq!(login(&site, address, &mistyped).await.0, 401);
    }
    assert!(!site.front.error_log().contains(DELAYING));
    // Three failures: 600 ms apart. One with the right password waits as well.
    let (status, took) = login(&site, address, &alice).await;
    assert_eq!(status, 200);
    assert!(took >= Duration::from_millis(250), "{took:?}");
    let log = site.front.error_log_with(DELAYING, 1);
    let line = log.lines().find(|line| line.contains(DELAYING)).unwrap();
    assert!(
        line.contains("[warn]") && line.contains("client: 192.0.2.1"),
        "{line}"
    );
    // Others do not: another address, and one that is like it.
    for other in ["192.0.2.2", "2001:db8::1"] {
        let delayed = log.matches(DELAYING).count();
        assert_eq!(login(&site, other, &alice).await.0, 200);
        assert_eq!(site.front.error_log().matches(DELAYING).count(), delayed);
    }
    site.assert_nothing_was_shared();
}

#[tokio::test]
async fn too_many_at_once_are_refused_and_never_reach_the_server() {
    let site = site("ntlm_fail_delay 400ms after=1 max=500ms;");
    let mistyped = mistyped();
    assert_eq!(login(&site, "192.0.2.1", &mistyped).await.0, 401);
    let before = site.arrivals("/whoami")[0];
    let logins = (0..20).map(|_| login(&site, "192.0.2.1", &mistyped));
    let statuses: Vec<u16> = join_all(logins)
        .await
        .iter()
        .map(|(status, _)| *status)
        .collect();
    let refused = statuses.iter().filter(|status| **status == 429).count();
    // One at once, one after 400 ms, perhaps one more when the first had failed.
    assert!((17..=18).contains(&refused), "{statuses:?}");
    assert_eq!(site.arrivals("/whoami")[0] - before, 2 * (20 - refused));
    let log = site.front.error_log_with(REFUSING, refused);
    assert_eq!(log.matches(REFUSING).count(), refused);
    assert!(
        log.lines()
            .any(|line| line.contains(REFUSING) && line.contains("[error]"))
    );
}

#[tokio::test]
async fn a_network_of_ipv6_is_one_address() {
    let site = site("ntlm_fail_delay 300ms after=1;");
    let mistyped = mistyped();
    for n in 1..=3 {
        let address = format!("2001:db8:0:1::{n}");
        assert_eq!(login(&site, &address, &mistyped).await.0, 401);
    }
    site.front.error_log_with(DELAYING, 1);
    assert_eq!(login(&site, "2001:db8:0:2::1", &alice()).await.0, 200);
    let log = site.front.error_log();
    let mut delayed = log.lines().filter(|line| line.contains(DELAYING));
    assert!(!delayed.any(|line| line.contains("2001:db8:0:2::1")));
}

#[tokio::test]
async fn who_is_logged_in_is_not_touched_and_an_attempt_after_kerberos_is_one() {
    let site = site("ntlm_fail_delay 10s after=1 max=20s;");
    let (alice, mistyped) = (alice(), mistyped());
    let address = "192.0.2.1";
    let mut logged_in = site.client().await;
    // A ticket that is declined first: no failure.
    for _ in 0..2 {
        let way = Scheme::NegotiateAfterKerberos;
        let answer = log_in_on(&mut logged_in, address, way, &alice).await;
        assert_eq!(identity(&answer), Some("EXAMPLE\\alice"));
    }
    assert_eq!(login(&site, address, &mistyped).await.0, 401);
    let target = login_target("somebody");
    let headers = [("X-Real-IP", address)];
    let answer = logged_in
        .request("GET", &target, &headers, b"")
        .await
        .unwrap();
    assert_eq!(identity(&answer), Some("EXAMPLE\\alice"));
    assert!(!site.front.error_log().contains(DELAYING));
    // The failure counts: of the next two logins, one waits. A client that leaves meanwhile is noticed.
    let mut first = site.client().await;
    let (_, authorization) = Handshake::begin(Scheme::Ntlm, &alice);
    assert_eq!(leg(&mut first, address, &authorization).await.status, 401);
    let mut second = site.client().await;
    let head = format!(
        "GET {target} HTTP/1.1\r\nHost: a\r\nX-Real-IP: {address}\r\nAuthorization: {authorization}\r\n\r\n"
    );
    second.send(head.as_bytes()).await.unwrap();
    eventually("the second waits", || {
        site.front.error_log().contains(DELAYING).then_some(())
    });
    drop(second);
    eventually("its leaving is noticed", || {
        let log = site.front.error_log();
        log.contains("client prematurely closed connection")
            .then_some(())
    });
}

#[test]
fn a_client_that_does_not_wait_for_the_answer_has_failed() {
    let server = Server::bind();
    let front = Front::start(&http(
        &server.addr().to_string(),
        "ntlm_fail_delay 10s after=2 max=20s;",
    ));
    let leg = "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM TlRM\r\n\r\n";
    let challenge =
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nWWW-Authenticate: NTLM TlRM\r\n\r\n";
    let begin = || {
        let mut client = Peer::connect(front.addr(0));
        client.send(leg);
        let mut upstream = server.accept();
        upstream.head();
        upstream.send(challenge);
        assert_eq!(client.answer().status(), 401);
        (client, upstream)
    };
    for nth in 1..=2 {
        let (mut client, mut upstream) = begin();
        client.send(leg);
        upstream.head();
        drop(client);
        upstream.ends();
        eventually("its leaving is noticed", || {
            let log = front.error_log();
            (log.matches("client prematurely closed connection").count() == nth).then_some(())
        });
    }
    // This one has its turn at once, the next one has not.
    let _one = begin();
    let mut other = Peer::connect(front.addr(0));
    other.send(leg);
    eventually("the next login waits", || {
        front.error_log().contains(DELAYING).then_some(())
    });
    server.was_left_alone();
}

#[tokio::test]
async fn failures_outlive_a_reload() {
    let directive = "ntlm_fail_delay 300ms after=1;";
    let site = site(directive);
    let mistyped = mistyped();
    for _ in 0..2 {
        assert_eq!(login(&site, "192.0.2.1", &mistyped).await.0, 401);
    }
    let before = site.front.error_log().matches(DELAYING).count();
    site.front
        .reload(&http(&site.origins[0].addr().to_string(), directive));
    for _ in 0..2 {
        assert_eq!(login(&site, "192.0.2.1", &mistyped).await.0, 401);
    }
    site.front.error_log_with(DELAYING, before + 1);
}

/// All of them at once.
async fn join_all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    std::future::poll_fn(|cx| {
        let mut ready = true;
        for (future, result) in &mut futures {
            if result.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *result = Some(value),
                    std::task::Poll::Pending => ready = false,
                }
            }
        }
        if ready {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    futures
        .into_iter()
        .filter_map(|(_, result)| result)
        .collect()
}
