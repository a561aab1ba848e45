//! A worker thread's runtime: tokio-uring, set up for one thread and cooperative task running.

use std::future::Future;
use std::io;
use std::time::Duration;

/// Submission queue entries. The queue is flushed early when it is full, so that this bounds nothing but a batch.
const ENTRIES: u32 = 1024;

fn builder() -> tokio_uring::Builder {
    let mut ring = tokio_uring::uring_builder();
    // Together they save a fifth of the ring's cost (Linux 6.0). DEFER_TASKRUN hangs with tokio-uring 0.5.
    ring.setup_coop_taskrun()
        .setup_single_issuer()
        .setup_cqsize(ENTRIES * 8);
    let mut builder = tokio_uring::builder();
    builder.entries(ENTRIES).uring_builder(&ring);
    builder
}

/// Runs `future` and everything it spawns on this thread until `future` is done.
///
/// # Errors
/// The kernel refuses the ring.
pub fn run<F: Future>(future: F) -> io::Result<F::Output> {
    Ok(tokio_uring::Runtime::new(&builder())?.block_on(future))
}

/// Whether the kernel gives this process a ring such as workers need.
///
/// # Errors
/// Its refusal: `ENOSYS`, `EPERM`, `EINVAL` (too old for the flags), `ENOMEM`.
pub fn usable() -> io::Result<()> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_coop_taskrun().setup_single_issuer();
    ring.build(8).map(drop)
}

/// Starts a task on this worker.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    // The handle is not needed: a task ends by itself, and at shutdown with its runtime.
    drop(tokio_uring::spawn(task));
}

/// Waits. For sweeps and pauses; no request arms a timer.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}
