//! The one promise, explored at random: a plan of `tests/plan` is carried out on a model world in memory, in which only
//! [`Pins`](super::Pins), [`Pool`](super::Pool) and [`IdleOrder`](super::IdleOrder) are real, and after every answer the
//! model's own books say whose identity it may carry.
//!
//! `SIMULATION_STEPS` asks for more steps, `SIMULATION_SEED` for one seed, as a failure prints it:
//! `SIMULATION_STEPS=50000000 cargo test --release --lib pin::simulation`.

mod books;
mod upstream;
mod world;

use super::EndReason;
use super::random_plan::{Plan, Shape};
use books::Violation;
use world::{Mistake, World};

/// Carries out `steps` of the plan of `seed`, then closes everything.
fn simulate(seed: u64, steps: u64, mistake: Option<Mistake>) -> Result<World, (u64, Violation)> {
    let shape = Shape::default();
    let mut world = World::new(seed, &shape, mistake);
    for (step, action) in (0..steps).zip(Plan::new(seed, shape)) {
        world.act(action).map_err(|violation| (step, violation))?;
    }
    world.finish().map_err(|violation| (steps, violation))?;
    Ok(world)
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number in the environment variable"))
}

#[test]
fn a_login_serves_nobody_else_and_is_never_cut() {
    let steps = from_environment("SIMULATION_STEPS").unwrap_or(1_000_000);
    let seeds = match from_environment("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..4,
    };
    let each = steps / (seeds.end - seeds.start);
    for seed in seeds {
        match simulate(seed, each, None) {
            Ok(world) => assert_not_vacuous(&world, each),
            Err((step, violation)) => {
                panic!("SIMULATION_SEED={seed}, step {step}: {violation:?}")
            }
        }
    }
}

/// A world in which nothing happened would keep every promise.
fn assert_not_vacuous(world: &World, steps: u64) {
    if steps < 100_000 {
        return;
    }
    assert!(world.logins > steps / 20, "{} logins", world.logins);
    assert!(
        world.recognised > steps / 50,
        "{} requests without credentials were answered as someone",
        world.recognised
    );
    for reason in EndReason::ALL {
        // The model has no broken sockets and no end of the process.
        if !matches!(reason, EndReason::Error | EndReason::Shutdown) {
            assert!(
                world.ends.get(&reason).is_some_and(|ends| *ends > 20),
                "{}: {:?}",
                reason.word(),
                world.ends
            );
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let run = || simulate(11, 20_000, None).expect("a faithful world");
    let (one, other) = (run(), run());
    assert_eq!(one.ends, other.ends);
    assert_eq!(one.logins, other.logins);
}

/// The check can fail: a front with any of these mistakes is found out.
#[test]
fn every_mistake_is_found_out() {
    let stranger: &[_] = &["ForeignConnection", "WrongIdentity"];
    for (mistake, expected) in [
        (Mistake::PoolsRetiredPins, stranger),
        (Mistake::PoolsPinsOfLeavers, stranger),
        (Mistake::SwapsPins, stranger),
        (Mistake::TakesTwoRequestsForFinished, &["HandshakeCut"]),
        (Mistake::IgnoresLimits, &["LimitIgnored"]),
        (Mistake::EndsAtWill, &["EndedTooSoon"]),
        (Mistake::ForgetsToClose, &["Leak"]),
        (Mistake::LeavesTheIdleOrder, &["IdleOrder"]),
    ] {
        match simulate(3, 100_000, Some(mistake)) {
            Ok(_) => panic!("{mistake:?} was not found"),
            Err((_, violation)) => {
                let violation = format!("{violation:?}");
                assert!(
                    expected.iter().any(|name| violation.starts_with(name)),
                    "{mistake:?}: {violation}"
                );
            }
        }
    }
}
