//! What is nearly a valid message, or was one.

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

use crate::grammar::{self, Meant, Sent};

/// Field lines that must not come through in any request, whatever else is in it.
const REFUSED: &[&[u8]] = &[
    b"Content-Length: 3\r\nContent-Length: 3",
    b"Content-Length: 3, 3",
    b"Content-Length: +3",
    b"Content-Length: -0",
    b"Content-Length: 0x3",
    b"Content-Length: 03",
    b"Content-Length: 3 3",
    b"Content-Length:",
    b"Content-Length: 3\x0b",
    b"Content-Length: 3\x00",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: 18446744073709551619",
    b"Content-Length: 3;",
    b"Content-Length: 3.0",
    b"Content-Length: 1e1",
    b"Content-Length: \xb2",
    b"Content-Length : 3",
    b"Content-Length\t: 3",
    b"Content-Length\x0b: 3",
    b"Content-Length\x00: 3",
    b" Content-Length: 3",
    b"Content-Length: 3\r",
    b"X: a\nContent-Length: 3",
    b"X: a\rContent-Length: 3",
    b"X: a\r\n Content-Length: 3",
    b"X: a\r\n\tfolded",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: ,chunked",
    b"Transfer-Encoding: chunked,",
    b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked\x0b",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: \"chunked\"",
    b"Transfer-Encoding: chunke",
    b"Transfer-Encoding:",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding\x0b: chunked",
    b" Transfer-Encoding: chunked",
    b"Transfer-Encoding: ch\xc3\xbcnked",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding: chunked\x00",
    b"Transfer-Encoding: chunked\x85",
    b"Transfer-Encoding: \xa0chunked",
    b"X: y\rTransfer-Encoding: chunked",
    b"X: y\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    b"Content-Length: 3\r\nTransfer-Encoding: chunked",
    b"Host: b\r\nHost: b",
    b"Host: a, b",
    b"Host: a@b",
    b"Host: a/b",
    b"Host:",
    b"Host: a b",
    b"Host: a\x00",
    b"no colon",
    b": no name",
    b"na me: v",
    b"n(ame): v",
    b"X: a\x01b",
    b"X: a\x00b",
    b"X: a\x7fb",
    b"X\xe4: v",
    b"Expect: 200-ok",
    b"Expect: 100-continue, x",
    b"Authorization: a\r\nAuthorization: a",
];

/// What mutations put in.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\n",
    b" ",
    b"\t",
    b"\x0b",
    b"\x0c",
    b"\x00",
    b"\x85",
    b"\xa0",
    b"\x7f",
    b"\xff",
    b":",
    b",",
    b";",
    b"\"",
    b"#",
    b"\\",
    b"%00",
    b"%0d%0a",
    b"..",
    b"/../",
    b"//",
    b"0",
    b"0\r\n\r\n",
    b"00",
    b"0x",
    b"-",
    b"+",
    b"_",
    b"1",
    b"7fffffffffffffff",
    b"ffffffffffffffff",
    b"10000000000000000",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b" HTTP/0.9",
    b"HTTP/2.0",
    b"Content-Length: 0\r\n",
    b"Content-Length: 5\r\n",
    b"content-length:5\r\n",
    b"Content-Length: 0\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding:chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"TE: chunked\r\n",
    b"Host: b\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: x\r\n",
    b"Connection: Content-Length\r\n",
    b"Connection: Transfer-Encoding\r\n",
    b"Expect: 100-continue\r\n",
    b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"X: y\r\n z\r\n",
    b"http://a/",
    b"chunked",
    b"Content_Length: 5\r\n",
    b"Trailer: Content-Length\r\n",
    b"Upgrade: h2c\r\n",
    b"5\r\nhello\r\n",
    b"1;a\r\nx\r\n",
    b"1 \r\nx\r\n",
    b";a=\"\r\n",
    b"HEAD",
    b"CONNECT",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"Set-Cookie: a=b\r\n",
    b"200",
    b"204",
    b"304",
    b"101",
    b"100",
];

/// A request that is refused for one line in it.
pub(crate) fn refused(rng: &mut SmallRng, number: u64) -> Sent {
    let mut request = grammar::request(rng, number, 0, false);
    let line = REFUSED.choose(rng).expect("there are some");
    // Where the line has a field that may come once, the request's own is another reason to refuse.
    grammar::insert(rng, &mut request.fields, line.to_vec());
    let bytes = request.bytes();
    Sent {
        cut: grammar::cut(rng, bytes.len()),
        bytes,
        meant: Meant::Refusal,
    }
}

/// A request with some of its bytes changed; of the corpus, or valid before.
pub(crate) fn mutated(rng: &mut SmallRng, number: u64, corpus: &[Vec<u8>]) -> Sent {
    let from = |rng: &mut SmallRng| match rng.random_ratio(1, 2) {
        true => corpus.choose(rng).expect("there are some").clone(),
        false => grammar::request(rng, number, 0, false).bytes(),
    };
    let mut bytes = from(rng);
    if rng.random_ratio(1, 6) {
        let other = from(rng);
        splice(rng, &mut bytes, &other);
    }
    mutate(rng, &mut bytes);
    Sent {
        cut: grammar::cut(rng, bytes.len()),
        bytes,
        meant: Meant::Anything,
    }
}

/// Changes a few things.
pub(crate) fn mutate(rng: &mut SmallRng, bytes: &mut Vec<u8>) {
    for _ in 0..*[0, 1, 1, 1, 1, 2, 2, 3, 5]
        .choose(rng)
        .expect("there are some")
    {
        // Heads are where it matters; a change in a body changes nothing.
        let head = memchr::memmem::find(bytes, b"\r\n\r\n")
            .map_or(bytes.len(), |at| (at + 40).min(bytes.len()));
        let bound = if rng.random_ratio(3, 4) {
            head
        } else {
            bytes.len()
        };
        let at = rng.random_range(0..=bound);
        let end = (at + rng.random_range(1..=8)).min(bytes.len());
        match rng.random_range(0..9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = rng.random(),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let again = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, again));
            }
            4 => line_twice(rng, bytes),
            5 => bare(rng, bytes),
            6 => bytes.truncate(at),
            _ => {
                let token = TOKENS.choose(rng).expect("there are some");
                // Between lines is where a line makes sense.
                let at = if token.ends_with(b"\n") {
                    line_start(rng, bytes)
                } else {
                    at
                };
                drop(bytes.splice(at..at, token.iter().copied()));
            }
        }
    }
}

/// Puts a piece of another message in.
pub(crate) fn splice(rng: &mut SmallRng, bytes: &mut Vec<u8>, other: &[u8]) {
    let from = rng.random_range(0..=other.len());
    let to = rng.random_range(from..=other.len());
    let at = rng.random_range(0..=bytes.len());
    let end = if rng.random_ratio(1, 2) {
        at
    } else {
        bytes.len()
    };
    drop(bytes.splice(at..end, other[from..to].iter().copied()));
}

fn line_starts(bytes: &[u8]) -> Vec<usize> {
    let behind = memchr::memchr_iter(b'\n', bytes).map(|at| at + 1);
    std::iter::once(0).chain(behind).collect()
}

fn line_start(rng: &mut SmallRng, bytes: &[u8]) -> usize {
    *line_starts(bytes).choose(rng).expect("0 at least")
}

/// Repeats a line anywhere.
fn line_twice(rng: &mut SmallRng, bytes: &mut Vec<u8>) {
    let from = line_start(rng, bytes);
    let len = memchr::memchr(b'\n', &bytes[from..]).map_or(bytes.len() - from, |lf| lf + 1);
    let line = bytes[from..from + len].to_vec();
    let at = line_start(rng, bytes);
    drop(bytes.splice(at..at, line));
}

/// Takes the CR or the LF from one line's end.
fn bare(rng: &mut SmallRng, bytes: &mut Vec<u8>) {
    let ends: Vec<usize> = memchr::memmem::find_iter(bytes, b"\r\n").collect();
    if let Some(at) = ends.choose(rng) {
        bytes.remove(at + rng.random_range(0..2));
    }
}
