//! A second opinion: what the front sends on is read by other parsers, which have to see in it what was meant, once, and
//! where it ends.
//!
//! Clients send valid requests of all shapes, requests that are nearly valid, and mutations of both and of a corpus of
//! requests that are known to have been read in two ways. What the front sends to the server for those that it accepts is
//! taken down as it came, a sentinel request is put behind it, and h11, Node's llhttp, hyper and nginx read the whole: each
//! has to see exactly these two requests, with the same methods, targets and bodies. The other way round servers
//! send responses, and what clients get is read by the first three.
//!
//! `DIFFERENTIAL_MESSAGES` says how many messages are sent each way; `DIFFERENTIAL_SEED` repeats a run: the number of an exchange
//! and the seed make its message. The full run, a few minutes:
//!
//! ```sh
//! DIFFERENTIAL_MESSAGES=1000000 cargo test --release --test differential -- --nocapture
//! ```

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

mod answers;
mod case;
mod corpus;
mod excuses;
#[path = "../e2e/front.rs"]
#[allow(dead_code)] // a part of what other tests need
mod front;
mod grammar;
mod lane;
mod message;
mod mutation;
mod parsers;
mod requests;
mod responses;
mod verify;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use ntlmfront::http::refusal::Refusal;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use case::Case;
use front::Front;
use lane::Lane;
use requests::Requests;
use responses::Responses;
use verify::{Failures, Tally};

/// Messages each way, unless `DIFFERENTIAL_MESSAGES` says something else.
const MESSAGES: u64 = 12_000;

/// Exchanges at once.
const LANES: usize = 32;

/// Sets of parsers at once.
const VERIFIERS: usize = 2;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// What an exchange is made from.
fn rng(seed: u64, number: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// A front with a server of its own for each lane.
fn start(lanes: usize) -> (Front, Vec<Lane>) {
    let listeners: Vec<_> = (0..lanes)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    // What a connection has served is no reason to close it here, and no failure is one to avoid a server.
    let mut http = "client_max_body_size 0; keepalive_requests 1000000000; keepalive_time 24h; keepalive_timeout 1h;\n\
                    large_client_header_buffers 4 64k;\n"
        .to_owned();
    for (index, listener) in listeners.iter().enumerate() {
        let address = listener.local_addr().expect("an address");
        let _ = writeln!(
            http,
            "upstream lane{index} {{ server {address} max_fails=0; keepalive 4; keepalive_requests 1000000000; }}
             server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://lane{index}; proxy_set_header Host $host; }} }}"
        );
    }
    let front = Front::start(&http);
    let lanes = listeners.into_iter().enumerate();
    let lanes = lanes
        .map(|(index, listener)| Lane::new(listener, front.addr(index)))
        .collect();
    (front, lanes)
}

/// Runs `drive` for each lane, and the parsers beside them. `drive` is given the numbers of the exchanges to make, one after the
/// other.
fn run<C: Send>(
    name: &str,
    with_nginx: bool,
    drive: impl Fn(Lane, SyncSender<Vec<Case>>, &Failures, u64, &mut dyn FnMut() -> Option<u64>) -> C
    + Sync,
) -> (Vec<C>, Tally, Front) {
    let seed = number("DIFFERENTIAL_SEED").unwrap_or_else(|| rand::rng().random());
    let messages = number("DIFFERENTIAL_MESSAGES").unwrap_or(MESSAGES);
    let (front, lanes) = start(LANES);
    let failures = Failures::default();
    let next = AtomicU64::new(0);
    let (sender, receiver) = sync_channel(4 * VERIFIERS);
    let receiver = Mutex::new(receiver);
    let (counts, tally) = std::thread::scope(|scope| {
        let verifiers: Vec<_> = (0..VERIFIERS)
            .map(|_| scope.spawn(|| verify::verify(&receiver, with_nginx, &failures)))
            .collect();
        let drivers: Vec<_> = lanes
            .into_iter()
            .map(|lane| {
                let sender = sender.clone();
                let (failures, next, drive) = (&failures, &next, &drive);
                scope.spawn(move || {
                    let mut numbers = || {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        (number < messages && !failures.any()).then_some(number)
                    };
                    drive(lane, sender, failures, seed, &mut numbers)
                })
            })
            .collect();
        drop(sender);
        let counts = drivers
            .into_iter()
            .map(|driver| driver.join().expect("no panic"))
            .collect();
        let mut tally = Tally::default();
        for verifier in verifiers {
            tally.add(&verifier.join().expect("no panic"));
        }
        (counts, tally)
    });
    failures.report(seed);
    println!("{name}: seed {seed}");
    (counts, tally, front)
}

#[test]
fn requests_are_the_same_to_everybody() {
    let begun = Instant::now();
    let corpus = corpus::requests();
    let (counts, tally, front) = run("requests", true, |lane, out, failures, seed, numbers| {
        let mut requests = Requests {
            lane,
            failures,
            out,
            batch: Vec::new(),
            counts: requests::Counts::default(),
            arrived: 0,
        };
        while let Some(number) = numbers() {
            let rng = &mut rng(seed, number);
            let sent = match number {
                // The corpus as it is comes first.
                number if number < corpus.len() as u64 => grammar::Sent {
                    bytes: corpus[number as usize].clone(),
                    cut: usize::MAX,
                    meant: grammar::Meant::Anything,
                },
                _ => match rng.random_range(0..20) {
                    0..10 => grammar::valid(rng, number),
                    10..12 => mutation::refused(rng, number),
                    _ => mutation::mutated(rng, number, &corpus),
                },
            };
            requests.exchange(number, &sent);
        }
        requests.flush();
        requests.counts
    });
    let total = |of: fn(&requests::Counts) -> u64| counts.iter().map(of).sum::<u64>();
    let mut refusals = refusals(&front);
    refusals.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    println!(
        "requests: {} messages sent, {} accepted, {} refused, {} never complete; {} requests compared, {} of them cut, {} again with a plain first line; \
         0 disagreements; excused: {:?}; refused: {:?}; {:.1} s",
        total(|counts| counts.messages),
        total(|counts| counts.accepted),
        total(|counts| counts.refused),
        total(|counts| counts.incomplete),
        tally.cases,
        tally.cut,
        tally.tamed,
        tally.excused,
        refusals,
        begun.elapsed().as_secs_f64(),
    );
    assert!(total(|counts| counts.accepted) > 0 && total(|counts| counts.refused) > 0);
}

#[test]
fn responses_are_the_same_to_everybody() {
    let begun = Instant::now();
    let corpus = corpus::responses();
    let (counts, tally, _front) = run("responses", false, |lane, out, failures, seed, numbers| {
        let mut responses = Responses {
            lane,
            failures,
            out,
            batch: Vec::new(),
            counts: responses::Counts::default(),
        };
        while let Some(number) = numbers() {
            let rng = &mut rng(seed, number);
            let mut answer = match rng.random_range(0..2) {
                0 => answers::valid(rng),
                _ => answers::mutated(rng, &corpus),
            };
            if let Some(bytes) = corpus.get(number as usize) {
                answer = answers::Answer {
                    bytes: bytes.clone(),
                    cut: 0,
                    meant: answers::Meant::Anything,
                    ..answer
                };
            }
            responses.exchange(number, &answer);
        }
        responses.flush();
        responses.counts
    });
    let total = |of: fn(&responses::Counts) -> u64| counts.iter().map(of).sum::<u64>();
    println!(
        "responses: {} sent, {} came whole, {} became 502, {} were cut; {} compared; 0 disagreements; excused: {:?}; {:.1} s",
        total(|counts| counts.messages),
        total(|counts| counts.whole),
        total(|counts| counts.replaced),
        total(|counts| counts.cut),
        tally.cases,
        tally.excused,
        begun.elapsed().as_secs_f64(),
    );
    assert!(total(|counts| counts.whole) > 0 && total(|counts| counts.replaced) > 0);
}

/// How often the front's log gives each reason for a refusal.
fn refusals(front: &Front) -> Vec<(&'static str, u64)> {
    const REFUSED: &str = "client sent invalid request";
    let mut counts = BTreeMap::<&str, u64>::new();
    let log = File::open(front.path().join("logs/error.log")).expect("the front's log");
    for line in BufReader::new(log).split(b'\n') {
        let line = line.expect("the log can be read");
        let line = String::from_utf8_lossy(&line);
        let Some((_, why)) = line.split_once(REFUSED) else {
            continue;
        };
        let said = why.split_once(", client: ").map_or(why, |(said, _)| said);
        let is_it = |refusal: &&Refusal| {
            said.contains(refusal.word()) || said.contains(&refusal.to_string())
        };
        let word = Refusal::ALL
            .iter()
            .find(is_it)
            .map_or("before the head was whole", |refusal| refusal.word());
        *counts.entry(word).or_default() += 1;
    }
    counts.into_iter().collect()
}
