//! Body framing: where a body ends, read piece by piece, and the framing that the front writes itself.

use super::head::Framing;
use super::refusal::Refusal;

/// One thing found at the beginning of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing more can be said without more bytes; everything up to `consumed` is done with.
    More,
    /// A chunk of that many bytes begins (never 0). With a known length: the whole body is announced as one chunk once.
    Chunk(u64),
    /// The first `n` bytes of the input are body bytes (`n` > 0).
    Data(usize),
    /// The chunk's data and its CRLF are over.
    ChunkEnd,
    /// The body is over; what follows in the input belongs to the next message.
    End,
}

/// What [`BodyReader::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that this event takes. The caller drops them before the next call.
    pub consumed: usize,
    /// What they mean.
    pub event: Event,
}

/// Reads one body. `Chunk` and `ChunkEnd` come only for a chunked body. A failed reader stays failed.
#[derive(Clone, Debug)]
pub struct BodyReader {
    _framing: Framing,
}

impl BodyReader {
    /// A reader for a body of this framing.
    pub fn new(framing: Framing) -> Self {
        Self { _framing: framing }
    }

    /// Looks at the beginning of `input`.
    ///
    /// # Errors
    /// The rule of chunked framing that the input breaks (rules 21 to 23).
    pub fn next(&mut self, _input: &[u8]) -> Result<Step, Refusal> {
        todo!()
    }

    /// Body bytes that are known to come next without any framing between them: what is left of the length or of the
    /// current chunk. `None` for a body that ends with the connection (any number may come).
    pub fn data_left(&self) -> Option<u64> {
        todo!()
    }

    /// Says that `n <= data_left()` body bytes went by without being shown to `next` (they were spliced).
    pub fn skip(&mut self, _n: u64) {
        todo!()
    }

    /// Whether the end was seen.
    pub fn is_done(&self) -> bool {
        todo!()
    }

    /// The source closed its connection here. `Ok` if that ends the body rightly (only a body until the close).
    ///
    /// # Errors
    /// The body is cut short.
    pub fn closed(&mut self) -> Result<(), Refusal> {
        todo!()
    }
}

/// Longest chunk header that [`chunk_header`] writes, in bytes.
pub const CHUNK_HEADER_MAX: usize = 18;

/// Writes `size` in hex and CRLF into `out` and returns how many bytes that took.
pub fn chunk_header(_size: u64, _out: &mut [u8; CHUNK_HEADER_MAX]) -> usize {
    todo!()
}
