//! hyper as a server and as a client, over bytes in memory.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Version};

use crate::case::{Case, Kind};
use crate::message::{Message, View};

/// What the peer sent, all of it there at once; what is written is lost.
struct Memory {
    bytes: Bytes,
    /// Whether the end follows, or nothing for ever.
    closed: bool,
    /// Nothing is received before something was sent: a client takes no answer that it did not ask for.
    asked: bool,
}

impl Read for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.asked || self.bytes.is_empty() && !self.closed {
            return Poll::Pending;
        }
        let n = self.bytes.len().min(buffer.remaining());
        buffer.put_slice(&self.bytes.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl Write for Memory {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.asked = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Polls of a connection that yields now and then, though its bytes are all there.
const TURNS: usize = 10_000;

/// What hyper sees in a case.
pub(crate) fn read(case: &Case) -> View {
    let bytes = Bytes::copy_from_slice(&case.bytes);
    match &case.kind {
        Kind::Request => requests(bytes),
        Kind::Response { heads } => responses(bytes, heads, case.closed),
    }
}

fn requests(bytes: Bytes) -> View {
    let memory = Memory {
        bytes,
        closed: true,
        asked: true,
    };
    let messages = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let messages = Rc::clone(&messages);
        async move {
            let (head, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                messages.borrow_mut().push(Message {
                    method: head.method.as_str().into(),
                    target: head.uri.to_string().into(),
                    version: version(head.version),
                    body: body.to_bytes().to_vec(),
                });
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .max_headers(400)
        .max_buf_size(1 << 20)
        .half_close(true);
    let mut connection = pin!(builder.serve_connection(memory, service));
    let mut cx = Context::from_waker(Waker::noop());
    let mut error = Some("never ends".to_owned());
    for _ in 0..TURNS {
        if let Poll::Ready(result) = connection.as_mut().poll(&mut cx) {
            error = result.err().map(|error| describe(&error));
            break;
        }
    }
    View {
        messages: messages.take(),
        error,
    }
}

/// A client takes one response; what is behind it is left over, and read by the next one.
fn responses(mut bytes: Bytes, heads: &[bool], closed: bool) -> View {
    let mut view = View::default();
    while !bytes.is_empty() && view.error.is_none() {
        let head = heads.get(view.messages.len()).copied().unwrap_or_default();
        match one_response(bytes, head, closed) {
            Ok((message, rest)) => {
                view.messages.push(message);
                bytes = rest;
            }
            Err(error) => {
                view.error = Some(error);
                break;
            }
        }
    }
    view
}

fn one_response(bytes: Bytes, head: bool, closed: bool) -> Result<(Message, Bytes), String> {
    let memory = Memory {
        bytes,
        closed,
        asked: false,
    };
    let mut cx = Context::from_waker(Waker::noop());
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_headers(400).max_buf_size(1 << 20);
    let Poll::Ready(Ok((mut sender, mut connection))) =
        pin!(builder.handshake::<_, Empty<Bytes>>(memory)).poll(&mut cx)
    else {
        return Err("no handshake".into());
    };
    let request = Request::builder()
        .method(if head { Method::HEAD } else { Method::GET })
        .uri("/")
        .body(Empty::new())
        .expect("a plain request");
    let mut answer = pin!(async move {
        let response = sender.send_request(request).await;
        let (head, body) = response.map_err(|error| describe(&error))?.into_parts();
        let body = body.collect().await.map_err(|error| describe(&error))?;
        Ok::<_, String>(Message {
            method: head.status.as_str().into(),
            target: Vec::new(),
            version: version(head.version),
            body: body.to_bytes().to_vec(),
        })
    });
    let mut over = false;
    for _ in 0..TURNS {
        if let Poll::Ready(answer) = answer.as_mut().poll(&mut cx) {
            let parts = connection.into_parts();
            let mut rest = parts.read_buf.to_vec();
            rest.extend_from_slice(&parts.io.bytes);
            return answer.map(|message| (message, rest.into()));
        }
        // It fails behind the answer where more follows that nobody asked for: that is looked at above.
        over = over || connection.poll_without_shutdown(&mut cx).is_ready();
    }
    Err("incomplete".into())
}

fn version(version: Version) -> Vec<u8> {
    match version {
        Version::HTTP_10 => b"1.0".to_vec(),
        Version::HTTP_11 => b"1.1".to_vec(),
        other => format!("{other:?}").into_bytes(),
    }
}

fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
