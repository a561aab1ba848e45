//! `hash key consistent`: each server owns points of a ring, and a key belongs to the owner of the next one.

use crc32fast::Hasher;

use super::peer::PeerState;
use super::{ATTEMPTS, Peer, PeerIndex, Question, weighted};

/// Points of the ring for each unit of weight.
const POINTS: u32 = 160;

/// The ring.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// In ascending order, each hash once.
    points: Vec<Point>,
    /// The primary peers of each `server` text: the addresses of one name share its points.
    servers: Vec<Vec<PeerIndex>>,
}

#[derive(Debug)]
struct Point {
    hash: u32,
    /// Index into [`Ring::servers`].
    owner: usize,
}

impl Ring {
    /// The points of Cache::Memcached::Fast: `crc32(host \0 port previous)`, where `previous` is the point before in
    /// little-endian order, beginning with 0. A server's own text says where its points are, so that one that comes or
    /// goes moves its own keys only.
    pub(super) fn new(peers: &[Peer], primaries: &[PeerIndex]) -> Self {
        let mut ring = Self::default();
        for &index in primaries {
            let peer = &peers[index];
            let known = |addresses: &Vec<PeerIndex>| peers[addresses[0]].server == peer.server;
            let owner = ring.servers.iter().position(known).unwrap_or_else(|| {
                ring.servers.push(Vec::new());
                ring.servers.len() - 1
            });
            ring.servers[owner].push(index);
            let (host, port) = host_and_port(&peer.server);
            let mut base = Hasher::new();
            base.update(host.as_bytes());
            base.update(b"\0");
            base.update(port.as_bytes());
            let mut hash = 0u32;
            for _ in 0..peer.weight.saturating_mul(POINTS) {
                let mut crc = base.clone();
                crc.update(&hash.to_le_bytes());
                hash = crc.finalize();
                ring.points.push(Point { hash, owner });
            }
        }
        // Stable, so that of two servers with the same point the first one keeps it.
        ring.points.sort_by_key(|point| point.hash);
        ring.points.dedup_by_key(|point| point.hash);
        ring
    }

    /// A candidate of the server that owns the next point; if it has none, of the point after it, and so on.
    pub(super) fn pick(&self, peers: &mut [PeerState], question: &Question) -> Option<PeerIndex> {
        let hash = crc32fast::hash(question.key);
        let next = self.points.partition_point(|point| point.hash < hash);
        let points = self.points.iter().cycle().skip(next);
        points
            .take(ATTEMPTS as usize)
            .find_map(|point| weighted::round_robin(peers, &self.servers[point.owner], question))
    }
}

/// Splits where nginx does: at the last colon if only digits follow it; a unix socket is all host, without its prefix.
fn host_and_port(server: &str) -> (&str, &str) {
    if let Some((prefix, path)) = server.split_at_checked(5)
        && prefix.eq_ignore_ascii_case("unix:")
    {
        return (path, "");
    }
    match server.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (server, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_split_where_nginx_splits_it() {
        for (server, expected) in [
            ("10.0.0.1:80", ("10.0.0.1", "80")),
            ("10.0.0.1", ("10.0.0.1", "")),
            ("backend:", ("backend", "")),
            ("backend:http", ("backend:http", "")),
            ("[::1]:8080", ("[::1]", "8080")),
            ("[::1]", ("[::1]", "")),
            ("unix:/run/a:1", ("/run/a:1", "")),
            ("UNIX:/run/a", ("/run/a", "")),
            ("", ("", "")),
        ] {
            assert_eq!(host_and_port(server), expected, "{server}");
        }
    }
}
