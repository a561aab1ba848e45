//! Bodies: the reader takes the same from any pieces, whether they are shown to it or spliced past it, and what it takes is
//! what the reference takes.

use ntlmfront::http::body::{BodyReader, CHUNK_HEADER_MAX, Event, chunk_header};
use ntlmfront::http::head::Framing;

use super::input::Input;
use super::reference::{self, Chunked};

/// Checks one input. Options 0 and 1 together: 0 and 1 a chunked body, 2 one of a known length, which is the first byte; 3
/// one until the close.
///
/// # Panics
/// The product is wrong.
pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let framing = match input.options & 3 {
        2 => Framing::Length(u64::from(input.take_byte())),
        3 => Framing::UntilClose,
        _ => Framing::Chunked,
    };
    let whole = read(framing, [input.bytes].into_iter(), false);
    for spliced in [false, true] {
        let pieces = read(framing, input.pieces(), spliced);
        assert_eq!(pieces, whole, "cut at {:?}, spliced: {spliced}", input.ends);
        let bytewise = read(framing, input.bytes.chunks(1), spliced);
        assert_eq!(bytewise, whole, "byte by byte, spliced: {spliced}");
    }
    match framing {
        Framing::Length(length) => {
            let here = input.bytes.len().min(length as usize);
            assert_eq!(whole.data, &input.bytes[..here]);
            assert_eq!(whole.end, (here as u64 == length).then_some(here));
        }
        Framing::UntilClose => {
            assert_eq!(whole.data, input.bytes);
            assert_eq!((whole.end, whole.closes_well), (None, true));
        }
        _ => {
            as_reference(&whole, input.bytes);
            framed_anew(&whole);
        }
    }
    assert_eq!(
        whole.closes_well,
        whole.end.is_some() || framing == Framing::UntilClose
    );
}

/// What a reader took.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    data: Vec<u8>,
    chunks: Vec<u64>,
    chunk_ends: usize,
    end: Option<usize>,
    refused: Option<String>,
    closes_well: bool,
}

fn read<'a>(framing: Framing, pieces: impl Iterator<Item = &'a [u8]>, spliced: bool) -> Taken {
    let mut reader = BodyReader::new(framing);
    let mut taken = Taken::default();
    let mut consumed = 0;
    'pieces: for mut piece in pieces {
        loop {
            if spliced && reader.data_left() != Some(0) && !piece.is_empty() {
                let left = reader.data_left().unwrap_or(u64::MAX);
                let n = (piece.len() as u64).min(left) as usize;
                reader.skip(n as u64);
                taken.data.extend_from_slice(&piece[..n]);
                consumed += n;
                piece = &piece[n..];
                continue;
            }
            let step = match reader.next(piece) {
                Ok(step) => step,
                Err(refusal) => {
                    assert_eq!(reader.next(b"0\r\n\r\n"), Err(refusal), "it stays failed");
                    taken.refused = Some(refusal.to_string());
                    break 'pieces;
                }
            };
            assert!(step.consumed <= piece.len());
            match step.event {
                Event::More => assert_eq!(step.consumed, piece.len()),
                Event::Chunk(size) => {
                    assert_eq!(reader.data_left(), Some(size));
                    taken.chunks.push(size);
                }
                Event::Data(n) => {
                    assert!(n > 0 && n == step.consumed);
                    taken.data.extend_from_slice(&piece[..n]);
                }
                Event::ChunkEnd => taken.chunk_ends += 1,
                Event::End => {}
            }
            consumed += step.consumed;
            piece = &piece[step.consumed..];
            match step.event {
                Event::More => break,
                Event::End => {
                    taken.end = Some(consumed);
                    break 'pieces;
                }
                _ => {}
            }
        }
    }
    // The last byte of a known length may be spliced: nothing says so but the reader.
    if reader.is_done() && taken.end.is_none() {
        taken.end = Some(consumed);
    }
    taken.closes_well = reader.closed().is_ok();
    taken
}

fn as_reference(found: &Taken, bytes: &[u8]) {
    match reference::chunked(bytes) {
        Chunked::Whole { data, end } => {
            assert_eq!((&found.data, found.end), (&data, Some(end)), "{found:?}");
        }
        Chunked::Broken { data } => {
            assert!(
                found.refused.is_some() && found.data == data,
                "{found:?}, by the rules broken"
            );
        }
        Chunked::Unfinished { data, line } => {
            assert!(
                found.end.is_none() && found.data == data,
                "{found:?}, by the rules unfinished"
            );
            // What is refused before its line is over must be a line that no end could mend.
            if let (Some(refused), Some(line)) = (&found.refused, line) {
                for rest in [
                    "\n", "\r\n", "0\r\n", "a\r\n", "\"\r\n", "a\"\r\n", ":\r\n", "a:\r\n",
                ] {
                    let mended = [bytes, rest.as_bytes()].concat();
                    let still = match reference::chunked(&mended) {
                        Chunked::Broken { .. } => true,
                        Chunked::Unfinished { line: at, .. } => at == Some(line),
                        Chunked::Whole { .. } => false,
                    };
                    assert!(
                        still,
                        "{refused} at {line} too early: {rest:?} would mend it"
                    );
                }
            } else {
                assert_eq!(found.refused, None);
            }
        }
    }
}

/// The front's own framing of the same data means the same.
fn framed_anew(found: &Taken) {
    if found.end.is_none() {
        return;
    }
    let mut own = Vec::new();
    let mut rest = &found.data[..];
    for &size in &found.chunks {
        let (chunk, behind) = rest.split_at(size as usize);
        let mut header = [0; CHUNK_HEADER_MAX];
        let length = chunk_header(size, &mut header);
        own.extend_from_slice(&header[..length]);
        own.extend_from_slice(chunk);
        own.extend_from_slice(b"\r\n");
        rest = behind;
    }
    own.extend_from_slice(b"0\r\n\r\n");
    assert!(rest.is_empty() && found.chunk_ends == found.chunks.len());
    let expected = Chunked::Whole {
        data: found.data.clone(),
        end: own.len(),
    };
    assert_eq!(reference::chunked(&own), expected);
}
