//! Finds the end of a head in bytes that arrive in any pieces, before any field is looked at.

use memchr::memchr2;

use super::head::{HeadLimits, is_token_byte};
use super::refusal::Refusal;
use super::request::version_refusal;

/// What is known of a head so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// More bytes are needed.
    Incomplete,
    /// The head is `start..end` of the buffer: without the empty line that may precede it, with the empty line that
    /// ends it.
    Complete {
        /// Offset of the first byte of the first line.
        start: usize,
        /// Offset behind the final CRLF.
        end: usize,
    },
    /// The head breaks a rule that shows before its end: a bare LF or CR, a size, a first byte that begins no message,
    /// a first line without a version, HTTP/2's preface.
    Refused(Refusal),
}

/// Resumable search for the end of a head. Scanning a growing buffer costs time linear in its length, however it is cut,
/// and ends in the same result.
///
/// Requests and responses are scanned alike, the empty line before the first included: old servers send one, too.
#[derive(Clone, Debug, Default)]
pub struct HeadScanner {
    // 0 <= start <= line_start <= scanned <= buffer length; start is 0, or 2 behind an empty line
    start: usize,
    line_start: usize,
    scanned: usize,
}

impl HeadScanner {
    /// Looks at `buffer`, which begins with the same bytes as in the last call, and has at least as many. After a head
    /// is complete the scanner begins anew.
    pub fn scan(&mut self, buffer: &[u8], limits: &HeadLimits) -> Scan {
        match self.find_end(buffer, limits) {
            Ok(Some(end)) => {
                let start = self.start;
                *self = Self::default();
                Scan::Complete { start, end }
            }
            Ok(None) => Scan::Incomplete,
            Err(refusal) => Scan::Refused(refusal),
        }
    }

    fn find_end(&mut self, buffer: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
        loop {
            if self.scanned == self.start {
                let Some(&first) = buffer.get(self.start) else {
                    return Ok(None);
                };
                may_begin(first)?;
            }
            let rest = buffer.get(self.scanned..).unwrap_or_default();
            let Some(at) = memchr2(b'\r', b'\n', rest).map(|at| self.scanned + at) else {
                self.scanned = buffer.len();
                self.check_sizes(buffer.len(), limits)?;
                return Ok(None);
            };
            if buffer[at] == b'\n' {
                self.check_sizes(at + 1, limits)?;
                return Err(Refusal::BareLf);
            }
            let Some(&next) = buffer.get(at + 1) else {
                self.scanned = at;
                self.check_sizes(buffer.len(), limits)?;
                return Ok(None);
            };
            let line_end = at + 2;
            self.check_sizes(line_end, limits)?;
            if next != b'\n' {
                return Err(Refusal::BareCr);
            }
            if self.line_start == self.start {
                if at > self.start {
                    check_first_line(&buffer[self.start..at])?;
                } else if self.start == 0 {
                    self.start = line_end;
                } else {
                    return Err(Refusal::EmptyLines);
                }
            } else if at == self.line_start {
                return Ok(Some(line_end));
            }
            self.line_start = line_end;
            self.scanned = line_end;
        }
    }

    /// Checks the sizes of a head that reaches to `end` at least. Which limit is named does not depend on how the bytes
    /// were cut: it is the one that comes first.
    fn check_sizes(&self, end: usize, limits: &HeadLimits) -> Result<(), Refusal> {
        let line_bound = self.line_start.saturating_add(limits.line);
        let total_bound = self.start.saturating_add(limits.total);
        if end <= line_bound.min(total_bound) {
            Ok(())
        } else if self.line_start == self.start {
            Err(Refusal::FirstLineTooLong)
        } else if line_bound <= total_bound {
            Err(Refusal::FieldTooLong)
        } else {
            Err(Refusal::HeadTooLarge)
        }
    }
}

/// Refuses at once what speaks another protocol (a TLS handshake, for example) and would wait for an answer.
fn may_begin(first: u8) -> Result<(), Refusal> {
    match first {
        b'\r' | b'\n' => Ok(()),
        b' ' => Err(Refusal::Blanks),
        _ if is_token_byte(first) => Ok(()),
        _ if first.is_ascii_control() => Err(Refusal::ControlByte),
        _ => Err(Refusal::Malformed),
    }
}

/// Refuses a first line that is neither a status line nor ends in a version, whose sender would send no more.
fn check_first_line(line: &[u8]) -> Result<(), Refusal> {
    if line == b"PRI * HTTP/2.0" {
        return Err(Refusal::Http2Preface);
    }
    let version_at = line.len().saturating_sub(b" HTTP/1.1".len());
    if line[version_at..].starts_with(b" HTTP/") || line.starts_with(b"HTTP/") {
        Ok(())
    } else {
        Err(version_refusal(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of scanning `input` whole, after checking that every cut of it in two, and every single byte, gives
    /// the same.
    fn scan(input: &[u8], limits: &HeadLimits) -> Scan {
        let whole = HeadScanner::default().scan(input, limits);
        for cut in 0..input.len() {
            let mut scanner = HeadScanner::default();
            let mut result = scanner.scan(&input[..cut], limits);
            if result == Scan::Incomplete {
                result = scanner.scan(input, limits);
            }
            assert_eq!(result, whole, "cut at {cut}");
        }
        let mut scanner = HeadScanner::default();
        let bytewise = (0..=input.len())
            .map(|end| scanner.scan(&input[..end], limits))
            .find(|result| *result != Scan::Incomplete)
            .unwrap_or(Scan::Incomplete);
        assert_eq!(bytewise, whole, "byte by byte");
        whole
    }

    #[test]
    fn rules_7_9_14_16_shape() {
        use Refusal::*;
        let complete = |start, end| Ok((start, end));
        type Expected = Result<(usize, usize), Option<Refusal>>;
        let table: &[(&[u8], Expected)] = &[
            (b"GET / HTTP/1.1\r\n\r\n", complete(0, 18)),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody", complete(0, 27)),
            (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", complete(0, 25)),
            (b"HTTP/1.1 200\r\n\r\n", complete(0, 16)),
            // rule 16
            (b"\r\nGET / HTTP/1.1\r\n\r\n", complete(2, 20)),
            (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", Err(Some(EmptyLines))),
            (b"\nGET / HTTP/1.1\r\n\r\n", Err(Some(BareLf))),
            (b"\r\n\nGET / HTTP/1.1\r\n\r\n", Err(Some(BareLf))),
            (b"\rGET / HTTP/1.1\r\n\r\n", Err(Some(BareCr))),
            // rule 9
            (b"GET / HTTP/1.1\nHost: a\n\n", Err(Some(BareLf))),
            (b"GET / HTTP/1.1\r\nHost: a\n\r\n", Err(Some(BareLf))),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\n", Err(Some(BareLf))),
            (b"GET / HTTP/1.1\r\nA: a\rb\r\n\r\n", Err(Some(BareCr))),
            (b"GET / HTTP/1.1\r\nA: a\r\r\n\r\n", Err(Some(BareCr))),
            (b"GET / HTTP/1.1\r\r\n", Err(Some(BareCr))),
            // rule 7
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Err(Some(Http2Preface))),
            (b"GET /\r\n", Err(Some(Http09))),
            (b"GET / HTTP/1.1.1\r\n", Err(Some(VersionMalformed))),
            (b"GET / hTTP/1.1\r\n", Err(Some(VersionMalformed))),
            (b"HELO\r\n", Err(Some(Malformed))),
            (b"\x16\x03\x01", Err(Some(ControlByte))),
            (b" GET / HTTP/1.1\r\n\r\n", Err(Some(Blanks))),
            // nothing to say yet
            (b"", Err(None)),
            (b"\r", Err(None)),
            (b"\r\n", Err(None)),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r", Err(None)),
        ];
        for (input, expected) in table {
            let expected = match *expected {
                Ok((start, end)) => Scan::Complete { start, end },
                Err(Some(refusal)) => Scan::Refused(refusal),
                Err(None) => Scan::Incomplete,
            };
            let shown = input.escape_ascii();
            assert_eq!(scan(input, &HeadLimits::default()), expected, "{shown}");
        }
    }

    #[test]
    fn rule_17_sizes() {
        let limits = HeadLimits {
            line: 32,
            total: 64,
            ..HeadLimits::default()
        };
        // a request line of n bytes with its CRLF, fields of the given lengths, and the end
        let head = |first: usize, fields: &[usize]| {
            let mut head = format!("GET /{} HTTP/1.1\r\n", "x".repeat(first - 16)).into_bytes();
            for length in fields {
                head.extend(format!("A: {}\r\n", "x".repeat(length - 5)).bytes());
            }
            head.extend(b"\r\n");
            head
        };
        let refused = Scan::Refused;
        let table = [
            (head(32, &[30]), Scan::Complete { start: 0, end: 64 }),
            (head(33, &[]), refused(Refusal::FirstLineTooLong)),
            (head(100, &[]), refused(Refusal::FirstLineTooLong)),
            (head(20, &[33]), refused(Refusal::FieldTooLong)),
            (head(20, &[32]), Scan::Complete { start: 0, end: 54 }),
            (head(32, &[31]), refused(Refusal::HeadTooLarge)),
            (head(32, &[20, 20]), refused(Refusal::HeadTooLarge)),
            // its end would be refused for another reason, too
            (
                b"GET / HTTP/1.1\r\nA: xxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n".to_vec(),
                refused(Refusal::FieldTooLong),
            ),
        ];
        for (input, expected) in table {
            let shown = input.escape_ascii();
            assert_eq!(scan(&input, &limits), expected, "{shown}");
        }
        // an empty line before the first one counts for nothing
        let mut input = b"\r\n".to_vec();
        input.extend(head(32, &[30]));
        assert_eq!(scan(&input, &limits), Scan::Complete { start: 2, end: 66 });
    }

    #[test]
    fn a_scanner_begins_anew_behind_a_head() {
        let mut scanner = HeadScanner::default();
        let limits = HeadLimits::default();
        for _ in 0..2 {
            assert_eq!(
                scanner.scan(b"\r\nGET / HTTP/1.1\r\n\r\n", &limits),
                Scan::Complete { start: 2, end: 20 }
            );
        }
    }
}
