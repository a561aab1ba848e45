//! Servers and fronts whose kind of failure no program at hand has.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ntlm_origin::ntlm::{Challenged, challenge};

use super::LOGS_IN;
use super::parts::{Answers, Probe, Scripted, answer};
use crate::front::Front;
use crate::site::alice;
use crate::tls::pki::Pki;

const OFFER: &str = "WWW-Authenticate: NTLM\r\n";

fn token(authorization: &str) -> Vec<u8> {
    let (_, token) = authorization.split_once(' ').unwrap();
    BASE64_STANDARD.decode(token).unwrap()
}

/// What is answered to the first message, and the state that the last one is checked against.
fn challenged(token: &[u8]) -> (Challenged, String) {
    let challenged = challenge(token, "EXAMPLE", "SCRIPT").unwrap();
    let text = BASE64_STANDARD.encode(challenged.message());
    let text = answer(401, &format!("WWW-Authenticate: NTLM {text}\r\n"));
    (challenged, text)
}

/// NTLM as it should be, where `taken` answers the login and `later` what follows it.
fn connection(taken: &'static str, later: u16) -> Answers {
    let mut pending: Option<Challenged> = None;
    let mut logged_in = false;
    Box::new(move |authorization| {
        let Some(authorization) = authorization else {
            return Some(match logged_in {
                true => answer(later, OFFER),
                false => answer(401, OFFER),
            });
        };
        let token = token(authorization);
        Some(match pending.take() {
            Some(challenged) if token[8] == 3 => {
                logged_in = challenged.authenticate(&token, &[alice()]).is_ok();
                match logged_in {
                    true => answer(200, taken),
                    false => answer(401, OFFER),
                }
            }
            _ => {
                let (challenged, text) = challenged(&token);
                pending = Some(challenged);
                text
            }
        })
    })
}

#[test]
fn what_follows_a_login() {
    let fine = Scripted::start(|| connection("", 200));
    Probe::new(&fine.url()).alice().succeeds(LOGS_IN);
    let each = Scripted::start(|| connection("Persistent-Auth: false\r\n", 401));
    let probed = Probe::new(&each.url()).alice().succeeds(LOGS_IN);
    let note = "Note: the server asks each request to log in (Persistent-Auth: false).";
    assert!(probed.text.contains(note), "{}", probed.text);
    let forgetful = Scripted::start(|| connection("", 401));
    Probe::new(&forgetful.url())
        .alice()
        .finds(&["the login does not last: the next request on the same connection is asked"]);
    let closing = Scripted::start(|| connection("Connection: close\r\n", 200));
    Probe::new(&closing.url())
        .alice()
        .finds(&["the answer to the login ends the connection, and with it the login."]);
}

#[test]
fn a_last_leg_that_is_answered_by_another_challenge() {
    let anew = Scripted::start(|| {
        Box::new(|authorization| {
            Some(match authorization {
                None => answer(401, OFFER),
                // Whichever message it is.
                Some(_) => challenged(&ntlm_origin::ntlm::type1()).1,
            })
        })
    });
    Probe::new(&anew.url()).alice().finds(&[
        "the login is not kept on one connection: its last leg is answered by another challenge",
    ]);
}

/// All that carries credentials goes by one server connection, and the rest by others: strangers never meet a login.
#[test]
fn logins_that_share_one_server_connection() {
    let pending: Arc<Mutex<Option<Challenged>>> = Arc::default();
    let sharing = Scripted::start(move || {
        let pending = Arc::clone(&pending);
        let mut logged_in = false;
        Box::new(move |authorization| {
            let Some(authorization) = authorization else {
                return Some(answer(if logged_in { 200 } else { 401 }, OFFER));
            };
            let token = token(authorization);
            let mut pending = pending.lock().unwrap();
            Some(match pending.take() {
                Some(challenged) if token[8] == 3 => {
                    logged_in = challenged.authenticate(&token, &[alice()]).is_ok();
                    answer(if logged_in { 200 } else { 401 }, OFFER)
                }
                _ => {
                    let (challenged, text) = challenged(&token);
                    *pending = Some(challenged);
                    text
                }
            })
        })
    });
    let probed = Probe::new(&sharing.url()).alice().finds(&[
        "the login is not kept on one connection: it succeeds alone, and fails when another one is made at the same time",
    ]);
    assert!(
        probed.text.contains("two at once refused\n"),
        "{}",
        probed.text
    );
}

/// The connection of the second of two logins ends in place of an answer, as that of any request may.
#[test]
fn a_connection_that_is_lost_is_no_login_that_is_not_kept() {
    let proofs: Arc<AtomicUsize> = Arc::default();
    let losing = Scripted::start(move || {
        let proofs = Arc::clone(&proofs);
        let mut inner = connection("", 200);
        Box::new(move |authorization| {
            let proves = authorization.is_some_and(|value| token(value)[8] == 3);
            if proves && proofs.fetch_add(1, Ordering::Relaxed) == 2 {
                return None;
            }
            inner(authorization)
        })
    });
    Probe::new(&losing.url())
        .alice()
        .finds(&["a request gets no answer (the connection was closed)."]);
}

/// Somebody is logged in on one of the server connections that everybody shares.
#[test]
fn sessions_of_others() {
    for let_in in [0, 1] {
        let requests: Arc<Mutex<u32>> = Arc::default();
        let shared = Scripted::start(move || {
            let requests = Arc::clone(&requests);
            Box::new(move |_| {
                let mut number = requests.lock().unwrap();
                *number += 1;
                let status = if *number % 3 == let_in { 200 } else { 401 };
                Some(answer(status, OFFER))
            })
        });
        let probed = Probe::new(&shared.url()).finds(&[
            "UNSAFE: logins are inherited, or one of several servers asks for none: of 1",
        ]);
        let first = if let_in == 1 { "200" } else { "401" };
        let line = format!("anonymous   {first}");
        assert!(probed.text.contains(&line), "{}", probed.text);
    }
}

/// Nobody's login has to do with who is refused only where many come at once.
#[test]
fn limits_that_a_crowd_meets_are_no_logins() {
    // 403 also where the login itself has no right.
    for (login, status) in [(200, 403), (200, 404), (200, 302), (403, 403)] {
        let limited = Scripted::start_counting(move |others| {
            let mut inner = connection("", 200);
            Box::new(move |authorization| match others {
                0..4 => match inner(authorization)? {
                    answered if answered.starts_with("HTTP/1.1 200 ") => Some(answer(login, "")),
                    answered => Some(answered),
                },
                _ => Some(answer(status, "")),
            })
        });
        let probed = Probe::new(&limited.url()).alice().succeeds(LOGS_IN);
        let strangers = " asked to log in, 0 let in, ";
        assert!(probed.text.contains(strangers), "{}", probed.text);
    }
}

/// Some are refused and others asked to log in, however few come.
#[test]
fn sessions_of_others_who_have_no_right() {
    let connections: Arc<AtomicUsize> = Arc::default();
    let shared = Scripted::start(move || {
        let number = connections.fetch_add(1, Ordering::Relaxed);
        // What is asked first is asked to log in. The first connection only looks whether there is a server.
        let status = if number % 2 == 1 { 401 } else { 403 };
        Box::new(move |_| Some(answer(status, OFFER)))
    });
    let probed = Probe::new(&shared.url())
        .finds(&["UNSAFE: logins are inherited, or one of several servers asks for none: of 16"]);
    assert!(probed.text.contains("anonymous   401"), "{}", probed.text);
}

/// Who has logged in and has no right is inherited like anybody else.
#[test]
fn a_login_without_a_right_that_others_get() {
    let logged_in: Arc<AtomicBool> = Arc::default();
    let shared = Scripted::start(move || {
        let logged_in = Arc::clone(&logged_in);
        let mut inner = connection("", 200);
        Box::new(move |authorization| {
            let asks = authorization.is_none();
            let answered = match asks && logged_in.load(Ordering::Relaxed) {
                true => answer(200, ""),
                false => inner(authorization)?,
            };
            if !answered.starts_with("HTTP/1.1 200 ") {
                return Some(answered);
            }
            logged_in.store(true, Ordering::Relaxed);
            Some(answer(403, ""))
        })
    });
    let problem = "UNSAFE: logins are inherited: of 64 connections that never sent credentials, 64 were let in.";
    Probe::new(&shared.url()).alice().finds(&[problem]);
}

/// The server connection of a login is given to whoever asks next, and the login is gone from it then.
#[test]
fn a_login_that_others_take() {
    let owner: Arc<Mutex<u64>> = Arc::default();
    let numbers: Arc<Mutex<u64>> = Arc::default();
    let taking = Scripted::start(move || {
        let mut number = numbers.lock().unwrap();
        *number += 1;
        let (number, owner) = (*number, Arc::clone(&owner));
        let mut inner = connection("", 200);
        Box::new(move |authorization| {
            let mut owner = owner.lock().unwrap();
            if authorization.is_some() {
                *owner = number;
                return inner(authorization);
            }
            match *owner == number {
                true => inner(None),
                // Whoever it was has lost it.
                false => {
                    *owner = 0;
                    Some(answer(401, OFFER))
                }
            }
        })
    });
    Probe::new(&taking.url()).alice().finds(&[
        "the login is not kept on one connection: it was gone when others had asked for something",
    ]);
}

/// A server that answers proofs of passwords so, and counts them.
fn answering_proofs(proofs: &Arc<AtomicUsize>, last: Option<u16>) -> Scripted {
    let proofs = Arc::clone(proofs);
    Scripted::start(move || {
        let proofs = Arc::clone(&proofs);
        Box::new(move |authorization| {
            let Some(authorization) = authorization else {
                return Some(answer(401, OFFER));
            };
            let token = token(authorization);
            match token[8] {
                3 => {
                    proofs.fetch_add(1, Ordering::Relaxed);
                    last.map(|status| answer(status, OFFER))
                }
                _ => Some(challenged(&token).1),
            }
        })
    })
}

/// However a try at the server behind ends, it may count towards the account's lock.
#[test]
fn no_account_is_tried_more_than_twice() {
    let pki = Pki::new();
    for (last, why) in [
        (None, "no answer (the connection was closed)"),
        (Some(503), "no verdict"),
    ] {
        let proofs: Arc<AtomicUsize> = Arc::default();
        let refusing = answering_proofs(&proofs, Some(401));
        let behind = answering_proofs(&proofs, last);
        let front = Front::start(&format!(
            "upstream mail {{ server {}; ntlm; }}
             server {{ listen 127.0.0.1:0 ssl; {} location / {{ proxy_pass http://mail; }} }}",
            refusing.addr,
            pki.directives("mail"),
        ));
        let url = format!("https://{}/", front.addr(0));
        let probe = Probe::new(&url).trusting(&pki.path("mail.pem")).alice();
        let probed = probe
            .behind(&behind.url())
            .finds(&["the login is refused, 401 after its last leg"]);
        let note = format!("Note: the server behind could not be compared: {why}.\n");
        assert!(probed.text.contains(&note), "{}", probed.text);
        assert!(probed.text.contains("Extended Protection"));
        assert_eq!(proofs.load(Ordering::Relaxed), 2, "{}", probed.text);
    }
}

#[test]
fn legs_without_a_verdict() {
    for (last, problem) in [
        (
            Some(503),
            "a leg of the login is answered 503, which is no verdict on it.",
        ),
        (
            Some(431),
            "a leg of the login is answered 431, which is no verdict on it.",
        ),
        (Some(407), "a forward proxy answers"),
        (
            None,
            "a request gets no answer (the connection was closed).",
        ),
    ] {
        let server = Scripted::start(move || {
            Box::new(move |authorization| {
                let Some(authorization) = authorization else {
                    return Some(answer(401, OFFER));
                };
                let token = token(authorization);
                match token[8] {
                    3 => last.map(|status| answer(status, "")),
                    _ => Some(challenged(&token).1),
                }
            })
        });
        Probe::new(&server.url()).alice().finds(&[problem]);
    }
}
