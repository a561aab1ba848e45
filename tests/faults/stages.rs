//! Carries the table out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

use ntlm_origin::User;

use crate::house::{House, Lane, resident};
use crate::report::{Line, Summary};
use crate::run::{Cell, run};
use crate::table::{self, FAULTS, Side, TABLE};
use crate::witness::Witnesses;

/// Runs at the same time.
const LANES: usize = 25;

/// What memory may grow by in all runs after the first, in bytes, however many there are: buffers that are touched when they are
/// needed (a ring's are 2 MiB for each of two workers) and those of the allocator.
const GROWTH_BYTES: usize = 8 << 20;

static USERS: LazyLock<[User; 2]> = LazyLock::new(|| {
    [
        User::new("EXAMPLE", "alice", "wonderland"),
        User::new("EXAMPLE", "bob", "builder"),
    ]
});

/// The cells that can happen, named.
fn cells() -> Vec<(String, Cell)> {
    let only = std::env::var("FAULTS_ONLY").unwrap_or_default();
    let mut cells = Vec::new();
    for row in &TABLE {
        for (side, column) in [(Side::Client, &row.client), (Side::Server, &row.server)] {
            for (fault, cell) in FAULTS.into_iter().zip(column) {
                let name = format!("{}: {side:?} {fault:?}", row.what);
                match *cell {
                    table::Cell::Expect(client, server) => cells.push((
                        name,
                        Cell {
                            stage: row.stage,
                            side,
                            fault,
                            client,
                            server,
                        },
                    )),
                    table::Cell::None(why) => println!("{name}: no cell, {why}"),
                }
            }
        }
    }
    cells.retain(|(name, _)| name.contains(&only));
    cells
}

/// Carries each of the cells out `runs` times, as many at a time as there are lanes; what failed, by cell.
fn carry_out(house: &House, cells: &[(String, Cell)], runs: usize) -> Vec<Vec<String>> {
    let failures: Vec<Mutex<Vec<String>>> = cells.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for lane in &house.lanes {
            let (next, failures) = (&next, &failures);
            scope.spawn(move || {
                loop {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    let Some((_, cell)) = cells.get(job / runs) else {
                        return;
                    };
                    if let Err(failure) = once(house, lane, cell, job) {
                        let mut failures = failures[job / runs]
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner);
                        failures.push(failure);
                    }
                }
            });
        }
    });
    failures
        .into_iter()
        .map(|failures| {
            failures
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner)
        })
        .collect()
}

fn once(house: &House, lane: &Lane, cell: &Cell, job: usize) -> Result<(), String> {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let name = format!("{}x", RUNS.fetch_add(1, Ordering::Relaxed));
    let user = &USERS[job % 2];
    let result = catch_unwind(AssertUnwindSafe(|| run(house, lane, cell, &name, user)));
    result.map_err(|panic| {
        // Nobody else's business.
        while lane.server.try_accept().is_some() {}
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
            .unwrap_or_default()
    })
}

#[test]
fn every_cell_has_its_outcome() {
    let _turn = crate::turn();
    let runs = crate::runs();
    let house = House::start(LANES);
    let sockets = house.front.sockets();
    let mut witnesses = Witnesses::start(&house);
    // Each has a connection, and a login behind it.
    let sockets = sockets + 2 * 2;
    let cells = cells();
    // Memory that is taken once is no leak.
    let first = carry_out(&house, &cells, 1);
    house.await_sockets(sockets);
    let before = resident(house.front.pid());
    let mut first = first.into_iter();
    let mut lines = Vec::new();
    for batch in cells.chunks((LANES / runs).max(1)) {
        let from = Instant::now();
        let failures = carry_out(&house, batch, runs);
        house.await_sockets(sockets);
        witnesses.are_well();
        let worst = witnesses.worst_since(from);
        for ((name, cell), mut failures) in batch.iter().zip(failures) {
            failures.extend(first.next().unwrap_or_default());
            lines.push(Line {
                name: name.clone(),
                expected: format!("{:?}, {:?}", cell.client, cell.server),
                runs: runs + 1,
                failures,
                worst,
            });
        }
    }
    let summary = Summary {
        lines,
        witnessed: witnesses.answers(),
        resident: (before, resident(house.front.pid())),
    };
    witnesses.finish();
    summary.print("stages");
    summary.judge();
    let (before, after) = summary.resident;
    assert!(
        after < before + GROWTH_BYTES,
        "{before} bytes grew to {after}"
    );
}
