//! What a login leaves behind when its client is gone: nothing, and within a second.

use std::time::{Duration, Instant};

use ntlm_origin::client::{Connection, Scheme};

use super::configuration;
use crate::crowd::clients::USERS;
use crate::crowd::{connections, origins};
use crate::front::{Front, eventually};

const CLIENTS: usize = 1_000;
const PROMISED: Duration = Duration::from_secs(1);

/// Other processes on the machine may hold one round up; a front that is late is late in all of them.
const ROUNDS: usize = 3;

#[tokio::test]
async fn upstream_connections_are_gone_within_a_second_of_their_clients() {
    let origins = origins(1);
    let front = Front::start(&configuration(&origins, "ntlm 1000; keepalive 0;"));
    let sockets = front.sockets();
    let mut took = Vec::new();
    while took.len() < ROUNDS {
        let mut clients = Vec::with_capacity(CLIENTS);
        for number in 0..CLIENTS {
            clients.push(logged_in(&front, number).await);
        }
        assert_eq!(connections(&origins), CLIENTS);
        assert_eq!(front.sockets(), sockets + 2 * CLIENTS);
        let began = Instant::now();
        let mut half_closed = Vec::new();
        for (number, mut client) in clients.into_iter().enumerate() {
            match number % 3 {
                0 => drop(client),
                1 => client.reset().expect("a reset"),
                _ => {
                    client.finish().await.expect("an open connection");
                    half_closed.push(client);
                }
            }
        }
        eventually("no upstream connection is left", || {
            (connections(&origins) == 0).then_some(())
        });
        took.push(began.elapsed());
        drop(half_closed);
        eventually("no socket is left", || {
            (front.sockets() == sockets).then_some(())
        });
        if took.last().is_some_and(|last| *last < PROMISED) {
            break;
        }
    }
    println!("{CLIENTS} clients left, and their logins after {took:.0?}");
    assert!(took.iter().any(|took| *took < PROMISED), "{took:?}");
}

/// A client between requests, with one login.
async fn logged_in(front: &Front, number: usize) -> Connection {
    let mut client = Connection::open(front.addr(0))
        .await
        .expect("the front accepts");
    let user = &USERS[number % USERS.len()];
    let answer = client
        .login(Scheme::Negotiate, "/0/private/whoami", user)
        .await;
    assert_eq!(answer.expect("an answer").text(), user.identity());
    client
}
