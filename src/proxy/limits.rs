//! `limit_req` and `limit_conn`: what a request has to pass before a location answers it.
//!
//! In nginx's order: requests first, and one that waits for its turn is not counted as being processed yet.

use std::fmt;
use std::future::{Future as _, poll_fn};
use std::ops::Deref;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::config::model::{
    ConnectionLimits, Level, LimitAnswer, LimitZone, Limits, RequestLimit, RequestLimits,
    ZoneIndex, ZoneUse,
};
use crate::limit::rate::Rate;
use crate::limit::{Exceeded, Key, Refused, Zone};
use crate::net::{self, now};

use super::client::Client;
use super::request::{ClientRef, Request};
use super::worker::Settings;

/// Longest keys that are counted, as in nginx.
const REQUEST_KEY_MAX: usize = 65_535;
const CONNECTION_KEY_MAX: usize = 255;

/// What became of a request at the limits.
pub(super) enum Limited {
    /// It goes on.
    Passed,
    /// It is answered with this status.
    Refused(u16),
    /// Its client left while it waited.
    ClientGone,
}

/// What limits made of a request; what it is counted in, as long as this lives.
#[derive(Default)]
pub(super) struct Standing {
    requests: Option<&'static str>,
    connections: Option<&'static str>,
    counted: SmallVec<[Counted; 1]>,
}

impl Standing {
    /// `$limit_req_status`
    pub(super) fn requests(&self) -> Option<&'static str> {
        self.requests
    }

    /// `$limit_conn_status`
    pub(super) fn connections(&self) -> Option<&'static str> {
        self.connections
    }
}

/// A zone as one worker has it: what is counted in it refers to it by a number that no other core writes.
pub(super) struct OwnZone(Arc<Zone>);

impl OwnZone {
    pub(super) fn new(zone: Arc<Zone>) -> Rc<Self> {
        Rc::new(Self(zone))
    }
}

impl Deref for OwnZone {
    type Target = Zone;

    fn deref(&self) -> &Zone {
        &self.0
    }
}

/// A request that is counted as being processed, in whatever way it ends.
struct Counted {
    zone: Rc<OwnZone>,
    key: Key,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.zone.leave(self.key);
    }
}

impl Client {
    /// Holds a request against the limits of its location. May take as long as the slowest of them has it wait.
    pub(super) async fn limit(
        &mut self,
        settings: &Settings,
        request: &mut Request,
        limits: &Limits,
    ) -> Limited {
        let mut standing = Box::<Standing>::default();
        let asked = ask(
            self.seen(settings),
            request,
            &limits.requests,
            &mut standing,
        );
        request.limited = Some(standing);
        match asked {
            Err(status) => return Limited::Refused(status),
            Ok(None) => {}
            Ok(Some(wait)) => {
                if !self.wait(settings, request, wait).await {
                    self.seen(settings).note_left(request);
                    return Limited::ClientGone;
                }
            }
        }
        let mut standing = request.limited.take().unwrap_or_default();
        let counted = count(
            self.seen(settings),
            request,
            &limits.connections,
            &mut standing,
        );
        request.limited = Some(standing);
        match counted {
            Ok(()) => Limited::Passed,
            Err(status) => Limited::Refused(status),
        }
    }

    /// Waits for the request's turn. False if the client leaves.
    async fn wait(&mut self, settings: &Settings, request: &Request, wait: Duration) -> bool {
        let turn_at = now() + wait;
        loop {
            // Its pins are idle meanwhile, and may have to make room.
            match self.seen(settings).turn(request, turn_at, true).await {
                Turn::Came => return true,
                Turn::ClientGone => return false,
                Turn::Evicted => self.give_up_evicted(),
            }
        }
    }
}

/// How a wait for a request's turn ended.
pub(super) enum Turn {
    Came,
    ClientGone,
    /// A pin has to go first.
    Evicted,
}

impl ClientRef<'_> {
    /// Waits for a request's turn; for an eviction too, if the client's pins are at hand.
    pub(super) async fn turn(&self, request: &Request, at: Instant, evictions: bool) -> Turn {
        let mut turn = pin!(net::sleep(at.saturating_duration_since(now())));
        poll_fn(|cx| {
            if turn.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Turn::Came);
            }
            let gone = if request.body.is_done() {
                self.socket.poll_gone(cx)
            } else {
                self.socket.poll_hung_up(cx)
            };
            if gone.is_ready() {
                return Poll::Ready(Turn::ClientGone);
            }
            if evictions && self.slot.has_evicted() {
                return Poll::Ready(Turn::Evicted);
            }
            self.slot.remember(cx);
            Poll::Pending
        })
        .await
    }
}

/// A `limit_req` that lets a request through.
struct Asked<'a> {
    limit: &'a RequestLimit,
    key: Key,
    rate: Rate,
    /// Its excess, once it is charged.
    charged: Option<u64>,
}

/// `limit_req`: how long the request has to wait, if at all.
///
/// All limits are asked before any is charged, but for the last, which is the first to be charged: a request that one of
/// them refuses is counted by none.
///
/// # Errors
/// The status that it is refused with.
fn ask(
    client: ClientRef<'_>,
    request: &Request,
    limits: &RequestLimits,
    standing: &mut Standing,
) -> Result<Option<Duration>, u16> {
    let LimitAnswer { level, dry_run, .. } = limits.answer;
    let dry = if dry_run { ", dry run" } else { "" };
    let now = now();
    let mut asked: SmallVec<[Asked<'_>; 2]> = SmallVec::new();
    for (nth, limit) in limits.limits.iter().enumerate() {
        let (zone, described) = zone(client.settings, limit.zone);
        let ZoneUse::Requests(rate) = described.kind else {
            continue;
        };
        let Some(key) = key(client, request, limit.zone, REQUEST_KEY_MAX) else {
            continue;
        };
        let result = if nth + 1 == limits.limits.len() {
            zone.charge(key, rate, limit.burst, now).map(Some)
        } else {
            match zone.look(key, rate, now) {
                excess if excess > limit.burst => Err(Exceeded(excess)),
                _ => Ok(None),
            }
        };
        match result {
            Ok(charged) => asked.push(Asked {
                limit,
                key,
                rate,
                charged,
            }),
            Err(Exceeded(excess)) => {
                let (excess, name) = (Thousandths(excess), &described.name);
                let message =
                    format_args!("limiting requests{dry}, excess: {excess} by zone \"{name}\"");
                client.log(level, request, message);
                return refuse(&limits.answer, &mut standing.requests).map(|()| None);
            }
        }
    }
    // The longest wait, and why.
    let mut longest = (0, 0, 0);
    for asked in asked.iter().rev() {
        let Asked { limit, rate, .. } = *asked;
        let excess = asked.charged.unwrap_or_else(|| {
            let (zone, _) = zone(client.settings, limit.zone);
            let charged = zone.charge(asked.key, rate, u64::MAX, now);
            charged.unwrap_or_else(|Exceeded(excess)| excess)
        });
        let wait_ms = rate.delay_ms(excess, limit.undelayed);
        if wait_ms > longest.0 {
            longest = (wait_ms, excess, limit.zone);
        }
    }
    let (wait_ms, excess, slowest) = longest;
    if wait_ms == 0 {
        standing.requests = (!asked.is_empty()).then_some("PASSED");
        return Ok(None);
    }
    let (excess, name) = (Thousandths(excess), &zone(client.settings, slowest).1.name);
    let message = format_args!("delaying request{dry}, excess: {excess}, by zone \"{name}\"");
    client.log(milder(level), request, message);
    if dry_run {
        standing.requests = Some("DELAYED_DRY_RUN");
        return Ok(None);
    }
    standing.requests = Some("DELAYED");
    Ok(Some(Duration::from_millis(wait_ms)))
}

/// `limit_conn`: counts the request as being processed. One that a limit refuses is counted by none.
///
/// # Errors
/// The status that it is refused with.
fn count(
    client: ClientRef<'_>,
    request: &Request,
    limits: &ConnectionLimits,
    standing: &mut Standing,
) -> Result<(), u16> {
    let LimitAnswer { level, dry_run, .. } = limits.answer;
    let dry = if dry_run { ", dry run," } else { "" };
    for limit in &limits.limits {
        let Some(key) = key(client, request, limit.zone, CONNECTION_KEY_MAX) else {
            continue;
        };
        let (zone, LimitZone { name, .. }) = zone(client.settings, limit.zone);
        match zone.enter(key, limit.number, now()) {
            Ok(()) => {
                let zone = Rc::clone(zone);
                standing.counted.push(Counted { zone, key });
                standing.connections = Some("PASSED");
                continue;
            }
            Err(Refused::Reached) => {
                let message = format_args!("limiting connections{dry} by zone \"{name}\"");
                client.log(level, request, message);
            }
            Err(Refused::Full) => {
                let message = format_args!("no memory in limit_conn_zone \"{name}\"");
                client.log(Level::Crit, request, message);
            }
        }
        standing.counted.clear();
        return refuse(&limits.answer, &mut standing.connections);
    }
    Ok(())
}

/// A zone, and how it is configured.
fn zone(settings: &Settings, index: ZoneIndex) -> (&Rc<OwnZone>, &LimitZone) {
    let described = &settings.config().http.limit_zones[index];
    (&settings.zones[index], described)
}

/// The request's key in a zone, unless it has none, or one that is too long to be counted.
fn key(client: ClientRef<'_>, request: &Request, index: ZoneIndex, longest: usize) -> Option<Key> {
    let (zone, described) = zone(client.settings, index);
    let mut value = Vec::new();
    described.key.render(&client.view(request), &mut value);
    if value.len() > longest {
        // nginx shows the value, too. It may be a cookie, or made of one, and whoever has that is somebody else to many a server.
        let name = &described.key_text;
        let message = format_args!("the value of the \"{name}\" key is more than {longest} bytes");
        client.log(Level::Error, request, message);
        return None;
    }
    (!value.is_empty()).then(|| zone.key(&value))
}

/// Notes a refusal, which in a dry run is none.
fn refuse(answer: &LimitAnswer, status: &mut Option<&'static str>) -> Result<(), u16> {
    if answer.dry_run {
        *status = Some("REJECTED_DRY_RUN");
        return Ok(());
    }
    *status = Some("REJECTED");
    Err(answer.status)
}

/// The level of a line about a delay, where one about a refusal has `level`.
fn milder(level: Level) -> Level {
    match level {
        Level::Error => Level::Warn,
        Level::Warn => Level::Notice,
        _ => Level::Info,
    }
}

/// A number of thousandths, as `1.500`.
struct Thousandths(u64);

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}
