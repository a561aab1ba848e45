//! Listening sockets: bound once by the process, one for each worker, accepted from by the workers.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use socket2::{Domain, SockAddr, Type};

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

/// The sockets of one listening address, one for each worker. Dropping it stops listening and removes a unix socket's file,
/// also for a process that inherited it: who forks must leave without dropping it.
#[derive(Debug)]
pub struct Bound {
    /// One for each worker; for a unix socket, duplicates of one.
    sockets: Vec<socket2::Socket>,
    /// Where it really listens: port 0 was replaced.
    address: Option<SocketAddr>,
    /// The file of a unix socket.
    path: Option<PathBuf>,
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
        })
    }

    /// Binds a unix socket. A socket file that nobody listens on any more is replaced; it may be used by everyone, as
    /// nginx's.
    ///
    /// # Errors
    /// Those of `bind(2)`.
    pub fn unix(path: &Path, workers: usize, backlog: i32) -> io::Result<Self> {
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
        let mut sockets = Vec::with_capacity(workers);
        for _ in 1..workers {
            sockets.push(socket.try_clone()?);
        }
        sockets.push(socket);
        Ok(Self {
            sockets,
            address: None,
            path: Some(path.to_owned()),
        })
    }

    /// Where it listens, with the port that the kernel chose; `None` for a unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The listening socket for worker number `worker`, whose thread this is.
    ///
    /// # Errors
    /// No descriptors or memory are left.
    pub fn listener(&self, worker: usize) -> io::Result<Listener> {
        let socket = self.sockets[worker % self.sockets.len()].try_clone()?;
        Ok(Listener {
            watch: Watch::new(socket.as_fd())?,
            socket,
            waiting: Cell::new(false),
        })
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
    // Accepted sockets inherit these.
    socket.set_tcp_nodelay(true)?;
    if let Some(keepalive) = &options.keepalive {
        socket.set_tcp_keepalive(keepalive)?;
    }
    Ok(socket)
}

/// Whether a socket file is left over: nobody accepts on it.
fn is_stale(path: &Path, address: &SockAddr) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && socket2::Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)
            .and_then(|probe| probe.connect(address))
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// One worker's listening socket.
///
/// It is a duplicate: dropping it does not stop the listening, which belongs to [`Bound`].
pub struct Listener {
    watch: Watch,
    socket: socket2::Socket,
    /// Clients may be waiting: nobody has looked since the driver said so, or not to the last of them.
    waiting: Cell<bool>,
}

impl Listener {
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
    /// Those of `accept(2)`: no descriptors are left, the address was closed.
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
                    // A closed unix socket says only that nobody is waiting.
                    Some(libc::EAGAIN) if self.watch.is_hung_up() => Err(Errno::EINVAL.into()),
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
    /// Stops listening: no further client gets in. Closing the descriptors would not: a worker's armed poll entry keeps the
    /// kernel's file alive.
    fn drop(&mut self) {
        for socket in &self.sockets {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}
