//! What a worker does now and then beside its requests.

use std::rc::Rc;
use std::time::Duration;

use crate::config::Config;
use crate::config::model::Level;
use crate::net::{self, now};
use crate::observe::outlet;

use super::upstream::Group;
use super::worker::Worker;

impl Worker {
    /// Once a second, or more often where a short timeout is configured: ends waits that are over, closes idle clean
    /// connections, hands lines over that have waited for long enough, and brings the gauges up to date.
    pub(super) async fn sweep(self: Rc<Self>) {
        loop {
            let pause = sweep_interval(self.settings().config());
            net::sleep(pause).await;
            let now = now();
            let mut next = self.slots.sweep(now, 0);
            while let Some(from) = next {
                net::give_way().await;
                next = self.slots.sweep(now, from);
            }
            self.free_spare_requests();
            for group in self.groups.all() {
                group.sweep(now);
                let limits = group.ntlm.get().unwrap_or_default();
                self.report_evictions(&group, limits.connections);
            }
            self.groups.forget_unused();
            outlet::sweep(now);
            self.look();
        }
    }

    /// Warns, once a minute at the most, that idle logins had to go for others.
    pub(super) fn report_evictions(&self, group: &Group, connections: usize) {
        if let Some(count) = group.evictions_to_report(now()) {
            let name = &group.name;
            self.main_log().note(
                Level::Warn,
                format_args!(
                    "upstream \"{name}\": {count} idle logins were ended because \"ntlm {connections}\" connections are not enough, raise it"
                ),
            );
        }
    }
}

/// How often waits have to be looked at so that the shortest configured timeout is kept to a quarter of it.
fn sweep_interval(config: &Config) -> Duration {
    let timeouts = config.http.locations.iter().flat_map(|location| {
        let (client, proxy) = (&location.client, &location.proxy);
        [
            client.body_timeout,
            client.send_timeout,
            client.keepalive_timeout,
            proxy.connect_timeout,
            proxy.read_timeout,
            proxy.send_timeout,
        ]
    });
    let servers = config
        .http
        .servers
        .iter()
        .map(|server| server.header_timeout);
    let pins = config
        .http
        .groups
        .iter()
        .filter_map(|group| Some(group.ntlm?.idle_timeout));
    let unnamed = config
        .http
        .locations
        .iter()
        .filter_map(|location| Some(location.proxy.ntlm?.idle_timeout));
    let pools = config
        .http
        .groups
        .iter()
        .map(|group| group.pool.idle_timeout);
    let flushes = config
        .http
        .locations
        .iter()
        .flat_map(|location| &location.access_logs)
        .filter_map(|log| log.buffering?.flush);
    let shortest = timeouts
        .chain(flushes)
        .chain(servers)
        .chain(pins)
        .chain(unnamed)
        .chain(pools)
        .filter(|timeout| !timeout.is_zero())
        .min();
    (shortest.unwrap_or(Duration::MAX) / 4).clamp(Duration::from_millis(20), Duration::from_secs(1))
}
