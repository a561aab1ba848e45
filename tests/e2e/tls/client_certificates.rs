//! Certificates that clients show.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rustls::version::{TLS12, TLS13};

use crate::front::{Front, command};
use crate::nginx::Nginx;
use crate::peer::Peer;
use crate::prefix::free_address;

use super::pki::Pki;

/// Who asks, by the name of the certificate.
const PEOPLE: [&str; 6] = ["nobody", "good", "expired", "revoked", "stranger", "self"];

/// Certificates of [`PEOPLE`], all but the stranger's from the authority `people`.
fn people() -> Pki {
    let mut pki = Pki::new();
    pki.add("open", &["open.test"]);
    pki.add("strict", &["strict.test"]);
    pki.add("self", &["self.test"]);
    let people = pki.authority("people");
    people.sign(&pki, "good", 0xabc, 400);
    people.sign(&pki, "expired", 2, -3);
    people.sign(&pki, "revoked", 4711, 400);
    people.revoke(&pki, "people.crl", 4711);
    pki.authority("others").sign(&pki, "stranger", 5, 400);
    pki
}

/// A client with somebody's certificate that asks for `name`.
fn client(pki: &Pki, addr: SocketAddr, who: &str, name: &str, tls13: bool) -> Peer {
    let versions = if tls13 { &[&TLS13] } else { &[&TLS12] };
    let config = match who {
        "nobody" => pki.config(versions),
        who => pki.config_of(who, versions),
    };
    Peer::connect_tls(addr, name, config).expect("a handshake")
}

/// `ssl_*` for clients' certificates.
fn rules(pki: &Pki, demand: &str) -> String {
    let (root, crl) = (pki.path("people-root.pem"), pki.path("people.crl"));
    format!(
        "ssl_verify_client {demand}; ssl_client_certificate {}; ssl_crl {};",
        root.display(),
        crl.display()
    )
}

#[test]
fn who_is_let_in() {
    let pki = people();
    let page = |title: &str| format!("<title>400 {title}</title>");
    let (wrong, none) = (
        page("The SSL certificate error"),
        page("No required SSL certificate was sent"),
    );
    let verdicts = [
        "NONE",
        "SUCCESS",
        "FAILED:certificate has expired",
        "FAILED:certificate revoked",
        "FAILED:unable to verify the first certificate",
        "FAILED:self-signed certificate",
    ];
    for (demand, let_in) in [
        ("on", [false, true, false, false, false, false]),
        ("optional", [true, true, false, false, false, false]),
        ("optional_no_ca", [true, true, false, false, true, true]),
        ("off", [true; 6]),
    ] {
        let front = Front::start(&format!(
            "server {{ listen 127.0.0.1:0 ssl; {} {} location / {{ return 200 'let in: $ssl_client_verify'; }} }}",
            pki.directives("mail"),
            rules(&pki, demand)
        ));
        for tls13 in [true, false] {
            for (nth, who) in PEOPLE.into_iter().enumerate() {
                let mut client = client(&pki, front.addr(0), who, "mail.test", tls13);
                let answer = client.get("/");
                let said = answer.text();
                let expected = match (let_in[nth], who) {
                    (true, _) if demand == "off" => "let in: NONE".to_owned(),
                    (true, _) => format!("let in: {}", verdicts[nth]),
                    (false, "nobody") => none.clone(),
                    (false, _) => wrong.clone(),
                };
                assert!(said.contains(&expected), "{demand} {who}: {said}");
                if !let_in[nth] {
                    assert_eq!(answer.status(), 400, "{demand} {who}");
                    client.ends();
                }
            }
        }
        if demand == "on" {
            for expected in [
                "client sent no required SSL certificate while reading client request headers",
                "client SSL certificate verify error: (10:certificate has expired) while",
                "client SSL certificate verify error: (23:certificate revoked) while",
                "client SSL certificate verify error: (21:unable to verify the first certificate) while",
            ] {
                front.error_log_with(expected, 1);
            }
        }
    }
}

#[test]
fn resumed_sessions_are_looked_at_again() {
    let pki = people();
    for tls13 in [true, false] {
        let front = Front::start(&format!(
            "server {{ listen 127.0.0.1:0 ssl; {} {} return 200 '$ssl_session_reused $ssl_client_verify $ssl_client_serial'; }}",
            pki.directives("mail"),
            rules(&pki, "on")
        ));
        let versions = if tls13 { &[&TLS13] } else { &[&TLS12] };
        let config = pki.config_of("good", versions);
        for expected in [". SUCCESS 0ABC", "r SUCCESS 0ABC"] {
            let connected = Peer::connect_tls(front.addr(0), "mail.test", config.clone());
            assert_eq!(connected.expect("a handshake").get("/").text(), expected);
        }
    }
}

/// A certificate that one server asked for is nothing to another, and one that asks for none is not the way around.
#[test]
fn the_host_has_to_be_of_the_server_that_was_negotiated() {
    let pki = people();
    let at = free_address();
    let server = |name: &str, rules: &str| {
        format!(
            "server {{ listen {at} ssl; server_name {name}.test; {} {rules} location / {{ return 200 {name}; }} }}",
            pki.directives(name)
        )
    };
    let strict = rules(&pki, "on");
    let front = Front::start(&format!(
        "{} {} {} server {{ listen {at} ssl; server_name also.test; {} {strict} location / {{ return 200 also; }} }}
         server {{ listen {at} ssl; server_name bare.test; location / {{ return 200 bare; }} }}",
        server("mail", ""),
        server("open", ""),
        server("strict", &strict),
        pki.directives("strict"),
    ));
    for (who, asked, host, expected) in [
        ("good", "strict.test", "strict.test", "strict"),
        // The same rules: as good as the same server.
        ("good", "strict.test", "also.test", "also"),
        ("good", "strict.test", "open.test", "421"),
        ("good", "open.test", "strict.test", "421"),
        ("good", "open.test", "also.test", "421"),
        ("nobody", "open.test", "strict.test", "421"),
        ("nobody", "mail.test", "open.test", "open"),
        // Without a name nobody was deceived, unless somebody would have been asked.
        ("good", "127.0.0.1", "open.test", "open"),
        ("good", "127.0.0.1", "strict.test", "421"),
        // A server without a certificate goes by the default server's rules.
        ("nobody", "mail.test", "bare.test", "bare"),
        ("good", "strict.test", "bare.test", "421"),
    ] {
        let mut client = client(&pki, at, who, asked, true);
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let answer = client.answer();
        let said = match answer.status() {
            200 => answer.text(),
            status => status.to_string(),
        };
        assert_eq!(said, expected, "{who} asks {asked} for {host}");
        if expected == "421" {
            // The connection is good for what it was made for.
            client.send("GET / HTTP/1.1\r\nHost: mail.test\r\nConnection: close\r\n\r\n");
            let status = client.answer().status();
            assert!([200, 421].contains(&status));
        }
    }
    front.error_log_with(
        "client attempted to request the server name different from the one that was negotiated",
        1,
    );
}

/// What curl gets with somebody's certificate.
pub(crate) fn curl(pki: &Pki, addr: SocketAddr, who: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("curl");
    command
        .args([
            "--disable",
            "--silent",
            "--show-error",
            "--insecure",
            "--noproxy",
            "*",
        ])
        .args(["--max-time", "60", "--connect-to"])
        .arg(format!("mail.test:443:{addr}"))
        .args(arguments);
    if who != "nobody" {
        command
            .arg("--cert")
            .arg(pki.path(&format!("{who}.pem")))
            .arg("--key")
            .arg(pki.path(&format!("{who}.key")));
    }
    let output = command.arg("https://mail.test/").output().expect("curl");
    assert!(
        output.status.success(),
        "{who} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Every variable has the value that nginx gives it, and what is refused is refused with the same page.
#[test]
fn variables_are_nginx_s() {
    let pki = people();
    let names = [
        "protocol",
        "cipher",
        "ciphers",
        "curves",
        "server_name",
        "session_reused",
        "early_data",
        "alpn_protocol",
        "client_verify",
        "client_raw_cert",
        "client_cert",
        "client_escaped_cert",
        "client_fingerprint",
        "client_s_dn",
        "client_i_dn",
        "client_s_dn_legacy",
        "client_i_dn_legacy",
        "client_serial",
        "client_v_start",
        "client_v_end",
        "client_v_remain",
    ];
    let text: String = names
        .iter()
        .map(|name| format!("{name}=$ssl_{name}\n"))
        .collect();
    for demand in ["on", "optional", "optional_no_ca", "off"] {
        // With a list, OpenSSL finds fault with who signed himself because nobody revokes for him.
        let mut rules = rules(&pki, demand);
        if demand == "optional_no_ca" {
            rules.truncate(rules.find("ssl_crl").expect("a list"));
        }
        let server = format!(
            "{} {} ssl_protocols TLSv1.2 TLSv1.3; server_tokens off;
             location / {{ return 200 '{text}'; }}",
            pki.directives("mail"),
            rules
        );
        let front = Front::start(&format!("server {{ listen 127.0.0.1:0 ssl; {server} }}"));
        let nginx = Nginx::start(&format!("server {{ listen ADDR ssl; {server} }}"));
        for who in PEOPLE {
            for arguments in [&["--tlsv1.3"][..], &["--tls-max", "1.2"]] {
                let [ours, theirs] =
                    [front.addr(0), nginx.addr].map(|addr| curl(&pki, addr, who, arguments));
                let theirs = theirs.replace("nginx", "ntlmfront");
                for (ours, theirs) in ours.lines().zip(theirs.lines()) {
                    assert_eq!(ours, theirs, "{demand} {who} {arguments:?}");
                }
                assert_eq!(ours, theirs, "{demand} {who} {arguments:?}");
            }
        }
    }
}

#[test]
fn a_session_of_tls12_has_an_id_where_there_is_a_cache() {
    let pki = people();
    let front = Front::start(&format!(
        "server {{ listen 127.0.0.1:0 ssl; {} ssl_session_tickets off; ssl_session_cache shared:a:1m;
           return 200 '$ssl_session_reused $ssl_session_id'; }}",
        pki.directives("mail"),
    ));
    let config = pki.config(&[&TLS12]);
    let said = [".", "r"].map(|expected| {
        let connected = Peer::connect_tls(front.addr(0), "mail.test", config.clone());
        let said = connected.expect("a handshake").get("/").text();
        let (reused, id) = said.split_once(' ').expect("two words");
        assert_eq!(reused, expected);
        id.to_owned()
    });
    assert_eq!(said[0].len(), 64, "{said:?}");
    assert_eq!(said[0], said[1]);
    let mut client = client(&pki, front.addr(0), "nobody", "mail.test", true);
    assert_eq!(client.get("/").text(), ". ");
}

#[test]
fn what_is_wrong_with_the_rules_is_said() {
    let pki = people();
    let mail = pki.directives("mail");
    let (root, key) = (pki.path("people-root.pem"), pki.path("good.key"));
    for (text, expected) in [
        (
            format!("{mail} ssl_verify_client on;"),
            "no \"ssl_client_certificate\" or \"ssl_trusted_certificate\" for \"ssl_verify_client\" in",
        ),
        (
            format!("{mail} ssl_verify_client optional_no_ca;"),
            "test is successful",
        ),
        (
            format!(
                "{mail} ssl_verify_client on; ssl_trusted_certificate {};",
                root.display()
            ),
            "test is successful",
        ),
        (
            format!(
                "{mail} ssl_verify_client on; ssl_client_certificate {};",
                key.display()
            ),
            "(there is none in it)",
        ),
        (
            format!(
                "{mail} ssl_verify_client on; ssl_client_certificate {0}; ssl_crl {0};",
                root.display()
            ),
            "cannot load revocations",
        ),
        (
            format!("{mail} ssl_verify_client sometimes;"),
            "invalid value \"sometimes\" in \"ssl_verify_client\" directive",
        ),
        (
            format!(
                "ssl_verify_client on; ssl_client_certificate {};",
                root.display()
            ),
            "\"ssl_verify_client\" has no effect in a server without \"ssl_certificate\"",
        ),
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(directory.path().join("logs")).expect("a directory");
        let text = format!("events {{}} http {{ server {{ listen 127.0.0.1:0 ssl; {text} }} }}");
        std::fs::write(directory.path().join("front.conf"), text).expect("a file");
        let output = command(directory.path())
            .arg("-t")
            .stderr(Stdio::piped())
            .output()
            .expect("the front");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
