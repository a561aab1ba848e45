//! The access log's lines: what is in them, where they go, and how long they wait.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use nix::sys::signal::Signal;
use ntlm_origin::{Origin, OriginOptions};

use crate::front::{Front, eventually};
use crate::nginx::{Nginx, assert_same_mistakes};
use crate::peer::Peer;
use crate::prefix::{free_address, get};

/// Logs of every kind, on every level. `$pid` and the like differ from nginx's, and so do the pages of errors.
const SCENE: &str = r#"
    log_format default '$remote_addr|$remote_user|$request|$request_method|$request_uri|$uri|$args|$arg_A|$is_args|'
        '$http_user_agent|$http_referer|$http_none|$http_x_strange|$cookie_c|$cookie_none|$status|$body_bytes_sent|'
        '$request_length|$scheme|$host|$server_name|$server_protocol|$sent_http_content_type|$sent_http_none|'
        '$content_length|$content_type|$pipe|$request_completion|$connection_requests|$long|$own|${host}x';
    log_format json escape=json '{"request":"$request","agent":"$http_user_agent","strange":"$http_x_strange",'
        '"none":"$http_none","status":$status,"long":"$long"}';
    log_format none escape=none '[$http_user_agent] [$http_x_strange] [$http_none] [$request]';
    log_format short '$request_uri';
    map $arg_a $long { default ""; "~^.{3}" 1; zero 0; }
    access_log logs/default default;
    access_log logs/json json buffer=8k;
    access_log logs/none none;
    access_log logs/if short if=$long;
    server {
        listen ADDR;
        server_name first.test;
        set $own "it's own";
        location / { return 200 "text of $uri"; }
        location /off { access_log off; return 204; }
        location /off/never { access_log logs/never short; access_log off; return 200; }
        location /own { access_log logs/own short; access_log logs/own short if=$arg_twice; return 404; }
        location /own/inner { access_log logs/inner SHORT; return 302 /; }
        location /inherits { return 444; }
    }
    server {
        listen ADDR;
        server_name second.test;
        access_log logs/second default;
        location / { return 201 "\"quoted\""; }
    }
"#;

const LOGS: [&str; 8] = [
    "default", "json", "none", "if", "own", "inner", "second", "never",
];

/// Makes the same requests to whoever listens, and returns all logs. `reopen` has them opened again, and `reopening` is what the
/// error log says when that begins.
fn play(addr: SocketAddr, logs: &Path, reopen: impl Fn(), reopening: &str) -> Vec<String> {
    let connect = || Peer::connect(addr);
    let agents: [&[u8]; 4] = [
        b"curl/7",
        b"a \"quoted\" \\back",
        "\u{e9}\t\u{20ac}".as_bytes(),
        b"",
    ];
    let mut client = connect();
    for agent in agents {
        for target in [
            "/",
            "/?a=zero",
            "/?A=long&b=%22",
            "/a%20b/../c?a=%C3%A9abc",
            "/off",
            "/off/never",
            "/own?twice=1",
            "/own?twice=0",
            "/own/inner?x",
            "//own",
            "/\"q\"?\\",
        ] {
            for host in ["first.test", "SECOND.test:80", "other"] {
                client.send(format!(
                    "GET {target} HTTP/1.1\r\nHost: {host}\r\nX-Strange: \u{e9}{{}} '\r\n"
                ));
                client.send(b"Cookie: b=1; c=\"2\"; d\r\nUser-Agent: ");
                client.send(agent);
                client.send("\r\nReferer: http://a/?b=\"c\"\r\n\r\n");
                client.answer();
            }
        }
    }
    client.send(
        "POST /?a=abc HTTP/1.0\r\nHost: h\r\nContent-Type: a/b\r\nContent-Length: 3\r\n\r\n123",
    );
    client.answer();
    // nginx logs it when the client has gone.
    drop(client);
    let mut client = connect();
    client.send("GET /inherits HTTP/1.1\r\nHost: h\r\n\r\n");
    client.ends();
    let read = |name: &str| fs::read_to_string(logs.join(name)).unwrap_or_default();
    eventually("the last line", || {
        read("default").contains("|444|").then_some(())
    });
    // Lines that wait are written, which is over when the next reopening begins.
    for times in 1..=2 {
        reopen();
        eventually("a reopening", || {
            (read("error.log").matches(reopening).count() == times).then_some(())
        });
    }
    LOGS.map(read).into()
}

#[test]
fn lines_are_those_of_nginx() {
    let nginx = Nginx::start(SCENE);
    let theirs = play(
        nginx.addr,
        &nginx.path().join("logs"),
        || nginx.signal(Signal::SIGUSR1),
        ": reopening logs",
    );
    let addr = free_address();
    let scene = SCENE.replace("ADDR", &addr.to_string());
    let front = Front::start_main("worker_processes 1;", &scene);
    let ours = play(
        addr,
        &front.path().join("logs"),
        || front.signal(Signal::SIGUSR1),
        "received, reopening logs",
    );
    for ((log, ours), theirs) in LOGS.iter().zip(ours).zip(theirs) {
        let different: Vec<_> = ours
            .lines()
            .zip(theirs.lines())
            .filter(|(a, b)| a != b)
            .collect();
        assert!(different.is_empty(), "{log} (ours, theirs): {different:#?}");
        assert_eq!(ours.lines().count(), theirs.lines().count(), "{log}");
        assert_eq!(ours.is_empty(), *log == "never", "{log}");
    }
}

#[test]
fn mistakes_are_those_of_nginx() {
    assert_same_mistakes(
        "log_format f $uri;\n",
        &[
            "access_log logs/a nonsense;",
            "access_log logs/a f buffer=0;",
            "access_log logs/a f buffer=x;",
            "access_log logs/a f flush=1s;",
            "access_log logs/a f buffer=1k flush=x;",
            "access_log logs/a f buffer=1k flush=0;",
            "access_log logs/a f size=1;",
            "access_log logs/a f buffer=1k; access_log logs/a f buffer=2k;",
            "access_log logs/a f buffer=1k; server { access_log logs/a f buffer=1k flush=1s; }",
            "access_log off f;",
            "access_log syslog:;",
            "access_log syslog:tag=a;",
            "access_log syslog:server=;",
            "access_log syslog:server=127.0.0.1:x;",
            "access_log syslog:server=127.0.0.1:0;",
            "access_log syslog:server=unix:;",
            "access_log syslog:server=127.0.0.1,server=127.0.0.1;",
            "access_log syslog:server=127.0.0.1,facility=x;",
            "access_log syslog:server=127.0.0.1,facility=user,facility=user;",
            "access_log syslog:server=127.0.0.1,severity=warning;",
            "access_log syslog:server=127.0.0.1,severity=warn,severity=warn;",
            "access_log syslog:server=127.0.0.1,tag=a-b;",
            "access_log syslog:server=127.0.0.1,tag=a,tag=b;",
            "access_log syslog:server=127.0.0.1,tag=abcdefghijabcdefghijabcdefghijabc;",
            "access_log syslog:server=127.0.0.1,nohostnames;",
            "access_log syslog:server=127.0.0.1, f;",
            "access_log syslog:server=127.0.0.1 f buffer=1k;",
            "error_log syslog:facility=user;",
            "error_log syslog:server=127.0.0.1 nonsense;",
            "log_format f $host;",
            "log_format g escape=xml $host;",
        ],
    );
}

#[test]
fn lines_wait_for_a_full_buffer_or_a_flush() {
    let front = Front::start_main(
        "worker_processes 1;",
        "log_format path $request_uri;
         access_log logs/now path;
         access_log logs/full path buffer=64;
         access_log logs/later path buffer=64k flush=300ms;
         access_log logs/end path buffer=64k;
         server { listen 127.0.0.1:0; location / { return 204; } }",
    );
    let log = |name: &str| fs::read_to_string(front.path().join("logs").join(name)).unwrap();
    let ask = |path: &str| {
        get(front.addr(0), path).unwrap();
        eventually("its line", || {
            log("now").ends_with(&format!("{path}\n")).then_some(())
        });
    };
    let [one, two, three] = ["1", "2", "3"].map(|digit| format!("/{}", digit.repeat(30)));
    ask(&one);
    ask(&two);
    assert_eq!((log("full"), log("end")), (String::new(), String::new()));
    ask(&three);
    // One more than fits.
    let first = format!("{one}\n{two}\n");
    eventually("the first two", || (log("full") == first).then_some(()));
    // Nobody has to ask for anything.
    let all = format!("{first}{three}\n");
    eventually("the flush", || (log("later") == all).then_some(()));
    // Longer than a buffer, it waits for nobody.
    let long = format!("/{}", "4".repeat(100));
    ask(&long);
    let all = format!("{all}{long}\n");
    eventually("the long one", || (log("full") == all).then_some(()));
    assert_eq!(log("end"), "");
    let moved = front.path().join("logs/moved");
    fs::rename(front.path().join("logs/end"), &moved).unwrap();
    front.signal(Signal::SIGUSR1);
    eventually("the lines in the old file", || {
        fs::read_to_string(&moved)
            .is_ok_and(|text| text == all)
            .then_some(())
    });
}

/// There is no answer whose fields could be shown: the client left before it, or was left without one.
#[test]
fn a_field_of_an_answer_that_was_never_sent_is_a_hyphen() {
    let origin = Origin::start(OriginOptions::default()).unwrap();
    let front = Front::start_main(
        "worker_processes 1;",
        &format!(
            "log_format sent '$request_uri $status $sent_http_content_type $sent_http_x_server|';
             access_log logs/access.log sent;
             server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://{}; }}
                       location /nothing {{ return 444; }} }}",
            origin.addr()
        ),
    );
    let padding = "x".repeat(2000);
    let mut wanted = Vec::new();
    for round in 0..3 {
        for path in ["/slow/60000", "/nothing"] {
            let target = format!("{path}?{round}");
            let mut client = Peer::connect(front.addr(0));
            if round == 1 {
                // Nothing of an answer before it is shown either.
                assert_eq!(client.get("/whoami").status(), 200);
                wanted.push("/whoami 200 text/plain ORIGIN|".to_owned());
            }
            client.send(format!(
                "GET {target} HTTP/1.1\r\nHost: test\r\nX-Padding: {padding}\r\n\r\n"
            ));
            if path.starts_with("/slow") {
                eventually("the request arrives", || {
                    let log = origin.log();
                    log.iter().any(|entry| entry.path == target).then_some(())
                });
                drop(client);
                wanted.push(format!("{target} 499 - -|"));
            } else {
                client.ends();
                wanted.push(format!("{target} 444 - -|"));
            }
            let text = eventually("a line that ends", || {
                let log = front.access_log();
                (log.contains(&target) && log.ends_with('\n')).then_some(log)
            });
            assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
            assert_eq!(
                Peer::connect(front.addr(0)).get("/whoami").status(),
                200,
                "the worker serves on"
            );
            wanted.push("/whoami 200 text/plain ORIGIN|".to_owned());
            eventually("the next line", || {
                (front.access_log().lines().count() >= wanted.len()).then_some(())
            });
            let text = front.access_log();
            assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
        }
    }
    let log = front.error_log();
    assert!(!log.contains("panic") && !log.contains("[alert]"), "{log}");
}
