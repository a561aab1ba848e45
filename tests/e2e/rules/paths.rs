//! Rule 20: targets go on as they came, and locations are matched on a normalised copy.

use super::{Passed, Refused, Stand, arrives_at, ask, refused};

#[test]
fn rule_20_targets_are_not_rewritten() {
    let stand = Stand::new("");
    let mut table: Vec<Refused> = refused(
        ask,
        &[
            "/%00",
            "/a%00b",
            "/a%0ab",
            "/a%0Ab",
            "/a%0db",
            "/a%0D%0Ab",
            "/%0d%0aSet-Cookie:%20a=b",
            "http://test/%00",
        ],
        "path_byte",
    )
    .collect();
    table.extend(refused(
        ask,
        &[
            "/%", "/%4", "/%4g", "/%%41", "/%+1", "/%u0041", "/a%", "/%zz?a",
        ],
        "path_escape",
    ));
    table.extend(refused(
        ask,
        &[
            "/..",
            "/../a",
            "/a/../..",
            "/a/../../b",
            "/%2e%2e/a",
            "/.%2E/",
            "/a/%2e%2e%2f%2e%2e/b",
            "//..",
            "/./../a",
            "/..%5ca",
            "/a%5c..%5c..%5cb",
            "http://test/../a",
        ],
        "path_above_root",
    ));
    stand.refuses(&table);
    let table: Vec<Passed> = [
        "/%41/../b//c?x=%0a&y=a|b[]\u{fc}",
        "/a%2fb%2Fc",
        "/a%20b+c%2B",
        "/a/./b/../c/.",
        "//a///b//",
        "/%2561/%252e%252e/%2500",
        "/.well-known/..a/a../...",
        "/a?../../..&%00%0d%0a%zz%",
        "/a?/../b\\c",
        "/?",
        "/a;b=c;d/e;f",
        "/%c3%bc/%fc/%ff",
        "/%09%7f%01",
        "/a%3fb%23c%25d",
        "/domain%5cuser",
    ]
    .into_iter()
    .map(|target| (ask(target), arrives_at(target)))
    .collect();
    stand.passes(&table);
}

#[test]
fn rule_20_locations_are_matched_on_a_normalised_copy() {
    let stand = Stand::new(
        "location /admin/ { deny all; proxy_pass http://origin; }
         location /app/ { proxy_pass http://origin/base/; }
         location /gone/ { return 410; }",
    );
    // One way to write it or another, it is the same location.
    let mut client = crate::peer::Peer::connect(stand.front.addr(0));
    for (target, status) in [
        ("/admin/", 403),
        ("/%61dmin/", 403),
        ("/%61%64min%2fx", 403),
        ("//admin/x", 403),
        ("/./admin/x", 403),
        ("/app/../admin/x", 403),
        ("/app/%2e%2e/admin/x", 403),
        ("/app/..%2fadmin/x", 403),
        ("/app/.%2e%2f%2fadmin//x", 403),
        ("/x/y/../../admin/", 403),
        ("http://test/%61dmin/", 403),
        ("/gone/x", 410),
        ("/admin/..%2fgone/", 410),
        // IIS takes a backslash for a slash.
        ("/admin%5cx", 403),
        ("/%5cadmin%5Cx", 403),
        ("/app/..%5cadmin/x", 403),
        ("/app%5c..%5cadmin%5cx", 403),
    ] {
        assert_eq!(client.get(target).status(), status, "{target}");
    }
    stand.server.was_left_alone();
    // What proxy_pass replaces has to stand there byte for byte.
    stand.refuses(
        &refused(
            ask,
            &[
                "//app/x",
                "/./app/x",
                "/x/../app/y",
                "/app/../app/y",
                "/app/x/..",
                "/app/x/../y",
                "/app/x/%2e%2e/y",
                "/app/x/..%2fy",
                "/app%5cx",
                "/app/x%5c..%5cy",
                "/app/x%5c..",
            ],
            "path_prefix",
        )
        .collect::<Vec<_>>(),
    );
    stand.refuses(&refused(ask, &["/app/%00", "/app/a%0d%0ab"], "path_byte").collect::<Vec<_>>());
    stand.passes(&[
        (ask("/app/"), arrives_at("/base/")),
        (ask("/app/x?y=/app/"), arrives_at("/base/x?y=/app/")),
        (ask("/%61pp/x"), arrives_at("/base/x")),
        (ask("/app%2fx"), arrives_at("/base/x")),
        (ask("/app/a%2fb%20c"), arrives_at("/base/a%2fb%20c")),
        (
            ask("/app/siteusers('i%3A0%23.w%7Cexample%5Calice')"),
            arrives_at("/base/siteusers('i%3A0%23.w%7Cexample%5Calice')"),
        ),
        (ask("/app//x/./y"), arrives_at("/base//x/./y")),
        (ask("http://test/app/x"), arrives_at("/base/x")),
    ]);
}

#[test]
fn rule_20_a_target_of_variables_stays_one_target() {
    let stand = Stand::new(
        "location ~ ^/re/(?<rest>.*)$ { proxy_pass http://origin/$rest$is_args$args; }
         location /query { set $where origin; proxy_pass http://$where?from=$arg_from; }
         location /all { set $where origin; proxy_pass http://$where$request_uri; }",
    );
    stand.passes(&[
        (ask("/re/a%20b%7f%09c"), arrives_at("/a%20b%7F%09c")),
        (ask("/re/a%23b%5cc"), arrives_at("/a%23b/c")),
        (ask("/re/a?b=%20c"), arrives_at("/a?b=%20c")),
        (ask("/query?from=x"), arrives_at("/?from=x")),
        (ask("/all/%41?b"), arrives_at("/all/%41?b")),
        (ask("http://test/all?b"), arrives_at("/all?b")),
    ]);
    stand.refuses(
        &refused(ask, &["/re/a%0d%0aHost:%20b", "/re/%00"], "path_byte").collect::<Vec<_>>(),
    );
}
