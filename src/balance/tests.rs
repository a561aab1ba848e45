//! The methods and the failure counts, as tables. The rows of digits were answered by nginx 1.22.1 with the same
//! servers and keys: the digit is the index of the server.

use std::net::{Ipv4Addr, Ipv6Addr};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

fn peer(server: &str, weight: u32) -> Peer {
    Peer {
        name: server.to_string(),
        server: server.to_string(),
        weight,
        max_fails: 1,
        fail_timeout: seconds(10),
        max_conns: 0,
        backup: false,
        down: false,
    }
}

fn peers(weights: &[u32]) -> Vec<Peer> {
    let name = |index| format!("10.0.0.{index}:80");
    (weights.iter().enumerate())
        .map(|(index, weight)| peer(&name(index), *weight))
        .collect()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// No method but `random` may ask for a random number.
fn unasked(_: u64) -> u64 {
    unreachable!("this method is not random")
}

fn pick(balancer: &mut Balancer, tried: &[PeerIndex], now: Instant) -> Option<PeerIndex> {
    balancer.pick(b"key", tried, now, unasked)
}

fn digits(picks: impl Iterator<Item = Option<PeerIndex>>) -> String {
    picks
        .map(|pick| pick.map_or("-".to_string(), |index| index.to_string()))
        .collect()
}

/// The servers that nginx was asked about hashes with.
fn hashed(method: Method) -> Balancer {
    let mut servers = vec![
        peer("127.0.0.1:19001", 1),
        peer("127.0.0.1:19002", 3),
        peer("127.0.0.2", 1),
        peer("127.0.0.1:19004", 1),
        peer("unix:/tmp/app.sock", 1),
    ];
    servers[3].down = true;
    Balancer::new(method, servers)
}

#[test]
fn weights_take_smooth_turns() {
    let now = Instant::now();
    for (weights, expected) in [
        (&[1, 1, 1][..], "012012012"),
        (&[5, 1, 1], "00102000010200"),
        (&[5, 2, 1], "010020100100201001002010"),
        (&[1, 3], "10111011"),
        (&[7], "000"),
    ] {
        let mut balancer = Balancer::new(Method::RoundRobin, peers(weights));
        let picks = (0..expected.len()).map(|_| pick(&mut balancer, &[], now));
        assert_eq!(digits(picks), expected, "{weights:?}");
    }
}

#[test]
fn hashes_lead_where_nginx_leads() {
    let now = Instant::now();
    for (consistent, expected) in [
        (false, "2411221442124121104110111111110100114424"),
        (true, "1112110202141140120241104211412111104121"),
    ] {
        let mut balancer = hashed(Method::Hash { consistent });
        let picks = (1..=40).map(|number| {
            let key = format!("key-{number}");
            balancer.pick(key.as_bytes(), &[], now, unasked)
        });
        assert_eq!(digits(picks), expected, "consistent: {consistent}");
    }
}

#[test]
fn addresses_lead_where_nginx_leads() {
    let now = Instant::now();
    let mut balancer = hashed(Method::IpHash);
    let picks = (1..=20u8).map(|number| {
        let address = Ipv4Addr::new(10, number * 7, number.wrapping_mul(13), 9);
        balancer.pick(&address.octets()[..3], &[], now, unasked)
    });
    assert_eq!(digits(picks), "11044021110440211101");
    let picks = (1..=20u16).map(|number| {
        // The number was written in decimal digits, which an address reads as hexadecimal ones.
        let number = u16::from_str_radix(&number.to_string(), 16).expect("digits");
        let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, number, 1);
        balancer.pick(&address.octets(), &[], now, unasked)
    });
    assert_eq!(digits(picks), "41012014114111201411");
    let unix = balancer.pick(&[], &[], now, unasked);
    assert_eq!(unix, balancer.pick(&[0; 3], &[], now, unasked));
}

/// The course of twenty requests through nginx: the second server refuses connections.
#[test]
fn failures_move_the_turns_as_in_nginx() {
    let now = Instant::now();
    let mut servers = peers(&[5, 4, 1, 1]);
    servers[0].max_fails = 2;
    servers[1].max_fails = 2;
    servers[2].max_fails = 0;
    servers[3].backup = true;
    let mut balancer = Balancer::new(Method::RoundRobin, servers);
    let mut course = String::new();
    for _ in 0..20 {
        let mut tried = Vec::new();
        while let Some(index) = pick(&mut balancer, &tried, now) {
            course += &index.to_string();
            if index != 1 {
                balancer.succeeded(index);
                break;
            }
            balancer.failed(index, now);
            tried.push(index);
        }
        course.push(' ');
    }
    assert_eq!(course, "0 10 0 2 10 0 0 0 0 0 0 2 0 0 0 0 0 2 0 0 ");
}

#[test]
fn fails_are_counted_within_fail_timeout() {
    enum Event {
        Fails(bool),
        Succeeds,
        /// The first server is or is not available.
        Available(bool),
    }
    use Event::*;
    // (seconds since the start, what happens to the first of two servers), max_fails=2 fail_timeout=10s.
    for (what, max_fails, events) in [
        (
            "unavailable for fail_timeout, then one trial",
            2,
            vec![
                (0, Fails(false)),
                (5, Available(true)),
                (5, Fails(true)),
                (5, Available(false)),
                (15, Available(false)),
                (16, Available(true)),
                // The trial is out; nobody follows it.
                (16, Available(false)),
                (17, Succeeds),
                (17, Available(true)),
                (17, Fails(false)),
            ],
        ),
        (
            "a trial that fails",
            2,
            vec![
                (0, Fails(false)),
                (0, Fails(true)),
                (11, Available(true)),
                (12, Fails(true)),
                (22, Available(false)),
                (23, Available(true)),
            ],
        ),
        (
            "a trial whose end is never heard of",
            2,
            vec![
                (0, Fails(false)),
                (0, Fails(true)),
                (11, Available(true)),
                (21, Available(false)),
                (22, Available(true)),
            ],
        ),
        (
            "success within fail_timeout forgets nothing",
            2,
            vec![
                (0, Fails(false)),
                (5, Available(true)),
                (5, Succeeds),
                (6, Fails(true)),
            ],
        ),
        (
            "success after fail_timeout forgets",
            2,
            vec![
                (0, Fails(false)),
                (11, Available(true)),
                (11, Succeeds),
                (12, Fails(false)),
            ],
        ),
        (
            "max_fails=0 counts nothing",
            0,
            vec![(0, Fails(false)), (0, Fails(false)), (0, Available(true))],
        ),
    ] {
        let start = Instant::now();
        let mut servers = peers(&[1, 1]);
        servers[0].max_fails = max_fails;
        let mut balancer = Balancer::new(Method::RoundRobin, servers);
        for (step, (second, event)) in events.into_iter().enumerate() {
            let now = start + seconds(second);
            match event {
                Fails(expected) => {
                    assert_eq!(balancer.failed(0, now), expected, "{what}: {step}");
                }
                Succeeds => balancer.succeeded(0),
                Available(expected) => {
                    let picked = pick(&mut balancer, &[1], now);
                    assert_eq!(picked, expected.then_some(0), "{what}: {step}");
                }
            }
        }
    }
}

#[test]
fn what_is_known_of_a_server() {
    let start = Instant::now();
    let mut servers = peers(&[1, 1, 1]);
    servers[1].down = true;
    servers[2].max_conns = 1;
    let mut balancer = Balancer::new(Method::RoundRobin, servers);
    balancer.opened(2);
    let known = |balancer: &Balancer| [0, 1, 2, 3].map(|peer| balancer.availability(peer));
    use Availability::*;
    assert_eq!(known(&balancer), [Up, Down, Full, Down]);
    balancer.closed(2);
    balancer.failed(0, start);
    assert_eq!(known(&balancer), [Failed, Down, Up, Down]);
    // Its time is over, and so it is tried; what is known is what came of it last.
    assert_eq!(pick(&mut balancer, &[2], start + seconds(11)), Some(0));
    assert_eq!(balancer.availability(0), Failed);
    balancer.succeeded(0);
    assert_eq!(balancer.availability(0), Up);
}

#[test]
fn an_only_server_never_becomes_unavailable() {
    let now = Instant::now();
    let mut balancer = Balancer::new(Method::RoundRobin, peers(&[1]));
    for _ in 0..9 {
        assert!(!balancer.failed(0, now));
        assert_eq!(pick(&mut balancer, &[], now), Some(0));
    }
    assert_eq!(
        pick(&mut balancer, &[0], now),
        None,
        "but it is not tried twice"
    );
    let mut down = peers(&[1]);
    down[0].down = true;
    let mut balancer = Balancer::new(Method::RoundRobin, down);
    assert_eq!(pick(&mut balancer, &[], now), None);
}

const METHODS: [Method; 7] = [
    Method::RoundRobin,
    Method::LeastConn,
    Method::IpHash,
    Method::Hash { consistent: false },
    Method::Hash { consistent: true },
    Method::Random { two: false },
    Method::Random { two: true },
];

#[test]
fn backups_serve_only_without_a_primary() {
    let start = Instant::now();
    for method in METHODS {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut servers = peers(&[1, 1, 1, 1]);
        servers[1].backup = true;
        servers[3].backup = true;
        let mut balancer = Balancer::new(method.clone(), servers);
        let mut pick = |balancer: &mut Balancer, tried: &[_], now| {
            balancer.pick(b"key", tried, now, |below| rng.random_range(0..below))
        };
        for _ in 0..20 {
            let picked = pick(&mut balancer, &[], start);
            assert!(matches!(picked, Some(0 | 2)), "{method:?}: {picked:?}");
        }
        assert_eq!(pick(&mut balancer, &[0], start), Some(2), "{method:?}");
        assert!(matches!(pick(&mut balancer, &[0, 2], start), Some(1 | 3)));
        // From then on the request stays with the backups.
        assert_eq!(pick(&mut balancer, &[2, 3], start), Some(1), "{method:?}");
        assert_eq!(
            pick(&mut balancer, &[0, 1, 2, 3], start),
            None,
            "{method:?}"
        );
        for index in 0..4 {
            assert!(balancer.failed(index, start));
        }
        assert_eq!(
            pick(&mut balancer, &[], start),
            None,
            "{method:?}: no last resort"
        );
        assert!(pick(&mut balancer, &[], start + seconds(11)).is_some());
    }
}

#[test]
fn every_method_leaves_out_what_is_down_full_or_tried() {
    let now = Instant::now();
    for method in METHODS {
        let mut rng = SmallRng::seed_from_u64(2);
        let mut servers = peers(&[1, 9, 1, 1]);
        servers[1].down = true;
        servers[2].max_conns = 2;
        let mut balancer = Balancer::new(method.clone(), servers);
        balancer.opened(2);
        balancer.opened(2);
        for number in 0..200u32 {
            let tried: &[_] = if number % 2 == 0 { &[] } else { &[0] };
            let picked = balancer.pick(&number.to_le_bytes(), tried, now, |below| {
                rng.random_range(0..below)
            });
            let expected = if tried.is_empty() {
                matches!(picked, Some(0 | 3))
            } else {
                picked == Some(3)
            };
            assert!(expected, "{method:?}: {picked:?}");
        }
        balancer.closed(2);
        let picked = balancer.pick(b"", &[0, 3], now, |below| rng.random_range(0..below));
        assert_eq!(picked, Some(2), "{method:?}: there is room again");
    }
}

#[test]
fn least_conn_weighs_connections() {
    let now = Instant::now();
    // Weights, connections in use, and those in use after some more that stay open.
    for (weights, before, after) in [
        (&[1, 1, 1][..], [0, 0, 0], [2, 2, 2]),
        (&[1, 1, 1], [2, 0, 1], [2, 2, 2]),
        (&[1, 1, 1], [9, 0, 1], [9, 3, 3]),
        (&[3, 1, 1], [0, 0, 0], [6, 2, 2]),
        (&[2, 1, 1], [4, 1, 0], [6, 3, 3]),
    ] {
        let mut balancer = Balancer::new(Method::LeastConn, peers(weights));
        for (index, number) in before.iter().enumerate() {
            (0..*number).for_each(|_| balancer.opened(index));
        }
        for _ in before.iter().sum::<u32>()..after.iter().sum() {
            let picked = pick(&mut balancer, &[], now).expect("all are up");
            let least = (0..3).all(|other| {
                weighted::load_of(&balancer.peers[picked], &balancer.peers[other]).is_le()
            });
            assert!(least, "{weights:?} {before:?}: {picked}");
            balancer.opened(picked);
        }
        let connections: Vec<_> = balancer
            .peers
            .iter()
            .map(|state| state.connections)
            .collect();
        assert_eq!(connections, after, "{weights:?} {before:?}");
    }
}

/// How `number` keys are shared out, in parts of a hundred.
fn shares(balancer: &mut Balancer, number: u32) -> Vec<u32> {
    let now = Instant::now();
    let mut rng = SmallRng::seed_from_u64(3);
    let mut counts = vec![0; balancer.peers.len()];
    for key in 0..number {
        let key = format!("/path/{key}");
        let picked = balancer.pick(key.as_bytes(), &[], now, |below| rng.random_range(0..below));
        counts[picked.expect("all are up")] += 1;
    }
    counts.iter().map(|count| count * 100 / number).collect()
}

#[test]
fn shares_follow_weights() {
    for method in METHODS {
        let tolerance = match method {
            // Two different ones are drawn, so that not even the heaviest can have half.
            Method::Random { two: true } => continue,
            // No connection stays open, so every turn is among equals.
            Method::LeastConn | Method::RoundRobin => 1,
            _ => 4,
        };
        let mut balancer = Balancer::new(method.clone(), peers(&[1, 2, 2, 5]));
        let shares = shares(&mut balancer, 20_000);
        for (share, expected) in shares.iter().zip([10u32, 20, 20, 50]) {
            assert!(
                share.abs_diff(expected) <= tolerance,
                "{method:?}: {shares:?}"
            );
        }
    }
}

#[test]
fn random_two_prefers_the_less_loaded() {
    let mut balancer = Balancer::new(Method::Random { two: true }, peers(&[1, 1, 1]));
    for _ in 0..5 {
        balancer.opened(1);
    }
    let shares = shares(&mut balancer, 3_000);
    assert_eq!(shares[1], 0, "it loses every comparison: {shares:?}");
}

#[test]
fn a_hash_is_the_same_for_the_same_key() {
    let now = Instant::now();
    for method in &METHODS[2..5] {
        let mut balancer = Balancer::new(method.clone(), peers(&[1, 2, 1]));
        for key in 0..100u32 {
            let key = key.to_le_bytes();
            let first = balancer.pick(&key, &[], now, unasked);
            assert_eq!(balancer.pick(&key, &[], now, unasked), first, "{method:?}");
        }
    }
    for consistent in [false, true] {
        let mut balancer = Balancer::new(Method::Hash { consistent }, peers(&[1, 1, 1]));
        let picks = (0..6).map(|_| balancer.pick(b"", &[], now, unasked));
        assert_eq!(digits(picks), "012012", "an empty key takes turns");
    }
}

#[test]
fn a_server_that_leaves_the_ring_moves_its_own_keys_only() {
    let now = Instant::now();
    let method = || Method::Hash { consistent: true };
    let all = peers(&[1; 10]);
    let mut whole = Balancer::new(method(), all.clone());
    let mut down = all.clone();
    down[4].down = true;
    let mut reversed: Vec<_> = all.iter().rev().cloned().collect();
    reversed.retain(|peer| peer.name != all[4].name);
    let names: Vec<_> = reversed.iter().map(|peer| peer.name.clone()).collect();
    let mut without = Balancer::new(method(), reversed);
    let mut down = Balancer::new(method(), down);
    let mut moved = 0;
    for key in 0..5_000 {
        let key = format!("user-{key}");
        let pick = |balancer: &mut Balancer| {
            let picked = balancer.pick(key.as_bytes(), &[], now, unasked);
            picked.expect("the others are up")
        };
        let before = pick(&mut whole);
        let after = &names[pick(&mut without)];
        if before == 4 {
            moved += 1;
            assert_eq!(*after, all[pick(&mut down)].name, "down is as good as gone");
        } else {
            assert_eq!(*after, all[before].name, "order and number change nothing");
            assert_eq!(pick(&mut down), before);
        }
    }
    assert!((300..700).contains(&moved), "{moved} of 5000 keys");
}

#[test]
fn addresses_of_one_name_share_its_points_and_take_turns() {
    let now = Instant::now();
    let mut servers = vec![
        peer("backend:80", 1),
        peer("backend:80", 1),
        peer("other:80", 1),
    ];
    servers[0].name = "10.0.0.1:80".to_string();
    servers[1].name = "10.0.0.2:80".to_string();
    let mut balancer = Balancer::new(Method::Hash { consistent: true }, servers);
    let mut seen = std::collections::HashSet::new();
    for key in 0..50 {
        let key = format!("{key}");
        let picks = (0..4).map(|_| balancer.pick(key.as_bytes(), &[], now, unasked));
        seen.insert(digits(picks));
    }
    let mut seen: Vec<_> = seen.into_iter().collect();
    seen.sort();
    assert_eq!(seen, ["0101", "2222"]);
}

#[test]
fn nothing_to_choose_from_is_no_live_upstreams() {
    let now = Instant::now();
    for method in METHODS {
        for weights in [&[][..], &[0, 0]] {
            let mut balancer = Balancer::new(method.clone(), peers(weights));
            let picked = balancer.pick(b"key", &[], now, |_| 0);
            assert_eq!(
                picked.is_none(),
                weights.is_empty(),
                "{method:?} {weights:?}"
            );
            // Indices of a list that was there before change nothing.
            balancer.opened(17);
            balancer.closed(17);
            balancer.succeeded(17);
            assert!(!balancer.failed(17, now));
        }
    }
}
