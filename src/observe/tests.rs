//! Lines on their way: through outlets, rings and writers, to whatever a log is.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::sync::mpsc::unbounded_channel;

use crate::config::model::{Buffering, LogTarget, PeerAddress, Syslog};

use super::files::LogFiles;
use super::{Log, outlet};

const PATIENCE: Duration = Duration::from_secs(20);

#[track_caller]
fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn opened(files: &mut LogFiles, target: &LogTarget) -> Arc<Log> {
    let log = files.open(target).unwrap();
    files.start_writers().unwrap();
    log
}

fn file(path: &Path) -> LogTarget {
    LogTarget::File(path.to_owned())
}

fn append(log: &Arc<Log>, line: &str) {
    append_buffered(log, None, line);
}

fn append_buffered(log: &Arc<Log>, buffering: Option<Buffering>, line: &str) {
    outlet::append(log, buffering, None, |out| {
        out.extend_from_slice(line.as_bytes());
    });
}

/// Opens all logs again, and waits until lines go there.
#[track_caller]
fn reopen_all(files: &mut LogFiles) {
    let (done, mut all_done) = unbounded_channel();
    assert_eq!(files.reopen_all(&done), []);
    drop(done);
    assert!(all_done.blocking_recv().is_none());
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[track_caller]
fn await_text(path: &Path, text: &str) {
    eventually("the text", || (read(path) == text).then_some(()));
}

#[test]
fn without_outlets_a_line_is_written_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut files = LogFiles::default();
    let log = files.open(&file(&path)).unwrap();
    append(&log, "one");
    assert_eq!(read(&path), "one\n");
    files.start_writers().unwrap();
    append(&log, "two");
    assert_eq!(read(&path), "one\ntwo\n");
}

#[test]
fn what_comes_before_the_writer_is_there_is_written_when_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut files = LogFiles::default();
    let log = files.open(&file(&path)).unwrap();
    let _outlets = outlet::install();
    append(&log, "one");
    assert_eq!(read(&path), "");
    files.start_writers().unwrap();
    await_text(&path, "one\n");
}

#[test]
fn lines_wait_as_long_as_buffer_and_flush_say() {
    const FLUSH: Duration = Duration::from_secs(3600);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut files = LogFiles::default();
    let log = opened(&mut files, &file(&path));
    let _outlets = outlet::install();
    let buffering = Some(Buffering {
        bytes: 16,
        flush: Some(FLUSH),
    });
    let mut expected = String::new();
    let mut written = |line: &str, lines: &str| {
        append_buffered(&log, buffering, line);
        expected.push_str(lines);
        // Those of another log would be written by now.
        let other = files.open(&file(&dir.path().join("other"))).unwrap();
        files.start_writers().unwrap();
        append(&other, line);
        eventually("the other line", || {
            read(&dir.path().join("other"))
                .ends_with(&format!("{line}\n"))
                .then_some(())
        });
        await_text(&path, &expected);
        expected.len()
    };
    written("1234567", "");
    // Exactly full is not too full.
    written("2234567", "");
    written("3", "1234567\n2234567\n");
    written(
        "a line that fits into no buffer",
        "3\na line that fits into no buffer\n",
    );
    written("4", "");
    outlet::sweep(Instant::now());
    let length = written("5", "");
    outlet::sweep(Instant::now() + FLUSH);
    eventually("4 and 5", || {
        read(&path)[length..].eq("4\n5\n").then_some(())
    });
    append_buffered(&log, buffering, "6");
    outlet::flush();
    eventually("6", || read(&path).ends_with("5\n6\n").then_some(()));
    append_buffered(&log, buffering, "7");
    // The configuration has changed: no line passes another.
    append(&log, "8");
    eventually("7 and 8", || {
        read(&path).ends_with("6\n7\n8\n").then_some(())
    });
    append_buffered(&log, buffering, "9");
    // The present configuration does not name it: nothing waits any more.
    log.be_named(false);
    append_buffered(&log, buffering, "10");
    eventually("9", || read(&path).ends_with("8\n9\n10\n").then_some(()));
}

#[test]
fn a_log_is_let_go_when_there_was_nothing_for_it_in_a_while() {
    const AGES: Duration = Duration::from_secs(3600);
    let dir = tempfile::tempdir().unwrap();
    let (path, reader) = fifo(dir.path());
    let mut files = LogFiles::default();
    let log = opened(&mut files, &file(&path));
    let _outlets = outlet::install();
    let users = || Arc::strong_count(&log);
    append(&log, "line");
    assert_eq!(users(), 3, "the test's, the registry's and the outlet's");
    assert_eq!(read_until(&reader, |text| text.ends_with('\n')), "line\n");
    let now = Instant::now();
    outlet::sweep(now);
    outlet::sweep(now + Duration::from_secs(1));
    assert_eq!(users(), 3);
    outlet::sweep(now + AGES);
    assert_eq!(users(), 2);
    // Not while anything is on its way.
    let line = "x".repeat(1000);
    for _ in 0..1000 {
        append(&log, &line);
    }
    outlet::sweep(now + 2 * AGES);
    outlet::sweep(now + 3 * AGES);
    assert_eq!(users(), 3);
    read_until(&reader, |text| text.lines().count() == 1000);
    outlet::sweep(now + 4 * AGES);
    outlet::sweep(now + 5 * AGES);
    assert_eq!(users(), 2);
    let all = files.all();
    drop(log);
    files.close_unused();
    assert!(all[0].upgrade().is_none());
}

#[test]
fn what_waits_for_a_log_that_is_stuck_is_bounded_whatever_is_reloaded() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _reader) = fifo(dir.path());
    let mut files = LogFiles::default();
    let log = opened(&mut files, &file(&path));
    let _outlets = outlet::install();
    let line = "x".repeat(10_000);
    let mut kept = Vec::new();
    let mut now = Instant::now();
    for _ in 0..5 {
        let before = log.lost_lines();
        for _ in 0..2000 {
            append(&log, &line);
        }
        kept.push(2000 - (log.lost_lines() - before));
        outlet::flush();
        reopen_all(&mut files);
        now += Duration::from_secs(3600);
        outlet::sweep(now);
    }
    assert!(kept[0] > 0);
    assert_eq!(kept[1..], [0; 4]);
}

#[test]
fn logs_that_share_a_pipe_break_no_line_of_each_other_s() {
    const LINES: u64 = 5000;
    let dir = tempfile::tempdir().unwrap();
    let (path, reader) = fifo(dir.path());
    let other = dir.path().join("other");
    std::os::unix::fs::symlink(&path, &other).unwrap();
    let mut files = LogFiles::default();
    let logs = [&path, &other].map(|path| opened(&mut files, &file(path)));
    thread::scope(|scope| {
        for (name, log) in ["one", "two"].into_iter().zip(&logs) {
            scope.spawn(move || {
                let _outlets = outlet::install();
                for n in 0..LINES {
                    let length = usize::try_from(n * 37 % 400).unwrap();
                    append(log, &format!("{name} {n} {}", "x".repeat(length)));
                }
            });
        }
        let all = 2 * LINES;
        let text = read_until(&reader, |text| text.lines().count() as u64 >= all);
        let cut = |line: &str| {
            let (numbered, padding) = line.rsplit_once(' ').unwrap();
            assert!(padding.bytes().all(|byte| byte == b'x'), "{line}");
            format!("{numbered}\n")
        };
        let numbers: String = text.lines().map(cut).collect();
        assert_in_order(&numbers, &[("one", LINES), ("two", LINES)]);
    });
    assert!(logs.iter().all(|log| log.lost_lines() == 0));
}

#[test]
fn who_logs_more_than_is_read_keeps_nobody_else_from_logging() {
    let dir = tempfile::tempdir().unwrap();
    let (path, reader) = fifo(dir.path());
    let mut files = LogFiles::default();
    let log = opened(&mut files, &file(&path));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _outlets = outlet::install();
            while !stop.load(Ordering::Relaxed) {
                append(&log, &"x".repeat(1000));
            }
        });
        eventually("more than is read", || (log.lost_lines() > 0).then_some(()));
        let _outlets = outlet::install();
        append(&log, "another's");
        read_until(&reader, |text| text.contains("another's\n"));
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_was_not_moved_away_or_is_not_named_is_not_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let [kept, moved, unnamed] = ["kept", "moved", "unnamed"].map(|name| dir.path().join(name));
    let mut files = LogFiles::default();
    let logs = [&kept, &moved, &unnamed].map(|path| opened(&mut files, &file(path)));
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let before = logs
        .each_ref()
        .map(|log| log.with_file(|file| file.metadata().unwrap().ino()));
    for path in [&moved, &unnamed] {
        fs::rename(path, path.with_extension("1")).unwrap();
    }
    logs[2].be_named(false);
    reopen_all(&mut files);
    let after = logs
        .each_ref()
        .map(|log| log.with_file(|file| file.metadata().unwrap().ino()));
    assert_eq!(after, [before[0], Some(inode(&moved)), before[2]]);
    assert_ne!(after[1], before[1]);
    assert!(!unnamed.exists());
}

#[test]
fn an_end_of_outlets_and_files_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut files = LogFiles::default();
    let log = opened(&mut files, &file(&path));
    let threads = [1, 2].map(|thread| {
        let log = Arc::clone(&log);
        thread::spawn(move || {
            let _outlets = outlet::install();
            for n in 0..50_000 {
                // Of every tenth thousand, some wait.
                let buffering = (n % 10_000 < 1000).then_some(Buffering {
                    bytes: 1 << 20,
                    flush: None,
                });
                append_buffered(&log, buffering, &format!("{thread} {n}"));
            }
        })
    });
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    files.finish(PATIENCE);
    assert_eq!(log.lost_lines(), 0);
    assert_in_order(&read(&path), &[("1", 50_000), ("2", 50_000)]);
}

/// Each of the names has written its numbers, each in its order.
#[track_caller]
fn assert_in_order(text: &str, names: &[(&str, u64)]) {
    assert!(text.ends_with('\n'));
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for line in text.lines() {
        let (name, number) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        let next = next.entry(name).or_default();
        assert_eq!(number, next.to_string(), "{name}");
        *next += 1;
    }
    assert_eq!(next, names.iter().copied().collect());
}

#[test]
fn reopening_under_two_writers_loses_and_breaks_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut files = LogFiles::default();
    let log = opened(&mut files, &file(&path));
    let stop = AtomicBool::new(false);
    let counts = [AtomicU64::new(0), AtomicU64::new(0)];
    let names = ["one", "two"];
    let rotated = |rotation: usize| dir.path().join(rotation.to_string());
    const ROTATIONS: usize = 50;
    thread::scope(|scope| {
        for (name, count) in names.iter().zip(&counts) {
            let (log, stop) = (&log, &stop);
            scope.spawn(move || {
                let _outlets = outlet::install();
                while !stop.load(Ordering::Relaxed) {
                    let number = count.load(Ordering::Relaxed);
                    append(log, &format!("{name} {number}"));
                    count.store(number + 1, Ordering::Relaxed);
                    if number % 100 == 0 {
                        thread::yield_now();
                    }
                }
            });
        }
        let written = || counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        for rotation in 0..ROTATIONS {
            let before = written();
            while written()
                .iter()
                .zip(before)
                .any(|(&now, before)| now == before)
            {
                thread::yield_now();
            }
            fs::rename(&path, rotated(rotation)).unwrap();
            reopen_all(&mut files);
        }
        stop.store(true, Ordering::Relaxed);
    });
    files.finish(PATIENCE);
    assert_eq!(log.lost_lines(), 0);
    let all = (0..ROTATIONS).map(rotated).chain([path.clone()]);
    let text: String = all.map(|path| read(&path)).collect();
    let counts = counts.map(AtomicU64::into_inner);
    assert_in_order(&text, &[("one", counts[0]), ("two", counts[1])]);
}

#[test]
fn what_was_logged_before_a_reopening_goes_to_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut files = LogFiles::default();
    let log = opened(&mut files, &file(&path));
    let _outlets = outlet::install();
    let mut expected = String::new();
    let mut old = Vec::new();
    for n in 0..100 {
        append(&log, &n.to_string());
        expected.push_str(&format!("{n}\n"));
        old.push(dir.path().join(n.to_string()));
        fs::rename(&path, &old[n]).unwrap();
        reopen_all(&mut files);
        let text: String = old.iter().map(|path| read(path)).collect();
        assert_eq!(text, expected);
    }
    assert_eq!(read(&path), "");
}

/// A pipe with a name, and its reader, which has not read anything.
fn fifo(dir: &Path) -> (PathBuf, File) {
    let path = dir.join("fifo");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let mut options = OpenOptions::new();
    let reader = options.read(true).custom_flags(libc::O_NONBLOCK);
    let reader = reader.open(&path).unwrap();
    (path, reader)
}

/// Reads until a probe of what was read so far says that it is enough.
fn read_until(mut reader: impl Read, enough: impl Fn(&str) -> bool) -> String {
    let mut text = Vec::new();
    eventually("enough of the pipe's text", || {
        // Ends with an error when the pipe is empty.
        let _ = reader.read_to_end(&mut text);
        str::from_utf8(&text).is_ok_and(&enough).then_some(())
    });
    String::from_utf8(text).unwrap()
}

#[test]
fn a_pipe_that_nobody_reads_stops_nobody_and_what_was_lost_is_counted() {
    const LINES: u64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let (path, reader) = fifo(dir.path());
    let mut files = LogFiles::default();
    let log = opened(&mut files, &file(&path));
    let outlets = outlet::install();
    let padding = "x".repeat(1000);
    for n in 0..LINES {
        append(&log, &format!("{n} {padding}"));
    }
    let lost = log.lost_lines();
    assert!(lost > LINES / 2, "{lost}");
    let name = path.display();
    let trouble = format!("\"{name}\" does not take lines fast enough, {lost} of them were lost");
    let now = Instant::now();
    assert_eq!(files.troubles(now), [trouble]);
    append(&log, &padding);
    assert_eq!(files.troubles(now + Duration::from_secs(59)), [""; 0]);
    assert_eq!(files.troubles(now + Duration::from_secs(60)).len(), 1);
    assert_eq!(files.troubles(now + Duration::from_secs(200)), [""; 0]);
    // Who comes late finds whole lines, the first of them all.
    let kept = LINES - lost;
    let text = read_until(&reader, |text| text.lines().count() as u64 >= kept);
    for (n, line) in text.lines().enumerate() {
        assert_eq!(line, format!("{n} {padding}"));
    }
    append(&log, "it goes on");
    assert_eq!(
        read_until(&reader, |text| text.ends_with('\n')),
        "it goes on\n"
    );
    drop(outlets);
    assert_eq!(log.failed_writes(), 0);
}

#[test]
fn nobody_waits_for_a_pipe_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (path, reader) = fifo(dir.path());
    let mut files = LogFiles::default();
    let log = opened(&mut files, &file(&path));
    let outlets = outlet::install();
    let line = "x".repeat(999);
    for _ in 0..1000 {
        append(&log, &line);
    }
    drop(outlets);
    assert_eq!(log.lost_lines(), 0);
    let began = Instant::now();
    files.finish(PATIENCE);
    assert!(began.elapsed() < PATIENCE / 2);
    let text = read_until(&reader, |text| text.len() >= 1000);
    // The last of those that are in the pipe is cut, and counts as lost.
    let whole = text.lines().filter(|&found| found == line).count() as u64;
    assert_eq!(whole + log.lost_lines(), 1000);
}

#[test]
fn a_full_disk_is_counted_and_reported_and_ends_nothing() {
    let mut files = LogFiles::default();
    let log = opened(&mut files, &file(Path::new("/dev/full")));
    let outlets = outlet::install();
    for n in 0..10 {
        append(&log, &n.to_string());
    }
    eventually("a failure", || (log.failed_writes() > 0).then_some(()));
    let now = Instant::now();
    let failed = "write() to \"/dev/full\" failed (28: No space left on device)";
    assert_eq!(files.troubles(now), [failed]);
    assert_eq!(files.troubles(now + Duration::from_secs(1)), [""; 0]);
    assert_eq!(log.lost_lines(), 0, "they wait for room");
    drop(outlets);
    let began = Instant::now();
    let reported = files.finish(PATIENCE);
    assert!(began.elapsed() < PATIENCE / 2);
    assert_eq!(log.lost_lines(), 10);
    assert_eq!(reported, [format!("{failed}, 10 lines were lost")]);
}

#[test]
fn a_syslog_server_that_is_slow_or_away_gets_every_message_when_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("syslog");
    let mut files = LogFiles::default();
    let target = LogTarget::Syslog(Syslog {
        server: PeerAddress::Unix(path.clone()),
        facility: 23,
        severity: 6,
        tag: "t".to_owned(),
        hostname: false,
    });
    let log = opened(&mut files, &target);
    let _outlets = outlet::install();
    // Far more than a socket's queue holds.
    const BATCH: usize = 2000;
    let mut sent = 0;
    let mut send = || {
        for _ in 0..BATCH {
            append(&log, &format!("message {sent} {}", "x".repeat(sent % 300)));
            sent += 1;
        }
    };
    let receive = |socket: &UnixDatagram, messages: std::ops::Range<usize>| {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = [0; 1000];
        for n in messages {
            let length = socket.recv(&mut buffer).unwrap();
            let text = str::from_utf8(&buffer[..length]).unwrap();
            let (header, message) = text.split_once(" t: ").unwrap();
            assert!(header.starts_with("<190>"), "{text}");
            assert_eq!(message, format!("message {n} {}", "x".repeat(n % 300)));
        }
    };
    send();
    eventually("a failure", || (log.failed_writes() > 0).then_some(()));
    let name = format!("syslog:server=unix:{}", path.display());
    let trouble = format!("send() to \"{name}\" failed (2: No such file or directory)");
    assert_eq!(files.troubles(Instant::now()), [trouble]);
    let server = UnixDatagram::bind(&path).unwrap();
    receive(&server, 0..BATCH);
    send();
    receive(&server, BATCH..2 * BATCH);
    // It is started anew.
    drop(server);
    fs::remove_file(&path).unwrap();
    send();
    let failed = log.failed_writes();
    eventually("a failure", || (log.failed_writes() > failed).then_some(()));
    let server = UnixDatagram::bind(&path).unwrap();
    receive(&server, 2 * BATCH..3 * BATCH);
    assert_eq!(log.lost_lines(), 0);
}
