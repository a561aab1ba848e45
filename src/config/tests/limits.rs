//! What `limit_req` and `limit_conn` become.

use crate::limit::rate::Rate;

use super::meaning::find;
use super::*;

const CONFIGURATION: &str = "
    events {}
    http {
        limit_req_status 429;
        limit_conn_log_level warn;
        server {
            limit_req zone=one burst=5 delay=3;
            limit_req zone=two nodelay;
            limit_conn addr 7;
            location /inherits {}
            location /status { limit_req_status 430; limit_req_dry_run on; }
            location /own { limit_req zone=two; limit_conn all 1; limit_conn addr 2; }
        }
        server { listen 81; location / {} }
        limit_req_zone $binary_remote_addr zone=one:1m rate=10r/s;
        limit_req_zone $host$uri zone=two:32k rate=1r/m;
        limit_conn_zone $binary_remote_addr zone=addr:1m;
        limit_conn_zone all zone=all:1m;
    }";

#[test]
fn limits_are_inherited_where_there_are_none() {
    let config = load_text(CONFIGURATION).unwrap();
    let answer = |status, level, dry_run| LimitAnswer {
        status,
        level,
        dry_run,
    };
    let both = vec![
        RequestLimit {
            zone: 0,
            burst: 5000,
            undelayed: 3000,
        },
        RequestLimit {
            zone: 1,
            burst: 0,
            undelayed: u64::MAX,
        },
    ];
    let own = vec![RequestLimit {
        zone: 1,
        burst: 0,
        undelayed: 0,
    }];
    for (path, requests, status, dry_run, connections) in [
        ("/", both.clone(), 429, false, vec![(2, 7)]),
        ("/inherits", both.clone(), 429, false, vec![(2, 7)]),
        ("/status", both, 430, true, vec![(2, 7)]),
        ("/own", own, 429, false, vec![(3, 1), (2, 2)]),
    ] {
        let limits = find(&config, path).limits.as_ref().unwrap();
        assert_eq!(limits.requests.limits, requests, "{path}");
        let expected = answer(status, Level::Error, dry_run);
        assert_eq!(limits.requests.answer, expected, "{path}");
        let found = limits.connections.limits.iter();
        let found: Vec<_> = found.map(|limit| (limit.zone, limit.number)).collect();
        assert_eq!(found, connections, "{path}");
        let expected = answer(503, Level::Warn, false);
        assert_eq!(limits.connections.answer, expected, "{path}");
    }
    let http = &config.http;
    let unlimited = &http.locations[http.servers[1].root];
    assert!(unlimited.limits.is_none(), "nothing is asked there");
    let zones = http.limit_zones.iter();
    let zones: Vec<_> = zones
        .map(|zone| (&zone.name[..], zone.bytes, &zone.key_text[..], zone.kind))
        .collect();
    let addr = "$binary_remote_addr";
    let requests = ZoneUse::Requests;
    assert_eq!(
        zones,
        [
            ("one", 1 << 20, addr, requests(Rate::per_second(10))),
            ("two", 32 << 10, "$host$uri", requests(Rate::per_minute(1))),
            ("addr", 1 << 20, addr, ZoneUse::Connections),
            ("all", 1 << 20, "all", ZoneUse::Connections),
        ]
    );
}
