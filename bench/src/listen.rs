//! Listening sockets of the bench's own servers, and free ports for those of others.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// As long as the kernel's default limit, so that a burst of connections meets no full queue.
const BACKLOG: i32 = 4096;

/// A non-blocking listening socket that other threads may open, too.
pub(crate) fn shared(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// An address of the loopback interface that nobody listens on. Somebody else may take it before it is used; the one who
/// was to listen there then says so and ends.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
