//! The table: at every stage, what either side does wrong, and what has to come of it.

use Fault::{ByteByByte, Close, HalfClose, Reset, Stall, TooMuch};

/// Where in a connection's life it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing was sent.
    Connected,
    /// A part of the request head was.
    InHead,
    /// The request is with the server.
    Waiting,
    /// The request's body, of a known length.
    Upload,
    /// A chunked one, within a chunk's size line.
    UploadSize,
    /// Within a chunk.
    UploadData,
    /// Within the trailer.
    UploadTrailer,
    /// A part of the response head is there.
    AnswerHead,
    /// The response's body, of a known length.
    Answer,
    /// A chunked one.
    AnswerChunked,
    /// One that ends with its connection.
    AnswerUntilClose,
    /// Between two requests without a login; the server's connection is in the pool.
    Idle,
    /// Type 1 is with the server.
    Type1,
    /// A part of the head of its 401 is there.
    ChallengeHead,
    /// A part of the body of its 401.
    ChallengeBody,
    /// The 401 was answered, Type 3 is next.
    BetweenLegs,
    /// Type 3 is with the server.
    Type3,
    /// Negotiate, Kerberos declined: the second leg is with the server.
    SecondLeg,
    /// The third of its legs is next.
    ThirdLegNext,
    /// Logged in, between two requests.
    LoggedIn,
    /// Logged in, a request is with the server.
    LoggedInWaiting,
    /// Logged in, within a request's body.
    LoggedInUpload,
    /// Logged in, within a response's body.
    LoggedInAnswer,
    /// After a 101.
    Tunnel,
}

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Closes.
    Close,
    /// Closes by a reset.
    Reset,
    /// Sends the end of its stream and goes on reading.
    HalfClose,
    /// Does nothing any more: neither sends nor, within a body, receives.
    Stall,
    /// Sends what is left of its message, or its next one, a byte at a time.
    ByteByByte,
    /// Sends more than its message has, or larger ones than are allowed.
    TooMuch,
}

/// All of them, in the order of the columns.
pub(crate) const FAULTS: [Fault; 6] = [Close, Reset, HalfClose, Stall, ByteByByte, TooMuch];

/// What becomes of the client's connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The next request on it is answered.
    Stays,
    /// It is closed.
    Ends,
    /// What came behind the request is refused with this status, and the connection closed.
    Refused(u16),
}

/// What the client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// Nothing: it is gone.
    Gone,
    /// Its connection is closed without another byte.
    End,
    /// Its connection is reset, because an end would look like that of the body.
    Broken,
    /// An answer of the front's own.
    Answer(u16, Then),
    /// The server's whole answer.
    Whole(Then),
}

/// What the server sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// Nothing: it is gone.
    Gone,
    /// Nobody has connected.
    Never,
    /// Its connection is closed.
    End,
    /// The client's next request comes by the same connection.
    Stays,
}

/// What has to come of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Expect(Client, Server),
    /// It cannot happen, or is no fault.
    None(&'static str),
}

/// A stage with its cells, as [`FAULTS`] orders them.
pub(crate) struct Row {
    pub(crate) stage: Stage,
    pub(crate) what: &'static str,
    pub(crate) client: [Cell; 6],
    pub(crate) server: [Cell; 6],
}

const fn is(client: Client, server: Server) -> Cell {
    Cell::Expect(client, server)
}

const LEFT: Cell = is(Client::Gone, Server::End);
const BOTH_END: Cell = is(Client::End, Server::End);
const SERVER_LEFT: Cell = is(Client::End, Server::Gone);
const ALONE: Cell = Cell::None("no connection to a server yet");
const PATIENT: Cell =
    Cell::None("it has nothing to send and little to read: waiting is all it does");
const IDLE_SERVER: Cell = Cell::None("a server that is not asked has nothing to say");
const SMALL: Cell = Cell::None("too little to fill the buffers of the kernel");

const fn own(status: u16, then: Then) -> Client {
    Client::Answer(status, then)
}

const WHOLE: Client = Client::Whole(Then::Stays);
const WHOLE_END: Client = Client::Whole(Then::Ends);
const WHOLE_400: Client = Client::Whole(Then::Refused(400));

/// Without a login: the server's connection is closed after the answer.
const WORKS: Cell = is(WHOLE, Server::End);
/// With one: it stays.
const PIN_WORKS: Cell = is(WHOLE, Server::Stays);

const fn leaving(half_close: Cell, stall: Cell, byte_by_byte: Cell, too_much: Cell) -> [Cell; 6] {
    [LEFT, LEFT, half_close, stall, byte_by_byte, too_much]
}

/// A server that goes before an answer began, is silent, or says too much.
const fn failing(gone: Client, silent: Client, works: Cell, too_much: Client) -> [Cell; 6] {
    let left = is(gone, Server::Gone);
    [
        left,
        left,
        is(gone, Server::End),
        is(silent, Server::End),
        works,
        is(too_much, Server::End),
    ]
}

const NO_SERVER: [Cell; 6] = [ALONE; 6];

/// The upload's other half is read before the front answers for a server that is gone.
const BAD_GATEWAY: Client = own(502, Then::Stays);
const TOO_LATE: Client = own(504, Then::Stays);

pub(crate) const TABLE: [Row; 24] = [
    Row {
        stage: Stage::Connected,
        what: "connected, nothing sent",
        client: [
            is(Client::Gone, Server::Never),
            is(Client::Gone, Server::Never),
            is(Client::End, Server::Never),
            is(Client::End, Server::Never),
            WORKS,
            is(own(431, Then::Ends), Server::Never),
        ],
        server: NO_SERVER,
    },
    Row {
        stage: Stage::InHead,
        what: "in the request head",
        client: [
            is(Client::Gone, Server::Never),
            is(Client::Gone, Server::Never),
            is(Client::End, Server::Never),
            is(own(408, Then::Ends), Server::Never),
            WORKS,
            is(own(431, Then::Ends), Server::Never),
        ],
        server: NO_SERVER,
    },
    Row {
        stage: Stage::Waiting,
        what: "head sent, no answer yet",
        client: leaving(BOTH_END, PATIENT, WORKS, is(WHOLE_400, Server::End)),
        server: failing(BAD_GATEWAY, TOO_LATE, WORKS, WHOLE),
    },
    Row {
        stage: Stage::Upload,
        what: "in the request body, by length",
        client: leaving(
            BOTH_END,
            is(own(408, Then::Ends), Server::End),
            WORKS,
            is(WHOLE_400, Server::End),
        ),
        server: failing(BAD_GATEWAY, TOO_LATE, WORKS, WHOLE),
    },
    Row {
        stage: Stage::UploadSize,
        what: "in a chunk's size line of it",
        client: leaving(
            BOTH_END,
            is(own(408, Then::Ends), Server::End),
            WORKS,
            is(own(400, Then::Ends), Server::End),
        ),
        server: failing(BAD_GATEWAY, TOO_LATE, WORKS, WHOLE),
    },
    Row {
        stage: Stage::UploadData,
        what: "in a chunk of it",
        client: leaving(
            BOTH_END,
            is(own(408, Then::Ends), Server::End),
            WORKS,
            is(own(400, Then::Ends), Server::End),
        ),
        server: failing(BAD_GATEWAY, TOO_LATE, WORKS, WHOLE),
    },
    Row {
        stage: Stage::UploadTrailer,
        what: "in its trailer",
        client: leaving(
            BOTH_END,
            is(own(408, Then::Ends), Server::End),
            WORKS,
            is(own(431, Then::Ends), Server::End),
        ),
        server: failing(BAD_GATEWAY, TOO_LATE, WORKS, WHOLE),
    },
    Row {
        stage: Stage::AnswerHead,
        what: "in the response head",
        client: leaving(BOTH_END, PATIENT, WORKS, is(WHOLE_400, Server::End)),
        server: failing(BAD_GATEWAY, TOO_LATE, WORKS, BAD_GATEWAY),
    },
    Row {
        stage: Stage::Answer,
        what: "in the response body, by length",
        client: leaving(BOTH_END, BOTH_END, WORKS, is(WHOLE_400, Server::End)),
        server: failing(Client::End, Client::End, WORKS, WHOLE),
    },
    Row {
        stage: Stage::AnswerChunked,
        what: "in a chunk of it",
        client: leaving(BOTH_END, BOTH_END, WORKS, is(WHOLE_400, Server::End)),
        server: failing(Client::End, Client::End, WORKS, WHOLE),
    },
    Row {
        stage: Stage::AnswerUntilClose,
        what: "in one that lasts until the close",
        client: leaving(
            BOTH_END,
            is(Client::Broken, Server::End),
            is(WHOLE_END, Server::End),
            is(WHOLE_END, Server::End),
        ),
        server: [
            // That is how it ends.
            is(WHOLE_END, Server::Gone),
            is(Client::Broken, Server::Gone),
            is(WHOLE_END, Server::End),
            is(Client::Broken, Server::End),
            is(WHOLE_END, Server::End),
            Cell::None("whatever comes belongs to the body"),
        ],
    },
    Row {
        stage: Stage::Idle,
        what: "idle, the server's connection pooled",
        client: leaving(
            BOTH_END,
            BOTH_END,
            PIN_WORKS,
            is(own(400, Then::Ends), Server::End),
        ),
        server: [
            is(WHOLE, Server::Gone),
            is(WHOLE, Server::Gone),
            is(WHOLE, Server::End),
            IDLE_SERVER,
            IDLE_SERVER,
            is(WHOLE, Server::End),
        ],
    },
    Row {
        stage: Stage::Type1,
        what: "Type 1 sent, no answer yet",
        client: leaving(BOTH_END, PATIENT, PIN_WORKS, is(WHOLE_400, Server::End)),
        server: failing(BAD_GATEWAY, TOO_LATE, PIN_WORKS, WHOLE_END),
    },
    Row {
        stage: Stage::ChallengeHead,
        what: "in the head of its 401",
        client: leaving(BOTH_END, PATIENT, PIN_WORKS, is(WHOLE_400, Server::End)),
        server: failing(BAD_GATEWAY, TOO_LATE, PIN_WORKS, BAD_GATEWAY),
    },
    Row {
        stage: Stage::ChallengeBody,
        what: "in the body of its 401",
        client: leaving(BOTH_END, SMALL, PIN_WORKS, is(WHOLE_400, Server::End)),
        server: failing(Client::End, Client::End, PIN_WORKS, WHOLE_END),
    },
    Row {
        stage: Stage::BetweenLegs,
        what: "between the legs",
        client: leaving(
            BOTH_END,
            BOTH_END,
            PIN_WORKS,
            is(own(400, Then::Ends), Server::End),
        ),
        server: [
            SERVER_LEFT,
            SERVER_LEFT,
            BOTH_END,
            IDLE_SERVER,
            IDLE_SERVER,
            BOTH_END,
        ],
    },
    Row {
        stage: Stage::Type3,
        what: "Type 3 sent, no answer yet",
        client: leaving(BOTH_END, PATIENT, PIN_WORKS, is(WHOLE_400, Server::End)),
        server: failing(Client::End, TOO_LATE, PIN_WORKS, WHOLE_END),
    },
    Row {
        stage: Stage::SecondLeg,
        what: "second leg of three sent, no answer yet",
        client: leaving(BOTH_END, PATIENT, PIN_WORKS, is(WHOLE_400, Server::End)),
        server: failing(Client::End, TOO_LATE, PIN_WORKS, WHOLE_END),
    },
    Row {
        stage: Stage::ThirdLegNext,
        what: "before the third leg of three",
        client: leaving(
            BOTH_END,
            BOTH_END,
            PIN_WORKS,
            is(own(400, Then::Ends), Server::End),
        ),
        server: [
            SERVER_LEFT,
            SERVER_LEFT,
            BOTH_END,
            IDLE_SERVER,
            IDLE_SERVER,
            BOTH_END,
        ],
    },
    Row {
        stage: Stage::LoggedIn,
        what: "logged in, idle",
        client: leaving(
            BOTH_END,
            BOTH_END,
            PIN_WORKS,
            is(own(400, Then::Ends), Server::End),
        ),
        server: [
            SERVER_LEFT,
            SERVER_LEFT,
            BOTH_END,
            IDLE_SERVER,
            IDLE_SERVER,
            BOTH_END,
        ],
    },
    Row {
        stage: Stage::LoggedInWaiting,
        what: "logged in, no answer yet",
        client: leaving(BOTH_END, PATIENT, PIN_WORKS, is(WHOLE_400, Server::End)),
        server: failing(Client::End, own(504, Then::Ends), PIN_WORKS, WHOLE_END),
    },
    Row {
        stage: Stage::LoggedInUpload,
        what: "logged in, in the request body",
        client: leaving(
            BOTH_END,
            is(own(408, Then::Ends), Server::End),
            PIN_WORKS,
            is(WHOLE_400, Server::End),
        ),
        server: failing(Client::End, own(504, Then::Ends), PIN_WORKS, WHOLE_END),
    },
    Row {
        stage: Stage::LoggedInAnswer,
        what: "logged in, in the response body",
        client: leaving(BOTH_END, BOTH_END, PIN_WORKS, is(WHOLE_400, Server::End)),
        server: failing(Client::End, Client::End, PIN_WORKS, WHOLE_END),
    },
    Row {
        stage: Stage::Tunnel,
        what: "in a tunnel",
        client: [
            LEFT,
            LEFT,
            BOTH_END,
            BOTH_END,
            PIN_WORKS,
            Cell::None("a tunnel's messages have no end"),
        ],
        server: [
            SERVER_LEFT,
            SERVER_LEFT,
            BOTH_END,
            Cell::None("the client's cell: both are silent"),
            PIN_WORKS,
            Cell::None("a tunnel's messages have no end"),
        ],
    },
];
