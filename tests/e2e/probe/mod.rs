//! `--probe`: what is in order is fine, and what is broken is named.
#![allow(clippy::unwrap_used)] // what fails in a helper fails its test

mod broken;
mod hostile;
mod http2;
mod parts;
mod password;
mod scripted;

use std::net::SocketAddr;

use ntlm_origin::programs::Apache;
use ntlm_origin::{LoginPaths, Origin, OriginOptions};

use crate::front::Front;
use crate::site::alice;
use crate::tls::binding;
use crate::tls::pki::Pki;

use parts::Probe;

const LOGS_IN: &str =
    "Fine: NTLM logs in, the login stays on its connection, and nobody else has it.";

/// A server where every path asks for a login by these schemes.
fn origin(name: &str, schemes: &'static [&'static str]) -> Origin {
    Origin::start(OriginOptions {
        name: name.to_owned(),
        login: LoginPaths::Everything,
        schemes,
        ..OriginOptions::default()
    })
    .unwrap()
}

const BOTH: &[&str] = &["Negotiate", "NTLM"];
const NTLM: &[&str] = &["NTLM"];
const NEGOTIATE: &[&str] = &["Negotiate"];

/// The front before servers, without TLS.
fn front(servers: &[SocketAddr], location: &str) -> Front {
    let servers: String = servers
        .iter()
        .map(|server| format!("server {server}; "))
        .collect();
    Front::start(&format!(
        "upstream mail {{ {servers} ntlm; }}
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://mail; {location} }} }}"
    ))
}

#[test]
fn a_server_and_the_front_before_it_are_fine() {
    for (schemes, words) in [
        (BOTH, "NTLM"),
        (NTLM, "NTLM"),
        (NEGOTIATE, "Negotiate with NTLM inside"),
    ] {
        let origins = [origin("A", schemes), origin("B", schemes)];
        let front = front(&[origins[0].addr(), origins[1].addr()], "");
        for addr in [origins[0].addr(), front.addr(0)] {
            let url = format!("http://{addr}/whoami");
            let said = format!("Fine: {words} logs in, the login stays on its connection");
            let probed = Probe::new(&url).alice().succeeds(&said);
            let text = &probed.text;
            assert!(text.contains("leg 2: "), "{text}");
            assert!(text.contains(", message 3: 200, logged in\n"), "{text}");
            assert!(text.contains("64 asked to log in, 0 let in\n"), "{text}");
            assert!(text.contains("both logged in\n"), "{text}");
            // Without a user, what can be seen without one.
            Probe::new(&url).succeeds(&format!("in order, and {words} is challenged"));
        }
        assert!(!front.error_log().contains("[error]"));
    }
}

#[test]
fn users_are_named_as_people_do() {
    let origin = origin("A", BOTH);
    let front = front(&[origin.addr()], "");
    for user in ["EXAMPLE\\alice", "example\\ALICE", "alice@example", "alice"] {
        Probe::new(&front.url("/"))
            .user(user, "wonderland")
            .succeeds(LOGS_IN);
    }
}

#[test]
fn a_server_that_somebody_else_wrote_succeeds() {
    let apache = Apache::start(&[alice()]).unwrap();
    let front = front(&[apache.addr()], "");
    for addr in [apache.addr(), front.addr(0)] {
        let url = format!("http://{addr}/private/whoami");
        let probed = Probe::new(&url).alice().succeeds(LOGS_IN);
        // MIT's SPNEGO lets legs be seen to stay together.
        let kept = "kept        leg 1: Negotiate, names NTLM: 401, goes on\n";
        assert!(probed.text.contains(kept), "{}", probed.text);
    }
}

#[test]
fn a_front_with_tls_succeeds() {
    let pki = Pki::new();
    let origin = origin("A", BOTH);
    let front = Front::start(&format!(
        "upstream mail {{ server {}; ntlm; }}
         server {{ listen 127.0.0.1:0 ssl; {} location / {{ proxy_pass http://mail; }} }}",
        origin.addr(),
        pki.directives("mail"),
    ));
    let url = format!("https://{}/", front.addr(0));
    let probed = Probe::new(&url)
        .trusting(&pki.path("mail.pem"))
        .alice()
        .succeeds(LOGS_IN);
    for said in [
        "TLS 1.3, certificate of \"CN=",
        "message 3, bound to the certificate: 200",
    ] {
        assert!(probed.text.contains(said), "{}", probed.text);
    }
    assert!(!probed.text.contains("http/2"), "{}", probed.text);
}

/// Extended Protection, by somebody else's acceptor.
#[test]
fn a_login_is_bound_to_the_certificate_that_is_shown() {
    let pki = Pki::new();
    for policy in ["accept", "require"] {
        let origin = binding::Origin::start_that(&pki, "mail", policy);
        let front = Front::start(&binding::configuration(&pki, "mail", origin.addr, ""));
        for addr in [origin.addr, front.addr(0)] {
            let url = format!("https://{addr}/");
            let probe = Probe::new(&url).trusting(&pki.path("mail.pem"));
            probe.alice().succeeds(LOGS_IN);
        }
    }
}
