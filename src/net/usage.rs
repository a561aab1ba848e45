//! What a worker's runtime and its driver use, for those who show figures.

/// A look at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Turns: looks at the kernel.
    pub turns: u64,
    /// Tasks that there are.
    pub tasks: u64,
    /// Pipes with bytes of bodies in them.
    pub pipes_used: u64,
    /// Pipes that are kept for others.
    pub pipes_free: u64,
    /// Bodies that were copied because there was no pipe to be had.
    pub pipes_refused: u64,
    /// Entries that io_uring completed. This and the next ones are 0 on epoll.
    pub completions: u64,
    /// Receive buffers that hold bytes.
    pub buffers_used: u64,
    /// Those that the kernel may fill.
    pub buffers_free: u64,
    /// Receives that found no free buffer.
    pub buffers_exhausted: u64,
}
