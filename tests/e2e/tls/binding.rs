//! Extended Protection: a login is bound to the certificate that the client saw, and the front says whether that can work.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ntlm_origin::Kerberos;
use ntlm_origin::programs::RealClient;

use super::pki::Pki;
use super::servers::Terminator;
use crate::front::{Front, eventually};
use crate::metrics::{LOCATION, await_number, page};
use crate::prefix::free_address;
use crate::site::{alice, origins};

/// `tests/clients/channel_binding_origin.py`
pub(crate) struct Origin {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Origin {
    pub(crate) fn start(pki: &Pki, called: &str) -> Self {
        Self::start_that(pki, called, "accept")
    }

    /// One that takes no login that is bound to nothing: `require`. `accept` takes those of clients that say so.
    pub(crate) fn start_that(pki: &Pki, called: &str, policy: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = std::env::var_os("NTLMFRONT_TEST_PYTHON");
        let python = python.unwrap_or_else(|| root.join(".venv/bin/python").into());
        let users = pki.write("users", "EXAMPLE:alice:wonderland\n");
        let mut child = Command::new(python)
            .arg(root.join("tests/clients/channel_binding_origin.py"))
            .arg(pki.path(&format!("{called}.pem")))
            .arg(pki.path(&format!("{called}.key")))
            .arg(policy)
            .env("NTLM_USER_FILE", users)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap();
        Self {
            child,
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A front with TLS on both legs that shows the certificate called `shows`.
pub(crate) fn configuration(pki: &Pki, shows: &str, server: SocketAddr, more: &str) -> String {
    format!(
        "upstream mail {{ server {server}; ntlm; }}
         server {{ listen 127.0.0.1:0 ssl; server_name mail.test; {} {more} location / {{ proxy_pass https://mail; }} }}
         {LOCATION}",
        pki.directives(shows)
    )
}

const SAME: &str = "[notice] channel binding: server \"mail.test\" and ADDR of upstream \"mail\" show the same certificate";
const OTHER: &str = "[warn] channel binding: server \"mail.test\" and ADDR of upstream \"mail\" do not fit: it shows another certificate (";

#[track_caller]
fn says(front: &Front, said: &str, addr: SocketAddr) {
    // As in the log, but for the process behind the level.
    let (level, message) = said.split_once("] ").unwrap();
    let message = message.replace("ADDR", &addr.to_string());
    eventually(said, || {
        let log = front.error_log();
        let found = log
            .lines()
            .any(|line| line.contains(level) && line.contains(&message));
        found.then_some(())
    });
}

#[test]
fn a_bound_login_works_with_the_server_s_certificate_and_with_no_other() {
    let mut pki = Pki::new();
    pki.add("inside", &["mail.test"]);
    let origin = Origin::start(&pki, "mail");
    for (shows, status, said) in [("mail", 200, SAME), ("inside", 401, OTHER)] {
        let front = Front::start(&configuration(&pki, shows, origin.addr, ""));
        says(&front, said, origin.addr);
        let (state, mismatches) = if said == SAME {
            ("same", 0.0)
        } else {
            ("different", 1.0)
        };
        let state = format!("channel_binding_state{{state=\"{state}\"}}");
        eventually("the comparison is shown", || {
            page(front.addr(1))
                .contains("channel_binding_state{")
                .then_some(())
        });
        await_number(front.addr(1), &state, 1.0);
        await_number(
            front.addr(1),
            "channel_binding_mismatches_total",
            mismatches,
        );
        let url = format!("https://{}/whoami", front.addr(0));
        let ca = pki.path(&format!("{shows}.pem"));
        // They bind their logins without being told to.
        for client in [RealClient::RequestsNtlm, RealClient::CurlNtlm] {
            // curl's own NTLM knows no channel binding, so that it never gets in.
            let expected = if client == RealClient::CurlNtlm {
                401
            } else {
                status
            };
            let answers = client.get_trusting(Some(&ca), &url, &alice(), 2).unwrap();
            for answer in answers {
                assert_eq!(answer.status, expected, "{client:?} with {shows}");
                let identity = (expected == 200).then_some("EXAMPLE\\alice");
                assert_eq!(answer.identity.as_deref(), identity);
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_said_at_the_start_and_at_reloads() {
    let mut pki = Pki::new();
    pki.add("inside", &["mail.test"]);
    let origin = origins(1, Kerberos::Declined).remove(0);
    let (mail, inside) = (
        Terminator::before(origin.addr(), &pki, "mail", None),
        Terminator::before(origin.addr(), &pki, "inside", None),
    );
    let front = Front::start(&configuration(&pki, "mail", mail.addr, ""));
    says(&front, SAME, mail.addr);
    front.reload(&configuration(&pki, "mail", inside.addr, ""));
    says(&front, OTHER, inside.addr);
    // Nobody answers there: it may come later.
    let gone = free_address();
    front.reload(&configuration(
        &pki,
        "mail",
        gone,
        "ntlm_channel_binding require;",
    ));
    let unknown = "[notice] channel binding: server \"mail.test\" and ADDR of upstream \"mail\" cannot be compared yet (111: Connection refused)";
    says(&front, unknown, gone);
    // What is required and does not fit changes nothing.
    let bad = configuration(&pki, "mail", inside.addr, "ntlm_channel_binding require;");
    std::fs::write(front.path().join("front.conf"), whole(&bad)).unwrap();
    front.signal(nix::sys::signal::Signal::SIGHUP);
    says(
        &front,
        "[emerg] channel binding: server \"mail.test\" and ADDR of upstream \"mail\" do not fit",
        inside.addr,
    );
    // Where TLS ends at the front, or begins there, nothing can be bound.
    let ends =
        configuration(&pki, "mail", origin.addr(), "").replace("https://mail", "http://mail");
    front.reload(&ends);
    says(
        &front,
        "[warn] channel binding: server \"mail.test\" and the servers of upstream \"mail\" do not fit: TLS ends at the front",
        gone,
    );
    front.reload(&configuration(&pki, "mail", mail.addr, "").replace(" ssl;", ";"));
    says(
        &front,
        "[warn] channel binding: server \"mail.test\" and ADDR of upstream \"mail\" do not fit: clients are spoken to without TLS",
        mail.addr,
    );
}

/// Stands for the directives of the certificate `mail`.
const MAIL_TOO: &str = "mail too";

fn whole(http: &str) -> String {
    format!("daemon off; error_log logs/error.log info; events {{}} http {{ {http} }}")
}

#[test]
fn the_test_of_a_configuration_says_it_too() {
    let mut pki = Pki::new();
    pki.add("inside", &["mail.test"]);
    pki.add_ending("ending", 5);
    let origin = origins(1, Kerberos::Declined).remove(0);
    let inside = Terminator::before(origin.addr(), &pki, "inside", None);
    for (shows, more, succeeds, said) in [
        ("inside", "ntlm_channel_binding require;", true, ""),
        ("mail", "", true, "[warn] channel binding: "),
        (
            "mail",
            "ntlm_channel_binding require;",
            false,
            "[emerg] channel binding: ",
        ),
        ("mail", "ntlm_channel_binding off;", true, ""),
        // One location is enough to insist.
        (
            "mail",
            "location /a { proxy_pass https://mail; } location /b { ntlm_channel_binding require; proxy_pass https://mail; }",
            false,
            "[emerg] channel binding: ",
        ),
        // Some clients would be shown the other one.
        (
            "inside",
            MAIL_TOO,
            true,
            "it shows one of the 2 certificates that clients are shown",
        ),
        (
            "ending",
            "",
            true,
            "[warn] the certificate of \"mail.test\" (\"CN=rcgen self signed cert\") expires in 4 days",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("logs")).unwrap();
        let more = more.replace(MAIL_TOO, &pki.directives("mail"));
        let text = whole(&configuration(
            &pki,
            shows,
            inside.addr,
            &format!("proxy_ssl_verify on; {more}"),
        ));
        std::fs::write(directory.path().join("front.conf"), text).unwrap();
        let run = |arguments: &[&str]| {
            let mut command = crate::front::command(directory.path());
            command
                .args(arguments)
                .stderr(Stdio::piped())
                .output()
                .unwrap()
        };
        let output = run(&["-t"]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), succeeds, "{text}");
        assert!(
            text.contains(said) && (!said.is_empty() || !text.contains("channel binding")),
            "{text}"
        );
        if !succeeds {
            let output = run(&[]);
            assert!(!output.status.success(), "it started");
        }
    }
}
