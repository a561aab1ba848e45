//! Why a message is refused: a closed list, whose words are the log's and a counter's label.

/// A rule that a message broke. `Request…` reasons are answered with [`Refusal::status`]; the same reasons in a
/// response become 502 or a closed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The head is no HTTP/1 head at all (rules 7, 9, 14).
    Malformed,
}

impl Refusal {
    /// The status that a request refused for this reason is answered with.
    pub fn status(self) -> u16 {
        400
    }

    /// The log's word and the counter's label.
    pub fn word(self) -> &'static str {
        "malformed"
    }
}
