//! Logs that cannot be written, or that nobody reads: no request waits for them, and what is lost is counted and said.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::front::{Front, eventually};
use crate::peer::Peer;
use crate::prefix::is_root;

/// A request's line of about 4 KiB.
fn get(client: &mut Peer, number: usize) {
    let padding = "x".repeat(4000);
    client.send(format!(
        "GET /{number} HTTP/1.1\r\nHost: a\r\nUser-Agent: {padding}\r\n\r\n"
    ));
    assert_eq!(client.answer().status(), 204);
}

#[test]
fn what_nobody_reads_slows_no_request() {
    const REQUESTS: usize = 6000;
    let directory = tempfile::tempdir().unwrap();
    let [fifo, errors, syslog] =
        ["fifo", "errors", "syslog"].map(|name| directory.path().join(name));
    for path in [&fifo, &errors] {
        mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    }
    let _deaf = UnixDatagram::bind(&syslog).unwrap();
    let mut front = Front::start(&format!(
        "log_format long '$request_uri $http_user_agent'; log_format short $request_uri;
         access_log {fifo} long; access_log {fifo} short; access_log syslog:server=unix:{syslog} long;
         access_log /dev/full long; access_log logs/access.log short buffer=4k flush=1s;
         keepalive_requests 1000000;
         server {{ listen 127.0.0.1:0; error_log {errors} debug; limit_req zone=all burst=1000000 nodelay;
                   location / {{ proxy_pass http://127.0.0.1:1; }}
                   location ~ ^/[0-9] {{ return 204; }} }}
         limit_req_zone all zone=all:1m rate=1r/s;",
        fifo = fifo.display(),
        errors = errors.display(),
        syslog = syslog.display(),
    ));
    let addr = front.addr(0);
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || {
                let mut client = Peer::connect(addr);
                (0..REQUESTS / 2).for_each(|number| get(&mut client, 2 * number + half));
            });
        }
        scope.spawn(move || {
            let mut client = Peer::connect(addr);
            for _ in 0..1000 {
                let padding = "x".repeat(1900);
                assert_eq!(client.get(&format!("/{padding}")).status(), 502);
            }
        });
    });
    let said = [
        format!("\"{}\" does not take lines fast enough, ", fifo.display()),
        format!(
            "\"syslog:server=unix:{}\" does not take lines fast enough, ",
            syslog.display()
        ),
        "write() to \"/dev/full\" failed (28: No space left on device)".to_owned(),
    ];
    for words in &said {
        let log = front.error_log_with(words, 1);
        let line = log.lines().find(|line| line.contains(words)).unwrap();
        assert!(line.contains("[alert]"), "{line}");
    }
    eventually("the log that can be written", || {
        let log = front.access_log();
        let numbers = log
            .lines()
            .filter_map(|line| line[1..].parse::<usize>().ok());
        (numbers.count() == REQUESTS).then_some(())
    });
    // It goes on as if nothing were.
    front.signal(Signal::SIGUSR1);
    front.error_log_with("reopening logs", 1);
    // Who reads at last finds whole lines.
    let mut reader = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&fifo)
        .unwrap();
    let (mut text, mut client) = (Vec::new(), Peer::connect(addr));
    eventually("all that was kept, and what is new", || {
        let _ = reader.read_to_end(&mut text);
        get(&mut client, REQUESTS);
        text.ends_with(format!("/{REQUESTS}\n").as_bytes())
            .then_some(())
    });
    let text = String::from_utf8(text).unwrap();
    for line in text.lines() {
        let (number, padding) = line.split_once(' ').unwrap_or((line, ""));
        let whole = number[1..].parse::<usize>().is_ok_and(|n| n <= REQUESTS)
            || number[1..].bytes().all(|byte| byte == b'x');
        assert!(whole, "{line}");
        assert!(matches!(padding.len(), 0 | 1 | 4000), "{line}");
    }
    for words in &said {
        let log = front.error_log();
        assert_eq!(log.matches(words).count(), 1, "once a minute: {log}");
    }
    // And what is lost with the end is said at the end.
    let mut client = Peer::connect(addr);
    get(&mut client, 0);
    front.signal(Signal::SIGTERM);
    assert_eq!(front.wait().code(), Some(0));
    let log = front.error_log();
    let last = log
        .lines()
        .rfind(|line| line.contains("/dev/full"))
        .unwrap();
    assert!(
        last.contains("[alert]") && last.ends_with(" lines were lost"),
        "{last}"
    );
}

/// A file system of 256 KiB, unmounted with its value.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(path: &'a Path) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=256k,mode=0777", "tmpfs"]);
        let mounted = mount.arg(path).status().expect("mount runs").success();
        if !mounted {
            println!("mounting is not allowed: not tested");
        }
        mounted.then_some(Self(path))
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn what_a_full_disk_had_no_room_for_is_written_when_there_is_some() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(directory.path()) else {
        return;
    };
    let (log, filler) = (disk.0.join("access.log"), disk.0.join("filler"));
    fs::write(&filler, vec![0; 160 << 10]).unwrap();
    let mut front = Front::start(&format!(
        "log_format long '$request_uri $http_user_agent'; access_log {} long;
         server {{ listen 127.0.0.1:0; location / {{ return 204; }} }}",
        log.display()
    ));
    let mut client = Peer::connect(front.addr(0));
    // 120 KiB where there are less than 96.
    (0..30).for_each(|number| get(&mut client, number));
    let failed = format!(
        "write() to \"{}\" failed (28: No space left on device)",
        log.display()
    );
    front.error_log_with(&failed, 1);
    (30..40).for_each(|number| get(&mut client, number));
    fs::remove_file(filler).unwrap();
    let text = eventually("every line", || {
        let text = fs::read_to_string(&log).unwrap();
        (text.lines().count() == 40 && text.ends_with('\n')).then_some(text)
    });
    for (number, line) in text.lines().enumerate() {
        assert_eq!(line, format!("/{number} {}", "x".repeat(4000)));
    }
    drop(client);
    front.signal(Signal::SIGQUIT);
    assert_eq!(front.wait().code(), Some(0));
}
