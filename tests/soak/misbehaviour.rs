//! Clients that misbehave, at random by a seed, half of them logged in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ntlm_origin::client::{Connection, Response, Scheme};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::crowd::clients::{IDENTITIES, USERS};
use crate::faults::{Act, Ending, FAULTS, SMUGGLED, SMUGGLING};
use crate::site::{GROUPS, LONGEST_TIMEOUT, MAX_BODY_BYTES};
use crate::tally::{Outcome, Shared};

use Outcome::{Answered, Broken, Closed, Cut, Hung, Left, StaysOpen, Tunnelled};

/// Longer than anything that the front may take.
const PATIENCE: Duration = LONGEST_TIMEOUT.saturating_mul(6);

/// Misbehaves until everything is over; what it does follows from `seed`.
pub(crate) async fn misbehave(front: SocketAddr, seed: u64, shared: Arc<Shared>) {
    let mut rng = SmallRng::seed_from_u64(seed);
    while !shared.is_over() {
        let fault = &FAULTS[rng.random_range(0..FAULTS.len())];
        let login = rng
            .random_bool(0.5)
            .then(|| rng.random_range(0..IDENTITIES));
        let group = rng.random_range(0..GROUPS);
        let vary = rng.random();
        let pause = Duration::from_millis(rng.random_range(0..200));
        let began = Instant::now();
        let mut client = match Connection::open(front).await {
            Ok(connection) => Client {
                connection,
                shared: &shared,
                group,
                user: None,
                name: fault.name,
                vary,
            },
            Err(error) => {
                shared
                    .tally()
                    .problem("no connection", format!("{}: {error}", fault.name));
                return;
            }
        };
        let act = async {
            if let Some(user) = login {
                client.log_in(user).await;
            }
            client.act(fault.act).await
        };
        let outcome = match tokio::time::timeout(PATIENCE, act).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => outcome_of(&error),
            Err(_) => Hung,
        };
        let details = || format!("group {group}, login {login:?}, vary {vary}");
        shared.note(fault.name, fault.expected, outcome, began, details);
        drop(client);
        tokio::time::sleep(pause).await;
    }
}

/// What an error before the beginning of an answer means.
fn outcome_of(error: &io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::InvalidData => Broken,
        io::ErrorKind::TimedOut => Hung,
        _ => Closed,
    }
}

struct Client<'a> {
    connection: Connection,
    shared: &'a Shared,
    group: usize,
    /// Who tried to log in.
    user: Option<usize>,
    name: &'static str,
    vary: u32,
}

impl Client<'_> {
    async fn log_in(&mut self, user: usize) {
        self.user = Some(user);
        let target = format!("/{}/private/whoami", self.group);
        let way = match self.vary % 2 {
            0 => Scheme::Ntlm,
            _ => Scheme::NegotiateAfterKerberos,
        };
        let answer = self.connection.login(way, &target, &USERS[user]).await;
        let logged_in = match &answer {
            Ok(response) => {
                self.check_identity(response);
                response.status == 200
            }
            Err(_) => false,
        };
        let mut tally = self.shared.tally();
        tally.logins += 1;
        tally.failed_logins += u64::from(!logged_in);
    }

    /// An answer may be for nobody, or for who logged in.
    fn check_identity(&self, response: &Response) {
        let Some(identity) = response.headers.first("x-identity") else {
            return;
        };
        if self.user.map(|user| USERS[user].identity()).as_deref() != Some(identity) {
            let details = format!("{}: {:?} was answered as {identity}", self.name, self.user);
            self.shared.tally().wrong_identity(details);
        }
    }

    async fn send(&mut self, method: &str, target: &str, fields: &str) -> io::Result<()> {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: front\r\n{fields}\r\n");
        self.connection.send(head.as_bytes()).await
    }

    /// Reads an answer to its end.
    async fn answer(&mut self, method: &str) -> Outcome {
        let response = match self.connection.response_head(method).await {
            Ok(response) => response,
            Err(error) => return outcome_of(&error),
        };
        self.check_identity(&response);
        self.rest(response.status).await
    }

    /// The same where nobody can know what follows, so that the connection has to end.
    async fn last_answer(&mut self) -> Outcome {
        match self.answer("GET").await {
            answered @ Answered(_) => match self.connection.closed().await {
                Ok(true) => answered,
                _ => StaysOpen,
            },
            other => other,
        }
    }

    async fn leave(&mut self, ending: Ending, method: &str) -> io::Result<Outcome> {
        match ending {
            Ending::Close => Ok(Left),
            Ending::Reset => {
                self.connection.reset_on_close()?;
                Ok(Left)
            }
            Ending::HalfClose => {
                self.connection.finish().await?;
                Ok(self.answer(method).await)
            }
        }
    }

    async fn act(&mut self, act: Act) -> io::Result<Outcome> {
        let group = self.group;
        match act {
            Act::Garbage => {
                let mut bytes = SmallRng::seed_from_u64(self.vary.into());
                // No line end: what comes before the first one is no request line.
                let garbage: Vec<u8> = (0..200)
                    .map(|_| bytes.random::<u8>())
                    .filter(|byte| !matches!(byte, b'\r' | b'\n'))
                    .collect();
                self.connection
                    .send(&[&garbage[..], b"\r\n\r\n"].concat())
                    .await?;
                Ok(self.last_answer().await)
            }
            Act::Smuggle => {
                let fields = SMUGGLING[self.vary as usize % SMUGGLING.len()];
                let text = format!(
                    "POST /{group}/echo HTTP/1.1\r\nHost: front\r\n{fields}\r\n0\r\n\r\n{SMUGGLED}"
                );
                self.connection.send(text.as_bytes()).await?;
                Ok(self.last_answer().await)
            }
            Act::Oversized { target } => {
                let long = "x".repeat(70_000);
                // An error here: the front has refused it already. The answer is there nevertheless.
                let _ = match target {
                    true => self.send("GET", &format!("/{long}"), "").await,
                    false => self.send("GET", "/", &format!("X: {long}\r\n")).await,
                };
                Ok(self.last_answer().await)
            }
            Act::Bytewise => {
                let text = format!(
                    "POST /{group}/echo HTTP/1.1\r\nHost: front\r\nContent-Length: 20\r\n\r\n{}",
                    "b".repeat(20)
                );
                for byte in text.as_bytes() {
                    self.connection.send(&[*byte]).await?;
                    tokio::task::yield_now().await;
                }
                Ok(self.answer("POST").await)
            }
            Act::Silence => Ok(self.answer("GET").await),
            Act::SlowHead => {
                let text = format!("GET /{group}/whoami HTTP/1.1\r\nHost: fro");
                self.connection.send(text.as_bytes()).await?;
                Ok(self.last_answer().await)
            }
            Act::Upload(ending) => {
                self.begin_upload("/mirror").await?;
                self.leave(ending, "POST").await
            }
            Act::StalledUpload => {
                self.begin_upload(["/mirror", "/echo"][self.vary as usize % 2])
                    .await?;
                Ok(self.last_answer().await)
            }
            Act::BadChunk => {
                let target = format!("/{group}/mirror");
                self.send("POST", &target, "Transfer-Encoding: chunked\r\n")
                    .await?;
                let bad = ["3\r\nabcd\r\n", "3 \r\nabc\r\n", "-1\r\n", "3\nabc\r\n"];
                let bad = bad[self.vary as usize % bad.len()];
                self.connection
                    .send(format!("5\r\nhello\r\n{bad}0\r\n\r\n").as_bytes())
                    .await?;
                Ok(self.last_answer().await)
            }
            Act::TooLarge => {
                let fields = format!("Content-Length: {}\r\n", MAX_BODY_BYTES + 1);
                self.send("POST", &format!("/{group}/echo"), &fields)
                    .await?;
                Ok(self.last_answer().await)
            }
            Act::Download(ending) => {
                self.send("GET", &format!("/{group}/bytes/4000000"), "")
                    .await?;
                let head = self.connection.response_head("GET").await?;
                self.check_identity(&head);
                self.connection.body_piece().await?;
                match ending {
                    Ending::HalfClose => {
                        self.connection.finish().await?;
                        Ok(self.rest(200).await)
                    }
                    other => self.leave(other, "GET").await,
                }
            }
            Act::SlowReader => {
                self.send("GET", &format!("/{group}/bytes/100000000"), "")
                    .await?;
                // More than any `send_timeout` and the sweep that finds it.
                tokio::time::sleep(LONGEST_TIMEOUT + Duration::from_millis(1_500)).await;
                Ok(self.answer("GET").await)
            }
            Act::Waiting(ending) => {
                self.send("GET", &format!("/{group}/slow/500"), "").await?;
                self.leave(ending, "GET").await
            }
            Act::Pipeline => {
                let one = format!("GET /{group}/whoami HTTP/1.1\r\nHost: front\r\n\r\n");
                self.connection.send(one.repeat(30).as_bytes()).await?;
                for _ in 0..30 {
                    match self.answer("GET").await {
                        Answered(200) => {}
                        other => return Ok(other),
                    }
                }
                Ok(Answered(200))
            }
            Act::Tunnel(ending) => self.tunnel(ending).await,
            Act::Page(path) => {
                self.send("GET", &format!("/{group}{path}"), "").await?;
                Ok(self.answer("GET").await)
            }
            Act::PostPage(path) => self.post(&format!("/{group}{path}")).await,
            Act::Hostile(path) => {
                self.send("GET", &format!("/h{path}"), "").await?;
                Ok(self.answer("GET").await)
            }
            Act::PostHostile(path) => self.post(&format!("/h{path}")).await,
            Act::Gone => {
                self.send("GET", "/gone/", "").await?;
                Ok(self.answer("GET").await)
            }
            Act::Mixed => {
                self.send("GET", "/mixed/whoami", "").await?;
                Ok(self.answer("GET").await)
            }
            Act::MixedLogin => {
                let user = *self.user.get_or_insert(self.vary as usize % IDENTITIES);
                let answer = self
                    .connection
                    .login(Scheme::Ntlm, "/mixed/private/whoami", &USERS[user])
                    .await?;
                self.check_identity(&answer);
                Ok(Answered(answer.status))
            }
        }
    }

    async fn begin_upload(&mut self, path: &str) -> io::Result<()> {
        let target = format!("/{}{path}", self.group);
        self.send("POST", &target, "Content-Length: 400000\r\n")
            .await?;
        let part = 1_000 + self.vary as usize % 100_000;
        self.connection.send(&vec![b'u'; part]).await
    }

    /// A whole request with a body, whatever becomes of its second half.
    async fn post(&mut self, target: &str) -> io::Result<Outcome> {
        self.send("POST", target, "Content-Length: 100000\r\n")
            .await?;
        // An error here: the front has answered and closed.
        let _ = self.connection.send(&[b'p'; 100_000]).await;
        Ok(self.answer("POST").await)
    }

    /// Reads what is left of a body.
    async fn rest(&mut self, status: u16) -> Outcome {
        loop {
            match self.connection.body_piece().await {
                Ok(Some(_)) => {}
                Ok(None) => return Answered(status),
                Err(error) => {
                    return match outcome_of(&error) {
                        Closed => Cut,
                        other => other,
                    };
                }
            }
        }
    }

    async fn tunnel(&mut self, ending: Ending) -> io::Result<Outcome> {
        let fields = "Connection: upgrade\r\nUpgrade: words\r\n";
        self.send("GET", &format!("/tunnel{}/upgrade", self.group), fields)
            .await?;
        let head = self.connection.response_head("GET").await?;
        self.check_identity(&head);
        if head.status != 101 {
            return Ok(Answered(head.status));
        }
        let words = vec![b'w'; 1_000 + self.vary as usize % 50_000];
        self.connection.send(&words).await?;
        let mut echoed = 0;
        while echoed < words.len() {
            match self.connection.body_piece().await? {
                Some(piece) if piece.iter().all(|byte| *byte == b'w') => echoed += piece.len(),
                Some(_) => return Ok(Broken),
                None => return Ok(Cut),
            }
        }
        match ending {
            Ending::HalfClose => {
                self.connection.finish().await?;
                let end = self.connection.body_piece().await;
                Ok(if matches!(end, Ok(Some(_))) {
                    Broken
                } else {
                    Tunnelled
                })
            }
            ending => {
                self.leave(ending, "GET").await?;
                Ok(Tunnelled)
            }
        }
    }
}
