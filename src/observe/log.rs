//! One open log, as those who write lines know it.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering, fence};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread, ThreadId};

use arc_swap::ArcSwap;
use nix::errno::Errno;
use rtrb::Consumer;
use tokio::sync::mpsc::UnboundedSender;

use crate::config::model::{Level, LogTarget};

use super::cause::Cause;
use super::sink::Sink;
use super::syslog::{self, Header};

/// A log that all threads share. Lines come to it by [`super::outlet::append`]: those of workers through rings of bytes to
/// the log's writer, a thread of its own; others directly, as long as there are none.
#[derive(Debug)]
pub struct Log {
    /// What it is called in messages.
    name: String,
    /// Of a syslog server: how its messages begin.
    header: Option<Header>,
    /// What was opened last. The writer takes it over when everything that came before is written.
    sink: ArcSwap<Sink>,
    books: Arc<Books>,
    /// The configuration in force names it.
    named: AtomicBool,
    inbox: Sender<Message>,
    writer: OnceLock<Thread>,
}

/// Dropped by whoever was asked for something when it is done, for those who wait for the last of them.
pub type Done = UnboundedSender<Infallible>;

/// What a writer is told.
pub(super) enum Message {
    /// One more ring to write out, until its producer is gone; the last one that this thread fills.
    Ring(ThreadId, Consumer<u8>),
    /// What is to come goes there, once this is dropped.
    Reopened(Arc<Sink>, Done),
    /// Write what is there, and end.
    End,
}

/// What a log and its writer share.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// The writer waits for lines. Written by it, and by whoever wakes it.
    pub(super) idle: AtomicBool,
    /// Lines are wanted soon: it is an error log, too.
    prompt: AtomicBool,
    failed_writes: AtomicU64,
    lost_lines: AtomicU64,
    /// The last failure's number.
    errno: AtomicI32,
}

impl Books {
    /// Counts a failure.
    pub(super) fn note_failure(&self, error: &io::Error) {
        let number = error.raw_os_error().unwrap_or(libc::EINVAL);
        self.errno.store(number, Ordering::Relaxed);
        self.failed_writes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_prompt(&self) -> bool {
        self.prompt.load(Ordering::Relaxed)
    }

    /// Counts lines that are written nowhere.
    pub(super) fn note_lost(&self, lines: u64) {
        self.lost_lines.fetch_add(lines, Ordering::Relaxed);
    }
}

impl Log {
    /// The log of what was opened, and where its writer is told what to do.
    pub(super) fn new(target: &LogTarget, sink: Sink) -> (Self, Receiver<Message>) {
        let (inbox, messages) = channel();
        let log = Self {
            name: match target {
                LogTarget::Stderr => "stderr".to_owned(),
                LogTarget::File(path) => path.display().to_string(),
                LogTarget::Syslog(syslog) => syslog::name(syslog),
            },
            header: match target {
                LogTarget::Syslog(syslog) => Some(Header::new(syslog)),
                _ => None,
            },
            sink: ArcSwap::new(Arc::new(sink)),
            books: Arc::default(),
            named: AtomicBool::new(true),
            inbox,
            writer: OnceLock::new(),
        };
        (log, messages)
    }

    /// Appends one record to `out`, ready for [`Log::write`] or a ring: the line that `text` appends and its newline, or
    /// a message to syslog. `level` is that of a line of an error log.
    pub(super) fn record(
        &self,
        level: Option<Level>,
        out: &mut Vec<u8>,
        text: impl FnOnce(&mut Vec<u8>),
    ) {
        match &self.header {
            None => {
                text(out);
                out.push(b'\n');
            }
            Some(header) => syslog::frame(out, |out| {
                header.append(level, out);
                text(out);
            }),
        }
    }

    /// Writes a record at once. For those who have no ring; a failure is counted.
    pub(super) fn write(&self, record: &[u8]) {
        if let Err(error) = self.sink.load().write(record) {
            self.books.note_failure(&error);
            self.books.note_lost(1);
        }
    }

    /// Has lines written sooner than an access log's, which are many.
    pub(super) fn be_prompt(&self) {
        self.books.prompt.store(true, Ordering::Relaxed);
    }

    /// Notes whether the configuration in force names it.
    pub(super) fn be_named(&self, named: bool) {
        self.named.store(named, Ordering::Relaxed);
    }

    pub(super) fn is_named(&self) -> bool {
        self.named.load(Ordering::Relaxed)
    }

    /// Has the writer look after one more ring, which this thread fills instead of those before.
    pub(super) fn attach(&self, ring: Consumer<u8>) {
        self.tell(Message::Ring(thread::current().id(), ring));
    }

    /// Wakes the writer if it waits for lines. To be called after they were put into a ring.
    pub(super) fn wake(&self) {
        // Either the writer, which says that it is idle before it looks into the rings, sees what was put there, or it is
        // seen here that it is idle.
        fence(Ordering::SeqCst);
        if self.books.idle.load(Ordering::Relaxed) {
            // The next one need not wake it.
            self.books.idle.store(false, Ordering::Relaxed);
            self.unpark();
        }
    }

    /// Has what is logged go to what was opened anew, from the end of `done` on.
    pub(super) fn reopened(&self, sink: Sink, done: Done) {
        let sink = Arc::new(sink);
        self.sink.store(Arc::clone(&sink));
        self.tell(Message::Reopened(sink, done));
    }

    /// Has the writer write what is there, and end.
    pub(super) fn end(&self) {
        self.tell(Message::End);
    }

    fn tell(&self, message: Message) {
        // One that has ended needs nothing.
        let _ = self.inbox.send(message);
        self.unpark();
    }

    fn unpark(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// What its writer shares with it.
    pub(super) fn shared(&self) -> (Arc<Sink>, Arc<Books>) {
        (self.sink.load_full(), Arc::clone(&self.books))
    }

    /// Notes the writer, which is one for its whole life.
    pub(super) fn written_by(&self, writer: Thread) {
        let _ = self.writer.set(writer);
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many writes, or messages to syslog, failed since the log was opened.
    pub fn failed_writes(&self) -> u64 {
        self.books.failed_writes.load(Ordering::Relaxed)
    }

    /// How many lines were lost since the log was opened: it could not be written, or not fast enough.
    pub fn lost_lines(&self) -> u64 {
        self.books.lost_lines.load(Ordering::Relaxed)
    }

    /// Counts lines that are written nowhere.
    pub(super) fn note_lost(&self, lines: u64) {
        self.books.note_lost(lines);
    }

    /// The last failure, in nginx's words.
    pub(super) fn last_failure(&self) -> String {
        let call = match self.header {
            None => "write()",
            Some(_) => "send()",
        };
        let number = self.books.errno.load(Ordering::Relaxed);
        let cause = Cause::from(Errno::from_raw(number));
        format!("{call} to \"{}\" failed ({cause})", self.name)
    }

    /// A descriptor of the present file, to make the standard error of the process end there.
    ///
    /// # Errors
    /// There are no descriptors left, or it is no file.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.with_file(|file| file.as_fd().try_clone_to_owned())
            .unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::Unsupported)))
    }

    /// The present file, if it is one.
    pub(super) fn with_file<R>(&self, with: impl FnOnce(&File) -> R) -> Option<R> {
        self.sink.load().file().map(with)
    }

    /// What was opened last.
    pub(super) fn sink(&self) -> Arc<Sink> {
        self.sink.load_full()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.end();
    }
}
