//! People who behave well and stay: whatever others do, they keep their login and are answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ntlm_origin::client::{Connection, Scheme};

use crate::crowd::clients::USERS;
use crate::tally::Shared;

/// Workers of the front, and witnesses of each.
const WORKERS: usize = 2;
const OF_EACH: usize = 2;

/// Connections among which both workers get theirs: fewer than one in a million runs has bad luck.
const ATTEMPTS: usize = 64;

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(10);

/// Somebody who is logged in.
pub(crate) struct Witness {
    connection: Connection,
    user: usize,
    worker: usize,
}

/// Logs some in at each worker; the others that it takes to find them leave again.
pub(crate) async fn log_in(front: SocketAddr) -> Vec<Witness> {
    let mut of_each: BTreeMap<usize, Vec<Witness>> = BTreeMap::new();
    for user in (0..USERS.len()).cycle().take(ATTEMPTS) {
        let mut connection = Connection::open(front).await.expect("the front accepts");
        let answer = connection
            .login(Scheme::Negotiate, "/private/whoami", &USERS[user])
            .await
            .expect("an answer");
        assert_eq!(answer.text(), USERS[user].identity());
        // Workers number their clients in turn.
        let number = answer.headers.first("x-client-number");
        let number: usize = number
            .and_then(|number| number.parse().ok())
            .expect("the client's number");
        let worker = number % WORKERS;
        let of_worker = of_each.entry(worker).or_default();
        if of_worker.len() < OF_EACH {
            of_worker.push(Witness {
                connection,
                user,
                worker,
            });
        }
        let all: usize = of_each.values().map(Vec::len).sum();
        if all == WORKERS * OF_EACH {
            return of_each.into_values().flatten().collect();
        }
    }
    panic!("{ATTEMPTS} connections, and not {OF_EACH} for each worker");
}

/// Asks again and again until everything is over.
pub(crate) async fn testify(mut witness: Witness, shared: Arc<Shared>) {
    let identity = USERS[witness.user].identity();
    let body = vec![b'm'; 50_000];
    for turn in 0_u64.. {
        if shared.is_over() {
            break;
        }
        let (method, target, sent): (_, _, &[u8]) = match turn % 8 {
            0 => ("GET", "/bytes/70000", b""),
            1 => ("POST", "/mirror", &body),
            _ => ("GET", "/private/whoami", b""),
        };
        let began = Instant::now();
        let answer = witness.connection.request(method, target, &[], sent).await;
        let took = began.elapsed();
        let whole = answer.as_ref().is_ok_and(|answer| {
            answer.status == 200
                && answer.headers.first("x-identity") == Some(&identity)
                && match turn % 8 {
                    0 => answer.body.len() == 70_000,
                    1 => answer.body == body,
                    _ => answer.body == identity.as_bytes(),
                }
        });
        shared.tally().witnessed(took);
        if !whole {
            let details = match answer {
                Ok(answer) => format!(
                    "{} as {:?}, {} bytes",
                    answer.status,
                    answer.headers.first("x-identity"),
                    answer.body.len()
                ),
                Err(error) => error.to_string(),
            };
            let details = format!(
                "{identity} at worker {}, request {turn}: {method} {target}: {details}",
                witness.worker
            );
            shared.tally().problem("a witness", details);
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
