//! Clients that stay logged in for as long as they may.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ntlm_origin::User;
use ntlm_origin::client::{Connection, Response};
use tokio::task::{JoinSet, LocalSet};

use crate::crowd::clients::USERS;

/// Between an answer and the client's next request.
const PAUSE: Duration = Duration::from_millis(50);

/// What the clients met. By front: how many are logged in there, and how many were told that their connection is over.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) answers: AtomicUsize,
    pub(super) logins: AtomicUsize,
    there: [AtomicUsize; 2],
    told: [AtomicUsize; 2],
    /// Connections that were refused, requests that failed, answers of others.
    problems: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Tally {
    pub(super) fn there(&self) -> [usize; 2] {
        [0, 1].map(|nth| self.there[nth].load(Ordering::SeqCst))
    }

    pub(super) fn told(&self) -> [usize; 2] {
        [0, 1].map(|nth| self.told[nth].load(Ordering::SeqCst))
    }

    #[track_caller]
    pub(super) fn assert_nobody_was_turned_away(&self) {
        let problems = self.problems.lock().expect("no panic").clone();
        let first = &problems[..problems.len().min(5)];
        assert!(
            problems.is_empty(),
            "{} problems: {first:#?}",
            problems.len()
        );
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Ends the load with its value.
pub(super) struct Stop<'a>(pub(super) &'a Tally);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Has so many clients ask, each on a connection of his own, until it is over.
pub(super) fn ask_all(addr: SocketAddr, clients: usize, tally: &Arc<Tally>) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let mut all = JoinSet::new();
        for nth in 0..clients {
            let tally = Arc::clone(tally);
            all.spawn_local(async move {
                while !tally.is_over() {
                    if let Err(problem) = visit(addr, &USERS[nth % USERS.len()], &tally).await {
                        let mut problems = tally.problems.lock().expect("no panic");
                        problems.push(format!("client {nth}: {problem}"));
                        return;
                    }
                }
            });
        }
        while let Some(ended) = all.join_next().await {
            ended.expect("no panic");
        }
    });
}

/// Logs in, and asks until the front says that this was the last answer.
async fn visit(addr: SocketAddr, user: &User, tally: &Tally) -> Result<(), String> {
    let mut connection = Connection::open(addr)
        .await
        .map_err(|error| format!("no connection: {error}"))?;
    let answer = connection.login_ntlm("/private/whoami", user).await;
    let mut answer = answer.map_err(|error| format!("no login: {error}"))?;
    let front = front_of(&answer)?;
    tally.logins.fetch_add(1, Ordering::Relaxed);
    tally.there[front].fetch_add(1, Ordering::SeqCst);
    let me = connection.local_addr().map_err(|error| error.to_string())?;
    loop {
        let client = answer.headers.first("x-client").unwrap_or_default();
        let seen = (
            answer.status,
            answer.text(),
            front_of(&answer)?,
            client.to_owned(),
        );
        let expected = (200, user.identity(), front, me.to_string());
        if seen != expected {
            return Err(format!("{seen:?} instead of {expected:?}"));
        }
        tally.answers.fetch_add(1, Ordering::Relaxed);
        let last = answer.headers.names("connection", "close");
        if last || tally.is_over() {
            tally.there[front].fetch_sub(1, Ordering::SeqCst);
            tally.told[front].fetch_add(usize::from(last), Ordering::SeqCst);
            if last && !matches!(connection.closed().await, Ok(true)) {
                return Err("the connection stays open behind the last answer".to_owned());
            }
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
        let next = connection.get("/private/whoami").await;
        answer = next.map_err(|error| format!("a request is lost: {error}"))?;
    }
}

fn front_of(answer: &Response) -> Result<usize, String> {
    let name = answer
        .headers
        .first("x-front")
        .and_then(|name| name.parse().ok());
    name.ok_or_else(|| format!("{} from no front", answer.status))
}
