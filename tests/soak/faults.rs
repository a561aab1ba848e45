//! Clients that misbehave, at random by a seed, half of them logged in: a table of what they do and what may come of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ntlm_origin::client::{Connection, Response, Scheme};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::crowd::clients::{IDENTITIES, USERS};
use crate::site::{GROUPS, LONGEST_TIMEOUT, MAX_BODY_BYTES};
use crate::tally::{Outcome, Shared};

use Outcome::{Answered, Broken, Closed, Cut, Hung, Left, StaysOpen, Tunnelled};

/// Longer than anything that the front may take.
const PATIENCE: Duration = LONGEST_TIMEOUT.saturating_mul(6);

/// What a misbehaving client does.
struct Fault {
    name: &'static str,
    act: Act,
    expected: &'static [Outcome],
}

#[derive(Clone, Copy)]
enum Ending {
    Close,
    Reset,
    HalfClose,
}

#[derive(Clone, Copy)]
enum Act {
    /// Sends bytes at random for a head.
    Garbage,
    /// Sends one of `SMUGGLING`.
    Smuggle,
    /// Sends a target, or a field, of 70,000 bytes.
    Oversized { target: bool },
    /// Sends a head and a body byte by byte.
    Bytewise,
    /// Opens a connection and says nothing.
    Silence,
    /// Sends half a head and no more.
    SlowHead,
    /// Sends part of a body that comes back meanwhile, and leaves.
    Upload(Ending),
    /// Sends part of a body and no more.
    StalledUpload,
    /// Sends a chunked body that breaks the rules.
    BadChunk,
    /// Announces more than `client_max_body_size`.
    TooLarge,
    /// Reads part of an answer and leaves.
    Download(Ending),
    /// Reads nothing of a long answer until the front loses patience.
    SlowReader,
    /// Asks for something that takes time, and leaves.
    Waiting(Ending),
    /// Sends many requests at once.
    Pipeline,
    /// Opens a tunnel, uses it, and leaves.
    Tunnel(Ending),
    /// Gets this from a server of a group with logins.
    Page(&'static str),
    /// The same with a body of 100,000 bytes.
    PostPage(&'static str),
    /// Gets this from the server that misbehaves.
    Hostile(&'static str),
    /// The same with a body of 100,000 bytes.
    PostHostile(&'static str),
    /// Asks the server that comes and goes.
    Gone,
    /// Asks a group of which that server is one.
    Mixed,
    /// Logs in there.
    MixedLogin,
}

const fn fault(name: &'static str, act: Act, expected: &'static [Outcome]) -> Fault {
    Fault {
        name,
        act,
        expected,
    }
}

/// All of them, equally likely. A login that a limit or a server ended is `Closed` where its request was under way.
const FAULTS: &[Fault] = &[
    fault("garbage for a head", Act::Garbage, &[Answered(400)]),
    fault("smuggling", Act::Smuggle, &[Answered(400)]),
    fault(
        "oversized target",
        Act::Oversized { target: true },
        &[Answered(414)],
    ),
    fault(
        "oversized field",
        Act::Oversized { target: false },
        &[Answered(431)],
    ),
    fault("byte by byte", Act::Bytewise, &[Answered(200)]),
    fault("silence", Act::Silence, &[Closed]),
    fault("slow head", Act::SlowHead, &[Answered(408)]),
    fault("upload, close", Act::Upload(Ending::Close), &[Left]),
    fault("upload, reset", Act::Upload(Ending::Reset), &[Left]),
    fault(
        "upload, half close",
        Act::Upload(Ending::HalfClose),
        &[Cut, Closed, Answered(400)],
    ),
    fault(
        "stalled upload",
        Act::StalledUpload,
        &[Cut, Closed, Answered(408)],
    ),
    fault("bad chunk", Act::BadChunk, &[Answered(400), Closed, Cut]),
    fault("too large", Act::TooLarge, &[Answered(413)]),
    fault("download, close", Act::Download(Ending::Close), &[Left]),
    fault("download, reset", Act::Download(Ending::Reset), &[Left]),
    fault(
        "download, half close",
        Act::Download(Ending::HalfClose),
        &[Cut, Answered(200)],
    ),
    fault("slow reader", Act::SlowReader, &[Cut]),
    fault("waiting, close", Act::Waiting(Ending::Close), &[Left]),
    fault("waiting, reset", Act::Waiting(Ending::Reset), &[Left]),
    fault(
        "waiting, half close",
        Act::Waiting(Ending::HalfClose),
        &[Closed, Answered(200)],
    ),
    fault("pipeline", Act::Pipeline, &[Answered(200)]),
    fault("tunnel, close", Act::Tunnel(Ending::Close), &[Tunnelled]),
    fault("tunnel, reset", Act::Tunnel(Ending::Reset), &[Tunnelled]),
    fault(
        "tunnel, half close",
        Act::Tunnel(Ending::HalfClose),
        &[Tunnelled],
    ),
    fault("server cuts", Act::Page("/cut/200000"), &[Cut]),
    fault(
        "server ends by closing",
        Act::Page("/close/50000"),
        &[Answered(200)],
    ),
    fault(
        "server drops",
        Act::Page("/private/drop"),
        &[Answered(401), Answered(502), Closed],
    ),
    fault("server is late", Act::Page("/slow/60000"), &[Answered(504)]),
    fault(
        "server answers early, closes",
        Act::PostPage("/early-close/413"),
        &[Answered(413)],
    ),
    fault(
        "server answers early, reads",
        Act::PostPage("/early/403"),
        &[Answered(403)],
    ),
    fault(
        "server says more on a login",
        Act::Page("/private/extra"),
        &[Answered(200), Answered(401)],
    ),
    fault(
        "reset at once",
        Act::Hostile("/reset-at-once"),
        &[Answered(502)],
    ),
    fault(
        "close at once",
        Act::Hostile("/close-at-once"),
        &[Answered(502)],
    ),
    fault(
        "reset mid answer",
        Act::Hostile("/reset-mid-answer"),
        &[Cut, Answered(502)],
    ),
    fault(
        "close mid answer",
        Act::Hostile("/close-mid-answer"),
        &[Cut],
    ),
    fault("stall", Act::Hostile("/stall"), &[Answered(504)]),
    fault(
        "stall mid answer",
        Act::Hostile("/stall-mid-answer"),
        &[Cut],
    ),
    fault(
        "garbage for an answer",
        Act::Hostile("/garbage"),
        &[Answered(502), Answered(504)],
    ),
    fault(
        "garbage in a head",
        Act::Hostile("/garbage-head"),
        &[Answered(502)],
    ),
    fault(
        "two lengths",
        Act::Hostile("/two-lengths"),
        &[Answered(502)],
    ),
    fault(
        "length and coding",
        Act::Hostile("/length-and-coding"),
        &[Answered(502)],
    ),
    fault(
        "bad chunk of a server",
        Act::Hostile("/bad-chunk"),
        &[Cut, Closed, Answered(502)],
    ),
    fault(
        "interim forever",
        Act::Hostile("/interim-forever"),
        &[Answered(502)],
    ),
    fault(
        "endless head",
        Act::Hostile("/endless-head"),
        &[Answered(502)],
    ),
    fault(
        "unasked 101",
        Act::Hostile("/unasked-101"),
        &[Answered(502)],
    ),
    fault("more than asked", Act::Hostile("/extra"), &[Answered(200)]),
    fault(
        "answer byte by byte",
        Act::Hostile("/bytewise"),
        &[Answered(200)],
    ),
    fault(
        "senseless challenge",
        Act::Hostile("/challenge"),
        &[Answered(401)],
    ),
    fault(
        "reset mid upload",
        Act::PostHostile("/reset-mid-upload"),
        &[Answered(502)],
    ),
    fault(
        "close mid upload",
        Act::PostHostile("/close-mid-upload"),
        &[Answered(502)],
    ),
    fault(
        "early answer, no reading",
        Act::PostHostile("/early"),
        &[Answered(403)],
    ),
    fault("gone", Act::Gone, &[Answered(200), Answered(502), Cut]),
    fault("one of a group gone", Act::Mixed, &[Answered(200), Cut]),
    fault(
        "login where one is gone",
        Act::MixedLogin,
        &[Answered(200), Answered(401), Answered(502), Closed, Cut],
    ),
];

/// Heads that two readers might read in two ways, each with a request in what one of them takes for a body.
const SMUGGLING: [&str; 12] = [
    "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
    "Content-Length: 0\r\nContent-Length: 44\r\n",
    "Content-Length: 0, 44\r\n",
    "Content-Length: +44\r\n",
    "Content-Length : 44\r\n",
    "Content-Length: 0x2c\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "Transfer-Encoding:\x0bchunked\r\n",
    "X: y\nTransfer-Encoding: chunked\r\n",
    "X: y\r\n Transfer-Encoding: chunked\r\n",
];

const SMUGGLED: &str = "GET /0/smuggled HTTP/1.1\r\nHost: front\r\n\r\n";

/// How many names a run can count.
pub(crate) fn kinds() -> usize {
    FAULTS.len()
}

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
