//! Zones with one thread and with many.

use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};

use proptest::prelude::*;

use super::*;

/// A zone of one set, in which every key is everybody's neighbour.
const ONE_SET: usize = 1;

fn zone(bytes: usize) -> (Zone, Instant) {
    let epoch = Instant::now();
    (Zone::new(bytes, RandomState::new(), epoch).unwrap(), epoch)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn counts() {
    let (zone, now) = zone(1 << 15);
    let (a, b) = (zone.key(b"a"), zone.key(b"b"));
    assert_eq!(zone.enter(a, 2, now), Ok(()));
    assert_eq!(zone.enter(a, 2, now), Ok(()));
    assert_eq!(zone.enter(a, 2, now), Err(Refused::Reached));
    assert_eq!(zone.enter(a, 3, now), Ok(()), "another limit, one count");
    assert_eq!(zone.enter(b, 1, now), Ok(()));
    zone.leave(a);
    zone.leave(a);
    assert_eq!(zone.enter(a, 2, now), Ok(()));
    assert_eq!(zone.enter(a, 2, now), Err(Refused::Reached));
    assert_eq!(zone.enter(b, 1, now), Err(Refused::Reached));
}

#[test]
fn only_what_is_not_counted_makes_room_in_a_full_zone() {
    let (zone, now) = zone(ONE_SET);
    let keys: Vec<Key> = (0..17_u8).map(|n| zone.key(&[n])).collect();
    for (n, key) in keys[..16].iter().enumerate() {
        assert_eq!(zone.enter(*key, 1, now + ms(n as u64)), Ok(()));
    }
    assert_eq!(zone.enter(keys[16], 1, now), Err(Refused::Full));
    zone.leave(keys[3]);
    assert_eq!(zone.enter(keys[16], 1, now), Ok(()));
    assert_eq!(zone.enter(keys[3], 1, now), Err(Refused::Full));
    for key in &keys {
        let counted = *key != keys[3];
        let expected = if counted {
            Refused::Reached
        } else {
            Refused::Full
        };
        assert_eq!(zone.enter(*key, 1, now), Err(expected));
    }
}

#[test]
fn a_bucket_makes_room_when_it_was_charged_longest_ago() {
    let (zone, now) = zone(ONE_SET);
    let rate = Rate::per_minute(1);
    let keys: Vec<Key> = (0..17_u8).map(|n| zone.key(&[n])).collect();
    for (n, key) in keys[..16].iter().enumerate() {
        assert_eq!(zone.charge(*key, rate, 9000, now + ms(n as u64)), Ok(0));
    }
    // The first is the latest now.
    assert_eq!(zone.charge(keys[0], rate, 9000, now + ms(20)), Ok(1000));
    assert_eq!(zone.charge(keys[16], rate, 9000, now + ms(21)), Ok(0));
    assert_eq!(zone.look(keys[0], rate, now + ms(21)), 2000);
    assert_eq!(zone.look(keys[1], rate, now + ms(21)), 0, "it had to go");
    assert_eq!(zone.look(keys[2], rate, now + ms(21)), 1000);
}

#[test]
fn the_zone_takes_what_its_size_says() {
    let (zone, now) = zone(1 << 20);
    // As the reference page says.
    assert_eq!(zone.table.places(), 65_536);
    let mut room = 0;
    for n in 0..65_536_u32 / 2 {
        let entered = zone.enter(zone.key(&n.to_be_bytes()), 1, now);
        room += usize::from(entered.is_ok());
    }
    assert!(
        room >= 32_768 * 99 / 100,
        "half of a zone is there for all: {room}"
    );
}

proptest! {
    /// One thread: a zone does what a map would.
    #[test]
    fn buckets_are_those_of_a_map(steps in prop::collection::vec((0..6_u8, 0..900_u64, 1..4_u64), 1..200)) {
        let (zone, epoch) = zone(ONE_SET);
        let mut model: HashMap<u8, (u64, u64)> = HashMap::new();
        let mut at_ms = 0;
        for (name, passed_ms, burst) in steps {
            at_ms += passed_ms;
            let key = zone.key(&[name]);
            let rate = Rate::per_second(2);
            let excess = model.get(&name).map_or(0, |(last, excess)| {
                (excess + 1000).saturating_sub(2000 * (at_ms - last) / 1000)
            });
            prop_assert_eq!(zone.look(key, rate, epoch + ms(at_ms)), excess);
            let charged = zone.charge(key, rate, burst * 1000, epoch + ms(at_ms));
            if excess > burst * 1000 {
                prop_assert_eq!(charged, Err(Exceeded(excess)));
            } else {
                prop_assert_eq!(charged, Ok(excess));
                model.insert(name, (at_ms, excess));
            }
        }
    }
}

const THREADS: usize = 4;

/// Runs `work` on several threads at once.
fn together(work: impl Fn(usize) + Sync) {
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (work, start) = (&work, &start);
            scope.spawn(move || {
                table::INTERLEAVES.set(true);
                start.wait();
                work(thread);
            });
        }
    });
}

#[test]
fn many_threads_never_count_a_key_too_often() {
    const LIMIT: u64 = 1;
    // More keys than places, so that keys come and go all the time.
    const KEYS: u64 = 20;
    let (zone, now) = zone(ONE_SET);
    let inside: Vec<AtomicI64> = (0..KEYS).map(|_| AtomicI64::new(0)).collect();
    let (entered, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    together(|thread| {
        let mut random = thread as u64 + 1;
        let mut held: Vec<u64> = Vec::new();
        for step in 0..25_000_u64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let name = (random >> 33) % KEYS;
            if held.len() < 5 && random >> 63 == 0 {
                match zone.enter(zone.key(&name.to_be_bytes()), LIMIT, now + ms(step)) {
                    Ok(()) => {
                        let others = inside[name as usize].fetch_add(1, SeqCst);
                        assert!(others < LIMIT as i64, "{others} others hold {name}");
                        held.push(name);
                        entered.fetch_add(1, SeqCst);
                    }
                    Err(_) => drop(refused.fetch_add(1, SeqCst)),
                }
            } else if let Some(name) = held.pop() {
                inside[name as usize].fetch_sub(1, SeqCst);
                zone.leave(zone.key(&name.to_be_bytes()));
            }
        }
        for name in held {
            inside[name as usize].fetch_sub(1, SeqCst);
            zone.leave(zone.key(&name.to_be_bytes()));
        }
    });
    assert!(entered.into_inner() > 5_000 && refused.into_inner() > 100);
    for (settled, entry) in zone.table.words() {
        assert!(settled, "an announcement was left behind");
        assert_eq!(entry.value, 0, "a count was left behind");
    }
}

#[test]
fn many_threads_charge_exactly() {
    const KEYS: u64 = 12;
    const BURST: u64 = 500;
    for _ in 0..4 {
        let (zone, now) = zone(ONE_SET);
        let passed: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
        // Time stands still, so that nothing flows out.
        together(|thread| {
            for n in 0..KEYS * (BURST + 1) {
                let name = (n + thread as u64) % KEYS;
                let key = zone.key(&name.to_be_bytes());
                if zone
                    .charge(key, Rate::per_second(1), BURST * 1000, now)
                    .is_ok()
                {
                    passed[name as usize].fetch_add(1, SeqCst);
                }
            }
        });
        for passed in passed {
            assert_eq!(passed.into_inner(), BURST + 1);
        }
        assert_eq!(
            zone.table.words().len() as u64,
            KEYS,
            "one entry for each key"
        );
    }
}
