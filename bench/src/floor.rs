//! The floor: a relay that reads no HTTP. What the kernel's TCP costs any front that has one upstream connection for each
//! client connection; a front that costs little more than this wastes little.
//!
//! One epoll set and one buffer for each thread, level-triggered, so that a socket is registered once and, unless a peer
//! is slow, never touched again: a message costs one `recv` and one `send`, and its share of an `epoll_wait`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::cli::FloorArgs;
use crate::listen;

/// The most that one turn moves for one connection.
const BUFFER_BYTES: usize = 64 * 1024;
/// The listener's mark; those of connections are their slots.
const LISTENER: u64 = u64::MAX;

/// Relays until the process is ended.
pub(crate) fn run(args: &FloorArgs) -> io::Result<()> {
    let workers: Vec<_> = (0..args.workers)
        .map(|_| listen::shared(args.listen).map(|listener| (listener, args.upstream)))
        .collect::<io::Result<_>>()?;
    let threads: Vec<_> = workers
        .into_iter()
        .map(|(listener, upstream)| thread::spawn(move || Relay::new(listener, upstream)?.serve()))
        .collect();
    for thread in threads {
        thread
            .join()
            .unwrap_or_else(|_| Err(ErrorKind::Other.into()))?;
    }
    Ok(())
}

/// One socket of a pair.
struct Side {
    stream: TcpStream,
    /// What the socket did not take yet. While there is any, nothing is read from the other side.
    pending: Vec<u8>,
    interest: EpollFlags,
}

struct Relay {
    listener: TcpListener,
    upstream: SocketAddr,
    epoll: Epoll,
    /// Client at 0, upstream at 1. An event's mark is twice the index of the pair, plus the side.
    pairs: Vec<Option<[Side; 2]>>,
    free: Vec<usize>,
}

impl Relay {
    fn new(listener: TcpListener, upstream: SocketAddr) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        Ok(Self {
            listener,
            upstream,
            epoll,
            pairs: Vec::new(),
            free: Vec::new(),
        })
    }

    fn serve(mut self) -> io::Result<()> {
        let mut events = vec![EpollEvent::empty(); 512];
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut closed = Vec::new();
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                // A tracer was attached.
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            for event in &events[..count] {
                if event.data() == LISTENER {
                    self.accept()?;
                    continue;
                }
                let (index, side) = (event.data() as usize / 2, event.data() as usize % 2);
                if let Some(pair) = &mut self.pairs[index]
                    && step(pair, side, event.events(), &self.epoll, index, &mut buffer).is_err()
                {
                    self.pairs[index] = None;
                    closed.push(index);
                }
            }
            // Only now, so that no event of this batch meets another connection in its slot.
            self.free.append(&mut closed);
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let client = match self.listener.accept() {
                Ok((client, _)) => client,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let index = self.free.pop().unwrap_or_else(|| {
                self.pairs.push(None);
                self.pairs.len() - 1
            });
            let upstream = TcpStream::connect(self.upstream)?;
            for (side, stream) in [&client, &upstream].into_iter().enumerate() {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let mark = (2 * index + side) as u64;
                self.epoll
                    .add(stream, EpollEvent::new(EpollFlags::EPOLLIN, mark))?;
            }
            self.pairs[index] = Some([client, upstream].map(|stream| Side {
                stream,
                pending: Vec::new(),
                interest: EpollFlags::EPOLLIN,
            }));
        }
    }
}

/// Moves what can be moved without waiting. An error, or the end of one side, is the end of the pair.
fn step(
    pair: &mut [Side; 2],
    side: usize,
    ready: EpollFlags,
    epoll: &Epoll,
    index: usize,
    buffer: &mut [u8],
) -> io::Result<()> {
    let [client, upstream] = pair;
    let (from, to) = match side {
        0 => (client, upstream),
        _ => (upstream, client),
    };
    if ready.contains(EpollFlags::EPOLLHUP) && !to.pending.is_empty() {
        return Err(ErrorKind::BrokenPipe.into());
    }
    let mut blocked = !from.pending.is_empty();
    if ready.contains(EpollFlags::EPOLLOUT) {
        let written = write(&mut from.stream, &from.pending)?;
        from.pending.drain(..written);
    }
    if ready.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
        && to.pending.is_empty()
    {
        let received = from.stream.read(buffer)?;
        if received == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let written = write(&mut to.stream, &buffer[..received])?;
        to.pending.extend_from_slice(&buffer[written..received]);
        blocked |= written < received;
    }
    if blocked {
        let writable = [!pair[0].pending.is_empty(), !pair[1].pending.is_empty()];
        for side in 0..2 {
            let mut interest = EpollFlags::empty();
            interest.set(EpollFlags::EPOLLIN, !writable[1 - side]);
            interest.set(EpollFlags::EPOLLOUT, writable[side]);
            if interest != pair[side].interest {
                let mark = (2 * index + side) as u64;
                epoll.modify(&pair[side].stream, &mut EpollEvent::new(interest, mark))?;
                pair[side].interest = interest;
            }
        }
    }
    Ok(())
}

fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
