use serde_json::Value;

use super::*;
use crate::net::Driver;

fn context() -> Context<'static> {
    Context {
        host: "front.test",
        connections: 512,
        now: Duration::from_secs(1_000_000),
    }
}

#[test]
fn the_policy_allows_what_is_in_the_page_and_nothing_else() {
    let page = page();
    let between = |start: &str, end: &str| {
        let (_, rest) = page.content.split_once(start).unwrap();
        rest.split_once(end).unwrap().0
    };
    for (inline, directive) in [
        (between("<style>", "</style>"), "style-src"),
        (between("<script>", "</script>"), "script-src"),
    ] {
        let allowed = format!("{directive} '{}';", hash(inline));
        assert!(page.fields.contains(&allowed), "{allowed}");
    }
    assert!(
        page.fields
            .starts_with("Content-Security-Policy: default-src 'none'; ")
    );
    assert!(page.fields.ends_with("\r\n"));
    // What would have to be allowed beside it, or would leave the front.
    for absent in [
        " style=",
        " onclick=",
        "<script ",
        "<link rel=\"stylesheet",
        "src=\"http",
        "url(",
    ] {
        assert!(!page.content.contains(absent), "{absent}");
    }
    // The one address in it names a language.
    let addresses =
        page.content.matches("http://").count() + page.content.matches("https://").count();
    assert_eq!(
        addresses,
        page.content.matches("http://www.w3.org/2000/svg").count()
    );
}

#[test]
fn the_sums_of_all_workers_are_shown() {
    let figures = Figures::new(3, Driver::Epoll);
    for (number, counters) in figures.workers.iter().enumerate() {
        counters.requests.add(1 << number);
        counters.accepted.add(2);
        counters.handled.add(1);
        counters.responses.count(200);
        counters.responses.count(503);
        counters.request_time.record(Duration::from_millis(3));
        counters
            .refusals
            .count(crate::http::refusal::Refusal::ALL[0]);
        counters.pins_ended.count(crate::pin::EndReason::Age);
    }
    let shown: Value = serde_json::from_str(&json(&figures, &context())).unwrap();
    let at = |path: &str| {
        shown
            .pointer(path)
            .unwrap_or_else(|| panic!("{path}: {shown}"))
    };
    for (path, number) in [
        ("/requests/number", 7),
        ("/requests/answers/1", 3),
        ("/requests/answers/4", 3),
        ("/requests/time/counts/3", 3),
        ("/requests/refusals/0/1", 3),
        ("/pins/ended/0/1", 3),
        ("/turned_away", 3),
        ("/workers/2/requests", 4),
        ("/connections_limit", 512),
    ] {
        assert_eq!(*at(path), number, "{path}");
    }
    assert_eq!(*at("/host"), "front.test");
    assert_eq!(*at("/pins/ended/0/0"), "age");
    assert_eq!(*at("/findings"), Value::Array(Vec::new()));
    let counts = at("/requests/time/counts").as_array().unwrap().len();
    let bounds = at("/requests/time/bounds_seconds")
        .as_array()
        .unwrap()
        .len();
    assert_eq!(counts, bounds + 1);
}
