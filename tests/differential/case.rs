//! What is put before the parsers, and what they have to see in it.

use std::fmt::Write;
use std::sync::Arc;

use crate::message::Message;

/// Bytes that the front sent, as they came.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) kind: Kind,
    /// The number of the exchange, from which everything in it is made.
    pub(crate) number: u64,
    /// What made the front send them.
    pub(crate) cause: Arc<[u8]>,
    /// What the front sent.
    pub(crate) bytes: Vec<u8>,
    /// The connection ended behind them, in order.
    pub(crate) closed: bool,
    /// The complete messages in them: one and its sentinel, or none where they are cut.
    pub(crate) expected: Vec<Message>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What a server got.
    Request,
    /// What a client got, and whether each of its requests was a HEAD.
    Response { heads: Vec<bool> },
}

impl Case {
    /// The same request with a first line that every parser takes: what follows it is what is in question then.
    pub(crate) fn tamed(&self) -> Self {
        let mut tamed = self.clone();
        if let Some(first) = tamed.expected.first_mut() {
            let line = first.method.len() + 1 + first.target.len();
            first.method = b"POST".to_vec();
            first.target = b"/tamed".to_vec();
            tamed.bytes.splice(..line, b"POST /tamed".iter().copied());
        }
        tamed
    }

    /// For a person who has to find out what went wrong.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("exchange {}\n", self.number);
        let (before, after) = match self.kind {
            Kind::Request => ("the client sent", "the server got"),
            Kind::Response { .. } => ("the server sent", "the client got"),
        };
        for (what, bytes) in [(before, &*self.cause), (after, &self.bytes)] {
            let shown = &bytes[..bytes.len().min(6000)];
            let _ = writeln!(
                text,
                "{what} {} bytes: {}",
                bytes.len(),
                shown.escape_ascii()
            );
        }
        text + &describe("the strict reader", &self.expected, None)
    }
}

/// What a reader saw.
pub(crate) fn describe(who: &str, messages: &[Message], error: Option<&str>) -> String {
    let mut text = format!("{who} saw {} whole messages", messages.len());
    for Message {
        method,
        target,
        version,
        body,
    } in messages
    {
        let _ = write!(
            text,
            "\n    {} {} {} and {} bytes: {}",
            method.escape_ascii(),
            target.escape_ascii(),
            version.escape_ascii(),
            body.len(),
            body[..body.len().min(200)].escape_ascii()
        );
    }
    if let Some(error) = error {
        let _ = write!(text, "\n    and stopped: {error}");
    }
    text + "\n"
}
