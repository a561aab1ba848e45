//! The rules of a pin's life, as tables.

use super::*;
use crate::pin::Scheme;

const GROUP: GroupId = GroupId(7);

const NTLM: Option<Credentials> = Some(Credentials {
    scheme: Scheme::Ntlm,
    ntlm_message: true,
    message_type: Some(1),
});
const TICKET: Option<Credentials> = Some(Credentials {
    scheme: Scheme::Negotiate,
    ntlm_message: false,
    message_type: None,
});
const PLAIN: Option<Credentials> = None;

fn limits() -> Limits {
    Limits {
        max_requests: 3,
        ..Limits::default()
    }
}

fn answer(status: u16, persistent_auth_false: bool) -> Answer {
    Answer {
        status,
        challenge: false,
        persistent_auth_false,
    }
}

/// What a plan says, without the pins in it.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    OnPin,
    Bind(Option<EndReason>),
    Plain(Option<EndReason>),
}

fn said(plan: Plan<&'static str>) -> (Said, Option<Pinned<&'static str>>) {
    match plan {
        Plan::OnPin(pin) => (Said::OnPin, Some(pin)),
        Plan::Bind { ended } => (Said::Bind(ended.map(|(_, reason)| reason)), None),
        Plan::Plain { ended } => (Said::Plain(ended.map(|(_, reason)| reason)), None),
    }
}

/// A client connection with a pin whose first request had credentials and was answered with `status`.
fn pinned(status: u16, persistent_auth_false: bool, now: Instant) -> Pins<&'static str> {
    let mut pins = Pins::default();
    let pin = pins.bind("upstream", GROUP, 1, now, 0);
    pins.answered(pin, true, answer(status, persistent_auth_false), now);
    pins
}

#[test]
fn without_a_pin_credentials_bind_and_others_do_not() {
    let now = Instant::now();
    for (credentials, expected) in [
        (NTLM, Said::Bind(None)),
        (TICKET, Said::Bind(None)),
        (PLAIN, Said::Plain(None)),
    ] {
        let mut pins = Pins::default();
        assert_eq!(
            said(pins.plan(GROUP, credentials, &limits(), now)).0,
            expected
        );
        assert!(pins.is_empty());
        let mut elsewhere = pinned(200, false, now);
        let plan = elsewhere.plan(GroupId(8), credentials, &limits(), now);
        assert_eq!(said(plan).0, expected, "another group's pin says nothing");
        assert_eq!(elsewhere.iter().count(), 1);
    }
}

#[test]
fn the_next_request_on_a_pin() {
    let same = Limits {
        reauth_same: true,
        ..limits()
    };
    let new_login = Said::Bind(Some(EndReason::NewCredentials));
    for (what, status, each_request, credentials, limits, expected) in [
        (
            "leg while handshaking",
            401,
            false,
            NTLM,
            limits(),
            Said::OnPin,
        ),
        (
            "proxy's leg while handshaking",
            407,
            false,
            NTLM,
            limits(),
            Said::OnPin,
        ),
        (
            "ticket while handshaking",
            401,
            false,
            TICKET,
            limits(),
            Said::OnPin,
        ),
        (
            "plain while handshaking",
            401,
            false,
            PLAIN,
            limits(),
            Said::OnPin,
        ),
        (
            "plain on established",
            200,
            false,
            PLAIN,
            limits(),
            Said::OnPin,
        ),
        (
            "plain after a refusal of something",
            403,
            false,
            PLAIN,
            limits(),
            Said::OnPin,
        ),
        ("new login", 200, false, NTLM, limits(), new_login),
        (
            "new ticket",
            500,
            false,
            TICKET,
            limits(),
            Said::Bind(Some(EndReason::NewCredentials)),
        ),
        (
            "ticket for each request",
            200,
            true,
            TICKET,
            limits(),
            Said::OnPin,
        ),
        (
            "NTLM where each request authenticates",
            200,
            true,
            NTLM,
            limits(),
            Said::OnPin,
        ),
        (
            "ticket with reauth same",
            200,
            false,
            TICKET,
            same,
            Said::OnPin,
        ),
        (
            "NTLM with reauth same",
            200,
            false,
            NTLM,
            same,
            Said::Bind(Some(EndReason::NewCredentials)),
        ),
    ] {
        let now = Instant::now();
        let mut pins = pinned(status, each_request, now);
        let (plan, pin) = said(pins.plan(GROUP, credentials, &limits, now));
        assert_eq!(plan, expected, "{what}");
        assert!(pins.is_empty(), "{what}: the pin is out");
        assert_eq!(
            pin.map(|pin| pin.requests()),
            (plan == Said::OnPin).then_some(2),
            "{what}"
        );
    }
}

#[test]
fn answers_move_the_state() {
    use State::{Established, Handshaking};
    // (credentials, status, state after it)
    for answers in [
        [
            (true, 401, Handshaking),
            (true, 401, Handshaking),
            (true, 200, Established),
        ],
        [
            (true, 200, Established),
            (false, 401, Established),
            (false, 407, Established),
        ],
        [
            (true, 401, Handshaking),
            (false, 200, Handshaking),
            (true, 302, Established),
        ],
        [
            (true, 407, Handshaking),
            (false, 401, Handshaking),
            (true, 403, Established),
        ],
        [
            (true, 500, Established),
            (true, 401, Handshaking),
            (true, 404, Established),
        ],
    ] {
        let now = Instant::now();
        let mut pins = Pins::default();
        let mut pin = pins.bind("upstream", GROUP, 1, now, 0);
        for (credentials, status, expected) in answers {
            // Each answer lets any credentials stay, so that the walk needs one pin only.
            let resting = pins.answered(pin, credentials, answer(status, true), now);
            assert_eq!(resting.state(), expected, "{answers:?}");
            let carried = if credentials { TICKET } else { PLAIN };
            let plan = pins.plan(GROUP, carried, &Limits::default(), now);
            pin = said(plan).1.expect("the pin is kept");
        }
    }
}

#[test]
fn the_last_answer_says_whether_each_request_authenticates() {
    let now = Instant::now();
    let mut pins = pinned(200, true, now);
    let pin = said(pins.plan(GROUP, PLAIN, &limits(), now)).1;
    pins.answered(pin.expect("plain stays"), false, answer(200, false), now);
    let plan = said(pins.plan(GROUP, TICKET, &limits(), now)).0;
    assert_eq!(plan, Said::Bind(Some(EndReason::NewCredentials)));
}

#[test]
fn age_and_number_end_established_pins_only() {
    let opened = Instant::now();
    let hour = Duration::from_secs(3600);
    let long = Limits {
        max_requests: 1000,
        ..limits()
    };
    let shorter = Limits {
        max_age: hour / 2,
        ..long
    };
    // `sent` counts the request that is planned.
    for (what, status, sent, age, credentials, limits, expected) in [
        (
            "within both",
            200,
            3,
            hour / 2,
            PLAIN,
            limits(),
            Said::OnPin,
        ),
        (
            "one too many",
            200,
            4,
            hour / 2,
            PLAIN,
            limits(),
            Said::Plain(Some(EndReason::Requests)),
        ),
        (
            "too old",
            200,
            2,
            hour,
            PLAIN,
            long,
            Said::Plain(Some(EndReason::Age)),
        ),
        (
            "ticket, too old",
            200,
            2,
            hour,
            TICKET,
            long,
            Said::Bind(Some(EndReason::Age)),
        ),
        (
            "ticket, one too many",
            200,
            4,
            hour / 2,
            TICKET,
            limits(),
            Said::Bind(Some(EndReason::Requests)),
        ),
        (
            "limits lowered by a reload",
            200,
            2,
            hour / 2,
            PLAIN,
            shorter,
            Said::Plain(Some(EndReason::Age)),
        ),
        (
            "limits raised by a reload",
            200,
            4,
            hour / 2,
            PLAIN,
            long,
            Said::OnPin,
        ),
        (
            "handshaking, one too many",
            401,
            4,
            hour / 2,
            NTLM,
            limits(),
            Said::OnPin,
        ),
        (
            "handshaking, too old",
            401,
            2,
            hour,
            NTLM,
            long,
            Said::OnPin,
        ),
        (
            "handshaking, plain, too old",
            401,
            2,
            hour,
            PLAIN,
            long,
            Said::OnPin,
        ),
    ] {
        let mut pins = Pins::default();
        // The connection served others before it became a pin, which counts as well.
        let pin = pins.bind("upstream", GROUP, 1, opened, sent - 2);
        pins.answered(pin, true, answer(status, true), opened);
        let plan = pins.plan(GROUP, credentials, &limits, opened + age);
        assert_eq!(said(plan).0, expected, "{what}");
    }
}

#[test]
fn a_new_login_is_no_limits_work() {
    let opened = Instant::now();
    let mut pins = pinned(200, false, opened);
    let plan = pins.plan(GROUP, NTLM, &limits(), opened + Duration::from_secs(9999));
    assert_eq!(said(plan).0, Said::Bind(Some(EndReason::NewCredentials)));
}

#[test]
fn idle_time_ends_established_pins_only() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let limits_of = |pin: &Pinned<&str>| Limits {
        idle_timeout: Duration::from_secs(u64::from(pin.group().0)),
        ..Limits::default()
    };
    let mut pins = Pins::default();
    for (group, status) in [(5, 401), (10, 200), (20, 200)] {
        let pin = pins.bind("upstream", GroupId(group), 1, start, 0);
        pins.answered(pin, true, answer(status, false), at(1));
    }
    assert_eq!(pins.next_expiry(limits_of), Some(at(11)));
    assert!(pins.expired(limits_of, at(10)).is_none());
    let expired = pins.expired(limits_of, at(11)).map(|pin| pin.group());
    assert_eq!(expired, Some(GroupId(10)));
    assert!(pins.expired(limits_of, at(11)).is_none());
    assert_eq!(pins.next_expiry(limits_of), Some(at(21)));
    let expired = pins.expired(limits_of, at(9999)).map(|pin| pin.group());
    assert_eq!(expired, Some(GroupId(20)));
    assert_eq!(pins.next_expiry(limits_of), None);
    assert!(pins.expired(limits_of, at(9999)).is_none());
    assert_eq!(pins.iter().count(), 1, "the handshaking one stays");
    assert!(pins.remove(GroupId(5)).is_some());
    assert!(pins.remove(GroupId(5)).is_none());
    assert!(pins.is_empty());
}

#[test]
fn limits_without_end_do_not_overflow() {
    let now = Instant::now();
    let endless = Limits {
        idle_timeout: Duration::MAX,
        max_age: Duration::MAX,
        max_requests: u64::MAX,
        ..Limits::default()
    };
    let mut pins = pinned(200, false, now);
    assert_eq!(pins.next_expiry(|_| endless), None);
    assert!(pins.expired(|_| endless, now).is_none());
    let plan = pins.plan(GROUP, PLAIN, &endless, now);
    assert_eq!(said(plan).0, Said::OnPin);
}

#[test]
fn every_reason_has_its_own_word() {
    let words = EndReason::ALL.map(EndReason::word);
    let expected =
        "client_closed upstream_closed idle age requests evicted new_credentials error shutdown";
    assert_eq!(words.join(" "), expected);
}

#[test]
fn one_pin_too_many_ends_the_least_recently_used_whatever_its_state() {
    let start = Instant::now();
    let mut pins = Pins::default();
    for (n, status, second) in [(1, 200, 3), (2, 401, 1), (3, 200, 2)] {
        let pin = pins.bind("upstream", GroupId(n), n.into(), start, 0);
        let at = start + Duration::from_secs(second);
        pins.answered(pin, true, answer(status, false), at);
    }
    let ended: Vec<_> = [3, 1, 1, 0, 0]
        .into_iter()
        .map(|limit| pins.overflow(limit).map(|pin| pin.group().0))
        .collect();
    assert_eq!(ended, [None, Some(2), Some(3), Some(1), None]);
}

#[test]
fn only_answers_to_credentials_say_whether_a_login_is_being_judged() {
    let now = Instant::now();
    let mut pins = Pins::default();
    let mut pin = pins.bind("upstream", GROUP, 1, now, 0);
    assert!(!pin.is_challenged());
    for (credentials, status, challenge, challenged) in [
        // Kerberos declined, then NTLM with a wrong password, and once more.
        (NTLM, 401, false, false),
        (NTLM, 401, true, true),
        (PLAIN, 200, false, true),
        (NTLM, 401, false, false),
        (NTLM, 401, true, true),
        (NTLM, 200, false, false),
    ] {
        let answer = Answer {
            status,
            challenge,
            persistent_auth_false: true,
        };
        let resting = pins.answered(pin, credentials.is_some(), answer, now);
        assert_eq!(resting.is_challenged(), challenged);
        let plan = pins.plan(GROUP, PLAIN, &Limits::default(), now);
        pin = said(plan).1.expect("the pin is kept");
    }
}
