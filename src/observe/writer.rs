//! The thread that writes a log out, so that nobody else waits for a disk, a pipe's reader or a syslog server.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::sync::mpsc::Receiver;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use memchr::{memchr, memrchr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtrb::Consumer;

use crate::config::model::PeerAddress;

use super::log::{Books, Log, Message};
use super::sink::Sink;
use super::syslog::{FRAME_BYTES, Socket, framed_bytes};

/// How long after it has written it looks for lines again: many lines make one write, and none of them wakes it.
const PACE: Duration = Duration::from_millis(10);

/// The same for an error log, whose lines are few, and somebody may be waiting for them.
const PROMPT_PACE: Duration = Duration::from_millis(1);

/// How long after a failure it tries again.
const RETRY: Duration = Duration::from_secs(1);

/// How long it waits for room before it looks what it was told meanwhile.
const ROOM_PATIENCE_MS: u8 = 100;

/// How long it goes on trying once it has been told to end, from the last bytes on that it could write.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// How long after a failure it tries again then.
const END_RETRY: Duration = Duration::from_millis(50);

/// One log's writer.
pub(super) struct Writer {
    books: Arc<Books>,
    inbox: Receiver<Message>,
    sink: Arc<Sink>,
    /// Of a syslog server: the connection, once there is one.
    socket: Option<Socket>,
    /// In turn.
    sources: Vec<Source>,
    /// The last write ended within a line, and the rest of it is at the beginning of the first source.
    torn: bool,
    /// Bytes taken out of rings; wraps around.
    taken: usize,
}

/// A thread that logs.
struct Source {
    thread: ThreadId,
    /// In the order in which they were made: only the last may still be filled.
    rings: VecDeque<Consumer<u8>>,
}

/// How far a look through the rings came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    /// There was nothing.
    Nothing,
    /// All that there was is written.
    All,
    /// There is no room for more.
    Full,
    /// The rest cannot be written now, for a reason that is noted.
    Failed,
}

impl Writer {
    pub(super) fn new(log: &Log, inbox: Receiver<Message>) -> Self {
        let (sink, books) = log.shared();
        Self {
            books,
            inbox,
            sink,
            socket: None,
            sources: Vec::new(),
            torn: false,
            taken: 0,
        }
    }

    /// Writes until it is told to end.
    pub(super) fn run(mut self) {
        let mut end_by = None;
        loop {
            while let Ok(message) = self.inbox.try_recv() {
                match message {
                    Message::Ring(thread, ring) => self.attach(thread, ring),
                    Message::Reopened(sink, _done) => self.change(sink),
                    Message::End => end_by = Some(Instant::now() + END_PATIENCE),
                }
            }
            let taken = self.taken;
            let drained = self.drain();
            if let Some(by) = &mut end_by {
                if self.taken != taken {
                    *by = Instant::now() + END_PATIENCE;
                }
                let has_more = matches!(drained, Drained::Full | Drained::Failed);
                if !has_more || Instant::now() >= *by {
                    return self.give_up();
                }
            }
            match drained {
                Drained::Nothing => self.rest(),
                // Those who have put lines into rings do not wake it, messages do.
                Drained::All => thread::park_timeout(match self.books.is_prompt() {
                    true => PROMPT_PACE,
                    false => PACE,
                }),
                Drained::Full => self.await_room(),
                Drained::Failed => thread::park_timeout(match end_by {
                    Some(_) => END_RETRY,
                    None => RETRY,
                }),
            }
        }
    }

    /// Looks after one more ring of a thread.
    fn attach(&mut self, thread: ThreadId, ring: Consumer<u8>) {
        match self.sources.iter_mut().find(|known| known.thread == thread) {
            Some(known) => known.rings.push_back(ring),
            None => self.sources.push(Source {
                thread,
                rings: VecDeque::from([ring]),
            }),
        }
    }

    /// Writes what there is where it was meant to go, and the next lines to `sink`.
    fn change(&mut self, sink: Arc<Sink>) {
        self.drain();
        if self.torn && !self.sink.is_same_file(&sink) {
            // The beginning of this line is in the other file.
            self.torn = false;
            let rings = self.sources.first_mut().map(|source| &mut source.rings);
            if let Some(ring) = rings.and_then(VecDeque::front_mut) {
                skip_line(ring);
                self.books.note_lost(1);
            }
        }
        self.sink = sink;
        self.socket = None;
    }

    /// Waits for somebody who puts lines into a ring.
    fn rest(&self) {
        self.books.idle.store(true, Ordering::SeqCst);
        // See `Log::wake`.
        fence(Ordering::SeqCst);
        let mut rings = self.sources.iter().flat_map(|source| &source.rings);
        if rings.all(|ring| ring.slots() == 0) {
            thread::park();
        }
        self.books.idle.store(false, Ordering::Relaxed);
    }

    fn await_room(&self) {
        let wait = |fd: BorrowedFd<'_>| {
            let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
            // Whatever it says, the next write says more.
            let _ = poll(&mut fds, PollTimeout::from(ROOM_PATIENCE_MS));
        };
        match (&*self.sink, &self.socket) {
            (Sink::File(file) | Sink::Pipe(file), _) => wait(file.as_fd()),
            (_, Some(Socket::Unix(socket))) => wait(socket.as_fd()),
            // What is full is a queue of the network's, which no poll waits for.
            (_, Some(Socket::Udp(_)) | None) => thread::park_timeout(PACE),
        }
    }

    /// Writes all that is in the rings now, and forgets those that nobody fills any more.
    fn drain(&mut self) -> Drained {
        let sink = Arc::clone(&self.sink);
        let mut wrote = false;
        for source in 0..self.sources.len() {
            let written = self.write_source(source, &sink, &mut wrote);
            let Err(error) = written else { continue };
            // The rest of a line comes next; without one the others have their turn.
            let next = if self.torn { source } else { source + 1 };
            self.sources.rotate_left(next);
            if error.kind() == io::ErrorKind::WouldBlock {
                return Drained::Full;
            }
            self.books.note_failure(&error);
            return Drained::Failed;
        }
        self.sources.retain(|source| !source.rings.is_empty());
        match wrote {
            true => Drained::All,
            false => Drained::Nothing,
        }
    }

    /// Writes what is in the rings of one thread now.
    fn write_source(&mut self, source: usize, sink: &Sink, wrote: &mut bool) -> io::Result<()> {
        while let Some(ring) = self.sources[source].rings.front() {
            // Asked first: what is put there before its producer goes is seen by the second question.
            let is_last = !ring.is_abandoned();
            let bytes = ring.slots();
            *wrote |= bytes > 0;
            match sink {
                Sink::File(file) => self.write_ring(source, bytes, file, usize::MAX)?,
                Sink::Pipe(file) => self.write_ring(source, bytes, file, libc::PIPE_BUF)?,
                Sink::Syslog(server) => self.send_ring(source, bytes, server)?,
            }
            if is_last {
                return Ok(());
            }
            self.sources[source].rings.pop_front();
        }
        Ok(())
    }

    /// Writes the next `bytes` of a thread's first ring, which are whole lines, to a file: as many lines by one call as `most` bytes
    /// hold, or one that is longer.
    fn write_ring(
        &mut self,
        source: usize,
        mut bytes: usize,
        mut file: &File,
        most: usize,
    ) -> io::Result<()> {
        while bytes > 0 {
            let Some(ring) = self.sources[source].rings.front_mut() else {
                return Ok(());
            };
            let Ok(chunk) = ring.read_chunk(bytes) else {
                return Ok(());
            };
            let (one, two) = whole_lines(chunk.as_slices(), most);
            match file.write_vectored(&[IoSlice::new(one), IoSlice::new(two)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    let last = match written.checked_sub(one.len()) {
                        None | Some(0) => one[written - 1],
                        Some(written) => two[written - 1],
                    };
                    self.torn = last != b'\n';
                    chunk.commit(written);
                    self.taken = self.taken.wrapping_add(written);
                    bytes -= written;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends the next `bytes` of a thread's first ring, which are whole frames, to a syslog server.
    fn send_ring(
        &mut self,
        source: usize,
        mut bytes: usize,
        server: &PeerAddress,
    ) -> io::Result<()> {
        let mut wrapped = Vec::new();
        while bytes > 0 {
            let Some(ring) = self.sources[source].rings.front_mut() else {
                return Ok(());
            };
            let frame_bytes = FRAME_BYTES + next_frame(ring);
            let Ok(chunk) = ring.read_chunk(frame_bytes) else {
                return Ok(());
            };
            let (one, two) = chunk.as_slices();
            let frame = if two.is_empty() {
                one
            } else {
                wrapped.clear();
                wrapped.extend_from_slice(one);
                wrapped.extend_from_slice(two);
                &wrapped
            };
            let socket = match &mut self.socket {
                Some(socket) => socket,
                none => none.insert(Socket::connect(server)?),
            };
            match send(socket, &frame[FRAME_BYTES..], &self.books) {
                Ok(()) => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        // Its server may have been started anew.
                        self.socket = None;
                    }
                    return Err(error);
                }
            }
            chunk.commit_all();
            self.taken = self.taken.wrapping_add(frame_bytes);
            bytes = bytes.saturating_sub(frame_bytes);
        }
        Ok(())
    }

    /// Counts what is left as lost.
    fn give_up(&mut self) {
        let rings = self.sources.iter_mut().flat_map(|source| &mut source.rings);
        for ring in rings {
            while ring.slots() > 0 {
                match &*self.sink {
                    Sink::File(_) | Sink::Pipe(_) => skip_line(ring),
                    Sink::Syslog(_) => {
                        let bytes = FRAME_BYTES + next_frame(ring);
                        ring.read_chunk(bytes)
                            .into_iter()
                            .for_each(|c| c.commit_all());
                    }
                }
                self.books.note_lost(1);
            }
        }
    }
}

/// Sends one message. One that no try could send is lost and counted.
fn send(socket: &Socket, message: &[u8], books: &Books) -> io::Result<()> {
    match socket.send(message) {
        Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
            books.note_failure(&error);
            books.note_lost(1);
            Ok(())
        }
        // Over UDP this is said of the message before, and to the next one only.
        Err(error)
            if error.kind() == io::ErrorKind::ConnectionRefused
                && matches!(socket, Socket::Udp(_)) =>
        {
            books.note_failure(&error);
            books.note_lost(1);
            socket.send(message)
        }
        // The kernel's queue to the network is full.
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        other => other,
    }
}

/// Bytes of the next message in a ring of frames, which is not empty.
fn next_frame(ring: &mut Consumer<u8>) -> usize {
    let mut start = [0; FRAME_BYTES];
    if let Ok(chunk) = ring.read_chunk(FRAME_BYTES) {
        let (one, two) = chunk.as_slices();
        for (to, from) in start.iter_mut().zip(one.iter().chain(two)) {
            *to = *from;
        }
    }
    framed_bytes(start)
}

/// Of bytes in two pieces, which are lines: the lines that `most` bytes hold, or the first if that is longer.
fn whole_lines<'a>((one, two): (&'a [u8], &'a [u8]), most: usize) -> (&'a [u8], &'a [u8]) {
    if one.len() + two.len() <= most {
        return (one, two);
    }
    let of_one = &one[..one.len().min(most)];
    let of_two = &two[..two.len().min(most - of_one.len())];
    let last = memrchr(b'\n', of_two).map(|at| one.len() + at);
    let last = last.or_else(|| memrchr(b'\n', of_one));
    let first = || memchr(b'\n', one).or_else(|| memchr(b'\n', two).map(|at| one.len() + at));
    let end = last
        .or_else(first)
        .map_or(one.len() + two.len(), |at| at + 1);
    match end.checked_sub(one.len()) {
        Some(second) => (one, &two[..second]),
        None => (&one[..end], &[]),
    }
}

/// Takes a line out of a ring, or the rest of one.
fn skip_line(ring: &mut Consumer<u8>) {
    let slots = ring.slots();
    if let Ok(chunk) = ring.read_chunk(slots) {
        let (one, two) = chunk.as_slices();
        let end = one.iter().chain(two).position(|&byte| byte == b'\n');
        chunk.commit(end.map_or(slots, |end| end + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_together_as_far_as_they_fit() {
        let text = b"ab\ncdef\ng\n";
        for (most, expected) in [
            (100, "ab\ncdef\ng\n"),
            (10, "ab\ncdef\ng\n"),
            (9, "ab\ncdef\n"),
            (8, "ab\ncdef\n"),
            (7, "ab\n"),
            (3, "ab\n"),
            // Longer than that by itself.
            (2, "ab\n"),
        ] {
            for split in 0..=text.len() {
                let (one, two) = whole_lines(text.split_at(split), most);
                assert_eq!([one, two].concat(), expected.as_bytes(), "{most} {split}");
                assert!(text[..split].starts_with(one) && text[split..].starts_with(two));
            }
        }
        assert_eq!(
            whole_lines((b"torn", b"off"), 3),
            (&b"torn"[..], &b"off"[..])
        );
    }
}
