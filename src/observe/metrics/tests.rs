use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use super::super::figures::{Binding, Certificate};
use super::super::groups::{GroupCounters, PeerCounters};
use super::encode::Kind;
use super::*;
use crate::net::Driver;

/// Two workers with a group each of the same name, reached in two ways by the first of them.
fn figures() -> Figures {
    let figures = Figures::new(2, Driver::Epoll);
    for (worker, groups) in [(0, 2), (1, 1)] {
        let counters = &figures.workers[worker];
        counters.requests.add(10 + worker as u64);
        counters.waiting.set(5);
        counters.pinned.set(3);
        let groups = (0..groups).map(|_| {
            let group = GroupCounters::new("mail");
            let mut census = PinCensus {
                idle: 1,
                idle_limit: 100,
                ..PinCensus::default()
            };
            census.ages[1][0] = 3;
            group.set_census(&census);
            group.table_full.add(7);
            let peer = PeerCounters::new("10.0.0.1:80", false);
            peer.answers.count(200);
            peer.header_us.add(1_500);
            peer.failed();
            if worker == 1 {
                peer.set_state(Availability::Failed);
            }
            group.peers.store(Arc::new(vec![Arc::new(peer)]));
            Arc::new(group)
        });
        let shown = groups.chain([Arc::default()]).collect();
        counters.groups.store(Arc::new(shown));
    }
    let binding = |state| Binding {
        server: "mail.test".to_owned(),
        upstream: "mail".to_owned(),
        peer: "10.0.0.1:443".to_owned(),
        state,
        reason: String::new(),
        shown: Some(("CN=a\"b".to_owned(), 7)),
    };
    let bindings = [BindingState::Same, BindingState::Different].map(binding);
    figures.bindings.store(Arc::new(bindings.to_vec()));
    let certificate = |expires| Certificate {
        server: "mail.test".to_owned(),
        subject: "CN=mail.test".to_owned(),
        expires,
    };
    figures
        .certificates
        .store(Arc::new(vec![certificate(9), certificate(8)]));
    figures
}

#[test]
fn what_is_counted_is_shown() {
    let page = render(&figures(), 512, Format::Text);
    for line in [
        "ntlmfront_http_requests_total{worker=\"0\"} 10",
        "ntlmfront_http_requests_total{worker=\"1\"} 11",
        "ntlmfront_worker_connections_limit 512",
        "ntlmfront_connections{worker=\"0\",state=\"idle\"} 2",
        "ntlmfront_connections{worker=\"0\",state=\"pinned\"} 3",
        // Both ways to the group, and what belongs to none.
        "ntlmfront_pins{worker=\"0\",upstream=\"mail\",state=\"active\"} 4",
        "ntlmfront_pins{worker=\"0\",upstream=\"mail\",state=\"idle\"} 2",
        "ntlmfront_pins{worker=\"1\",upstream=\"mail\",state=\"idle\"} 1",
        "ntlmfront_pins{worker=\"1\",upstream=\"-\",state=\"idle\"} 0",
        "ntlmfront_pin_table_full_total{worker=\"0\",upstream=\"mail\"} 14",
        "ntlmfront_upstream_server_state{upstream=\"mail\",server=\"10.0.0.1:80\",state=\"up\"} 2",
        "ntlmfront_upstream_server_state{upstream=\"mail\",server=\"10.0.0.1:80\",state=\"failed\"} 1",
        "ntlmfront_upstream_server_responses_total{upstream=\"mail\",server=\"10.0.0.1:80\",class=\"2xx\"} 3",
        "ntlmfront_upstream_server_header_duration_seconds_count{upstream=\"mail\",server=\"10.0.0.1:80\"} 3",
        "ntlmfront_upstream_server_header_duration_seconds_sum{upstream=\"mail\",server=\"10.0.0.1:80\"} 0.0045",
        "ntlmfront_upstream_server_failures_total{upstream=\"mail\",server=\"10.0.0.1:80\"} 3",
        // Of what is the same but for its value, the worse.
        "ntlmfront_certificate_expiry_timestamp_seconds{server=\"mail.test\",subject=\"CN=mail.test\"} 8",
        "ntlmfront_channel_binding_state{server=\"mail.test\",upstream=\"mail\",upstream_server=\"10.0.0.1:443\",state=\"different\"} 1",
        "ntlmfront_channel_binding_state{server=\"mail.test\",upstream=\"mail\",upstream_server=\"10.0.0.1:443\",state=\"same\"} 0",
        "ntlmfront_upstream_certificate_expiry_timestamp_seconds{upstream=\"mail\",server=\"10.0.0.1:443\",subject=\"CN=a\\\"b\"} 7",
        "ntlmfront_config_last_reload_successful 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
}

#[test]
fn histograms_add_up() {
    let figures = figures();
    for us in [400, 900, 70_000_000] {
        let time = std::time::Duration::from_micros(us);
        figures.workers[us as usize % 2].request_time.record(time);
    }
    let page = render(&figures, 1, Format::OpenMetrics);
    let name = "ntlmfront_http_request_duration_seconds";
    let found: Vec<_> = page.lines().filter(|line| line.starts_with(name)).collect();
    assert_eq!(found[0], format!("{name}_bucket{{le=\"0.0005\"}} 1"));
    assert_eq!(found[1], format!("{name}_bucket{{le=\"0.001\"}} 2"));
    assert_eq!(found[17], format!("{name}_bucket{{le=\"65.536\"}} 2"));
    assert_eq!(found[18], format!("{name}_bucket{{le=\"+Inf\"}} 3"));
    assert_eq!(found[19], format!("{name}_sum 70.0013"));
    assert_eq!(found[20], format!("{name}_count 3"));
}

#[test]
fn reloads_and_logs_that_fail() {
    let figures = figures();
    figures.reloaded(None);
    figures.reloaded(Some("no".to_owned()));
    let mut files = super::super::files::LogFiles::default();
    let target = crate::config::model::LogTarget::File("/dev/full".into());
    let log = files.open(&target).unwrap();
    log.write(b"line\n");
    figures.logs.store(Arc::new(files.all()));
    let page = render(&figures, 1, Format::Text);
    for line in [
        "ntlmfront_config_reloads_total{result=\"success\"} 1",
        "ntlmfront_config_reloads_total{result=\"failure\"} 1",
        "ntlmfront_config_last_reload_successful 0",
        "ntlmfront_log_write_failures_total{log=\"/dev/full\"} 1",
        "ntlmfront_log_lines_lost_total{log=\"/dev/full\"} 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
}

/// Each family once, with all its samples behind its head, each of them once.
#[test]
fn the_page_is_the_table() {
    let page = render(&figures(), 1, Format::OpenMetrics);
    let mut shown = Vec::new();
    let mut samples = BTreeSet::new();
    for line in page.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            shown.push((name, kind));
        } else if !line.starts_with('#') {
            let (sample, _) = line.rsplit_once(' ').unwrap();
            assert!(samples.insert(sample), "{sample} twice");
            let (name, _) = shown.last().unwrap();
            assert!(sample.starts_with(name), "{sample} behind {name}");
        }
    }
    let table = families::ALL.iter();
    let table: Vec<_> = table
        .map(|family| (family.name, family.kind.word()))
        .collect();
    assert_eq!(shown, table);
    for family in families::ALL {
        assert!(!family.help.contains(['"', '\\', '\n']), "{}", family.name);
    }
}

/// Where the part of `docs/metrics.md` begins that is printed.
const MARK: &str = "<!-- From here on printed from src/observe/metrics/families.rs: UPDATE_DOCS=1 cargo test --lib metrics -->\n";

#[test]
fn every_metric_is_documented() {
    let mut table = String::from("\n| metric | kind | labels | what it is |\n|---|---|---|---|\n");
    for family in families::ALL {
        let labels: Vec<_> = family
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let kind = match family.kind {
            Kind::Summary => "sum and count",
            kind => kind.word(),
        };
        let (name, labels) = (family.shown_name(), labels.join(", "));
        let _ = writeln!(table, "| `{name}` | {kind} | {labels} | {} |", family.help);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (text, printed) = page.split_once(MARK).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{text}{MARK}{table}")).unwrap();
        return;
    }
    assert!(
        printed == table,
        "docs/metrics.md is out of date: UPDATE_DOCS=1 cargo test --lib metrics"
    );
}
