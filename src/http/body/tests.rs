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
