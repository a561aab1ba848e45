//! Finds the end of a head in bytes that arrive in any pieces, before any field is looked at.

use super::head::HeadLimits;
use super::refusal::Refusal;

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
    /// The head breaks a rule that shows before its end: a bare LF or CR, a size, a control byte, HTTP/2's preface.
    Refused(Refusal),
}

/// Resumable search for the end of a head. Scanning a growing buffer costs time linear in its length, however it is cut.
#[derive(Clone, Debug, Default)]
pub struct HeadScanner {
    // 0 <= line_start <= scanned <= buffer length
    _line_start: usize,
    _scanned: usize,
}

impl HeadScanner {
    /// Looks at `buffer`, which begins with the same bytes as in the last call, and has at least as many.
    pub fn scan(&mut self, _buffer: &[u8], _limits: &HeadLimits) -> Scan {
        todo!()
    }
}
