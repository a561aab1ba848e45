use std::sync::Arc;
use std::time::Duration;

use super::super::super::figures::{Binding, Certificate};
use super::super::super::files::LogFiles;
use super::super::super::groups::{GroupCounters, PeerCounters, PinCensus};
use super::*;
use crate::config::model::LogTarget;
use crate::net::Driver;

const NOW: u64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// What is found in figures of two workers that `change` was made to.
fn found(change: impl Fn(&Figures)) -> Vec<Finding> {
    let figures = Figures::new(2, Driver::Epoll);
    change(&figures);
    let context = Context {
        host: "front.test",
        connections: 100,
        now: Duration::from_secs(NOW),
    };
    let snapshot = Snapshot::of(&figures.workers);
    findings(&figures, &snapshot, &snapshot.servers(), &context)
}

/// Has a worker see a group with these servers.
fn group(figures: &Figures, worker: usize, change: impl Fn(&GroupCounters, &[Arc<PeerCounters>])) {
    let group = GroupCounters::new("mail");
    let peers = ["10.0.0.1:80", "10.0.0.2:80"].map(|name| Arc::new(PeerCounters::new(name, false)));
    change(&group, &peers);
    group.peers.store(Arc::new(peers.to_vec()));
    figures.workers[worker]
        .groups
        .store(Arc::new(vec![Arc::new(group)]));
}

fn texts(found: &[Finding]) -> Vec<(Level, &str)> {
    found
        .iter()
        .map(|finding| (finding.level, &*finding.text))
        .collect()
}

#[test]
fn nothing_is_wrong_with_a_front_that_does_its_work() {
    let found = found(|figures| {
        group(figures, 0, |group, peers| {
            // It was so once.
            group.table_full.add(5);
            group.table_full_at.set(NOW - 601);
            peers[0].failures.add(3);
            peers[0].failed_at.set(NOW - 61);
        });
        figures.reloaded(None);
        figures.workers[0].active.set(80);
        figures.workers[0].accepted.add(9);
        figures.workers[0].turned_away_at.set(NOW - 601);
    });
    assert_eq!(texts(&found), []);
}

#[test]
fn servers_that_fail() {
    let one = found(|figures| {
        for worker in [0, 1] {
            group(figures, worker, |_, peers| {
                peers[1].failures.add(2);
                peers[1].failed_at.set(NOW - 5 - worker as u64);
                if worker == 0 {
                    peers[1].set_state(Availability::Failed);
                }
            });
        }
    });
    assert_eq!(
        texts(&one),
        [(
            Level::Warning,
            "Server 10.0.0.2:80 of upstream \"mail\" fails as 1 of 2 workers see it: 4 failures so far, the last one 5 seconds ago; \
             1 of its servers are up."
        )]
    );
    let both = found(|figures| {
        group(figures, 0, |_, peers| {
            peers[0].set_state(Availability::Failed);
            peers[1].set_state(Availability::Down);
        });
    });
    assert_eq!(both[0].level, Level::Critical);
    assert!(
        both[0].text.ends_with("no other server of it is up."),
        "{both:?}"
    );
    assert_eq!(
        texts(&both[1..]),
        [(
            Level::Notice,
            "Server 10.0.0.2:80 of upstream \"mail\" is marked \"down\"."
        )]
    );
    let alone = found(|figures| {
        group(figures, 0, |_, peers| {
            peers[0].failures.add(1);
            peers[0].failed_at.set(NOW - 59);
            peers[1].set_state(Availability::Full);
        });
    });
    assert_eq!(
        texts(&alone),
        [
            (
                Level::Warning,
                "Server 10.0.0.1:80 of upstream \"mail\" failed 59 seconds ago, 1 failure so far; it is used all the same."
            ),
            (
                Level::Warning,
                "Server 10.0.0.2:80 of upstream \"mail\" has as many connections as \"max_conns\" allows as 1 of 2 workers see it."
            ),
        ]
    );
}

#[test]
fn tables_of_logins_that_are_full() {
    let census = |idle| PinCensus {
        idle,
        idle_limit: 100,
        ..PinCensus::default()
    };
    let nearly = found(|figures| {
        group(figures, 0, |group, _| group.set_census(&census(20)));
        group(figures, 1, |group, _| group.set_census(&census(90)));
    });
    assert_eq!(
        texts(&nearly),
        [(
            Level::Notice,
            "A worker keeps 90 idle logins of upstream \"mail\", of 100 that it may."
        )]
    );
    let full = found(|figures| {
        group(figures, 1, |group, _| {
            group.set_census(&census(100));
            group.table_full.add(1);
            group.table_full_at.set(NOW - 120);
        });
    });
    assert_eq!(
        texts(&full),
        [(
            Level::Warning,
            "Pins of upstream \"mail\" are evicted: 1 idle login ended to make room for others, the last one 2 minutes ago."
        )]
    );
    assert!(
        full[0].advice.starts_with("Raise \"ntlm 100\" "),
        "{full:?}"
    );
}

#[test]
fn logins_that_fail() {
    let lately = |failed, succeeded| {
        found(move |figures| {
            figures.workers[0].lately_failed.set(failed);
            figures.workers[1].lately_succeeded.set(succeeded);
        })
    };
    for quiet in [(9, 0), (10, 10), (100, 101)] {
        assert_eq!(lately(quiet.0, quiet.1), [], "{quiet:?}");
    }
    assert_eq!(
        texts(&lately(11, 10)),
        [(
            Level::Warning,
            "Most logins fail: 11 of 21 in the last two minutes."
        )]
    );
}

#[test]
fn certificates_that_do_not_fit_or_end() {
    let binding = |state, reason: &str, expires| Binding {
        server: "mail.test".to_owned(),
        upstream: "mail".to_owned(),
        peer: "10.0.0.1:443".to_owned(),
        state,
        reason: reason.to_owned(),
        shown: Some(("CN=inside".to_owned(), NOW.cast_signed() + expires)),
    };
    let certificate = |subject: &str, expires| Certificate {
        server: "mail.test".to_owned(),
        subject: subject.to_owned(),
        expires: NOW.cast_signed() + expires,
    };
    let found = found(|figures| {
        figures.bindings.store(Arc::new(vec![
            binding(BindingState::Same, "", 30 * DAY),
            binding(
                BindingState::Different,
                "it shows another certificate",
                29 * DAY + 7,
            ),
            binding(BindingState::Unknown, "it cannot be reached", 29 * DAY + 7),
        ]));
        figures.certificates.store(Arc::new(vec![
            certificate("CN=far", 31 * DAY),
            certificate("CN=near", 7 * DAY - 1),
            certificate("CN=past", -1),
        ]));
    });
    assert_eq!(
        texts(&found),
        [
            (
                Level::Critical,
                "The certificate CN=near of \"mail.test\" expires in 6 days."
            ),
            (
                Level::Critical,
                "The certificate CN=past of \"mail.test\" has expired."
            ),
            (
                Level::Warning,
                "Logins of \"mail.test\" cannot be bound to the certificate of server 10.0.0.1:443 of upstream \"mail\": \
                 it shows another certificate."
            ),
            (
                Level::Warning,
                "The certificate CN=inside of server 10.0.0.1:443 of upstream \"mail\" expires in 29 days."
            ),
            (
                Level::Notice,
                "Whether clients of \"mail.test\" see the certificate of server 10.0.0.1:443 of upstream \"mail\" is not known: \
                 it cannot be reached."
            ),
        ]
    );
}

#[test]
fn connections_that_are_not_enough() {
    let nearly = found(|figures| {
        figures.workers[1].active.set(50);
        figures.workers[1].upstream_connections.set(40);
    });
    assert_eq!(
        texts(&nearly),
        [(Level::Warning, "A worker uses 90 of its 100 connections.")]
    );
    let full = found(|figures| {
        figures.workers[0].accepted.add(7);
        figures.workers[0].handled.add(5);
        figures.workers[0].turned_away_at.set(NOW - 1);
        figures.workers[0].active.set(100);
    });
    assert_eq!(
        texts(&full),
        [(
            Level::Critical,
            "2 clients turned away for want of connections, the last one 1 second ago."
        )]
    );
}

#[test]
fn what_the_process_could_not_do() {
    let mut files = LogFiles::default();
    let full = files.open(&LogTarget::File("/dev/full".into())).unwrap();
    full.write(b"line\n");
    let found = found(|figures| {
        figures.reloaded(Some("unknown directive \"x\"".to_owned()));
        figures.logs.store(Arc::new(files.all()));
        figures.workers[0].usage.pipes_refused.set(3);
    });
    assert!(
        found[0].text.starts_with("The last reload was refused "),
        "{found:?}"
    );
    assert!(
        found[0].text.ends_with(": unknown directive \"x\"."),
        "{found:?}"
    );
    assert_eq!(
        texts(&found[1..]),
        [
            (
                Level::Warning,
                "1 write to the log /dev/full failed, 1 line lost."
            ),
            (
                Level::Notice,
                "The kernel gave no pipe to splice a body through, 3 times: it was copied."
            ),
        ]
    );
}
