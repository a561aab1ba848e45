//! What is measured.

use serde::Serialize;

use crate::tls::Key;
use crate::wire::{SMALL_ANSWER_BYTES, Shape};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// Connections that move bodies; few, as one is enough to fill a core.
const BODY_CONNECTIONS: usize = 8;
/// Handshakes that are under way at the same time; few, as those that are unfinished at the end were paid for and do not count.
const HANDSHAKES_AT_ONCE: usize = 16;
/// Connections that come and go before the memory of idle ones is measured, so that code is loaded.
pub(crate) const IDLE_WARM_UP: usize = 8;
/// What is asked of everybody in the latency scenarios, as a part of what the base reaches at its best.
pub(crate) const LATENCY_LOAD: f64 = 0.6;

/// What is done with the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A closed loop on logged-in connections: what a request costs.
    Cost,
    /// An open loop at a rate that is the same for all: how long a request takes.
    Latency,
    /// Connect, log in, one request, close: what a login costs.
    Logins,
    /// Log in and do nothing: what memory that takes.
    Idle,
    /// Connect, make the handshake of TLS, close: what a handshake costs.
    Handshakes {
        /// With the ticket of an earlier one.
        resumed: bool,
    },
}

/// Where TLS is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Nowhere.
    None,
    /// Towards clients, who are shown a certificate with this key.
    Clients(Key),
    /// Towards clients and towards the origin, both with the same certificate.
    BothLegs(Key),
}

impl Tls {
    /// The key of the certificate.
    pub(crate) fn key(self) -> Option<Key> {
        match self {
            Self::None => None,
            Self::Clients(key) | Self::BothLegs(key) => Some(key),
        }
    }

    /// Whether the origin speaks it, too.
    pub(crate) fn reaches_origin(self) -> bool {
        matches!(self, Self::BothLegs(_))
    }
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// On the command line, and in reports.
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) about: &'static str,
    /// What is done.
    pub(crate) work: Work,
    /// With which requests.
    pub(crate) shape: Shape,
    /// On how many connections at a time.
    pub(crate) connections: usize,
    /// How many workers each contender has, if the scenario says it.
    pub(crate) workers: Option<usize>,
    /// Where TLS is spoken.
    pub(crate) tls: Tls,
}

/// What a scenario belongs to, for plots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Family {
    /// Small answers by number of connections.
    Small,
    /// Answers by size.
    Answer,
    /// Uploads by size.
    Upload,
    /// Everything else.
    Other,
}

impl Scenario {
    /// Whether bodies are large enough for a contender's means for bodies to be switched on.
    pub(crate) fn moves_bodies(&self) -> bool {
        self.shape.body_bytes() >= 4 * KIB
    }

    /// Whether the client sends the large body.
    pub(crate) fn uploads(&self) -> bool {
        matches!(self.shape, Shape::Upload { .. })
    }

    /// Makes it fit for a smoke test: a fifth of the idle connections, as each takes a login.
    pub(crate) fn shorten(&mut self) {
        if self.work == Work::Idle {
            self.connections /= 5;
        }
    }

    /// Whether this is what `--scenario wanted` means.
    pub(crate) fn is_called(&self, wanted: &str) -> bool {
        self.name == wanted
            || self
                .name
                .strip_prefix(wanted)
                .is_some_and(|rest| rest.starts_with('-'))
    }

    /// Where it is plotted.
    pub(crate) fn family(&self) -> Family {
        match self.name.split('-').next() {
            Some("small") => Family::Small,
            Some("answer") => Family::Answer,
            Some("upload") => Family::Upload,
            _ => Family::Other,
        }
    }
}

/// All of them, in the order in which they run.
pub(crate) fn all() -> Vec<Scenario> {
    without_tls().into_iter().chain(with_tls()).collect()
}

fn cost(name: &'static str, about: &'static str, shape: Shape, connections: usize) -> Scenario {
    Scenario {
        name,
        about,
        work: Work::Cost,
        shape,
        connections,
        workers: None,
        tls: Tls::None,
    }
}

fn pinned(name: &'static str, about: &'static str, connections: usize) -> Scenario {
    let bytes = SMALL_ANSWER_BYTES;
    cost(name, about, Shape::Answer { bytes }, connections)
}

fn answer(name: &'static str, about: &'static str, bytes: usize) -> Scenario {
    cost(name, about, Shape::Answer { bytes }, BODY_CONNECTIONS)
}

fn without_tls() -> Vec<Scenario> {
    let upload = |name, about, bytes| cost(name, about, Shape::Upload { bytes }, BODY_CONNECTIONS);
    let chunked = |name, about, bytes, chunk| {
        cost(
            name,
            about,
            Shape::Chunked { bytes, chunk },
            BODY_CONNECTIONS,
        )
    };
    let workers = |name, about, workers| Scenario {
        workers: Some(workers),
        ..pinned(name, about, 512)
    };
    let latency = |name, about, connections| Scenario {
        work: Work::Latency,
        ..pinned(name, about, connections)
    };
    vec![
        pinned("small-1", "100-byte answers, 1 connection", 1),
        pinned("small-64", "100-byte answers, 64 connections", 64),
        pinned("small-512", "100-byte answers, 512 connections", 512),
        pinned("small-2000", "100-byte answers, 2000 connections", 2000),
        pinned("small-5000", "100-byte answers, 5000 connections", 5000),
        cost(
            "token-8k",
            "requests with an 8 KiB token in their head, 64 connections",
            Shape::Token { bytes: 8 * KIB },
            64,
        ),
        answer("answer-4k", "answers of 4 KiB, 8 connections", 4 * KIB),
        answer("answer-64k", "answers of 64 KiB, 8 connections", 64 * KIB),
        answer("answer-1m", "answers of 1 MiB, 8 connections", MIB),
        answer("answer-10m", "answers of 10 MiB, 8 connections", 10 * MIB),
        chunked(
            "chunked-8k",
            "answers of 256 KiB in chunks of 8 KiB, 8 connections",
            256 * KIB,
            8 * KIB,
        ),
        chunked(
            "chunked-256k",
            "answers of 1 MiB in chunks of 256 KiB, 8 connections",
            MIB,
            256 * KIB,
        ),
        upload("upload-64k", "uploads of 64 KiB, 8 connections", 64 * KIB),
        upload("upload-1m", "uploads of 1 MiB, 8 connections", MIB),
        upload("upload-10m", "uploads of 10 MiB, 8 connections", 10 * MIB),
        Scenario {
            work: Work::Logins,
            ..pinned(
                "logins",
                "connect, Type 1, Type 3, one request, close; 64 at a time",
                64,
            )
        },
        Scenario {
            work: Work::Idle,
            ..pinned(
                "idle",
                "5000 logged-in connections that do nothing (--quick: 1000)",
                5000,
            )
        },
        workers(
            "workers-1",
            "100-byte answers, 512 connections, 1 worker",
            1,
        ),
        workers(
            "workers-2",
            "100-byte answers, 512 connections, 2 workers",
            2,
        ),
        latency(
            "latency-64",
            "100-byte answers at a fixed rate, 64 connections",
            64,
        ),
        latency(
            "latency-512",
            "100-byte answers at a fixed rate, 512 connections",
            512,
        ),
    ]
}

fn with_tls() -> Vec<Scenario> {
    let clients = Tls::Clients(Key::P256);
    let both = Tls::BothLegs(Key::P256);
    let over = |tls, scenario| Scenario { tls, ..scenario };
    let handshakes = |name, about, resumed, key| Scenario {
        work: Work::Handshakes { resumed },
        ..over(Tls::Clients(key), pinned(name, about, HANDSHAKES_AT_ONCE))
    };
    let idle = |tls, name, about| Scenario {
        work: Work::Idle,
        ..over(tls, pinned(name, about, 2000))
    };
    vec![
        over(
            clients,
            pinned(
                "tls-small-64",
                "TLS to clients: 100-byte answers, 64 connections",
                64,
            ),
        ),
        over(
            clients,
            pinned(
                "tls-small-512",
                "TLS to clients: 100-byte answers, 512 connections",
                512,
            ),
        ),
        over(
            clients,
            answer(
                "tls-answer-1m",
                "TLS to clients: answers of 1 MiB, 8 connections",
                MIB,
            ),
        ),
        handshakes(
            "tls-handshakes",
            "connect, full handshake, close; P-256; 16 at a time",
            false,
            Key::P256,
        ),
        handshakes(
            "tls-handshakes-rsa",
            "connect, full handshake, close; RSA 2048; 16 at a time",
            false,
            Key::Rsa2048,
        ),
        handshakes(
            "tls-resumed",
            "connect, resume a session by ticket, close; 16 at a time",
            true,
            Key::P256,
        ),
        idle(
            clients,
            "tls-idle",
            "TLS to clients: 2000 logged-in connections that do nothing (--quick: 400)",
        ),
        over(
            both,
            pinned(
                "tls-both-small-64",
                "TLS on both legs: 100-byte answers, 64 connections",
                64,
            ),
        ),
        over(
            both,
            pinned(
                "tls-both-small-512",
                "TLS on both legs: 100-byte answers, 512 connections",
                512,
            ),
        ),
        over(
            both,
            answer(
                "tls-both-answer-1m",
                "TLS on both legs: answers of 1 MiB, 8 connections",
                MIB,
            ),
        ),
        idle(
            both,
            "tls-both-idle",
            "TLS on both legs: 2000 logged-in connections that do nothing (--quick: 400)",
        ),
    ]
}

/// Those that are asked for, in their own order; all if nothing is. An error names what there is not.
pub(crate) fn chosen(wanted: &[String]) -> Result<Vec<Scenario>, String> {
    let all = all();
    if let Some(unknown) = wanted
        .iter()
        .find(|wanted| !all.iter().any(|scenario| scenario.is_called(wanted)))
    {
        let names: Vec<_> = all.iter().map(|scenario| scenario.name).collect();
        return Err(format!(
            "no scenario \"{unknown}\"; there are {}",
            names.join(", ")
        ));
    }
    Ok(all
        .into_iter()
        .filter(|scenario| {
            wanted.is_empty() || wanted.iter().any(|wanted| scenario.is_called(wanted))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wanted: &[&str]) -> Vec<&'static str> {
        let wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
        chosen(&wanted)
            .unwrap()
            .iter()
            .map(|scenario| scenario.name)
            .collect()
    }

    #[test]
    fn scenarios_are_chosen_by_name_or_family() {
        assert_eq!(names(&[]).len(), all().len());
        assert_eq!(names(&["idle", "small-1"]), ["small-1", "idle"]);
        assert_eq!(
            names(&["small"]),
            [
                "small-1",
                "small-64",
                "small-512",
                "small-2000",
                "small-5000"
            ]
        );
        assert_eq!(names(&["tls"]).len(), 11);
        assert!(names(&["tls-both"]).contains(&"tls-both-idle"));
        assert!(chosen(&["smal".to_owned()]).is_err());
    }
}
