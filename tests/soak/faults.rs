//! What clients and servers do wrong, and what may come of it.

use crate::tally::Outcome;

use Outcome::{Answered, Closed, Cut, Left, Tunnelled};

/// What a misbehaving client does.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) act: Act,
    pub(crate) expected: &'static [Outcome],
}

#[derive(Clone, Copy)]
pub(crate) enum Ending {
    Close,
    Reset,
    HalfClose,
}

#[derive(Clone, Copy)]
pub(crate) enum Act {
    /// Sends bytes at random for a head.
    Garbage,
    /// Sends one of [`SMUGGLING`].
    Smuggle,
    /// Sends a target, or a field, of 70,000 bytes.
    Oversized { target: bool },
    /// Sends a head and a body byte by byte.
    Bytewise,
    /// Opens a connection and says nothing.
    Silence,
    /// Sends half a head and no more.
    SlowHead,
    /// Sends part of a body that comes back meanwhile, and leaves.
    Upload(Ending),
    /// Sends part of a body and no more.
    StalledUpload,
    /// Sends a chunked body that breaks the rules.
    BadChunk,
    /// Announces more than `client_max_body_size`.
    TooLarge,
    /// Reads part of an answer and leaves.
    Download(Ending),
    /// Reads nothing of a long answer until the front loses patience.
    SlowReader,
    /// Asks for something that takes time, and leaves.
    Waiting(Ending),
    /// Sends many requests at once.
    Pipeline,
    /// Opens a tunnel, uses it, and leaves.
    Tunnel(Ending),
    /// Gets this from a server of a group with logins.
    Page(&'static str),
    /// The same with a body of 100,000 bytes.
    PostPage(&'static str),
    /// Gets this from the server that misbehaves.
    Hostile(&'static str),
    /// The same with a body of 100,000 bytes.
    PostHostile(&'static str),
    /// Asks the server that comes and goes.
    Gone,
    /// Asks a group of which that server is one.
    Mixed,
    /// Logs in there.
    MixedLogin,
}

const fn fault(name: &'static str, act: Act, expected: &'static [Outcome]) -> Fault {
    Fault {
        name,
        act,
        expected,
    }
}

/// All of them, equally likely. A login that a limit or a server ended is `Closed` where its request was under way.
pub(crate) const FAULTS: &[Fault] = &[
    fault("garbage for a head", Act::Garbage, &[Answered(400)]),
    fault("smuggling", Act::Smuggle, &[Answered(400)]),
    fault(
        "oversized target",
        Act::Oversized { target: true },
        &[Answered(414)],
    ),
    fault(
        "oversized field",
        Act::Oversized { target: false },
        &[Answered(431)],
    ),
    fault("byte by byte", Act::Bytewise, &[Answered(200)]),
    fault("silence", Act::Silence, &[Closed]),
    fault("slow head", Act::SlowHead, &[Answered(408)]),
    fault("upload, close", Act::Upload(Ending::Close), &[Left]),
    fault("upload, reset", Act::Upload(Ending::Reset), &[Left]),
    fault(
        "upload, half close",
        Act::Upload(Ending::HalfClose),
        &[Cut, Closed, Answered(400)],
    ),
    fault(
        "stalled upload",
        Act::StalledUpload,
        &[Cut, Closed, Answered(408)],
    ),
    fault("bad chunk", Act::BadChunk, &[Answered(400), Closed, Cut]),
    fault("too large", Act::TooLarge, &[Answered(413)]),
    fault("download, close", Act::Download(Ending::Close), &[Left]),
    fault("download, reset", Act::Download(Ending::Reset), &[Left]),
    fault(
        "download, half close",
        Act::Download(Ending::HalfClose),
        &[Cut, Answered(200)],
    ),
    fault("slow reader", Act::SlowReader, &[Cut]),
    fault("waiting, close", Act::Waiting(Ending::Close), &[Left]),
    fault("waiting, reset", Act::Waiting(Ending::Reset), &[Left]),
    fault(
        "waiting, half close",
        Act::Waiting(Ending::HalfClose),
        &[Closed, Answered(200)],
    ),
    fault("pipeline", Act::Pipeline, &[Answered(200)]),
    fault("tunnel, close", Act::Tunnel(Ending::Close), &[Tunnelled]),
    fault("tunnel, reset", Act::Tunnel(Ending::Reset), &[Tunnelled]),
    fault(
        "tunnel, half close",
        Act::Tunnel(Ending::HalfClose),
        &[Tunnelled],
    ),
    fault("server cuts", Act::Page("/cut/200000"), &[Cut]),
    fault(
        "server ends by closing",
        Act::Page("/close/50000"),
        &[Answered(200)],
    ),
    fault(
        "server drops",
        Act::Page("/private/drop"),
        &[Answered(401), Answered(502), Closed],
    ),
    fault("server is late", Act::Page("/slow/60000"), &[Answered(504)]),
    fault(
        "server answers early, closes",
        Act::PostPage("/early-close/413"),
        &[Answered(413)],
    ),
    fault(
        "server answers early, reads",
        Act::PostPage("/early/403"),
        &[Answered(403)],
    ),
    fault(
        "server says more on a login",
        Act::Page("/private/extra"),
        &[Answered(200), Answered(401)],
    ),
    fault(
        "reset at once",
        Act::Hostile("/reset-at-once"),
        &[Answered(502)],
    ),
    fault(
        "close at once",
        Act::Hostile("/close-at-once"),
        &[Answered(502)],
    ),
    fault(
        "reset mid answer",
        Act::Hostile("/reset-mid-answer"),
        &[Cut, Answered(502)],
    ),
    fault(
        "close mid answer",
        Act::Hostile("/close-mid-answer"),
        &[Cut],
    ),
    fault("stall", Act::Hostile("/stall"), &[Answered(504)]),
    fault(
        "stall mid answer",
        Act::Hostile("/stall-mid-answer"),
        &[Cut],
    ),
    fault(
        "garbage for an answer",
        Act::Hostile("/garbage"),
        &[Answered(502), Answered(504)],
    ),
    fault(
        "garbage in a head",
        Act::Hostile("/garbage-head"),
        &[Answered(502)],
    ),
    fault(
        "two lengths",
        Act::Hostile("/two-lengths"),
        &[Answered(502)],
    ),
    fault(
        "length and coding",
        Act::Hostile("/length-and-coding"),
        &[Answered(502)],
    ),
    fault(
        "bad chunk of a server",
        Act::Hostile("/bad-chunk"),
        &[Cut, Closed, Answered(502)],
    ),
    fault(
        "interim forever",
        Act::Hostile("/interim-forever"),
        &[Answered(502)],
    ),
    fault(
        "endless head",
        Act::Hostile("/endless-head"),
        &[Answered(502)],
    ),
    fault(
        "unasked 101",
        Act::Hostile("/unasked-101"),
        &[Answered(502)],
    ),
    fault("more than asked", Act::Hostile("/extra"), &[Answered(200)]),
    fault(
        "answer byte by byte",
        Act::Hostile("/bytewise"),
        &[Answered(200)],
    ),
    fault(
        "senseless challenge",
        Act::Hostile("/challenge"),
        &[Answered(401)],
    ),
    fault(
        "reset mid upload",
        Act::PostHostile("/reset-mid-upload"),
        &[Answered(502)],
    ),
    fault(
        "close mid upload",
        Act::PostHostile("/close-mid-upload"),
        &[Answered(502)],
    ),
    fault(
        "early answer, no reading",
        Act::PostHostile("/early"),
        &[Answered(403)],
    ),
    fault("gone", Act::Gone, &[Answered(200), Answered(502), Cut]),
    fault("one of a group gone", Act::Mixed, &[Answered(200), Cut]),
    fault(
        "login where one is gone",
        Act::MixedLogin,
        &[Answered(200), Answered(401), Answered(502), Closed, Cut],
    ),
];

/// Heads that two readers might read in two ways, each with a request in what one of them takes for a body.
pub(crate) const SMUGGLING: [&str; 12] = [
    "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
    "Content-Length: 0\r\nContent-Length: 44\r\n",
    "Content-Length: 0, 44\r\n",
    "Content-Length: +44\r\n",
    "Content-Length : 44\r\n",
    "Content-Length: 0x2c\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "Transfer-Encoding:\x0bchunked\r\n",
    "X: y\nTransfer-Encoding: chunked\r\n",
    "X: y\r\n Transfer-Encoding: chunked\r\n",
];

/// That request.
pub(crate) const SMUGGLED: &str = "GET /0/smuggled HTTP/1.1\r\nHost: front\r\n\r\n";
