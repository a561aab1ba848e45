//! Moves bodies: small ones copied through the scratch buffer, large ones spliced in the kernel.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};
use std::time::Duration;

use smallvec::SmallVec;

use crate::http::body::{BodyReader, CHUNK_HEADER_MAX, Event, chunk_header};
use crate::http::refusal::Refusal;
use crate::http::rewrite::Slices;
use crate::net::{Peek, Pipe, SCRATCH_BYTES, give_way, turn_bytes};
use crate::tls::Stream;

use super::slot::{Slot, Timer};

/// Body bytes that are known to come without framing between them are spliced from this many on, in bytes.
const SPLICE_MIN: u64 = 32 << 10;

/// Where a head is expected, or the size of the next large chunk, no more than this is received at once: what is received is
/// copied, and the body behind it may be worth a pipe.
pub(super) const HEAD_BYTES: usize = 16 << 10;

/// What goes out in records is received by so much at once, in bytes: three full records fit the 64 KiB that the kernel sends as one
/// segment. A fourth would have its end sent alone, for which a paced connection waits for a timer.
const RECORDS_BYTES: usize = 48 << 10;

/// What a call counts for that moves fewer bytes, so that small pieces fill a turn, too.
const CALL_BYTES: usize = 8 << 10;

/// Pieces of data sent by one call.
const BATCH: usize = 16;

/// Why a body did not get through.
#[derive(Debug)]
pub(super) enum RelayError {
    /// The source closed before the end of the body.
    CutShort,
    /// The source failed.
    Source(io::Error),
    /// The source sent nothing for too long.
    SourceTimedOut,
    /// The source's framing breaks a rule.
    Refused(Refusal),
    /// The body is larger than allowed.
    TooLarge,
    /// The receiver is gone.
    Sink(io::Error),
    /// The receiver took nothing for too long.
    SinkTimedOut,
}

/// One connection's part in a relay: the socket, and how long a wait for it may take.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) socket: &'a Stream,
    pub(super) slot: &'a Slot,
    pub(super) timer: Timer,
    pub(super) timeout: Duration,
    /// Once this is true, nothing more is expected of it: its hang-up ends every wait for it, and those for its source.
    pub(super) watched: Option<&'a Cell<bool>>,
    /// Where what it takes comes from: a reset there ends every wait for this end.
    pub(super) source: Option<&'a Stream>,
}

impl End<'_> {
    /// Sends all of `bytes`, waiting as often as it takes.
    pub(super) async fn send(&self, mut bytes: &[u8]) -> Result<(), RelayError> {
        while !bytes.is_empty() {
            let sent = self
                .socket
                .try_send(&[IoSlice::new(bytes)], false)
                .map_err(RelayError::Sink)?;
            bytes = &bytes[sent..];
            if !bytes.is_empty() {
                self.writable().await?;
            }
        }
        Ok(())
    }

    /// Sends as much of `slices` as the socket takes now; with `more`, others follow at once. What is left is returned as a copy,
    /// so that the caller can give the slices' buffers back before it waits.
    pub(super) fn begin_send(
        &self,
        slices: &[IoSlice<'_>],
        more: bool,
    ) -> Result<Vec<u8>, RelayError> {
        let mut sent = self
            .socket
            .try_send(slices, more)
            .map_err(RelayError::Sink)?;
        let mut left = Vec::new();
        for slice in slices {
            let skip = sent.min(slice.len());
            sent -= skip;
            left.extend_from_slice(&slice[skip..]);
        }
        Ok(left)
    }

    async fn writable(&self) -> Result<(), RelayError> {
        let wait = self.slot.timed(self.timer, self.timeout, |cx| {
            if self.poll_left(cx).is_ready() {
                return Poll::Ready(Err(RelayError::Sink(io::ErrorKind::ConnectionReset.into())));
            }
            if let Some(source) = self.source
                && source.poll_hung_up(cx).is_ready()
                && source.is_reset()
            {
                return Poll::Ready(Err(RelayError::Source(
                    io::ErrorKind::ConnectionReset.into(),
                )));
            }
            self.socket.poll_writable(cx).map(Ok)
        });
        wait.await.map_err(|_| RelayError::SinkTimedOut)?
    }

    /// Ready when it is watched and has hung up.
    fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.watched {
            Some(watched) if watched.get() => self.socket.poll_gone(cx),
            _ => Poll::Pending,
        }
    }
}

/// One body on its way from one connection to another.
pub(super) struct Relay<'a> {
    pub(super) from: End<'a>,
    pub(super) to: End<'a>,
    pub(super) reader: BodyReader,
    /// The body goes out in chunks of our own framing.
    pub(super) chunked: bool,
    /// Most body bytes that may pass.
    pub(super) max_bytes: u64,
    /// Body bytes that went out, framing not counted.
    pub(super) moved: &'a Cell<u64>,
    /// Bytes that went out, framing counted.
    pub(super) sent: &'a Cell<u64>,
    /// What comes next, taken from the source already, so that the bytes before it need not go out by themselves. If the body
    /// goes out in chunks, it is the rest of the one that they began.
    pub(super) ahead: Ahead,
}

/// What was taken from a source before its turn: data in a pipe, or the error that it met, which the kernel tells once.
pub(super) type Ahead = Option<io::Result<Pipe>>;

/// The data found in one piece of input, and what surrounds it.
struct Batch {
    data: SmallVec<[(usize, usize); BATCH]>,
    len: usize,
    consumed: usize,
    starved: bool,
}

impl Relay<'_> {
    /// Whether all of the body went to the receiver.
    pub(super) fn is_done(&self) -> bool {
        self.reader.is_done() && self.ahead.is_none()
    }

    /// Moves the whole body. `pending` holds bytes of the source that were received already; at the end, those that are behind
    /// the body.
    pub(super) async fn run(&mut self, pending: &mut Vec<u8>) -> Result<(), RelayError> {
        let mut turn = 0;
        let mut starved = pending.is_empty();
        let mut spliced = false;
        // The last splice brought nothing of a source that was ready.
        let mut unspliceable = false;
        while !self.is_done() {
            if let Some(ahead) = self.ahead.take() {
                self.splice(ahead.map_err(RelayError::Source)?, true)
                    .await?;
                spliced = true;
                continue;
            }
            if turn >= turn_bytes() {
                turn = 0;
                give_way().await;
            }
            if !starved {
                let (consumed, needs_more, left) = self.forward(pending, &[])?;
                pending.drain(..consumed);
                starved = needs_more;
                turn += consumed.max(CALL_BYTES);
                self.to.send(&left).await?;
                continue;
            }
            // Before an urgent byte a splice brings nothing for ever; a receive skips the byte.
            let splices = pending.is_empty() && self.splices(0) && !unspliceable;
            self.source(if splices {
                Stream::poll_spliceable
            } else {
                Stream::poll_readable
            })
            .await?;
            if splices && let Ok(pipe) = Pipe::take() {
                let before = self.moved.get();
                self.splice(pipe, false).await?;
                unspliceable = self.moved.get() == before;
                spliced = true;
                continue;
            }
            unspliceable = false;
            // Between large chunks: little more than the size of the next one.
            let most = match self.reader.data_left() {
                Some(0) if spliced => HEAD_BYTES,
                _ if self.to.socket.is_tls() => RECORDS_BYTES,
                _ => SCRATCH_BYTES,
            };
            spliced = false;
            let received = self.from.socket.try_recv(most);
            let Some(loan) = received.map_err(RelayError::Source)? else {
                continue;
            };
            if loan.is_empty() {
                self.reader.closed().map_err(|_| RelayError::CutShort)?;
                return Ok(());
            }
            turn += loan.len().max(CALL_BYTES);
            if pending.is_empty() {
                let (consumed, needs_more, left) = self.forward(&loan, &[])?;
                pending.extend_from_slice(&loan[consumed..]);
                starved = needs_more;
                drop(loan);
                self.to.send(&left).await?;
            } else {
                pending.extend_from_slice(&loan);
                starved = false;
            }
        }
        if pending.is_empty() {
            // Its allocation is not carried through the connection's idle time.
            *pending = Vec::new();
        }
        Ok(())
    }

    /// Sends `before` and the body bytes at the beginning of `input` by one call. Returns how many bytes of `input` are done
    /// with, whether more input is needed to go on, and what the socket did not take.
    pub(super) fn forward(
        &mut self,
        input: &[u8],
        before: &[IoSlice<'_>],
    ) -> Result<(usize, bool, Vec<u8>), RelayError> {
        let batch = self.batch(input)?;
        if batch.starved {
            self.look_ahead(batch.len as u64);
        }
        let mut header = [0; CHUNK_HEADER_MAX];
        let mut slices: Slices<'_> = before.iter().map(|slice| IoSlice::new(slice)).collect();
        let ahead = match &self.ahead {
            Some(Ok(pipe)) => pipe.held(),
            _ => 0,
        };
        if batch.len + ahead > 0 {
            if self.chunked {
                let n = chunk_header((batch.len + ahead) as u64, &mut header);
                slices.push(IoSlice::new(&header[..n]));
            }
            slices.extend(
                batch
                    .data
                    .iter()
                    .map(|&(start, end)| IoSlice::new(&input[start..end])),
            );
            if self.chunked && ahead == 0 {
                slices.push(IoSlice::new(b"\r\n"));
            }
        }
        if self.chunked && self.reader.is_done() {
            slices.push(IoSlice::new(b"0\r\n\r\n"));
        }
        let left = if slices.is_empty() {
            Vec::new()
        } else {
            // What was read of the input, and perhaps more that is in a pipe, is lost with the receiver: what follows it may not
            // be taken for anything.
            let begun = self.to.begin_send(&slices, ahead > 0);
            begun.inspect_err(|_| self.reader.give_up())?
        };
        self.count(
            batch.len as u64,
            slices.iter().map(|slice| slice.len() as u64).sum(),
        );
        Ok((batch.consumed, batch.starved, left))
    }

    /// Reads as much of `input` as one call can carry.
    fn batch(&mut self, input: &[u8]) -> Result<Batch, RelayError> {
        let mut batch = Batch {
            data: SmallVec::new(),
            len: 0,
            consumed: 0,
            starved: false,
        };
        while batch.data.len() < BATCH {
            let step = self
                .reader
                .next(&input[batch.consumed..])
                .map_err(RelayError::Refused)?;
            let start = batch.consumed;
            batch.consumed += step.consumed;
            match step.event {
                Event::Data(n) => {
                    batch.data.push((start, start + n));
                    batch.len += n;
                }
                Event::Chunk(_) | Event::ChunkEnd => {}
                Event::More => {
                    batch.starved = true;
                    break;
                }
                Event::End => break,
            }
        }
        if self.moved.get() + batch.len as u64 > self.max_bytes {
            return Err(RelayError::TooLarge);
        }
        Ok(batch)
    }

    fn count(&self, body: u64, all: u64) {
        self.moved.set(self.moved.get() + body);
        self.sent.set(self.sent.get() + all);
    }

    /// Whether the kernel can move the bytes by itself: nothing has to be encrypted.
    fn is_plain(&self) -> bool {
        !self.from.socket.is_tls() && !self.to.socket.is_tls()
    }

    /// Whether what comes next is worth a pipe, when `unsent` bytes before it have not been counted yet.
    fn splices(&self, unsent: u64) -> bool {
        self.is_plain()
            && self.reader.data_left().is_some_and(|left| {
                left >= SPLICE_MIN && self.moved.get() + unsent + left <= self.max_bytes
            })
    }

    /// Takes what the source holds behind the bytes that are about to be sent, if that is worth a pipe. A body that ends with
    /// its connection is spliced as long as more of it is there than one receive brings.
    fn look_ahead(&mut self, unsent: u64) {
        let until_close = self.reader.data_left().is_none();
        if !self.is_plain()
            || !self.from.socket.may_hold_more()
            || !until_close && !self.splices(unsent)
        {
            return;
        }
        let Ok(mut pipe) = Pipe::take() else {
            return;
        };
        self.ahead = match self.fill(&mut pipe) {
            // The end is met again when it is its turn.
            Ok(0) => None,
            Ok(_) => Some(Ok(pipe)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
        };
    }

    /// Moves what the source holds of the data that comes next into an empty pipe.
    fn fill(&mut self, pipe: &mut Pipe) -> io::Result<usize> {
        let left = self.reader.data_left().unwrap_or(u64::MAX);
        let len = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(turn_bytes());
        let n = pipe.fill(self.from.socket.plain_socket(), len)?;
        self.reader.skip(n as u64);
        Ok(n)
    }

    /// Moves what the pipe holds to the receiver, and then, through the pipe, what the source holds of the data that comes
    /// next. The pipe is not kept while the source is waited for. `begun` if it holds the rest of a chunk that was begun.
    async fn splice(&mut self, mut pipe: Pipe, mut begun: bool) -> Result<(), RelayError> {
        let mut turn = 0;
        loop {
            turn += pipe.held();
            self.empty(&mut pipe, begun).await?;
            begun = false;
            if self.reader.data_left() == Some(0) {
                return Ok(());
            }
            if turn >= turn_bytes() {
                turn = 0;
                give_way().await;
            }
            match self.fill(&mut pipe) {
                Ok(0) => return self.reader.closed().map_err(|_| RelayError::CutShort),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Before an urgent byte it says the same, however much is behind it.
                    if self.from.socket.peek() == Peek::Nothing {
                        self.from.socket.found_empty();
                    }
                    return Ok(());
                }
                Err(error) => return Err(RelayError::Source(error)),
            }
        }
    }

    /// Moves all that the pipe holds to the receiver; if the body goes out in chunks, as one, or as the rest of one.
    async fn empty(&mut self, pipe: &mut Pipe, begun: bool) -> Result<(), RelayError> {
        if pipe.held() == 0 {
            return Ok(());
        }
        if self.chunked && !begun {
            let mut header = [0; CHUNK_HEADER_MAX];
            let n = chunk_header(pipe.held() as u64, &mut header);
            let left = self.to.begin_send(&[IoSlice::new(&header[..n])], true)?;
            self.count(0, n as u64);
            self.to.send(&left).await?;
        }
        while pipe.held() > 0 {
            match pipe.drain(self.to.socket.plain_socket(), self.chunked) {
                Ok(n) => self.count(n as u64, n as u64),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.to.writable().await?;
                }
                Err(error) => return Err(RelayError::Sink(error)),
            }
        }
        if self.chunked {
            self.to.send(b"\r\n").await?;
            self.count(0, 2);
        }
        Ok(())
    }

    /// Waits until `poll` finds the source ready; a receiver that hangs up meanwhile ends the relay.
    async fn source(
        &self,
        poll: impl Fn(&Stream, &mut Context<'_>) -> Poll<()>,
    ) -> Result<(), RelayError> {
        let (from, to) = (&self.from, &self.to);
        let wait = from.slot.timed(from.timer, from.timeout, |cx| {
            if poll(from.socket, cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if to.poll_left(cx).is_ready() {
                return Poll::Ready(Err(RelayError::Sink(io::ErrorKind::ConnectionReset.into())));
            }
            Poll::Pending
        });
        wait.await.map_err(|_| RelayError::SourceTimedOut)?
    }
}
