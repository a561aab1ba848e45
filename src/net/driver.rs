//! The drivers' common face: what a worker's runtime does, and readiness of a descriptor. Which driver it is, is settled per
//! thread by [`run`].

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::{epoll, uring};

/// What a worker waits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring: Linux 6.0, and nobody who forbids it.
    Uring,
    /// epoll: everywhere.
    Epoll,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

thread_local! {
    static RUNNING: Cell<Option<Driver>> = const { Cell::new(None) };
}

/// The driver of this thread.
///
/// # Panics
/// It is not a worker's thread.
fn running() -> Driver {
    RUNNING.get().expect("only within net::run")
}

/// Runs `future` and everything it spawns on this thread until `future` is done.
///
/// # Errors
/// The kernel refuses the driver.
///
/// # Panics
/// One runs on this thread already.
pub fn run<F: Future>(driver: Driver, future: F) -> io::Result<F::Output> {
    struct Running;
    impl Drop for Running {
        fn drop(&mut self) {
            RUNNING.set(None);
        }
    }

    assert!(
        RUNNING.replace(Some(driver)).is_none(),
        "one driver for a thread"
    );
    let _running = Running;
    match driver {
        Driver::Uring => uring::run(future),
        Driver::Epoll => epoll::run(future),
    }
}

/// Starts a task on this worker. One that panics ends alone.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    match running() {
        Driver::Uring => uring::spawn(task),
        Driver::Epoll => epoll::spawn(task),
    }
}

/// The time of the turn that runs: precise to what a worker does between two looks at the kernel.
pub fn now() -> Instant {
    Instant::now()
}

/// Waits. For sweeps and pauses; no request arms a timer.
pub async fn sleep(duration: Duration) {
    match running() {
        Driver::Uring => uring::sleep(duration).await,
        Driver::Epoll => epoll::sleep(duration).await,
    }
}

/// Lets every other task of the worker run and new readiness be noticed. A task that never waits starves the others, and
/// waiting for a socket that is ready already is no wait.
pub async fn give_way() {
    match running() {
        Driver::Uring => uring::give_way().await,
        Driver::Epoll => epoll::give_way().await,
    }
}

/// Readiness of one descriptor. It must be asked about the same descriptor in every call, and dropped before that is closed.
pub(super) enum Watch {
    /// Through the ring.
    Uring(uring::Watch),
    /// Through epoll.
    Epoll(epoll::Watch),
}

impl Watch {
    /// For a descriptor that this worker waits for: connected, connecting or listening.
    ///
    /// # Errors
    /// `ENOMEM`: the kernel has no memory for it, or will not give more to this user.
    pub(super) fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(match running() {
            Driver::Uring => Self::Uring(uring::Watch::default()),
            Driver::Epoll => Self::Epoll(epoll::Watch::new(fd)?),
        })
    }

    /// Ready, once for what it is ready with, when a receive may bring something; true if the peer has hung up too.
    pub(super) fn poll_read(&self, fd: BorrowedFd<'_>, cx: &mut Context<'_>) -> Poll<bool> {
        match self {
            Self::Uring(watch) => watch.poll_read(fd, cx),
            Self::Epoll(watch) => watch.poll_read(cx),
        }
    }

    /// Ready when the peer has sent its last byte or is gone.
    pub(super) fn poll_hung_up(&self, fd: BorrowedFd<'_>, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Uring(watch) => watch.poll_hung_up(fd, cx),
            Self::Epoll(watch) => watch.poll_hung_up(cx),
        }
    }

    /// Ready when a send may take something, or fail; until [`Watch::found_full`].
    pub(super) fn poll_write(&self, fd: BorrowedFd<'_>, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Uring(watch) => watch.poll_write(fd, cx),
            Self::Epoll(watch) => watch.poll_write(cx),
        }
    }

    /// A receive has just found the queue empty: what the driver noticed before that counts no more.
    pub(super) fn found_empty(&self) {
        if let Self::Epoll(watch) = self {
            watch.found_empty();
        }
    }

    /// A send has just found the queue full.
    pub(super) fn found_full(&self) {
        if let Self::Epoll(watch) = self {
            watch.found_full();
        }
    }

    /// The descriptor is about to be closed while duplicates of it stay open.
    pub(super) fn forget(&self, fd: BorrowedFd<'_>) {
        if let Self::Epoll(watch) = self {
            watch.forget(fd);
        }
    }
}
