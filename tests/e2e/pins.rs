//! The one promise: an upstream connection that ever carried credentials belongs to the client connection that sent them.
#![allow(clippy::unwrap_used)] // what fails in a helper fails its test

use std::time::Instant;

use ntlm_origin::client::{Connection, Handshake, Scheme, ticket};
use ntlm_origin::{Kerberos, User};

use crate::front::{Front, PATIENCE, eventually};
use crate::site::{
    Site, alice, ask, bob, configuration, identity, log_in, login_target, origins, place,
    until_anonymous, whoami,
};

/// Pools that would hand a connection on, and none.
const POOLS: [&str; 3] = ["", "keepalive 0;", "keepalive 64;"];

/// So many clients without credentials, each on a connection of its own, are nobody.
async fn others_are_nobody(site: &Site, path: &str) {
    for nth in 0..8 {
        let name = format!("other{nth}");
        let mut client = site.client().await;
        for _ in 0..3 {
            let answer = client.get(&format!("{path}?from={name}")).await.unwrap();
            assert_eq!(answer.text(), "anonymous", "{name}");
        }
    }
}

#[tokio::test]
async fn who_was_logged_in_on_two_groups_leaves_nothing_behind() {
    for pool in POOLS {
        let servers = origins(2, Kerberos::Declined);
        let http = format!(
            "upstream one {{ server {}; {pool} ntlm; }}
             upstream two {{ server {}; ntlm; {pool} }}
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
        for (path, user) in [("/one", alice()), ("/two", bob())] {
            let target = format!("{path}/whoami?from=both&login");
            let answer = client.login_ntlm(&target, &user).await.unwrap();
            assert_eq!(answer.text(), user.identity(), "{pool}");
        }
        // Both logins are there side by side, and the client's requests find the right one.
        for (path, user) in [("/one", alice()), ("/two", bob()), ("/one", alice())] {
            let answer = client
                .get(&format!("{path}/whoami?from=both"))
                .await
                .unwrap();
            assert_eq!(answer.text(), user.identity(), "{pool}");
        }
        drop(client);
        site.await_upstream_connections(0);
        others_are_nobody(&site, "/one/whoami").await;
        others_are_nobody(&site, "/two/whoami").await;
        assert_eq!(site.assert_nothing_was_shared(), 2, "{pool}");
    }
}

#[tokio::test]
async fn requests_of_others_between_the_legs_take_nothing_and_change_nothing() {
    for scheme in [
        Scheme::Ntlm,
        Scheme::NegotiateBare,
        Scheme::Negotiate,
        Scheme::NegotiateAfterKerberos,
    ] {
        let site = Site::start("ntlm; keepalive 32;");
        let alice = alice();
        let mut others = Vec::new();
        for _ in 0..6 {
            others.push(site.client().await);
        }
        let mut client = site.client().await;
        let (mut handshake, mut authorization) = Handshake::begin(scheme, &alice);
        let mut places = Vec::new();
        loop {
            let answer = client
                .request(
                    "GET",
                    &login_target("alice"),
                    &[("Authorization", &authorization)],
                    b"",
                )
                .await
                .unwrap();
            places.push(place(&answer));
            for (nth, other) in others.iter_mut().enumerate() {
                let name = format!("other{nth}");
                let answer = ask(other, &name).await;
                assert_eq!(identity(&answer), None, "{scheme:?}");
            }
            match handshake.next(&answer) {
                Some(next) => authorization = next,
                None => {
                    assert_eq!(identity(&answer), Some("EXAMPLE\\alice"), "{scheme:?}");
                    break;
                }
            }
        }
        // Three legs where Kerberos is declined first, two otherwise.
        let legs = if scheme == Scheme::NegotiateAfterKerberos {
            3
        } else {
            2
        };
        assert_eq!(places.len(), legs, "{scheme:?}");
        for _ in 0..5 {
            places.push(place(&ask(&mut client, "alice").await));
        }
        places.dedup();
        assert_eq!(places.len(), 1, "{scheme:?}: {places:?}");
        assert_eq!(site.assert_nothing_was_shared(), 1);
    }
}

#[tokio::test]
async fn crowds_neither_move_a_user_nor_become_one() {
    // A pool that is too small for the crowd, so that connections come and go all the time.
    let site = Site::start("ntlm; keepalive 4;");
    let mut tasks = tokio::task::JoinSet::new();
    for nth in 0..12 {
        let user = if nth % 2 == 0 { alice() } else { bob() };
        let mut client = site.client().await;
        tasks.spawn(async move {
            let name = format!("user{nth}");
            let answer = log_in(&mut client, Scheme::Negotiate, &name, &user).await;
            for _ in 0..25 {
                let next = ask(&mut client, &name).await;
                assert_eq!(identity(&next), Some(user.identity().as_str()), "{name}");
                assert_eq!(place(&next), place(&answer), "{name}");
            }
        });
    }
    for nth in 0..24 {
        let mut client = site.client().await;
        tasks.spawn(async move {
            let name = format!("other{nth}");
            for _ in 0..25 {
                assert_eq!(identity(&ask(&mut client, &name).await), None, "{name}");
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_eq!(site.assert_nothing_was_shared(), 12);
    let clean: u64 = site.upstream_accepted() - 12;
    assert!(
        clean < 24 * 25,
        "the crowd shared connections, as it should"
    );
}

#[tokio::test]
async fn what_a_limit_retires_is_closed_and_never_pooled() {
    for limit in ["ntlm_requests 4;", "ntlm_time 200ms;"] {
        let site =
            Site::with_one_server(Kerberos::Declined, &format!("ntlm; keepalive 32; {limit}"));
        let mut client = site.logged_in("alice", &alice()).await;
        until_anonymous(&mut client, "alice", &alice()).await;
        // The login's connection is gone, and the only one there is carried nothing but that last request.
        site.await_upstream_connections(1);
        assert_eq!(site.upstream_accepted(), 2, "{limit}");
        others_are_nobody(&site, "/whoami").await;
        assert_eq!(site.upstream_accepted(), 2, "{limit}: the clean one serves");
        // The clean connection served several, the retired one only alice: her last request came without her login.
        assert_eq!(site.assert_nothing_was_shared(), 1, "{limit}");
    }
}

#[tokio::test]
async fn a_login_by_the_first_request_alone_is_nobody_elses() {
    for pool in POOLS {
        let site = Site::with_one_server(Kerberos::BindsConnection, &format!("ntlm; {pool}"));
        let ticket = ticket(&alice(), 0);
        let mut client = site.client().await;
        let answer = client
            .request(
                "GET",
                &login_target("alice"),
                &[("Authorization", &ticket)],
                b"",
            )
            .await
            .unwrap();
        assert_eq!(answer.text(), "EXAMPLE\\alice");
        others_are_nobody(&site, "/whoami").await;
        assert_eq!(
            identity(&ask(&mut client, "alice").await),
            Some("EXAMPLE\\alice")
        );
        drop(client);
        others_are_nobody(&site, "/whoami").await;
        assert_eq!(site.assert_nothing_was_shared(), 1, "{pool}");
    }
}

#[tokio::test]
async fn a_ticket_of_tens_of_kilobytes_logs_in() {
    let site = Site::with_one_server(Kerberos::BindsConnection, "ntlm;");
    let mut client = site.client().await;
    let ticket = ticket(&alice(), 40_000);
    assert!(ticket.len() > 50_000);
    let headers = [("Authorization", &*ticket)];
    let answer = client
        .request("GET", &whoami("alice"), &headers, b"")
        .await
        .unwrap();
    assert_eq!(answer.text(), "EXAMPLE\\alice");
    assert_eq!(
        identity(&ask(&mut client, "alice").await),
        Some("EXAMPLE\\alice")
    );
}

#[tokio::test]
async fn whatever_resembles_a_login_takes_a_connection_out_of_the_pool() {
    for (authorization, is_out) in [
        ("NTLM", true),
        ("NTLM TlRMTVNTUAAB", true),
        ("ntlm x", true),
        ("nTLm\tTlRMTVNTUAAB", true),
        ("Negotiate YII=", true),
        ("NEGOTIATE  !", true),
        ("Nego2 x", true),
        ("kerberos x", true),
        // No logins, but of schemes that a server may know as such.
        ("NTLMx TlRMTVNTUAAB", true),
        ("Negotiate2 YII=", true),
        ("Basic YWxpY2U6d29uZGVybGFuZA==", false),
        ("Bearer NTLM", false),
    ] {
        let site = Site::with_one_server(Kerberos::Declined, "ntlm; keepalive 8;");
        let mut client = site.client().await;
        client
            .request(
                "GET",
                "/whoami?from=one",
                &[("Authorization", authorization)],
                b"",
            )
            .await
            .unwrap();
        ask(&mut site.client().await, "two").await;
        assert_eq!(
            site.upstream_accepted(),
            1 + u64::from(is_out),
            "{authorization}"
        );
    }
}

#[tokio::test]
async fn a_server_that_authenticates_each_request_keeps_its_connection() {
    let site = Site::with_one_server(Kerberos::PerRequest, "ntlm; keepalive 32;");
    let mut clients = Vec::new();
    for (name, user) in [("alice", alice()), ("bob", bob())] {
        clients.push((site.client().await, name, user));
    }
    for _ in 0..10 {
        for (client, name, user) in &mut clients {
            let ticket = ticket(user, 100);
            let headers = [("Authorization", &*ticket)];
            let answer = client
                .request("GET", &login_target(name), &headers, b"")
                .await
                .unwrap();
            assert_eq!(answer.text(), user.identity());
            assert_eq!(answer.headers.first("persistent-auth"), Some("false"));
        }
    }
    assert_eq!(site.upstream_accepted(), 2, "one for each client");
    assert_eq!(site.assert_nothing_was_shared(), 2);
}

#[tokio::test]
async fn reauth_same_keeps_the_connection_for_tickets_and_not_for_ntlm() {
    let site = Site::with_one_server(Kerberos::BindsConnection, "ntlm; ntlm_reauth same;");
    let mut client = site.client().await;
    for user in [alice(), alice(), bob(), alice()] {
        let ticket = ticket(&user, 0);
        let headers = [("Authorization", &*ticket)];
        let answer = client
            .request("GET", &whoami("all"), &headers, b"")
            .await
            .unwrap();
        assert_eq!(answer.text(), user.identity());
    }
    assert_eq!(site.upstream_accepted(), 1);
    for (nth, scheme) in [Scheme::Ntlm, Scheme::NegotiateBare, Scheme::Negotiate]
        .into_iter()
        .enumerate()
    {
        let answer = log_in(&mut client, scheme, "all", &bob()).await;
        assert_eq!(answer.text(), "EXAMPLE\\bob", "{scheme:?}");
        assert_eq!(site.upstream_accepted(), 2 + nth as u64, "{scheme:?}");
    }
}

#[tokio::test]
async fn new_credentials_after_a_login_get_a_connection_of_their_own() {
    let site = Site::start("ntlm; keepalive 32;");
    let mut client = site.logged_in("all", &alice()).await;
    let mut before = place(&ask(&mut client, "all").await);
    for (nth, user) in [bob(), bob(), alice()].into_iter().enumerate() {
        let answer = log_in(&mut client, Scheme::Ntlm, "all", &user).await;
        assert_eq!(answer.text(), user.identity());
        assert_ne!(place(&answer), before);
        before = place(&answer);
        assert_eq!(place(&ask(&mut client, "all").await), before);
        assert_eq!(site.upstream_accepted(), 2 + nth as u64);
        site.await_upstream_connections(1);
    }
}

/// Whether a new login's connection is opened while the old one's is there shows only at the server.
#[test]
fn the_old_connection_is_closed_before_the_new_one_is_opened() {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn request(stream: &mut TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
    }
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    const LOGIN: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM TlRMTVNTUAAB\r\n\r\n";

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let accept = |which: &str| {
        let (stream, _) = eventually(which, || listener.accept().ok());
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let front = Front::start(&format!(
        "upstream mail {{ server {}; ntlm; }}
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://mail; }} }}",
        listener.local_addr().unwrap(),
    ));
    let mut client = TcpStream::connect(front.addr(0)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(LOGIN).unwrap();
    let mut old = accept("the first connection comes");
    request(&mut old);
    old.write_all(OK).unwrap();
    request(&mut client);
    client.write_all(LOGIN).unwrap();
    let mut new = accept("a second connection comes");
    // What was sent before the new connection came has arrived: the close, or nothing.
    old.set_nonblocking(true).unwrap();
    match old.read(&mut [0; 16]) {
        Ok(0) => {}
        Err(error) if error.kind() != ErrorKind::WouldBlock => {}
        other => panic!("the old connection is still there: {other:?}"),
    }
    request(&mut new);
    new.write_all(OK).unwrap();
    request(&mut client);
}

#[tokio::test]
async fn a_failed_login_can_be_repeated_on_its_connection() {
    let site = Site::start("ntlm; keepalive 32;");
    let mut client = site.client().await;
    let wrong = User::new("EXAMPLE", "alice", "Wonderland");
    let refused = log_in(&mut client, Scheme::Ntlm, "alice", &wrong).await;
    assert_eq!((refused.status, identity(&refused)), (401, None));
    // Without credentials in between: those stay on the connection, too.
    assert_eq!(place(&ask(&mut client, "alice").await), place(&refused));
    let answer = log_in(&mut client, Scheme::Negotiate, "alice", &alice()).await;
    assert_eq!(answer.text(), "EXAMPLE\\alice");
    assert_eq!(place(&answer), place(&refused));
    assert_eq!(site.upstream_accepted(), 1);
}

#[tokio::test]
async fn a_login_may_begin_on_a_clean_pooled_connection() {
    let site = Site::with_one_server(Kerberos::Declined, "ntlm; keepalive 8;");
    ask(&mut site.client().await, "one").await;
    let mut client = site.logged_in("alice", &alice()).await;
    assert_eq!(site.upstream_accepted(), 1, "the pooled one is good enough");
    others_are_nobody(&site, "/whoami").await;
    assert_eq!(
        identity(&ask(&mut client, "alice").await),
        Some("EXAMPLE\\alice")
    );
    assert_eq!(site.upstream_accepted(), 2);
}

#[tokio::test]
async fn the_log_names_the_pinned_server() {
    let site = Site::start("ntlm; keepalive 32;");
    let (mut anna, mut berta) = (site.client().await, site.client().await);
    let mut other = site.client().await;
    for _ in 0..2 {
        // An odd number of requests between two of a user's: the balancer would send her elsewhere each time.
        ask(&mut other, "other").await;
        log_in(&mut anna, Scheme::Ntlm, "anna", &alice()).await;
        ask(&mut other, "other").await;
        log_in(&mut berta, Scheme::Negotiate, "berta", &bob()).await;
        for _ in 0..4 {
            ask(&mut anna, "anna").await;
            ask(&mut other, "other").await;
            ask(&mut berta, "berta").await;
        }
    }
    let lines = site.lines(2 * (2 + 4 + 12));
    let addresses: Vec<String> = site
        .origins
        .iter()
        .map(|origin| origin.addr().to_string())
        .collect();
    for line in &lines {
        let named = match &*line.server {
            "A" => &addresses[0],
            "B" => &addresses[1],
            other => panic!("{other}: {line:?}"),
        };
        assert_eq!(&line.upstream, named, "{line:?}");
    }
    let of = |name| lines.iter().filter(move |line| line.from() == name);
    for line in of("other") {
        assert_eq!(
            [&line.pin, &line.state, &line.pin_requests, &line.scheme].map(|field| &**field),
            ["-"; 4],
            "{line:?}"
        );
    }
    let mut pins = Vec::new();
    for (name, scheme) in [("anna", "ntlm"), ("berta", "negotiate")] {
        let lines: Vec<_> = of(name).collect();
        for (login, lines) in lines.chunks(6).enumerate() {
            pins.push(lines[0].pin.clone());
            for (nth, line) in lines.iter().enumerate() {
                assert_eq!(line.pin, lines[0].pin, "{name} {login}");
                assert_eq!(line.connection, lines[0].connection, "{name} {login}");
                assert_eq!(
                    line.scheme,
                    if nth < 2 { scheme } else { "-" },
                    "{name} {nth}"
                );
                let state = if nth == 0 {
                    "handshaking"
                } else {
                    "established"
                };
                assert_eq!(line.state, state, "{name} {nth}");
                assert_eq!(line.status, if nth == 0 { "401" } else { "200" });
            }
            let counts: Vec<u64> = lines
                .iter()
                .map(|line| line.pin_requests.parse().unwrap())
                .collect();
            assert!(
                counts.windows(2).all(|pair| pair[1] == pair[0] + 1),
                "{name}: {counts:?}"
            );
        }
    }
    pins.sort();
    pins.dedup();
    assert_eq!(pins.len(), 4, "each login has a number of its own");
    assert!(!pins.contains(&"-".to_owned()));
}

#[tokio::test]
async fn a_failure_on_a_pin_counts_for_the_pinned_server() {
    for pinned_to in ["A", "B"] {
        let servers = origins(2, Kerberos::Declined);
        let http = configuration(&servers, "ntlm; keepalive 0;")
            .replace(";\nserver ", " max_fails=1 fail_timeout=1h;\nserver ");
        let http = http.replacen(
            &format!("{};\n ", servers[1].addr()),
            &format!("{} max_fails=1 fail_timeout=1h;\n ", servers[1].addr()),
            1,
        );
        assert_eq!(http.matches("max_fails=1").count(), 2);
        let http = format!("proxy_read_timeout 300ms;\n{http}");
        let site = Site::configured(servers, "worker_processes 1;", &http);
        let mut client = loop {
            let mut client = site.logged_in("alice", &alice()).await;
            if place(&ask(&mut client, "alice").await).0 == pinned_to {
                break client;
            }
        };
        // Whoever comes next, it is not the pinned one's fault but the other's turn.
        while place(&ask(&mut site.client().await, "turn").await).0 != pinned_to {}
        assert_eq!(client.get("/slow/60000").await.unwrap().status, 504);
        for _ in 0..6 {
            let answer = ask(&mut site.client().await, "after").await;
            assert_ne!(place(&answer).0, pinned_to);
        }
        let nth = usize::from(pinned_to == "B");
        let upstream = format!(
            "upstream: \"http://{}/slow/60000\"",
            site.origins[nth].addr()
        );
        site.front.error_log_with(&upstream, 1);
        let disabled = "upstream server temporarily disabled";
        site.front.error_log_with(disabled, 1);
    }
}

#[tokio::test]
async fn a_reload_keeps_every_login() {
    const USERS: usize = 100;
    let servers = origins(2, Kerberos::Declined);
    let group = |limits: &str| configuration(&servers, &format!("ntlm 200; {limits}"));
    let front = Front::start(&group(""));
    let mut tasks = tokio::task::JoinSet::new();
    for nth in 0..USERS {
        let addr = front.addr(0);
        tasks.spawn(async move {
            let user = if nth % 2 == 0 { alice() } else { bob() };
            let mut client = Connection::open(addr).await.unwrap();
            let name = format!("user{nth}");
            let answer = log_in(&mut client, Scheme::Ntlm, &name, &user).await;
            assert_eq!(answer.text(), user.identity());
            (client, name, user, place(&answer))
        });
    }
    let mut users = Vec::new();
    while let Some(user) = tasks.join_next().await {
        users.push(user.unwrap());
    }
    // One that is between its legs, too.
    let alice = alice();
    let mut late = Connection::open(front.addr(0)).await.unwrap();
    let (mut handshake, authorization) = Handshake::begin(Scheme::Ntlm, &alice);
    let headers = [("Authorization", &*authorization)];
    let challenge = late
        .request("GET", &login_target("late"), &headers, b"")
        .await
        .unwrap();
    let accepted = |nth: usize| servers[nth].accepted();
    let before = accepted(0) + accepted(1);
    for limits in [
        "ntlm_timeout 5m;",
        "ntlm_requests 500; ntlm_time 30m; keepalive 3;",
        "ntlm_reauth same; least_conn; ntlm_timeout 10m;",
        "",
    ] {
        front.reload(&group(limits));
        for (client, name, user, at) in &mut users {
            let answer = ask(client, name).await;
            assert_eq!(identity(&answer), Some(user.identity().as_str()), "{name}");
            assert_eq!(&place(&answer), at, "{name}");
        }
    }
    let authorization = handshake.next(&challenge).unwrap();
    let headers = [("Authorization", &*authorization)];
    let answer = late
        .request("GET", &login_target("late"), &headers, b"")
        .await
        .unwrap();
    assert_eq!(answer.text(), "EXAMPLE\\alice");
    assert_eq!(accepted(0) + accepted(1), before, "nobody was moved");
}

#[tokio::test]
async fn a_reload_that_takes_the_server_away_keeps_its_logins() {
    let servers = origins(2, Kerberos::Declined);
    let (first, second) = servers.split_at(1);
    let front = Front::start(&configuration(first, "ntlm;"));
    let mut client = Connection::open(front.addr(0)).await.unwrap();
    log_in(&mut client, Scheme::Ntlm, "alice", &alice()).await;
    front.reload(&configuration(second, "ntlm;"));
    // The workers hear of it one after the other; a client's next connection comes to either.
    for _ in 0..16 {
        let deadline = Instant::now() + PATIENCE;
        while place(&ask(&mut Connection::open(front.addr(0)).await.unwrap(), "new").await).0 != "B"
        {
            assert!(
                Instant::now() < deadline,
                "new clients come to the new server"
            );
        }
    }
    let answer = ask(&mut client, "alice").await;
    assert_eq!(identity(&answer), Some("EXAMPLE\\alice"));
    assert_eq!(first[0].log().last().unwrap().path, whoami("alice"));
}

/// Without `ntlm` nobody can log in any more; who is logged in stays it, alone.
#[tokio::test]
async fn a_reload_that_takes_ntlm_away_keeps_its_logins() {
    for in_location in [false, true] {
        let servers = origins(1, Kerberos::Declined);
        let http = |ntlm: &str, generation: &str| {
            let group = if in_location { "" } else { ntlm };
            let location = if in_location { ntlm } else { "" };
            configuration(&servers, &format!("{group} keepalive 8;")).replace(
                "location / {",
                &format!(
                    "location /generation {{ return 200 {generation}; }} location / {{ {location}"
                ),
            )
        };
        let (with, without) = (http("ntlm;", "first"), http("", "second"));
        let site = Site::configured(servers, "worker_processes 1;", &with);
        let mut alice_s = site.logged_in("alice", &alice()).await;
        let mut bob_s = site.logged_in("bob", &bob()).await;
        let at = place(&ask(&mut alice_s, "alice").await);
        site.front.reload(&without);
        let deadline = Instant::now() + PATIENCE;
        let mut new = site.client().await;
        while new.get("/generation").await.unwrap().text() != "second" {
            assert!(Instant::now() < deadline, "the worker hears of it");
        }
        for round in 0..4 {
            let answer = ask(&mut alice_s, "alice").await;
            assert_eq!(
                (identity(&answer), place(&answer)),
                (Some("EXAMPLE\\alice"), at.clone()),
                "in the location: {in_location}, round {round}"
            );
            let answer = ask(&mut bob_s, "bob").await;
            assert_eq!(identity(&answer), Some("EXAMPLE\\bob"));
            others_are_nobody(&site, "/whoami").await;
        }
        // One leaves, and the connection is not handed on.
        drop(bob_s);
        others_are_nobody(&site, "/whoami").await;
        let answer = ask(&mut alice_s, "alice").await;
        assert_eq!(identity(&answer), Some("EXAMPLE\\alice"));
        assert_eq!(site.assert_nothing_was_shared(), 2);
        drop((alice_s, new));
    }
}
