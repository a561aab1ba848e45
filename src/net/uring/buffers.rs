//! The buffers that receives are given by the kernel, as their bytes come: a ring that is shared with it (`io_uring_register`,
//! `IORING_REGISTER_PBUF_RING`, Linux 5.19).

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use super::super::usage::Usage;

/// Bytes of one buffer: the most that one receive brings.
pub(in crate::net) const BUFFER_BYTES: usize = 16 << 10;

/// Distance between two buffers. An odd number of cache lines, so that their beginnings do not share a cache set.
const STRIDE: usize = BUFFER_BYTES + 11 * 64;

/// Buffers of a worker, a power of two. Without a free one a receive ends without bytes, and a direct call takes its place.
const COUNT: u16 = 128;

/// The only group of buffers.
pub(super) const GROUP: u16 = 0;

const PAGE_BYTES: usize = 4096;

/// A worker's buffers. They outlive the ring's last receive, because they live as long as the ring and their users.
pub(super) struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    /// Where the next free buffer is put.
    tail: Cell<u16>,
    /// Buffers that hold bytes, and receives that found none free.
    used: Cell<u16>,
    exhausted: Cell<u64>,
}

fn layouts() -> (Layout, Layout) {
    let layout =
        |bytes| Layout::from_size_align(bytes, PAGE_BYTES).expect("a page is a power of two");
    let entries = usize::from(COUNT) * size_of::<BufRingEntry>();
    (layout(entries), layout(usize::from(COUNT) * STRIDE))
}

impl Buffers {
    /// Makes the buffers and gives all of them to the kernel.
    ///
    /// # Errors
    /// The kernel knows no rings of buffers.
    #[allow(unsafe_code)]
    pub(super) fn new(ring: &IoUring) -> io::Result<Rc<Self>> {
        let (entries, memory) = layouts();
        let allocate = |layout: Layout| {
            // SAFETY: neither layout is empty.
            let start = unsafe { alloc_zeroed(layout) };
            NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout))
        };
        let buffers = Rc::new(Self {
            entries: allocate(entries).cast(),
            memory: allocate(memory),
            tail: Cell::new(0),
            used: Cell::new(0),
            exhausted: Cell::new(0),
        });
        // SAFETY: `entries` is page-aligned, holds COUNT entries, and is freed only after `Ring` is gone, which keeps this.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                buffers.entries.as_ptr() as u64,
                COUNT,
                GROUP,
                0,
            )?;
        }
        for id in 0..COUNT {
            // The memory is there before it is needed, and counts from the beginning.
            // SAFETY: within the buffer, which nobody has yet.
            unsafe { buffers.start(id).write_volatile(0) };
            buffers.give_back(id);
        }
        Ok(buffers)
    }

    /// A receive found no free buffer.
    pub(super) fn note_exhausted(&self) {
        self.exhausted.set(self.exhausted.get() + 1);
    }

    /// Notes how many are used.
    pub(super) fn look(&self, usage: &mut Usage) {
        usage.buffers_used = self.used.get().into();
        usage.buffers_free = (COUNT - self.used.get()).into();
        usage.buffers_exhausted = self.exhausted.get();
    }

    fn start(&self, id: u16) -> *mut u8 {
        debug_assert!(id < COUNT);
        // Within the allocation: `id` is below COUNT.
        self.memory
            .as_ptr()
            .wrapping_add(usize::from(id % COUNT) * STRIDE)
    }

    /// Gives a buffer to the kernel.
    #[allow(unsafe_code)]
    fn give_back(&self, id: u16) {
        let tail = self.tail.get();
        let place = usize::from(tail % COUNT);
        // SAFETY: the entry is within the allocation, and not the kernel's: it has at most COUNT - 1 of them while this buffer
        // is ours. Its `resv` is left alone, which in the first entry is the tail.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(place);
            entry.set_addr(self.start(id) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
        }
        self.tail.set(tail.wrapping_add(1));
        // SAFETY: the first entry's `resv` is the tail, 2 bytes, aligned, which the kernel only reads.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail.get(), Ordering::Release);
        }
    }
}

impl Drop for Buffers {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        let (entries, memory) = layouts();
        // SAFETY: allocated with these layouts; `Ring` is gone, and every `Buffer`.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries);
            dealloc(self.memory.as_ptr(), memory);
        }
    }
}

/// Received bytes in one of the worker's buffers, which goes back to the kernel when this is dropped.
pub(in crate::net) struct Buffer {
    buffers: Rc<Buffers>,
    id: u16,
    // start <= end <= BUFFER_BYTES
    start: u16,
    end: u16,
}

impl Buffer {
    /// The buffer that a completion named, with its first `len` bytes.
    pub(super) fn new(buffers: &Rc<Buffers>, id: u16, len: usize) -> Self {
        buffers.used.set(buffers.used.get() + 1);
        Self {
            buffers: Rc::clone(buffers),
            id,
            start: 0,
            end: len.min(BUFFER_BYTES) as u16,
        }
    }

    /// Whether the receive took as much as it could.
    pub(super) fn is_full(&self) -> bool {
        usize::from(self.end) == BUFFER_BYTES
    }

    /// Drops the first `n` bytes.
    pub(super) fn advance(&mut self, n: usize) {
        self.start += n.min(self.len()) as u16;
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[allow(unsafe_code)]
    fn deref(&self) -> &[u8] {
        let (start, end) = (usize::from(self.start), usize::from(self.end));
        // SAFETY: the kernel filled the buffer up to `end` and has given it up; it is initialised from the beginning.
        unsafe { std::slice::from_raw_parts(self.buffers.start(self.id).add(start), end - start) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.buffers.used.set(self.buffers.used.get() - 1);
        self.buffers.give_back(self.id);
    }
}
