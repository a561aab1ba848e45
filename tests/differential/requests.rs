//! Requests through the front: a client sends, the origin takes down what arrives.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use crate::case::{Case, Kind};
use crate::grammar::{Meant, Sent};
use crate::lane::{Lane, Waited};
use crate::message::{self, Head, Message, Read};
use crate::verify::{BATCH, Failures};

/// What became of the messages of a lane.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) messages: u64,
    /// Messages of which at least one request arrived whole.
    pub(crate) accepted: u64,
    /// Messages that the front answered itself.
    pub(crate) refused: u64,
    /// Messages of clients that left before the front could say anything.
    pub(crate) incomplete: u64,
}

/// A lane that sends requests.
pub(crate) struct Requests<'a> {
    pub(crate) lane: Lane,
    pub(crate) failures: &'a Failures,
    pub(crate) out: SyncSender<Vec<Case>>,
    pub(crate) batch: Vec<Case>,
    pub(crate) counts: Counts,
    /// Requests that arrived whole on this lane so far.
    pub(crate) arrived: u64,
}

/// What is known of one exchange.
#[derive(Default)]
struct Exchange {
    /// The requests that arrived whole, by the number in their answer.
    arrived: Vec<(u64, Message)>,
    /// Those of them that the client saw answered, in order.
    answered: Vec<u64>,
    /// The status of the front's own answer.
    refusal: Option<Vec<u8>>,
    /// The request behind everything was answered: the connection is in order.
    fin: bool,
    /// The last answer said that the connection closes.
    closes: bool,
}

impl Requests<'_> {
    /// One exchange.
    pub(crate) fn exchange(&mut self, number: u64, sent: &Sent) {
        self.counts.messages += 1;
        let fin = format!("/fin-{number}");
        let mut bytes = sent.bytes.clone();
        if !matches!(sent.meant, Meant::Requests(_)) {
            bytes.extend_from_slice(format!("GET {fin} HTTP/1.1\r\nHost: fin\r\n\r\n").as_bytes());
        }
        let cause: Arc<[u8]> = bytes.into();
        let was_new;
        match self.lane.begin() {
            Ok(client) => {
                was_new = client.is_new();
                let (first, second) = cause.split_at(sent.cut.min(cause.len()));
                client.send(first);
                client.send(second);
            }
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
        let deadline = Lane::deadline();
        let mut seen = Exchange::default();
        loop {
            let waited = self.lane.wait(deadline, &cause);
            if waited == Waited::Hung {
                self.fail(number, &cause, "neither an answer nor an end");
                self.lane.leave();
                return;
            }
            self.serve(number, fin.as_bytes(), &mut seen);
            if let Err(problem) = self.read_answers(&mut seen) {
                self.fail(number, &cause, &problem);
            }
            let client = self.lane.client();
            if client.end.is_some() {
                break;
            }
            let in_order = match &sent.meant {
                Meant::Requests(meant) => seen.answered.len() == meant.len(),
                _ => {
                    seen.fin
                        && seen.answered.last() == seen.arrived.last().map(|(number, _)| number)
                }
            };
            if in_order && !seen.closes {
                break;
            }
            // The front closes behind its own answer; what seems incomplete may be told to be.
            if seen.refusal.is_some()
                || waited == Waited::Nothing && !matches!(sent.meant, Meant::Requests(_))
            {
                client.finish();
            }
        }
        if self.lane.client().end.is_some() {
            self.lane.leave();
            // What the front had begun to send ends now, too.
            while self
                .lane
                .origins
                .iter()
                .any(|origin| !origin.bytes.is_empty())
            {
                if self.lane.wait(deadline, &cause) == Waited::Hung {
                    self.fail(number, &cause, "a request without an end");
                    self.lane.origins.clear();
                }
                self.serve(number, fin.as_bytes(), &mut seen);
            }
        }
        self.judge(number, sent, &cause, &seen, was_new);
    }

    /// Answers what has arrived whole, and takes it down.
    fn serve(&mut self, number: u64, fin: &[u8], seen: &mut Exchange) {
        for index in 0..self.lane.origins.len() {
            let origin = &mut self.lane.origins[index];
            if origin.bytes.is_empty() {
                continue;
            }
            let (message, len) = match message::request(&origin.bytes) {
                Read::Whole(message, len) => (message, len),
                Read::More if origin.end.is_none() => {
                    if !origin.continued && expects_continue(&origin.bytes) {
                        origin.continued = true;
                        origin.send(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    continue;
                }
                Read::More => {
                    let (bytes, cause) =
                        (std::mem::take(&mut origin.bytes), Arc::clone(&origin.cause));
                    self.put(number, cause, bytes, Vec::new());
                    continue;
                }
                Read::Bad(problem) => {
                    let (bytes, cause) =
                        (std::mem::take(&mut origin.bytes), Arc::clone(&origin.cause));
                    let shown = bytes.escape_ascii();
                    self.fail(
                        number,
                        &cause,
                        &format!("{problem}: the server got {shown}"),
                    );
                    continue;
                }
            };
            self.arrived += 1;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Arrived: {}\r\n\r\n",
                self.arrived
            );
            origin.send(answer.as_bytes());
            origin.continued = false;
            let (mut bytes, cause) = (std::mem::take(&mut origin.bytes), Arc::clone(&origin.cause));
            if bytes.len() > len {
                self.fail(
                    number,
                    &cause,
                    &format!(
                        "more than one request: the server got {}",
                        bytes.escape_ascii()
                    ),
                );
            }
            seen.fin |= message.target == fin;
            seen.arrived.push((self.arrived, message.clone()));
            let target = format!("/sentinel-{}", self.arrived);
            bytes.extend_from_slice(format!("GET {target} HTTP/1.1\r\nHost: s\r\n\r\n").as_bytes());
            let sentinel = Message {
                method: b"GET".to_vec(),
                target: target.into_bytes(),
                version: b"1.1".to_vec(),
                body: Vec::new(),
            };
            self.put(number, cause, bytes, vec![message, sentinel]);
        }
        self.lane.origins.retain(|origin| origin.end.is_none());
    }

    /// Takes the answers that the client has whole.
    fn read_answers(&mut self, seen: &mut Exchange) -> Result<(), String> {
        let client = self.lane.client();
        while seen.refusal.is_none() {
            let mut from = 0;
            let head = loop {
                match Head::of(&client.bytes[from..])? {
                    Some(head) if head.is_final() => break head,
                    Some(head) => from += head.len(),
                    None => return Ok(()),
                }
            };
            // All of our answers are without a body, those to HEAD included.
            let Some(arrived) = head.all("x-arrived").next().map(<[u8]>::to_vec) else {
                seen.refusal = Some(head.status().to_vec());
                return Ok(());
            };
            seen.closes = head.closes();
            let len = from + head.len();
            client.bytes.drain(..len);
            // Some may stand between them that arrived for a client that had left.
            let number = std::str::from_utf8(&arrived)
                .ok()
                .and_then(|text| text.parse().ok());
            let is_known = |number: &u64| seen.arrived.iter().any(|(known, _)| known == number);
            match number.filter(is_known) {
                Some(number) if seen.answered.last().is_none_or(|last| *last < number) => {
                    seen.answered.push(number)
                }
                _ => {
                    return Err(format!(
                        "the answer to request {}, after {:?}",
                        arrived.escape_ascii(),
                        seen.answered
                    ));
                }
            }
        }
        Ok(())
    }

    fn judge(
        &mut self,
        number: u64,
        sent: &Sent,
        cause: &Arc<[u8]>,
        seen: &Exchange,
        was_new: bool,
    ) {
        match (&seen.refusal, &*seen.arrived) {
            (Some(_), _) => self.counts.refused += 1,
            (None, []) => self.counts.incomplete += 1,
            _ => self.counts.accepted += 1,
        }
        // What an earlier client's connection left may arrive while this one's is new.
        let is_ours = |number: &u64| !was_new || seen.answered.contains(number);
        let arrived = seen.arrived.iter().filter(|(number, _)| is_ours(number));
        let arrived: Vec<_> = arrived.map(|(_, message)| message).collect();
        match &sent.meant {
            Meant::Requests(meant) => {
                if let Some(status) = &seen.refusal {
                    let shown = status.escape_ascii();
                    self.fail(
                        number,
                        cause,
                        &format!("a valid request was refused with {shown}"),
                    );
                } else if arrived != meant.iter().collect::<Vec<_>>()
                    || seen.answered.len() != meant.len()
                {
                    let text = format!("meant were {meant:?}, but the server got {arrived:?}");
                    self.fail(number, cause, &text);
                }
            }
            Meant::Refusal => {
                if seen.refusal.is_none() || !arrived.is_empty() {
                    let text = format!("not refused: the server got {arrived:?}");
                    self.fail(number, cause, &text);
                }
            }
            Meant::Anything => {}
        }
    }

    fn fail(&self, number: u64, cause: &[u8], problem: &str) {
        let shown = cause[..cause.len().min(6000)].escape_ascii();
        self.failures.add(format!(
            "exchange {number}: {problem}\nthe client sent: {shown}\n"
        ));
    }

    fn put(&mut self, number: u64, cause: Arc<[u8]>, bytes: Vec<u8>, expected: Vec<Message>) {
        self.batch.push(Case {
            kind: Kind::Request,
            number,
            cause,
            bytes,
            closed: true,
            expected,
        });
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    /// Hands over what was gathered.
    pub(crate) fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        // Nobody takes it any more after a failure.
        let _ = self.out.send(batch);
    }
}

/// Whether the head is whole and waits for a 100.
fn expects_continue(bytes: &[u8]) -> bool {
    let head = Head::of(bytes).ok().flatten();
    head.is_some_and(|head| head.all("expect").next().is_some())
}
