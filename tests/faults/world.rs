//! A front of one's own with a server that does NTLM, for faults of the world around it.

use std::time::{Duration, Instant};

use ntlm_origin::client::Connection;
use ntlm_origin::{Origin, OriginOptions, User};

use crate::front::{Front, eventually};
use crate::house::resident;
use crate::peer::{Peer, alphabet, assert_same};
use crate::report::{Line, Summary};
use crate::witness::Witnesses;

/// Bytes of bodies that are worth a pipe.
const BODY_BYTES: usize = 3_000_000;

/// A front before one server, with witnesses, and what was seen so far.
pub(crate) struct World {
    pub(crate) front: Front,
    /// The witnesses' server, and everybody else's.
    _origins: [Origin; 2],
    witnesses: Witnesses,
    sockets: usize,
    resident: Option<usize>,
    lines: Vec<Line>,
}

impl World {
    /// `main` stands in the main context, `http` and `server` in those blocks; `/mail/` leads to a server, and what
    /// nobody else takes to another one, which the witnesses ask.
    pub(crate) fn start(workers: u64, main: &str, http: &str, server: &str) -> Self {
        let start = || Origin::start(OriginOptions::default()).expect("an origin");
        let origins = [start(), start()];
        let http = format!(
            "client_max_body_size 0;
             keepalive_requests 1000000000;
             upstream witness {{ server {}; ntlm; ntlm_requests 1000000000; keepalive 0; }}
             upstream mail {{ server {}; ntlm; ntlm_requests 1000000000; keepalive 0; }}
             server {{
                 listen 127.0.0.1:0;
                 {server}
                 location / {{ proxy_pass http://witness; add_header X-Client $connection; }}
                 location /mail/ {{ proxy_pass http://mail/; }}
             }}
             {http}",
            origins[0].addr(),
            origins[1].addr(),
        );
        let front = Front::start_main(&format!("worker_processes {workers};\n{main}"), &http);
        let sockets = front.sockets();
        let witnesses = Witnesses::on(front.addr(0), origins[0].addr(), workers);
        Self {
            // Each witness has a connection, and a login behind it.
            sockets: sockets + 2 * workers as usize,
            front,
            _origins: origins,
            witnesses,
            resident: None,
            lines: Vec::new(),
        }
    }

    /// Carries a cell out; `run` returns what else is worth saying of it.
    #[track_caller]
    pub(crate) fn cell(
        &mut self,
        name: &str,
        expected: &str,
        runs: usize,
        mut run: impl FnMut(&Self),
    ) {
        let from = Instant::now();
        for _ in 0..runs {
            run(self);
            let mut now = 0;
            let deadline = Instant::now() + crate::front::PATIENCE;
            while now != self.sockets {
                assert!(
                    Instant::now() < deadline,
                    "{name}: {now} sockets, there were {}",
                    self.sockets
                );
                std::thread::sleep(Duration::from_millis(5));
                now = self.front.sockets();
            }
            self.witnesses.are_well();
            self.resident
                .get_or_insert_with(|| resident(self.front.pid()));
        }
        self.lines.push(Line {
            name: name.to_owned(),
            expected: expected.to_owned(),
            runs,
            failures: Vec::new(),
            worst: self.witnesses.worst_since(from),
        });
    }

    /// Prints what came of all cells, and fails if somebody had to wait.
    #[track_caller]
    pub(crate) fn finish(self, what: &str) {
        let after = resident(self.front.pid());
        let summary = Summary {
            lines: self.lines,
            witnessed: self.witnesses.answers(),
            resident: (self.resident.unwrap_or(after), after),
        };
        self.witnesses.finish();
        summary.print(what);
        summary.judge();
    }

    /// A client of the front.
    pub(crate) fn client(&self) -> Peer {
        Peer::connect(self.front.addr(0))
    }

    /// Somebody who is logged in.
    pub(crate) fn logged_in(&self) -> LoggedIn {
        LoggedIn::new(&self.front)
    }

    /// Waits for so many sockets of the front beside those that are always there.
    #[track_caller]
    pub(crate) fn await_more_sockets(&self, more: usize) {
        eventually("the front accepts", || {
            (self.front.sockets() >= self.sockets + more).then_some(())
        });
    }

    /// The front's sockets beside those that are always there.
    pub(crate) fn more_sockets(&self) -> usize {
        self.front.sockets().saturating_sub(self.sockets)
    }
}

/// A connection that bob has logged in on.
pub(crate) struct LoggedIn {
    runtime: tokio::runtime::Runtime,
    connection: Connection,
}

impl LoggedIn {
    fn new(front: &Front) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let connection = runtime.block_on(async {
            let mut connection = Connection::open(front.addr(0))
                .await
                .expect("the front accepts");
            let bob = User::new("EXAMPLE", "bob", "builder");
            let answer = connection
                .login_ntlm("/mail/whoami", &bob)
                .await
                .expect("a login");
            assert_eq!(answer.text(), "EXAMPLE\\bob");
            connection
        });
        Self {
            runtime,
            connection,
        }
    }

    /// Is still who he is.
    #[track_caller]
    pub(crate) fn is_bob(&mut self) {
        let answer = self.runtime.block_on(self.connection.get("/mail/whoami"));
        assert_eq!(
            answer.expect("an answer").text(),
            "EXAMPLE\\bob",
            "WRONG IDENTITY"
        );
    }

    /// The status of an answer to a GET.
    pub(crate) fn asks(&mut self, target: &str) -> u16 {
        let answer = self.runtime.block_on(self.connection.get(target));
        answer.expect("an answer").status
    }

    /// Has large bodies come and go whole.
    #[track_caller]
    pub(crate) fn moves_bodies(&mut self) {
        let body = alphabet(BODY_BYTES);
        let answer = self
            .runtime
            .block_on(self.connection.get(&format!("/mail/bytes/{BODY_BYTES}")));
        assert_same(&answer.expect("an answer").body, &body, "down");
        let request = self.connection.request("POST", "/mail/echo", &[], &body);
        let answer = self.runtime.block_on(request).expect("an answer").text();
        assert!(
            answer.contains(&format!("body-bytes: {BODY_BYTES}")),
            "{answer}"
        );
    }
}
