//! The thread that writes a log out, so that nobody else waits for a disk, a pipe's reader or a syslog server.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

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

/// How long it waits for room once it has been told to end, from the last bytes on that there was room for.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// One log's writer.
pub(super) struct Writer {
    books: Arc<Books>,
    inbox: Receiver<Message>,
    sink: Arc<Sink>,
    /// Of a syslog server: the connection, once there is one.
    socket: Option<Socket>,
    /// In the order in which they were made. Of one thread, only the last may still be filled.
    rings: Vec<Consumer<u8>>,
    /// The last write ended within a line, and the rest of it is at the beginning of the first ring.
    torn: bool,
    /// Bytes taken out of rings; wraps around.
    taken: usize,
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
            rings: Vec::new(),
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
                    Message::Ring(ring) => self.rings.push(ring),
                    Message::Reopened(sink) => self.change(sink),
                    Message::End => end_by = Some(Instant::now() + END_PATIENCE),
                }
            }
            let taken = self.taken;
            let drained = self.drain();
            if let Some(by) = &mut end_by {
                if self.taken != taken {
                    *by = Instant::now() + END_PATIENCE;
                }
                if drained != Drained::Full || Instant::now() >= *by {
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
                Drained::Failed => thread::park_timeout(RETRY),
            }
        }
    }

    /// Writes what there is where it was meant to go, and the next lines to `sink`.
    fn change(&mut self, sink: Arc<Sink>) {
        self.drain();
        if self.torn && !self.sink.is_same_file(&sink) {
            // The beginning of this line is in the other file.
            self.torn = false;
            if let Some(ring) = self.rings.first_mut() {
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
        if self.rings.iter().all(|ring| ring.slots() == 0) {
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
            (Sink::File(file), _) => wait(file.as_fd()),
            (_, Some(socket)) => wait(socket.as_fd()),
            (_, None) => thread::park_timeout(PACE),
        }
    }

    /// Writes all that is in the rings now, and forgets those that nobody fills any more.
    fn drain(&mut self) -> Drained {
        let sink = Arc::clone(&self.sink);
        let mut wrote = false;
        for index in 0..self.rings.len() {
            let bytes = self.rings[index].slots();
            wrote |= bytes > 0;
            let written = match &*sink {
                Sink::File(file) => self.write_ring(index, bytes, file),
                Sink::Syslog(server) => self.send_ring(index, bytes, server),
            };
            let Err(error) = written else { continue };
            if self.torn {
                // The rest of the line comes next. Rings of one thread keep their order: those before are empty.
                self.rings[..=index].rotate_right(1);
            }
            if error.kind() == io::ErrorKind::WouldBlock {
                return Drained::Full;
            }
            self.books.note_failure(&error);
            return Drained::Failed;
        }
        let is_used = |ring: &Consumer<u8>| !ring.is_abandoned() || ring.slots() > 0;
        self.rings.retain(is_used);
        match wrote {
            true => Drained::All,
            false => Drained::Nothing,
        }
    }

    /// Writes the next `bytes` of a ring, which are whole lines, to a file.
    fn write_ring(&mut self, index: usize, mut bytes: usize, mut file: &File) -> io::Result<()> {
        while bytes > 0 {
            let Ok(chunk) = self.rings[index].read_chunk(bytes) else {
                return Ok(());
            };
            let (one, two) = chunk.as_slices();
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

    /// Sends the next `bytes` of a ring, which are whole frames, to a syslog server.
    fn send_ring(
        &mut self,
        index: usize,
        mut bytes: usize,
        server: &PeerAddress,
    ) -> io::Result<()> {
        let mut wrapped = Vec::new();
        while bytes > 0 {
            let ring = &mut self.rings[index];
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
        for ring in &mut self.rings {
            while ring.slots() > 0 {
                match &*self.sink {
                    Sink::File(_) => skip_line(ring),
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

/// Takes a line out of a ring, or the rest of one.
fn skip_line(ring: &mut Consumer<u8>) {
    let slots = ring.slots();
    if let Ok(chunk) = ring.read_chunk(slots) {
        let (one, two) = chunk.as_slices();
        let end = one.iter().chain(two).position(|&byte| byte == b'\n');
        chunk.commit(end.map_or(slots, |end| end + 1));
    }
}
