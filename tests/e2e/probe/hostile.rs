//! What is probed may be anything: it is named, and neither steers the terminal nor keeps the probe.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ntlm_origin::ntlm::challenge;

use super::parts::{Probe, Scripted, answer};

#[test]
fn what_is_no_http() {
    for (said, problem) in [
        (
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "what is answered is no HTTP/1.1 (",
        ),
        ("\x1b[31mHTTP\r\n\r\n", "what is answered is no HTTP/1.1 ("),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "what is answered is no HTTP/1.1 (",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "what is answered is no HTTP/1.1 (",
        ),
        (
            "HTTP/1.1 401 No\r\nWWW-Authenticate:\r\nContent-Length: 0\r\n\r\n",
            "401 comes without WWW-Authenticate",
        ),
        (
            "HTTP/1.1 401 No\r\nWWW-Authenticate: \x1b[2J\x07, x\r\nContent-Length: 0\r\n\r\n",
            "",
        ),
    ] {
        let server = Scripted::saying(said);
        let probed = Probe::new(&server.url()).alice().run();
        assert!(!probed.fine, "{said:?}");
        assert!(
            probed.text.contains(&format!("\nProblem: {problem}")),
            "{said:?}: {}",
            probed.text
        );
    }
    let silent = Scripted::start(|| Box::new(|_| None));
    let problem = "a request gets no answer (the connection was closed).";
    Probe::new(&silent.url()).finds(&[problem]);
}

#[test]
fn answers_without_an_end() {
    let head = "HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 9999999999\r\n\r\n";
    let page =
        Scripted::start(move || Box::new(move |_| Some(format!("{head}{}", "x".repeat(17 << 20)))));
    Probe::new(&page.url()).finds(&["the answer is too large to be read to its end."]);
    let head = Scripted::start(|| {
        Box::new(|_| Some(format!("HTTP/1.1 401 No\r\nX: {}", "x".repeat(1 << 20))))
    });
    Probe::new(&head.url()).finds(&["what is answered is no HTTP/1.1 (head too large)."]);
}

#[test]
fn names_in_answers_do_not_steer_the_terminal() {
    let redirecting = Scripted::saying(
        "HTTP/1.1 302 Found\r\nLocation: http://a/\u{202e}'; rm -rf '\r\nContent-Length: 0\r\n\r\n",
    );
    let probed = Probe::new(&redirecting.url()).run();
    assert!(!probed.fine, "{}", probed.text);
    let command = "ntlmfront --probe 'http://a/\\xE2\\x80\\xAE%27; rm -rf %27'\n";
    assert!(probed.text.contains(command), "{}", probed.text);
    let challenging = Scripted::start(|| {
        Box::new(|authorization| {
            let offer = "WWW-Authenticate: NTLM\r\n";
            let Some((_, token)) = authorization.and_then(|value| value.split_once(' ')) else {
                return Some(answer(401, offer));
            };
            let token = BASE64_STANDARD.decode(token).unwrap();
            let names = ("\x1b[2J\r\nFine: x", "\u{202e}\0");
            let Ok(challenged) = challenge(&token, names.0, names.1) else {
                return Some(answer(401, offer));
            };
            let text = BASE64_STANDARD.encode(challenged.message());
            Some(answer(401, &format!("WWW-Authenticate: NTLM {text}\r\n")))
        })
    });
    let probed = Probe::new(&challenging.url()).alice().run();
    assert!(
        !probed.fine && probed.text.contains("\\x1B[2J"),
        "{}",
        probed.text
    );
    assert!(!probed.text.contains("\nFine"), "{}", probed.text);
}

/// A challenge that is none, or asks for more than fits into a message.
#[test]
fn challenges_that_cannot_be_answered() {
    let mut huge = b"NTLMSSP\0\x02\0\0\0".to_vec();
    huge.resize(56, 0);
    huge[40..48].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 56, 0, 0, 0]);
    huge.extend([1, 0, 0xf0, 0xff]);
    huge.resize(56 + 0xffff, 1);
    for message in [
        b"NTLMSSP\0\x02\0\0\0".to_vec(),
        b"NTLMSSP\0\x03\0\0\0".to_vec(),
        huge,
    ] {
        let text = BASE64_STANDARD.encode(message);
        let server = Scripted::start(move || {
            let text = text.clone();
            Box::new(move |authorization| {
                let token = authorization.map_or(String::new(), |_| format!(" {text}"));
                Some(answer(401, &format!("WWW-Authenticate: NTLM{token}\r\n")))
            })
        });
        let problem = "the challenge is none that NTLM version 2 can answer.";
        Probe::new(&server.url()).alice().finds(&[problem]);
    }
}
