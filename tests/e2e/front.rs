//! Starts the real binary with a configuration, and stops it.
//!
//! Ports are 0: what the kernel chose is read from the error log. Nothing waits for time, but for a condition
//! ([`eventually`]), and everything ends with its value.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_ntlmfront");

/// How long a condition may take to become true on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `probe` finds something.
///
/// # Panics
/// It finds nothing for [`PATIENCE`].
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running front, ended with its value.
pub(crate) struct Front {
    child: Child,
    directory: TempDir,
    main: String,
    addresses: Vec<SocketAddr>,
}

impl Front {
    /// Starts a front whose `http` block has `http` in it, with two workers and an error log of level info. Listen on
    /// `127.0.0.1:0`.
    pub(crate) fn start(http: &str) -> Self {
        Self::start_main("worker_processes 2;", http)
    }

    /// The same with directives of the main context of its own, `events` among them if they are special.
    pub(crate) fn start_main(main: &str, http: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().to_owned();
        std::fs::create_dir(path.join("logs")).expect("the log directory");
        write_configuration(&path, main, http);
        let child = command(&path).spawn().expect("the binary starts");
        let mut front = Self {
            child,
            directory,
            main: main.to_owned(),
            addresses: Vec::new(),
        };
        let started = eventually("the front starts or says why not", || {
            let log = front.error_log();
            if log.contains(" workers on ") {
                return Some(Ok(()));
            }
            let ended = front.child.try_wait().expect("the child can be waited for");
            ended.map(|status| Err(format!("{status}\n{log}\n{}", front.stderr())))
        });
        if let Err(problem) = started {
            panic!("the front did not start: {problem}");
        }
        front.addresses = front.listening();
        front
    }

    /// Writes another configuration with the main context it was started with, and reloads; returns when it is in force.
    pub(crate) fn reload(&self, http: &str) {
        self.reload_main(&self.main, http);
    }

    /// Writes another configuration, and nothing else.
    pub(crate) fn configure(&self, http: &str) {
        write_configuration(self.directory.path(), &self.main, http);
    }

    /// Does what [`Front::reload`] does with another main context.
    pub(crate) fn reload_main(&self, main: &str, http: &str) {
        write_configuration(self.directory.path(), main, http);
        let before = self.error_log().matches("reconfigured").count();
        self.signal(Signal::SIGHUP);
        eventually("the reload", || {
            (self.error_log().matches("reconfigured").count() > before).then_some(())
        });
    }

    /// The address of the `nth` `listen 127.0.0.1:0`, in the order of the configuration.
    pub(crate) fn addr(&self, nth: usize) -> SocketAddr {
        self.addresses[nth]
    }

    /// `http://ADDR` and `path`, on the first address.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr(0))
    }

    /// The front's directory: `nginx.conf`-like file, `logs/`.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The process.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the process is there");
    }

    /// What the error log says so far.
    pub(crate) fn error_log(&self) -> String {
        whole_lines(read(&self.directory.path().join("logs/error.log")))
    }

    /// The error log, once it says `text` so many times: a line is written a moment after what it is about.
    #[track_caller]
    pub(crate) fn error_log_with(&self, text: &str, times: usize) -> String {
        eventually(&format!("{times} lines with {text:?}"), || {
            let log = self.error_log();
            (log.matches(text).count() >= times).then_some(log)
        })
    }

    /// What `logs/access.log` says so far.
    pub(crate) fn access_log(&self) -> String {
        whole_lines(read(&self.directory.path().join("logs/access.log")))
    }

    /// What it wrote to its standard error.
    pub(crate) fn stderr(&self) -> String {
        read(&self.directory.path().join("logs/stderr"))
    }

    /// Every address that the error log says is listened on, in order.
    pub(crate) fn listening(&self) -> Vec<SocketAddr> {
        let log = self.error_log();
        let lines = log
            .lines()
            .filter_map(|line| line.split_once("listening on "));
        lines
            .map(|(_, address)| address.trim().parse().expect("an address"))
            .collect()
    }

    /// Open sockets of the front.
    pub(crate) fn sockets(&self) -> usize {
        self.descriptors("socket:")
    }

    /// Open pipe ends of the front.
    pub(crate) fn pipes(&self) -> usize {
        self.descriptors("pipe:")
    }

    fn descriptors(&self, kind: &str) -> usize {
        let links = std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .expect("descriptors can be listed");
        links
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| target.to_string_lossy().starts_with(kind))
            .count()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("the process is there");
        let line = { status.lines() }.find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib: usize = kib.and_then(|kib| kib.parse().ok()).expect("a number");
        kib * 1024
    }

    /// Waits until the process has ended by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the front ends", || {
            self.child.try_wait().expect("the child can be waited for")
        })
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
            let deadline = Instant::now() + Duration::from_secs(5);
            while Instant::now() < deadline
                && self.child.try_wait().is_ok_and(|ended| ended.is_none())
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!(
                "--- error log of the front\n{}--- its standard error\n{}",
                self.error_log(),
                self.stderr()
            );
        }
    }
}

/// The environment variable that has every front of a test run on one driver: `uring` or `epoll`.
const IO: &str = "NTLMFRONT_TEST_IO";

/// The command that runs the front in `directory`, on the driver that [`IO`] names.
pub(crate) fn command(directory: &Path) -> Command {
    let stderr =
        std::fs::File::create(directory.join("logs/stderr")).expect("a file for standard error");
    let mut command = Command::new(BINARY);
    command
        .arg("-p")
        .arg(directory)
        .args(["-c", "front.conf"])
        .args(std::env::var(IO).iter().flat_map(|io| ["--io", io]))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr);
    command
}

fn write_configuration(directory: &Path, main: &str, http: &str) -> PathBuf {
    let file = directory.join("front.conf");
    let events = match main.contains("events") {
        true => "",
        false => "events { worker_connections 16384; }",
    };
    let text = format!(
        "daemon off;\npid logs/front.pid;\nerror_log logs/error.log info;\n{main}\n\
         {events}\nhttp {{\n{http}\n}}\n"
    );
    std::fs::write(&file, text).expect("the configuration can be written");
    file
}

/// What there is of a log but for a line that is being written.
pub(crate) fn whole_lines(mut log: String) -> String {
    log.truncate(log.rfind('\n').map_or(0, |end| end + 1));
    log
}

fn read(path: &Path) -> String {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}
