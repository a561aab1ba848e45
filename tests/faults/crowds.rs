//! Thousands of clients that do next to nothing: what they cost, whom they keep waiting, and that they go.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::front::eventually;
use crate::house::resident;
use crate::world::World;

/// Clients with a part of a head, or nothing.
const SLOW_HEADS: usize = 4000;

/// Clients that ask for ten megabytes each and read nothing. Fewer, for the sake of the kernel's memory of all who test here.
const SLOW_READERS: usize = 1000;

/// Clients that send a byte of their body now and then.
const TRICKLES: usize = 2000;

/// What a client that does next to nothing may cost the front in memory of its own, in bytes.
const EACH_BYTES: usize = 8 << 10;

fn connect(world: &World, receive_buffer: Option<usize>) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor");
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).expect("SO_RCVBUF");
    }
    let addr = world.front.addr(0).into();
    socket.connect(&addr).expect("the front accepts");
    TcpStream::from(socket)
}

/// So many clients, each of which has sent `head`.
fn crowd(
    world: &World,
    number: usize,
    receive_buffer: Option<usize>,
    head: &[u8],
) -> Vec<TcpStream> {
    let clients = (0..number).map(|_| {
        let mut client = connect(world, receive_buffer);
        client.write_all(head).expect("a small head fits");
        client
    });
    clients.collect()
}

/// Notes what the crowd costs, which has to be bounded.
#[track_caller]
fn judge(world: &World, what: &str, number: usize, before: usize) {
    let all = resident(world.front.pid()).saturating_sub(before);
    println!("{what}: {number} clients, {} bytes each", all / number);
    assert!(
        all < number * EACH_BYTES,
        "{what}: {number} clients take {all} bytes"
    );
}

#[test]
fn thousands_of_clients_that_do_next_to_nothing() {
    let _turn = crate::turn();
    let haste =
        "client_header_timeout 2s; send_timeout 2s; client_body_timeout 2s; keepalive_timeout 60s;";
    let mut world = World::start(2, "", "", haste);
    let before = resident(world.front.pid());
    // As often as they make sense: a crowd is many already.
    let runs = crate::runs().div_ceil(10);
    world.cell(
        "4,000 clients with a part of a head",
        "closed or 408 when their time is over",
        runs,
        |world| {
            let mut clients = crowd(world, SLOW_HEADS, None, b"");
            // Each second one begins.
            for client in clients.iter_mut().step_by(2) {
                client
                    .write_all(b"GET / HTTP/1.1\r\nHost: te")
                    .expect("a few bytes fit");
            }
            world.await_more_sockets(SLOW_HEADS);
            judge(world, "slow heads", SLOW_HEADS, before);
            // The answer and its end, unless there is none; lingering ends with the client.
            let mut answered = 0;
            for mut client in clients {
                let mut answer = Vec::new();
                SockRef::from(&client)
                    .set_read_timeout(Some(crate::front::PATIENCE))
                    .expect("a timeout");
                std::io::Read::read_to_end(&mut client, &mut answer).expect("the end");
                match answer.starts_with(b"HTTP/1.1 408 ") {
                    true => answered += 1,
                    false => assert_eq!(answer, b""),
                }
            }
            assert_eq!(answered, SLOW_HEADS / 2);
        },
    );
    world.cell(
        "1,000 clients that read nothing of 10 MB",
        "closed when their time is over",
        runs,
        |world| {
            let head = b"GET /mail/bytes/10000000 HTTP/1.1\r\nHost: test\r\n\r\n";
            // One after another, as soon as the answer to the last one is there: what is looked at is what they hold, not how
            // fast gigabytes are moved for those who come at the same moment.
            let clients: Vec<TcpStream> = (0..SLOW_READERS)
                .map(|_| {
                    let client = crowd(world, 1, Some(4096), head).remove(0);
                    client.peek(&mut [0]).expect("an answer");
                    client
                })
                .collect();
            world.await_more_sockets(SLOW_READERS);
            judge(world, "slow readers", SLOW_READERS, before);
            eventually("their time is over", || {
                (world.more_sockets() == 0).then_some(())
            });
            drop(clients);
        },
    );
    world.cell("2,000 clients that trickle their bodies", "all answered at the end", runs, |world| {
        let before = resident(world.front.pid());
        let head = b"POST /mail/echo HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\nConnection: close\r\n\r\n";
        let mut clients = crowd(world, TRICKLES, None, head);
        for nth in 0..8 {
            for client in &mut clients {
                client.write_all(b"x").expect("a byte fits");
            }
            if nth == 6 {
                judge(world, "trickled bodies", TRICKLES, before);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        for mut client in clients {
            let mut answer = Vec::new();
            SockRef::from(&client).set_read_timeout(Some(crate::front::PATIENCE)).expect("a timeout");
            std::io::Read::read_to_end(&mut client, &mut answer).expect("an answer");
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
            assert!(answer.ends_with(b"\n"), "{}", String::from_utf8_lossy(&answer));
        }
    });
    world.finish("crowds");
}
