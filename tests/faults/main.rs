//! Faults, through real sockets: at every stage of a login and of a body either side does something wrong, the system runs
//! out of something, thousands of clients do nothing. What has to come of it is written down before ([`table`]); meanwhile
//! others, who are logged in, must get their answers, as themselves, and in time ([`witness`]).
//!
//! `FAULTS_RUNS` says how often each cell is carried out: `FAULTS_RUNS=50 cargo test --test faults -- --nocapture`
//! prints what `docs/security.md` has of it. `FAULTS_ONLY` takes the cells of the table whose name has its text in it.

mod crowds;
mod environment;
#[allow(dead_code)]
#[path = "../e2e/front.rs"]
mod front;
mod house;
#[allow(dead_code)]
#[path = "../e2e/peer.rs"]
mod peer;
#[allow(dead_code)]
#[path = "../e2e/tls/pki.rs"]
mod pki;
mod report;
mod run;
mod scene;
mod stages;
mod table;
mod tls;
mod witness;
mod world;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by each test: what one does would be another one's stall.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often each cell is carried out.
fn runs() -> usize {
    let asked = std::env::var("FAULTS_RUNS").ok();
    asked.map_or(3, |text| text.parse().expect("a number in FAULTS_RUNS"))
}
