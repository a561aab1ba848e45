//! What a worker sends at the end of its turn.
//!
//! Small sends are copied and kept until all tasks that were ready had their turn, and then made one after another (by a ring:
//! with one system call). Tasks and the kernel's way down keep their own code and data in the caches that way, and a peer is
//! woken once for what would wake it several times: together a tenth to a quarter of a small request's cost
//! (`docs/performance.md`). What the kernel has no room for then is kept with the socket until there is.
//!
//! To its user a send that was taken over is sent, as one that is in the kernel's queue. So everything that has to come behind it
//! settles it first ([`super::reactor::Reactor::settle`]): a direct call, a splice, the end of the stream, closing the descriptor.

use std::io::IoSlice;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};

use super::state::{State, WRITE};

/// Sends of more bytes are direct calls: copying them costs more.
pub(super) const SEND_BYTES_MAX: usize = 16 << 10;

/// Bytes of all sends of a turn. When they are more, those that are here go out early.
const BYTES: usize = 128 << 10;

/// Bytes of sends that are queued or with the kernel. Never moves, and is used again only when no send is left.
pub(super) struct Outgoing {
    memory: Box<[u8]>,
    used: usize,
    sends: usize,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            memory: vec![0; BYTES].into_boxed_slice(),
            used: 0,
            sends: 0,
        }
    }
}

impl Outgoing {
    /// Copies the slices, `len` bytes in all, for one send. Where they are; `None` if there is no room.
    pub(super) fn add(&mut self, slices: &[IoSlice<'_>], len: usize) -> Option<u32> {
        let at = self.used;
        let mut rest = self.memory.get_mut(at..at + len)?;
        for slice in slices {
            let (first, behind) = rest.split_at_mut(slice.len());
            first.copy_from_slice(slice);
            rest = behind;
        }
        self.used += len;
        self.sends += 1;
        Some(at as u32)
    }

    /// The bytes of a send.
    pub(super) fn bytes(&self, (at, len): (u32, u32)) -> &[u8] {
        &self.memory[at as usize..(at + len) as usize]
    }

    /// A send is complete; its bytes are not needed any more.
    pub(super) fn done(&mut self) {
        self.sends -= 1;
        if self.sends == 0 {
            self.used = 0;
        }
    }

    /// Whether the kernel may still read of it.
    pub(super) fn is_in_use(&self) -> bool {
        self.sends > 0
    }
}

/// How a send is made directly: without waiting, without a signal.
pub(super) const FLAGS: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);

/// The queued send of `state` is complete: takes over what came of it. True if there is a rest that waits for room.
pub(super) fn sent(state: &State, bytes: &[u8], result: Result<usize, Errno>) -> bool {
    state.outgoing.set_sending(None);
    let sent = match result {
        Ok(sent) => sent,
        Err(Errno::EAGAIN | Errno::EINTR) => 0,
        Err(errno) => {
            state.outgoing.fail(errno);
            state.notice(WRITE);
            return false;
        }
    };
    let left = &bytes[sent.min(bytes.len())..];
    if left.is_empty() {
        return false;
    }
    state.outgoing.keep(left.into());
    state.forget(WRITE);
    true
}

/// There is room: for what could not be sent, and then for who waits. True if a rest waits for more.
pub(super) fn writable(state: &State) -> bool {
    let outgoing = &state.outgoing;
    let Some(left) = outgoing.take_left() else {
        state.notice(WRITE);
        return false;
    };
    let sent = match send(state.fd(), &left, FLAGS) {
        Ok(sent) => sent,
        Err(Errno::EAGAIN | Errno::EINTR) => 0,
        Err(errno) => {
            outgoing.fail(errno);
            state.notice(WRITE);
            return false;
        }
    };
    if sent < left.len() {
        outgoing.keep(left[sent..].into());
        return true;
    }
    if outgoing.is_to_finish() {
        // An error means that the connection is gone.
        let _ = shutdown(state.fd(), Shutdown::Write);
    }
    state.notice(WRITE);
    false
}
