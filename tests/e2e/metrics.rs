//! `metrics`: what is shown is what happened, in the formats that Prometheus reads.
#![allow(clippy::unwrap_used)] // what fails in a helper fails its test

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ntlm_origin::Kerberos;

use crate::front::{Front, eventually};
use crate::peer::{Answer, Peer};
use crate::prefix::free_address;
use crate::site::{Site, alice, ask, bob, log_in, origins};

const OPEN: &str = "application/openmetrics-text; version=1.0.0";

/// Where the figures are in the tests.
pub(crate) const LOCATION: &str = "server { listen 127.0.0.1:0; location = /metrics { metrics; } }";

/// Asks with a method and an `Accept`.
fn collect(addr: SocketAddr, method: &str, accept: &str) -> Answer {
    let mut client = Peer::connect(addr);
    client.send(format!(
        "{method} /metrics HTTP/1.1\r\nHost: test\r\nAccept: {accept}\r\n\r\n"
    ));
    if method == "HEAD" {
        return Answer {
            head: client.head(),
            body: Vec::new(),
        };
    }
    client.answer()
}

/// All of the body.
fn whole(answer: Answer) -> String {
    String::from_utf8(answer.body).unwrap()
}

/// The page in the text format.
pub(crate) fn page(addr: SocketAddr) -> String {
    let answer = collect(addr, "GET", "*/*");
    assert_eq!(answer.status(), 200);
    whole(answer)
}

/// The number of a sample, such as `pins{state="idle"}`: of all samples together that have these labels.
#[track_caller]
pub(crate) fn number(page: &str, sample: &str) -> f64 {
    let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
    let wanted: Vec<&str> = labels.trim_end_matches('}').split(',').collect();
    let found = page.lines().filter_map(|line| {
        let rest = line.strip_prefix("ntlmfront_")?.strip_prefix(name)?;
        let (labels, number) = rest.rsplit_once(' ')?;
        let ours = matches!(labels.chars().next(), None | Some('{'));
        let fits = wanted.iter().all(|label| labels.contains(label));
        (ours && fits).then(|| number.parse::<f64>().unwrap())
    });
    let found: Vec<f64> = found.collect();
    assert!(!found.is_empty(), "no {sample} in\n{page}");
    found.iter().sum()
}

/// Waits until a sample has a number.
#[track_caller]
pub(crate) fn await_number(addr: SocketAddr, sample: &str, expected: f64) {
    let mut last = None;
    eventually(&format!("{sample} is {expected}"), || {
        let found = number(&page(addr), sample);
        if last.replace(found) != Some(found) {
            eprintln!("{sample} is {found}");
        }
        (found == expected).then_some(())
    });
}

/// Runs a program with this input; what it wrote. It has to succeed.
#[track_caller]
fn accepted(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // It may refuse before it has read all.
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (said(&output.stdout), said(&output.stderr));
        let status = output.status;
        assert!(
            status.success(),
            "{command:?}: {status}\n{stdout}{stderr}\n{input}"
        );
        stdout
    })
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The names of all samples, by Prometheus' own parser.
fn names(format: &str, page: &str) -> BTreeSet<String> {
    let python = std::env::var_os("NTLMFRONT_TEST_PYTHON");
    let python = python.unwrap_or_else(|| project(".venv/bin/python").into());
    let mut reader = Command::new(python);
    reader
        .arg(project("tests/clients/read_metrics.py"))
        .arg(format);
    accepted(&mut reader, page)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Logs in and asks until it is told to stop; how many requests were answered.
fn load(addr: SocketAddr, stop: &AtomicBool, answered: &AtomicU64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        while !stop.load(Ordering::Relaxed) {
            let mut client = ntlm_origin::client::Connection::open(addr).await.unwrap();
            let scheme = ntlm_origin::client::Scheme::Ntlm;
            log_in(&mut client, scheme, "load", &alice()).await;
            for _ in 0..20 {
                ask(&mut client, "load").await;
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
}

#[test]
fn prometheus_reads_the_page_under_load() {
    let servers = origins(2, Kerberos::Declined);
    let http = format!(
        "upstream mail {{ server {}; server {}; ntlm; }}
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://mail; }} }} {LOCATION}",
        servers[0].addr(),
        servers[1].addr(),
    );
    let front = Front::start(&http);
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut pages = Vec::new();
    std::thread::scope(|scope| {
        /// Ends the load also where something fails.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop = Stop(&stop);
        for _ in 0..4 {
            scope.spawn(|| load(front.addr(0), &stop, &answered));
        }
        for round in 1..=5 {
            eventually("some load", || {
                (answered.load(Ordering::Relaxed) > round * 100).then_some(())
            });
            pages.push([OPEN, "text/plain"].map(|accept| {
                let answer = collect(front.addr(1), "GET", accept);
                let kind = answer.head.field("content-type").unwrap();
                assert!(kind.starts_with(accept), "{kind}");
                whole(answer)
            }));
        }
    });
    let mut before = 0.0;
    for [open, text] in &pages {
        assert_eq!(names("openmetrics", open), names("text", text));
        accepted(Command::new("promtool").args(["check", "metrics"]), text);
        // What two pages show one after the other never shrinks.
        let requests = number(open, "http_requests_total");
        assert!(requests > before && requests <= number(text, "http_requests_total"));
        before = requests;
    }
    // Nothing happens any more.
    let last = page(front.addr(1));
    for (histogram, counter) in [
        (
            "http_request_duration_seconds_count",
            "http_responses_total",
        ),
        (
            "upstream_header_duration_seconds_count",
            "upstream_server_responses_total",
        ),
    ] {
        assert_eq!(number(&last, histogram), number(&last, counter));
    }
    assert_eq!(number(&last, "http_client_aborts_total"), 0.0);
    let last = &pages[pages.len() - 1][1];
    assert!(number(last, "http_responses_total{class=\"2xx\"}") > 500.0);
    assert!(number(last, "pins{upstream=\"mail\"}") > 0.0);
    assert!(number(last, "worker_cpu_seconds_total") > 0.0);
    if last.contains("driver=\"io_uring\"") {
        assert!(number(last, "ring_completions_total") > 1000.0);
        assert_eq!(number(last, "ring_buffers"), 2.0 * 128.0);
    }
}

#[tokio::test]
async fn what_happens_is_counted() {
    let servers = origins(1, Kerberos::Declined);
    let dead = free_address();
    let server = servers[0].addr();
    let http = |more: &str| {
        format!(
            "upstream mail {{ server {server}; ntlm 1; }}
             upstream dead {{ server {dead} max_fails=1 fail_timeout=1h; server {dead} down; }}
             upstream mixed {{ server {dead} fail_timeout=1h; server {server}; server 127.0.0.1:1 down; {more} }}
             server {{
                 listen 127.0.0.1:0;
                 location / {{ proxy_pass http://mail; }}
                 location /dead {{ proxy_pass http://dead; }}
                 location /mixed/ {{ proxy_pass http://mixed/; }}
             }} {LOCATION}"
        )
    };
    let site = Site::configured(servers, "worker_processes 1;", &http(""));
    let metrics = site.front.addr(1);
    let of_server = |name: &str, upstream: &str, addr: SocketAddr, more: &str| {
        format!("upstream_server_{name}{{upstream=\"{upstream}\",server=\"{addr}\"{more}}}")
    };

    let mut first = site.logged_in("first", &alice()).await;
    await_number(metrics, "pins{upstream=\"mail\",state=\"idle\"}", 1.0);
    let mut second = site.logged_in("second", &bob()).await;
    // One idle login is all that is kept; its client is told by the next answer.
    await_number(metrics, "pin_table_full_total{upstream=\"mail\"}", 1.0);
    let now = page(metrics);
    assert_eq!(number(&now, "pin_table_size{upstream=\"mail\"}"), 1.0);
    assert_eq!(number(&now, "pins{upstream=\"mail\"}"), 1.0);
    assert_eq!(number(&now, "pins_created_total"), 2.0);
    assert_eq!(number(&now, "pins_ended_total{reason=\"evicted\"}"), 1.0);
    assert_eq!(number(&now, "connections{state=\"pinned\"}"), 1.0);
    let succeeded = "logins_total{scheme=\"ntlm\",result=\"succeeded\"}";
    assert_eq!(number(&now, succeeded), 2.0);
    assert_eq!(number(&now, "logins_total"), 2.0);
    assert_eq!(number(&now, "login_legs_total"), 4.0);
    // Two legs each.
    assert_eq!(number(&now, "http_responses_total{class=\"4xx\"}"), 2.0);
    assert_eq!(
        number(
            &now,
            &of_server("responses_total", "mail", server, ",class=\"2xx\"")
        ),
        2.0
    );
    assert_eq!(
        number(
            &now,
            &of_server("connections", "mail", server, ",state=\"active\"")
        ),
        1.0
    );
    assert_eq!(
        number(
            &now,
            &of_server("header_duration_seconds_count", "mail", server, "")
        ),
        4.0
    );

    // A pin with a request in flight is no idle one.
    second
        .send(b"GET /slow/1000 HTTP/1.1\r\nHost: test\r\n\r\n")
        .await
        .unwrap();
    await_number(metrics, "pins{upstream=\"mail\",state=\"active\"}", 1.0);
    assert_eq!(second.response("GET").await.unwrap().status, 200);
    ask(&mut first, "first").await;
    await_number(
        metrics,
        &of_server("connections", "mail", server, ",state=\"idle\""),
        1.0,
    );
    drop((first, second));
    await_number(metrics, "pins{upstream=\"mail\"}", 0.0);
    await_number(metrics, "pins_ended_total{reason=\"client_closed\"}", 1.0);

    // A server that is not there, and rules that are broken.
    let mut client = Peer::connect(site.addr());
    assert_eq!(client.get("/dead").status(), 502);
    assert_eq!(client.get("/mixed/whoami").status(), 200);
    let now = page(metrics);
    for upstream in ["dead", "mixed"] {
        let failures = of_server("failures_total", upstream, dead, "");
        assert_eq!(number(&now, &failures), 1.0, "{upstream}");
        let failed = of_server("state", upstream, dead, ",state=\"failed\"");
        assert_eq!(number(&now, &failed), 1.0, "{upstream}");
    }
    let down = "127.0.0.1:1".parse().unwrap();
    assert_eq!(
        number(&now, &of_server("state", "mixed", down, ",state=\"down\"")),
        1.0
    );
    assert_eq!(
        number(&now, &of_server("state", "mixed", server, ",state=\"up\"")),
        1.0
    );
    client.send("GET / HTTP/1.1\r\nHost : test\r\n\r\n");
    assert_eq!(client.answer().status(), 400);
    await_number(metrics, "http_refusals_total", 1.0);

    // A reload: counts go on where the server does; a bad one changes nothing.
    site.front
        .reload(&http("keepalive 7;").replace("server 127.0.0.1:1 down;", ""));
    let now = page(metrics);
    assert_eq!(
        number(&now, &of_server("failures_total", "mixed", dead, "")),
        1.0
    );
    assert!(!now.contains("127.0.0.1:1\""), "{now}");
    assert_eq!(number(&now, "config_last_reload_successful"), 1.0);
    std::fs::write(site.front.path().join("front.conf"), "nonsense;").unwrap();
    site.front.signal(nix::sys::signal::Signal::SIGHUP);
    await_number(metrics, "config_reloads_total{result=\"failure\"}", 1.0);
    let now = page(metrics);
    assert_eq!(
        number(&now, "config_reloads_total{result=\"success\"}"),
        1.0
    );
    assert_eq!(number(&now, "config_last_reload_successful"), 0.0);
    assert_eq!(number(&now, "log_write_failures_total"), 0.0);
}

#[test]
fn it_is_an_ordinary_location() {
    let front = Front::start_main(
        "worker_processes 1;",
        "server { listen 127.0.0.1:0;
             location = /metrics { metrics; }
             location = /closed { deny all; metrics; }
             location / { return 204; } }
         server { listen 127.0.0.1:0; metrics; add_header X-Added yes; }",
    );
    let [get, head, post] =
        ["GET", "HEAD", "POST"].map(|method| collect(front.addr(0), method, "*/*"));
    assert_eq!(
        (get.status(), head.status(), post.status()),
        (200, 200, 405)
    );
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(get.head.field("content-type"), Some(kind));
    let length = |answer: &Answer| answer.head.field("content-length").unwrap().len();
    assert_eq!(length(&get), length(&head));
    let mut client = Peer::connect(front.addr(0));
    assert_eq!(client.get("/closed").status(), 403);
    assert_eq!(client.get("/elsewhere").status(), 204);
    let everywhere = Peer::connect(front.addr(1)).get("/anything");
    assert_eq!(everywhere.head.field("x-added"), Some("yes"));
    assert!(
        everywhere
            .text()
            .contains("\nntlmfront_start_time_seconds ")
    );
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_what_is_there() {
    let front = Front::start(LOCATION);
    let shown = names("text", &page(front.addr(0)));
    // What is there only after something has happened is in the table of all.
    let table = std::fs::read_to_string(project("docs/metrics.md")).unwrap();
    let rules = project("tools/prometheus/ntlmfront.rules.yml");
    let dashboard = project("tools/grafana/ntlmfront.json");
    let mut asked = BTreeSet::new();
    for file in [&rules, &dashboard] {
        let text = std::fs::read_to_string(file).unwrap();
        let word = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        let words = text
            .split(word)
            .filter(|word| word.starts_with("ntlmfront_"));
        for name in words {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name);
            let known = shown.contains(name) || table.contains(&format!("| `{base}` |"));
            assert!(known, "{} asks for {name}", file.display());
            asked.insert(base.to_owned());
        }
    }
    assert!(asked.len() > 25, "{asked:?}");
    accepted(
        Command::new("promtool")
            .args(["check", "rules"])
            .arg(&rules),
        "",
    );
    let tests = project("tools/prometheus/ntlmfront.test.yml");
    accepted(
        Command::new("promtool").args(["test", "rules"]).arg(tests),
        "",
    );
    let json = std::fs::read_to_string(dashboard).unwrap();
    let read = "import json, sys; print(len(json.load(sys.stdin)['panels']))";
    let panels = accepted(Command::new("python3").args(["-c", read]), &json);
    assert!(panels.trim().parse::<usize>().unwrap() > 20);
}
