//! Responses through the front: the origin sends, the client takes down what arrives.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use crate::answers::{Answer, Meant};
use crate::case::{Case, Kind};
use crate::lane::{End, Lane, Origin, Waited};
use crate::message::{self, Head, Message, Read};
use crate::verify::{BATCH, Failures};

/// What became of the responses of a lane.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) messages: u64,
    /// The client got it whole.
    pub(crate) whole: u64,
    /// The client got the front's 502 in its place.
    pub(crate) replaced: u64,
    /// The client got nothing, or a part that shows that it is one.
    pub(crate) cut: u64,
}

/// A lane that sends responses.
pub(crate) struct Responses<'a> {
    pub(crate) lane: Lane,
    pub(crate) failures: &'a Failures,
    pub(crate) out: SyncSender<Vec<Case>>,
    pub(crate) batch: Vec<Case>,
    pub(crate) counts: Counts,
}

impl Responses<'_> {
    /// One exchange.
    pub(crate) fn exchange(&mut self, number: u64, answer: &Answer) {
        self.counts.messages += 1;
        let cause: Arc<[u8]> = answer.bytes.as_slice().into();
        let method = if answer.to_head { "HEAD" } else { "GET" };
        let version = if answer.to_http10 {
            "1.0\r\nConnection: keep-alive"
        } else {
            "1.1"
        };
        let request = format!("{method} /r{number} HTTP/{version}\r\nHost: r\r\n\r\n");
        match self.lane.begin() {
            Ok(client) => client.send(request.as_bytes()),
            Err(more) => {
                let shown = more.escape_ascii();
                self.fail(
                    number,
                    &cause,
                    &format!("bytes on an idle connection: {shown}"),
                );
                self.lane.leave();
                return;
            }
        }
        let sentinel = format!("sentinel-{number}").into_bytes();
        let mut heads = vec![answer.to_head];
        let deadline = Lane::deadline();
        let mut in_order = false;
        while !in_order {
            match self.lane.wait(deadline, &cause) {
                Waited::Something => {}
                // What is incomplete has to be told to be.
                Waited::Nothing => {
                    let answered = self
                        .lane
                        .origins
                        .iter_mut()
                        .filter(|origin| origin.has_answered);
                    answered.for_each(Origin::finish);
                }
                Waited::Hung => {
                    let shown = self.lane.client().bytes.escape_ascii().to_string();
                    self.fail(number, &cause, &format!("no end after {shown}"));
                    self.lane.leave();
                    return;
                }
            }
            self.serve(answer, &sentinel);
            let client = self.lane.client();
            if client.end.is_some() {
                break;
            }
            let Read::Whole(_, first) = message::response(&client.bytes, answer.to_head, false)
            else {
                continue;
            };
            if heads.len() == 1 && !says_close(&client.bytes) {
                heads.push(false);
                client.send(format!("GET /s{number} HTTP/1.1\r\nHost: s\r\n\r\n").as_bytes());
            } else if heads.len() == 2 {
                in_order = matches!(
                    message::response(&client.bytes[first..], false, false),
                    Read::Whole(..)
                );
            }
        }
        let client = self.lane.client();
        let closed = client.end == Some(End::Clean);
        let bytes = std::mem::take(&mut client.bytes);
        if !in_order {
            self.lane.leave();
        }
        self.judge(number, answer, &cause, bytes, heads, closed, &sentinel);
    }

    /// Answers the requests that have arrived.
    fn serve(&mut self, answer: &Answer, sentinel: &[u8]) {
        for origin in &mut self.lane.origins {
            let Read::Whole(message, len) = message::request(&origin.bytes) else {
                continue;
            };
            origin.bytes.drain(..len);
            if message.target.starts_with(b"/r") {
                let (first, second) = answer.bytes.split_at(answer.cut);
                origin.send(first);
                origin.send(second);
                origin.has_answered = true;
                if answer.closes {
                    origin.finish();
                }
            } else {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                    sentinel.len()
                );
                origin.send(&[head.as_bytes(), sentinel].concat());
            }
        }
        self.lane.origins.retain(|origin| origin.end.is_none());
    }

    #[allow(clippy::too_many_arguments)] // all that is known of an exchange
    fn judge(
        &mut self,
        number: u64,
        answer: &Answer,
        cause: &Arc<[u8]>,
        bytes: Vec<u8>,
        mut heads: Vec<bool>,
        closed: bool,
        sentinel: &[u8],
    ) {
        let mut expected: Vec<Message> = Vec::new();
        let mut from = 0;
        while from < bytes.len() {
            let to_head = heads.get(expected.len()).copied().unwrap_or_default();
            match message::response(&bytes[from..], to_head, closed) {
                Read::Whole(message, len) => {
                    expected.push(message);
                    from += len;
                }
                Read::More => break,
                Read::Bad(problem) => {
                    let text = format!("{problem}: the client got {}", bytes.escape_ascii());
                    return self.fail(number, cause, &text);
                }
            }
        }
        let first = expected.first();
        match first {
            None => self.counts.cut += 1,
            Some(first) if first.method == b"502" => self.counts.replaced += 1,
            Some(_) => self.counts.whole += 1,
        }
        let problem = match (&answer.meant, first) {
            _ if expected.len() > heads.len() => Some("more responses than requests"),
            _ if expected
                .get(1)
                .is_some_and(|second| second.body != sentinel) =>
            {
                Some("the next response is not that of the next request")
            }
            (Meant::Whole(status, body), Some(first))
                if first.method == *status && first.body == *body =>
            {
                None
            }
            (Meant::Whole(..), _) => Some("a valid response did not come through"),
            (_, Some(first)) if first.method == b"502" => None,
            (Meant::Cut, Some(_)) => Some("a response that was cut looks complete"),
            (Meant::Anything, Some(_))
                if matches!(
                    message::response(&answer.bytes, answer.to_head, true),
                    Read::More
                ) =>
            {
                Some("a response that was cut looks complete")
            }
            _ => None,
        };
        if let Some(problem) = problem {
            let text = format!("{problem}: the client got {}", bytes.escape_ascii());
            self.fail(number, cause, &text);
        }
        heads.truncate(expected.len() + usize::from(from < bytes.len()));
        self.batch.push(Case {
            kind: Kind::Response { heads },
            number,
            cause: Arc::clone(cause),
            bytes,
            closed,
            expected,
        });
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    fn fail(&self, number: u64, cause: &[u8], problem: &str) {
        let shown = cause[..cause.len().min(6000)].escape_ascii();
        self.failures.add(format!(
            "exchange {number}: {problem}\nthe server sent: {shown}\n"
        ));
    }

    /// Hands over what was gathered.
    pub(crate) fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        // Nobody takes it any more after a failure.
        let _ = self.out.send(batch);
    }
}

/// Whether the final head says that the connection ends.
fn says_close(bytes: &[u8]) -> bool {
    let mut from = 0;
    while let Ok(Some(head)) = Head::of(&bytes[from..]) {
        if head.is_final() {
            return head.closes();
        }
        from += head.len();
    }
    false
}
