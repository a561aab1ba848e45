//! Sockets and the ring.
