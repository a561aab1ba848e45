//! What `metrics` shows of TLS and of certificates.

use std::time::SystemTime;

use ntlm_origin::Kerberos;
use rustls::version::{TLS12, TLS13};

use super::pki::Pki;
use super::servers::Terminator;
use crate::front::Front;
use crate::metrics::{LOCATION, await_number, number, page};
use crate::peer::Peer;
use crate::prefix::free_address;
use crate::site::origins;

#[test]
fn handshakes_are_counted_by_side_protocol_and_end() {
    let mut pki = Pki::new();
    pki.add("front", &["front.test"]);
    let origin = origins(1, Kerberos::Declined).remove(0);
    let inside = Terminator::before(origin.addr(), &pki, "mail", None);
    let picky = Terminator::before(origin.addr(), &pki, "mail", Some("front"));
    let address = free_address();
    let front = Front::start_main(
        "worker_processes 1;",
        &format!(
            "upstream u {{ server {}; keepalive 0; }} upstream picky {{ server {}; }}
             server {{ listen {address} ssl; server_name other.test; ssl_reject_handshake on; }}
             server {{
                 listen {address} ssl default_server; server_name mail.test; ssl_handshake_timeout 1s; {}
                 location / {{ proxy_pass https://u; }}
                 location /picky {{ proxy_pass https://picky; }}
             }} {LOCATION}",
            inside.addr,
            picky.addr,
            pki.directives("mail")
        ),
    );
    let metrics = front.addr(1);
    for versions in [&TLS12, &TLS13].map(|version| pki.config(&[version])) {
        for _ in 0..2 {
            let config = versions.clone();
            let mut client = Peer::connect_tls(front.addr(0), "mail.test", config).unwrap();
            assert_eq!(client.get("/whoami").status(), 200);
        }
    }
    assert_eq!(pki.client(&front, "mail.test").get("/picky").status(), 502);
    assert!(pki.try_client(&front, "other.test").is_err());
    let mut garbage = Peer::connect(front.addr(0));
    garbage
        .writer()
        .write_all(b"\x16\x03\x01\x00\x04GARB")
        .unwrap();
    let now = page(metrics);
    let done = |side: &str, protocol: &str, resumed: bool| {
        let labels = format!("side=\"{side}\",protocol=\"{protocol}\",resumed=\"{resumed}\"");
        number(&now, &format!("tls_handshakes_total{{{labels}}}"))
    };
    assert_eq!(done("client", "TLSv1.2", false), 1.0);
    assert_eq!(done("client", "TLSv1.2", true), 1.0);
    assert_eq!(done("client", "TLSv1.3", false), 2.0);
    assert_eq!(done("client", "TLSv1.3", true), 1.0);
    assert_eq!(done("upstream", "TLSv1.2", false), 0.0);
    // One to the server that goes on to ask for a certificate.
    assert_eq!(done("upstream", "TLSv1.3", false), 2.0);
    assert_eq!(done("upstream", "TLSv1.3", true), 3.0);
    let failed = |side: &str, reason: &str| {
        format!("tls_handshake_failures_total{{side=\"{side}\",reason=\"{reason}\"}}")
    };
    await_number(metrics, &failed("client", "rejected"), 1.0);
    await_number(metrics, &failed("client", "tls"), 1.0);
    // One that says nothing more, and one that leaves.
    let hello = |peer: &mut Peer| {
        peer.writer()
            .write_all(b"\x16\x03\x01\x01\x00\x01")
            .unwrap()
    };
    let mut silent = Peer::connect(front.addr(0));
    hello(&mut silent);
    let mut leaving = Peer::connect(front.addr(0));
    hello(&mut leaving);
    leaving.finish();
    await_number(metrics, &failed("client", "closed"), 1.0);
    await_number(metrics, &failed("client", "timed_out"), 1.0);
}

#[test]
fn certificates_are_shown_with_their_ends_and_whether_they_fit() {
    let mut pki = Pki::new();
    pki.add_ending("ending", 5);
    let origin = origins(1, Kerberos::Declined).remove(0);
    let [same, other] =
        ["ending", "mail"].map(|called| Terminator::before(origin.addr(), &pki, called, None));
    let gone = free_address();
    let configuration = |servers: &str, scheme: &str| {
        format!(
            "upstream mail {{ {servers} ntlm; }}
             server {{ listen 127.0.0.1:0 ssl; server_name mail.test; {} location / {{ proxy_pass {scheme}://mail; }} }}
             {LOCATION}",
            pki.directives("ending")
        )
    };
    let (same_addr, other_addr) = (same.addr, other.addr);
    let all = format!("server {same_addr}; server {other_addr}; server {gone};");
    let front = Front::start(&configuration(&all, "https"));
    let metrics = front.addr(1);
    let binding = |peer: &str, state: &str| {
        format!(
            "channel_binding_state{{server=\"mail.test\",upstream=\"mail\",upstream_server=\"{peer}\",state=\"{state}\"}}"
        )
    };
    // Before the first comparison there is nothing to be shown.
    crate::front::eventually("the comparison", || {
        page(metrics)
            .contains("\nntlmfront_channel_binding_state{")
            .then_some(())
    });
    let (same, other, gone) = (
        same_addr.to_string(),
        other_addr.to_string(),
        gone.to_string(),
    );
    let now = page(metrics);
    for (peer, state) in [(&same, "same"), (&other, "different"), (&gone, "unknown")] {
        for known in ["same", "different", "unknown"] {
            let expected = f64::from(u8::from(known == state));
            assert_eq!(
                number(&now, &binding(peer, known)),
                expected,
                "{peer} {known}"
            );
        }
    }
    assert_eq!(number(&now, "channel_binding_mismatches_total"), 1.0);
    let clock = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let days = |sample: &str| (number(&now, sample) - clock.as_secs_f64()) / 86_400.0;
    let ours = days("certificate_expiry_timestamp_seconds{server=\"mail.test\"}");
    let theirs = days(&format!(
        "upstream_certificate_expiry_timestamp_seconds{{upstream=\"mail\",server=\"{same}\"}}"
    ));
    assert!((4.9..=5.0).contains(&ours), "{ours} days");
    assert!((4.9..=5.0).contains(&theirs), "{theirs} days");
    // A reload that has TLS end at the front: another mismatch.
    front.reload(&configuration(
        &format!("server {};", origin.addr()),
        "http",
    ));
    await_number(metrics, "channel_binding_mismatches_total", 2.0);
    let now = page(metrics);
    assert_eq!(number(&now, &binding("all", "different")), 1.0);
    assert!(!now.contains(&binding(&other, "different")), "{now}");
}
