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

/// A non-blocking listening socket on a port of every address of the loopback interface, and of no other.
pub(crate) fn loopback(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(b"lo"))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Addresses of the loopback interface, which has sixteen million of them.
pub(crate) fn loopback_addresses(port: u16) -> impl Iterator<Item = SocketAddr> {
    let first = Ipv4Addr::LOCALHOST.to_bits();
    (first..).map(move |bits| SocketAddr::from((Ipv4Addr::from_bits(bits), port)))
}

/// An address of the loopback interface that nobody listens on. Somebody else may take it before it is used; the one who
/// was to listen there then says so and ends.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
