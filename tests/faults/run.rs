//! One run of a cell: the fault is committed, and what both sides see is compared with what is expected.

use std::io::{self, ErrorKind};
use std::time::Duration;

use ntlm_origin::User;

use crate::house::{House, Lane};
use crate::peer::{Peer, assert_same};
use crate::scene::{Answer, REST, Request, Scene};
use crate::table::{Client, Fault, Server, Side, Stage, Then};

/// More than all buffers on the way hold when nobody reads.
const UNREAD_BYTES: usize = 256 << 20;

/// One cell of the table that can happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) stage: Stage,
    pub(crate) side: Side,
    pub(crate) fault: Fault,
    pub(crate) client: Client,
    pub(crate) server: Server,
}

/// Carries the cell out once, and then has a stranger ask by the same way.
///
/// # Panics
/// Anything is not as expected.
pub(crate) fn run(house: &House, lane: &Lane, cell: &Cell, name: &str, user: &'static User) {
    let hasty = cell.fault == Fault::Stall;
    let mut scene = Scene::open(house, lane, hasty, name.to_owned(), user);
    let unread = hasty && does_not_read(cell);
    if unread {
        stop_reading(&mut scene, cell);
    } else {
        scene.reach(cell.stage);
        commit(&mut scene, cell);
    }
    judge_client(&mut scene, cell, unread);
    judge_server(&mut scene, cell);
    drop(scene);
    stranger(house, lane, name);
}

/// Whether a stall means that what is sent to its side is not read.
fn does_not_read(cell: &Cell) -> bool {
    match cell.side {
        Side::Client => matches!(
            cell.stage,
            Stage::Answer | Stage::AnswerChunked | Stage::AnswerUntilClose | Stage::LoggedInAnswer
        ),
        Side::Server => matches!(cell.stage, Stage::LoggedInUpload),
    }
}

fn commit(scene: &mut Scene<'_>, cell: &Cell) {
    let Cell {
        stage, side, fault, ..
    } = *cell;
    match (fault, side) {
        (Fault::Stall, _) => {}
        (Fault::Close, Side::Client) => scene.leave(),
        (Fault::Close, Side::Server) => scene.server = None,
        (Fault::Reset, Side::Client) => {
            reset_on_close(&scene.client);
            scene.leave();
        }
        (Fault::Reset, Side::Server) => {
            reset_on_close(scene.server());
            scene.server = None;
        }
        (Fault::HalfClose, Side::Client) => scene.client.finish(),
        (Fault::HalfClose, Side::Server) => scene.server().finish(),
        (Fault::ByteByByte, Side::Client) => {
            let bytes = std::mem::take(&mut scene.client_rest);
            let bytes = match bytes.is_empty() {
                false => bytes,
                // Its message is complete: so the next one.
                true => scene.get('l', "X-Next: one\r\n").into_bytes(),
            };
            byte_by_byte(&mut scene.client, &bytes);
        }
        (Fault::TooMuch, Side::Client) => {
            let bytes = scene.too_much(stage, side);
            scene.client_rest.clear();
            // Refused, perhaps before all of it was sent.
            let _ = scene.client.try_send(bytes);
        }
        // When the server has the request.
        (Fault::ByteByByte | Fault::TooMuch, Side::Server) => {}
    }
    if side == Side::Server && owes_a_body(scene.request) && stage != Stage::Tunnel {
        // A front that answers for the server reads the body first.
        let rest = std::mem::take(&mut scene.client_rest);
        let _ = scene.client.try_send(rest);
    }
    if (fault, side) == (Fault::TooMuch, Side::Server) && !is_asked(scene, stage) {
        let bytes = scene.too_much(stage, side);
        scene.server().send(bytes);
    }
}

fn owes_a_body(request: Request) -> bool {
    matches!(request, Request::Length(_) | Request::Chunked)
}

/// Whether an answer is owed; without one all that a server says is unasked.
fn is_asked(scene: &Scene<'_>, stage: Stage) -> bool {
    scene.request != Request::Head && stage != Stage::AnswerHead && stage != Stage::ChallengeHead
}

fn reset_on_close(peer: &Peer) {
    peer.socket()
        .set_linger(Some(Duration::ZERO))
        .expect("SO_LINGER");
}

fn byte_by_byte(peer: &mut Peer, bytes: &[u8]) {
    for byte in bytes {
        peer.send([*byte]);
    }
}

/// A body of which one side sends more than fits anywhere, and the other reads nothing.
fn stop_reading(scene: &mut Scene<'_>, cell: &Cell) {
    match cell.side {
        Side::Client => {
            let _ = scene.client.socket().set_recv_buffer_size(4096);
            let logged_in = cell.stage == Stage::LoggedInAnswer;
            scene.reach(if logged_in {
                Stage::LoggedInWaiting
            } else {
                Stage::Waiting
            });
            let (framing, chunk) = match cell.stage {
                Stage::AnswerChunked => (
                    "Transfer-Encoding: chunked\r\n".to_owned(),
                    format!("{UNREAD_BYTES:x}\r\n"),
                ),
                Stage::AnswerUntilClose => (String::new(), String::new()),
                _ => (format!("Content-Length: {UNREAD_BYTES}\r\n"), String::new()),
            };
            let head = scene.answer_head(200, &framing) + &chunk;
            scene.server().send(head);
            // Until the front has enough of it.
            let refused = send_unread(scene.server());
            assert!(refused.is_err(), "somebody read {UNREAD_BYTES} bytes");
        }
        Side::Server => {
            scene.reach(Stage::LoggedIn);
            let _ = scene.server().socket().set_recv_buffer_size(4096);
            let head = scene
                .get('l', &format!("Content-Length: {UNREAD_BYTES}\r\n"))
                .replace("GET", "POST");
            scene.client.send(head);
            scene.head_at_server();
            let mut sender = scene.client.another();
            // Ends when the front has answered and the connection is closed, below.
            let body = std::thread::spawn(move || send_unread(&mut sender));
            scene.upload = Some(body);
            scene.request = Request::There;
        }
    }
}

fn send_unread(peer: &mut Peer) -> io::Result<()> {
    let piece = vec![b'x'; 1 << 20];
    (0..UNREAD_BYTES >> 20).try_for_each(|_| peer.try_send(&piece))
}

#[track_caller]
fn judge_client(scene: &mut Scene<'_>, cell: &Cell, unread: bool) {
    match cell.client {
        Client::Gone => {}
        // As for a server that does not read, below: the end is behind what was not read.
        Client::End if unread => {}
        Client::End | Client::Broken => {
            let rest = scene.client.try_rest();
            match (&rest, cell.client) {
                (Ok(rest), Client::End) => assert_same(rest, b"", "behind the end"),
                (Err(error), _) if error.kind() == ErrorKind::ConnectionReset => {}
                (Ok(rest), _) => panic!("an end after {} bytes, no reset", rest.len()),
                (Err(error), _) => panic!("no end: {error}"),
            }
        }
        Client::Answer(status, then) => {
            let answer = scene.client.answer();
            assert_eq!(answer.status(), status, "{answer:?}");
            assert_eq!(answer.head.field("x-run"), None, "the front's own answer");
            after(scene, cell, then);
        }
        Client::Whole(then) => {
            conclude(scene, cell);
            after(scene, cell, then);
        }
    }
}

/// The exchange comes to its end.
#[track_caller]
fn conclude(scene: &mut Scene<'_>, cell: &Cell) {
    if cell.server != Server::Gone && cell.stage == Stage::Idle && cell.side == Side::Server {
        // What was pooled is closed, which the client does not notice.
        scene.server().ends();
    }
    let unaware = cell.stage == Stage::Idle && cell.side == Side::Server;
    if unaware {
        return;
    }
    let (stage, side, fault) = (cell.stage, cell.side, cell.fault);
    let by_server = |fault_of_it| side == Side::Server && fault == fault_of_it;
    let ended_already = by_server(Fault::Close) || by_server(Fault::HalfClose);
    // The request.
    let rest = std::mem::take(&mut scene.client_rest);
    if !rest.is_empty() {
        scene.client.send(rest);
    }
    match scene.request {
        Request::There => {}
        Request::Head => {
            scene.head_at_server();
        }
        Request::Length(length) => {
            scene.server().take(length);
        }
        Request::Chunked => {
            scene.server().until(b"0\r\n\r\n");
        }
    }
    // The answer.
    if !ended_already {
        let bytes = match by_server(Fault::TooMuch) {
            true => scene.too_much(stage, side),
            false => std::mem::take(&mut scene.server_rest),
        };
        match by_server(Fault::ByteByByte) {
            true => byte_by_byte(scene.server(), &bytes),
            false => scene.server().send(bytes),
        }
        if scene.answer == Answer::UntilClose {
            scene.server().finish();
        }
    }
    match scene.answer {
        Answer::Head(status) => {
            let identity = scene.identity.clone().filter(|_| status == 200);
            assert_eq!(scene.head_at_client(identity.as_deref()).status(), status);
            assert_eq!(scene.client.take(4), b"done");
        }
        Answer::Length(length) => {
            assert_same(
                &scene.client.take(length),
                REST.as_bytes(),
                "the rest of the body",
            );
        }
        Answer::Chunked => {
            let rest = scene.client.chunked().data;
            assert_same(&rest, REST.as_bytes(), "the rest of the body");
        }
        Answer::UntilClose if ended_already => assert_same(&scene.client.rest(), b"", "the end"),
        Answer::UntilClose => {
            assert_same(
                &scene.client.rest(),
                REST.as_bytes(),
                "the rest of the body",
            );
        }
        Answer::Words => {
            let wanted = b"words down";
            assert_eq!(scene.client.take(wanted.len()), wanted);
        }
    }
    if (fault, side) == (Fault::ByteByByte, Side::Client) && asked_twice(cell) {
        next(scene, cell, false);
    }
}

/// Whether a client that sends byte by byte had nothing left to send but its next request.
fn asked_twice(cell: &Cell) -> bool {
    matches!(
        cell.stage,
        Stage::Waiting
            | Stage::AnswerHead
            | Stage::Answer
            | Stage::AnswerChunked
            | Stage::Type1
            | Stage::ChallengeHead
            | Stage::ChallengeBody
            | Stage::Type3
            | Stage::SecondLeg
            | Stage::LoggedInWaiting
            | Stage::LoggedInAnswer
    )
}

#[track_caller]
fn after(scene: &mut Scene<'_>, cell: &Cell, then: Then) {
    match then {
        Then::Stays if cell.stage == Stage::Tunnel => {}
        Then::Stays => next(scene, cell, true),
        Then::Ends => scene.client.ends(),
        Then::Refused(status) => {
            let answer = scene.client.answer();
            assert_eq!(answer.status(), status, "{answer:?}");
            scene.client.ends();
        }
    }
}

/// The client's next request, already sent or not: on the server's connection if that stays, otherwise on a new one, where
/// nobody is logged in.
#[track_caller]
fn next(scene: &mut Scene<'_>, cell: &Cell, send: bool) {
    if cell.server != Server::Stays {
        if let Some(mut old) = scene.server.take()
            && cell.server == Server::End
        {
            // What it was sent of the request may be unread.
            let _ = old.try_rest();
        }
        scene.identity = None;
    }
    if send {
        let kind = if cell.stage == Stage::Idle { 'p' } else { 'l' };
        let request = scene.get(kind, "");
        scene.client.send(request);
    }
    let head = scene.head_at_server();
    assert_eq!(head.field("authorization"), None, "credentials were kept");
    let answer = scene.answer_head(200, "Content-Length: 4\r\n") + "next";
    scene.server().send(answer);
    let identity = scene.identity.clone();
    assert_eq!(scene.head_at_client(identity.as_deref()).status(), 200);
    assert_eq!(scene.client.take(4), b"next");
}

#[track_caller]
fn judge_server(scene: &mut Scene<'_>, cell: &Cell) {
    match (cell.server, scene.server.as_mut()) {
        (Server::End, Some(server)) => {
            if does_not_read(cell) && cell.fault == Fault::Stall {
                // What is on its way comes through a small window, which takes minutes. That the front has closed its end
                // shows by its sockets.
                return;
            }
            // Unread parts of the request may be there; what counts is the end, which may be a reset.
            if let Err(error) = server.try_rest() {
                let ends = matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                );
                assert!(ends, "not closed: {error}");
            }
        }
        (Server::Stays, Some(server)) => assert_eq!(server.so_far(), "", "more came"),
        (Server::Never, None) | (Server::Gone | Server::End, _) => {}
        other => panic!("no such server: {other:?}"),
    }
    if cell.server == Server::Never {
        scene.lane.server.was_left_alone();
    }
}

/// Somebody else without credentials gets a connection of their own, and an answer for nobody.
#[track_caller]
fn stranger(house: &House, lane: &Lane, name: &str) {
    let mut client = Peer::connect(house.addr(false));
    let target = format!("/l{}/?stranger={name}", lane.number);
    client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
    let mut server = lane.server.accept();
    let head = server.head();
    assert!(
        head.line().contains(&target),
        "WRONG IDENTITY: {:?}",
        head.line()
    );
    assert_eq!(head.field("authorization"), None, "WRONG IDENTITY");
    server.send("HTTP/1.1 200 OK\r\nX-Run: nobody\r\nContent-Length: 0\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.head.field("x-run"), Some("nobody"), "WRONG IDENTITY");
    server.ends();
    lane.server.was_left_alone();
}
