//! One run of a cell: both sides are brought to its stage, byte for byte, and know what each has yet to send.

use std::io;
use std::thread::JoinHandle;

use base64::{Engine, prelude::BASE64_STANDARD};
use ntlm_origin::User;
use ntlm_origin::kerberos;
use ntlm_origin::ntlm::{self, Challenged};
use ntlm_origin::spnego::{Mechanism, Reply, State, Token};

use crate::house::{House, Lane};
use crate::peer::{Head, Peer};
use crate::table::{Side, Stage};

/// Where a body stops when its stage is reached: all of it has come through.
const MARK: &str = "MARK";
/// What is left of such a body then.
pub(crate) const REST: &str = "the rest of the body....";
/// What is before it: enough to be worth a pipe.
const BEFORE: usize = 70_000;

/// Both sides at a stage.
pub(crate) struct Scene<'a> {
    pub(crate) lane: &'a Lane,
    /// Whose run it is, which every request says and every answer repeats.
    pub(crate) name: String,
    user: &'static User,
    pub(crate) client: Peer,
    /// The connection of the exchange, where one was made.
    pub(crate) server: Option<Peer>,
    /// As whom that connection is logged in.
    pub(crate) identity: Option<String>,
    challenged: Option<Challenged>,
    /// What the client has yet to send of its message; if that has no beginning yet, all of it.
    pub(crate) client_rest: Vec<u8>,
    /// What the server has yet to send of its answer.
    pub(crate) server_rest: Vec<u8>,
    pub(crate) request: Request,
    pub(crate) answer: Answer,
    /// An upload that nobody reads, as long as it is tried.
    pub(crate) upload: Option<JoinHandle<io::Result<()>>>,
}

/// How the server knows that it has all of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// It has nothing of it, and all of it is a head.
    Head,
    /// So many bytes are missing.
    Length(usize),
    /// The last chunk is.
    Chunked,
    /// It has.
    There,
}

/// How the client knows that it has all of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It has nothing of it; this status and these bytes come.
    Head(u16),
    /// So many bytes are missing.
    Length(usize),
    /// The last chunk is.
    Chunked,
    /// It is told by the close.
    UntilClose,
    /// These bytes come, without any framing.
    Words,
}

fn field(name: &str, scheme: &str, token: &[u8]) -> String {
    format!("{name}: {scheme} {}\r\n", BASE64_STANDARD.encode(token))
}

fn type3(user: &User, challenged: &Challenged) -> Vec<u8> {
    let User {
        name,
        domain,
        password,
    } = user;
    let answer = ntlm::type3(challenged.message(), name, domain, password);
    answer.expect("a Type 2 of our own").message
}

impl<'a> Scene<'a> {
    /// A client that has connected.
    pub(crate) fn open(
        house: &House,
        lane: &'a Lane,
        hasty: bool,
        name: String,
        user: &'static User,
    ) -> Self {
        Self {
            lane,
            name,
            user,
            client: Peer::connect(house.addr(hasty)),
            server: None,
            identity: None,
            challenged: None,
            client_rest: Vec::new(),
            server_rest: Vec::new(),
            request: Request::There,
            answer: Answer::Head(200),
            upload: None,
        }
    }

    /// The client closes.
    pub(crate) fn leave(&mut self) {
        drop(std::mem::replace(&mut self.client, Peer::of_nobody()));
    }

    /// The target in the lane's location of this kind.
    fn target(&self, kind: char) -> String {
        format!("/{kind}{}/?run={}", self.lane.number, self.name)
    }

    pub(crate) fn get(&self, kind: char, fields: &str) -> String {
        format!(
            "GET {} HTTP/1.1\r\nHost: test\r\n{fields}\r\n",
            self.target(kind)
        )
    }

    fn post(&self, fields: &str) -> String {
        format!(
            "POST {} HTTP/1.1\r\nHost: test\r\n{fields}\r\n",
            self.target('l')
        )
    }

    /// An answer's head for this run: who asked, and as whom the server's connection is logged in.
    pub(crate) fn answer_head(&self, status: u16, fields: &str) -> String {
        let identity = self.identity.as_ref();
        let identity = identity.map_or(String::new(), |name| format!("X-Identity: {name}\r\n"));
        format!(
            "HTTP/1.1 {status} X\r\nX-Run: {}\r\n{identity}{fields}\r\n",
            self.name
        )
    }

    fn whole_answer(&self, status: u16, fields: &str) -> Vec<u8> {
        let fields = format!("{fields}Content-Length: 4\r\n");
        (self.answer_head(status, &fields) + "done").into_bytes()
    }

    /// The client's next request, and the server's answer to it.
    fn ask_next(&mut self, kind: char) {
        self.client_rest = self.get(kind, "").into_bytes();
        self.server_rest = self.whole_answer(200, "");
        (self.request, self.answer) = (Request::Head, Answer::Head(200));
    }

    /// The server's connection: the one it has, or the next one.
    #[track_caller]
    pub(crate) fn server(&mut self) -> &mut Peer {
        let lane = self.lane;
        self.server.get_or_insert_with(|| lane.server.accept())
    }

    /// The next request head at the server, which has to be of this run.
    #[track_caller]
    pub(crate) fn head_at_server(&mut self) -> Head {
        let head = self.server().head();
        assert!(
            head.line().contains(&format!("?run={} ", self.name)),
            "WRONG IDENTITY: {:?} came on the connection of {}",
            head.line(),
            self.name
        );
        head
    }

    /// A head of the answer at the client, which has to be for this run and, if it is the server's, for its identity.
    #[track_caller]
    pub(crate) fn head_at_client(&mut self, identity: Option<&str>) -> Head {
        let head = self.client.head();
        if let Some(run) = head.field("x-run") {
            assert_eq!(run, self.name, "WRONG IDENTITY: another run's answer");
            assert_eq!(head.field("x-identity"), identity, "WRONG IDENTITY");
        }
        head
    }

    /// A request and its whole answer.
    #[track_caller]
    fn exchange(&mut self, request: &str, status: u16, fields: &str) {
        self.client.send(request);
        self.head_at_server();
        let answer = self.whole_answer(status, fields);
        self.server().send(answer);
        let identity = self.identity.clone();
        assert_eq!(self.head_at_client(identity.as_deref()).status(), status);
        assert_eq!(self.client.take(4), b"done");
    }

    /// Begins a login: the first leg is with the server, and what it answers is prepared.
    fn first_leg(&mut self) -> String {
        let type1 = ntlm::type1();
        self.client
            .send(self.get('l', &field("Authorization", "NTLM", &type1)));
        self.head_at_server();
        let challenged = ntlm::challenge(&type1, "EXAMPLE", "LANE").expect("a Type 1");
        let fields = field("WWW-Authenticate", "NTLM", challenged.message());
        self.challenged = Some(challenged);
        fields
    }

    /// The answer to the first leg came through.
    fn challenge(&mut self, fields: &str) {
        let answer = self.whole_answer(401, fields);
        self.server().send(answer);
        assert_eq!(self.head_at_client(None).status(), 401);
        assert_eq!(self.client.take(4), b"done");
    }

    /// The client's last leg, and the server's answer to it, which checks it: as its `Authorization` says.
    fn last_leg(&mut self, wrap: impl Fn(Vec<u8>) -> (&'static str, Vec<u8>)) -> String {
        let challenged = self.challenged.take().expect("a challenge");
        let message = type3(self.user, &challenged);
        let accepted = challenged.authenticate(&message, std::slice::from_ref(self.user));
        self.identity = Some(accepted.expect("the user's proof").identity);
        let (scheme, token) = wrap(message);
        field("Authorization", scheme, &token)
    }

    /// Logs in by NTLM.
    fn log_in(&mut self) {
        let fields = self.first_leg();
        self.challenge(&fields);
        let authorization = self.last_leg(|message| ("NTLM", message));
        let request = self.get('l', &authorization);
        self.exchange(&request, 200, "");
    }

    /// The first two legs of Negotiate after Kerberos; returns what answers the second.
    fn two_legs(&mut self) -> String {
        let init = kerberos::token(&self.user.identity(), 0).encode();
        let chosen = Reply {
            state: Some(State::RequestMic),
            mechanism: Some(Mechanism::Ntlm),
            ..Reply::default()
        };
        let first = self.get('l', &field("Authorization", "Negotiate", &init));
        self.exchange(
            &first,
            401,
            &field("WWW-Authenticate", "Negotiate", &chosen.encode()),
        );
        let type1 = ntlm::type1();
        let second = Reply {
            token: Some(type1.clone()),
            ..Reply::default()
        };
        self.client
            .send(self.get('l', &field("Authorization", "Negotiate", &second.encode())));
        let head = self.head_at_server();
        let (_, token) = head
            .field("authorization")
            .and_then(|value| value.split_once(' '))
            .expect("a token");
        let token = BASE64_STANDARD.decode(token).expect("base64");
        let Some(Token::Reply(Reply {
            token: Some(got), ..
        })) = Token::parse(&token)
        else {
            panic!("no second leg: {head:?}");
        };
        assert_eq!(got, type1, "the leg came as it was sent");
        let challenged = ntlm::challenge(&got, "EXAMPLE", "LANE").expect("a Type 1");
        let third = Reply {
            state: Some(State::Incomplete),
            mechanism: Some(Mechanism::Ntlm),
            token: Some(challenged.message().to_vec()),
            mic: None,
        };
        self.challenged = Some(challenged);
        field("WWW-Authenticate", "Negotiate", &third.encode())
    }

    /// The first half of an upload arrives; the rest of it is `rest`.
    fn upload(&mut self, fields: &str, first: &str, arrives: &str, rest: &str, request: Request) {
        self.client.send(self.post(fields) + first);
        self.head_at_server();
        self.server().until(arrives.as_bytes());
        self.client_rest = rest.as_bytes().to_vec();
        self.server_rest = self.whole_answer(200, "");
        (self.request, self.answer) = (request, Answer::Head(200));
    }

    /// The first part of an answer's body arrives.
    fn download(&mut self, status: u16, fields: &str, answer: Answer) {
        let piece = format!("{}{MARK}", "x".repeat(BEFORE));
        let (framing, body, rest) = match answer {
            Answer::Chunked => (
                "Transfer-Encoding: chunked\r\n".to_owned(),
                format!("{:x}\r\n{piece}", piece.len() + REST.len()),
                format!("{REST}\r\n0\r\n\r\n"),
            ),
            Answer::UntilClose => (String::new(), piece, REST.to_owned()),
            _ => {
                let length = piece.len() + REST.len();
                (
                    format!("Content-Length: {length}\r\n"),
                    piece,
                    REST.to_owned(),
                )
            }
        };
        let head = self.answer_head(status, &(framing + fields));
        self.server().send(head + &body);
        let identity = self.identity.clone();
        assert_eq!(self.head_at_client(identity.as_deref()).status(), status);
        match answer {
            // The front has a chunk of its own for it.
            Answer::Chunked => self.client.until(format!("{MARK}\r\n").as_bytes()),
            _ => self.client.until(MARK.as_bytes()),
        };
        (self.server_rest, self.answer) = (rest.into_bytes(), answer);
    }

    /// Brings both sides to the stage.
    pub(crate) fn reach(&mut self, stage: Stage) {
        let chunked = "Transfer-Encoding: chunked\r\n";
        match stage {
            Stage::Connected => self.ask_next('l'),
            Stage::InHead => {
                self.ask_next('l');
                let rest = self.client_rest.split_off(20);
                let begun = std::mem::replace(&mut self.client_rest, rest);
                self.client.send(begun);
            }
            Stage::Waiting | Stage::LoggedInWaiting => {
                if stage == Stage::LoggedInWaiting {
                    self.log_in();
                }
                self.ask_next('l');
                let request = std::mem::take(&mut self.client_rest);
                self.client.send(request);
                self.head_at_server();
                self.request = Request::There;
            }
            Stage::Upload | Stage::LoggedInUpload => {
                if stage == Stage::LoggedInUpload {
                    self.log_in();
                }
                let rest = "the other half of the body";
                let fields = format!("Content-Length: {}\r\n", 4 + rest.len());
                self.upload(&fields, "some", "some", rest, Request::Length(rest.len()));
            }
            Stage::UploadSize => {
                let (first, rest) = ("4\r\nsome\r\n1", "0\r\n0123456789abcdef\r\n0\r\n\r\n");
                self.upload(chunked, first, "some\r\n", rest, Request::Chunked);
            }
            Stage::UploadData => {
                let (first, rest) = ("10\r\n01234567", "89abcdef\r\n0\r\n\r\n");
                self.upload(chunked, first, "01234567\r\n", rest, Request::Chunked);
            }
            Stage::UploadTrailer => {
                let (first, rest) = ("4\r\nsome\r\n0\r\nX-Tra", "iler: x\r\n\r\n");
                self.upload(chunked, first, "some\r\n", rest, Request::Chunked);
            }
            Stage::AnswerHead => {
                self.reach(Stage::Waiting);
                let rest = self.server_rest.split_off(20);
                let begun = std::mem::replace(&mut self.server_rest, rest);
                self.server().send(begun);
            }
            Stage::Answer | Stage::AnswerChunked | Stage::AnswerUntilClose => {
                self.reach(Stage::Waiting);
                let answer = match stage {
                    Stage::AnswerChunked => Answer::Chunked,
                    Stage::AnswerUntilClose => Answer::UntilClose,
                    _ => Answer::Length(REST.len()),
                };
                self.download(200, "", answer);
            }
            Stage::LoggedInAnswer => {
                self.reach(Stage::LoggedInWaiting);
                self.download(200, "", Answer::Length(REST.len()));
            }
            Stage::Idle => {
                let request = self.get('p', "");
                self.exchange(&request, 200, "");
                self.ask_next('p');
            }
            Stage::Type1 | Stage::ChallengeHead => {
                let fields = self.first_leg();
                self.server_rest = self.whole_answer(401, &fields);
                self.answer = Answer::Head(401);
                if stage == Stage::ChallengeHead {
                    let rest = self.server_rest.split_off(20);
                    let begun = std::mem::replace(&mut self.server_rest, rest);
                    self.server().send(begun);
                }
            }
            Stage::ChallengeBody => {
                let fields = self.first_leg();
                self.download(401, &fields, Answer::Length(REST.len()));
            }
            Stage::BetweenLegs | Stage::Type3 => {
                let fields = self.first_leg();
                self.challenge(&fields);
                let authorization = self.last_leg(|message| ("NTLM", message));
                self.ask_next('l');
                self.client_rest = self.get('l', &authorization).into_bytes();
                if stage == Stage::Type3 {
                    let request = std::mem::take(&mut self.client_rest);
                    self.client.send(request);
                    self.head_at_server();
                    self.request = Request::There;
                }
            }
            Stage::SecondLeg => {
                let fields = self.two_legs();
                self.server_rest = self.whole_answer(401, &fields);
                self.answer = Answer::Head(401);
            }
            Stage::ThirdLegNext => {
                let fields = self.two_legs();
                self.challenge(&fields);
                let authorization = self.last_leg(|message| {
                    let reply = Reply {
                        token: Some(message),
                        ..Reply::default()
                    };
                    ("Negotiate", reply.encode())
                });
                self.ask_next('l');
                self.client_rest = self.get('l', &authorization).into_bytes();
            }
            Stage::LoggedIn => {
                self.log_in();
                self.ask_next('l');
            }
            Stage::Tunnel => {
                self.log_in();
                let fields = "Connection: upgrade\r\nUpgrade: words\r\n";
                self.client.send(self.get('t', fields));
                self.head_at_server();
                let head = self.answer_head(101, fields);
                self.server().send(head);
                let identity = self.identity.clone();
                assert_eq!(self.head_at_client(identity.as_deref()).status(), 101);
                for _ in 0..2 {
                    self.client.send("up");
                    assert_eq!(self.server().take(2), b"up");
                    self.server().send("down");
                    assert_eq!(self.client.take(4), b"down");
                }
                (self.client_rest, self.server_rest) =
                    (b"words up".to_vec(), b"words down".to_vec());
                (self.request, self.answer) = (Request::Length(8), Answer::Words);
            }
        }
    }

    /// What is too much at this stage.
    pub(crate) fn too_much(&self, stage: Stage, side: Side) -> Vec<u8> {
        let junk = "JUNK: that nobody asked for\0\r\n\r\n".repeat(600);
        match (side, stage) {
            (Side::Client, Stage::Connected) => {
                format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(100_000)).into_bytes()
            }
            (Side::Client, Stage::InHead)
            | (Side::Server, Stage::AnswerHead | Stage::ChallengeHead) => {
                let head = match side {
                    Side::Client => &self.client_rest,
                    Side::Server => &self.server_rest,
                };
                let line_end = memchr::memmem::find(head, b"\r\n").expect("a line") + 2;
                let fields = format!("X: {}\r\n", "x".repeat(8_000)).repeat(25);
                [&head[..line_end], fields.as_bytes()].concat()
            }
            (Side::Client, Stage::UploadSize) => format!("0;x={}", "x".repeat(10_000)).into_bytes(),
            (Side::Client, Stage::UploadData) => format!("89abcdef{junk}").into_bytes(),
            (Side::Client, Stage::UploadTrailer) => {
                format!("iler: {}", "x".repeat(20_000)).into_bytes()
            }
            (Side::Client, _) if matches!(self.request, Request::There | Request::Head) => {
                junk.into_bytes()
            }
            (Side::Client, _) => [&self.client_rest[..], junk.as_bytes()].concat(),
            // Asked for nothing: so all of it is too much.
            (Side::Server, _) if self.request == Request::Head => junk.into_bytes(),
            (Side::Server, _) => [&self.server_rest[..], junk.as_bytes()].concat(),
        }
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            let _ = self.client.socket().shutdown(std::net::Shutdown::Both);
            let _ = upload.join();
        }
    }
}
