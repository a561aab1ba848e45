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
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a reader says of `pieces` in a row: chunk sizes, data, the offset of the end or the refusal.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Told {
        chunks: Vec<u64>,
        chunk_ends: usize,
        data: Vec<u8>,
        end: Option<usize>,
        refusal: Option<Refusal>,
    }

    fn read<'a>(framing: Framing, pieces: impl IntoIterator<Item = &'a [u8]>) -> Told {
        let mut reader = BodyReader::new(framing);
        let mut told = Told::default();
        let mut taken = 0;
        for mut piece in pieces {
            loop {
                let step = match reader.next(piece) {
                    Ok(step) => step,
                    Err(refusal) => {
                        assert_eq!(reader.next(b"0\r\n\r\n"), Err(refusal), "stays failed");
                        told.refusal = Some(refusal);
                        return told;
                    }
                };
                match step.event {
                    Event::More => {
                        assert_eq!(step.consumed, piece.len());
                        taken += piece.len();
                        break;
                    }
                    Event::Chunk(size) => {
                        assert_eq!(reader.data_left(), Some(size));
                        told.chunks.push(size);
                    }
                    Event::Data(n) => {
                        assert!(n > 0 && n == step.consumed);
                        told.data.extend_from_slice(&piece[..n]);
                    }
                    Event::ChunkEnd => told.chunk_ends += 1,
                    Event::End => {
                        assert!(reader.is_done());
                        told.end = Some(taken + step.consumed);
                        return told;
                    }
                }
                taken += step.consumed;
                piece = &piece[step.consumed..];
            }
        }
        told
    }

    fn read_whole(framing: Framing, input: &[u8]) -> Told {
        let whole = read(framing, [input]);
        for cut in 0..=input.len() {
            let (before, after) = input.split_at(cut);
            assert_eq!(read(framing, [before, after]), whole, "cut at {cut}");
        }
        assert_eq!(read(framing, input.chunks(1)), whole, "byte by byte");
        whole
    }

    #[test]
    fn rules_21_22_chunked_bodies_pass() {
        let table: &[(&str, &[u64], &str)] = &[
            ("0\r\n\r\n", &[], ""),
            ("5\r\nhello\r\n0\r\n\r\n", &[5], "hello"),
            ("5\r\nhello\r\n1\r\n!\r\n000\r\n\r\n", &[5, 1], "hello!"),
            ("0000000000000005\r\nhello\r\n0\r\n\r\n", &[5], "hello"),
            ("a\r\n0123456789\r\n0\r\n\r\n", &[10], "0123456789"),
            ("A\r\n0123456789\r\n0\r\n\r\n", &[10], "0123456789"),
            ("2\r\n\r\n\r\n0\r\n\r\n", &[2], "\r\n"),
            ("1;a\r\nx\r\n0;b=c\r\n\r\n", &[1], "x"),
            ("1;a=b;c=\"d;\\\"\\\\e\" ; f\r\nx\r\n0\r\n\r\n", &[1], "x"),
            ("1; a = \"b\\\"c\" ;d\r\nx\r\n0\r\n\r\n", &[1], "x"),
            ("0\r\nA: b\r\nC:\r\n\r\n", &[], ""),
        ];
        for (input, chunks, data) in table {
            let told = read_whole(Framing::Chunked, input.as_bytes());
            assert_eq!(told.refusal, None, "{input:?}");
            assert_eq!(told.end, Some(input.len()), "{input:?}");
            assert_eq!(told.chunks, *chunks, "{input:?}");
            assert_eq!(told.chunk_ends, chunks.len(), "{input:?}");
            assert_eq!(told.data, data.as_bytes(), "{input:?}");
        }
    }

    #[test]
    fn rules_21_22_23_chunked_bodies_refused() {
        use Refusal::{ChunkEnd, ChunkExtension, ChunkSize, Trailer};
        let table: &[(&str, Refusal)] = &[
            ("\r\n", ChunkSize),
            (";a\r\n", ChunkSize),
            (" 5\r\n", ChunkSize),
            ("5 \r\n", ChunkSize),
            ("5 ;a\r\n", ChunkSize),
            ("+5\r\n", ChunkSize),
            ("-5\r\n", ChunkSize),
            ("0x5\r\n", ChunkSize),
            ("5_0\r\n", ChunkSize),
            ("g\r\n", ChunkSize),
            ("5\n", ChunkSize),
            ("5\rh", ChunkSize),
            ("5\0\r\n", ChunkSize),
            ("00000000000000005\r\n", ChunkSize),
            ("10000000000000005\r\n", ChunkSize),
            ("ffffffffffffffff\r\n", ChunkSize),
            ("8000000000000000\r\n", ChunkSize),
            ("5;\r\n", ChunkExtension),
            ("5;;a\r\n", ChunkExtension),
            ("5;a=\r\n", ChunkExtension),
            ("5;a=b=c\r\n", ChunkExtension),
            ("5;a b\r\n", ChunkExtension),
            ("5;a \r\n", ChunkExtension),
            ("5;a=\"b\"c\r\n", ChunkExtension),
            ("5;a=\"b\n\"\r\n", ChunkExtension),
            ("5;a=\"b\r\n\"\r\n", ChunkExtension),
            ("5;a\n", ChunkExtension),
            ("5;a\0\r\n", ChunkExtension),
            ("5\r\nhelloX\r\n", ChunkEnd),
            ("5\r\nhello\n", ChunkEnd),
            ("5\r\nhello\r\r\n", ChunkEnd),
            ("5\r\nhello0\r\n\r\n", ChunkEnd),
            ("0\r\nA: b\n\r\n", Trailer),
            ("0\r\nA\r\n\r\n", Trailer),
            ("0\r\nA : b\r\n\r\n", Trailer),
            ("0\r\n A: b\r\n\r\n", Trailer),
            ("0\r\n: b\r\n\r\n", Trailer),
            ("0\r\nA: b\r\n c\r\n\r\n", Trailer),
            ("0\r\nA: b\0\r\n\r\n", Trailer),
            ("0\r\n\rx", Trailer),
        ];
        for (input, expected) in table {
            let told = read_whole(Framing::Chunked, input.as_bytes());
            assert_eq!(told.refusal, Some(*expected), "{input:?}");
        }
    }

    #[test]
    fn rules_21_23_caps() {
        let extension = |bytes: usize| format!("1;{}\r\nx\r\n", "a".repeat(bytes - 1));
        let trailer = |bytes: usize| format!("A: {}\r\n", "x".repeat(bytes - 3));
        let table = [
            (format!("{}0\r\n\r\n", extension(4096)), None),
            (extension(4097), Some(Refusal::ChunkExtensionsTooLarge)),
            (
                format!("{}{}", extension(4000), extension(97)),
                Some(Refusal::ChunkExtensionsTooLarge),
            ),
            (format!("0\r\n{}\r\n", trailer(8192)), None),
            (
                format!("0\r\n{}", trailer(8193)),
                Some(Refusal::TrailersTooLarge),
            ),
            (
                format!("0\r\n{}{}", trailer(8000), trailer(193)),
                Some(Refusal::TrailersTooLarge),
            ),
        ];
        for (input, refusal) in table {
            let told = read(Framing::Chunked, [input.as_bytes()]);
            assert_eq!(told.refusal, refusal);
            assert_eq!(told.end, refusal.is_none().then_some(input.len()));
        }
    }

    #[test]
    fn rule_25_bytes_behind_a_body_stay() {
        let table: &[(Framing, &str, usize)] = &[
            (Framing::None, "GET /", 0),
            (Framing::Length(0), "GET /", 0),
            (Framing::Length(5), "helloGET /", 5),
            (Framing::Chunked, "1\r\nx\r\n0\r\n\r\nGET /", 11),
        ];
        for (framing, input, end) in table {
            let told = read_whole(*framing, input.as_bytes());
            assert_eq!(told.end, Some(*end), "{framing:?}");
        }
    }

    #[test]
    fn rule_34_a_close_ends_only_a_body_until_the_close() {
        let table: &[(Framing, &[u8], bool)] = &[
            (Framing::UntilClose, b"", true),
            (Framing::UntilClose, b"some", true),
            (Framing::None, b"", true),
            (Framing::Length(4), b"some", true),
            (Framing::Length(5), b"some", false),
            (Framing::Length(5), b"", false),
            (Framing::Chunked, b"0\r\n\r\n", true),
            (Framing::Chunked, b"0\r\n", false),
            (Framing::Chunked, b"4\r\nsome\r\n", false),
            (Framing::Chunked, b"", false),
        ];
        for (framing, input, complete) in table {
            let mut reader = BodyReader::new(*framing);
            let mut rest = *input;
            while !rest.is_empty() {
                let step = reader.next(rest).expect("well-formed");
                rest = &rest[step.consumed..];
            }
            assert_eq!(reader.closed().is_ok(), *complete, "{framing:?} {input:?}");
            assert_eq!(reader.is_done(), *complete);
            assert_eq!(
                reader.closed().is_ok(),
                *complete,
                "the same when asked again"
            );
        }
    }

    #[test]
    fn spliced_bytes_count() {
        let mut reader = BodyReader::new(Framing::Length(1 << 40));
        assert_eq!(
            reader.next(b"abc").map(|step| step.event),
            Ok(Event::Data(3))
        );
        assert_eq!(reader.data_left(), Some((1 << 40) - 3));
        reader.skip((1 << 40) - 4);
        assert!(!reader.is_done());
        reader.skip(1);
        assert!(reader.is_done());

        let mut reader = BodyReader::new(Framing::Chunked);
        assert_eq!(reader.data_left(), Some(0));
        let begun = reader.next(b"100000\r\n");
        assert_eq!(
            begun,
            Ok(Step {
                consumed: 8,
                event: Event::Chunk(1 << 20)
            })
        );
        reader.skip(1 << 20);
        assert_eq!(reader.data_left(), Some(0));
        let ended = reader.next(b"\r\n0");
        assert_eq!(
            ended,
            Ok(Step {
                consumed: 2,
                event: Event::ChunkEnd
            })
        );
        assert_eq!(BodyReader::new(Framing::UntilClose).data_left(), None);
    }

    #[test]
    fn rule_24_chunk_headers_are_written() {
        let table: &[(u64, &str)] = &[
            (0, "0\r\n"),
            (1, "1\r\n"),
            (15, "f\r\n"),
            (16, "10\r\n"),
            (0x1234, "1234\r\n"),
            (u64::MAX, "ffffffffffffffff\r\n"),
        ];
        for (size, expected) in table {
            let mut out = [0; CHUNK_HEADER_MAX];
            let n = chunk_header(*size, &mut out);
            assert_eq!(&out[..n], expected.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn any_cuts_of_a_body_tell_the_same(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            mutation in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            sizes in prop::collection::vec(1usize..20, 1..40),
            length in 0u64..100,
        ) {
            let mut input = Vec::new();
            for chunk in &chunks {
                let mut header = [0; CHUNK_HEADER_MAX];
                let n = chunk_header(chunk.len() as u64, &mut header);
                input.extend_from_slice(&header[..n]);
                input.extend_from_slice(chunk);
                input.extend_from_slice(b"\r\n");
            }
            input.extend_from_slice(b"0;a=\"b\"\r\nA: b\r\n\r\nrest");
            if let Some((at, byte)) = mutation {
                let at = at.index(input.len());
                input[at] = byte;
            }
            let mut pieces = Vec::new();
            let mut rest = &input[..];
            for size in sizes.iter().cycle() {
                let (piece, after) = rest.split_at((*size).min(rest.len()));
                pieces.push(piece);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            for framing in [Framing::Chunked, Framing::Length(length), Framing::UntilClose, Framing::None] {
                let whole = read(framing, [&input[..]]);
                prop_assert_eq!(read(framing, pieces.iter().copied()), whole);
            }
            if mutation.is_none() {
                let told = read(Framing::Chunked, [&input[..]]);
                prop_assert_eq!(told.data, chunks.concat());
                prop_assert_eq!(told.end, Some(input.len() - 4));
            }
        }
    }
}
