//! The soak: the random plan of `tests/plan`, with faults on both sides, limits, shortages and reloads, for as long as one
//! likes, while the front's descriptors, memory and answers are watched.
//!
//! `tools/soak MINUTES` runs it as it is meant. `SOAK_MINUTES` says how long (a short one without it), `SOAK_SEED` which
//! plan; with the same seed everybody does the same, though not at the same moment.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

#[path = "../crowd/mod.rs"]
mod crowd;
#[allow(dead_code)]
#[path = "../e2e/front.rs"]
mod front;
#[path = "../plan/mod.rs"]
mod plan;

mod faults;
mod hostile;
mod misbehaviour;
mod operator;
mod site;
mod tally;
mod verdict;
mod watch;
mod witness;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ntlm_origin::Origin;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_blocking};

use crowd::SERVERS;
use crowd::books::{Findings, Holding, Violation};
use crowd::clients::{IDENTITIES, World, carry_out};
use front::Front;
use plan::{Action, Limits, Shape, Weights};
use site::{FOR_FAULTS, FOR_THE_CROWD, FOR_WITNESSES, GROUPS, PLENTY, Servers, Settings};
use tally::{Disturbance, Shared};
use verdict::Run;
use watch::{Descriptors, Sample, Samples, Usage};

/// Without `SOAK_MINUTES`.
const SHORT_MINUTES: f64 = 0.2;

/// Clients that misbehave at the same time.
const MISBEHAVING: u64 = 48;

/// Servers that close idle connections do so no more often: while they do, logins end that nobody can blame the front for.
const IMPATIENT_EVERY: Duration = Duration::from_secs(8);

const SHAPE: Shape = Shape {
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

fn from_environment<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let value = text.parse().ok();
    Some(value.unwrap_or_else(|| panic!("{name} is not a number: {text}")))
}

#[tokio::test]
async fn nothing_grows_and_nobody_is_taken_for_another() {
    // From here on they end what is started here, too.
    let [mut interrupted, mut terminated] =
        [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).unwrap());
    let minutes = from_environment("SOAK_MINUTES").unwrap_or(SHORT_MINUTES);
    let seed = from_environment("SOAK_SEED").unwrap_or(2026);
    let shared = Arc::new(Shared::default());
    let _ending = Ending(Arc::clone(&shared));
    let (hostile, coming_and_going) = (
        hostile::Address::bind().unwrap(),
        hostile::Address::bind().unwrap(),
    );
    let servers = Arc::new(Servers {
        plan: crowd::origins(GROUPS),
        witnesses: crowd::origin("witnesses".into()),
        mixed: crowd::origin("mixed".into()),
        hostile: hostile.addr,
        coming_and_going: coming_and_going.addr,
    });
    let settings = Settings {
        limits: Limits {
            connections: 20,
            timeout_millis: 500,
            time_millis: 5_000,
            requests: 30,
            reauth_same: false,
        },
        worker_connections: PLENTY,
        timeouts_ms: [1_000; 4],
    };
    let front = Front::start_main(&settings.main(), &servers.configuration(&settings));
    let front = Arc::new(front);
    let at_start = Descriptors::of(front.pid());
    let threads = Usage::of(front.pid()).threads;
    let driver = verdict::driver(&front);
    println!("{minutes} minutes on {driver}, SOAK_SEED={seed}");

    let began = Instant::now();
    let length = Duration::from_secs_f64(minutes * 60.0);
    let (ready, are_ready) = mpsc::channel();
    let addresses = (front.addr(FOR_WITNESSES), front.addr(FOR_FAULTS));
    let others = start_others(seed, &shared, addresses, hostile, coming_and_going, ready);
    are_ready.recv().expect("the witnesses are logged in");

    let world = World::new(front.addr(FOR_THE_CROWD), GROUPS, Holding::UntilEnded);
    let limits = Cell::new(settings.limits);
    let impatient = Cell::new(began);
    let logs = RefCell::new(operator::Logs::default());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("soak");
    let mut samples = Samples::create(&directory, &format!("{driver}-{minutes}m")).unwrap();
    let mut ended_early = false;

    let crowd = carry_out(
        &world,
        seed,
        SHAPE,
        |_| shared.is_over(),
        async |action| {
            act(action, &limits, &world, &servers.plan, &shared, &impatient).await;
        },
    );
    let operate = async {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x6f70);
        let mut settings = settings;
        while !shared.is_over() {
            let was_short = settings.worker_connections != PLENTY;
            settings.limits = limits.get();
            settings = logs.borrow_mut().next(&settings, &mut rng);
            let is_short = settings.worker_connections != PLENTY;
            let configuration = servers.configuration(&settings);
            let of_thread = Arc::clone(&front);
            let mut rotated = logs.take();
            let reloaded = spawn_blocking(move || {
                rotated.rotate(&of_thread);
                of_thread.reload_main(&settings.main(), &configuration);
                rotated
            });
            let disturbed = || {
                world.is_short();
                shared.disturb(Disturbance::Shortage);
            };
            if was_short || is_short {
                disturbed();
            }
            logs.replace(reloaded.await.expect("the reload"));
            // From the command on until the next one is in force.
            if was_short || is_short {
                disturbed();
            }
            operator::pause(is_short, || {
                if is_short {
                    disturbed();
                }
                shared.is_over()
            })
            .await;
        }
    };
    let watch = async {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        while !shared.is_over() {
            seconds.tick().await;
            let sample = sample(began, &front, &servers, &world.findings.borrow(), &shared);
            samples.push(sample).expect("the samples can be written");
        }
    };
    let end = async {
        tokio::select! {
            () = tokio::time::sleep(length) => {}
            _ = interrupted.recv() => ended_early = true,
            _ = terminated.recv() => ended_early = true,
        }
        shared.end();
    };
    tokio::join!(crowd, operate, watch, end);
    for other in others {
        other.join().expect("no thread panics");
    }
    assert!(
        !ended_early,
        "ended by a signal after {:.0?}",
        began.elapsed()
    );
    let findings = world.findings.take();
    let run = Run {
        seed,
        length,
        front: Arc::into_inner(front).expect("everybody else has left"),
        servers: &servers,
        at_start,
        threads,
        samples,
        logs: logs.take(),
        findings: &findings,
        tally: std::mem::take(&mut *shared.tally()),
    };
    run.judge().await;
}

/// What the plan says is no client's to do.
async fn act(
    action: Action,
    limits: &Cell<Limits>,
    world: &Rc<World>,
    origins: &[Origin],
    shared: &Shared,
    impatient: &Cell<Instant>,
) {
    match action {
        // For the next reload.
        Action::Reload { limits: next } => limits.set(next),
        // With the others kept waiting, idle times run out; then, now and then, a group's servers lose patience, too.
        Action::Pause { millis } => {
            tokio::time::sleep(Duration::from_millis(millis / 10)).await;
            if impatient.get().elapsed() < IMPATIENT_EVERY {
                return;
            }
            impatient.set(Instant::now());
            let group = usize::try_from(millis).unwrap_or_default() % GROUPS;
            world.closes(group);
            shared.disturb(Disturbance::IdleClosed);
            origins[group * SERVERS..][..SERVERS]
                .iter()
                .for_each(Origin::close_idle);
        }
        Action::Client { .. } | Action::ServerCloses { .. } => {}
    }
}

fn sample(
    began: Instant,
    front: &Front,
    servers: &Servers,
    findings: &Findings,
    shared: &Shared,
) -> Sample {
    let mut tally = shared.tally();
    let wrong = findings.count(Violation::WrongIdentity) + findings.count(Violation::CameBack);
    Sample {
        seconds: began.elapsed().as_secs_f64(),
        descriptors: Descriptors::of(front.pid()),
        usage: Usage::of(front.pid()),
        upstream: servers.connections(),
        requests: findings.requests,
        logins: findings.logins + tally.logins - tally.failed_logins,
        faults: tally.faults(),
        wrong: wrong + tally.wrong_identities,
        excused: findings.excused() + tally.excused,
        unexpected: findings.all_violations() + tally.unexpected(),
        witness_requests: tally.witness_requests,
        longest_ms: tally.take_longest().as_secs_f64() * 1_000.0,
    }
}

/// Starts the witnesses, then the clients and servers that misbehave, on threads of their own so that a slow crowd slows
/// nobody else. `ready` is told when the witnesses are logged in.
fn start_others(
    seed: u64,
    shared: &Arc<Shared>,
    (for_witnesses, for_faults): (SocketAddr, SocketAddr),
    hostile: hostile::Address,
    coming_and_going: hostile::Address,
    ready: mpsc::Sender<()>,
) -> [JoinHandle<()>; 2] {
    let of_witnesses = Arc::clone(shared);
    let witnesses = on_a_thread("witnesses", async move {
        let all = witness::log_in(for_witnesses).await;
        ready.send(()).expect("somebody waits");
        let tasks: Vec<_> = all
            .into_iter()
            .map(|witness| {
                tokio::task::spawn_local(witness::testify(witness, Arc::clone(&of_witnesses)))
            })
            .collect();
        for task in tasks {
            task.await.expect("no witness panics");
        }
    });
    let of_faults = Arc::clone(shared);
    let faults = on_a_thread("faults", async move {
        let servers = [
            tokio::task::spawn_local(hostile::misbehave(hostile)),
            tokio::task::spawn_local(hostile::come_and_go(
                coming_and_going,
                SmallRng::seed_from_u64(seed ^ 0x676f),
            )),
        ];
        let clients: Vec<_> = (0..MISBEHAVING)
            .map(|n| {
                let seed = seed.wrapping_mul(MISBEHAVING).wrapping_add(n);
                let clients = misbehaviour::misbehave(for_faults, seed, Arc::clone(&of_faults));
                tokio::task::spawn_local(clients)
            })
            .collect();
        for client in clients {
            client.await.expect("no client panics");
        }
        for server in servers {
            assert!(!server.is_finished(), "a server that misbehaves has failed");
            server.abort();
        }
    });
    [witnesses, faults]
}

fn on_a_thread(name: &str, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            LocalSet::new().block_on(&runtime, work);
        })
        .unwrap()
}

/// Has everybody leave, also when a test fails.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}
