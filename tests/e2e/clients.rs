//! Clients that people use, and a server that somebody else wrote, on either side of the front.
#![allow(clippy::unwrap_used)] // what fails in a helper fails its test

use ntlm_origin::programs::{Apache, RealClient};
use ntlm_origin::{Kerberos, User};

use crate::front::Front;
use crate::site::{Site, alice, configuration, origins};

const REQUESTS: usize = 4;

fn mistaken_alice() -> User {
    User::new("EXAMPLE", "alice", "Wonderland")
}

/// Runs a client with the right and with a wrong password, and checks what it got.
fn check(client: RealClient, front: &Front) {
    let url = front.url("/private/whoami");
    let answers = client.get(&url, &alice(), REQUESTS).unwrap();
    for answer in &answers {
        assert_eq!(
            (answer.status, answer.identity.as_deref()),
            (200, Some("EXAMPLE\\alice")),
            "{client:?}"
        );
        assert!(answer.connection.is_some());
        assert_eq!(
            answer.connection, answers[0].connection,
            "{client:?}: one connection"
        );
    }
    let refused = client.get(&url, &mistaken_alice(), 1).unwrap();
    assert_eq!(
        (refused[0].status, refused[0].identity.as_deref()),
        (401, None),
        "{client:?}"
    );
}

fn works_with_the_origin(client: RealClient) {
    let site = Site::of(origins(2, Kerberos::Declined), "ntlm; keepalive 16;");
    check(client, &site.front);
    let logged_in: Vec<usize> = site
        .origins
        .iter()
        .map(|origin| {
            let log = origin.log();
            // Browsers ask for more than they are told to.
            let asked = log.iter().filter(|entry| entry.path.ends_with("/whoami"));
            asked.filter(|entry| entry.identity.is_some()).count()
        })
        .collect();
    assert_eq!(logged_in.iter().sum::<usize>(), REQUESTS, "{client:?}");
    assert!(
        logged_in.contains(&0),
        "{client:?} stayed on one server: {logged_in:?}"
    );
    // The client's process is gone, and with it whatever it had.
    let log = site.front.error_log();
    assert!(!log.contains("[error]"), "{client:?}: {log}");
}

macro_rules! with_the_origin {
    ($($test:ident $client:ident)*) => {$(
        #[test]
        fn $test() {
            works_with_the_origin(RealClient::$client);
        }
    )*};
}

with_the_origin! {
    curl_with_ntlm CurlNtlm
    curl_with_negotiate CurlNegotiate
    requests_ntlm RequestsNtlm
    httpx_ntlm HttpxNtlm
    pyspnego_with_ntlm PyspnegoNtlm
    pyspnego_with_negotiate PyspnegoNegotiate
    chromium Chromium
}

#[test]
fn apache_behind_the_front_knows_them() {
    let apaches = [0, 1].map(|_| Apache::start(&[alice()]).unwrap());
    let front = Front::start(&format!(
        "upstream mail {{ server {}; server {}; ntlm; keepalive 16; }}
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://mail; }} }}",
        apaches[0].addr(),
        apaches[1].addr(),
    ));
    std::thread::scope(|scope| {
        for client in RealClient::known_to_apache() {
            let front = &front;
            scope.spawn(move || check(client, front));
        }
    });
    let nobody = std::process::Command::new("curl")
        .args([
            "--disable",
            "--silent",
            "--noproxy",
            "*",
            "--head",
            &front.url("/whoami"),
        ])
        .output()
        .unwrap();
    let head = String::from_utf8_lossy(&nobody.stdout).to_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(!head.contains("x-identity"), "{head}");
}

/// A body that is not to be sent twice, with a 100 to wait for; `--anyauth` begins without credentials.
#[test]
fn curl_sends_a_large_body_with_its_login() {
    for how in ["--ntlm", "--anyauth"] {
        let servers = origins(2, Kerberos::Declined);
        let http = format!(
            "client_max_body_size 4m; {}",
            configuration(&servers, "ntlm; keepalive 16;")
        );
        let site = Site::configured(servers, "worker_processes 1;", &http);
        let body = site.front.path().join("body");
        std::fs::write(&body, vec![b'x'; 3_000_000]).unwrap();
        // For curl's Negotiate, which has no password of its own.
        let users = site.front.path().join("users");
        std::fs::write(&users, "EXAMPLE:alice:wonderland\n").unwrap();
        let output = std::process::Command::new("curl")
            .env("HOME", site.front.path())
            .env("NTLM_USER_FILE", users)
            .args([
                "--disable",
                "--silent",
                "--show-error",
                "--max-time",
                "60",
                how,
            ])
            .args(["--noproxy", "*", "--user", "EXAMPLE\\alice:wonderland"])
            .args(["--write-out", "%{http_code} %header{x-identity}\n"])
            .arg("--data-binary")
            .arg(format!("@{}", body.display()))
            .arg(site.front.url("/private/echo"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{how}: {errors}");
        assert!(text.contains("\nbody-bytes: 3000000\n"), "{how}: {text}");
        assert!(text.ends_with("200 EXAMPLE\\alice\n"), "{how}: {text}");
    }
}
