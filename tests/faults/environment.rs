//! What the system lacks, and servers that are not there or make no sense.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};

use crate::front::{Front, eventually};
use crate::peer::{Peer, Server};
use crate::world::World;

/// How long a server is gone.
const DISAPPEARED: Duration = Duration::from_secs(10);

#[test]
fn without_descriptors() {
    let _turn = crate::turn();
    let unused = Server::bind();
    let mut world = World::start(
        1,
        "worker_rlimit_nofile 100;",
        // Servers count as failed after one failure.
        &format!(
            "upstream two {{ server {0}; server {0}; keepalive 0; }}",
            unused.addr()
        ),
        "location /two/ { proxy_pass http://two; }",
    );
    world.cell(
        "no descriptors are left",
        "logins go on, bodies are copied, then 200",
        crate::runs(),
        |world| {
            let mut bob = world.logged_in();
            // Idle clients make room; one that is logged in, and those that have begun a request, do not.
            let mut waiting = world.logged_in();
            let before = world.front.error_log().len();
            let pipes = world.front.pipes();
            let busy = |_| {
                let mut client = world.client();
                client.send("GET /whoami HTTP/1.1\r\n");
                client
            };
            let crowd: Vec<Peer> = (0..120).map(busy).collect();
            eventually("the descriptors are used up", || {
                world.front.error_log()[before..]
                    .contains("accept4() failed (24")
                    .then_some(())
            });
            bob.is_bob();
            bob.moves_bodies();
            assert!(world.front.pipes() <= pipes, "a pipe was made of nothing");
            // Who needs a connection that cannot be made is told so, and nobody's server is to blame.
            assert_eq!(waiting.asks("/two/"), 500);
            let log = world.front.error_log();
            assert!(!log.contains("temporarily disabled"), "{log}");
            drop(crowd);
            eventually("the crowd is gone", || {
                (world.more_sockets() <= 4).then_some(())
            });
            waiting.is_bob();
            let mut next = world.client();
            next.send("GET /two/ HTTP/1.1\r\nHost: test\r\n\r\n");
            let mut server = unused.accept();
            server.head();
            server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(next.answer().status(), 200);
            assert_eq!(world.client().get("/whoami").status(), 200);
            bob.is_bob();
        },
    );
    world.finish("descriptors");
}

/// As root nobody's pipes are limited: so the front becomes a user whose pipes are.
#[test]
fn without_room_for_pipes() {
    let _turn = crate::turn();
    if !nix::unistd::geteuid().is_root() {
        println!("not tested: only root can become a user whose pipes are many");
        return;
    }
    let nobody = nix::unistd::User::from_name("nobody").expect("the users are known");
    let nobody = nobody.expect("there is nobody");
    let soft = std::fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft").expect("the limit");
    let pages: usize = soft.trim().parse().expect("a number");
    if pages == 0 || pages > 100_000 {
        println!("not tested: {pages} pages of pipes are too many");
        return;
    }
    let mut world = World::start(1, "user nobody nogroup;", "", "");
    let mut pipes = Command::new("python3")
        .arg("-c")
        .arg(format!("import os\np=[os.pipe() for _ in range({}//16+50)]\nprint(len(p), flush=True)\ninput()", pages))
        .uid(nobody.uid.as_raw())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let mut made = String::new();
    let stdout = pipes.stdout.take().expect("its output");
    BufReader::new(stdout)
        .read_line(&mut made)
        .expect("its pipes");
    assert!(
        made.trim()
            .parse::<usize>()
            .is_ok_and(|made| made >= pages / 16),
        "{made}"
    );
    let before = world.front.pipes();
    world.cell(
        "the user's pipes are at their limit",
        "bodies are copied",
        crate::runs(),
        |world| {
            let mut bob = world.logged_in();
            bob.moves_bodies();
            assert_eq!(world.front.pipes(), before, "a small pipe was kept");
        },
    );
    let _ = pipes.stdin.take().expect("its input").write_all(b"\n");
    assert!(pipes.wait().expect("it ends").success());
    world.cell("the limit is gone", "bodies are spliced", 1, |world| {
        let mut bob = world.logged_in();
        bob.moves_bodies();
        assert!(world.front.pipes() > before, "none was used");
    });
    world.finish("pipes");
}

#[test]
fn without_room_for_the_log() {
    let _turn = crate::turn();
    let mut world = World::start(
        1,
        "",
        "",
        "error_log logs/full-error.log info; access_log logs/full.log;",
    );
    let logs =
        ["full.log", "full-error.log"].map(|name| world.front.path().join("logs").join(name));
    let reopen = |world: &World| {
        let before = world.front.error_log().matches("reopen").count();
        world.front.signal(Signal::SIGUSR1);
        eventually("the logs are opened again", || {
            (world.front.error_log().matches("reopen").count() > before).then_some(())
        });
    };
    world.cell(
        "the logs' disk is full",
        "requests go on; lines come again",
        crate::runs(),
        |world| {
            for log in &logs {
                std::fs::remove_file(log).expect("the log was there");
                symlink("/dev/full", log).expect("a link");
            }
            reopen(world);
            let mut bob = world.logged_in();
            for _ in 0..200 {
                bob.is_bob();
            }
            for log in &logs {
                std::fs::remove_file(log).expect("the link was there");
            }
            reopen(world);
            bob.is_bob();
            eventually("lines come again", || {
                let text = std::fs::read_to_string(&logs[0]).unwrap_or_default();
                text.contains("GET /mail/whoami").then_some(())
            });
        },
    );
    world.finish("logs");
}

/// A listening socket whose queue is full.
struct Deaf {
    listener: Socket,
    queue: Vec<Socket>,
}

impl Deaf {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        listener.bind(&any.into()).expect("a free port");
        listener.listen(1).expect("a queue");
        Self {
            listener,
            queue: Vec::new(),
        }
    }

    fn addr(&self) -> std::net::SocketAddr {
        let addr = self.listener.local_addr().expect("an address");
        addr.as_socket().expect("an IP address")
    }

    fn fill(&mut self) {
        loop {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            if socket
                .connect_timeout(&self.addr().into(), Duration::from_millis(200))
                .is_err()
            {
                return;
            }
            self.queue.push(socket);
        }
    }
}

const GARBAGE: [&[u8]; 12] = [
    b"\0\0\0\0",
    b"\x15\x03\x01\x00\x02\x02\x46",
    b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
    b"<html>\r\n\r\n",
];

#[test]
fn servers_that_are_not_there_or_make_no_sense() {
    let _turn = crate::turn();
    let (server, mut deaf) = (Server::bind(), Deaf::new());
    deaf.fill();
    let closed = Server::bind().addr();
    let (addr, deaf_addr) = (server.addr(), deaf.addr());
    let mut world = World::start(
        2,
        "",
        &format!(
            "upstream one {{ server {addr} max_fails=0; ntlm; keepalive 0; }}
             upstream spare {{ server {closed} max_fails=0; server {addr} max_fails=0 backup; keepalive 0; }}"
        ),
        &format!(
            "location /one/ {{ proxy_pass http://one; }}
             location /spare/ {{ proxy_pass http://spare; }}
             location /refuses/ {{ proxy_pass http://{closed}; }}
             location /deaf/ {{ proxy_pass http://{deaf_addr}; proxy_connect_timeout 300ms; }}"
        ),
    );
    let runs = crate::runs();
    world.cell(
        "the server refuses",
        "502, the client stays",
        runs,
        |world| {
            let mut client = world.client();
            for _ in 0..2 {
                assert_eq!(client.get("/refuses/").status(), 502);
            }
        },
    );
    world.cell(
        "it refuses, another is there",
        "the other one answers",
        runs,
        |world| {
            let mut client = world.client();
            client.send("GET /spare/ HTTP/1.1\r\nHost: test\r\n\r\n");
            let mut peer = server.accept();
            peer.head();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(client.answer().status(), 200);
        },
    );
    world.cell(
        "the server accepts nothing",
        "504, the client stays",
        runs,
        |world| {
            let mut client = world.client();
            assert_eq!(client.get("/deaf/").status(), 504);
            assert_eq!(client.get("/whoami").status(), 200);
        },
    );
    let log_in = |client: &mut Peer| {
        client.send("GET /one/ HTTP/1.1\r\nHost: test\r\nAuthorization: Negotiate YII=\r\n\r\n");
        let mut peer = server.accept();
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.answer().status(), 200);
        peer
    };
    world.cell(
        "garbage in place of an answer",
        "502; with a login the client ends",
        runs,
        |world| {
            for garbage in GARBAGE {
                for login in [false, true] {
                    let mut client = world.client();
                    let peer = login.then(|| log_in(&mut client));
                    client.send("GET /one/ HTTP/1.1\r\nHost: test\r\n\r\n");
                    let mut peer = peer.unwrap_or_else(|| server.accept());
                    peer.head();
                    peer.send(garbage);
                    let answer = client.answer();
                    assert_eq!(
                        answer.status(),
                        502,
                        "{:?}",
                        String::from_utf8_lossy(garbage)
                    );
                    let _ = peer.try_rest();
                    match login {
                        true => client.ends(),
                        false => assert_eq!(client.get("/whoami").status(), 200),
                    }
                }
            }
        },
    );
    for status in ["200 OK", "401 Unauthorized"] {
        let name = format!("{status} before the request is over, read on");
        world.cell(&name, "answered at once, the login stays", runs, |world| {
            let mut client = world.client();
            let mut peer = log_in(&mut client);
            client.send("POST /one/ HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\n\r\nhalf");
            peer.head();
            assert_eq!(peer.take(4), b"half");
            peer.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
            assert!(client.answer().head.line().ends_with(status));
            client.send("more");
            assert_eq!(peer.take(4), b"more");
            client.send("GET /one/ HTTP/1.1\r\nHost: test\r\n\r\n");
            peer.head();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(client.answer().status(), 200);
            drop(client);
            peer.ends();
        });
        let name = format!("{status} before the request is over, then the end");
        world.cell(&name, "answered at once, both are closed", runs, |world| {
            let mut client = world.client();
            let mut peer = log_in(&mut client);
            client.send("POST /one/ HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\n\r\nhalf");
            peer.head();
            assert_eq!(peer.take(4), b"half");
            peer.send(format!(
                "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            ));
            drop(peer);
            assert!(client.answer().head.line().ends_with(status));
            client.ends();
        });
    }
    // As many as there are runs, at the same time.
    world.cell(
        "the server is gone for ten seconds",
        "then it answers, on the same login",
        1,
        |world| {
            let mut all: Vec<(Peer, Peer)> = (0..runs)
                .map(|_| {
                    let mut client = world.client();
                    let peer = log_in(&mut client);
                    client.send("GET /one/ HTTP/1.1\r\nHost: test\r\n\r\n");
                    (client, peer)
                })
                .collect();
            let gone = Instant::now();
            let mut bob = world.logged_in();
            while gone.elapsed() < DISAPPEARED {
                bob.is_bob();
            }
            for (client, peer) in &mut all {
                assert_eq!(client.so_far(), "");
                peer.head();
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                assert_eq!(client.answer().status(), 200);
            }
        },
    );
    world.finish("servers");
}

/// What a worker that is full does is nobody's server's failure either.
#[test]
fn a_full_worker_disables_no_server() {
    let _turn = crate::turn();
    let server = Server::bind();
    let front = Front::start_main(
        "worker_processes 1; events { worker_connections 3; }",
        &format!(
            "upstream two {{ server {0}; server {0}; keepalive 0; }}
             server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://two; }} }}",
            server.addr()
        ),
    );
    let sockets = front.sockets();
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for _ in 0..crate::runs() {
        // Two connections that are in use, and so make no room.
        let mut first = Peer::connect(front.addr(0));
        first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut peer = server.accept();
        peer.head();
        let mut second = Peer::connect(front.addr(0));
        for _ in 0..3 {
            assert_eq!(second.get("/").status(), 500);
        }
        peer.send(answer);
        assert_eq!(first.answer().status(), 200);
        drop(first);
        eventually("there is room", || {
            (front.sockets() <= sockets + 1).then_some(())
        });
        second.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut peer = server.accept();
        peer.head();
        peer.send(answer);
        assert_eq!(second.answer().status(), 200);
        drop(second);
        eventually("all are gone", || {
            (front.sockets() <= sockets).then_some(())
        });
    }
    assert!(!front.error_log().contains("temporarily disabled"));
}
