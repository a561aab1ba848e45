//! What locations become.

use super::super::template::Part;
use super::super::variable::Variable;
use super::meaning::{find, group, server_with, show};
use super::*;

#[test]
fn passes() {
    for (text, name, proxy_host, uri, redirect) in [
        ("http://u", "u", "u", None, Some(("http://u/", "/"))),
        (
            "http://U/x/",
            "u",
            "u",
            Some("/x/"),
            Some(("http://U/x/", "/a/")),
        ),
        (
            "http://10.0.0.9",
            "10.0.0.9:80",
            "10.0.0.9",
            None,
            Some(("http://10.0.0.9/", "/")),
        ),
        (
            "http://10.0.0.9:81?q",
            "10.0.0.9:81",
            "10.0.0.9:81",
            Some("/?q"),
            Some(("http://10.0.0.9:81?q", "/a/")),
        ),
        (
            "http://[::1]:81/",
            "[::1]:81",
            "[::1]:81",
            Some("/"),
            Some(("http://[::1]:81/", "/a/")),
        ),
        (
            "http://exchange.example",
            "exchange.example:80",
            "exchange.example",
            None,
            Some(("http://exchange.example/", "/")),
        ),
        (
            "http://unix:/run/x:/y",
            "unix:/run/x",
            "localhost",
            Some("/y"),
            Some(("http://unix:/run/x:/y", "/a/")),
        ),
    ] {
        let config = server_with(&format!("location /a/ {{ proxy_pass {text}; }}"));
        let location = find(&config, "/a/");
        let Action::Proxy(pass) = &location.action else {
            panic!("{text}");
        };
        let group = group(&config, location).unwrap();
        assert_eq!(
            (&group.name[..], &group.proxy_host[..]),
            (name, proxy_host),
            "{text}"
        );
        assert_eq!(pass.uri.as_deref(), uri, "{text}");
        let shown = location
            .proxy
            .redirects
            .first()
            .map(|redirect| match &redirect.from {
                RedirectFrom::Prefix(from) => (show(&config, from), show(&config, &redirect.to)),
                RedirectFrom::Regex(_) => panic!("{text}"),
            });
        let shown = shown.as_ref().map(|(from, to)| (&from[..], &to[..]));
        assert_eq!(shown, redirect, "{text}");
        assert_eq!(location.prefix, b"/a/");
    }
    let config = server_with("location /a/ { proxy_pass http://$host$request_uri; }");
    let location = find(&config, "/a/");
    assert!(location.proxy.redirects.is_empty());
    let Action::Proxy(ProxyPass {
        target: PassTarget::Variable(template),
        uri: None,
    }) = &location.action
    else {
        panic!("{:?}", location.action);
    };
    assert_eq!(show(&config, template), "http://<Host><RequestUri>");
}

#[test]
fn one_group_for_each_address() {
    let config = server_with(
        "location /a { proxy_pass http://exchange.example/x; } location /b { proxy_pass http://Exchange.example:80; }
         location /c { proxy_pass http://exchange.example:81; } location /d { proxy_pass http://u; }",
    );
    let names: Vec<_> = config
        .http
        .groups
        .iter()
        .map(|group| (&group.name[..], group.implicit))
        .collect();
    assert_eq!(
        names,
        [
            ("u", false),
            ("exchange.example:80", true),
            ("exchange.example:81", true)
        ]
    );
    let peers: Vec<_> = config.http.groups[1]
        .peers
        .iter()
        .map(|(peer, _)| &peer.name[..])
        .collect();
    assert_eq!(peers, ["10.0.0.1:80", "10.0.0.2:80"]);
}

#[test]
fn set_headers() {
    let config = server_with(
        "location / { proxy_set_header host x; proxy_set_header AUTHORIZATION $http_authorization;
                      proxy_set_header Transfer-Encoding ''; proxy_set_header X-A \"$remote_addr,$1\"; }",
    );
    let headers = &find(&config, "/").proxy.set_headers;
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (&name[..], show(&config, value)))
        .collect();
    assert_eq!(
        headers,
        [
            ("host", "x".to_owned()),
            ("X-A", "<RemoteAddr>,<Capture(1)>".to_owned())
        ]
    );
}

#[test]
fn returns_and_sets() {
    for (text, status, body) in [
        ("return 204;", 204, None),
        ("return 200 \"a $host\";", 200, Some("a <Host>")),
        (
            "return http://x$request_uri;",
            302,
            Some("http://x<RequestUri>"),
        ),
        ("return $scheme://x;", 302, Some("<Scheme>://x")),
        ("return 444; return 200;", 444, None),
    ] {
        let config = server_with(&format!(
            "set $a 1; location / {{ set $B $a; {text} set $a 2; }}"
        ));
        let location = find(&config, "/");
        let Action::Return(answer) = &location.action else {
            panic!("{text}");
        };
        let shown = answer.text.as_ref().map(|template| show(&config, template));
        assert_eq!((answer.status, shown.as_deref()), (status, body), "{text}");
        assert_eq!(config.http.user_variables, ["a", "b"]);
        let [(1, value)] = &location.sets[..] else {
            panic!("{:?}", location.sets);
        };
        assert_eq!(value.parts, [Part::Variable(Variable::User(0))]);
    }
}

#[test]
fn slashes() {
    let config = server_with(
        "location /a/ { proxy_pass http://u; } location = /b/ { proxy_pass http://u; }
         location /c/ { proxy_pass http://u; } location /c { } location /d/ { } location / { proxy_pass http://u; }",
    );
    for (path, expected) in [
        ("/a", Some("/a/<IsArgs><Args>")),
        ("/b", Some("/b/<IsArgs><Args>")),
        ("/c", None),
        ("/d", None),
        ("/a/", None),
    ] {
        let shown = match &find(&config, path).action {
            Action::Return(answer) => answer.text.as_ref().map(|text| show(&config, text)),
            _ => None,
        };
        assert_eq!(shown.as_deref(), expected, "{path}");
    }
}

#[test]
fn redirects() {
    let config = server_with(
        "proxy_redirect http://x/ /; location /a { proxy_pass http://u; }
         location /b { proxy_pass http://u; proxy_redirect off; }
         location /c { proxy_pass http://u; proxy_redirect ~*^http://(?<h>[^/]+)(/.*) $2?$h; proxy_redirect default; }",
    );
    let shown = |path| -> Vec<String> {
        let redirects = find(&config, path).proxy.redirects.iter();
        redirects
            .map(|redirect| show(&config, &redirect.to))
            .collect()
    };
    assert_eq!(shown("/a"), ["/"]);
    assert_eq!(shown("/b"), [""; 0]);
    assert_eq!(shown("/c"), ["<Capture(2)>?<Capture(1)>", "/"]);
}
