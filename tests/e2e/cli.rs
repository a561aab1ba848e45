//! The command line: what nginx's scripts say and read. Where nginx 1.22 says the same, it is asked.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::front::{BINARY, eventually};
use crate::prefix::{HELLO, Prefix, Ran, get, is_root, run};

fn binary(arguments: &[&str]) -> Ran {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    run(command)
}

/// nginx with the same prefix and file.
fn nginx(prefix: &Prefix, arguments: &[&str]) -> Ran {
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(prefix.path());
    command.args(["-c", "front.conf", "-e", "logs/nginx.log"]);
    command.args(arguments);
    run(command)
}

/// What comes after `[emerg] ` in the only line of that level.
#[track_caller]
fn emerg(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once("[emerg] "))
        .map(|(_, message)| message)
        .collect();
    assert_eq!(lines.len(), 1, "{text}");
    lines[0].to_owned()
}

#[test]
fn versions_and_help_go_to_standard_error() {
    let version = "ntlmfront version: ntlmfront/0.1.0\n";
    for (arguments, begins, contains) in [
        (&["-v"][..], version, ""),
        (&["-V"], version, "nginx version: nginx/1.29.0\n"),
        (&["-V"], version, "\nconfigure arguments: --prefix="),
        (&["-V"], version, " --with-http_stub_status_module"),
        (&["-V"], version, " --without-http_ssi_module"),
        (&["-h"], version, "Usage: ntlmfront [-?hvVtTq] [-s signal]"),
        (
            &["-?"],
            version,
            "  -c filename       : set configuration file",
        ),
        (&["-?V", "-t"], version, "Usage: ntlmfront"),
    ] {
        let ran = binary(arguments);
        assert_eq!((ran.code, &*ran.stdout), (Some(0), ""), "{arguments:?}");
        assert!(ran.stderr.starts_with(begins), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(contains), "{arguments:?}: {ran:?}");
    }
    assert_eq!(binary(&["-v"]).stderr, version, "and nothing else");
}

#[test]
fn a_wrong_command_line_is_refused_in_nginx_words() {
    for arguments in [
        &["-s", "foo"][..],
        &["-s", "STOP"],
        &["-x"],
        &["-tx"],
        &["foo"],
        &["-c"],
        &["-p"],
        &["-e"],
        &["-g"],
        &["-s"],
    ] {
        let ours = binary(arguments);
        assert_eq!((ours.code, &*ours.stdout), (Some(1), ""), "{arguments:?}");
        let mut nginx = Command::new("/usr/sbin/nginx");
        nginx.args(arguments);
        let theirs = run(nginx).stderr.replace("nginx:", "ntlmfront:");
        assert_eq!(ours.stderr, theirs, "{arguments:?}");
    }
}

#[test]
fn a_good_file_is_tested_in_silence_or_with_two_lines() {
    let prefix = Prefix::with("", "default_type text/plain;");
    let said = format!(
        "ntlmfront: the configuration file {0} syntax is ok\n\
         ntlmfront: configuration file {0} test is successful\n",
        prefix.name("front.conf")
    );
    for (arguments, stderr) in [(&["-t"][..], &*said), (&["-tq"], ""), (&["-q", "-t"], "")] {
        let ran = prefix.run(arguments);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!((&*ran.stdout, &*ran.stderr), ("", stderr), "{arguments:?}");
        let theirs = nginx(&prefix, arguments).stderr;
        assert_eq!(ran.stderr, theirs.replace("nginx:", "ntlmfront:"));
    }
    let left = prefix.files();
    assert!(
        !left.contains(&"logs/front.pid".to_owned()) || prefix.read("logs/front.pid").is_empty(),
        "a test is not a start: {left:?}"
    );
}

#[test]
fn every_file_is_printed_after_its_name() {
    let prefix = Prefix::with("include more/*.conf;", "default_type text/plain;");
    fs::create_dir(prefix.path().join("more")).unwrap();
    prefix.write("more/a.conf", "worker_processes 1;");
    prefix.write("more/b.conf", "worker_rlimit_nofile 512;\n");
    for arguments in [&["-T"][..], &["-Tq"], &["-tT"]] {
        let ran = prefix.run(arguments);
        assert_eq!(ran.code, Some(0));
        let expected: String = ["front.conf", "more/a.conf", "more/b.conf"]
            .iter()
            .map(|file| {
                let (name, text) = (prefix.name(file), prefix.read(file));
                format!("# configuration file {name}:\n{text}\n")
            })
            .collect();
        assert_eq!(ran.stdout, expected);
        assert_eq!(ran.stdout, nginx(&prefix, arguments).stdout);
        assert_eq!(ran.stderr.is_empty(), arguments == ["-Tq"]);
    }
}

#[test]
fn mistakes_are_named_with_file_and_line_as_nginx_names_them() {
    let mut different = Vec::new();
    for text in [
        "events {}\nhttp {\n frobnicate 1; }",
        "events {}\nhttp { server { listen 80 } }",
        "events {}\nhttp { server { listen; } }",
        "events {}\nhttp { server { location / { worker_processes 1; } } }",
        "events {}\nlisten 80;",
        "events {}\nhttp { server {\n listen 80;",
        "events {}\nhttp { } }",
        "events {} pid a; pid b; http { }",
        "events {}\nhttp { upstream a { server no-such-host.invalid; } }",
        "events {}\nhttp { server { location / { proxy_pass http://no-such-host.invalid; } } }",
        "events {}\nhttp { upstream a { } }",
        "events {}\nhttp { server { listen 127.0.0.1:99999; } }",
        "events {}\nhttp { server { keepalive_timeout x; } }",
        "events {}\nhttp { server { tcp_nodelay maybe; } }",
        "events {}\nhttp { include no/such/file; }",
        "events {}\nhttp { server { location /a { } location /a { } } }",
        "events {}\nhttp { log_format a; }",
        "events {}\nhttp { access_log logs/a.log no_such_format; }",
        "worker_processes x;\nevents {}\nhttp { }",
        "events {}\nhttp { \"unclosed",
    ] {
        let prefix = Prefix::new();
        prefix.write("front.conf", &format!("pid logs/pid; {text}"));
        let (ours, theirs) = (prefix.run(&["-t"]), nginx(&prefix, &["-t"]));
        assert_eq!(ours.code, Some(1), "{text}: {ours:?}");
        assert_eq!(theirs.code, Some(1), "{text}: {theirs:?}");
        let words = [&ours, &theirs].map(|ran| emerg(&ran.stderr));
        if words[0] != words[1] {
            different.push((text, words));
        }
        let failed = format!(
            "ntlmfront: configuration file {} test failed\n",
            prefix.name("front.conf")
        );
        assert!(ours.stderr.ends_with(&failed), "{ours:?}");
        let started = prefix.run(&[]);
        assert_eq!(started.code, Some(1));
        assert_eq!(
            started.stderr,
            format!("ntlmfront: [emerg] {}\n", emerg(&ours.stderr)),
            "one line"
        );
    }
    assert!(different.is_empty(), "{different:#?}");
}

/// Where nginx names no line, and where its words are those of another regex library.
#[test]
fn mistakes_that_are_named_better() {
    let prefix = Prefix::new();
    for (text, message) in [
        (
            "server { return 200 $no_such_variable; }",
            "unknown \"no_such_variable\" variable in FILE:3",
        ),
        (
            "server { location ~ ( { } }",
            "regular expression \"(\" cannot be used: unclosed group in FILE:3",
        ),
    ] {
        prefix.write("front.conf", &format!("events {{}}\nhttp {{\n{text}\n}}"));
        let ran = prefix.run(&["-t"]);
        assert_eq!(ran.code, Some(1));
        let message = message.replace("FILE", &prefix.name("front.conf"));
        assert_eq!(emerg(&ran.stderr), message);
    }
}

/// Of two lines for the same credentials one would decide about the connection and the other might log it in.
#[test]
fn authorization_is_set_by_one_line_alone() {
    let prefix = Prefix::new();
    let location = |lines: &str| {
        prefix.write(
            "front.conf",
            &format!(
                "events {{}}\nhttp {{ proxy_set_header Authorization \"\";\nserver {{ location / {{\n\
                 proxy_pass http://127.0.0.1:1;\n{lines} }} }} }}"
            ),
        );
        prefix.run(&["-t"])
    };
    for (lines, nth) in [
        (
            "proxy_set_header Authorization \"\";\nproxy_set_header Authorization \"Negotiate YII=\";",
            6,
        ),
        (
            "proxy_set_header authorization $arg_no; proxy_set_header X-It it;\n\nproxy_set_header Authorization $arg_it;",
            7,
        ),
    ] {
        let ran = location(lines);
        assert_eq!(ran.code, Some(1), "{lines}: {ran:?}");
        let message = format!(
            "\"proxy_set_header\" names \"Authorization\" twice in {}:{nth}",
            prefix.name("front.conf")
        );
        assert_eq!(emerg(&ran.stderr), message, "{lines}");
    }
    // A level's own lines replace those around it, and what logs nobody in may be named twice.
    for lines in [
        "proxy_set_header Authorization \"Negotiate YII=\";",
        "proxy_set_header X-It this; proxy_set_header X-It that;",
    ] {
        let ran = location(lines);
        assert_eq!(ran.code, Some(0), "{lines}: {ran:?}");
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let prefix = Prefix::new();
    let missing = prefix.run(&["-t"]);
    assert_eq!(missing.code, Some(1));
    let name = prefix.name("front.conf");
    assert_eq!(
        emerg(&missing.stderr),
        format!("open() \"{name}\" failed (2: No such file or directory)")
    );
    assert_eq!(
        emerg(&nginx(&prefix, &["-t"]).stderr),
        emerg(&missing.stderr)
    );
    let directory = prefix.run(&["-t", "-c", "logs"]);
    assert_eq!(directory.code, Some(1));
    assert!(directory.stderr.contains("(21: Is a directory)"));
    if is_root() {
        prefix.configure("daemon off;", HELLO);
        fs::set_permissions(
            prefix.path().join("front.conf"),
            Permissions::from_mode(0o600),
        )
        .unwrap();
        for arguments in [&["-t"][..], &[], &["-s", "stop"]] {
            let ran = run(prefix.front_as_nobody(arguments));
            assert_eq!(ran.code, Some(1), "{ran:?}");
            assert_eq!(
                emerg(&ran.stderr),
                format!("open() \"{name}\" failed (13: Permission denied)")
            );
        }
    }
}

#[test]
fn directives_of_the_command_line_count_and_are_named_so() {
    let prefix = Prefix::with("", HELLO);
    for (globals, message) in [
        ("frob;", "unknown directive \"frob\" in command line"),
        (
            "frob",
            "unexpected end of parameter, expecting \";\" in command line",
        ),
    ] {
        let ran = prefix.run(&["-t", "-g", globals]);
        assert_eq!(ran.code, Some(1));
        assert_eq!(emerg(&ran.stderr), message);
        let theirs = nginx(&prefix, &["-t", "-g", globals]);
        assert_eq!(emerg(&theirs.stderr), message);
    }
    assert_eq!(
        prefix.run(&["-t", "-g", "worker_processes 3;"]).code,
        Some(0)
    );
    let twice = prefix.run(&["-t", "-g", "pid a;"]);
    assert!(emerg(&twice.stderr).starts_with("\"pid\" directive is duplicate in "));
}

#[test]
fn a_relative_prefix_is_relative_to_where_one_stands() {
    let prefix = Prefix::with("", HELLO);
    let mut command = Command::new(BINARY);
    command
        .args(["-p", "..", "-c", "front.conf", "-t"])
        .current_dir(prefix.path().join("logs"));
    let ran = run(command);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("file ../front.conf syntax is ok"));
}

#[test]
fn a_test_finds_what_a_start_would_not_get() {
    let server = "server { listen 127.0.0.1:0; }";
    let cases = [
        (
            "pid no/front.pid;",
            server,
            "open() \"PREFIX/no/front.pid\" failed (2: No such file or directory)",
        ),
        (
            "error_log no/error.log;",
            server,
            "open() \"PREFIX/no/error.log\" failed (2: No such file or directory)",
        ),
        (
            "",
            "access_log no/access.log; server { listen 127.0.0.1:0; }",
            "open() \"PREFIX/no/access.log\" failed (2: No such file or directory)",
        ),
        (
            "",
            "server { listen unix:PREFIX/no/socket; }",
            "bind() to unix:PREFIX/no/socket failed (2: No such file or directory)",
        ),
        (
            "",
            "server { listen 192.0.2.1:80; }",
            "bind() to 192.0.2.1:80 failed (99: Cannot assign requested address)",
        ),
        (
            "user no-such-user;",
            server,
            "getpwnam(\"no-such-user\") failed",
        ),
    ];
    for (main, http, message) in cases {
        if main.starts_with("user") && !is_root() {
            continue;
        }
        let prefix = Prefix::new();
        let here = |text: &str| text.replace("PREFIX", prefix.name("").trim_end_matches('/'));
        let pid = if main.starts_with("pid") {
            ""
        } else {
            "pid logs/pid;"
        };
        let http = here(http);
        prefix.write(
            "front.conf",
            &format!("{pid} {main} daemon off; events {{}} http {{ {http} }}"),
        );
        let ran = prefix.run(&["-t"]);
        assert_eq!(ran.code, Some(1), "{message}: {ran:?}");
        assert_eq!(emerg(&ran.stderr), here(message));
        assert!(ran.stderr.ends_with("test failed\n"));
        assert_eq!(emerg(&prefix.run(&[]).stderr), here(message), "as a start");
    }
}

#[test]
fn a_test_leaves_the_running_front_alone() {
    let prefix = Prefix::with("", HELLO);
    let daemon = prefix.daemon();
    let address = prefix.listening()[0];
    // The same address once more, now by its number.
    prefix.configure("", &HELLO.replace("127.0.0.1:0", &address.to_string()));
    let ran = prefix.run(&["-t"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(
        prefix.read("logs/front.pid").trim(),
        daemon.pid().to_string()
    );
    assert_eq!(get(address, "/").unwrap(), (200, "hello".into()));
}

#[test]
fn errors_before_the_configuration_go_to_the_log_of_the_command_line() {
    let prefix = Prefix::new();
    prefix.write("front.conf", "frob;\n");
    let message = format!(
        "unknown directive \"frob\" in {}:1",
        prefix.name("front.conf")
    );
    for (arguments, log) in [
        (&[][..], "logs/error.log"),
        (&["-e", "early.log"], "early.log"),
    ] {
        let ran = prefix.run(arguments);
        assert_eq!(ran.code, Some(1));
        assert_eq!(ran.stderr, format!("ntlmfront: [emerg] {message}\n"));
        let line = prefix.read(log);
        assert!(line.ends_with(&format!(": {message}\n")), "{log}: {line}");
        assert_eq!(line.lines().count(), 1);
    }
    let ran = prefix.run(&["-e", "stderr"]);
    assert_eq!(
        ran.stderr,
        format!("ntlmfront: [emerg] {message}\n"),
        "once"
    );
}

#[test]
fn a_signal_without_a_process_is_an_error() {
    let prefix = Prefix::with("", HELLO);
    let pid_file = prefix.name("logs/front.pid");
    // A process that has ended, and was waited for: nobody has its number.
    let gone = {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        pid
    };
    for (text, message) in [
        (
            None,
            format!("[error] open() \"{pid_file}\" failed (2: No such file or directory)"),
        ),
        (
            Some(String::new()),
            format!("[error] invalid PID number \"\" in \"{pid_file}\""),
        ),
        (
            Some("-1\n".into()),
            format!("[error] invalid PID number \"-1\" in \"{pid_file}\""),
        ),
        (
            Some(format!("{gone}\n")),
            format!("[alert] kill({gone}, 15) failed (3: No such process)"),
        ),
    ] {
        if let Some(text) = &text {
            prefix.write("logs/front.pid", text);
        }
        let ran = prefix.run(&["-s", "stop"]);
        assert_eq!((ran.code, &*ran.stdout), (Some(1), ""));
        assert_eq!(ran.stderr, format!("ntlmfront: {message}\n"));
        let log = prefix.error_log();
        assert!(
            log.ends_with(&format!("{}\n", message.split_once("] ").unwrap().1)),
            "{log}"
        );
        assert!(log.contains("[notice]") && log.contains(": signal process started\n"));
    }
}

#[test]
fn exchange_s_configuration_is_accepted_and_served() {
    let origin = ntlm_origin::Origin::start(ntlm_origin::OriginOptions::default()).unwrap();
    let prefix = Prefix::new();
    // Only names of this machine are replaced: addresses, paths, the user.
    let text = include_str!("../configs/exchange.conf")
        .replace("user  nginx;", "daemon off;")
        .replace("/var/log/nginx/", "logs/")
        .replace("/var/run/nginx.pid", "logs/front.pid")
        .replace("listen 80;", "listen 127.0.0.1:0;")
        .replace("10.0.0.11:80", &origin.addr().to_string())
        .replace("10.0.0.12:80", &origin.addr().to_string());
    prefix.write(
        "mime.types",
        "types { text/html html htm; text/css css; }\n",
    );
    prefix.write("front.conf", &text);
    let ran = prefix.run(&["-t"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.ends_with("test is successful\n"));
    let running = crate::prefix::Running::start(prefix.front(&[]));
    let address = eventually("the front listens", || {
        let log = prefix.error_log();
        log.contains("workers on ").then(|| prefix.listening()[0])
    });
    assert_eq!(get(address, "/").unwrap().0, 302);
    assert_eq!(get(address, "/favicon.ico").unwrap().0, 204);
    assert_eq!(get(address, "/ecp/").unwrap().0, 403);
    assert_eq!(
        get(address, "/owa").unwrap().0,
        404,
        "the origin has no such page"
    );
    assert_eq!(get(address, "/whoami").unwrap(), (200, "anonymous".into()));
    let status = get(address, "/status").unwrap().1;
    assert!(status.starts_with("Active connections: "), "{status}");
    eventually("the access log", || {
        prefix
            .read("logs/access.log")
            .contains("\"GET /whoami HTTP/1.1\" 200 9 ")
            .then_some(())
    });
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(running.wait().code, Some(0));
}
