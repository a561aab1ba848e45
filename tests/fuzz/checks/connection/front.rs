//! The front itself, a worker of it on a thread of this process, and the sockets to play with it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ntlmfront::config::model::LogTarget;
use ntlmfront::config::{Options, ReadFiles, Resolve, load};
use ntlmfront::net::{Bound, Driver};
use ntlmfront::observe::error_log::ErrorLog;
use ntlmfront::observe::figures::Figures;
use ntlmfront::proxy::{Command, Deployment, Setup, run};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// A running front with one server behind it, which is played here. It runs as long as the process.
pub struct Front {
    directory: PathBuf,
    /// Where the front connects to.
    pub server: UnixListener,
    /// A connection that is answered by the front alone.
    probe: UnixStream,
    /// Client connections that were accepted.
    clients: u64,
    /// The worker runs until these are dropped.
    _bound: [Bound; 2],
    _commands: UnboundedSender<Command>,
}

impl Front {
    /// Starts a worker on epoll.
    pub fn start() -> Self {
        let directory = fresh_directory();
        let server = UnixListener::bind(directory.join("server")).expect("a unix socket");
        server
            .set_nonblocking(true)
            .expect("a non-blocking listener");
        let config = load(&options(), &Text(configuration(&directory)), &Nobody)
            .expect("a sound configuration");
        let bound = ["front", "probe"]
            .map(|name| Bound::unix(&directory.join(name), 64).expect("a unix socket"));
        let locations = config.http.locations.len();
        let log = Arc::new(ErrorLog::default());
        let deployment = Arc::new(Deployment {
            zones: Vec::new(),
            logins: None,
            tls: Vec::new(),
            group_tls: vec![None; config.http.groups.len()],
            config,
            error_logs: vec![Arc::clone(&log); locations],
            access_logs: vec![Vec::new(); locations],
            listen_ids: vec![0, 1],
            main_log: log,
        });
        let sockets = bound
            .each_ref()
            .map(|bound| bound.for_worker(0, 1).expect("descriptors"));
        let (commands, receiver) = unbounded_channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let setup = Setup {
            number: 0,
            workers: 1,
            deployment,
            sockets: (0..).zip(sockets).collect(),
            figures: Arc::new(Figures::new(1, Driver::Epoll)),
            driver: Driver::Epoll,
            commands: receiver,
            ready: Box::new(move || ready.send(()).expect("somebody waits")),
        };
        let worker = std::thread::Builder::new().name("worker".to_owned());
        worker.spawn(move || run(setup)).expect("a thread");
        is_ready.recv().expect("the worker starts");
        let probe = UnixStream::connect(directory.join("probe")).expect("the front accepts");
        probe
            .set_read_timeout(Some(super::PATIENCE))
            .expect("a timeout");
        let mut front = Self {
            directory,
            server,
            probe,
            clients: 1,
            _bound: bound,
            _commands: commands,
        };
        front.probe();
        front
    }

    /// Connects a client; returns the number that the front knows it by, too.
    pub fn connect(&mut self) -> (u64, UnixStream) {
        let stream = UnixStream::connect(self.directory.join("front")).expect("the front accepts");
        stream.set_nonblocking(true).expect("a non-blocking socket");
        self.probe();
        self.clients += 1;
        (self.clients, stream)
    }

    /// Has the front answer something. It has one thread, so that it has looked then at what came before.
    ///
    /// # Panics
    /// It does not answer in time.
    pub fn probe(&mut self) {
        self.probe
            .write_all(b"GET / HTTP/1.1\r\nHost: probe\r\n\r\n")
            .expect("the front takes it");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut buffer = [0; 512];
            // The fuzzer's own timer is a signal.
            let n = match self.probe.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.expect("the front answers others in time"),
            };
            assert!(n > 0, "the front closed another's connection");
            answer.extend_from_slice(&buffer[..n]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 204 "));
    }
}

/// Appends what is there; true if that was something. `ended`: nothing more will come.
pub fn receive(stream: &mut UnixStream, into: &mut Vec<u8>, ended: &mut bool) -> bool {
    let before = into.len();
    let mut buffer = [0; 16 << 10];
    while !*ended {
        match stream.read(&mut buffer) {
            Ok(0) => *ended = true,
            Ok(n) => into.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return into.len() > before,
            // What was sent here was not read before the close.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => *ended = true,
            Err(error) => panic!("recv: {error}"),
        }
    }
    true
}

/// Sends to somebody who may be gone.
pub fn send(stream: &mut UnixStream, bytes: &[u8]) {
    match stream.write_all(bytes) {
        Err(error)
            if !matches!(
                error.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
            ) =>
        {
            panic!("send: {error}")
        }
        _ => {}
    }
}

/// No limit and no time of it is reached; nothing is tried twice, and no failure counts.
fn configuration(directory: &Path) -> String {
    let at = directory.display();
    format!(
        "events {{ worker_connections 1000; }}
         http {{
             keepalive_requests 1000000000; keepalive_time 1000d; keepalive_timeout 1d;
             client_header_timeout 1d; client_body_timeout 1d; client_max_body_size 0;
             upstream up {{ server unix:{at}/server max_fails=0; keepalive 4; ntlm; ntlm_timeout 1d; ntlm_time 1000d; }}
             server {{
                 listen unix:{at}/front;
                 location / {{
                     proxy_pass http://up; proxy_next_upstream off; proxy_redirect off; proxy_read_timeout 1d;
                     proxy_set_header X-Client $connection;
                 }}
             }}
             server {{ listen unix:{at}/probe; return 204; }}
         }}"
    )
}

/// A directory for the sockets. Those of processes that have ended are removed.
fn fresh_directory() -> PathBuf {
    const NAME: &str = "ntlmfront-check-";
    let parent = std::env::temp_dir();
    for entry in std::fs::read_dir(&parent)
        .expect("a temporary directory")
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix(NAME)
            .and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Somebody else may be faster.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let directory = parent.join(format!("{NAME}{}", std::process::id()));
    std::fs::create_dir(&directory).expect("a fresh directory");
    directory
}

fn options() -> Options {
    Options {
        prefix: PathBuf::from("/"),
        file: PathBuf::from("front.conf"),
        globals: None,
        error_log: LogTarget::Stderr,
    }
}

/// One file.
struct Text(String);

impl ReadFiles for Text {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.clone().into_bytes())
    }

    fn glob(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

struct Nobody;

impl Resolve for Nobody {
    fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::Error::other("no such host"))
    }
}
