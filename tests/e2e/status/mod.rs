//! `status`: the page as a person sees it in Chromium, and the figures behind it.
//!
//! `NTLMFRONT_SCREENSHOTS=1` has the pictures of `docs/status.md` taken anew, once the plots show something.
#![allow(clippy::unwrap_used)] // what fails in a helper fails its test

mod browser;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ntlm_origin::client::{Connection, Scheme};
use ntlm_origin::{Kerberos, Origin};
use serde_json::Value;

use crate::front::{Front, eventually};
use crate::peer::Peer;
use crate::prefix::free_address;
use crate::site::{alice, log_in, origins};
use crate::tls::pki::Pki;
use crate::tls::servers::Terminator;

use browser::Browser;

const DESKTOP: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (360, 780);

/// How many seconds the plots of a picture show.
const PICTURED: usize = 75;

/// Takes a picture for the documentation, if they are wanted, of a page that has been looking for a while.
fn picture(browser: &mut Browser, name: &str, whole: bool) {
    if std::env::var_os("NTLMFRONT_SCREENSHOTS").is_none() {
        return;
    }
    if whole {
        // The browser looks once a second, and waits for no longer than its patience.
        for seconds in (1..=PICTURED).step_by(10) {
            let points = "document.querySelector('#plot-rate path.stroke').getAttribute('d')?.split('L').length";
            browser.wait(&format!("({points} ?? 0) >= {seconds}"));
        }
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/img");
    std::fs::create_dir_all(&directory).unwrap();
    let height = if whole { 1700 } else { 1500 };
    browser.shot(&directory.join(format!("status-{name}.png")), height);
}

/// The figures behind the page.
fn figures(addr: SocketAddr) -> Value {
    let answer = Peer::connect(addr).get("/status?format=json");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.head.field("content-type"), Some("application/json"));
    assert_eq!(answer.head.field("cache-control"), Some("no-store"));
    serde_json::from_slice(&answer.body).unwrap()
}

/// What is in the tile that is called so.
fn tile(title: &str) -> String {
    format!(
        "[...document.querySelectorAll('#tiles dt')].find(dt => dt.textContent === '{title}').nextSibling.firstChild.textContent"
    )
}

const LIVE: &str = "document.querySelector('#live').dataset.state === 'live' && !document.querySelector('main').hidden";

/// Nothing is as wide as to have the page scrolled to the side.
#[track_caller]
fn fits(browser: &mut Browser) {
    let wide = browser.value(
        "[...document.querySelectorAll('body *:not(.unseen):not(.skip)')].filter(e => !e.closest('thead') && !e.closest('svg') \
         && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.tagName + ' ' + e.className + ' ' + e.textContent.slice(0, 40))",
    );
    assert_eq!(wide, Value::Array(Vec::new()));
    let scrolls = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
    assert_eq!(browser.value(scrolls), false);
}

/// The contrast of all texts with what is behind them is enough to be read (WCAG 2.2, criterion 1.4.3).
#[track_caller]
fn is_legible(browser: &mut Browser) {
    let pale = browser.value(
        "(() => {
            const channels = color => color.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
                .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
                .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
            const behind = element => {
                for (let e = element; e; e = e.parentElement) {
                    const color = channels(getComputedStyle(e).backgroundColor);
                    if ((color[3] ?? 1) === 1) return color;
                }
                return [255, 255, 255];
            };
            const texts = [...document.querySelectorAll('body *')].filter(e => e.checkVisibility() && !e.closest('script, style, noscript, .scale')
                && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()));
            return texts.map(e => {
                const [a, b] = [light(channels(getComputedStyle(e).color)), light(behind(e))];
                return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.slice(0, 40)];
            }).filter(([contrast]) => contrast < 4.5);
        })()",
    );
    assert_eq!(pale, Value::Array(Vec::new()));
}

#[test]
fn a_quiet_front_is_shown_in_light_and_dark_on_a_phone_and_with_a_keyboard() {
    let servers = origins(2, Kerberos::Declined);
    let front = Front::start(&format!(
        "upstream exchange {{ server {}; server {}; ntlm; }}
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://exchange; }} location = /status {{ status; }} }}",
        servers[0].addr(),
        servers[1].addr(),
    ));
    let url = front.url("/status");
    let mut browser = Browser::start();
    let mut backgrounds = Vec::new();
    for (size, scheme) in [
        (DESKTOP, "light"),
        (DESKTOP, "dark"),
        (PHONE, "dark"),
        (PHONE, "light"),
    ] {
        browser.open(size, scheme, &url);
        browser.wait(LIVE);
        fits(&mut browser);
        is_legible(&mut browser);
        let title = "document.querySelector('#attention-title').textContent";
        assert_eq!(browser.text(title), "Nothing needs attention");
        backgrounds.push(browser.text("getComputedStyle(document.body).backgroundColor"));
    }
    assert_eq!(backgrounds[0], backgrounds[3]);
    assert_eq!(backgrounds[1], backgrounds[2]);
    assert_ne!(backgrounds[0], backgrounds[1]);
    browser.open(DESKTOP, "light", &url);
    browser.wait(LIVE);
    // It moves by itself: it sees its own requests.
    let requests = tile("Requests/s");
    browser.wait(&format!("Number({requests}) > 0"));
    picture(&mut browser, "idle", true);

    // With the keyboard alone.
    let focus = "document.activeElement.id || document.activeElement.className || document.activeElement.textContent";
    browser.press("Tab");
    assert_eq!(browser.text(focus), "skip");
    let seen = "(() => { const box = document.activeElement.getBoundingClientRect(); \
                return box.top >= 0 && getComputedStyle(document.activeElement).outlineStyle !== 'none'; })()";
    assert_eq!(browser.value(seen), true);
    browser.press("Tab");
    assert_eq!(browser.text(focus), "pause");
    assert_eq!(browser.value(seen), true);
    browser.press("Space");
    browser.wait("document.querySelector('#live').dataset.state === 'paused'");
    assert_eq!(
        browser.text("document.activeElement.getAttribute('aria-pressed')"),
        "true"
    );
    let before = figures(front.addr(0))["requests"]["number"]
        .as_u64()
        .unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    let after = figures(front.addr(0))["requests"]["number"]
        .as_u64()
        .unwrap();
    assert_eq!(after, before + 1, "a page that is paused asks for nothing");
    browser.press("Enter");
    browser.wait(LIVE);
    browser.press("Tab");
    assert_eq!(browser.text(focus), "plot");
    let label = "document.activeElement.getAttribute('aria-label')";
    browser.wait(
        "document.activeElement.getAttribute('aria-label').startsWith('Answers, now: 2xx, 3xx ')",
    );
    browser.press("ArrowLeft");
    assert!(browser.text(label).starts_with("Answers, 1 second ago: "));
    browser.press("Escape");
    assert!(browser.text(label).starts_with("Answers, now: "));
    // What a screen reader is told: headings, tables with headers, a name for each plot.
    let headings =
        browser.value("[...document.querySelectorAll('h1, h2')].map(e => e.tagName).join(' ')");
    assert_eq!(headings, "H1 H2 H2 H2 H2 H2 H2");
    let nameless = "[...document.querySelectorAll('table')].filter(t => !t.caption || !t.querySelector('thead th[scope=col]')).length \
                    + [...document.querySelectorAll('[role=img]')].filter(e => !e.getAttribute('aria-label')).length";
    assert_eq!(browser.value(nameless), 0);
    assert_eq!(browser.problems(), [""; 0]);
}

/// Clients that log in, ask at their own pace, and go.
fn people(addr: SocketAddr, seed: u64, stop: &AtomicBool, answered: &AtomicU64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut round = seed;
        while !stop.load(Ordering::Relaxed) {
            let mut client = Connection::open(addr).await.unwrap();
            log_in(&mut client, Scheme::Ntlm, "somebody", &alice()).await;
            for _ in 0..10 + round % 20 {
                round = round
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let target = match (round >> 33) % 40 {
                    0 => "/status/503".to_owned(),
                    1..4 => "/missing".to_owned(),
                    ms @ 4..30 => format!("/slow/{}", ms * ms / 10),
                    _ => "/bytes/20000".to_owned(),
                };
                client.get(&target).await.unwrap();
                answered.fetch_add(1, Ordering::Relaxed);
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    });
}

/// Ends the load also where something fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn load_is_shown_as_it_changes() {
    let pki = Pki::new();
    let servers = origins(3, Kerberos::Declined);
    let inside = servers
        .iter()
        .map(|origin: &Origin| Terminator::before(origin.addr(), &pki, "mail", None));
    let inside: Vec<_> = inside.collect();
    let front = Front::start(&format!(
        "upstream exchange {{ server {}; server {}; ntlm 200; }}
         upstream sharepoint {{ server {} backup; server {}; ntlm; }}
         server {{
             listen 127.0.0.1:0; listen 127.0.0.1:0 ssl; server_name mail.test; {}
             location / {{ proxy_pass https://exchange; }}
             location /sites/ {{ proxy_pass https://sharepoint/; }}
             location = /status {{ status; }}
         }}",
        inside[0].addr,
        inside[1].addr,
        inside[0].addr,
        inside[2].addr,
        pki.directives("mail"),
    ));
    let url = front.url("/status");
    let mut browser = Browser::start();
    browser.open(DESKTOP, "light", &url);
    browser.wait(LIVE);
    let logins = tile("Logins held");
    assert_eq!(browser.text(&logins), "0");
    let (addr, stop, answered) = (front.addr(0), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for seed in 0..12 {
            let (stop, answered) = (&stop, &answered);
            scope.spawn(move || people(addr, seed, stop, answered));
        }
        let number = |tile: &str| format!("Number({tile}.replace(/,/g, ''))");
        browser.wait(&format!("{} >= 10", number(&tile("Logins held"))));
        browser.wait(&format!("{} > 20", number(&tile("Requests/s"))));
        browser.wait(&format!("{}.includes('ms')", tile("Half within")));
        // The rows of the tables are those of the figures.
        let rows = |id: &str| format!("document.querySelectorAll('#{id} tbody tr').length");
        assert_eq!(browser.value(&rows("servers")), 4);
        assert_eq!(browser.value(&rows("workers")), 2);
        assert_eq!(browser.value(&rows("pins")), 2);
        let succeeded =
            "Number(document.querySelector('#logins td').textContent.replace(/,/g, ''))";
        browser.wait(&format!("{succeeded} > 10"));
        assert_eq!(browser.value(&rows("logins")), 1);
        browser.wait(&format!("{} > 3", rows("bindings")));
        browser.wait("/Handshakes with servers: [\\d.]+\\/s, [\\d]+ % resumed, 0 failed/.test(document.querySelector('#handshakes').textContent)");
        let all_up = "[...document.querySelectorAll('#servers td:nth-child(3)')].every(e => e.textContent === 'up')";
        assert_eq!(browser.value(all_up), true);
        let fits_together = "[...document.querySelectorAll('#bindings td:nth-child(3)')].every(e => e.textContent === 'yes')";
        assert_eq!(browser.value(fits_together), true);
        is_legible(&mut browser);
        picture(&mut browser, "load", true);
        browser.open(DESKTOP, "dark", &url);
        browser.wait(LIVE);
        is_legible(&mut browser);
        picture(&mut browser, "load-dark", true);
        let now = figures(front.addr(0));
        let held = &now["pins"]["groups"][0];
        assert_eq!(held["upstream"], "exchange");
        assert_eq!(held["idle_limit"], 200);
        let done = answered.load(Ordering::Relaxed);
        assert!(now["requests"]["number"].as_u64().unwrap() >= done / 2);
    });
    // When all have gone, so do the figures.
    browser.wait(&format!("{logins} === '0'"));
    assert_eq!(browser.problems(), [""; 0]);
}

#[tokio::test]
async fn what_is_wrong_is_said_in_plain_words() {
    let mut pki = Pki::new();
    pki.add("inside", &["mail.test"]);
    pki.add_ending("ending", 5);
    let servers = origins(2, Kerberos::Declined);
    let inside = Terminator::before(servers[0].addr(), &pki, "inside", None);
    let dead = free_address();
    let long = "a-name-that-is-long-enough-to-be-wider-than-any-phone.example.com";
    let http = |more: &str| {
        format!(
            "upstream mail {{ server {}; server {dead} fail_timeout=1h; ntlm 1; }}
             upstream {long} {{ server 127.0.0.1:1 down; ntlm; }}
             server {{
                 listen 127.0.0.1:0; listen 127.0.0.1:0 ssl; server_name mail.test; {}
                 location / {{ proxy_pass http://mail; }}
                 location /{long}/ {{ proxy_pass http://{long}; }}
                 location = /status {{ status; }}
                 {more}
             }}
             server {{
                 listen 127.0.0.1:0 ssl; server_name {long}; {}
                 location / {{ ntlm; proxy_pass https://{}; }}
             }}",
            servers[1].addr(),
            pki.directives("ending"),
            pki.directives("mail"),
            inside.addr,
        )
    };
    let mut front = Front::start_main("worker_processes 1;", &http(""));
    let addr = front.addr(0);
    let url = front.url("/status");
    let mut browser = Browser::start();
    browser.open(DESKTOP, "light", &url);
    browser.wait(LIVE);
    // Three people, of whom one is kept; the server that is dead is tried by the way.
    let mut clients = Vec::new();
    for name in ["first", "second", "third"] {
        let mut client = Connection::open(addr).await.unwrap();
        log_in(&mut client, Scheme::Ntlm, name, &alice()).await;
        clients.push(client);
    }
    std::fs::write(front.path().join("front.conf"), "nonsense;").unwrap();
    front.signal(nix::sys::signal::Signal::SIGHUP);
    let said =
        |text: &str| format!("document.querySelector('#findings').textContent.includes({text:?})");
    for text in [
        "Pins of upstream \"mail\" are evicted: 2 idle logins ended to make room for others, the last one ",
        "Raise \"ntlm 1\" (idle logins that one worker keeps): people had to log in again.",
        &format!("Server {dead} of upstream \"mail\" fails: 1 failure so far, the last one "),
        &format!(
            "cannot be bound to the certificate of server {} of upstream ",
            inside.addr
        ),
        "it shows another certificate (",
        "cannot be bound to the certificate of the servers of upstream \"mail\": TLS ends at the front",
        " of \"mail.test\" expires in 4 days.",
        "The last reload was refused ",
        "unknown directive \"nonsense\"",
        "Server 127.0.0.1:1 of upstream \"a-name-that-is-long",
    ] {
        browser.wait(&said(text));
    }
    let levels =
        "[...document.querySelectorAll('#findings .word')].map(e => e.textContent).join(' ')";
    let levels = browser.text(levels);
    let mut sorted: Vec<_> = levels.split(' ').collect();
    sorted.sort_by_key(|level| {
        ["Critical", "Warning", "Notice"]
            .iter()
            .position(|known| known == level)
    });
    assert_eq!(sorted.join(" "), levels, "the worst comes first");
    assert_eq!(
        browser.text("document.querySelector('#attention').dataset.level"),
        "critical"
    );
    let title = browser.text("document.title");
    let things = sorted.iter().filter(|level| **level != "Notice").count();
    assert!(
        title.starts_with(&format!("({things}) ntlmfront ")),
        "{title}"
    );
    // What is new is told to screen readers, once.
    let told = browser.text("document.querySelector('#announce').textContent");
    assert!(told.ends_with("things need attention"), "{told:?}");
    is_legible(&mut browser);
    fits(&mut browser);
    picture(&mut browser, "wrong", true);
    for scheme in ["light", "dark"] {
        browser.open(PHONE, scheme, &url);
        browser.wait(LIVE);
        browser.wait(&said("Raise "));
        fits(&mut browser);
        is_legible(&mut browser);
    }
    picture(&mut browser, "phone", false);
    assert_eq!(browser.problems(), [""; 0]);
    // A front that is gone is no front that is well.
    front.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(front.wait().success());
    browser.wait("document.querySelector('#live-text').textContent.startsWith('no answer since ')");
    is_legible(&mut browser);
    let refused = browser.problems();
    assert!(
        refused
            .iter()
            .all(|problem| problem.contains("ERR_CONNECTION_REFUSED")),
        "{refused:?}"
    );
}

#[test]
fn it_is_there_for_those_who_may_see_it() {
    let front = Front::start_main(
        "worker_processes 1;",
        "server { listen 127.0.0.1:0; location = /status { status; add_header X-Added yes; }
             location = /closed { deny all; status; } location / { return 204; } }",
    );
    let ask = |target: &str| Peer::connect(front.addr(0)).get(target);
    let page = ask("/status");
    assert_eq!(
        page.head.field("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.head.field("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "script-src 'sha256-",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert_eq!(page.head.field("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.head.field("cache-control"), Some("no-store"));
    assert_eq!(page.head.field("x-added"), Some("yes"));
    for other in ["/status?format=html", "/status?", "/status?x=1&y"] {
        assert_eq!(ask(other).body, page.body, "{other}");
    }
    assert_eq!(ask("/closed").status(), 403);
    assert_eq!(ask("/closed?format=json").status(), 403);
    assert_eq!(ask("/elsewhere").status(), 204);
    let mut client = Peer::connect(front.addr(0));
    client.send("POST /status HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.answer().status(), 405);
    client.send("HEAD /status?format=json HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.head().status(), 200);
    // It is the front's own doing, and is counted as such.
    let now = figures(front.addr(0));
    eventually("as many answers as requests before", || {
        let answers = now["requests"]["answers"].as_array().unwrap();
        let answers: u64 = answers.iter().map(|number| number.as_u64().unwrap()).sum();
        (answers == now["requests"]["number"].as_u64().unwrap() - 1).then_some(())
    });
}
