//! The clients that carry a plan out over real sockets, and keep the books about what they are answered.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ntlm_origin::client::{Connection, Handshake, Response, Scheme as Way, ticket_for};
use ntlm_origin::{Kerberos, User};
use tokio::sync::mpsc;

use super::books::{Book, Findings, Holding, Violation};
use crate::plan::{Action, Deed, Leg, Plan, Scheme, Shape, Stage};

pub(crate) const IDENTITIES: usize = 50;

/// For how long a server's closing may still be met by requests that begin after it.
const CLOSING: Duration = Duration::from_secs(2);

/// Deeds that wait for one client while others go on.
const QUEUE: usize = 8;

/// Who takes part, with the right passwords.
pub(crate) static USERS: LazyLock<Vec<User>> = LazyLock::new(|| users("right"));

/// The same, as they mistype their passwords.
static MISTYPED: LazyLock<Vec<User>> = LazyLock::new(|| users("wrong"));

fn users(password: &str) -> Vec<User> {
    let user = |n| User::new("EXAMPLE", &format!("user{n}"), password);
    (0..IDENTITIES).map(user).collect()
}

/// What all clients share.
pub(crate) struct World {
    front: SocketAddr,
    holding: Holding,
    pub(crate) findings: RefCell<Findings>,
    /// By group: when one of its servers closed a connection last that may be anybody's.
    closed: Vec<Cell<Option<Instant>>>,
    /// When the front was short of connections last (`worker_connections`), so that it turned people away.
    short: Cell<Option<Instant>>,
}

impl World {
    pub(crate) fn new(front: SocketAddr, groups: usize, holding: Holding) -> Rc<Self> {
        Rc::new(Self {
            front,
            holding,
            findings: RefCell::default(),
            closed: vec![Cell::new(None); groups],
            short: Cell::new(None),
        })
    }

    /// Says that servers of the group close connections now.
    pub(crate) fn closes(&self, group: usize) {
        self.closed[group].set(Some(Instant::now()));
    }

    /// Says that the front has as many connections as it may, so that it turns people away now.
    pub(crate) fn is_short(&self) {
        self.short.set(Some(Instant::now()));
    }

    /// Whether what happened to something that is there since `began` may be due to a server's closing, or to a shortage.
    fn excuses(&self, group: usize, began: Instant) -> bool {
        self.holding == Holding::UntilEnded
            && (may_explain(self.closed[group].get(), began) || self.was_short(began))
    }

    fn was_short(&self, began: Instant) -> bool {
        may_explain(self.short.get(), began)
    }

    fn report(&self, violation: Violation, details: String) {
        self.findings.borrow_mut().report(violation, details);
    }

    fn excuse(&self, violation: Violation) {
        self.findings.borrow_mut().excuse(violation);
    }
}

/// Whether something that happened at this time may still be met by what began then.
fn may_explain(happened: Option<Instant>, began: Instant) -> bool {
    happened.is_some_and(|happened| happened + CLOSING > began)
}

/// Carries the plan of `seed` out until `enough` says so; `operator` does what is no client's. Then everybody leaves.
/// Returns when the last one has left.
pub(crate) async fn carry_out(
    world: &Rc<World>,
    seed: u64,
    shape: Shape,
    enough: impl Fn(&Findings) -> bool,
    mut operator: impl AsyncFnMut(Action),
) -> Instant {
    let clients = tokio::task::LocalSet::new();
    let (queues, tasks): (Vec<_>, Vec<_>) = (0..shape.clients)
        .map(|number| {
            let (queue, deeds) = mpsc::channel(QUEUE);
            let client = Client::new(Rc::clone(world), number);
            (queue, clients.spawn_local(client.act(deeds)))
        })
        .unzip();
    clients
        .run_until(async move {
            for action in Plan::new(seed, shape) {
                if enough(&world.findings.borrow()) {
                    break;
                }
                let (client, deed) = match action {
                    Action::Client { client, deed } => (client, Todo::Deed(deed)),
                    Action::ServerCloses { group, client } => (client, Todo::BeClosed { group }),
                    Action::Pause { .. } | Action::Reload { .. } => {
                        operator(action).await;
                        continue;
                    }
                };
                let sent = queues[client].send(deed).await;
                assert!(sent.is_ok(), "client {client} has panicked");
            }
            drop(queues);
            for task in tasks {
                task.await.expect("no client panics");
            }
            Instant::now()
        })
        .await
}

enum Todo {
    Deed(Deed),
    /// Has the server close this client's connection.
    BeClosed {
        group: usize,
    },
}

struct Client {
    world: Rc<World>,
    number: usize,
    /// Deeds so far: what varies from one to the next is chosen by it.
    deeds: usize,
    connection: Option<Connected>,
}

/// A client connection.
struct Connected {
    connection: Connection,
    groups: Vec<Group>,
    /// When the last request began that was answered.
    seen: Instant,
    /// A server closed a connection that was this client's alone.
    server_closed: bool,
}

/// What a client connection remembers of a group.
#[derive(Default)]
struct Group {
    book: Book,
    login: Option<Login>,
}

/// A login under way.
struct Login {
    began: Instant,
    handshake: Handshake<'static>,
    /// The leg that was answered last, and what the next one sends.
    leg: Leg,
    authorization: String,
}

/// A request to one group.
struct Ask<'a> {
    group: usize,
    method: &'a str,
    path: &'a str,
    authorization: Option<&'a str>,
    body: &'a [u8],
}

impl Client {
    fn new(world: Rc<World>, number: usize) -> Self {
        Self {
            world,
            number,
            deeds: 0,
            connection: None,
        }
    }

    async fn act(mut self, mut deeds: mpsc::Receiver<Todo>) {
        while let Some(todo) = deeds.recv().await {
            self.deeds += 1;
            if matches!(todo, Todo::Deed(Deed::Connect { .. })) {
                self.connection = None;
            }
            if self.connection.is_none() {
                self.connect().await;
            }
            match todo {
                Todo::Deed(Deed::Connect { .. }) => {}
                Todo::Deed(Deed::Request { group }) => self.request(group).await,
                Todo::Deed(Deed::Login { group, leg }) => self.login(group, leg).await,
                Todo::Deed(Deed::Abandon { group, stage }) => self.abandon(group, stage).await,
                Todo::Deed(Deed::Close) => self.close().await,
                Todo::BeClosed { group } => self.be_closed(group).await,
            }
        }
        self.close().await;
    }

    async fn connect(&mut self) {
        let connection = Connection::open(self.world.front)
            .await
            .expect("the front accepts");
        self.world.findings.borrow_mut().connections += 1;
        self.connection = Some(Connected {
            connection,
            groups: self.world.closed.iter().map(|_| Group::default()).collect(),
            seen: Instant::now(),
            server_closed: false,
        });
    }

    /// Asks without credentials, in one of many ways.
    async fn request(&mut self, group: usize) {
        let (method, path, body): (_, _, &[u8]) = match self.deeds % 24 {
            0 | 1 => ("GET", "/private/whoami", b""),
            2 => ("GET", "/bytes/70000", b""),
            3 => ("GET", "/chunked/3000", b""),
            4 => ("POST", "/echo", &[b'x'; 2000]),
            5 => ("POST", "/mirror", &[b'y'; 50_000]),
            6 => ("HEAD", "/whoami", b""),
            7 => ("GET", "/204", b""),
            8 => return self.pipeline(group).await,
            _ => ("GET", "/whoami", b""),
        };
        let ask = Ask {
            group,
            method,
            path,
            authorization: None,
            body,
        };
        if let Some(response) = self.exchange(&ask).await {
            self.check(&ask, &response);
        }
    }

    /// Sends two requests at once.
    async fn pipeline(&mut self, group: usize) {
        let ask = Ask {
            group,
            method: "GET",
            path: "/whoami",
            authorization: None,
            body: b"",
        };
        let twice = self.head(&ask).repeat(2);
        let Some(connected) = &mut self.connection else {
            return;
        };
        self.world.findings.borrow_mut().requests += 2;
        let began = Instant::now();
        let mut sent = connected.connection.send(twice.as_bytes()).await;
        for _ in 0..2 {
            let Some(connected) = &mut self.connection else {
                return;
            };
            let result = match std::mem::replace(&mut sent, Ok(())) {
                Ok(()) => connected.connection.response("GET").await,
                Err(error) => Err(error),
            };
            if let Some(response) = self.answered(&ask, began, result) {
                self.check(&ask, &response);
            }
        }
    }

    /// One leg of a login, unless it continues one that this connection did not begin.
    async fn login(&mut self, group: usize, leg: Leg) {
        let Some(connected) = &mut self.connection else {
            return;
        };
        let under_way = connected.groups[group].login.take();
        let (login, authorization) = match (leg.number, under_way) {
            (0, _) => begin(leg),
            (number, Some(mut login))
                if login.leg
                    == (Leg {
                        number: number - 1,
                        ..leg
                    }) =>
            {
                let authorization = std::mem::take(&mut login.authorization);
                (Some(login), authorization)
            }
            _ => return,
        };
        let (method, path, body): (_, _, &[u8]) = match self.deeds % 8 {
            0 => ("POST", "/private/echo", &[b'z'; 1500]),
            _ => ("GET", "/private/whoami", b""),
        };
        let ask = Ask {
            group,
            method,
            path,
            authorization: Some(&authorization),
            body,
        };
        let began = login
            .as_ref()
            .map_or_else(Instant::now, |login| login.began);
        let Some(response) = self.exchange(&ask).await else {
            return;
        };
        let expected = (leg.is_last() && !leg.wrong_password).then_some(leg.identity);
        let for_this_request = leg.scheme == Scheme::KerberosEachRequest;
        let Some(connected) = &mut self.connection else {
            return;
        };
        let entry = &mut connected.groups[group];
        let mut whole = {
            let mut findings = self.world.findings.borrow_mut();
            let details = || describe(self.number, &ask, &response);
            entry.book.check_login(
                leg,
                expected,
                identity(&response),
                for_this_request,
                &mut findings,
                details,
            )
        };
        whole &= response.status == if expected.is_some() { 200 } else { 401 };
        if !leg.is_last() {
            entry.login = login.and_then(|mut login| {
                let authorization = login.handshake.next(&response)?;
                Some(Login {
                    leg,
                    authorization,
                    ..login
                })
            });
            whole &= entry.login.is_some();
        }
        if !whole && self.world.excuses(group, began) {
            self.world.excuse(Violation::HandshakeCut);
        } else if !whole {
            let details = format!("{leg:?}: {}", describe(self.number, &ask, &response));
            self.world.report(Violation::HandshakeCut, details);
        }
    }

    /// Leaves in the middle.
    async fn abandon(&mut self, group: usize, stage: Stage) {
        let first = Leg {
            scheme: Scheme::Ntlm,
            identity: self.deeds % IDENTITIES,
            wrong_password: false,
            number: 0,
        };
        match stage {
            Stage::AfterFirstLeg => {
                let (_, authorization) = begin(first);
                let ask = Ask {
                    group,
                    method: "GET",
                    path: "/private/whoami",
                    authorization: Some(&authorization),
                    body: b"",
                };
                self.send(&ask).await;
            }
            Stage::BetweenLegs => self.login(group, first).await,
            Stage::DuringAnswer => {
                let ask = Ask {
                    group,
                    method: "GET",
                    path: "/bytes/1000000",
                    authorization: None,
                    body: b"",
                };
                self.send(&ask).await;
                if let Some(connected) = &mut self.connection {
                    // Whether it comes or not, the client leaves.
                    let _ = connected.connection.response_head("GET").await;
                    let _ = connected.connection.body_piece().await;
                }
            }
        }
        match self.connection.take() {
            Some(connected) if self.deeds.is_multiple_of(2) => {
                connected.connection.reset().expect("a reset");
            }
            connected => drop(connected),
        }
    }

    /// Leaves between requests: by closing, by a reset, by closing one half.
    async fn close(&mut self) {
        let Some(mut connected) = self.connection.take() else {
            return;
        };
        match self.deeds % 3 {
            0 => {}
            1 => connected.connection.reset().expect("a reset"),
            _ => {
                // An error here: the front closed first.
                if connected.connection.finish().await.is_ok()
                    && !connected.connection.closed().await.unwrap_or(false)
                {
                    let details = format!("client {} closed its half", self.number);
                    self.world.report(Violation::Closed, details);
                }
            }
        }
    }

    /// Has the server close the connection that this client is logged in on.
    async fn be_closed(&mut self, group: usize) {
        let logged_in = |connected: &Connected| connected.groups[group].book.is_logged_in();
        if !self.connection.as_ref().is_some_and(logged_in) {
            return;
        }
        let ask = Ask {
            group,
            method: "GET",
            path: "/linger/0",
            authorization: None,
            body: b"",
        };
        let Some(response) = self.exchange(&ask).await else {
            return;
        };
        self.check(&ask, &response);
        let Some(connected) = &mut self.connection else {
            return;
        };
        let book = &mut connected.groups[group].book;
        if book.is_logged_in() {
            book.server_closed(&mut self.world.findings.borrow_mut());
            connected.server_closed = true;
        } else {
            // A limit had ended the login: it was a connection that is everybody's.
            self.world.closes(group);
        }
    }

    /// An answer to a request without credentials.
    fn check(&mut self, ask: &Ask<'_>, response: &Response) {
        let answered = identity(response);
        let number = self.number;
        if let Some(connected) = &mut self.connection {
            let mut findings = self.world.findings.borrow_mut();
            let book = &mut connected.groups[ask.group].book;
            let details = || describe(number, ask, response);
            book.check_request(answered, self.world.holding, &mut findings, details);
        }
        let status = match ask.path {
            "/private/whoami" if answered.is_none() => 401,
            "/204" => 204,
            _ => 200,
        };
        if response.status != status {
            self.world
                .report(Violation::WrongStatus, describe(number, ask, response));
        } else if !has_its_body(ask, response) {
            self.world
                .report(Violation::WrongBody, describe(number, ask, response));
        }
    }

    fn head(&self, ask: &Ask<'_>) -> String {
        let authorization = ask.authorization.map_or_else(String::new, |authorization| {
            format!("Authorization: {authorization}\r\n")
        });
        format!(
            "{} /{}{} HTTP/1.1\r\nHost: front\r\n{authorization}\r\n",
            ask.method, ask.group, ask.path
        )
    }

    /// Sends a request whose answer nobody waits for.
    async fn send(&mut self, ask: &Ask<'_>) {
        let head = self.head(ask);
        self.world.findings.borrow_mut().requests += 1;
        if let Some(connected) = &mut self.connection {
            // An error here: the front closed, as the servers did.
            let _ = connected.connection.send(head.as_bytes()).await;
        }
    }

    /// Sends a request and reads the answer. `None`: there is none to look at, and that is accounted for.
    async fn exchange(&mut self, ask: &Ask<'_>) -> Option<Response> {
        let connected = self.connection.as_mut()?;
        self.world.findings.borrow_mut().requests += 1;
        let began = Instant::now();
        let target = format!("/{}{}", ask.group, ask.path);
        let field = ask.authorization.map(|value| ("Authorization", value));
        let result = connected
            .connection
            .request(ask.method, &target, field.as_slice(), ask.body)
            .await;
        self.answered(ask, began, result)
    }

    fn answered(
        &mut self,
        ask: &Ask<'_>,
        began: Instant,
        result: io::Result<Response>,
    ) -> Option<Response> {
        let connected = self.connection.as_mut()?;
        let world = &self.world;
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                // Silence is nobody's closing.
                let any_closed = || {
                    let mut groups = 0..world.closed.len();
                    connected.server_closed
                        || groups.any(|group| world.excuses(group, connected.seen))
                };
                if error.kind() != io::ErrorKind::TimedOut && any_closed() {
                    world.excuse(Violation::Closed);
                } else {
                    let details = format!(
                        "client {}: {} /{}{}: {error}",
                        self.number, ask.method, ask.group, ask.path
                    );
                    world.report(Violation::Closed, details);
                }
                self.connection = None;
                return None;
            }
        };
        connected.seen = began;
        world.findings.borrow_mut().answers += 1;
        let closes = response.headers.names("connection", "close");
        if response.status < 500 && !closes {
            return Some(response);
        }
        // A front that may open no more connections answers 500.
        let excused = match response.status {
            500 => world.was_short(began),
            502.. => world.excuses(ask.group, began),
            _ => false,
        };
        if !excused {
            world.report(
                Violation::WrongStatus,
                describe(self.number, ask, &response),
            );
        } else {
            world.excuse(Violation::WrongStatus);
            let entry = &mut connected.groups[ask.group];
            entry.book.server_closed(&mut world.findings.borrow_mut());
            entry.login = None;
        }
        if closes {
            self.connection = None;
        }
        None
    }
}

/// Starts a login: what to remember if it has more legs, and the first `Authorization`.
fn begin(leg: Leg) -> (Option<Login>, String) {
    let users = if leg.wrong_password {
        &MISTYPED
    } else {
        &USERS
    };
    let user = &users[leg.identity];
    let ticket = |treatment| (None, ticket_for(user, treatment, !leg.wrong_password));
    let way = match leg.scheme {
        Scheme::Ntlm => Way::Ntlm,
        Scheme::NegotiateThenNtlm => Way::NegotiateAfterKerberos,
        Scheme::NegotiateAtOnce => return ticket(Kerberos::BindsConnection),
        Scheme::KerberosEachRequest => return ticket(Kerberos::PerRequest),
    };
    let (handshake, authorization) = Handshake::begin(way, user);
    let login = Login {
        began: Instant::now(),
        handshake,
        leg,
        authorization: String::new(),
    };
    (Some(login), authorization)
}

/// Whom the server answered.
fn identity(response: &Response) -> Option<usize> {
    let name = response.headers.first("x-identity")?;
    let number = name.strip_prefix("EXAMPLE\\user")?;
    Some(number.parse().expect("one of the users"))
}

fn has_its_body(ask: &Ask<'_>, response: &Response) -> bool {
    let body = &response.body;
    match (ask.method, ask.path) {
        ("HEAD", _) | (_, "/204") => body.is_empty(),
        (_, "/whoami") => {
            let name = response.headers.first("x-identity").unwrap_or("anonymous");
            body == name.as_bytes()
        }
        (_, "/bytes/70000") => body.len() == 70_000,
        (_, "/chunked/3000") => body.len() == 3000,
        (_, "/echo") => response
            .text()
            .contains(&format!("body-bytes: {}\n", ask.body.len())),
        (_, "/mirror") => body == ask.body,
        _ => !body.is_empty(),
    }
}

fn describe(client: usize, ask: &Ask<'_>, response: &Response) -> String {
    format!(
        "client {client}: {} /{}{}: {} as {:?} by {:?} of {:?}",
        ask.method,
        ask.group,
        ask.path,
        response.status,
        response.headers.first("x-identity"),
        response.headers.first("x-connection"),
        response.headers.first("x-server"),
    )
}
