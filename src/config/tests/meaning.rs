//! What configurations become.

use std::time::Duration;

use crate::balance::Method;
use crate::limit::failures::FailLimits;

use super::super::template::{Lookup, Template};
use super::super::variable::Variable;
use super::*;

pub(super) fn server_with(text: &str) -> Config {
    match load_server(text) {
        Ok(config) => config,
        Err(error) => panic!("{text}: {error}"),
    }
}

/// The location that the first server chooses.
pub(super) fn find<'a>(config: &'a Config, path: &str) -> &'a Location {
    let server = &config.http.servers[0];
    let found = server
        .locations
        .find(path.as_bytes(), &mut Vec::new(), |_, _| {});
    &config.http.locations[found.unwrap_or(server.root)]
}

/// The name of the group that a location passes to.
pub(super) fn group<'a>(config: &'a Config, location: &Location) -> Option<&'a Group> {
    match &location.action {
        Action::Proxy(ProxyPass {
            target: PassTarget::Group(group),
            ..
        }) => Some(&config.http.groups[*group]),
        _ => None,
    }
}

/// Shows variables as `<…>`.
struct Names<'a>(&'a Config);

impl Lookup for Names<'_> {
    fn append(&self, variable: &Variable, out: &mut Vec<u8>) -> bool {
        let name = match variable {
            Variable::User(index) => self.0.http.user_variables[*index].clone(),
            other => format!("{other:?}"),
        };
        out.extend_from_slice(format!("<{name}>").as_bytes());
        true
    }
}

pub(super) fn show(config: &Config, template: &Template) -> String {
    let mut out = Vec::new();
    template.render(&Names(config), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn exchange() {
    let options = options();
    let types = [(
        "/p/conf/mime.types",
        "types { text/html html htm; text/plain txt; }",
    )];
    let config = load_with(EXCHANGE, &types, &options).unwrap();
    assert_eq!(config.files.len(), 2);
    assert_eq!(config.main.workers, None);
    assert_eq!(config.main.worker_connections, 4096);
    assert_eq!(config.http.groups.len(), 7);
    assert!(
        config
            .http
            .groups
            .iter()
            .all(|group| group.ntlm.is_some() && !group.implicit)
    );
    let warned: Vec<_> = config
        .warnings
        .iter()
        .filter_map(|w| w.split('"').nth(1))
        .collect();
    let accepted = [
        "types",
        "zone",
        "proxy_buffering",
        "proxy_request_buffering",
        "proxy_buffers",
        "multi_accept",
    ];
    assert_eq!(warned, accepted);
    for (path, expected) in [
        ("/anything", Some("exchange")),
        ("/owa/auth", Some("exchange-owa")),
        ("/ews/exchange.asmx", Some("exchange-ews")),
        ("/mapi/emsmdb", Some("exchange-mapi")),
        ("/rpc/rpcproxy.dll", Some("exchange-rpc")),
        (
            "/Autodiscover/autodiscover.xml",
            Some("exchange-autodiscover"),
        ),
        ("/oab/x", Some("exchange")),
        ("/", None),
        ("/status", None),
        // `location /rpc/` passes requests on, so `/rpc` is sent there.
        ("/rpc", None),
    ] {
        let location = find(&config, path);
        let group = group(&config, location).map(|group| &group.name[..]);
        assert_eq!(group, expected, "{path}");
        assert_eq!(location.proxy.read_timeout, Duration::from_secs(3 * 3600));
        assert_eq!(location.client.max_body_size, 2 << 30);
        assert_eq!(
            location.access_logs.len(),
            1 - usize::from(path == "/favicon.ico")
        );
    }
    let ews = group(&config, find(&config, "/ews")).unwrap();
    assert_eq!(ews.method, Method::LeastConn);
    assert_eq!(ews.pool.connections, 64);
    let limits = ews.ntlm.unwrap();
    assert_eq!(
        (limits.connections, limits.idle_timeout.as_secs()),
        (500, 1800)
    );
    assert!(!find(&config, "/ecp").access.allows("10.0.0.1".parse().ok()));
    assert!(find(&config, "/owa").access.allows("10.0.0.1".parse().ok()));
    let headers = &find(&config, "/owa").proxy.set_headers;
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (&name[..], show(&config, value)))
        .collect();
    let header = |name| {
        headers
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| &value[..])
    };
    assert_eq!(header("Host"), Some("<Host>"));
    assert_eq!(header("Connection"), Some(""));
    assert_eq!(config.http.servers[0].name, "mail.example.com");
    assert_eq!(config.http.servers[0].head.total, 256 << 10);
    let mut assigned = Vec::new();
    let path = b"/autodiscover/a";
    config.http.servers[0]
        .locations
        .find(path, &mut Vec::new(), |variable, value| {
            assigned.push((config.http.user_variables[variable].clone(), value.to_vec()));
        });
    assert_eq!(assigned, [("rest".to_owned(), b"/a".to_vec())]);
}

#[test]
fn defaults() {
    let config = load_text("events{}").unwrap();
    assert!(config.main.daemon);
    assert_eq!(config.main.workers, Some(1));
    assert_eq!(config.main.worker_connections, 512);
    assert_eq!(config.main.pid, Path::new("/p/logs/ntlmfront.pid"));
    assert_eq!(config.main.error_logs[0].target, LogTarget::Stderr);
    let config = server_with("location / { proxy_pass http://u; }");
    let location = find(&config, "/");
    assert_eq!(location.client.keepalive_timeout, Duration::from_secs(75));
    assert_eq!(location.client.max_body_size, 1 << 20);
    assert_eq!(location.proxy.ntlm, None);
    assert!(location.access_logs.is_empty());
    assert_eq!(location.proxy.hidden.len(), 8);
    let [(name, value)] = &location.proxy.set_headers[..] else {
        panic!("{:?}", location.proxy.set_headers);
    };
    assert_eq!(
        (&name[..], show(&config, value)),
        ("Host", "<ProxyHost>".to_owned())
    );
    let group = group(&config, location).unwrap();
    assert_eq!((group.pool.connections, group.peers.len()), (32, 1));
    assert_eq!(group.peers[0].0.fail_timeout, Duration::from_secs(10));
    assert!(matches!(find(&config, "x").action, Action::NotFound));
    let listener = &config.http.listeners[0];
    assert_eq!(
        listener.address,
        ListenAddress::Inet("0.0.0.0:80".parse().unwrap())
    );
    assert_eq!((listener.backlog, listener.ipv6only), (511, true));
}

/// As in nginx, 0 is no limit.
#[test]
fn the_time_that_a_graceful_stop_may_take() {
    for (value, expected) in [
        ("0", None),
        ("0s", None),
        ("1ms", Some(Duration::from_millis(1))),
        ("1h", Some(Duration::from_secs(3600))),
    ] {
        let config = load_text(&format!("worker_shutdown_timeout {value};events{{}}")).unwrap();
        assert_eq!(config.main.shutdown_timeout, expected, "{value}");
    }
}

#[test]
fn lists_are_inherited_whole_or_not_at_all() {
    let config = server_with(
        "proxy_set_header A 1; add_header B 2; deny all; access_log x; error_log y;
         proxy_hide_header H; proxy_pass_header Server; proxy_read_timeout 5; ntlm_timeout 7; error_log z;
         set $s 1;
         location /same { proxy_pass http://u; location /same/nested { } }
         location /own { proxy_pass http://u; ntlm 3; proxy_read_timeout 6; proxy_set_header C 3; add_header D 4 always;
                         allow all; access_log off; error_log stderr debug; proxy_hide_header I; }",
    );
    let same = find(&config, "/same");
    let own = find(&config, "/own");
    let names = |location: &Location| -> Vec<String> {
        location
            .proxy
            .set_headers
            .iter()
            .map(|(name, _)| name.clone())
            .collect()
    };
    assert_eq!(
        (names(same), names(own)),
        (
            vec!["A".to_owned(), "Host".to_owned()],
            vec!["C".to_owned(), "Host".to_owned()]
        )
    );
    assert_eq!(
        (&same.add_headers[0].name[..], same.add_headers[0].always),
        ("B", false)
    );
    assert_eq!(
        (&own.add_headers[0].name[..], own.add_headers[0].always),
        ("D", true)
    );
    assert_eq!(
        (same.access.allows(None), own.access.allows(None)),
        (false, true)
    );
    assert_eq!((same.access_logs.len(), own.access_logs.len()), (1, 0));
    assert_eq!(same.access_logs[0].target, LogTarget::File("/p/x".into()));
    assert_eq!((same.error_logs.len(), own.error_logs.len()), (2, 1));
    assert_eq!(own.error_logs[0].level, Level::Debug);
    assert!(same.proxy.hidden.contains(&"h".to_owned()));
    assert!(!own.proxy.hidden.contains(&"h".to_owned()));
    assert!(own.proxy.hidden.contains(&"i".to_owned()));
    assert!(!same.proxy.hidden.contains(&"server".to_owned()));
    assert_eq!(
        (
            same.proxy.read_timeout.as_secs(),
            own.proxy.read_timeout.as_secs()
        ),
        (5, 6)
    );
    assert_eq!(same.proxy.ntlm, None);
    let limits = own.proxy.ntlm.unwrap();
    assert_eq!((limits.connections, limits.idle_timeout.as_secs()), (3, 7));
    let nested = find(&config, "/same/nested");
    assert!(matches!(nested.action, Action::NotFound));
    assert_eq!(nested.proxy.read_timeout.as_secs(), 5);
    assert!(nested.sets.is_empty());
    assert_eq!(config.http.servers[0].sets.len(), 1);
}

#[test]
fn upstreams() {
    let text = "events{}http{ server { location / { proxy_pass http://Late; } }
        upstream late { ntlm 5; server exchange.example:8080 weight=3 max_fails=0 fail_timeout=1m max_conns=7;
                        server unix:/run/x down; hash $host consistent; keepalive 0; ntlm_reauth same; } }";
    let config = load_text(text).unwrap();
    let group = group(&config, find(&config, "/")).unwrap();
    assert_eq!(group.method, Method::Hash { consistent: true });
    assert_eq!(show(&config, group.hash_key.as_ref().unwrap()), "<Host>");
    assert_eq!(group.pool.connections, 0);
    assert!(group.ntlm.unwrap().reauth_same);
    let peers: Vec<_> = group
        .peers
        .iter()
        .map(|(peer, _)| (&peer.name[..], peer.weight, peer.max_conns, peer.down))
        .collect();
    assert_eq!(
        peers,
        [
            ("10.0.0.1:8080", 3, 7, false),
            ("10.0.0.2:8080", 3, 7, false),
            ("unix:/run/x", 1, 0, true)
        ]
    );
    for (text, expected) in [
        ("", Method::RoundRobin),
        ("ip_hash;", Method::IpHash),
        ("random;", Method::Random { two: false }),
        ("random two least_conn;", Method::Random { two: true }),
        ("hash $uri;", Method::Hash { consistent: false }),
        ("hash $uri; least_conn;", Method::LeastConn),
    ] {
        let config = load_text(&format!(
            "events{{}}http{{upstream u{{server 10.0.0.1;{text}}}}}"
        ))
        .unwrap();
        assert_eq!(config.http.groups[0].method, expected, "{text}");
    }
}

#[test]
fn listeners() {
    let text = "events{} http{
        server { listen 127.0.0.1:81 backlog=7 so_keepalive=30m::10; server_name a .b; return 200; }
        server { listen localhost:81 default_server; listen [::1]:81 ipv6only=off; server_name ~^(?<x>c).d$ b; }
        server { listen 127.0.0.1:81 proxy_protocol; listen 0; listen *:0; listen unix:/run/l; }
        server { server_name $hostname; } }";
    let config = load_text(text).unwrap();
    let listeners = &config.http.listeners;
    let addresses: Vec<_> = listeners
        .iter()
        .map(|listener| format!("{:?}", listener.address))
        .collect();
    let expected = [
        "Inet(127.0.0.1:81)",
        "Inet([::1]:81)",
        "Inet(0.0.0.0:0)",
        "Inet(0.0.0.0:0)",
        "Unix(\"/run/l\")",
        "Inet(0.0.0.0:80)",
    ];
    assert_eq!(addresses, expected);
    assert_eq!(
        config.warnings,
        ["conflicting server name \"b\" on 127.0.0.1:81, ignored"]
    );
    assert_eq!(
        (listeners[0].backlog, listeners[0].proxy_protocol),
        (7, true)
    );
    let keepalive = listeners[0].keepalive.unwrap();
    assert_eq!(
        (keepalive.idle, keepalive.interval, keepalive.count),
        (Some(Duration::from_secs(1800)), None, Some(10))
    );
    assert!(!listeners[1].ipv6only);
    for (host, expected) in [
        ("a", 0),
        ("b", 0),
        ("x.b", 0),
        ("c.d", 1),
        ("", 2),
        ("other", 1),
    ] {
        let found = listeners[0]
            .names
            .find(host.as_bytes(), &mut Vec::new(), |_, _| {});
        assert_eq!(found, expected, "{host}");
    }
    let names: Vec<_> = config
        .http
        .servers
        .iter()
        .map(|server| &server.name[..])
        .collect();
    assert_eq!(names[..3], ["a", "~^(?<x>c).d$", ""]);
}

#[test]
fn maps() {
    let text = "events{} http{
        server { location / { return 200 $m$up; } }
        map $http_upgrade $up { default upgrade; '' close; include more; }
        map $host $m { hostnames; .example.com $up; ~*^(?<first>.)(.) $2$first; volatile; } }";
    let config = load_with(text, &[("/p/conf/more", "x y;")], &options()).unwrap();
    let Action::Return(answer) = &find(&config, "/").action else {
        panic!()
    };
    let template = answer.text.as_ref().unwrap();
    assert_eq!(show(&config, template), "<Map(1)><Map(0)>");
    let [up, m] = &config.http.maps[..] else {
        panic!()
    };
    for (map, value, expected) in [
        (up, "", "close"),
        (up, "X", "y"),
        (up, "websocket", "upgrade"),
        (m, "a.example.com", "<Map(0)>"),
        (m, "Ab", "<Capture(2)><Capture(1)>"),
        (m, "", ""),
    ] {
        assert_eq!(
            show(&config, map.find(value.as_bytes())),
            expected,
            "{value}"
        );
    }
}

#[test]
fn simple() {
    let config = Config::simple("127.0.0.1:0", "http://127.0.0.1:8080", 50).unwrap();
    assert!(!config.main.daemon);
    assert_eq!(config.main.workers, None);
    assert_eq!(config.warnings, [""; 0]);
    assert_eq!(config.http.listeners.len(), 1);
    let location = find(&config, "/x");
    assert_eq!(location.proxy.ntlm.unwrap().connections, 50);
    assert_eq!(group(&config, location).unwrap().name, "127.0.0.1:8080");
    assert_eq!(config.main.error_logs[0].target, LogTarget::Stderr);
    let config = Config::simple("127.0.0.1:0", "https://127.0.0.1", 50).unwrap();
    let tls = &group(&config, find(&config, "/x")).unwrap();
    assert_eq!(
        (tls.port, &tls.tls.as_ref().unwrap().name[..]),
        (443, "127.0.0.1")
    );
    assert_eq!(config.warnings.len(), 1);
    for (listen, upstream, expected) in [
        ("x y", "a", "invalid address \"x y\""),
        ("80", "", "invalid address \"\""),
        (
            "1.2.3.4:80;",
            "127.0.0.1",
            "invalid port in \"1.2.3.4:80;\" of the \"listen\" directive in command line",
        ),
        (
            "80",
            "ftp://127.0.0.1",
            "invalid URL prefix in command line",
        ),
        ("80", "$x", "unknown \"x\" variable in command line"),
    ] {
        match Config::simple(listen, upstream, 1) {
            Ok(_) => panic!("{listen} {upstream}"),
            Err(error) => assert_eq!(error.to_string(), expected),
        }
    }
}

#[test]
fn the_real_file_system() {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("main", "events {} include d/*.conf;"),
        ("d/b.conf", "pid y;"),
        ("d/a.conf", "daemon off;"),
        ("d/.c.conf", "x;"),
    ] {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let options = Options {
        prefix: directory.path().to_owned(),
        file: "main".into(),
        ..options()
    };
    let config = load(&options, &System, &System).unwrap();
    assert!(!config.main.daemon);
    let names: Vec<_> = config
        .files
        .iter()
        .filter_map(|(path, _)| path.file_name())
        .collect();
    assert_eq!(names, ["main", "a.conf", "b.conf"]);
    assert!(
        System
            .resolve("localhost")
            .is_ok_and(|found| !found.is_empty())
    );
}

#[test]
fn what_clients_may_do_with_logins() {
    let config = server_with(
        "ntlm_fail_delay 2s; ntlm_pins_per_client 3; ntlm_refuse_via on;
         location / { ntlm_refuse_via off; ntlm_log_user on; }
         location /own { ntlm_fail_delay 500ms after=0 forget=10m max=1m; }
         location /slow { ntlm_fail_delay 45s; }
         location /off { ntlm_fail_delay off; }",
    );
    let proxy = |path| &find(&config, path).proxy;
    let limits = |delay, after, forget, max| {
        Some(FailLimits {
            delay: Duration::from_millis(delay),
            after,
            forget: Duration::from_secs(forget),
            max: Duration::from_secs(max),
        })
    };
    assert_eq!(proxy("/").pins_per_client, 3);
    assert!(!proxy("/").refuse_via && proxy("/own").refuse_via);
    assert!(proxy("/").log_user && !proxy("/own").log_user);
    for (path, expected) in [
        ("/", limits(2000, 3, 60, 30)),
        ("/own", limits(500, 0, 600, 60)),
        ("/slow", limits(45_000, 3, 60, 45)),
        ("/off", None),
    ] {
        assert_eq!(proxy(path).fail_delay, expected, "{path}");
    }
    let config = server_with("");
    let proxy = &find(&config, "/").proxy;
    assert_eq!(
        (proxy.pins_per_client, proxy.refuse_via, proxy.fail_delay),
        (8, false, None)
    );
}
