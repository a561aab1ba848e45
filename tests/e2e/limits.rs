//! How many logins are kept, how long, how old and for how many requests; and who is never touched by it.
#![allow(clippy::unwrap_used)] // what fails in a helper fails its test

use std::time::{Duration, Instant};

use ntlm_origin::Kerberos;
use ntlm_origin::client::{Connection, Handshake, Scheme, ticket};

use crate::front::PATIENCE;
use crate::site::{
    Site, alice, ask, bob, identity, log_in, login_target, origins, place, until_anonymous, whoami,
};

const FULL: &str = "connections are not enough, raise it";

async fn leg(
    client: &mut Connection,
    name: &str,
    authorization: &str,
) -> ntlm_origin::client::Response {
    let headers = [("Authorization", authorization)];
    client
        .request("GET", &login_target(name), &headers, b"")
        .await
        .unwrap()
}

#[tokio::test]
async fn a_full_table_gives_up_the_least_recently_used() {
    let site = Site::start("ntlm 3; keepalive 0;");
    let mut clients = Vec::new();
    for name in ["a", "b", "c"] {
        clients.push(site.logged_in(name, &alice()).await);
    }
    ask(&mut clients[0], "a").await;
    assert!(!site.front.error_log().contains(FULL), "three fit");
    let logged_in = Some("EXAMPLE\\alice");
    // Used in the order b, c, a.
    let mut places = Vec::new();
    for (newcomer, given_up) in [("d", 1), ("e", 2), ("f", 0)] {
        let mut client = site.logged_in(newcomer, &alice()).await;
        places.push(place(&ask(&mut client, newcomer).await));
        clients.push(client);
        site.await_upstream_connections(3);
        let name = ["a", "b", "c"][given_up];
        // The client's own connection stays, and what comes next on it goes out without the login.
        let answer = ask(&mut clients[given_up], name).await;
        assert_eq!(identity(&answer), None, "{name} makes room for {newcomer}");
        site.await_upstream_connections(3);
    }
    for (nth, name) in [(3, "d"), (4, "e"), (5, "f")] {
        let answer = ask(&mut clients[nth], name).await;
        assert_eq!(identity(&answer), logged_in, "{name}");
        assert_eq!(place(&answer), places[nth - 3], "{name}");
    }
    // The one that made room logs in again on its own connection, and makes room in turn.
    let answer = log_in(&mut clients[1], Scheme::Ntlm, "b", &alice()).await;
    assert_eq!(identity(&answer), logged_in);
    assert_eq!(identity(&ask(&mut clients[3], "d").await), None);
    let log = site.front.error_log_with(FULL, 1);
    let warnings: Vec<_> = log.lines().filter(|line| line.contains(FULL)).collect();
    assert_eq!(warnings.len(), 1, "once a minute at the most: {log}");
    assert!(warnings[0].contains("[warn]"), "{}", warnings[0]);
    assert!(warnings[0].contains("\"mail\""), "{}", warnings[0]);
    assert!(warnings[0].contains("ntlm 3"), "{}", warnings[0]);
    site.assert_nothing_was_shared();
}

#[tokio::test]
async fn a_full_table_never_touches_a_request_in_flight_or_a_handshake() {
    let site = Site::start("ntlm 1; keepalive 0;");
    let alice = alice();
    let mut busy = site.logged_in("busy", &alice).await;
    let at = place(&ask(&mut busy, "busy").await);
    let head = "POST /echo?from=busy HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n";
    busy.send(head.as_bytes()).await.unwrap();
    let mut shy = site.client().await;
    let (mut handshake, authorization) = Handshake::begin(Scheme::NegotiateAfterKerberos, &alice);
    let mut answer = leg(&mut shy, "shy", &authorization).await;
    for nth in 0..4 {
        // Each of them ends the login of the one before.
        site.logged_in(&format!("user{nth}"), &bob()).await;
        // A leg of the handshake in between.
        if let Some(authorization) = handshake.next(&answer) {
            answer = leg(&mut shy, "shy", &authorization).await;
        }
    }
    assert_eq!(identity(&answer), Some("EXAMPLE\\alice"));
    busy.send(b"x").await.unwrap();
    let answer = busy.response("POST").await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(identity(&answer), Some("EXAMPLE\\alice"));
    assert_eq!(place(&answer), at);
    site.assert_nothing_was_shared();
}

#[tokio::test]
async fn an_idle_login_ends_and_its_client_stays() {
    let site = Site::start("ntlm; ntlm_timeout 200ms; keepalive 0;");
    let mut client = site.logged_in("alice", &alice()).await;
    // Only established logins are idle: one between its legs waits for its client.
    let alice = alice();
    let mut slow = site.client().await;
    let (mut handshake, authorization) = Handshake::begin(Scheme::Ntlm, &alice);
    let challenge = leg(&mut slow, "slow", &authorization).await;
    site.await_upstream_connections(1);
    let answer = ask(&mut client, "alice").await;
    assert_eq!(
        identity(&answer),
        None,
        "the connection stayed, the login not"
    );
    let authorization = handshake.next(&challenge).unwrap();
    let answer = leg(&mut slow, "slow", &authorization).await;
    assert_eq!(identity(&answer), Some("EXAMPLE\\alice"));
    assert_eq!(place(&answer), place(&challenge));
}

#[tokio::test]
async fn a_login_that_is_used_is_not_idle() {
    let site = Site::start("ntlm; ntlm_timeout 1s; keepalive 0;");
    let mut used = site.logged_in("used", &alice()).await;
    let _idle = site.logged_in("idle", &bob()).await;
    let mut last = std::time::Instant::now();
    let mut longest = std::time::Duration::ZERO;
    let deadline = std::time::Instant::now() + crate::front::PATIENCE;
    while site.upstream_connections() == 2 {
        assert!(std::time::Instant::now() < deadline, "the idle one ends");
        let answer = ask(&mut used, "used").await;
        longest = longest.max(last.elapsed());
        last = std::time::Instant::now();
        // On a machine that stood still so long, it was idle.
        if longest < std::time::Duration::from_millis(900) {
            assert_eq!(identity(&answer), Some("EXAMPLE\\alice"));
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn exactly_so_many_requests_are_sent_over_a_login() {
    let site = Site::with_one_server(Kerberos::Declined, "ntlm; ntlm_requests 5; keepalive 0;");
    let mut client = site.logged_in("alice", &alice()).await;
    for _ in 0..3 {
        let answer = ask(&mut client, "alice").await;
        assert_eq!(identity(&answer), Some("EXAMPLE\\alice"));
        assert_eq!(place(&answer).1, "1");
    }
    let answer = ask(&mut client, "alice").await;
    assert_eq!(identity(&answer), None);
    assert_eq!(place(&answer).1, "2");
    site.await_upstream_connections(0);
}

#[tokio::test]
async fn no_limit_cuts_a_handshake() {
    let site = Site::start("ntlm 1; ntlm_requests 1; ntlm_time 1ms; ntlm_timeout 1ms;");
    for scheme in [Scheme::Ntlm, Scheme::NegotiateAfterKerberos] {
        let mut client = site.client().await;
        let answer = log_in(&mut client, scheme, "alice", &alice()).await;
        assert_eq!(identity(&answer), Some("EXAMPLE\\alice"), "{scheme:?}");
        let answer = ask(&mut client, "alice").await;
        assert_eq!(identity(&answer), None, "{scheme:?}: now they hold");
    }
}

#[tokio::test]
async fn new_limits_hold_from_the_next_request_on() {
    let site = Site::start("ntlm; keepalive 0;");
    let mut client = site.logged_in("alice", &alice()).await;
    for _ in 0..4 {
        ask(&mut client, "alice").await;
    }
    // Six requests went over it. More are allowed, then fewer.
    site.reload("ntlm; ntlm_requests 1000000; keepalive 0;");
    assert_eq!(
        identity(&ask(&mut client, "alice").await),
        Some("EXAMPLE\\alice")
    );
    site.reload("ntlm; ntlm_requests 7; keepalive 0;");
    let target = whoami("alice");
    // The reload itself ends nothing: only the next request finds that the time has come.
    let open = site.upstream_connections();
    assert_eq!(open, 1);
    until_anonymous(&mut client, "alice", &alice()).await;
    assert!(site.arrivals(&target).iter().sum::<usize>() <= 10);
    site.await_upstream_connections(0);
    // A shorter idle time, too, for a login that was idle when it came.
    let mut client = site.logged_in("alice", &alice()).await;
    site.reload("ntlm; ntlm_timeout 50ms; keepalive 0;");
    // A worker takes it over a moment after it is in force; each request finds what holds then, and begins the idle time anew.
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = ask(&mut client, "alice").await;
        assert!([None, Some("EXAMPLE\\alice")].contains(&identity(&answer)));
        tokio::time::sleep(Duration::from_millis(60)).await;
        if site.upstream_connections() == 0 {
            break;
        }
        assert!(Instant::now() < until, "the login is not ended");
    }
    assert_eq!(identity(&ask(&mut client, "alice").await), None);
}

#[tokio::test]
async fn fewer_logins_after_a_reload() {
    let site = Site::start("ntlm 4; keepalive 0;");
    let mut clients = Vec::new();
    for name in ["a", "b", "c", "d"] {
        clients.push(site.logged_in(name, &alice()).await);
    }
    site.reload("ntlm 2; keepalive 0;");
    // The reload ends none; the next login that comes to rest does.
    assert_eq!(site.upstream_connections(), 4);
    let deadline = std::time::Instant::now() + crate::front::PATIENCE;
    while site.upstream_connections() > 2 {
        assert!(std::time::Instant::now() < deadline, "two are kept");
        ask(&mut clients[3], "d").await;
    }
    for (nth, name) in [(3, "d"), (2, "c")] {
        let answer = ask(&mut clients[nth], name).await;
        assert_eq!(identity(&answer), Some("EXAMPLE\\alice"), "{name}");
    }
    for (nth, name) in [(0, "a"), (1, "b")] {
        assert_eq!(
            identity(&ask(&mut clients[nth], name).await),
            None,
            "{name}"
        );
    }
}

/// The limits of a client connection would end a login that its own limits allow.
#[tokio::test]
async fn limits_of_client_connections_end_no_login() {
    let servers = crate::site::origins(1, Kerberos::Declined);
    let http = format!(
        "keepalive_requests 3; {}",
        crate::site::configuration(&servers, "ntlm;")
    );
    let site = Site::configured(servers, "worker_processes 1;", &http);
    let mut client = site.logged_in("alice", &alice()).await;
    for _ in 0..6 {
        let answer = ask(&mut client, "alice").await;
        assert_eq!(identity(&answer), Some("EXAMPLE\\alice"));
    }
}

/// What every request repeats, like `Basic`, logs no connection in and is ended as if it was not there.
#[tokio::test]
async fn limits_of_client_connections_spare_logins_and_not_basic() {
    let servers = crate::site::origins(1, Kerberos::BindsConnection);
    let http = format!(
        "keepalive_requests 2; {}",
        crate::site::configuration(&servers, "ntlm;")
    );
    let site = Site::configured(servers, "worker_processes 1;", &http);
    let ticket = ticket(&alice(), 0);
    for (credentials, ends) in [
        ("Basic YWxpY2U6d29uZGVybGFuZA==", true),
        ("Bearer abc", true),
        ("Digest username=\"alice\"", true),
        ("", true),
        (&*ticket, false),
    ] {
        let headers = [("Authorization", credentials)];
        let headers = &headers[..usize::from(!credentials.is_empty())];
        let mut client = site.client().await;
        ask(&mut client, "it").await;
        let answer = client
            .request("GET", &login_target("it"), headers, b"")
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{credentials}");
        assert_eq!(
            answer.headers.names("connection", "close"),
            ends,
            "{credentials}"
        );
        if ends {
            assert!(client.closed().await.unwrap(), "{credentials}");
            continue;
        }
        for _ in 0..4 {
            let answer = ask(&mut client, "it").await;
            assert_eq!(identity(&answer), Some("EXAMPLE\\alice"));
            assert!(!answer.headers.names("connection", "close"));
        }
    }
}

/// A site whose server is reached by three groups, `/0/` to `/2/`, with `more` in the server block.
fn three_groups(more: &str) -> Site {
    let origins = origins(1, Kerberos::Declined);
    let addr = origins[0].addr();
    let groups: String = (0..3)
        .map(|n| format!("upstream group{n} {{ server {addr}; ntlm; keepalive 0; }}\n"))
        .collect();
    let locations: String = (0..3)
        .map(|n| format!("location /{n}/ {{ proxy_pass http://group{n}/; }}\n"))
        .collect();
    let http = format!("{groups} server {{ listen 127.0.0.1:0; {more} {locations} }}");
    Site::configured(origins, "worker_processes 1;", &http)
}

#[tokio::test]
async fn a_client_holds_so_many_pins_and_the_least_recently_used_goes() {
    let site = three_groups("ntlm_pins_per_client 2;");
    let alice = alice();
    let mut client = site.client().await;
    let target = |n: usize| format!("/{n}{}", login_target("alice"));
    let logged_in = Some("EXAMPLE\\alice");
    for n in [0, 1] {
        let answer = client
            .login(Scheme::Ntlm, &target(n), &alice)
            .await
            .unwrap();
        assert_eq!(identity(&answer), logged_in);
    }
    site.await_upstream_connections(2);
    // Used after the other: it stays.
    let answer = client.get(&target(0)).await.unwrap();
    assert_eq!(identity(&answer), logged_in);
    let answer = client
        .login(Scheme::Ntlm, &target(2), &alice)
        .await
        .unwrap();
    assert_eq!(identity(&answer), logged_in);
    site.await_upstream_connections(2);
    for (n, expected) in [(0, logged_in), (1, None), (2, logged_in)] {
        let answer = client.get(&target(n)).await.unwrap();
        assert_eq!(identity(&answer), expected, "group {n}");
    }
    // Others have their own.
    let mut other = site.client().await;
    let answer = other.login(Scheme::Ntlm, &target(1), &bob()).await.unwrap();
    assert_eq!(identity(&answer), Some("EXAMPLE\\bob"));
    let answer = client.get(&target(0)).await.unwrap();
    assert_eq!(identity(&answer), logged_in);
    site.assert_nothing_was_shared();
}

#[tokio::test]
async fn credentials_that_came_through_a_proxy_are_refused_if_told_so() {
    let site = three_groups("location /3/ { ntlm_refuse_via on; proxy_pass http://group0/; }");
    let (_, token) = Handshake::begin(Scheme::Ntlm, &alice());
    let via = ("Via", "1.1 gateway");
    let authorization = ("Authorization", token.as_str());
    let basic = ("Authorization", "Basic YTpi");
    for (target, headers, status) in [
        ("/3/private/", &[via, authorization][..], 403),
        ("/3/private/", &[authorization], 401),
        ("/3/whoami", &[via], 200),
        ("/3/whoami", &[via, basic], 200),
        // Elsewhere it is not asked for.
        ("/0/private/", &[via, authorization], 401),
    ] {
        let mut client = site.client().await;
        let answer = client.request("GET", target, headers, b"").await.unwrap();
        assert_eq!(answer.status, status, "{target} {headers:?}");
        if status == 403 {
            assert_eq!(answer.headers.first("connection"), Some("close"));
        }
    }
    assert_eq!(
        site.arrivals("/private/"),
        [2],
        "the refused one never arrived"
    );
}
