//! The front's own answers.

use std::time::Duration;

use crate::config::model::{Location, Return};
use crate::http::answer::{page, reason, wire_status};
use crate::http::body::Event;
use crate::http::head::Framing;
use crate::http::refusal::Refusal;
use crate::http::request::Method;
use crate::net::{SCRATCH_BYTES, now};

use super::client::Client;
use super::fields;
use super::request::Request;
use super::slot::{Phase, Timer};
use super::worker::Settings;

/// Body bytes of a request that are read and thrown away so that its connection can go on.
const DISCARD_MAX: u64 = 1 << 20;

/// How long a closing connection is read from, in all and between two pieces, so that the answer arrives (as nginx's
/// `lingering_time` and `lingering_timeout`).
const LINGER: Duration = Duration::from_secs(30);
const LINGER_QUIET: Duration = Duration::from_secs(5);

/// The body of an answer of the front's own.
pub(super) enum Body<'a> {
    /// nginx's page for the status.
    Page,
    /// `text/plain` and the like.
    Text(&'a str, &'a [u8]),
    /// The same with fields of its own, each of them a line.
    With(&'a str, &'a str, &'a [u8]),
    /// No body, and a `Location`.
    Redirect(&'a [u8]),
}

impl Client {
    /// Answers with `status`. False if the connection cannot go on.
    pub(super) async fn answer(
        &mut self,
        settings: &Settings,
        location: &Location,
        request: &mut Request,
        status: u16,
        body: Body<'_>,
        keep: bool,
    ) -> bool {
        // nginx's own statuses have pages of their own, and go out and into the log as 400.
        let (shown, status) = (status, wire_status(status));
        let mut content = Vec::new();
        let (mut content_type, mut own_fields) = ("text/html", "");
        match &body {
            Body::Page | Body::Redirect(_) => {
                page(shown, fields::server_word(&location.client), &mut content)
            }
            Body::Text(kind, text) => {
                content_type = kind;
                content.extend_from_slice(text);
            }
            Body::With(kind, fields, text) => {
                (content_type, own_fields) = (kind, fields);
                content.extend_from_slice(text);
            }
        }
        let keep = keep && self.discard_body(settings, request, location).await;
        let mut head = Vec::with_capacity(512);
        head.extend_from_slice(format!("HTTP/1.1 {status} {}\r\n", reason(status)).as_bytes());
        fields::write_common(&mut head, location, &OWN);
        if !matches!(status, 204 | 304) {
            let len = content.len();
            head.extend_from_slice(
                format!("Content-Type: {content_type}\r\nContent-Length: {len}\r\n").as_bytes(),
            );
        }
        head.extend_from_slice(own_fields.as_bytes());
        fields::write_connection(&mut head, &request.head, &location.client, keep);
        if let Body::Redirect(to) = body
            && fields::is_clean(to)
        {
            head.extend_from_slice(b"Location: ");
            head.extend_from_slice(to);
            head.extend_from_slice(b"\r\n");
        }
        fields::write_added(
            &mut head,
            &location.add_headers,
            status,
            &self.seen(settings).view(request),
        );
        head.extend_from_slice(b"\r\n");
        let head_len = head.len();
        if request.head.method_kind != Method::Head && !matches!(status, 204 | 304) {
            head.extend_from_slice(&content);
        }
        request.status = status;
        let end = self
            .seen(settings)
            .end(Timer::ClientWrite, location.client.send_timeout);
        let sent = end.send(&head).await.is_ok();
        // `$sent_http_NAME` looks at the rewritten head.
        let response = request.response.get_or_insert_default();
        response.reset();
        let own = &head[..head_len];
        response.rewrite.own(|lines| lines.extend_from_slice(own));
        response.written = true;
        if sent {
            request.sent.set(head.len() as u64);
            request.body_sent.set((head.len() - head_len) as u64);
        }
        sent && keep
    }

    /// Carries out a `return`. False if the connection cannot go on.
    pub(super) async fn answer_return(
        &mut self,
        settings: &Settings,
        location: &Location,
        request: &mut Request,
        returned: &Return,
        keep: bool,
    ) -> bool {
        if returned.status == 444 {
            request.status = 444;
            self.socket.reset_on_close();
            return false;
        }
        let mut text = Vec::new();
        if let Some(template) = &returned.text {
            template.render(&self.seen(settings).view(request), &mut text);
        }
        let body = match (&returned.text, returned.status) {
            (None, _) => Body::Page,
            (Some(_), 301 | 302 | 303 | 307 | 308) => {
                // A path becomes a whole URL, as nginx makes it (`absolute_redirect on`).
                if text.starts_with(b"/") && !request.head.host.is_empty() {
                    let host = request.head.host.of(&request.bytes);
                    text = [self.seen(settings).scheme(), b"://", host, &text].concat();
                }
                Body::Redirect(&text)
            }
            (Some(_), _) => Body::Text(&location.client.default_type, &text),
        };
        self.answer(settings, location, request, returned.status, body, keep)
            .await
    }

    /// Reads the rest of the request's body and throws it away. False if that is not worth it, or fails.
    async fn discard_body(
        &mut self,
        settings: &Settings,
        request: &Request,
        location: &Location,
    ) -> bool {
        let mut reader = request.body.clone();
        if request.head.expect_continue
            || matches!(request.head.framing, Framing::Length(n) if n > DISCARD_MAX)
        {
            return reader.is_done();
        }
        let (mut done, mut discarded) = (0, 0);
        loop {
            let step = match reader.next(&self.buffered[done..]) {
                Ok(step) => step,
                // Where in its body the request is nobody knows any more: not the client's fault.
                Err(Refusal::BodyCutShort) => return false,
                Err(refusal) => {
                    self.seen(settings).note_refusal(request, refusal);
                    return false;
                }
            };
            done += step.consumed;
            match step.event {
                Event::End => {
                    self.buffered.drain(..done);
                    return true;
                }
                Event::More => {
                    discarded += done as u64;
                    self.buffered.drain(..done);
                    done = 0;
                    if discarded > DISCARD_MAX
                        || !self.receive_more(location.client.body_timeout).await
                    {
                        return false;
                    }
                }
                Event::Data(_) | Event::Chunk(_) | Event::ChunkEnd => {}
            }
        }
    }

    /// Appends what comes next to `buffered`. False at the end, on an error, or when nothing comes.
    pub(super) async fn receive_more(&mut self, timeout: Duration) -> bool {
        loop {
            let wait = self.slot.timed(Timer::ClientRead, timeout, |cx| {
                self.socket.poll_readable(cx)
            });
            if wait.await.is_err() {
                return false;
            }
            match self.socket.try_recv(SCRATCH_BYTES) {
                Ok(Some(loan)) if loan.is_empty() => return false,
                Ok(Some(loan)) => {
                    self.buffered.extend_from_slice(&loan);
                    return true;
                }
                Ok(None) => {}
                Err(_) => return false,
            }
        }
    }

    /// Says that the answer is over and reads on for a while: closing with unread bytes would be a reset, which may overtake
    /// the answer.
    pub(super) async fn linger(&mut self) {
        self.socket.finish();
        self.buffered = Vec::new();
        self.slot.phase.set(Phase::Lingering);
        let began = now();
        loop {
            let left = self.slot.patience(LINGER).saturating_sub(now() - began);
            if left.is_zero() || !self.receive_more(left.min(LINGER_QUIET)).await {
                return;
            }
            self.buffered.clear();
        }
    }
}

/// Fields that are the front's in its own answers, named as [`fields::write_common`] wants them.
const OWN: [&str; 2] = ["server", "date"];
