//! The two ways to start without a file: `--listen … --upstream …`, and `--demo`.

use std::net::TcpListener;
use std::process::Command;

use nix::sys::signal::Signal;
use ntlm_origin::programs::RealClient;
use ntlm_origin::{Origin, OriginOptions, User};

use crate::front::{BINARY, eventually};
use crate::prefix::{Running, get, listening, run};

fn start(arguments: &[&str]) -> Running {
    let directory = std::env::temp_dir();
    let mut command = Command::new(BINARY);
    command.args(arguments).current_dir(directory);
    Running::start(command)
}

#[test]
fn one_line_serves_one_server() {
    let options = OriginOptions::default();
    let alice = options.users[0].clone();
    let origin = Origin::start(options).unwrap();
    for url in [
        format!("http://{}", origin.addr()),
        origin.addr().to_string(),
    ] {
        let front = start(&["--listen", "127.0.0.1:0", "--upstream", &url, "--ntlm", "7"]);
        let address = eventually("it says where it listens", || {
            let said = front.stderr();
            said.contains("workers on ").then(|| listening(&said)[0])
        });
        assert_eq!(get(address, "/whoami").unwrap(), (200, "anonymous".into()));
        let url = format!("http://{address}/private/whoami");
        for answer in RealClient::CurlNtlm.get(&url, &alice, 3).unwrap() {
            assert_eq!(answer.identity, Some(alice.identity()));
        }
        front.signal(Signal::SIGHUP);
        front.signal(Signal::SIGINT);
        let ran = front.wait();
        assert_eq!((ran.code, &*ran.stdout), (Some(0), ""), "{ran:?}");
        assert!(!ran.stderr.contains("[warn]"), "{}", ran.stderr);
    }
}

#[test]
fn a_wrong_line_is_refused_with_a_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken
        .local_addr()
        .map(|address| (taken, address.to_string()))
        .unwrap();
    let in_use = format!("bind() to {} failed (98: Address already in use)", taken.1);
    for (listen, upstream, message) in [
        (
            "127.0.0.1:x",
            "http://127.0.0.1:1",
            "invalid port in \"127.0.0.1:x\"",
        ),
        ("127.0.0.1:0", "ftp://127.0.0.1:1", "invalid URL prefix"),
        (
            "127.0.0.1:0",
            "http://no-such.invalid",
            "host not found in upstream \"no-such.invalid\"",
        ),
        (
            "127.0.0.1:0; root /",
            "http://127.0.0.1:1",
            "invalid address \"127.0.0.1:0; root /\"",
        ),
        ("127.0.0.1:0", "", "invalid address \"\""),
        (&taken.1, "http://127.0.0.1:1", &in_use),
    ] {
        let ran = start(&[
            &format!("--listen={listen}"),
            &format!("--upstream={upstream}"),
        ])
        .wait();
        assert_eq!((ran.code, &*ran.stdout), (Some(1), ""), "{ran:?}");
        assert!(
            ran.stderr
                .starts_with(&format!("ntlmfront: [emerg] {message}")),
            "{ran:?}"
        );
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    }
}

/// What one of the lines to try answers, run by a shell as somebody would.
fn shell(line: &str) -> String {
    // curl takes --disable only as its first option.
    let line = line.trim().replacen(
        "curl",
        "curl --disable --silent --show-error --max-time 60",
        1,
    );
    let mut command = Command::new("sh");
    command.args(["-c", &line]);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    let ran = run(command);
    assert_eq!(ran.code, Some(0), "{line}: {ran:?}");
    ran.stdout
}

#[test]
fn the_demo_does_what_it_says() {
    // Whoever has the port already, the demo takes another.
    let taken = TcpListener::bind("127.0.0.1:8080");
    let demo = start(&["--demo"]);
    let text = eventually("the lines to try", || {
        let text = demo.stdout();
        text.contains("Ctrl-C").then_some(text)
    });
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.trim().starts_with("curl "))
        .collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(!text.contains("127.0.0.1:8080"), "{text}");
    let address = text
        .split_once("listen ")
        .and_then(|(_, rest)| rest.split_once(';'))
        .unwrap()
        .0
        .parse()
        .unwrap();
    eventually("it listens", || get(address, "/front_status").ok());
    let alice = User::new("EXAMPLE", "alice", "wonderland").identity();
    // Logged in: the greeting, and who it is.
    let answer = shell(lines[0]);
    assert!(answer.contains(&alice), "{answer}");
    shell(lines[1]);
    for line in &lines[2..4] {
        let answer = shell(&format!("{line} -i"));
        assert!(answer.contains(" 401 "), "{line}: {answer}");
        assert!(!answer.contains(" 200 "), "{line}: {answer}");
    }
    let status = shell(lines[4]);
    assert!(status.starts_with("Active connections: "), "{status}");
    drop(taken);
    // What it shows live: the legs and the request on one pin of one server.
    let seen = eventually("what the front saw", || {
        let text = demo.stdout();
        text.contains("/front_status").then_some(text)
    });
    let form = regex::Regex::new(
        r#"^127\.0\.0\.1:(\d+) "GET (\S+) HTTP/1\.1" (\d+) by (\S+), scheme (\S+), pin (\S+) (\S+), request (\S+) on it$"#,
    )
    .unwrap();
    let requests: Vec<regex::Captures<'_>> = seen
        .lines()
        .filter_map(|line| form.captures(line))
        .collect();
    let alice = requests
        .iter()
        .find(|request| &request[2] == "/whoami")
        .unwrap_or_else(|| panic!("{seen}"));
    let of_first: Vec<_> = requests
        .iter()
        .filter(|request| request[1] == alice[1])
        .collect();
    let statuses: Vec<&str> = of_first.iter().map(|request| &request[3]).collect();
    assert_eq!(statuses, ["401", "200", "200"], "{seen}");
    assert_eq!(&of_first[0][5], "ntlm");
    assert_eq!(&of_first[2][5], "-");
    assert_eq!(
        [&of_first[0][7], &of_first[1][7]],
        ["handshaking", "established"]
    );
    for (number, request) in of_first.iter().enumerate() {
        assert_eq!(request[6], of_first[0][6], "one pin: {seen}");
        assert_eq!(request[4], of_first[0][4], "one server");
        assert_eq!(request[8], (number + 1).to_string());
    }
    demo.signal(Signal::SIGINT);
    let ran = demo.wait();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stderr, "");
    assert!(get(address, "/").is_err());
}
