//! Body framing: where a body ends, read piece by piece, and the framing that the front writes itself.

use super::fields;
use super::head::{Framing, is_token_byte, is_value_byte};
use super::refusal::Refusal;

/// One thing found at the beginning of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing more can be said without more bytes; everything up to `consumed` is done with, which is all of the input.
    More,
    /// A chunk of that many bytes begins (never 0). Only in a chunked body.
    Chunk(u64),
    /// The first `n` bytes of the input are body bytes (`n` > 0).
    Data(usize),
    /// The chunk's data and its CRLF are over. Only in a chunked body.
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
    state: State,
    // 0 <= extension_bytes <= EXTENSION_BYTES_MAX, over all chunks
    extension_bytes: u16,
    // 0 <= trailer_bytes <= TRAILER_BYTES_MAX
    trailer_bytes: u16,
    /// The trailer line that is being read, without its CRLF. Few bodies have one.
    trailer: Vec<u8>,
}

/// Bytes of chunk extensions that a body may have.
const EXTENSION_BYTES_MAX: u16 = 4 << 10;

/// Bytes of trailer fields that a body may have.
const TRAILER_BYTES_MAX: u16 = 8 << 10;

/// Digits of a chunk size.
const SIZE_DIGITS_MAX: u8 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes that are left of a known length, never 0.
    Length(u64),
    UntilClose,
    /// In a chunk's size, of which so many digits were read.
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        part: Extension,
    },
    /// Behind the CR of a chunk's first line.
    SizeLf {
        size: u64,
    },
    /// Bytes that are left of a chunk's data, never 0.
    ChunkData(u64),
    DataCr,
    DataLf,
    Trailer,
    /// Behind a CR in the trailers.
    TrailerLf,
    Done,
    Failed(Refusal),
}

/// Where in the grammar of RFC 9112 section 7.1.1 an extension is; blanks are allowed where the grammar has BWS, but for
/// the ones before the first `;` (rule 21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    NameStart,
    Name,
    NameEnd,
    ValueStart,
    Value,
    Quoted,
    QuotedPair,
    QuotedEnd,
    ValueEnd,
}

impl BodyReader {
    /// A reader for a body of this framing.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { size: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Self {
            state,
            extension_bytes: 0,
            trailer_bytes: 0,
            trailer: Vec::new(),
        }
    }

    /// Looks at the beginning of `input`. Framing is taken byte by byte, so that the caller never has to keep any.
    ///
    /// # Errors
    /// The rule of chunked framing that the input breaks (rules 21 to 23).
    pub fn next(&mut self, input: &[u8]) -> Result<Step, Refusal> {
        match self.state {
            State::Done => {
                return Ok(Step {
                    consumed: 0,
                    event: Event::End,
                });
            }
            State::Failed(refusal) => return Err(refusal),
            State::Length(_) | State::UntilClose | State::ChunkData(_) => {
                return Ok(self.take_data(input));
            }
            _ => {}
        }
        for (index, &byte) in input.iter().enumerate() {
            match self.take_framing(byte) {
                Ok(None) => {}
                Ok(Some(event)) => {
                    return Ok(Step {
                        consumed: index + 1,
                        event,
                    });
                }
                Err(refusal) => {
                    self.state = State::Failed(refusal);
                    return Err(refusal);
                }
            }
        }
        Ok(Step {
            consumed: input.len(),
            event: Event::More,
        })
    }

    /// Body bytes that are known to come next without any framing between them: what is left of the length or of the
    /// current chunk. `None` for a body that ends with the connection (any number may come).
    pub fn data_left(&self) -> Option<u64> {
        match self.state {
            State::Length(left) | State::ChunkData(left) => Some(left),
            State::UntilClose => None,
            _ => Some(0),
        }
    }

    /// Says that `n <= data_left()` body bytes went by without being shown to `next` (they were spliced).
    pub fn skip(&mut self, n: u64) {
        debug_assert!(self.data_left().is_none_or(|left| n <= left));
        match self.state {
            State::Length(left) if n < left => self.state = State::Length(left - n),
            State::Length(_) => self.state = State::Done,
            State::ChunkData(left) if n < left => self.state = State::ChunkData(left - n),
            State::ChunkData(_) => self.state = State::DataCr,
            _ => {}
        }
    }

    /// Says that nobody knows any more where in the body its source is: some of it was taken that did not get through.
    pub fn give_up(&mut self) {
        self.state = State::Failed(Refusal::BodyCutShort);
    }

    /// Whether the end was reached: `next` answers `End` from now on, and takes nothing.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The source closed its connection here. `Ok` if the body is complete: it was already, or the close is its end.
    ///
    /// # Errors
    /// The body is cut short.
    pub fn closed(&mut self) -> Result<(), Refusal> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Failed(refusal) => Err(refusal),
            _ => {
                self.state = State::Failed(Refusal::BodyCutShort);
                Err(Refusal::BodyCutShort)
            }
        }
    }

    fn take_data(&mut self, input: &[u8]) -> Step {
        let left = self.data_left().unwrap_or(u64::MAX);
        let n = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if n == 0 {
            return Step {
                consumed: 0,
                event: Event::More,
            };
        }
        self.skip(n as u64);
        Step {
            consumed: n,
            event: Event::Data(n),
        }
    }

    /// Takes one byte of chunked framing.
    fn take_framing(&mut self, byte: u8) -> Result<Option<Event>, Refusal> {
        self.state = match self.state {
            State::Size { size, digits } => match (byte, hex_value(byte)) {
                (_, Some(value)) if digits < SIZE_DIGITS_MAX => State::Size {
                    size: size << 4 | u64::from(value),
                    digits: digits + 1,
                },
                // what no signed counter holds is no size that anyone sends
                (b'\r' | b';', _) if digits > 0 && size <= i64::MAX as u64 => match byte {
                    b'\r' => State::SizeLf { size },
                    _ => self.take_extension_byte(size, Extension::NameStart)?,
                },
                _ => return Err(Refusal::ChunkSize),
            },
            State::Extension { size, part } => match part.after(byte)? {
                Some(part) => self.take_extension_byte(size, part)?,
                None => State::SizeLf { size },
            },
            State::SizeLf { .. } if byte != b'\n' => return Err(Refusal::ChunkSize),
            State::SizeLf { size: 0 } => State::Trailer,
            State::SizeLf { size } => {
                self.state = State::ChunkData(size);
                return Ok(Some(Event::Chunk(size)));
            }
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => {
                self.state = State::Size { size: 0, digits: 0 };
                return Ok(Some(Event::ChunkEnd));
            }
            State::DataCr | State::DataLf => return Err(Refusal::ChunkEnd),
            State::Trailer if byte == b'\r' => State::TrailerLf,
            State::Trailer => {
                if self.trailer_bytes == TRAILER_BYTES_MAX {
                    return Err(Refusal::TrailersTooLarge);
                }
                self.trailer_bytes += 1;
                self.trailer.push(byte);
                State::Trailer
            }
            State::TrailerLf if byte != b'\n' => return Err(Refusal::Trailer),
            State::TrailerLf if self.trailer.is_empty() => {
                self.state = State::Done;
                return Ok(Some(Event::End));
            }
            State::TrailerLf => {
                fields::check_trailer(&self.trailer)?;
                self.trailer.clear();
                State::Trailer
            }
            // `next` does not come here with these
            state @ (State::Length(_)
            | State::UntilClose
            | State::ChunkData(_)
            | State::Done
            | State::Failed(_)) => state,
        };
        Ok(None)
    }

    fn take_extension_byte(&mut self, size: u64, part: Extension) -> Result<State, Refusal> {
        if self.extension_bytes == EXTENSION_BYTES_MAX {
            return Err(Refusal::ChunkExtensionsTooLarge);
        }
        self.extension_bytes += 1;
        Ok(State::Extension { size, part })
    }
}

impl Extension {
    /// The part that `byte` leads to; `None` behind a CR that may end the line here.
    fn after(self, byte: u8) -> Result<Option<Self>, Refusal> {
        let is_blank = matches!(byte, b' ' | b'\t');
        let next = match (self, byte) {
            (Self::Quoted, b'"') => Self::QuotedEnd,
            (Self::Quoted, b'\\') => Self::QuotedPair,
            (Self::Quoted | Self::QuotedPair, _) if is_value_byte(byte) => Self::Quoted,
            (Self::NameStart | Self::Name, _) if is_token_byte(byte) => Self::Name,
            (Self::ValueStart | Self::Value, _) if is_token_byte(byte) => Self::Value,
            (Self::ValueStart, b'"') => Self::Quoted,
            (Self::NameStart | Self::ValueStart, _) if is_blank => self,
            (Self::Name | Self::NameEnd, _) if is_blank => Self::NameEnd,
            (Self::Value | Self::QuotedEnd | Self::ValueEnd, _) if is_blank => Self::ValueEnd,
            (Self::Name | Self::NameEnd, b'=') => Self::ValueStart,
            (Self::Name | Self::NameEnd | Self::Value | Self::QuotedEnd | Self::ValueEnd, b';') => {
                Self::NameStart
            }
            (Self::Name | Self::Value | Self::QuotedEnd, b'\r') => return Ok(None),
            _ => return Err(Refusal::ChunkExtension),
        };
        Ok(Some(next))
    }
}

fn hex_value(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Longest chunk header that [`chunk_header`] writes, in bytes.
pub const CHUNK_HEADER_MAX: usize = 18;

/// Writes `size` in hex and CRLF into `out` and returns how many bytes that took.
pub fn chunk_header(size: u64, out: &mut [u8; CHUNK_HEADER_MAX]) -> usize {
    let digits = (64 - size.leading_zeros()).div_ceil(4).max(1) as usize;
    for (index, digit) in out[..digits].iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(size >> (4 * index)) as usize & 0xf];
    }
    out[digits..digits + 2].copy_from_slice(b"\r\n");
    digits + 2
}

#[cfg(test)]
mod tests;
