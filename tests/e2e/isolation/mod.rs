//! Isolation at scale: the random plan of `tests/plan`, carried out by the clients of `tests/crowd` over real sockets.
//!
//! `ISOLATION_REQUESTS` asks for more, `ISOLATION_SEED` for a certain plan, as a failure prints it:
//! `ISOLATION_REQUESTS=1000000 cargo test --release --test e2e isolation:: -- --nocapture`.

mod leaving;
mod mutant;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ntlm_origin::Origin;
use ntlm_origin::client::Connection;

use crate::crowd::books::{Findings, Holding, Violation};
use crate::crowd::clients::{IDENTITIES, World, carry_out};
use crate::crowd::{PIPE_ENDS_KEPT, SERVERS, connections, groups, ntlm, origins};
use crate::front::{Front, PATIENCE, eventually};
use crate::plan::{Action, Limits, Shape, Weights};

const GROUPS: usize = 3;
/// A front in whose `http` block group n is at `/n/`, with `in_upstreams` in every `upstream`.
fn configuration(origins: &[Origin], in_upstreams: &str) -> String {
    let (upstreams, locations) = groups(origins, in_upstreams);
    format!(
        "access_log off;
         keepalive_requests 1000000000;
         keepalive_timeout 10m;
         {upstreams}
         server {{
             listen 127.0.0.1:0;
             location = /status {{ stub_status; }}
             {locations}
         }}"
    )
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number in the environment variable"))
}

fn seed() -> u64 {
    from_environment("ISOLATION_SEED").unwrap_or(2026)
}

/// Fails if the front did anything that it must not; otherwise says what it did.
fn judge(what: &str, seed: u64, findings: &Findings, elapsed: Duration) {
    let Findings {
        requests,
        answers,
        connections,
        logins,
        recognised,
        ended,
        ..
    } = findings;
    println!(
        "{what}: {requests} requests, {answers} answers, {connections} connections, {logins} logins, \
         {recognised} recognised without credentials, {ended} logins ended by limits and servers, \
         {} met a server's closing {:?}, {} wrong identities, {elapsed:.1?}",
        findings.excused(),
        findings.excused,
        findings.count(Violation::WrongIdentity) + findings.count(Violation::CameBack),
    );
    let violations = findings.violations();
    assert!(violations.is_empty(), "ISOLATION_SEED={seed}\n{violations}");
    // A run in which nothing happened would keep every promise.
    assert!(*logins > requests / 40, "{logins} logins");
    assert!(*recognised > requests / 50, "{recognised} recognised");
}

/// Nothing may be left of clients that are gone.
fn check_nothing_left(front: &Front, origins: &[Origin], sockets: usize, pipes: usize) {
    eventually("no upstream connection is left", || {
        (connections(origins) == 0).then_some(())
    });
    eventually("no socket is left", || {
        (front.sockets() == sockets).then_some(())
    });
    let kept = front.pipes() - pipes;
    assert!(kept <= PIPE_ENDS_KEPT, "{kept} ends of pipes are left");
}

/// Accepted, handled, requests; active connections.
async fn status(front: &Front) -> ([u64; 3], u64) {
    let mut connection = Connection::open(front.addr(0))
        .await
        .expect("the front accepts");
    let page = connection
        .get("/status")
        .await
        .expect("the status page")
        .text();
    let numbers: Vec<u64> = page
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    ([numbers[1], numbers[2], numbers[3]], numbers[0])
}

/// The front counted what the clients did.
async fn check_counters(front: &Front, findings: &Findings) {
    let deadline = Instant::now() + PATIENCE;
    let mut asked = 0;
    let requests = loop {
        let ([accepted, handled, requests], active) = status(front).await;
        // The connections that ask for the counters are among them.
        asked += 1;
        assert_eq!(accepted, findings.connections + asked);
        assert_eq!(handled, accepted);
        // Each worker brings its gauges up to date now and then.
        if active == 1 {
            break requests - asked;
        }
        assert!(Instant::now() < deadline, "{active} connections are active");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // What a client sent before it left may not have been read.
    assert!(
        (findings.answers..=findings.requests).contains(&requests),
        "{requests} requests counted, {} sent, {} answered",
        findings.requests,
        findings.answers
    );
}

#[tokio::test]
async fn with_limits_reloads_and_closing_servers_a_login_serves_nobody_else() {
    let requests = from_environment("ISOLATION_REQUESTS").unwrap_or(100_000);
    let seed = seed();
    let origins = Arc::new(origins(GROUPS));
    let limits = Limits {
        connections: 20,
        timeout_millis: 500,
        time_millis: 5_000,
        requests: 30,
        reauth_same: false,
    };
    let front = Arc::new(Front::start(&configuration(&origins, &ntlm(&limits))));
    let (sockets, pipes) = (front.sockets(), front.pipes());
    let world = World::new(front.addr(0), GROUPS, Holding::UntilEnded);
    let shape = Shape {
        clients: 160,
        identities: IDENTITIES,
        groups: GROUPS,
        anonymous_one_in: 4,
        weights: Weights {
            request: 6_500,
            login: 3_000,
            abandon: 120,
            close: 150,
            server_closes: 30,
            pause: 1,
            reload: 4,
        },
    };
    let mut reloads = 0;
    let mut reloading: Option<tokio::task::JoinHandle<()>> = None;
    let began = Instant::now();
    let operator = async |action| match action {
        Action::Reload { limits } => {
            if let Some(before) = reloading.take() {
                before.await.expect("the reload before");
            }
            reloads += 1;
            let (front, text) = (Arc::clone(&front), configuration(&origins, &ntlm(&limits)));
            reloading = Some(tokio::task::spawn_blocking(move || front.reload(&text)));
        }
        // With the others kept waiting, idle times run out; then a group's servers lose patience, too.
        Action::Pause { millis } => {
            tokio::time::sleep(Duration::from_millis(millis / 10)).await;
            let group = usize::try_from(millis).unwrap_or_default() % GROUPS;
            world.closes(group);
            origins[group * SERVERS..][..SERVERS]
                .iter()
                .for_each(Origin::close_idle);
        }
        Action::Client { .. } | Action::ServerCloses { .. } => {}
    };
    let gone = carry_out(&world, seed, shape, until(requests), operator).await;
    if let Some(last) = reloading {
        last.await.expect("the last reload");
    }
    check_nothing_left(&front, &origins, sockets, pipes);
    println!(
        "{reloads} reloads; nothing was left {:.1?} after the last client",
        gone.elapsed()
    );
    let findings = world.findings.take();
    judge("with limits", seed, &findings, gone - began);
    assert!(findings.ended > requests / 200, "{} ended", findings.ended);
    let excused = findings.excused();
    assert!(excused < requests / 50, "{excused} met a server's closing");
    check_counters(&front, &findings).await;
}

#[tokio::test]
async fn without_limits_a_login_holds_until_the_next() {
    let requests = from_environment("ISOLATION_REQUESTS").unwrap_or(100_000) / 5;
    let seed = seed();
    let origins = origins(GROUPS);
    let front = Front::start(&configuration(
        &origins,
        "ntlm 1000; ntlm_requests 1000000; keepalive_timeout 300ms;",
    ));
    let (sockets, pipes) = (front.sockets(), front.pipes());
    let world = World::new(front.addr(0), GROUPS, Holding::Always);
    let began = Instant::now();
    let gone = carry_out(
        &world,
        seed,
        faithful(100, GROUPS),
        until(requests),
        async |_| {},
    )
    .await;
    check_nothing_left(&front, &origins, sockets, pipes);
    let findings = world.findings.take();
    judge("without limits", seed, &findings, gone - began);
    assert_eq!((findings.ended, findings.excused()), (0, 0));
    check_counters(&front, &findings).await;
}

/// Until so many requests were sent.
fn until(requests: u64) -> impl Fn(&Findings) -> bool {
    move |findings| findings.requests >= requests
}

/// Clients only: no limits, nothing closes.
fn faithful(clients: usize, groups: usize) -> Shape {
    Shape {
        clients,
        identities: IDENTITIES,
        groups,
        anonymous_one_in: 4,
        weights: Weights {
            request: 6_500,
            login: 3_000,
            abandon: 120,
            close: 150,
            server_closes: 0,
            pause: 0,
            reload: 0,
        },
    }
}
