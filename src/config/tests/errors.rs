//! Snippets and what is said about them, `/p/conf/f` being the file: nginx's words wherever nginx has some.

use super::*;

/// The error or the warnings of a text, as they stand in the log.
fn said(text: &str) -> String {
    match load_text(text) {
        Ok(config) => {
            let warnings = config
                .warnings
                .iter()
                .map(|warning| format!("[warn] {warning}"));
            warnings.collect::<Vec<_>>().join("; ")
        }
        Err(error) => format!("[emerg] {error}"),
    }
}

fn check(before: &str, rows: &[(&str, &str)], after: &str) {
    for (text, expected) in rows {
        let expected = match expected.ends_with('…') {
            true => expected.replace('…', " in /p/conf/f:2"),
            false => (*expected).to_owned(),
        };
        assert_eq!(said(&format!("{before}{text}{after}")), expected, "{text}");
    }
}

#[test]
#[rustfmt::skip]
fn in_main() {
    check("", &[
        ("", r#"[emerg] no "events" section in configuration"#),
        ("http{}", r#"[emerg] no "events" section in configuration"#),
        ("events{", r#"[emerg] unexpected end of file, expecting "}" in /p/conf/f:1"#),
        ("}", r#"[emerg] unexpected "}" in /p/conf/f:1"#),
        ("events{}}", r#"[emerg] unexpected "}" in /p/conf/f:1"#),
        ("events{};", r#"[emerg] unexpected ";" in /p/conf/f:1"#),
        ("nonsense;", r#"[emerg] unknown directive "nonsense" in /p/conf/f:1"#),
        ("nonsense {", r#"[emerg] unknown directive "nonsense" in /p/conf/f:1"#),
        ("events;", r#"[emerg] directive "events" has no opening "{" in /p/conf/f:1"#),
        ("events a{}", r#"[emerg] invalid number of arguments in "events" directive in /p/conf/f:1"#),
        ("daemon on;daemon off;events{}", r#"[emerg] "daemon" directive is duplicate in /p/conf/f:1"#),
        ("daemon maybe;events{}", r#"[emerg] invalid value "maybe" in "daemon" directive, it must be "on" or "off" in /p/conf/f:1"#),
        ("daemon;events{}", r#"[emerg] invalid number of arguments in "daemon" directive in /p/conf/f:1"#),
        ("daemon on off;events{}", r#"[emerg] invalid number of arguments in "daemon" directive in /p/conf/f:1"#),
        ("daemon on {}", r#"[emerg] directive "daemon" is not terminated by ";" in /p/conf/f:1"#),
        ("listen 80;", r#"[emerg] "listen" directive is not allowed here in /p/conf/f:1"#),
        ("worker_processes x;events{}", r#"[emerg] "worker_processes" directive invalid value in /p/conf/f:1"#),
        ("worker_processes 0;events{}", r#"[emerg] "worker_processes" directive invalid value in /p/conf/f:1"#),
        ("error_log a b;events{}", r#"[emerg] invalid log level "b" in /p/conf/f:1"#),
        ("events{worker_connections x;}", r#"[emerg] invalid number "x" in /p/conf/f:1"#),
        ("events{worker_connections 0;}", r#"[emerg] invalid number "0" in /p/conf/f:1"#),
        ("include nothing;", r#"[emerg] open() "/p/conf/nothing" failed (2: No such file or directory) in /p/conf/f:1"#),
        ("include no/*.conf;events{}", ""),
        ("include;", r#"[emerg] invalid number of arguments in "include" directive in /p/conf/f:1"#),
        ("events{}http{}http{}", r#"[emerg] "http" directive is duplicate in /p/conf/f:1"#),
        (r#"events {} http { "a"b; }"#, r#"[emerg] unexpected "b" in /p/conf/f:1"#),
        ("events {\n# x\n\n", r#"[emerg] unexpected end of file, expecting "}" in /p/conf/f:4"#),
        ("worker_shutdown_timeout x;events{}", r#"[emerg] "worker_shutdown_timeout" directive invalid value in /p/conf/f:1"#),
        ("worker_rlimit_nofile x;events{}", r#"[emerg] "worker_rlimit_nofile" directive invalid number in /p/conf/f:1"#),
        ("user nobody a b;events{}", r#"[emerg] invalid number of arguments in "user" directive in /p/conf/f:1"#),
        ("events{}http{server{listen 80", r#"[emerg] unexpected end of file, expecting ";" or "}" in /p/conf/f:1"#),
        ("pid", r#"[emerg] unexpected end of file, expecting ";" or "}" in /p/conf/f:1"#),
        (r#"pid "a"#, r#"[emerg] unexpected end of file, expecting ";" or "}" in /p/conf/f:1"#),
    ], "");
}

#[test]
#[rustfmt::skip]
fn in_http() {
    check("events{}http{\n", &[
        ("client_max_body_size x;", r#"[emerg] "client_max_body_size" directive invalid value…"#),
        ("keepalive_timeout x;", r#"[emerg] "keepalive_timeout" directive invalid value…"#),
        ("keepalive_timeout 1 x;", r#"[emerg] "keepalive_timeout" directive invalid value…"#),
        ("keepalive_requests x;", r#"[emerg] "keepalive_requests" directive invalid number…"#),
        ("send_timeout 1z;", r#"[emerg] "send_timeout" directive invalid value…"#),
        ("tcp_nodelay 1;", r#"[emerg] invalid value "1" in "tcp_nodelay" directive, it must be "on" or "off"…"#),
        ("large_client_header_buffers 0 8k;", r#"[emerg] "large_client_header_buffers" directive invalid value…"#),
        ("large_client_header_buffers 4 x;", r#"[emerg] "large_client_header_buffers" directive invalid value…"#),
        ("add_header a;", r#"[emerg] invalid number of arguments in "add_header" directive…"#),
        ("add_header a b c;", r#"[emerg] invalid parameter "c"…"#),
        ("log_format a;", r#"[emerg] invalid number of arguments in "log_format" directive…"#),
        ("log_format a b;log_format a c;", r#"[emerg] duplicate "log_format" name "a"…"#),
        ("log_format combined b;", r#"[emerg] duplicate "log_format" name "combined"…"#),
        ("log_format a escape=x b;", r#"[emerg] unknown log format escaping "x"…"#),
        ("log_format a $x;", r#"[emerg] unknown "x" variable…"#),
        ("log_format a $;", "[emerg] invalid variable name…"),
        ("log_format a ${host;", r#"[emerg] the closing bracket in "host" variable is missing…"#),
        ("log_format a ${};", "[emerg] invalid variable name…"),
        ("access_log a b;", r#"[emerg] unknown log format "b"…"#),
        ("access_log off x;", r#"[emerg] invalid parameter "x"…"#),
        ("access_log a combined x=1;", r#"[emerg] invalid parameter "x=1"…"#),
        ("access_log a combined if=$x;", r#"[emerg] unknown "x" variable…"#),
        ("map $host x {}", r#"[emerg] invalid variable name "x"…"#),
        ("map $host $ {}", r#"[emerg] invalid variable name "$"…"#),
        ("map $host $x { a b c; }", "[emerg] invalid number of the map parameters…"),
        ("map $host $x { a b; A c; }", r#"[emerg] conflicting parameter "a"…"#),
        ("map $host $x { default a; default b; }", "[emerg] duplicate default map parameter…"),
        ("map $host $x { hostnames; a*.b c; }", r#"[emerg] invalid hostname or wildcard "a*.b"…"#),
        ("map $host $host {}", r#"[emerg] the duplicate "host" variable…"#),
        ("map $x $y {}", r#"[emerg] unknown "x" variable…"#),
        ("map $host $x { ~( a; }", r#"[emerg] regular expression "(" cannot be used: unclosed group…"#),
        ("map $host $x { a b {} }", r#"[emerg] unexpected "{"…"#),
        ("map $host $x { a $y; }", r#"[emerg] unknown "y" variable…"#),
        ("map $host $x { ~ a; }", ""),
        ("map $host $x { volatile; volatile; hostnames; hostnames a; }", ""),
        ("allow x;", r#"[emerg] invalid parameter "x"…"#),
        ("deny 10.0.0.0/33;", r#"[emerg] invalid parameter "10.0.0.0/33"…"#),
        ("allow 10.0.0.1/8;", "[warn] low address bits of 10.0.0.1/8 are meaningless…"),
        ("allow;", r#"[emerg] invalid number of arguments in "allow" directive…"#),
        ("allow unix:;deny all;", ""),
        ("set_real_ip_from x;", r#"[emerg] host not found in set_real_ip_from "x"…"#),
        ("set_real_ip_from 10.0.0.0/40;", r#"[emerg] host not found in set_real_ip_from "10.0.0.0/40"…"#),
        ("upstream v{server 10.0.0.1;}upstream v{server 10.0.0.1;}", r#"[emerg] duplicate upstream "v"…"#),
        ("upstream v{server 10.0.0.1;}upstream V{server 10.0.0.1;}", r#"[emerg] duplicate upstream "V"…"#),
        ("server{listen 8080 default_server;}server{listen 8080 default_server;}", "[emerg] a duplicate default server for 0.0.0.0:8080…"),
        ("server{listen 8080 backlog=1;}server{listen 8080 backlog=2;}", "[emerg] duplicate listen options for 0.0.0.0:8080…"),
        ("server{listen 8080 reuseport;}server{listen 8080 default_server;}", r#"[warn] conflicting server name "" on 0.0.0.0:8080, ignored"#),
        ("server{listen 8080;}server{listen 8080;}", r#"[warn] conflicting server name "" on 0.0.0.0:8080, ignored"#),
        ("server{listen 8080;server_name a;}server{listen 8080;server_name a b;}", r#"[warn] conflicting server name "a" on 0.0.0.0:8080, ignored"#),
        ("server{listen 8080;server_name a*.b;}server{listen 8080;}", r#"[emerg] invalid server name or wildcard "a*.b" on 0.0.0.0:8080"#),
        ("server{listen 8080;server_name a*.b;}", r#"[emerg] invalid server name or wildcard "a*.b" on 0.0.0.0:8080"#),
    ], "\n}");
}

#[test]
#[rustfmt::skip]
fn of_limits() {
    const ZONES: &str = "limit_req_zone $uri zone=r:1m rate=1r/s;limit_conn_zone $uri zone=c:1m;";
    check("events{}http{\n", &[
        ("limit_req_zone $uri zone=a:1m;", r#"[emerg] invalid number of arguments in "limit_req_zone" directive…"#),
        ("limit_req_zone $uri zone=a rate=1r/s;", r#"[emerg] invalid zone size "zone=a"…"#),
        ("limit_req_zone $uri zone=a:x rate=1r/s;", r#"[emerg] invalid zone size "zone=a:x"…"#),
        ("limit_req_zone $uri zone=a:31k rate=1r/s;", r#"[emerg] zone "zone=a:31k" is too small…"#),
        ("limit_req_zone $uri zone=:1m rate=1r/s;", r#"[emerg] "limit_req_zone" must have "zone" parameter…"#),
        ("limit_req_zone $uri zone=a:1m rate=0r/s;", r#"[emerg] invalid rate "rate=0r/s"…"#),
        ("limit_req_zone $uri zone=a:1m rate=1.5r/s;", r#"[emerg] invalid rate "rate=1.5r/s"…"#),
        ("limit_req_zone $uri zone=a:1m rate=1r/h;", r#"[emerg] invalid rate "rate=1r/h"…"#),
        ("limit_req_zone $uri zone=a:1m rate=r/m;", r#"[emerg] invalid rate "rate=r/m"…"#),
        ("limit_req_zone $uri zone=a:1m x=1;", r#"[emerg] invalid parameter "x=1"…"#),
        ("limit_req_zone $nothing zone=a:1m rate=1r/s;", r#"[emerg] unknown "nothing" variable…"#),
        ("limit_req_zone $uri zone=a:32k rate=5;server{limit_req zone=a;}", ""),
        ("limit_req_zone $uri zone=a:1m rate=1r/s;limit_req_zone $uri zone=a:1m rate=2r/s;", r#"[emerg] limit_req_zone "a" is already bound to key "$uri"…"#),
        ("limit_req_zone $uri zone=a:1m rate=1r/s;limit_req_zone $uri zone=a:2m rate=1r/s;", r#"[emerg] the size 2097152 of shared memory zone "a" conflicts with already declared size 1048576…"#),
        ("limit_conn_zone $uri zone=a:1m;limit_req_zone $uri zone=a:1m rate=1r/s;", r#"[emerg] the shared memory zone "a" is already declared for a different use…"#),
        ("limit_conn_zone $uri zone=a:1m;limit_conn_zone $host zone=a:1m;", r#"[emerg] limit_conn_zone "a" is already bound to key "$uri"…"#),
        ("limit_conn_zone $uri zone=a;", r#"[emerg] invalid zone size "zone=a"…"#),
        ("limit_conn_zone $uri rate=1r/s;", r#"[emerg] invalid parameter "rate=1r/s"…"#),
        ("limit_conn_zone all zone=a:1m;", ""),
        ("limit_req zone=x;", r#"[emerg] zero size shared memory zone "x"…"#),
        ("limit_conn x 1;", r#"[emerg] zero size shared memory zone "x"…"#),
        ("limit_req_status 399;", "[emerg] value must be between 400 and 599…"),
        ("limit_conn_status 600;", "[emerg] value must be between 400 and 599…"),
        ("limit_req_status x;", r#"[emerg] "limit_req_status" directive invalid number…"#),
        ("limit_req_log_level crit;", r#"[emerg] invalid value "crit"…"#),
        ("limit_conn_log_level x;", r#"[emerg] invalid value "x"…"#),
        ("limit_conn_dry_run x;", r#"[emerg] invalid value "x" in "limit_conn_dry_run" directive, it must be "on" or "off"…"#),
        ("server{limit_conn_zone $uri zone=a:1m;}", r#"[emerg] "limit_conn_zone" directive is not allowed here…"#),
    ], "\n}");
    check(&format!("events{{}}http{{{ZONES}\n"), &[
        ("limit_req burst=1;", r#"[emerg] "limit_req" must have "zone" parameter…"#),
        ("limit_req zone=r burst=0;", r#"[emerg] invalid burst value "burst=0"…"#),
        ("limit_req zone=r burst=x;", r#"[emerg] invalid burst value "burst=x"…"#),
        ("limit_req zone=r delay=0;", r#"[emerg] invalid delay value "delay=0"…"#),
        ("limit_req zone=r now;", r#"[emerg] invalid parameter "now"…"#),
        ("limit_req zone=r burst=5 nodelay delay=3;", r#"[emerg] invalid number of arguments in "limit_req" directive…"#),
        ("limit_req zone=r;limit_req zone=r burst=5;", r#"[emerg] "limit_req" directive is duplicate…"#),
        ("limit_req zone=c;", r#"[emerg] the shared memory zone "c" is already declared for a different use…"#),
        ("limit_conn c;", r#"[emerg] invalid number of arguments in "limit_conn" directive…"#),
        ("limit_conn c 0;", r#"[emerg] invalid number of connections "0"…"#),
        ("limit_conn c 65536;", "[emerg] connection limit must be less 65536…"),
        ("limit_conn c 65535;", ""),
        ("limit_conn c 1;limit_conn c 2;", r#"[emerg] "limit_conn" directive is duplicate…"#),
        ("limit_conn r 1;", r#"[emerg] the shared memory zone "r" is already declared for a different use…"#),
    ], "\n}");
}

#[test]
#[rustfmt::skip]
fn in_upstream() {
    check("events{}http{\nupstream v{", &[
        ("", "[emerg] no servers are inside upstream…"),
        ("server;", r#"[emerg] invalid number of arguments in "server" directive…"#),
        ("server 10.0.0.1:x;", r#"[emerg] invalid port in upstream "10.0.0.1:x"…"#),
        ("server 10.0.0.1:0;", r#"[emerg] invalid port in upstream "10.0.0.1:0"…"#),
        ("server nohost.invalid;", r#"[emerg] host not found in upstream "nohost.invalid"…"#),
        ("server nohost.invalid:8080;", r#"[emerg] host not found in upstream "nohost.invalid:8080"…"#),
        ("server http://a;", r#"[emerg] invalid host in upstream "http://a"…"#),
        ("server :80;", r#"[emerg] no host in upstream ":80"…"#),
        ("server unix:;", r#"[emerg] no path in the unix domain socket in upstream "unix:"…"#),
        ("server [::1]:80;", ""),
        ("server [::1;", r#"[emerg] invalid host in upstream "[::1"…"#),
        ("server 10.0.0.1 weight=0;", r#"[emerg] invalid parameter "weight=0"…"#),
        ("server 10.0.0.1 nonsense;", r#"[emerg] invalid parameter "nonsense"…"#),
        ("server 10.0.0.1 max_fails=x;", r#"[emerg] invalid parameter "max_fails=x"…"#),
        ("server 10.0.0.1 backup;", r#"[emerg] no servers in upstream "v"…"#),
        ("ip_hash;server 10.0.0.1;server 10.0.0.2 backup;", r#"[emerg] balancing method does not support parameter "backup"…"#),
        ("server 10.0.0.1;keepalive x;", r#"[emerg] invalid value "x" in "keepalive" directive…"#),
        ("server 10.0.0.1;keepalive;", r#"[emerg] invalid number of arguments in "keepalive" directive…"#),
        ("least_conn;ip_hash;server 10.0.0.1;", "[warn] load balancing method redefined…"),
        ("hash;server 10.0.0.1;", r#"[emerg] invalid number of arguments in "hash" directive…"#),
        ("hash $host x;server 10.0.0.1;", r#"[emerg] invalid parameter "x"…"#),
        ("random x;server 10.0.0.1;", r#"[emerg] invalid parameter "x"…"#),
        ("random two x;server 10.0.0.1;", r#"[emerg] invalid parameter "x"…"#),
        ("least_conn;least_conn;server 10.0.0.1;", "[warn] load balancing method redefined…"),
        ("proxy_pass http://a;server 10.0.0.1;", r#"[emerg] "proxy_pass" directive is not allowed here…"#),
        ("hash $x; server 10.0.0.1;", r#"[emerg] unknown "x" variable…"#),
    ], "}\n}");
}

#[test]
#[rustfmt::skip]
fn in_server() {
    check("events{}http{upstream u{server 10.0.0.1;}server{\n", &[
        ("listen;", r#"[emerg] invalid number of arguments in "listen" directive…"#),
        ("listen x:y;", r#"[emerg] invalid port in "x:y" of the "listen" directive…"#),
        ("listen 99999;", r#"[emerg] invalid port in "99999" of the "listen" directive…"#),
        ("listen 127.0.0.1:99999;", r#"[emerg] invalid port in "127.0.0.1:99999" of the "listen" directive…"#),
        ("listen nohost.invalid;", r#"[emerg] host not found in "nohost.invalid" of the "listen" directive…"#),
        ("listen 8080;listen 8080;", "[emerg] a duplicate listen 0.0.0.0:8080…"),
        ("listen 8080;listen *:8080;", "[emerg] a duplicate listen 0.0.0.0:8080…"),
        ("listen 8080 nonsense;", r#"[emerg] invalid parameter "nonsense"…"#),
        ("listen 8080 a=b;", r#"[emerg] invalid parameter "a=b"…"#),
        ("listen 8080 backlog=x;", r#"[emerg] invalid backlog "backlog=x"…"#),
        ("listen [::1]:8080 ipv6only=x;", r#"[emerg] invalid parameter "ipv6only=x"…"#),
        ("listen 8080 so_keepalive=x;", r#"[emerg] invalid so_keepalive value: "x"…"#),
        ("listen 8080 so_keepalive=on:1;", r#"[emerg] invalid so_keepalive value: "on:1"…"#),
        ("listen 8080 so_keepalive=::;", r#"[emerg] invalid so_keepalive value: "::"…"#),
        ("listen 8080 so_keepalive=30m::10;", ""),
        ("listen [::1;", r#"[emerg] invalid host in "[::1" of the "listen" directive…"#),
        ("listen unix:;", r#"[emerg] no path in the unix domain socket in "unix:" of the "listen" directive…"#),
        ("listen 127.0.0.1/8;", r#"[emerg] invalid host in "127.0.0.1/8" of the "listen" directive…"#),
        ("listen 127.0.0.1:8081;", ""),
        ("listen :80;", r#"[emerg] no host in ":80" of the "listen" directive…"#),
        ("listen *;", ""),
        ("listen 8080 ipv6only=on;", ""),
        ("server_name *;", r#"[emerg] server name "*" is invalid…"#),
        ("server_name .;", r#"[emerg] server name "." is invalid…"#),
        ("server_name *a.b;", r#"[emerg] server name "*a.b" is invalid…"#),
        ("server_name ~;", r#"[emerg] empty regex in server name "~"…"#),
        ("server_name ~(;", r#"[emerg] regular expression "(" cannot be used: unclosed group…"#),
        ("server_name a/b;", r#"[warn] server name "a/b" has suspicious symbols…"#),
        ("server_name ~^(?<host>a);", r#"[emerg] the duplicate "host" variable…"#),
        ("server_name;", r#"[emerg] invalid number of arguments in "server_name" directive…"#),
        ("location;", r#"[emerg] directive "location" has no opening "{"…"#),
        ("location /;", r#"[emerg] directive "location" has no opening "{"…"#),
        ("location / / / {}", r#"[emerg] invalid number of arguments in "location" directive…"#),
        ("location x / {}", r#"[emerg] invalid location modifier "x"…"#),
        ("location / {}location / {}", r#"[emerg] duplicate location "/"…"#),
        ("location = / {}location = / {}", r#"[emerg] duplicate location "/"…"#),
        ("location / {}location ^~ / {}", r#"[emerg] duplicate location "/"…"#),
        ("location / {}location = / {}", ""),
        ("location @a {}location @a {}", ""),
        ("location ~ ( {}", r#"[emerg] regular expression "(" cannot be used: unclosed group…"#),
        ("location /a { location /b {} }", r#"[emerg] location "/b" is outside location "/a"…"#),
        ("location = /a { location /a {} }", r#"[emerg] location "/a" cannot be inside the exact location "/a"…"#),
        ("location @a { location /a {} }", r#"[emerg] location "/a" cannot be inside the named location "@a"…"#),
        ("location /a { location @a {} }", r#"[emerg] named location "@a" can be on the server level only…"#),
        ("location ~ ^/a { location /a {} }", r#"[emerg] location "/a" is outside location "^/a"…"#),
        ("location ~ ^/a { location ~ b {} }", ""),
        ("location /a { location = /ab {} }", ""),
        (r#"location ~ "" {}"#, ""),
        ("location =/ {} location ^~/b {} location ~x {} location ~*y {}", ""),
        ("location / { server { } }", r#"[emerg] "server" directive is not allowed here…"#),
        ("location /a/ { location /a/ {} }", ""),
        ("return;", r#"[emerg] invalid number of arguments in "return" directive…"#),
        ("return x;", r#"[emerg] invalid return code "x"…"#),
        ("return 1000;", r#"[emerg] invalid return code "1000"…"#),
        ("return 200 $x;", r#"[emerg] unknown "x" variable…"#),
        ("return http://a;", ""),
        ("return 200 a b;", r#"[emerg] invalid number of arguments in "return" directive…"#),
        ("return -1 a;", r#"[emerg] invalid return code "-1"…"#),
        ("set x y;", r#"[emerg] invalid variable name "x"…"#),
        ("set $ y;", r#"[emerg] invalid variable name "$"…"#),
        ("set $host y;", r#"[emerg] the duplicate "host" variable…"#),
        ("set $x;", r#"[emerg] invalid number of arguments in "set" directive…"#),
        ("set $x $x;return 200 $X;", ""),
        ("return 200 $1;", ""),
        ("set $x-y 1;", r#"[emerg] invalid variable name "$x-y"…"#),
        ("location ~ a { proxy_pass http://u/; }", r#"[emerg] "proxy_pass" cannot have URI part in location given by regular expression, or inside named location, or inside "if" statement, or inside "limit_except" block…"#),
        ("location @a { proxy_pass http://u/; }", r#"[emerg] "proxy_pass" cannot have URI part in location given by regular expression, or inside named location, or inside "if" statement, or inside "limit_except" block…"#),
        ("proxy_pass http://u;", r#"[emerg] "proxy_pass" directive is not allowed here…"#),
        ("location = /a { proxy_pass http://u/b; }", ""),
    ], "\n}}");
}

#[test]
#[rustfmt::skip]
fn in_location() {
    check("events{}http{upstream u{server 10.0.0.1;}server{\nlocation /a/ {", &[
        ("proxy_pass;", r#"[emerg] invalid number of arguments in "proxy_pass" directive…"#),
        ("proxy_pass u;", "[emerg] invalid URL prefix…"),
        ("proxy_pass ftp://u;", "[emerg] invalid URL prefix…"),
        ("proxy_pass http://nohost.invalid/x;", r#"[emerg] host not found in upstream "nohost.invalid"…"#),
        ("proxy_pass http://u:8080;", r#"[emerg] upstream "u" may not have port 8080…"#),
        ("proxy_pass http://u/x/;", ""),
        ("proxy_pass http://;", r#"[emerg] no host in upstream ""…"#),
        ("proxy_pass http://:80;", r#"[emerg] no host in upstream ":80"…"#),
        ("proxy_pass http://10.0.0.1:0;", r#"[emerg] invalid port in upstream "10.0.0.1:0"…"#),
        ("proxy_pass http://unix:/x:/y;", ""),
        ("proxy_pass http://u;proxy_pass http://u;", r#"[emerg] "proxy_pass" directive is duplicate…"#),
        ("proxy_pass http://$x;", r#"[emerg] unknown "x" variable…"#),
        ("proxy_pass http://$host;", ""),
        ("proxy_pass http://10.0.0.1?x;", ""),
        ("proxy_pass HTTP://u;", ""),
        ("proxy_redirect x;", r#"[emerg] invalid parameter "x"…"#),
        ("proxy_redirect ~( a;proxy_pass http://u;", r#"[emerg] regular expression "(" cannot be used: unclosed group…"#),
        ("proxy_pass http://u;proxy_redirect off;proxy_redirect default;", r#"[emerg] "proxy_redirect" directive is duplicate…"#),
        ("proxy_next_upstream x;", r#"[emerg] invalid value "x"…"#),
        ("proxy_next_upstream http_999;", r#"[emerg] invalid value "http_999"…"#),
        ("proxy_next_upstream_tries x;", r#"[emerg] "proxy_next_upstream_tries" directive invalid number…"#),
        ("proxy_bind x;", r#"[emerg] invalid address "x"…"#),
        ("proxy_set_header a;", r#"[emerg] invalid number of arguments in "proxy_set_header" directive…"#),
        ("proxy_read_timeout x;", r#"[emerg] "proxy_read_timeout" directive invalid value…"#),
        ("proxy_http_version 2;", r#"[emerg] invalid value "2" in "proxy_http_version" directive, it must be "1.1" in /p/conf/f:2 (a login lives on a connection that HTTP/1.0 would close and that HTTP/2 does not know)"#),
        ("stub_status x;", ""),
        ("metrics x;", r#"[emerg] invalid number of arguments in "metrics" directive…"#),
        ("status on;", r#"[emerg] invalid number of arguments in "status" directive…"#),
        ("status; metrics;", r#"[emerg] "status" directive is not allowed beside "metrics" in /p/conf/f:2"#),
        ("metrics; stub_status;", r#"[emerg] "metrics" directive is not allowed beside "stub_status" in /p/conf/f:2"#),
        ("proxy_redirect a b c;", r#"[emerg] invalid number of arguments in "proxy_redirect" directive…"#),
    ], "}\n}}");
}

#[test]
#[rustfmt::skip]
fn hints() {
    check("events{}http{upstream u{server 10.0.0.1;ntlm;}server{\n", &[
        ("ssl_stapling on;", r#"[emerg] invalid value "on" in "ssl_stapling" directive, it must be "off" in /p/conf/f:2 (nothing is asked of certificate authorities; clients ask them)"#),
        ("ssl_engine pkcs11;", r#"[emerg] unknown directive "ssl_engine" in /p/conf/f:2 (OpenSSL's own settings have no counterpart here)"#),
        ("location / { proxy_pass https://u/$uri; }", r#"[emerg] variables in "proxy_pass https://" are not supported in /p/conf/f:2 (name an upstream block)"#),
        ("location / { proxy_pass https://u; proxy_ssl_name $host; }", r#"[emerg] variables in "proxy_ssl_name" are not supported in /p/conf/f:2 (a connection to a server is for everybody who asks for its group)"#),
        ("location / { proxy_pass https://u; } location /a { proxy_pass https://u; }", r#"[warn] "proxy_ssl_verify" is off for "u" where "ntlm" is used: logins go to whoever answers at its address in /p/conf/f:2"#),
        ("location / { proxy_pass https://u; proxy_ssl_verify on; }", ""),
        ("location / { proxy_pass https://u; proxy_ssl_certificate c; }", r#"[emerg] no "proxy_ssl_certificate_key" is defined for certificate "/p/conf/c" in /p/conf/f:2"#),
        ("ssl on;", r#"[emerg] unknown directive "ssl" in /p/conf/f:2 (say listen … ssl)"#),
        ("listen 443 ssl;", r#"[emerg] no "ssl_certificate" is defined for the "listen ... ssl" directive in /p/conf/f:2"#),
        ("ssl_certificate x;", r#"[emerg] no "ssl_certificate_key" is defined for certificate "/p/conf/x" in /p/conf/f:1"#),
        ("ssl_certificate $host.pem; ssl_certificate_key k;", r#"[emerg] variables in "ssl_certificate" are not supported: certificates are read at the start in /p/conf/f:2"#),
        ("ssl_protocols TLSv1.1 TLSv1.2;", r#"[emerg] "TLSv1.1" of "ssl_protocols" is not supported in /p/conf/f:2 (it is broken, and no client that is still maintained needs it (RFC 8996))"#),
        ("ssl_protocols TLSv2;", r#"[emerg] invalid value "TLSv2" in /p/conf/f:2"#),
        ("ssl_ciphers RC4-SHA:AES128-SHA;", r#"[emerg] "ssl_ciphers" leaves no cipher suite that there is in /p/conf/f:2 (those with forward secrecy and authenticated encryption are there)"#),
        ("ssl_ciphers AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256;", r#"[warn] "ssl_ciphers" names cipher suites that are not there: AES128-SHA in /p/conf/f:2"#),
        ("ssl_conf_command Ciphersuites TLS_AES_128_CCM_SHA256:TLS_AES_128_GCM_SHA256;", r#"[warn] "ssl_conf_command" names cipher suites that are not there: TLS_AES_128_CCM_SHA256 in /p/conf/f:2"#),
        ("ssl_conf_command Options -SessionTicket;", r#"[warn] "Options" of "ssl_conf_command" has no effect in /p/conf/f:2"#),
        ("ssl_session_cache shared:a:1k;", r#"[emerg] session cache "a" is too small in /p/conf/f:2"#),
        ("ssl_session_cache shared:a;", r#"[emerg] invalid session cache "shared:a" in /p/conf/f:2"#),
        ("ssl_session_cache builtin:1000 shared:SSL:10m;", ""),
        ("listen 80 http2;", r#"[emerg] the "http2" parameter requires ngx_http_v2_module in /p/conf/f:2 (Windows authentication does not exist in HTTP/2 and HTTP/3)"#),
        ("http2 on;", r#"[emerg] invalid value "on" in "http2" directive, it must be "off" in /p/conf/f:2 (Windows authentication does not exist in HTTP/2)"#),
        ("http2 off;", ""),
        ("if ($host) { return 200; }", r#"[emerg] unknown directive "if" in /p/conf/f:2 (there is no if by design; use map, location or separate servers)"#),
        ("more_set_headers x;", r#"[emerg] unknown directive "more_set_headers" in /p/conf/f:2 (use add_header with always, and proxy_hide_header)"#),
        ("access_log memory:1m;", r#"[emerg] invalid value "memory:1m" in "access_log" directive in /p/conf/f:2 (logs go to files, to stderr and to syslog)"#),
        ("error_log memory:1m debug;", r#"[emerg] invalid value "memory:1m" in "error_log" directive in /p/conf/f:2 (logs go to files, to stderr and to syslog)"#),
        ("access_log logs/$host.log;", r#"[emerg] invalid value "logs/$host.log" in "access_log" directive in /p/conf/f:2 (names of log files hold no variables here; name a log in each server or location)"#),
        ("access_log a combined gzip;", r#"[emerg] invalid parameter "gzip" in /p/conf/f:2 (log files are not compressed here; compress them when they are rotated)"#),
        ("access_log a combined gzip=9 buffer=1k;", r#"[emerg] invalid parameter "gzip=9" in /p/conf/f:2 (log files are not compressed here; compress them when they are rotated)"#),
        ("location ~ (?=a) {}", r#"[emerg] regular expression "(?=a)" cannot be used: look-around, including look-ahead and look-behind, is not supported in /p/conf/f:2"#),
        (r"location ~ (a)\1 {}", r#"[emerg] regular expression "(a)\1" cannot be used: backreferences are not supported in /p/conf/f:2"#),
        ("proxy_set_header \"a b\" c;", r#"[emerg] invalid header name "a b"…"#),
        (r#"add_header a "b\nc";"#, r#"[emerg] invalid value of header "a"…"#),
        ("ntlm x;", r#"[emerg] invalid value "x" in "ntlm" directive…"#),
        ("ntlm 0;", r#"[emerg] invalid value "0" in "ntlm" directive…"#),
        ("ntlm_reauth never;", r#"[emerg] invalid value "never" in "ntlm_reauth" directive, it must be "same" or "fresh"…"#),
        ("ntlm_pins_per_client 0;", r#"[emerg] invalid number "0"…"#),
        ("ntlm_fail_delay 0;", r#"[emerg] "ntlm_fail_delay" directive invalid value…"#),
        ("ntlm_fail_delay 1s after=256;", r#"[emerg] invalid parameter "after=256"…"#),
        ("ntlm_fail_delay 1s forget=0;", r#"[emerg] invalid parameter "forget=0"…"#),
        ("ntlm_fail_delay 2s max=1s;", r#"[emerg] invalid parameter "max=1s"…"#),
        ("ntlm_fail_delay off after=3;", r#"[emerg] "ntlm_fail_delay" directive invalid value…"#),
        ("ntlm_fail_delay 1s zone=a;", r#"[emerg] invalid parameter "zone=a"…"#),
        ("ntlm_refuse_via yes;", r#"[emerg] invalid value "yes" in "ntlm_refuse_via" directive, it must be "on" or "off"…"#),
        ("proxy_bind 10.0.0.9 transparent;", r#"[emerg] invalid parameter "transparent" in /p/conf/f:2 (upstream servers see the front's address)"#),
    ], "}}");
}

#[test]
#[rustfmt::skip]
fn warnings() {
    check("events{}http{upstream u{server 10.0.0.1;ntlm;}server{\n", &[
        ("root a; location / { root b; }", r#"[warn] "root" has no effect: there are no files to serve here…"#),
        ("proxy_set_header Connection close; location / { proxy_pass http://u; }", r#"[warn] "proxy_set_header Connection close" ends every login at once where "ntlm" is used…"#),
        ("proxy_set_header Connection Close; location / { proxy_pass http://10.0.0.2; }", ""),
        ("proxy_set_header Connection Close; ntlm; location / { proxy_pass http://10.0.0.2; }", r#"[warn] "proxy_set_header Connection close" ends every login at once where "ntlm" is used…"#),
        (r#"proxy_set_header Authorization ""; location / { proxy_pass http://u; }"#, r#"[warn] "proxy_set_header Authorization" with an empty value keeps every login away where "ntlm" is used…"#),
        ("proxy_set_header Content-Length 5;", r#"[warn] "proxy_set_header Content-Length" has no effect: bodies are framed by what is sent…"#),
        ("add_header Content-Length 5;", r#"[warn] "add_header Content-Length" has no effect: answers are framed by what is sent…"#),
        ("add_header transfer-encoding gzip;", r#"[warn] "add_header transfer-encoding" has no effect: answers are framed by what is sent…"#),
        ("listen 80 deferred;", r#"[warn] "deferred" of "listen" has no effect…"#),
    ], "\n}}");
}

#[test]
fn cycles_of_maps() {
    for (maps, expected) in [
        ("map $b $a {} map $a $b {}", "a"),
        ("map $host $a { default $b; } map $host $b { ~x $a; }", "a"),
        ("map $host $a {} map $b $b {}", "b"),
    ] {
        assert_eq!(
            said(&format!("events{{}}http{{{maps}}}")),
            format!("[emerg] cycle while evaluating variable \"{expected}\" in /p/conf/f:1")
        );
    }
}

#[test]
fn globals_and_files() {
    let globals = |text: &str| Options {
        globals: Some(text.to_owned()),
        ..options()
    };
    for (text, file, expected) in [
        (
            "daemon off",
            "events{}",
            "unexpected end of parameter, expecting \";\" in command line",
        ),
        (
            "events {}",
            "",
            "block directives are not supported in -g option in command line",
        ),
        (
            "nonsense on;",
            "events{}",
            "unknown directive \"nonsense\" in command line",
        ),
        (
            "daemon off;",
            "\ndaemon off;",
            "\"daemon\" directive is duplicate in /p/conf/f:2",
        ),
        (
            "",
            "include a.conf;",
            "unexpected \"}\" in /p/conf/a.conf:2",
        ),
        (
            "",
            "include d/*.conf;",
            "unknown directive \"y\" in /p/conf/d/b.conf:1",
        ),
        (
            "",
            "include /abs/c.conf;",
            "unexpected end of file, expecting \";\" or \"}\" in /abs/c.conf:1",
        ),
        (
            "",
            "include loop.conf;",
            "blocks and files are nested too deeply in /p/conf/loop.conf:1",
        ),
    ] {
        let others = [
            ("/p/conf/a.conf", "events{}\n}"),
            ("/p/conf/d/a.conf", "pid x;"),
            ("/p/conf/d/b.conf", "y;"),
            ("/abs/c.conf", "pid x"),
            ("/p/conf/loop.conf", "include loop.conf;"),
        ];
        let error = load_with(file, &others, &globals(text)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let world = World(BTreeMap::new());
    let error = load(&options(), &world, &world).unwrap_err();
    let expected = "open() \"/p/conf/f\" failed (2: No such file or directory)";
    assert_eq!(error.to_string(), expected);
    let deep = "location / {".repeat(100);
    let error = load_server(&deep).unwrap_err();
    let expected = "blocks and files are nested too deeply in /p/conf/f:2";
    assert_eq!(error.to_string(), expected);
}
