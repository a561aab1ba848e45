//! A front with servers behind it that do NTLM, and what tests of logins ask of them.
//!
//! Requests say in their target who sends them (`?from=NAME`), and those that carry credentials say that too (`&login`),
//! so that the servers' own logs show whether a connection was ever shared ([`Site::assert_nothing_was_shared`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use ntlm_origin::client::{Connection, Response, Scheme};
use ntlm_origin::{Kerberos, Origin, OriginOptions, User};

use crate::front::{Front, PATIENCE, eventually};

/// Every variable of ours and those that name the server, for [`Site::lines`].
const FORMAT: &str = "$request_uri|$status|$upstream_addr|$upstream_status|$pin_id|$pin_state|$pin_requests|\
                      $auth_scheme|$upstream_http_x_server|$upstream_http_x_connection";

pub(crate) fn alice() -> User {
    User::new("EXAMPLE", "alice", "wonderland")
}

pub(crate) fn bob() -> User {
    User::new("EXAMPLE", "bob", "builder")
}

/// A front and the servers of its group `mail`, called A, B and so on.
pub(crate) struct Site {
    pub(crate) front: Front,
    pub(crate) origins: Vec<Origin>,
    /// Sockets of the front before the first client.
    sockets: usize,
}

/// One line of the access log.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) target: String,
    pub(crate) status: String,
    pub(crate) upstream: String,
    pub(crate) pin: String,
    pub(crate) state: String,
    pub(crate) pin_requests: String,
    pub(crate) scheme: String,
    pub(crate) server: String,
    pub(crate) connection: String,
}

/// Starts servers called A, B and so on.
pub(crate) fn origins(number: usize, kerberos: Kerberos) -> Vec<Origin> {
    (0..number)
        .map(|nth| {
            let name = char::from(b'A' + nth as u8).to_string();
            let options = OriginOptions {
                name,
                kerberos,
                ..OriginOptions::default()
            };
            Origin::start(options).expect("a free port")
        })
        .collect()
}

/// The `http` block of a site: `group` stands in the `upstream` block behind its servers.
pub(crate) fn configuration(origins: &[Origin], group: &str) -> String {
    let servers: String = origins
        .iter()
        .map(|origin| format!("server {};\n", origin.addr()))
        .collect();
    format!(
        "log_format pins '{FORMAT}';
         access_log logs/access.log pins;
         upstream mail {{ {servers} {group} }}
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://mail; }} }}"
    )
}

impl Site {
    /// A front of one worker, so that what comes when is not a matter of chance, and two servers.
    pub(crate) fn start(group: &str) -> Self {
        Self::of(origins(2, Kerberos::Declined), group)
    }

    /// The same with one server, so that every connection would do for every request.
    pub(crate) fn with_one_server(kerberos: Kerberos, group: &str) -> Self {
        Self::of(origins(1, kerberos), group)
    }

    /// The same with servers of one's own.
    pub(crate) fn of(origins: Vec<Origin>, group: &str) -> Self {
        let http = configuration(&origins, group);
        Self::configured(origins, "worker_processes 1;", &http)
    }

    /// The same with a configuration of one's own.
    pub(crate) fn configured(origins: Vec<Origin>, main: &str, http: &str) -> Self {
        let front = Front::start_main(main, http);
        let sockets = front.sockets();
        Self {
            front,
            origins,
            sockets,
        }
    }

    /// Changes what stands in the `upstream` block.
    pub(crate) fn reload(&self, group: &str) {
        self.front.reload(&configuration(&self.origins, group));
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.front.addr(0)
    }

    /// A client connection.
    pub(crate) async fn client(&self) -> Connection {
        Connection::open(self.addr())
            .await
            .expect("the front accepts")
    }

    /// A client connection on which `user` has logged in by NTLM.
    pub(crate) async fn logged_in(&self, name: &str, user: &User) -> Connection {
        let mut client = self.client().await;
        let answer = log_in(&mut client, Scheme::Ntlm, name, user).await;
        assert_eq!(identity(&answer), Some(user.identity().as_str()), "{name}");
        client
    }

    /// Connections that the servers have open, from the front or anybody.
    pub(crate) fn upstream_connections(&self) -> usize {
        self.origins.iter().map(Origin::connections).sum()
    }

    /// Connections that the servers ever had.
    pub(crate) fn upstream_accepted(&self) -> u64 {
        self.origins.iter().map(Origin::accepted).sum()
    }

    /// How many requests for a target that starts with `path` arrived at each server.
    pub(crate) fn arrivals(&self, path: &str) -> Vec<usize> {
        let arrived = |origin: &Origin| {
            let log = origin.log();
            log.iter()
                .filter(|entry| entry.path.starts_with(path))
                .count()
        };
        self.origins.iter().map(arrived).collect()
    }

    /// Waits until the servers have exactly so many connections.
    #[track_caller]
    pub(crate) fn await_upstream_connections(&self, number: usize) {
        eventually(&format!("{number} connections at the servers"), || {
            (self.upstream_connections() == number).then_some(())
        });
    }

    /// Waits until nothing is left of any client, at the servers or in the front.
    #[track_caller]
    pub(crate) fn await_nothing_left(&self) {
        self.await_upstream_connections(0);
        eventually("the front's sockets are those it started with", || {
            (self.front.sockets() == self.sockets).then_some(())
        });
    }

    /// Waits for so many lines of the access log.
    #[track_caller]
    pub(crate) fn lines(&self, number: usize) -> Vec<Line> {
        let text = eventually("the lines of the access log", || {
            let text = self.front.access_log();
            (text.lines().count() >= number).then_some(text)
        });
        text.lines().map(Line::parse).collect()
    }

    /// Checks the one promise in the servers' logs: a connection that was ever logged in on served one client.
    ///
    /// Counts the connections that were looked at, so that a caller can see that there were any.
    #[track_caller]
    pub(crate) fn assert_nothing_was_shared(&self) -> usize {
        let mut pinned = 0;
        for origin in &self.origins {
            let mut connections: BTreeMap<u64, (bool, BTreeSet<String>)> = BTreeMap::new();
            for entry in origin.log() {
                let (login, names) = connections.entry(entry.connection).or_default();
                *login |= entry.identity.is_some() || entry.path.ends_with("&login");
                names.insert(from(&entry.path).to_owned());
            }
            for (connection, (login, names)) in connections {
                pinned += usize::from(login);
                assert!(
                    !login || names.len() == 1,
                    "connection {connection} was logged in on and served {names:?}"
                );
            }
        }
        pinned
    }
}

impl Line {
    fn parse(line: &str) -> Self {
        let mut parts = line.split('|').map(str::to_owned);
        let mut next = || parts.next().expect("as many parts as the format has");
        let (target, status, upstream, _) = (next(), next(), next(), next());
        Self {
            target,
            status,
            upstream,
            pin: next(),
            state: next(),
            pin_requests: next(),
            scheme: next(),
            server: next(),
            connection: next(),
        }
    }

    /// Who sent the request.
    pub(crate) fn from(&self) -> &str {
        from(&self.target)
    }
}

fn from(target: &str) -> &str {
    let (_, rest) = target.split_once("?from=").unwrap_or_default();
    rest.split('&').next().unwrap_or_default()
}

/// `/whoami` as `name` asks for it.
pub(crate) fn whoami(name: &str) -> String {
    format!("/whoami?from={name}")
}

/// Asks for `/whoami` without credentials.
pub(crate) async fn ask(client: &mut Connection, name: &str) -> Response {
    let answer = client
        .get(&whoami(name))
        .await
        .unwrap_or_else(|error| panic!("{name} gets no answer: {error}"));
    assert_eq!(answer.status, 200, "{name}");
    answer
}

/// Logs in at `/whoami`, which asks for no login, and so gets no answer but by the credentials.
pub(crate) async fn log_in(
    client: &mut Connection,
    scheme: Scheme,
    name: &str,
    user: &User,
) -> Response {
    client
        .login(scheme, &login_target(name), user)
        .await
        .unwrap_or_else(|error| panic!("{name} cannot log in: {error}"))
}

/// `/whoami` as `name` asks for it with credentials.
pub(crate) fn login_target(name: &str) -> String {
    format!("{}&login", whoami(name))
}

/// As whom a request was served.
pub(crate) fn identity(answer: &Response) -> Option<&str> {
    answer.headers.first("x-identity")
}

/// Which server's connection a request was served on.
pub(crate) fn place(answer: &Response) -> (String, String) {
    let field = |name| answer.headers.first(name).unwrap_or_default().to_owned();
    (field("x-server"), field("x-connection"))
}

/// Asks again and again, on the same connection, until the answer is for nobody; every answer before has to be for `user`.
pub(crate) async fn until_anonymous(client: &mut Connection, name: &str, user: &User) -> Response {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask(client, name).await;
        match identity(&answer) {
            None => return answer,
            Some(other) => assert_eq!(other, user.identity(), "{name}"),
        }
        assert!(
            Instant::now() < deadline,
            "{name} is logged in for {PATIENCE:?}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
