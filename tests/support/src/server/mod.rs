//! The origin's thread: listening, counting, remembering.

mod connection;
mod page;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};

use crate::login::{Kerberos, Realm};
use crate::ntlm::User;

/// The log keeps the latest so many requests.
const LOG_ENTRIES: usize = 65_536;

/// What an origin is like. The defaults suit a test: a free port, alice with the password wonderland and bob with
/// builder in the domain EXAMPLE, a login asked for under `/private`.
#[derive(Clone, Debug)]
pub struct OriginOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What `X-Server` says, and NTLM's challenge as the computer's name.
    pub name: String,
    /// The NetBIOS domain the origin says it is in.
    pub domain: String,
    /// Who may log in.
    pub users: Vec<User>,
    /// Which paths ask for a login.
    pub login: LoginPaths,
    /// What is done with Kerberos' stand-in.
    pub kerberos: Kerberos,
    /// The schemes that are offered and taken, of `Negotiate` and `NTLM`.
    pub schemes: &'static [&'static str],
}

/// Which paths ask for a login. Credentials that come uncalled for are checked on every path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginPaths {
    /// `/private` and what is below it.
    Private,
    /// All of them.
    Everything,
}

impl Default for OriginOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            name: "ORIGIN".into(),
            domain: "EXAMPLE".into(),
            users: vec![
                User::new("EXAMPLE", "alice", "wonderland"),
                User::new("EXAMPLE", "bob", "builder"),
            ],
            login: LoginPaths::Private,
            kerberos: Kerberos::Declined,
            schemes: &["Negotiate", "NTLM"],
        }
    }
}

/// One request that was served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The origin's number for the connection, from 1.
    pub connection: u64,
    /// As whom: `DOMAIN\name`.
    pub identity: Option<String>,
    /// The target as it came.
    pub path: String,
}

/// A running origin. Dropping it closes every connection and ends its thread.
#[derive(Debug)]
pub struct Origin {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the connections report to.
#[derive(Debug)]
struct Shared {
    name: String,
    realm: Realm,
    login: LoginPaths,
    live: AtomicUsize,
    accepted: AtomicU64,
    log: Mutex<VecDeque<LogEntry>>,
    close_idle: Notify,
}

impl Origin {
    /// Listens and serves, on a thread of its own.
    pub fn start(options: OriginOptions) -> io::Result<Self> {
        let listener = listen(options.listen)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            realm: Realm {
                users: options.users,
                domain: options.domain,
                computer: options.name.clone(),
                kerberos: options.kerberos,
                schemes: options.schemes,
            },
            name: options.name,
            login: options.login,
            live: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            log: Mutex::default(),
            close_idle: Notify::new(),
        });
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("ntlm-origin".into())
            .spawn(move || {
                // Dropping the runtime, at the end, drops the connections with it.
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(listener, of_thread) => {}
                        _ = stopped => {}
                    }
                });
            })?;
        Ok(Self {
            addr,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shared.live.load(Ordering::Relaxed)
    }

    /// How many connections there ever were.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// The latest requests, the oldest first.
    pub fn log(&self) -> Vec<LogEntry> {
        self.shared.log().iter().cloned().collect()
    }

    /// Closes the connections that wait for a request, as a server's own idle limit does.
    pub fn close_idle(&self) {
        self.shared.close_idle.notify_waiters();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported already, and a second one here would end the process.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn log(&self) -> std::sync::MutexGuard<'_, VecDeque<LogEntry>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, entry: LogEntry) {
        let mut log = self.log();
        if log.len() == LOG_ENTRIES {
            log.pop_front();
        }
        log.push_back(entry);
    }
}

fn listen(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener =
        TcpListener::from_std(listener).expect("a listening socket in a runtime with a driver");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let number = shared.accepted.fetch_add(1, Ordering::Relaxed) + 1;
                shared.live.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(connection::serve(stream, number, Live(Arc::clone(&shared))));
            }
            // Out of descriptors, most likely: those that close make room.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// A connection that counts as open while this lives.
struct Live(Arc<Shared>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}
