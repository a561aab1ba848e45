//! Waiting for a descriptor through the ring.

use std::cell::RefCell;
use std::future::Future;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use io_uring::{cqueue, opcode, squeue, types};
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

const READABLE: i16 = libc::POLLIN | libc::POLLRDHUP;
const WRITABLE: i16 = libc::POLLOUT;

/// What a poll entry reported: `poll(2)` bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Events(u32);

impl Events {
    /// The peer sent its last byte, or the connection failed.
    fn hung_up(self) -> bool {
        self.0 & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as u32 != 0
    }
}

/// Turns a completion into events.
pub(super) struct IntoEvents;

impl OneshotOutputTransform for IntoEvents {
    type Output = Events;
    type StoredData = ();

    fn transform_oneshot_output(self, (): (), completion: cqueue::Entry) -> Events {
        // A failed poll (the descriptor was closed before it was submitted) is an error event: the system call that
        // follows says what is wrong.
        Events(u32::try_from(completion.result()).unwrap_or(libc::POLLERR as u32))
    }
}

/// Puts an entry without data into the ring's queue.
pub(super) fn submit(entry: squeue::Entry) -> InFlightOneshot<(), IntoEvents> {
    UnsubmittedOneshot::new((), IntoEvents, entry).submit()
}

/// Readiness of one descriptor, of each kind.
#[derive(Default)]
pub(in crate::net) struct Watch {
    reading: Readiness,
    hangup: Readiness,
    writing: Readiness,
}

impl Watch {
    pub(in crate::net) fn poll_read(&self, fd: BorrowedFd<'_>, cx: &mut Context<'_>) -> Poll<bool> {
        self.reading.poll(fd, READABLE, cx).map(Events::hung_up)
    }

    pub(in crate::net) fn poll_hung_up(
        &self,
        fd: BorrowedFd<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        self.hangup.poll(fd, libc::POLLRDHUP, cx).map(|_| ())
    }

    pub(in crate::net) fn poll_write(&self, fd: BorrowedFd<'_>, cx: &mut Context<'_>) -> Poll<()> {
        self.writing.poll(fd, WRITABLE, cx).map(|_| ())
    }
}

/// One kind of readiness of one descriptor: at most one poll entry is with the kernel for it.
///
/// The entry stays armed when nobody polls it, and is found completed by whoever polls next. It holds a reference to the
/// kernel's file, so that the owner of the descriptor has to `shutdown(2)` it before closing; [`crate::net::Socket`] does.
#[derive(Default)]
struct Readiness {
    armed: RefCell<Option<InFlightOneshot<(), IntoEvents>>>,
}

impl Readiness {
    /// Waits for one of `events` on `fd`; arms the entry if there is none. `events` and `fd` must be the same in every
    /// call on one `Readiness`.
    fn poll(&self, fd: BorrowedFd<'_>, events: i16, cx: &mut Context<'_>) -> Poll<Events> {
        let mut armed = self.armed.borrow_mut();
        let entry = armed.get_or_insert_with(|| {
            submit(opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), events as u32).build())
        });
        let found = Pin::new(entry).poll(cx);
        if found.is_ready() {
            *armed = None;
        }
        found
    }
}
