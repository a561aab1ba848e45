//! What is measured.

use serde::Serialize;

use crate::wire::{SMALL_ANSWER_BYTES, Shape};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// Connections that move bodies; few, as one is enough to fill a core.
const BODY_CONNECTIONS: usize = 8;
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
    let small = Shape::Answer {
        bytes: SMALL_ANSWER_BYTES,
    };
    let cost = |name, about, shape, connections| Scenario {
        name,
        about,
        work: Work::Cost,
        shape,
        connections,
        workers: None,
    };
    let pinned = |name, about, connections| cost(name, about, small, connections);
    let answer = |name, about, bytes| cost(name, about, Shape::Answer { bytes }, BODY_CONNECTIONS);
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
            ..pinned("idle", "5000 logged-in connections that do nothing", 5000)
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
        assert!(chosen(&["smal".to_owned()]).is_err());
    }
}
