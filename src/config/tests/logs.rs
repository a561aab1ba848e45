//! `access_log`, `error_log` and `log_format`.

use std::time::Duration;

use super::meaning::show;
use super::*;

#[test]
fn logs() {
    let text =
        "error_log e; events{} http{ access_log a; log_format j escape=json '{' \"$status\" '}';
        server { access_log b j if=$host; access_log c; error_log d warn; } }";
    let config = load_text(text).unwrap();
    let root = &config.http.locations[config.http.servers[0].root];
    let [b, c] = &root.access_logs[..] else {
        panic!()
    };
    assert_eq!((&b.format.name[..], b.format.escape), ("j", Escape::Json));
    assert_eq!(show(&config, &b.format.template), "{<Status>}");
    assert_eq!(show(&config, b.condition.as_ref().unwrap()), "<Host>");
    assert_eq!(&c.format.name[..], "combined");
    assert!(
        show(&config, &c.format.template)
            .starts_with("<RemoteAddr> - <RemoteUser> [<TimeLocal>] \"<Request>\"")
    );
    let log = ErrorLog {
        target: LogTarget::File("/p/d".into()),
        level: Level::Warn,
    };
    assert_eq!(root.error_logs, [log]);
    assert_eq!(
        config.main.error_logs[0].target,
        LogTarget::File("/p/e".into())
    );
}

#[test]
fn formats_are_found_whatever_their_case() {
    let config = load_server("access_log a COMBINED;").unwrap();
    let text = "events{} http{ log_format J a; log_format j b; server { access_log a j; } }";
    let other = load_text(text).unwrap();
    for (config, name) in [(config, "combined"), (other, "J")] {
        let root = &config.http.locations[config.http.servers[0].root];
        assert_eq!(root.access_logs[0].format.name, name);
    }
}

#[test]
fn buffers_belong_to_files() {
    let config = load_server(
        "access_log a combined; access_log b combined buffer=8k flush=1m;
         location /1 { access_log a combined buffer=32K if=$host; access_log c; }
         location /2 { access_log b; }",
    )
    .unwrap();
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let buffering = |bytes, flush| Some(Buffering { bytes, flush });
    for log in config.http.locations.iter().flat_map(|l| &l.access_logs) {
        let expected = match &log.target {
            LogTarget::File(path) if path == Path::new("/p/a") => buffering(32 << 10, None),
            LogTarget::File(path) if path == Path::new("/p/b") => buffering(8 << 10, seconds(60)),
            _ => None,
        };
        assert_eq!(log.buffering, expected, "{:?}", log.target);
    }
}

#[test]
fn syslog_servers() {
    let config = load_server(
        "access_log syslog:server=10.0.0.1;
         access_log syslog:server=[::1]:1514,facility=kern,tag=A_1,severity=debug,nohostname combined;
         access_log syslog:server=unix:/dev/log;
         access_log syslog:facility=mail,server=exchange.example:99;
         error_log syslog:server=10.0.0.1 warn;",
    )
    .unwrap();
    let root = &config.http.locations[config.http.servers[0].root];
    let inet = |text: &str| PeerAddress::Inet(text.parse().unwrap());
    let usual = Syslog {
        server: inet("10.0.0.1:514"),
        facility: 23,
        severity: 6,
        tag: "nginx".to_owned(),
        hostname: true,
    };
    let targets = root.access_logs.iter().map(|log| match &log.target {
        LogTarget::Syslog(syslog) => syslog.clone(),
        other => panic!("{other:?}"),
    });
    assert_eq!(
        targets.collect::<Vec<_>>(),
        [
            usual.clone(),
            Syslog {
                server: inet("[::1]:1514"),
                facility: 0,
                severity: 7,
                tag: "A_1".to_owned(),
                hostname: false,
            },
            Syslog {
                server: PeerAddress::Unix("/dev/log".into()),
                ..usual.clone()
            },
            Syslog {
                server: inet("10.0.0.1:99"),
                facility: 2,
                ..usual.clone()
            },
        ]
    );
    let log = ErrorLog {
        target: LogTarget::Syslog(usual),
        level: Level::Warn,
    };
    assert_eq!(root.error_logs, [log]);
}
