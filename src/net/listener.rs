//! Listening sockets: bound once by the process, one for each worker, accepted from by the workers.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::FcntlArg;
use socket2::{Domain, SockAddr, SockFilter, Type};

use super::executor::give_way;
use super::socket::Socket;
use super::watch::Watch;

/// Who a client is, by its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// TCP
    Inet(SocketAddr),
    /// A unix socket, whose clients have no address.
    Unix,
}

impl ClientAddress {
    /// The IP address, if there is one.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Inet(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for ClientAddress {
    /// As `$remote_addr` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.ip().to_canonical().fmt(f),
            Self::Unix => f.write_str("unix:"),
        }
    }
}

/// A new client connection.
pub struct Accepted {
    /// The connection.
    pub socket: Socket,
    /// Who it is.
    pub client: ClientAddress,
}

/// The sockets of one listening address. Dropping it and all [`Listener`]s stops listening, unless another process has the sockets
/// too, and removes a unix socket's file, unless [`Bound::share`] was called.
#[derive(Debug)]
pub struct Bound {
    /// One for each worker; for a unix socket, one for all; of another process, as many as that had.
    sockets: Vec<socket2::Socket>,
    /// Where it really listens: port 0 was replaced.
    address: Option<SocketAddr>,
    /// The file of a unix socket.
    path: Option<PathBuf>,
    /// Somebody else listens there, too.
    shared: AtomicBool,
}

/// How TCP listeners are set up.
#[derive(Clone, Debug)]
pub struct InetOptions {
    /// `backlog=`
    pub backlog: i32,
    /// Another listener of this process has the port already, on a wider or narrower address.
    pub shares_port: bool,
    /// `ipv6only=`
    pub ipv6only: bool,
    /// `so_keepalive=`; `None` is off.
    pub keepalive: Option<socket2::TcpKeepalive>,
}

impl Bound {
    /// Binds one socket for each worker with `SO_REUSEPORT`, and listens.
    ///
    /// # Errors
    /// Those of `bind(2)`. An address that anybody else listens on is in use, also if they allow sharing it.
    pub fn inet(address: SocketAddr, workers: usize, options: &InetOptions) -> io::Result<Self> {
        // SO_REUSEPORT from the beginning would share the port with any other process of the same user that asks for it, and
        // neither would know. So the first socket takes the port for itself alone, and shares it only once it listens.
        let first = new_inet(address, options)?;
        first.set_reuse_port(options.shares_port)?;
        first.bind(&address.into())?;
        first.listen(options.backlog)?;
        let mut bound_to = address;
        if let Some(local) = first.local_addr()?.as_socket() {
            bound_to.set_port(local.port());
        }
        first.set_reuse_port(true)?;
        let mut sockets = vec![first];
        for _ in 1..workers {
            let socket = new_inet(address, options)?;
            socket.set_reuse_port(true)?;
            socket.bind(&bound_to.into())?;
            socket.listen(options.backlog)?;
            sockets.push(socket);
        }
        Ok(Self {
            sockets,
            address: Some(bound_to),
            path: None,
            shared: AtomicBool::new(false),
        })
    }

    /// Binds a unix socket. A socket file that nobody listens on any more is replaced; it may be used by everyone, as
    /// nginx's.
    ///
    /// # Errors
    /// Those of `bind(2)`.
    pub fn unix(path: &Path, backlog: i32) -> io::Result<Self> {
        let socket =
            socket2::Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        let address = SockAddr::unix(path)?;
        match socket.bind(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path, &address) => {
                std::fs::remove_file(path)?;
                socket.bind(&address)?;
            }
            other => other?,
        }
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        socket.listen(backlog)?;
        Ok(Self {
            sockets: vec![socket],
            address: None,
            path: Some(path.to_owned()),
            shared: AtomicBool::new(false),
        })
    }

    /// Takes over sockets that another process has opened: this process has their descriptors already, and nobody else in it.
    /// They all listen at one address, which they tell.
    ///
    /// # Errors
    /// One is no socket that listens.
    pub fn inherited(descriptors: &[RawFd]) -> io::Result<Self> {
        let take = |&number: &RawFd| {
            // Descriptors of the standard streams are somebody's; another number that is open may be anything.
            if number <= 2 || nix::fcntl::fcntl(borrowed(number), FcntlArg::F_GETFD).is_err() {
                return Err(Errno::EBADF.into());
            }
            // SAFETY: the descriptor is open, and by the caller's word nobody else's.
            #[allow(unsafe_code)]
            let socket = unsafe { <socket2::Socket as FromRawFd>::from_raw_fd(number) };
            match socket.is_listener() {
                Ok(true) => Ok(socket),
                other => {
                    // It is not what it was said to be: somebody may still use it.
                    std::mem::forget(socket);
                    Err(other.err().unwrap_or_else(|| Errno::EINVAL.into()))
                }
            }
        };
        let sockets = descriptors
            .iter()
            .map(take)
            .collect::<io::Result<Vec<_>>>()?;
        for socket in &sockets {
            socket.set_cloexec(true)?;
            socket.set_nonblocking(true)?;
            // Whoever had them may have let nobody in any more. Without a filter there is nothing to detach.
            let _ = socket.detach_filter();
        }
        let first = sockets.first().ok_or(Errno::EINVAL)?.local_addr()?;
        Ok(Self {
            sockets,
            address: first.as_socket(),
            path: first.as_pathname().map(Path::to_owned),
            shared: AtomicBool::new(false),
        })
    }

    /// Takes over the sockets of `other`, which listens at the same address.
    pub fn join(&mut self, mut other: Self) {
        self.sockets.append(&mut other.sockets);
    }

    /// Has TCP sockets that another process has opened treat their clients as those do that this one opens. Nothing else can be
    /// changed once they listen.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub fn set_up(&self, options: &InetOptions) -> io::Result<()> {
        match self.path {
            Some(_) => Ok(()),
            None => { self.sockets.iter() }.try_for_each(|socket| set_up(socket, options)),
        }
    }

    /// Whether it is an IPv6 socket for any address that takes IPv4, too.
    pub fn takes_both_protocols(&self) -> bool {
        let address = self.address.map(|address| address.ip());
        address == Some(Ipv6Addr::UNSPECIFIED.into())
            && self.sockets[0].only_v6().is_ok_and(|only_v6| !only_v6)
    }

    /// Duplicates of the descriptors for a process that is about to be started, which inherits them.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn to_inherit(&self) -> io::Result<Vec<OwnedFd>> {
        let duplicate = |socket: &socket2::Socket| {
            let number = nix::fcntl::fcntl(socket.as_fd(), FcntlArg::F_DUPFD(3))?;
            // SAFETY: `fcntl` has just returned this descriptor, and nobody else has it.
            #[allow(unsafe_code)]
            let duplicate = unsafe { OwnedFd::from_raw_fd(number) };
            Ok(duplicate)
        };
        self.sockets.iter().map(duplicate).collect()
    }

    /// Notes whether somebody else listens there, too, and so needs a unix socket's file when this process stops.
    pub fn share(&self, shared: bool) {
        self.shared.store(shared, Ordering::Relaxed);
    }

    /// Has the kernel drop what asks for a connection (SYN, RFC 9293), so that those who have one can be accepted to the last before the
    /// sockets are closed, which resets whoever waits in them. Not for sockets that another process has, too; a unix socket loses its
    /// file instead, when this is dropped.
    ///
    /// # Errors
    /// The kernel has no memory for it.
    pub fn let_nobody_in(&self) -> io::Result<()> {
        // Byte 13 of the TCP header has the flags; bit 1 of them is SYN. What completes a handshake has it not.
        const FILTER: [SockFilter; 4] = [
            SockFilter::new(
                (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16,
                0,
                0,
                13,
            ),
            SockFilter::new(
                (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16,
                0,
                1,
                2,
            ),
            SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0),
            SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, u32::MAX),
        ];
        match self.path {
            Some(_) => Ok(()),
            None => { self.sockets.iter() }.try_for_each(|socket| socket.attach_filter(&FILTER)),
        }
    }

    /// Where it listens, with the port that the kernel chose; `None` for a unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The file of a unix socket.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The listening sockets for worker number `worker` of `workers`: one, or several where they were those of more workers.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn for_worker(&self, worker: usize, workers: usize) -> io::Result<Vec<Unwatched>> {
        let first = worker % self.sockets.len();
        let others = (worker + workers..self.sockets.len()).step_by(workers);
        let duplicate = |index: usize| self.sockets[index].try_clone().map(Unwatched);
        std::iter::once(first)
            .chain(others)
            .map(duplicate)
            .collect()
    }
}

fn new_inet(address: SocketAddr, options: &InetOptions) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking().cloexec(),
        None,
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(options.ipv6only)?;
    }
    set_up(&socket, options)?;
    Ok(socket)
}

/// Sets what accepted sockets inherit.
fn set_up(socket: &socket2::Socket, options: &InetOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    match &options.keepalive {
        Some(keepalive) => socket.set_tcp_keepalive(keepalive),
        None => Ok(()),
    }
}

/// Whether a socket file is left over: nobody accepts on it.
fn is_stale(path: &Path, address: &SockAddr) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && socket2::Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)
            .and_then(|probe| probe.connect(address))
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// One worker's listening socket, on its way to the worker.
#[derive(Debug)]
pub struct Unwatched(socket2::Socket);

/// One worker's listening socket.
///
/// It is a duplicate: the address is closed when [`Bound`] is dropped, too.
pub struct Listener {
    watch: Watch,
    socket: socket2::Socket,
    /// Clients may be waiting: nobody has looked since the driver said so, or not to the last of them.
    waiting: Cell<bool>,
}

impl Listener {
    /// Has the worker whose thread this is watch it.
    ///
    /// # Errors
    /// `ENOMEM`: the kernel has no memory for it, or the user is at the limit `fs.epoll.max_user_watches`.
    pub fn new(Unwatched(socket): Unwatched) -> io::Result<Self> {
        Ok(Self {
            watch: Watch::new(socket.as_fd())?,
            socket,
            waiting: Cell::new(false),
        })
    }

    /// Waits for a client. Other tasks get their turn, also where clients never cease to come.
    pub async fn readable(&self) {
        if self.waiting.get() {
            give_way().await;
        } else {
            poll_fn(|cx| self.watch.poll_readable(cx)).await;
            self.waiting.set(true);
        }
    }

    /// Accepts a client that is waiting; `None` if there is none.
    ///
    /// # Errors
    /// Those of `accept(2)`: no descriptors are left.
    pub fn try_accept(&self) -> io::Result<Option<Accepted>> {
        // SAFETY: the closure hands `accept4` the storage and length that `try_init` gives it, which are valid for the
        // call, and the kernel writes no more than the length it is told.
        #[allow(unsafe_code)]
        let accepted = unsafe {
            SockAddr::try_init(|storage, len| {
                let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
                let fd = libc::accept4(self.socket.as_raw_fd(), storage.cast(), len, flags);
                if fd < 0 {
                    Err(io::Error::last_os_error())
                } else {
                    Ok(fd)
                }
            })
        };
        let (fd, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                return match error.raw_os_error() {
                    Some(libc::EAGAIN) => {
                        self.waiting.set(false);
                        self.watch.found_empty();
                        Ok(None)
                    }
                    // The client was gone before it was accepted, or a signal came: not the listener's error.
                    Some(libc::ECONNABORTED | libc::EINTR | libc::EPROTO) => Ok(None),
                    _ => Err(error),
                };
            }
        };
        // SAFETY: `accept4` has just returned this descriptor, and nobody else has it.
        #[allow(unsafe_code)]
        let socket = unsafe { <socket2::Socket as std::os::fd::FromRawFd>::from_raw_fd(fd) };
        let client = address
            .as_socket()
            .map_or(ClientAddress::Unix, ClientAddress::Inet);
        Ok(Some(Accepted {
            socket: Socket::connected(socket)?,
            client,
        }))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // What `Bound` has is a duplicate.
        self.watch.forget(self.socket.as_fd());
    }
}

impl Drop for Bound {
    // No `shutdown(2)`: another process may listen on the same sockets.
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && !self.shared.load(Ordering::Relaxed)
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A descriptor of which it is not known whether it is open, for asking that.
fn borrowed<'a>(number: RawFd) -> BorrowedFd<'a> {
    // SAFETY: it is not -1, and used for `fcntl` alone, which says so if it is not open.
    #[allow(unsafe_code)]
    unsafe {
        BorrowedFd::borrow_raw(number)
    }
}
