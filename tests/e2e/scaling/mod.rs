//! Two fronts behind a layer-4 balancer, as `docs/scaling.md` has them.

#![allow(clippy::unwrap_used)] // a test: a panic is a failure

mod clients;
mod documents;
mod network;

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use nix::sys::signal::Signal;
use ntlm_origin::{Origin, OriginOptions};

use crate::crowd::clients::USERS;
use crate::front::{Front, eventually};
use crate::haproxy::HaProxy;
use crate::upgrade::{Successor, ends, tell, upgrade};

use clients::{Stop, Tally, ask_all};
use network::Network;

const CLIENTS: usize = 500;

/// The fronts' addresses, and those of the balancer's ends of the wires to them.
const FRONTS: [(&str, &str); 2] = [("10.9.1.2", "10.9.1.1"), ("10.9.2.2", "10.9.2.1")];

/// Where balancer and origin are.
const CENTRE: &str = "10.9.0.1";

fn document(name: &str) -> PathBuf {
    let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scaling");
    documents.join(name)
}

/// An example, with the addresses of this place in it.
fn adapted(name: &str, changes: &[(&str, &str)]) -> String {
    let mut text = fs::read_to_string(document(name)).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{name} has no {from:?}");
        text = text.replace(from, to);
    }
    text
}

/// The documented balancer, that listens here, before these two fronts.
fn balancer(listener: TcpListener, fronts: [&str; 2], changes: &[(&str, &str)]) -> HaProxy {
    let places = [
        ("/run/haproxy/admin.sock", "SOCKET"),
        ("maxconn 50000", "maxconn 4000"),
        ("bind :443", "bind fd@3"),
        ("192.0.2.11:443", fronts[0]),
        ("192.0.2.12:443", fronts[1]),
        ("inter 2s fastinter 500ms", "inter 1s fastinter 100ms"),
    ];
    let configuration = adapted("haproxy.cfg", &[&places[..], changes].concat());
    HaProxy::start(&configuration, listener)
}

/// A wire from the centre to each front's network.
fn lay_wires(centre: &Network, fronts: &[Network]) -> io::Result<()> {
    centre.ip(&format!("link set lo up\naddress add {CENTRE}/32 dev lo\n"))?;
    for (nth, (network, (there, here))) in fronts.iter().zip(FRONTS).enumerate() {
        centre.ip(&format!(
            "link add front{nth} type veth peer name eth0 netns {}
             address add {here}/24 dev front{nth}
             link set front{nth} up",
            network.path()
        ))?;
        network.ip(&format!(
            "link set lo up
             address add {there}/24 dev eth0
             link set eth0 up
             route add default via {here}"
        ))?;
    }
    Ok(())
}

/// What a front serves. `X-Client` says whom it takes for the client.
fn site(nth: usize, origin: &Origin) -> String {
    format!(
        "upstream mail {{ server {}; ntlm 4000; ntlm_requests 1000000; }}
         server {{
             listen {}:8080 backlog=1024 proxy_protocol;
             set_real_ip_from {}; real_ip_header proxy_protocol;
             location / {{ proxy_pass http://mail; add_header X-Front {nth} always; add_header X-Client $remote_addr:$remote_port always; }}
             location = /healthz {{ return 200; }}
         }}",
        origin.addr(),
        FRONTS[nth].0,
        FRONTS[nth].1,
    )
}

/// Who are drained are told with an answer, and log in again elsewhere; nobody else notices, and nobody is turned away.
#[test]
fn fronts_are_drained_and_replaced_under_load() {
    let networks: io::Result<Vec<_>> = (0..3).map(|_| Network::new()).collect();
    let networks = match networks {
        Ok(networks) => networks,
        Err(error) => {
            println!("skipped: this process may make no networks: {error}");
            return;
        }
    };
    let (centre, networks) = networks.split_first().unwrap();
    lay_wires(centre, networks).unwrap();
    let origin = centre.within(|| {
        let options = OriginOptions {
            listen: format!("{CENTRE}:0").parse().unwrap(),
            users: USERS.clone(),
            ..OriginOptions::default()
        };
        Origin::start(options).unwrap()
    });
    let start = |nth: usize| networks[nth].within(|| Front::start(&site(nth, &origin)));
    let mut fronts = [start(0), start(1)];
    let listener = centre.within(|| TcpListener::bind((CENTRE, 0)).unwrap());
    let addr = listener.local_addr().unwrap();
    let there = FRONTS.map(|(there, _)| format!("{there}:8080"));
    let plain = [(" check-ssl verify none", "")];
    let balancer = centre.within(|| balancer(listener, [&there[0], &there[1]], &plain));
    let is_up = |name: &str| {
        eventually("the balancer finds it well", || {
            (balancer.stat("fronts", name, "status") == "UP").then_some(())
        });
    };
    let tally: Arc<Tally> = Arc::default();
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| centre.within(|| ask_all(addr, CLIENTS, &tally)));
        let _stop = Stop(&tally);
        let logged_in = |there: &dyn Fn([usize; 2]) -> bool| {
            eventually("all are logged in, and where", || {
                tally.assert_nobody_was_turned_away();
                let now = tally.there();
                (now.iter().sum::<usize>() == CLIENTS && there(now)).then_some(now)
            })
        };
        let all_go_on = || {
            let goal = tally.answers.load(Ordering::Relaxed) + 2 * CLIENTS;
            eventually("requests are answered", || {
                tally.assert_nobody_was_turned_away();
                (tally.answers.load(Ordering::Relaxed) >= goal).then_some(())
            });
        };
        let there = logged_in(&|there| there[0].abs_diff(there[1]) <= CLIENTS / 10);
        println!("{:?}: logged in at {there:?}", began.elapsed());

        // As an operator would: the balancer is told first, then the front; another process takes its place.
        assert_eq!(balancer.tell("set server fronts/a state drain"), "");
        all_go_on();
        assert_eq!(tally.there(), there, "whoever is there may stay");
        fronts[0].signal(Signal::SIGQUIT);
        assert!(fronts[0].wait().success());
        logged_in(&|now| now == [0, CLIENTS]);
        assert_eq!(
            tally.told(),
            [there[0], 0],
            "each was told, and nobody else"
        );
        println!("{:?}: {} moved", began.elapsed(), there[0]);
        fronts[0] = start(0);
        assert_eq!(balancer.tell("set server fronts/a state ready"), "");
        is_up("a");
        all_go_on();
        assert_eq!(tally.there(), [0, CLIENTS]);

        // In place: the balancer need not know.
        let new = Successor(upgrade(&fronts[1], fronts[1].pid()));
        all_go_on();
        tell(fronts[1].pid(), Signal::SIGQUIT);
        ends(fronts[1].pid());
        let there = logged_in(&|_| tally.told() == [there[0], CLIENTS]);
        println!("{:?}: logged in at {there:?}", began.elapsed());
        assert!(there[0] > 0, "new logins go to the one that has fewer");

        // Without a word to the balancer: who comes while it finds out is sent to the other.
        let before = tally.told();
        fronts[0].signal(Signal::SIGQUIT);
        assert!(fronts[0].wait().success());
        logged_in(&|now| now == [0, CLIENTS]);
        assert_eq!(tally.told(), [before[0] + there[0], before[1]]);
        fronts[0] = start(0);
        is_up("a");
        all_go_on();
        println!("{:?}: {there:?} are all at the second", began.elapsed());
        tell(new.0, Signal::SIGQUIT);
        ends(new.0);
        logged_in(&|now| now == [CLIENTS, 0]);
    });
    tally.assert_nobody_was_turned_away();
    let count = |column| balancer.stat("fronts", "BACKEND", column);
    println!(
        "{:?}: {} logins, {} answers; connections tried again: {} at the same, {} at another",
        began.elapsed(),
        tally.logins.load(Ordering::Relaxed),
        tally.answers.load(Ordering::Relaxed),
        count("wretr"),
        count("wredis"),
    );
    assert_eq!(count("econ"), "0", "connections that reached no front");
    for front in &fronts {
        let log = front.error_log();
        assert!(
            !log.contains("[error]") && !log.contains("[alert]"),
            "{log}"
        );
    }
}
