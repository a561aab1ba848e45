//! A front as nginx's scripts run it: a directory for `-p`, commands that end, daemons found by their pid file.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Group, Pid, User};
use tempfile::TempDir;

use crate::front::{BINARY, PATIENCE, eventually, whole_lines};

/// A server that only says that it is there.
pub(crate) const HELLO: &str = "server { listen 127.0.0.1:0; location / { return 200 hello; } }";

/// A prefix directory that anybody may read, with `logs/` in it.
pub(crate) struct Prefix {
    directory: TempDir,
    /// Holds a copy of the binary that anybody may run, once somebody asked for it.
    elsewhere: TempDir,
}

impl Prefix {
    pub(crate) fn new() -> Self {
        let [directory, elsewhere] = [0; 2].map(|_| {
            let directory = tempfile::tempdir().expect("a temporary directory");
            fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("ours");
            directory
        });
        fs::create_dir(directory.path().join("logs")).expect("the log directory");
        Self {
            directory,
            elsewhere,
        }
    }

    /// One whose `front.conf` has `main` and, in its `http` block, `http`.
    pub(crate) fn with(main: &str, http: &str) -> Self {
        let prefix = Self::new();
        prefix.configure(main, http);
        prefix
    }

    /// Writes `front.conf`. `main` comes after directives that it may not repeat: the pid file, the error log.
    pub(crate) fn configure(&self, main: &str, http: &str) {
        let text = format!(
            "pid logs/front.pid;\nerror_log logs/error.log info;\n{main}\nevents {{}}\nhttp {{\n{http}\n}}\n"
        );
        self.write("front.conf", &text);
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The full name of a file in it.
    pub(crate) fn name(&self, file: &str) -> String {
        self.path().join(file).display().to_string()
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        fs::write(self.path().join(file), text).expect("a file can be written");
    }

    /// What a file in it says; nothing if it is not there.
    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path().join(file)).unwrap_or_default()
    }

    pub(crate) fn error_log(&self) -> String {
        whole_lines(self.read("logs/error.log"))
    }

    /// The files in it and in its `logs`, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut names = Vec::new();
        for below in ["", "logs/"] {
            for entry in fs::read_dir(self.path().join(below)).expect("a directory") {
                let entry = entry.expect("an entry");
                if entry.file_type().is_ok_and(|kind| !kind.is_dir()) {
                    names.push(format!("{below}{}", entry.file_name().to_string_lossy()));
                }
            }
        }
        names.sort();
        names
    }

    /// The front with `-p` this, `-c front.conf` and `arguments`.
    pub(crate) fn front(&self, arguments: &[&str]) -> Command {
        self.with_options(Command::new(BINARY), arguments)
    }

    /// The same, started by the user nobody.
    pub(crate) fn front_as_nobody(&self, arguments: &[&str]) -> Command {
        // The build directory may be below a home that nobody else can enter.
        let copy = self.elsewhere.path().join("ntlmfront");
        if !copy.exists() {
            // Not by this process: while another thread forks, a file that is being written here cannot be run.
            let status = Command::new("cp").arg(BINARY).arg(&copy).status();
            assert!(status.expect("cp runs").success());
        }
        let (uid, gid) = nobody();
        let mut command = self.with_options(Command::new(copy), arguments);
        command.uid(uid).gid(gid).current_dir("/");
        command
    }

    fn with_options(&self, mut command: Command, arguments: &[&str]) -> Command {
        command
            .arg("-p")
            .arg(self.path())
            .args(["-c", "front.conf"])
            .args(arguments);
        command
    }

    /// Runs the front with `arguments` to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        run(self.front(arguments))
    }

    /// Starts a daemon as `daemon on` does.
    pub(crate) fn daemon(&self) -> Daemon {
        let ran = self.run(&[]);
        assert_eq!(
            (ran.code, &*ran.stderr),
            (Some(0), ""),
            "{}",
            self.error_log()
        );
        self.running_daemon()
    }

    /// The daemon that the pid file names.
    pub(crate) fn running_daemon(&self) -> Daemon {
        let pid = self.read("logs/front.pid").trim().parse();
        Daemon(pid.expect("the pid file holds a number"))
    }

    /// Where it says that it listens, in order.
    pub(crate) fn listening(&self) -> Vec<SocketAddr> {
        listening(&self.error_log())
    }
}

/// The addresses that a log or standard error says are listened on, in order.
pub(crate) fn listening(log: &str) -> Vec<SocketAddr> {
    log.lines()
        .filter_map(|line| line.split_once("listening on "))
        .map(|(_, address)| address.trim().parse().expect("an address"))
        .collect()
}

/// The numbers of the user nobody and its group.
pub(crate) fn nobody() -> (u32, u32) {
    let nobody = User::from_name("nobody").expect("users can be looked up");
    let nobody = nobody.expect("there is a user nobody");
    (nobody.uid.as_raw(), nobody.gid.as_raw())
}

/// The name of that group.
pub(crate) fn nobodys_group() -> String {
    let group = Group::from_gid(nobody().1.into()).expect("groups can be looked up");
    group.expect("there is a group of nobody").name
}

/// Whether this test may do what only root may. Says so if not.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("not root: not tested");
    }
    root
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end.
pub(crate) fn run(command: Command) -> Ran {
    Running::start(command).wait()
}

/// A command that runs, ended with its value.
pub(crate) struct Running {
    child: Child,
    outputs: TempDir,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        // Files, because the reader of a pipe would wait for a daemon that keeps it open.
        let outputs = tempfile::tempdir().expect("a temporary directory");
        let file = |name| File::create(outputs.path().join(name)).expect("a file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .expect("the command starts");
        Self { child, outputs }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the process is there");
    }

    pub(crate) fn stdout(&self) -> String {
        self.output("stdout")
    }

    pub(crate) fn stderr(&self) -> String {
        self.output("stderr")
    }

    fn output(&self, name: &str) -> String {
        let path: PathBuf = self.outputs.path().join(name);
        String::from_utf8_lossy(&fs::read(path).expect("what the command wrote")).into_owned()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Ran {
        let status = eventually("the end of the command", || {
            self.child.try_wait().expect("the child can be waited for")
        });
        Ran {
            code: status.code(),
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if std::thread::panicking() {
                eprintln!("--- standard error of the command\n{}", self.stderr());
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A process that is nobody's child, ended with its value.
pub(crate) struct Daemon(i32);

impl Daemon {
    pub(crate) fn pid(&self) -> i32 {
        self.0
    }

    pub(crate) fn is_running(&self) -> bool {
        // One that has ended may wait for ever for a parent that asks how.
        fs::read_to_string(format!("/proc/{}/stat", self.0))
            .is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
    }

    #[track_caller]
    pub(crate) fn wait(&self) {
        eventually("the end of the daemon", || {
            (!self.is_running()).then_some(())
        });
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = kill(Pid::from_raw(self.0), Signal::SIGKILL);
        }
    }
}

/// An address that nobody else gets: a loopback address of this process, and a port of this call. For those who need the same one
/// twice (each `listen` on port 0 is another address), and where nobody shall be, for TCP and for UDP.
pub(crate) fn free_address() -> SocketAddr {
    static PORT: AtomicU16 = AtomicU16::new(10_000);
    // A number of a process has at most 22 bits (`pid_max` in proc_sys_kernel(5)).
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let ip = [127, 64 + high, middle, low];
    SocketAddr::from((ip, PORT.fetch_add(1, Ordering::Relaxed)))
}

/// One GET over a connection of its own: the status and the body.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut connection = Plain::open(address)?;
    connection.send(&format!(
        "GET {path} HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n"
    ))?;
    connection.rest()
}

/// A connection, byte for byte.
pub(crate) struct Plain(TcpStream);

impl Plain {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    pub(crate) fn over(stream: TcpStream) -> io::Result<Self> {
        // A peer that is silent for so long has hung.
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    pub(crate) fn send(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(text.as_bytes())
    }

    /// Reads up to `end`, that included.
    pub(crate) fn read_until(&mut self, end: &str) -> io::Result<String> {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let mut byte = [0];
            self.0.read_exact(&mut byte)?;
            text.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Everything until the other side closes.
    pub(crate) fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A response up to the close of the connection: its status and body.
    pub(crate) fn rest(&mut self) -> io::Result<(u16, String)> {
        let text = String::from_utf8_lossy(&self.read_to_end()?).into_owned();
        let parsed = text.split_once("\r\n\r\n").and_then(|(head, body)| {
            let status = head.split(' ').nth(1)?.parse().ok()?;
            Some((status, body.to_owned()))
        });
        parsed.ok_or_else(|| io::Error::other(format!("no response: {text:?}")))
    }
}
