//! Groups without `ntlm`, where logins are not kept and nobody gets another's; and `ntlm` outside of an `upstream` block.

use std::time::Instant;

use ntlm_origin::Kerberos;
use ntlm_origin::client::{Scheme, ticket};

use crate::front::PATIENCE;
use crate::site::{
    Site, alice, ask, bob, configuration, identity, log_in, login_target, origins, place, whoami,
};

#[tokio::test]
async fn without_ntlm_a_connection_that_carried_credentials_is_closed() {
    let site = Site::with_one_server(Kerberos::BindsConnection, "keepalive 32;");
    for name in ["Authorization", "Proxy-Authorization"] {
        let ticket = ticket(&alice(), 0);
        let mut client = site.client().await;
        let target = login_target("alice");
        let answer = client
            .request("GET", &target, &[(name, &ticket)], b"")
            .await
            .unwrap();
        assert_eq!(identity(&answer).is_some(), name == "Authorization");
        site.await_upstream_connections(0);
        // The client's connection goes on, as nobody's.
        assert_eq!(identity(&ask(&mut client, "alice").await), None, "{name}");
        // Let the next round find no pooled connection.
        drop(client);
    }
    for nth in 0..8 {
        let answer = ask(&mut site.client().await, &format!("other{nth}")).await;
        assert_eq!(identity(&answer), None);
    }
}

#[tokio::test]
async fn without_ntlm_clean_connections_are_pooled() {
    let site = Site::with_one_server(Kerberos::Declined, "keepalive 32;");
    for nth in 0..5 {
        ask(&mut site.client().await, &format!("other{nth}")).await;
    }
    assert_eq!(site.upstream_accepted(), 1);
}

#[tokio::test]
async fn without_ntlm_a_login_of_two_legs_comes_to_nothing() {
    let site = Site::with_one_server(Kerberos::Declined, "keepalive 32;");
    let mut client = site.client().await;
    let answer = log_in(&mut client, Scheme::Ntlm, "alice", &alice()).await;
    assert_eq!((answer.status, identity(&answer)), (401, None));
    assert_eq!(site.upstream_accepted(), 2, "each leg on its own");
    site.await_upstream_connections(0);
}

/// `ntlm` for a `proxy_pass` that names no group.
#[tokio::test]
async fn ntlm_in_server_and_location_pins_too() {
    let literal = "proxy_pass http://SERVER;";
    let variable = "set $backend SERVER; proxy_pass http://$backend;";
    let whole = "set $backend http://SERVER$request_uri; proxy_pass $backend;";
    for pass in [literal, variable, whole] {
        for (in_server, in_location) in [("ntlm;", ""), ("", "ntlm;"), ("ntlm 7;", "ntlm 50;")] {
            let servers = origins(1, Kerberos::Declined);
            let pass = pass.replace("SERVER", &servers[0].addr().to_string());
            let http = format!(
                "server {{ listen 127.0.0.1:0; {in_server} location / {{ {in_location} {pass} }} }}"
            );
            let site = Site::configured(servers, "worker_processes 1;", &http);
            let mut client = site.logged_in("alice", &alice()).await;
            let at = place(&ask(&mut client, "alice").await);
            for nth in 0..8 {
                let answer = ask(&mut site.client().await, &format!("other{nth}")).await;
                assert_eq!(identity(&answer), None, "{http}");
                let answer = ask(&mut client, "alice").await;
                assert_eq!(identity(&answer), Some("EXAMPLE\\alice"), "{http}");
                assert_eq!(place(&answer), at, "{http}");
            }
            drop(client);
            assert_eq!(site.assert_nothing_was_shared(), 1, "{http}");
        }
    }
}

#[tokio::test]
async fn a_variable_may_name_a_group_that_pins() {
    let servers = origins(2, Kerberos::Declined);
    let http = configuration(&servers, "ntlm;")
        .replace("http://mail", "http://$group")
        .replace("location / {", "location / { set $group mail;");
    let site = Site::configured(servers, "worker_processes 1;", &http);
    let mut client = site.logged_in("alice", &alice()).await;
    let at = place(&ask(&mut client, "alice").await);
    for _ in 0..5 {
        assert_eq!(
            identity(&ask(&mut site.client().await, "other").await),
            None
        );
        let answer = ask(&mut client, "alice").await;
        assert_eq!(identity(&answer), Some("EXAMPLE\\alice"));
        assert_eq!(place(&answer), at);
    }
    assert_eq!(site.assert_nothing_was_shared(), 1);
}

/// Two servers named by requests: a pin for each, side by side.
#[tokio::test]
async fn each_server_that_requests_name_has_its_own_login() {
    let servers = origins(2, Kerberos::Declined);
    let http = "server { listen 127.0.0.1:0; ntlm; ntlm_requests 1000;
                location ~ ^/(\\d+)/(.*) { proxy_pass http://127.0.0.1:$1/$2$is_args$args; } }";
    let site = Site::configured(servers, "worker_processes 1;", http);
    let mut client = site.client().await;
    let ports: Vec<u16> = site
        .origins
        .iter()
        .map(|origin| origin.addr().port())
        .collect();
    for (port, user) in ports.iter().zip([alice(), bob()]) {
        let target = format!("/{port}{}", login_target("both"));
        let answer = client.login_ntlm(&target, &user).await.unwrap();
        assert_eq!(answer.text(), user.identity());
    }
    for _ in 0..3 {
        for (port, user) in ports.iter().zip([alice(), bob()]) {
            let answer = client
                .get(&format!("/{port}{}", whoami("both")))
                .await
                .unwrap();
            assert_eq!(answer.text(), user.identity());
        }
    }
    assert_eq!(site.assert_nothing_was_shared(), 2);
    assert_eq!(site.upstream_accepted(), 2);
}

/// Passing the field on by its variable is what many configurations do, and must not cost the token.
#[tokio::test]
async fn passing_authorization_on_by_its_variable_changes_nothing() {
    let servers = origins(2, Kerberos::Declined);
    let http = configuration(&servers, "ntlm;").replace(
        "location / {",
        "proxy_set_header Authorization $http_authorization; location / {",
    );
    let site = Site::configured(servers, "worker_processes 1;", &http);
    let mut client = site.logged_in("alice", &alice()).await;
    assert_eq!(
        identity(&ask(&mut client, "alice").await),
        Some("EXAMPLE\\alice")
    );
}

#[tokio::test]
async fn a_variable_names_no_group_that_a_reload_took_away() {
    let servers = origins(1, Kerberos::Declined);
    let with = format!("upstream inner {{ server {}; }}", servers[0].addr());
    let rest = "server { listen 127.0.0.1:0; location / { proxy_pass http://$arg_to; } }";
    let site = Site::configured(servers, "worker_processes 1;", &format!("{with} {rest}"));
    let mut client = site.client().await;
    assert_eq!(client.get("/whoami?to=inner").await.unwrap().status, 200);
    site.front.reload(rest);
    // The worker hears of it a moment later.
    let deadline = Instant::now() + PATIENCE;
    while client.get("/whoami?to=inner").await.unwrap().status != 502 {
        assert!(Instant::now() < deadline, "the group is gone");
    }
}
