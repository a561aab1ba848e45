//! Whole connections: what clients send and what a server says to it, cut anywhere, goes through a worker of the real front, and
//! both sides get what the model says, no more and no less. The server answers a request when it has all of it.

mod front;
mod model;

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use front::{Front, receive, send};
use model::{Answer, Expected, Kind, Read, Sent};

use super::credentials::scheme;
use super::input::Input;
use super::reference::{self, Body, Field};

/// How long the front may take for anything.
const PATIENCE: Duration = Duration::from_secs(2);

/// What ends a part of an input.
const SEPARATOR: u8 = 0x1c;

/// What stands for [`MUCH`], three times in a part at the most.
const EXPANDED: u8 = 0x1d;

/// More than what the front copies: it is spliced.
static MUCH: [u8; 40 << 10] = [b'x'; 40 << 10];

/// What the server says where the input says nothing.
const USUAL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

static FRONT: LazyLock<Mutex<Front>> = LazyLock::new(|| Mutex::new(Front::start()));

/// Checks one input: what the first client sends, what a second one sends at the same time (nothing: there is none), and what
/// the server answers to the first one's first request, the second one's first, and so on, with a 0x1c between each. A 0x1d is
/// 40 KiB. Options: 0 clients close at the end instead of ending what they send, 1 the first client leaves before the second,
/// 2 the server answers a request when it has its head.
///
/// # Panics
/// The product is wrong.
pub fn check(input: &[u8]) {
    let input = Input::new(input);
    let parts: Vec<Vec<u8>> = input
        .bytes
        .split(|&b| b == SEPARATOR)
        .map(expanded)
        .collect();
    let mut parts = parts.iter().map(Vec::as_slice);
    let streams = [(); 2].map(|()| parts.next().unwrap_or_default());
    let answers: Vec<&[u8]> = parts.collect();
    let count = if streams[1].is_empty() { 1 } else { 2 };
    let mut front = FRONT.lock().unwrap_or_else(PoisonError::into_inner);
    let clients = (0..count).map(|which| {
        let (number, stream) = front.connect();
        let answer = |nth: usize| answers.get(2 * nth + which).copied().unwrap_or(USUAL);
        Client {
            number,
            stream,
            got: Vec::new(),
            ended: false,
            requests: Vec::new(),
            expected: model::expect(streams[which], answer),
            answers: answers.iter().skip(which).step_by(2).copied().collect(),
        }
    });
    let mut play = Play {
        clients: clients.collect(),
        front: &mut front,
        upstreams: Vec::new(),
        cuts: input.places,
        early: input.option(2),
    };
    play.send(&streams);
    play.settle();
    play.leave(input.option(0), input.option(1));
}

struct Client<'a> {
    /// What the front calls it.
    number: u64,
    stream: UnixStream,
    got: Vec<u8>,
    ended: bool,
    /// What got to the server of it.
    requests: Vec<Got>,
    expected: Expected,
    /// What the server says to its requests.
    answers: Vec<&'a [u8]>,
}

/// A request as the server got it.
#[derive(Debug)]
struct Got {
    sent: Sent,
    /// All of it came.
    whole: bool,
}

/// A connection of the front to the server.
struct Upstream {
    stream: UnixStream,
    got: Vec<u8>,
    ended: bool,
    /// Whose it is: it carried that client's credentials.
    owner: Option<u64>,
    /// It carried something that may log it in, and serves nobody any more.
    spent: bool,
    /// Closed from here.
    closed: bool,
    /// Which of its client's requests is coming in.
    coming: Option<usize>,
    /// That one was answered.
    answered: bool,
}

struct Play<'a> {
    front: &'a mut Front,
    clients: Vec<Client<'a>>,
    upstreams: Vec<Upstream>,
    cuts: &'a [u8],
    /// The server answers before it has all of a request: how much of that still comes depends on who is faster.
    early: bool,
}

impl Play<'_> {
    /// Sends what the clients have to say, piece by piece in turn.
    fn send(&mut self, streams: &[&[u8]]) {
        let mut rests: Vec<Vec<&[u8]>> = streams
            .iter()
            .map(|stream| pieces(stream, self.cuts, stream.len()))
            .collect();
        for turn in 0..=self.cuts.len() {
            for (which, pieces) in rests.iter_mut().enumerate().take(self.clients.len()) {
                if let Some(piece) = pieces.get(turn) {
                    send(&mut self.clients[which].stream, piece);
                    self.front.probe();
                    while self.pump() {
                        self.front.probe();
                    }
                }
            }
        }
    }

    /// Takes whatever came, and has the server answer the requests that are complete. True if anything came.
    fn pump(&mut self) -> bool {
        let mut progress = false;
        while let Ok((stream, _)) = self.front.server.accept() {
            stream.set_nonblocking(true).expect("a non-blocking socket");
            self.upstreams.push(Upstream {
                stream,
                got: Vec::new(),
                ended: false,
                owner: None,
                spent: false,
                closed: false,
                coming: None,
                answered: false,
            });
            progress = true;
        }
        for which in 0..self.upstreams.len() {
            let upstream = &mut self.upstreams[which];
            let before = upstream.got.len();
            if upstream.is_over()
                || !receive(&mut upstream.stream, &mut upstream.got, &mut upstream.ended)
            {
                continue;
            }
            progress = true;
            if upstream.got.len() > before {
                self.serve(which);
            }
        }
        for client in &mut self.clients {
            progress |=
                !client.ended && receive(&mut client.stream, &mut client.got, &mut client.ended);
        }
        progress
    }

    /// Looks at what the server got on a connection.
    fn serve(&mut self, which: usize) {
        let upstream = &mut self.upstreams[which];
        if upstream.got.is_empty() {
            return;
        }
        let Some((0, end)) = reference::head_end(&upstream.got) else {
            assert!(
                !upstream.ended,
                "part of a head went upstream: {}",
                upstream.got.escape_ascii()
            );
            return;
        };
        let request = reference::request(&upstream.got[..end], model::ANY, false);
        let request =
            request.unwrap_or_else(|| panic!("went upstream: {}", upstream.got.escape_ascii()));
        let number = reference::values(&request.fields, "x-client");
        let number = String::from_utf8_lossy(&number.concat())
            .parse::<u64>()
            .expect("the client's number");
        let client = self
            .clients
            .iter_mut()
            .find(|client| client.number == number)
            .expect("a client that is there");
        assert_eq!((&request.host[..], request.is_http_10), (&b"up"[..], false));
        assert!(
            !upstream.spent && upstream.owner.is_none_or(|owner| owner == number),
            "a connection with another's credentials"
        );
        if request
            .authorization
            .as_ref()
            .is_some_and(|value| scheme(value).is_some())
        {
            upstream.owner = Some(number);
        }
        let to_head = request.method == b"HEAD";
        let nth = upstream.coming.unwrap_or(client.requests.len());
        let answer = client.answers.get(nth).copied().unwrap_or(USUAL);
        let (body, whole) = match model::read_body(request.body, &upstream.got[end..]) {
            Read::Whole(body, taken) => {
                // The next one comes only after the answer.
                let alone = end + taken == upstream.got.len();
                assert!(
                    alone || upstream.answered,
                    "more than a request went upstream"
                );
                upstream.got.drain(..end + taken);
                upstream.spent = upstream.owner.is_none()
                    && !reference::values(&request.fields, "proxy-authorization").is_empty();
                (body, true)
            }
            Read::Unfinished(body) => (body, false),
            Read::Broken(_) => panic!("went upstream: {}", upstream.got.escape_ascii()),
        };
        let got = Got {
            sent: model::sent(&request, body),
            whole,
        };
        match client.requests.get_mut(nth) {
            Some(begun) => *begun = got,
            None => client.requests.push(got),
        }
        upstream.coming = Some(nth).filter(|_| !whole);
        let answers = !upstream.answered && (whole || self.early);
        upstream.answered = !whole && self.early;
        if !answers {
            // The next one may be here already.
            if whole && !upstream.got.is_empty() {
                self.serve(which);
            }
            return;
        }
        // What is behind an answer comes with its end: later it would be the next answer.
        for piece in pieces(answer, self.cuts, model::answer_len(answer, to_head)) {
            send(&mut upstream.stream, piece);
            self.front.probe();
        }
        if model::ends_with_close(answer, to_head) {
            let _ = upstream.stream.shutdown(Shutdown::Both);
            upstream.closed = true;
        }
    }

    /// Waits until everything is as the model says, and checks that no more comes. Of early answers the model knows only what
    /// the server may get at the most.
    fn settle(&mut self) {
        if !self.early {
            self.until("what the model says", |play| {
                play.clients.iter().all(|client| {
                    let expected = &client.expected;
                    let whole = client.requests.iter().filter(|got| got.whole).count();
                    let counted = whole >= expected.requests.len();
                    let ended = !expected.closes || client.ended;
                    counted && ended && read_answers(&client.got, &expected.answers).is_ok()
                })
            });
        }
        self.front.probe();
        while self.pump() {
            self.front.probe();
        }
        for client in &self.clients {
            let expected = &client.expected;
            let may = expected.requests.iter().chain(&expected.partial);
            let wanted = expected.requests.len();
            for (nth, (got, may)) in client.requests.iter().zip(may).enumerate() {
                assert!(
                    got.sent.begins(may),
                    "{got:?} went upstream, but {may:?} may"
                );
                let all = nth < wanted && got.sent == *may;
                // A server that closes with its answer does not see the end of the request.
                assert!(
                    all == got.whole || self.early && !got.whole,
                    "{got:?} of {may:?}"
                );
            }
            let most = wanted + usize::from(expected.partial.is_some());
            assert!(
                client.requests.len() <= most,
                "{:?} went upstream",
                client.requests
            );
            if !self.early {
                assert!(client.requests.len() >= wanted, "requests are missing");
                assert_eq!(read_answers(&client.got, &expected.answers), Ok(()));
                assert_eq!(client.ended, expected.closes, "the connection is closed");
            }
        }
    }

    /// The clients leave, and with them goes what was theirs.
    fn leave(mut self, close: bool, first_alone: bool) {
        if first_alone && self.clients.len() > 1 {
            let first = self.clients.remove(0);
            drop(first.stream);
            self.until("the first client's connections end", |play| {
                play.upstreams
                    .iter()
                    .all(|upstream| upstream.owner != Some(first.number) || upstream.is_over())
            });
        }
        if close {
            self.clients.clear();
        } else {
            for client in &self.clients {
                // It may be closed already.
                let _ = client.stream.shutdown(Shutdown::Write);
            }
            self.until("clients that end are ended", |play| {
                play.clients.iter().all(|client| client.ended)
            });
            for client in self.clients.drain(..).filter(|_| !self.early) {
                assert_eq!(
                    read_answers(&client.got, &client.expected.answers),
                    Ok(()),
                    "after the client's end"
                );
            }
        }
        self.until("connections end with their clients", |play| {
            play.upstreams.iter().all(|upstream| {
                let begun = !upstream.got.is_empty();
                upstream.is_over() || upstream.owner.is_none() && !begun && !upstream.spent
            })
        });
        // The next input finds no connection of this one's.
        self.upstreams.clear();
        self.front.probe();
        self.front.probe();
    }

    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        loop {
            self.pump();
            if done(self) {
                return;
            }
            if began.elapsed() > PATIENCE {
                for client in &self.clients {
                    eprintln!(
                        "client {}: ended {}, got \"{}\", {:?}\nthe server got {:?}\nexpected {:?}",
                        client.number,
                        client.ended,
                        client.got.escape_ascii(),
                        read_answers(&client.got, &client.expected.answers),
                        client.requests,
                        client.expected
                    );
                }
                panic!("not within {PATIENCE:?}: {what}");
            }
            self.front.probe();
        }
    }
}

impl Upstream {
    fn is_over(&self) -> bool {
        self.ended || self.closed
    }
}

fn expanded(part: &[u8]) -> Vec<u8> {
    let mut pieces = part.splitn(4, |&b| b == EXPANDED);
    let mut whole = pieces.next().unwrap_or_default().to_vec();
    for piece in pieces {
        whole.extend_from_slice(&MUCH);
        whole.extend_from_slice(piece);
    }
    whole
}

/// Cuts bytes, but not behind the first `whole`.
fn pieces<'a>(bytes: &'a [u8], cuts: &[u8], whole: usize) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts
        .iter()
        .map(|&cut| usize::from(cut) * whole.max(1) / 256)
        .collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut start = 0;
    let pieces = ends.into_iter().map(|end| {
        let piece = &bytes[start..end];
        start = end;
        piece
    });
    pieces.collect()
}

/// Whether a client got these answers and nothing else.
fn read_answers(got: &[u8], expected: &[Answer]) -> Result<(), String> {
    let mut rest = got;
    for answer in expected {
        let statuses = answer.informational.iter();
        let ahead: Result<(), String> = statuses.clone().try_for_each(|&status| {
            let (head, behind) = read_head(rest, true)?;
            rest = behind;
            same("informational", &head.status, &status)
        });
        match &answer.kind {
            // What is cut may be cut at once.
            Kind::Cut { .. } if rest.is_empty() => return Ok(()),
            _ => ahead?,
        }
        rest = match &answer.kind {
            Kind::Nothing => rest,
            Kind::Own { refusal } => read_own(rest, *refusal, answer.to_head)?,
            Kind::Relayed { response, body } => {
                let (head, behind) = read_head(rest, answer.to_head == Some(true))?;
                same_head(&head, response)?;
                match model::read_body(head.body, behind) {
                    Read::Whole(found, taken) => {
                        same("body", &found, body)?;
                        &behind[taken..]
                    }
                    _ => return Err("the body is not complete".to_owned()),
                }
            }
            Kind::Cut {
                response,
                body,
                broken,
            } => {
                let refused = *broken && read_own(rest, false, answer.to_head) == Ok(&[]);
                return match refused {
                    true => Ok(()),
                    false => read_cut(rest, response, body),
                };
            }
        };
    }
    match rest {
        [] => Ok(()),
        _ => Err(format!("more: {}", rest.escape_ascii())),
    }
}

fn read_head(bytes: &[u8], to_head: bool) -> Result<(reference::Response, &[u8]), String> {
    let (_, end) = reference::head_end(bytes)
        .ok_or_else(|| format!("no head in \"{}\"", bytes.escape_ascii()))?;
    let head = reference::response(&bytes[..end], model::ANY, to_head, false);
    let head = head.ok_or_else(|| format!("not sound: {}", bytes.escape_ascii()))?;
    Ok((head, &bytes[end..]))
}

/// An answer of the front's own. Of a request that was refused nobody can tell whether it was a HEAD, but nothing comes behind.
fn read_own(bytes: &[u8], refusal: bool, to_head: Option<bool>) -> Result<&[u8], String> {
    let (head, behind) = read_head(bytes, to_head == Some(true))?;
    let as_expected = match refusal {
        true => matches!(head.status, 400 | 405 | 414 | 417 | 431 | 501 | 505) && !head.keeps_open,
        false => head.status == 502,
    };
    if !as_expected {
        return Err(format!(
            "another answer of the front's own: {}",
            bytes.escape_ascii()
        ));
    }
    match model::read_body(head.body, behind) {
        _ if to_head.is_none() && behind.is_empty() => Ok(behind),
        Read::Whole(_, taken) => Ok(&behind[taken..]),
        _ => Err("the front's own body is not complete".to_owned()),
    }
}

/// An answer that never gets here whole, and does not look as if it did.
fn read_cut(bytes: &[u8], response: &reference::Response, body: &[u8]) -> Result<(), String> {
    let Ok((head, behind)) = read_head(bytes, false) else {
        return Ok(());
    };
    same_head(&head, response)?;
    let data = match (head.body, model::read_body(head.body, behind)) {
        (Body::UntilClose, Read::Whole(data, _)) | (_, Read::Unfinished(data)) => data,
        _ => return Err("it looks complete".to_owned()),
    };
    if body.starts_with(&data) {
        Ok(())
    } else {
        Err("other data".to_owned())
    }
}

/// Whether a head is the server's, but for the fields that the front writes or hides.
fn same_head(found: &reference::Response, expected: &reference::Response) -> Result<(), String> {
    let others = |fields: &[Field]| -> Vec<Field> {
        let own = [
            "server",
            "date",
            "connection",
            "keep-alive",
            "transfer-encoding",
            "x-pad",
        ];
        let is_own = |name: &[u8]| {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            own.contains(&&name[..]) || name.starts_with("x-accel-")
        };
        fields
            .iter()
            .filter(|(name, _)| !is_own(name))
            .cloned()
            .collect()
    };
    same("status", &found.status, &expected.status)?;
    same("fields", &others(&found.fields), &others(&expected.passing))
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what}: {found:?}, expected {expected:?}")),
    }
}
