//! Runs a worker's tasks: those that are ready, then a look at what became ready, and so on.
//!
//! Waking a task from its own thread puts its number into a queue. From another thread (the control thread's messages) the
//! number goes through a channel, and an eventfd ends the worker's wait.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use slab::Slab;

use super::driver::Driver;
use super::pipe;
use super::reactor::Reactor;
use super::usage::Usage;

/// Tasks polled in one turn at the most, unless more were ready at its beginning: what is ready in the kernel gets its turn
/// although tasks wake each other for ever.
const TURN: usize = 128;

/// Bytes that all ready tasks together should move in one turn: some milliseconds' worth.
const ALL_BYTES: usize = 16 << 20;

/// Bounds of what one of them may move in it, in bytes. With less, the calls cost more than what they move.
const EACH_BYTES_MIN: usize = 64 << 10;
const EACH_BYTES_MAX: usize = 1 << 20;

/// The number of the future that [`run`] was given.
const MAIN: usize = usize::MAX;

thread_local! {
    static RUNTIME: RefCell<Option<Rc<Runtime>>> = const { RefCell::new(None) };
}

/// One worker's runtime.
struct Runtime {
    reactor: Reactor,
    // None while the task is being polled.
    tasks: RefCell<Slab<Option<Task>>>,
    /// Numbers of tasks to poll. One that a task left behind when it ended polls whoever has the number now once too
    /// often, which any future stands.
    ready: RefCell<VecDeque<usize>>,
    /// Tasks that go on after the next look at the kernel.
    gave_way: RefCell<Vec<Waker>>,
    /// See [`turn_bytes`].
    turn_bytes: Cell<usize>,
    timers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    timers_made: Cell<u64>,
    /// When this turn began, and how many there were.
    now: Cell<Instant>,
    turns: Cell<u64>,
    /// Connections that are closed but for their last bytes.
    closing: Cell<usize>,
    /// Tasks are being dropped: no other may begin.
    ending: Cell<bool>,
    home: Arc<Home>,
    from_outside: Receiver<usize>,
}

/// How other threads reach a runtime.
struct Home {
    sender: Sender<usize>,
    alarm: EventFd,
}

/// A task that rests.
struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    handle: Arc<Handle>,
    waker: Waker,
}

/// What a waker refers to. It outlives the task and the runtime where somebody keeps it.
struct Handle {
    task: usize,
    /// Its number is in the queue, or on its way there.
    queued: AtomicBool,
    home: Arc<Home>,
}

impl Wake for Handle {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let at_home = runtime(|runtime| {
            let at_home = Arc::ptr_eq(&runtime.home, &self.home);
            if at_home {
                runtime.ready.borrow_mut().push_back(self.task);
            }
            at_home
        });
        if at_home != Some(true) && self.home.sender.send(self.task).is_ok() {
            // It fails only if the counter is full, and then the worker is awake anyway.
            let _ = self.home.alarm.write(1);
        }
    }
}

/// Runs `f` on this thread's runtime, if one runs.
fn runtime<T>(f: impl FnOnce(&Rc<Runtime>) -> T) -> Option<T> {
    // At the very end of a thread the variable is gone.
    let found = RUNTIME.try_with(|runtime| runtime.borrow().as_ref().map(f));
    found.ok().flatten()
}

/// The time at which this turn of the worker began, without asking the clock: up to a few milliseconds ago.
///
/// # Panics
/// It is not a worker's thread.
pub fn now() -> Instant {
    runtime(|runtime| runtime.now.get()).expect("within net::run")
}

/// Connections of this worker that are closed but for their last bytes, which their peers have no room for.
pub fn closing() -> usize {
    runtime(|runtime| runtime.closing.get()).unwrap_or_default()
}

/// What this worker's runtime and its driver use.
pub fn usage() -> Usage {
    let mut usage = Usage::default();
    runtime(|runtime| {
        usage.turns = runtime.turns.get();
        usage.tasks = runtime.tasks.borrow().len() as u64;
        runtime.reactor.look(&mut usage);
    });
    pipe::look(&mut usage);
    usage
}

/// One connection more that is closed but for its last bytes, as long as this lives. `None` if its worker ends.
pub(super) fn begin_closing() -> Option<Closing> {
    runtime(|runtime| {
        let begins = !runtime.ending.get();
        runtime
            .closing
            .set(runtime.closing.get() + usize::from(begins));
        begins.then(|| Closing)
    })
    .flatten()
}

/// One of [`closing`].
pub(super) struct Closing;

impl Drop for Closing {
    fn drop(&mut self) {
        runtime(|runtime| runtime.closing.set(runtime.closing.get() - 1));
    }
}

/// Runs `f` on this worker's reactor, if one runs.
pub(super) fn reactor<T>(f: impl FnOnce(&Reactor) -> T) -> Option<T> {
    runtime(|runtime| f(&runtime.reactor))
}

/// How many descriptors this worker watches: by our books, and by the kernel's if it keeps any.
#[cfg(test)]
pub(super) fn registrations() -> (usize, Option<usize>) {
    reactor(Reactor::registrations).expect("within net::run")
}

/// Runs `future` and everything it spawns on this thread until `future` is done.
///
/// # Errors
/// The kernel refuses the driver.
///
/// # Panics
/// One runs on this thread already.
pub fn run<F: Future>(driver: Driver, future: F) -> io::Result<F::Output> {
    /// Drops the tasks while what they refer to is there.
    struct Entered(Rc<Runtime>);
    impl Drop for Entered {
        fn drop(&mut self) {
            self.0.ending.set(true);
            drop(self.0.tasks.take());
            RUNTIME.set(None);
        }
    }

    let runtime = Rc::new(Runtime::new(driver)?);
    let before = RUNTIME.replace(Some(Rc::clone(&runtime)));
    assert!(before.is_none(), "one driver for a thread");
    let entered = Entered(runtime);
    let mut main = pin!(future);
    entered.0.block_on(main.as_mut())
}

/// Starts a task on this worker. One that panics ends alone.
///
/// # Panics
/// It is not a worker's thread.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    let future = Box::pin(task);
    runtime(|runtime| {
        if runtime.ending.get() {
            return;
        }
        let mut tasks = runtime.tasks.borrow_mut();
        let entry = tasks.vacant_entry();
        let (handle, waker) = runtime.handle(entry.key());
        runtime.ready.borrow_mut().push_back(entry.key());
        entry.insert(Some(Task {
            future,
            handle,
            waker,
        }));
    })
    .expect("spawned by a worker");
}

/// Bytes that a task may move before it has to [`give_way`], and at once: fewer, the more tasks are ready, so that a turn in which
/// each of them moves that much makes nobody wait for long.
pub fn turn_bytes() -> usize {
    runtime(|runtime| runtime.turn_bytes.get()).unwrap_or(EACH_BYTES_MAX)
}

/// Lets every other task of the worker run and new readiness be noticed. A task that never waits starves the others, and
/// waiting for a socket that is ready already is no wait.
pub async fn give_way() {
    let mut gave_way = false;
    poll_fn(|cx| {
        if gave_way {
            return Poll::Ready(());
        }
        gave_way = true;
        runtime(|runtime| runtime.gave_way.borrow_mut().push(cx.waker().clone()));
        Poll::Pending
    })
    .await;
}

/// Waits. For sweeps and pauses; no request arms a timer.
pub async fn sleep(duration: Duration) {
    /// Its place among the timers.
    struct Armed(Option<(Instant, u64)>);
    impl Drop for Armed {
        fn drop(&mut self) {
            if let Some(key) = self.0 {
                runtime(|runtime| runtime.timers.borrow_mut().remove(&key));
            }
        }
    }

    let Some(at) = Instant::now().checked_add(duration) else {
        return std::future::pending().await;
    };
    let mut armed = Armed(None);
    poll_fn(|cx| {
        if Instant::now() >= at {
            return Poll::Ready(());
        }
        runtime(|runtime| {
            let key = *armed.0.get_or_insert_with(|| {
                let number = runtime.timers_made.get();
                runtime.timers_made.set(number + 1);
                (at, number)
            });
            runtime.timers.borrow_mut().insert(key, cx.waker().clone());
        });
        Poll::Pending
    })
    .await;
}

impl Runtime {
    fn new(driver: Driver) -> io::Result<Self> {
        let alarm = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let reactor = Reactor::new(driver, alarm.as_fd())?;
        let (sender, from_outside) = channel();
        let home = Arc::new(Home { sender, alarm });
        Ok(Self {
            reactor,
            tasks: RefCell::default(),
            ready: RefCell::default(),
            gave_way: RefCell::default(),
            turn_bytes: Cell::new(EACH_BYTES_MAX),
            timers: RefCell::default(),
            timers_made: Cell::new(0),
            now: Cell::new(Instant::now()),
            turns: Cell::new(0),
            closing: Cell::new(0),
            ending: Cell::new(false),
            home,
            from_outside,
        })
    }

    /// What a task that is in the queue already is woken by.
    fn handle(&self, task: usize) -> (Arc<Handle>, Waker) {
        let handle = Arc::new(Handle {
            task,
            queued: AtomicBool::new(true),
            home: Arc::clone(&self.home),
        });
        (Arc::clone(&handle), Waker::from(handle))
    }

    fn block_on<F: Future>(&self, mut main: Pin<&mut F>) -> io::Result<F::Output> {
        let (handle, waker) = self.handle(MAIN);
        self.ready.borrow_mut().push_back(MAIN);
        loop {
            let ready = self.ready.borrow().len();
            let each = ALL_BYTES / ready.max(1);
            self.turn_bytes
                .set(each.clamp(EACH_BYTES_MIN, EACH_BYTES_MAX));
            let turn = ready.max(TURN);
            for _ in 0..turn {
                let Some(task) = self.ready.borrow_mut().pop_front() else {
                    break;
                };
                if task != MAIN {
                    self.poll_task(task);
                    continue;
                }
                handle.queued.swap(false, Ordering::AcqRel);
                if let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return Ok(output);
                }
            }
            self.collect()?;
        }
    }

    fn poll_task(&self, number: usize) {
        let taken = self.tasks.borrow_mut().get_mut(number).map(Option::take);
        let Some(Some(mut task)) = taken else {
            return;
        };
        // From here on a wake counts for the next poll.
        task.handle.queued.swap(false, Ordering::AcqRel);
        let polled = catch_unwind(AssertUnwindSafe(|| {
            task.future
                .as_mut()
                .poll(&mut Context::from_waker(&task.waker))
        }));
        if let Ok(Poll::Pending) = polled {
            // Nobody else takes a task out of its place.
            self.tasks.borrow_mut()[number] = Some(task);
            return;
        }
        // It ended, or panicked and the hook has said so. The number is free once nothing of it is left.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
        self.tasks.borrow_mut().remove(number);
    }

    /// Takes what became ready; waits for it if there is nothing else to do.
    fn collect(&self) -> io::Result<()> {
        let gave_way = self.gave_way.take();
        let idle = gave_way.is_empty() && self.ready.borrow().is_empty();
        let timeout = if idle {
            self.until_timer()
        } else {
            Some(Duration::ZERO)
        };
        if self.reactor.collect(timeout)? {
            // Emptied before the channel is, so that no number is left behind.
            let _ = self.home.alarm.read();
            let mut ready = self.ready.borrow_mut();
            ready.extend(self.from_outside.try_iter());
        }
        self.now.set(Instant::now());
        self.turns.set(self.turns.get() + 1);
        self.wake_timers();
        // Behind everything that the kernel had.
        gave_way.iter().for_each(Waker::wake_by_ref);
        Ok(())
    }

    /// How long nothing has to be done; `None`: nobody knows.
    fn until_timer(&self) -> Option<Duration> {
        let timers = self.timers.borrow();
        let ((at, _), _) = timers.first_key_value()?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    fn wake_timers(&self) {
        let mut timers = self.timers.borrow_mut();
        if timers.is_empty() {
            return;
        }
        let now = self.now.get();
        while let Some(entry) = timers.first_entry()
            && entry.key().0 <= now
        {
            entry.remove().wake();
        }
    }
}
