//! One worker's ring.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use nix::errno::Errno;

use super::super::outgoing::{self, FLAGS};
use super::super::reactor::{Key, Registry, Want};
use super::super::state::{HUNG_UP, READ, State, WRITE};
use super::super::usage::Usage;
use super::ahead::{HANG_UP, READING, RECEIVING, WRITING};
use super::buffers::{BUFFER_BYTES, Buffer, Buffers, GROUP};

/// Entries of the submission queue. A full one is submitted early.
const ENTRIES: u32 = 1024;

/// What the entry of the descriptor that wakes the worker from outside is called.
const OUTSIDE: u64 = u64::MAX;

// What an entry is, beside the key in its `user_data`.
const RECEIVE: u8 = 0;
const POLL_READABLE: u8 = 1;
const POLL_HANG_UP: u8 = 2;
const POLL_WRITABLE: u8 = 3;
const SEND: u8 = 4;
const CANCEL: u8 = 5;

/// One worker's ring: its entries and its buffers.
pub(in crate::net) struct Ring {
    // The fields are dropped in this order: nothing is freed that the kernel may still use.
    ring: RefCell<IoUring>,
    buffers: Rc<Buffers>,
    completions: RefCell<Vec<cqueue::Entry>>,
    completed: Cell<u64>,
    outside: RawFd,
    outside_armed: Cell<bool>,
}

impl Ring {
    /// Makes a ring with the flags and the buffers that the workers use. Linux 6.1.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub(in crate::net) fn new(outside: BorrowedFd<'_>) -> io::Result<Self> {
        let (ring, buffers) = open()?;
        Ok(Self {
            ring: RefCell::new(ring),
            buffers,
            completions: RefCell::default(),
            completed: Cell::new(0),
            outside: outside.as_raw_fd(),
            outside_armed: Cell::new(false),
        })
    }

    /// Notes how much it is used.
    pub(in crate::net) fn look(&self, usage: &mut Usage) {
        usage.completions = self.completed.get();
        self.buffers.look(usage);
    }

    /// Whether [`Ring::new`] would be refused.
    pub(in crate::net) fn check() -> io::Result<()> {
        open().map(|(ring, buffers)| {
            drop(ring);
            drop(buffers);
        })
    }

    /// Has the kernel tell when `want` is there, if it is not about to do so already.
    pub(in crate::net) fn arm(&self, registry: &Registry, key: Key, state: &State, want: Want) {
        let side = &state.ahead;
        let fd = Fd(state.fd());
        let poll = |events: i16| opcode::PollAdd::new(fd, events as u32).build();
        let (what, armed, entry, mark) = match want {
            Want::Bytes if !side.is_armed(READING) => {
                let receive = opcode::Recv::new(fd, std::ptr::null_mut(), BUFFER_BYTES as u32)
                    .buf_group(GROUP)
                    .ioprio(POLL_FIRST)
                    .build()
                    .flags(squeue::Flags::BUFFER_SELECT);
                (READING, RECEIVING, receive, RECEIVE)
            }
            Want::Readable => {
                let readable = poll(libc::POLLIN | libc::POLLRDHUP);
                (READING, 0, readable, POLL_READABLE)
            }
            Want::HangUp => (HANG_UP, 0, poll(libc::POLLRDHUP), POLL_HANG_UP),
            Want::Writable => (WRITING, 0, poll(libc::POLLOUT), POLL_WRITABLE),
            Want::Bytes => return,
        };
        if !side.is_armed(what) {
            side.arm(what | armed);
            self.queue(registry, state, entry.user_data(key.to_u64(mark)));
        }
    }

    /// Has the kernel give up the wait for something to accept: its entry keeps a file alive that others have descriptors of.
    pub(in crate::net) fn disarm(&self, registry: &Registry, key: Key, state: &State) {
        if state.ahead.is_armed(READING) {
            let entry = opcode::PollRemove::new(key.to_u64(POLL_READABLE)).build();
            self.queue(registry, state, entry.user_data(key.to_u64(CANCEL)));
        }
    }

    /// Queues the send of which `state` says where it is.
    pub(in crate::net) fn send(&self, registry: &Registry, key: Key, state: &State) {
        let Some(queued) = state.outgoing.queued() else {
            return;
        };
        let start = registry.outgoing.borrow().bytes(queued).as_ptr();
        // Without MSG_DONTWAIT a send that finds no room would stay with the kernel, and a later one could overtake it.
        let entry = opcode::Send::new(Fd(state.fd()), start, queued.1)
            .flags(FLAGS.bits())
            .build();
        self.queue(registry, state, entry.user_data(key.to_u64(SEND)));
    }

    /// Puts an entry into the queue.
    #[allow(unsafe_code)]
    fn queue(&self, registry: &Registry, state: &State, entry: squeue::Entry) {
        loop {
            // SAFETY: entries carry no pointer but a send's, into the registry's outgoing bytes, which stay as they are until
            // the send is complete; a receive's buffer is the kernel's choice among `buffers`. Their descriptors are open:
            // whoever closes one settles it first.
            let pushed = unsafe { self.ring.borrow_mut().submission().push(&entry) };
            if pushed.is_ok() {
                registry.note_queued(state);
                return;
            }
            self.flush(registry);
        }
    }

    /// Has everything reach the kernel that is queued, and takes over what it says.
    pub(in crate::net) fn flush(&self, registry: &Registry) {
        // Whoever queued something relies on its being done: to go on without could send bytes to the wrong connection.
        self.enter(registry, Some(Duration::ZERO))
            .expect("the kernel takes what the ring has queued");
    }

    /// Submits what is queued and takes what is complete, waiting for it at most for `timeout`. True if `outside` is ready.
    pub(in crate::net) fn collect(
        &self,
        registry: &Registry,
        timeout: Option<Duration>,
    ) -> io::Result<bool> {
        if !self.outside_armed.replace(true) {
            let entry = opcode::PollAdd::new(Fd(self.outside), libc::POLLIN as u32).build();
            // Nobody else's state; it is settled by the next `enter`.
            self.queue(registry, &State::default(), entry.user_data(OUTSIDE));
        }
        self.enter(registry, timeout)?;
        Ok(!self.outside_armed.get())
    }

    fn enter(&self, registry: &Registry, mut timeout: Option<Duration>) -> io::Result<()> {
        loop {
            let mut ring = self.ring.borrow_mut();
            let entered = match timeout {
                Some(Duration::ZERO) => enter_at_once(&ring),
                Some(timeout) => {
                    let timeout = Timespec::from(timeout);
                    let args = SubmitArgs::new().timespec(&timeout);
                    ring.submitter().submit_with_args(1, &args)
                }
                None => ring.submitter().submit_with_args(1, &SubmitArgs::new()),
            };
            let refused = match entered {
                Ok(_) => None,
                Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
                    Errno::ETIME | Errno::EINTR | Errno::EAGAIN | Errno::EBUSY => None,
                    _ => Some(error),
                },
            };
            let left = !ring.submission().is_empty();
            let mut completions = self.completions.take();
            completions.extend(ring.completion());
            drop(ring);
            self.completed
                .set(self.completed.get() + completions.len() as u64);
            if !left {
                registry.begin_batch();
            }
            for completion in completions.drain(..) {
                self.complete(registry, &completion);
            }
            self.completions.replace(completions);
            match refused {
                Some(error) => return Err(error),
                // Completions made room for the rest, and may have woken somebody.
                None if left => timeout = Some(Duration::ZERO),
                None => return Ok(()),
            }
        }
    }

    fn complete(&self, registry: &Registry, completion: &cqueue::Entry) {
        let result = completion.result();
        // A buffer that nobody takes goes back when this is dropped.
        let buffer = cqueue::buffer_select(completion.flags())
            .map(|id| Buffer::new(&self.buffers, id, usize::try_from(result).unwrap_or(0)));
        if completion.user_data() == OUTSIDE {
            self.outside_armed.set(false);
            return;
        }
        let (key, mark) = Key::from_u64(completion.user_data());
        if mark == RECEIVE && result == -libc::ENOBUFS {
            self.buffers.note_exhausted();
        }
        registry.with(key, |state| match mark {
            RECEIVE => received(state, result, buffer),
            POLL_READABLE => {
                state.ahead.disarm(READING);
                state.notice(READ | hung_up(result));
            }
            POLL_HANG_UP => {
                state.ahead.disarm(HANG_UP);
                state.notice(READ | HUNG_UP);
            }
            POLL_WRITABLE => {
                state.ahead.disarm(WRITING);
                if outgoing::writable(state) {
                    self.arm(registry, key, state, Want::Writable);
                }
            }
            CANCEL => {}
            _ => self.sent(registry, key, state, result),
        });
        if mark == SEND {
            registry.outgoing.borrow_mut().done();
        }
    }

    /// A queued send is complete.
    fn sent(&self, registry: &Registry, key: Key, state: &State, result: i32) {
        let result = usize::try_from(result).map_err(|_| Errno::from_raw(-result));
        let waits = state.outgoing.queued().is_some_and(|queued| {
            outgoing::sent(state, registry.outgoing.borrow().bytes(queued), result)
        });
        if waits {
            self.arm(registry, key, state, Want::Writable);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // No receive takes a buffer any more.
        let unregistered = self.ring.borrow().submitter().unregister_buf_ring(GROUP);
        if unregistered.is_err() {
            // Never freed, rather than freed too early.
            std::mem::forget(Rc::clone(&self.buffers));
        }
    }
}

fn open() -> io::Result<(IoUring, Rc<Buffers>)> {
    let ring = IoUring::builder()
        // What completes is taken over when we ask, not by interrupting us.
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(ENTRIES * 8)
        .build(ENTRIES)?;
    let buffers = Buffers::new(&ring)?;
    Ok((ring, buffers))
}

/// `IORING_RECVSEND_POLL_FIRST` (Linux 5.19): the queue was just found empty, so that trying first is in vain.
const POLL_FIRST: u16 = 1;

/// Submits, and runs what the kernel has put off.
#[allow(unsafe_code)]
fn enter_at_once(ring: &IoUring) -> io::Result<usize> {
    const GETEVENTS: u32 = 1;
    // SAFETY: no argument is passed; the entries are sound by `Ring::queue`.
    unsafe {
        // The length is that of the submission queue, which is only ours to fill.
        let queued = ring.submission_shared().len();
        ring.submitter()
            .enter::<libc::sigset_t>(queued as u32, 0, GETEVENTS, None)
    }
}

/// A receive is complete.
fn received(state: &State, result: i32, buffer: Option<Buffer>) {
    state.ahead.disarm(READING | RECEIVING);
    match (result, buffer) {
        (1.., Some(buffer)) => {
            state.ahead.put(buffer);
            state.notice(READ);
        }
        (0.., _) => state.notice(READ | HUNG_UP),
        // The system call that follows says what is wrong, or brings the bytes.
        (error, _)
            if matches!(
                -error,
                libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN
            ) =>
        {
            state.notice(READ);
        }
        (error, _) => {
            state.ahead.fail(Errno::from_raw(-error));
            state.notice(READ | WRITE | HUNG_UP);
        }
    }
}

/// Whether a poll's result says so; a failed poll counts as an error event.
fn hung_up(result: i32) -> u8 {
    let events = result as i16;
    if result < 0 || events & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0 {
        HUNG_UP
    } else {
        0
    }
}
