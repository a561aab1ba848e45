//! The model world: workers, client connections, and a front that carries out what the pins decide.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::books::{Book, Outcome, Violation};
use super::upstream::{Answer, Upstream, credentials, predecessor};
use crate::pin::pool::PoolLimits;
use crate::pin::random_plan::{self, Action, Deed, Leg, Scheme, Shape, Stage};
use crate::pin::{self, EndReason, GroupId, IdleOrder, Limits, Pinned, Pins, Plan, Pool, State};

const WORKERS: usize = 2;
/// Steps between two sweeps, and between two counts of everything.
const SWEEP_EVERY: u64 = 64;
const COUNT_EVERY: u64 = 256;

/// Mistakes that a front could make, to see that they are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    PoolsRetiredPins,
    PoolsPinsOfLeavers,
    TakesTwoRequestsForFinished,
    IgnoresLimits,
    EndsAtWill,
    ForgetsToClose,
    LeavesTheIdleOrder,
    SwapsPins,
}

pub(super) struct World {
    now: Instant,
    step: u64,
    limits: Limits,
    pool_limits: PoolLimits,
    rng: SmallRng,
    mistake: Option<Mistake>,
    /// Client `n` is at worker `n % WORKERS`.
    clients: Vec<Option<Client>>,
    workers: Vec<Worker>,
    /// Clients with an exchange under way; some may be gone or done.
    in_flight: Vec<usize>,
    next_serial: u64,
    live: Rc<Cell<usize>>,
    /// How many logins succeeded.
    pub(super) logins: u64,
    /// How many requests without credentials were answered as someone.
    pub(super) recognised: u64,
    pub(super) ends: HashMap<EndReason, u64>,
}

/// By group.
struct Worker {
    pools: Vec<Pool<u8, Upstream>>,
    idle: Vec<IdleOrder<Resting>>,
}

/// Whose pin rests.
#[derive(Clone, Copy, Debug)]
struct Resting {
    client: usize,
    serial: u64,
}

/// A client connection.
struct Client {
    serial: u64,
    pins: Pins<Upstream>,
    exchange: Option<Exchange>,
    /// The books, by group.
    books: Vec<Book>,
}

struct Exchange {
    group: usize,
    leg: Option<Leg>,
    route: Route,
}

enum Route {
    Pinned(Pinned<Upstream>),
    Clean(Upstream),
}

impl World {
    pub(super) fn new(seed: u64, shape: &Shape, mistake: Option<Mistake>) -> Self {
        let worker = || Worker {
            pools: (0..shape.groups).map(|_| Pool::default()).collect(),
            idle: (0..shape.groups).map(|_| IdleOrder::default()).collect(),
        };
        Self {
            now: Instant::now(),
            step: 0,
            limits: Limits {
                connections: 5,
                idle_timeout: Duration::from_secs(2),
                max_age: Duration::from_secs(10),
                max_requests: 12,
                reauth_same: false,
            },
            pool_limits: PoolLimits {
                connections: 4,
                idle_timeout: Duration::from_secs(2),
                max_age: Duration::from_secs(20),
                max_requests: 50,
            },
            rng: SmallRng::seed_from_u64(!seed),
            mistake,
            clients: (0..shape.clients).map(|_| None).collect(),
            workers: (0..WORKERS).map(|_| worker()).collect(),
            in_flight: Vec::new(),
            next_serial: 0,
            live: Rc::default(),
            logins: 0,
            recognised: 0,
            ends: HashMap::new(),
        }
    }

    pub(super) fn act(&mut self, action: Action) -> Outcome {
        self.step += 1;
        self.now += Duration::from_millis(self.rng.random_range(0..10));
        match action {
            Action::Client { client, deed } => self.deed(client, deed)?,
            Action::ServerCloses { group, client } => self.server_closes(client, group)?,
            Action::Pause { millis } => {
                self.now += Duration::from_millis(millis);
                self.sweep()?;
            }
            Action::Reload { limits } => self.limits = limits.into(),
        }
        if !self.in_flight.is_empty() && self.rng.random_range(0..4) > 0 {
            let which = self.rng.random_range(0..self.in_flight.len());
            self.settle(self.in_flight[which])?;
        }
        if self.step.is_multiple_of(SWEEP_EVERY) {
            self.sweep()?;
        }
        if self.step.is_multiple_of(COUNT_EVERY) {
            self.count()?;
        }
        Ok(())
    }

    /// Everybody leaves, the workers stop, and nothing may be left.
    pub(super) fn finish(&mut self) -> Outcome {
        for client in 0..self.clients.len() {
            self.leave(client)?;
        }
        self.count()?;
        self.workers.clear();
        match self.live.get() {
            0 => Ok(()),
            open => Err(Violation::Leak { open, owned: 0 }),
        }
    }

    fn deed(&mut self, client: usize, deed: Deed) -> Outcome {
        self.settle(client)?;
        if self.clients[client].is_none() {
            self.clients[client] = Some(self.connected());
        }
        match deed {
            Deed::Connect { .. } => Ok(()),
            Deed::Request { group } => self.send(client, group, None),
            Deed::Login { group, leg } => {
                let known = self.clients[client].as_ref().is_some_and(|client| {
                    leg.number == 0 || client.books[group].asked_after == predecessor(leg)
                });
                if known {
                    self.send(client, group, Some(leg))
                } else {
                    Ok(())
                }
            }
            Deed::Abandon { group, stage } => {
                let first = Leg {
                    scheme: Scheme::Ntlm,
                    identity: 0,
                    wrong_password: false,
                    number: 0,
                };
                match stage {
                    Stage::AfterFirstLeg => self.send(client, group, Some(first))?,
                    Stage::BetweenLegs => {
                        self.send(client, group, Some(first))?;
                        self.settle(client)?;
                    }
                    Stage::DuringAnswer => self.send(client, group, None)?,
                }
                self.leave(client)
            }
            Deed::Close => self.leave(client),
        }
    }

    fn connected(&mut self) -> Client {
        self.next_serial += 1;
        Client {
            serial: self.next_serial,
            pins: Pins::default(),
            exchange: None,
            books: vec![Book::default(); self.workers[0].pools.len()],
        }
    }

    /// A request arrives from the client, and goes out as the pins decide.
    fn send(&mut self, place: usize, group: usize, leg: Option<Leg>) -> Outcome {
        let limits = match self.mistake {
            Some(Mistake::IgnoresLimits) => Limits::default(),
            Some(Mistake::EndsAtWill) if self.rng.random_range(0..100) == 0 => Limits {
                max_requests: 1,
                ..self.limits
            },
            _ => self.limits,
        };
        let Some(client) = self.clients[place].as_mut() else {
            return Ok(());
        };
        let serial = client.serial;
        let id = GroupId(group as u32);
        let mut route = match client
            .pins
            .plan(id, leg.map(credentials), &limits, self.now)
        {
            Plan::OnPin(mut pin) => {
                self.wake(place, &mut pin)?;
                self.check_use(&pin, leg)?;
                if pin.connection().closed.get() {
                    self.end(place, pin, EndReason::UpstreamClosed)?;
                    return self.leave(place);
                }
                Route::Pinned(pin)
            }
            Plan::Bind { ended } => {
                if let Some((pin, reason)) = ended {
                    self.end(place, pin, reason)?;
                }
                let upstream = self.clean(place, group);
                let (opened, requests) = (upstream.opened, upstream.requests);
                let Some(client) = &self.clients[place] else {
                    return Ok(());
                };
                let pins = &client.pins;
                Route::Pinned(pins.bind(upstream, id, self.step, opened, requests))
            }
            Plan::Plain { ended } => {
                if let Some((pin, reason)) = ended {
                    self.end(place, pin, reason)?;
                }
                Route::Clean(self.clean(place, group))
            }
        };
        if self.mistake == Some(Mistake::SwapsPins) {
            self.swap_with_another(place, group, &mut route);
        }
        let upstream = match &mut route {
            Route::Pinned(pin) => pin.connection_mut(),
            Route::Clean(upstream) => upstream,
        };
        upstream.requests += 1;
        if let Some(owner) = upstream.owner.filter(|owner| *owner != serial) {
            let user = serial;
            return Err(Violation::ForeignConnection { owner, user });
        }
        if leg.is_some() {
            upstream.owner = Some(serial);
        }
        if let Some(client) = &mut self.clients[place] {
            client.exchange = Some(Exchange { group, leg, route });
            self.in_flight.push(place);
        }
        Ok(())
    }

    /// A connection without credentials: of the pool, or a new one.
    fn clean(&mut self, place: usize, group: usize) -> Upstream {
        let pool = &mut self.workers[place % WORKERS].pools[group];
        pool.take(0)
            .unwrap_or_else(|| Upstream::open(&self.live, self.now))
    }

    /// The answer to the client's request comes, if it has one under way.
    fn settle(&mut self, place: usize) -> Outcome {
        self.in_flight.retain(|other| *other != place);
        let Some(client) = self.clients[place].as_mut() else {
            return Ok(());
        };
        let Some(Exchange { group, leg, route }) = client.exchange.take() else {
            return Ok(());
        };
        let goes_on = self.rng.random_range(0..200) > 0;
        let worker = &mut self.workers[place % WORKERS];
        match route {
            Route::Clean(mut upstream) => {
                let answer = upstream.server.answer(leg);
                if goes_on {
                    let (opened, requests) = (upstream.opened, upstream.requests);
                    worker.pools[group].put(
                        0,
                        upstream,
                        opened,
                        requests,
                        &self.pool_limits,
                        self.now,
                    );
                }
                self.check_answer(place, group, leg, &answer)
            }
            Route::Pinned(mut pin) => {
                let upstream = pin.connection_mut();
                let answer = upstream.server.answer(leg);
                upstream.authenticated_request_only = answer.persistent_auth_false;
                self.check_answer(place, group, leg, &answer)?;
                if goes_on {
                    self.rest(place, group, pin, leg, &answer)
                } else {
                    self.end(place, pin, EndReason::UpstreamClosed)
                }
            }
        }
    }

    fn check_answer(
        &mut self,
        place: usize,
        group: usize,
        leg: Option<Leg>,
        answer: &Answer,
    ) -> Outcome {
        let Some(client) = self.clients[place].as_mut() else {
            return Ok(());
        };
        client.books[group].check(leg, answer)?;
        match leg {
            None => self.recognised += u64::from(answer.identity.is_some()),
            Some(_) => self.logins += u64::from(answer.identity.is_some()),
        }
        Ok(())
    }

    /// The pin goes back to its client, and into the idle order if it is established.
    fn rest(
        &mut self,
        place: usize,
        group: usize,
        pin: Pinned<Upstream>,
        leg: Option<Leg>,
        answer: &Answer,
    ) -> Outcome {
        let Some(client) = self.clients[place].as_mut() else {
            return Ok(());
        };
        let status = match self.mistake {
            Some(Mistake::TakesTwoRequestsForFinished) if pin.requests() >= 2 => 200,
            _ => answer.status,
        };
        let answer = pin::Answer {
            status,
            challenge: answer.challenge,
            persistent_auth_false: answer.persistent_auth_false,
        };
        let pin = client.pins.answered(pin, leg.is_some(), answer, self.now);
        pin.connection_mut().last_answer = self.now;
        if pin.state() == State::Handshaking {
            return Ok(());
        }
        let order = &mut self.workers[place % WORKERS].idle[group];
        let serial = client.serial;
        pin.connection_mut().idle_key = Some(order.insert(Resting {
            client: place,
            serial,
        }));
        while let Some(victim) =
            self.workers[place % WORKERS].idle[group].overflow(self.limits.connections)
        {
            self.evict(victim, group)?;
        }
        Ok(())
    }

    fn evict(&mut self, victim: Resting, group: usize) -> Outcome {
        let worker = victim.client % WORKERS;
        let resting = |client: &Client| {
            let pin = client
                .pins
                .iter()
                .find(|pin| pin.group().0 as usize == group)?;
            (pin.state() == State::Established).then_some(pin.connection().last_answer)
        };
        let oldest = (self.clients.iter().enumerate())
            .filter(|(place, _)| place % WORKERS == worker)
            .filter_map(|(_, client)| client.as_ref().and_then(resting))
            .min();
        let Some(client) = self.clients[victim.client]
            .as_mut()
            .filter(|client| client.serial == victim.serial)
        else {
            return Err(Violation::IdleOrder("names a client that is gone"));
        };
        let Some(mut pin) = client.pins.remove(GroupId(group as u32)) else {
            return Err(Violation::IdleOrder("names a pin that is not at rest"));
        };
        if Some(pin.connection().last_answer) != oldest {
            return Err(Violation::IdleOrder(
                "gave up one that was used after another",
            ));
        }
        pin.connection_mut().idle_key = None;
        self.end(victim.client, pin, EndReason::Evicted)
    }

    /// A pin that rested leaves the idle order.
    fn wake(&mut self, place: usize, pin: &mut Pinned<Upstream>) -> Outcome {
        let group = pin.group().0 as usize;
        let order = &mut self.workers[place % WORKERS].idle[group];
        match pin.connection_mut().idle_key.take() {
            Some(_) if self.mistake == Some(Mistake::LeavesTheIdleOrder) => Ok(()),
            Some(key) if !order.remove(key) => {
                Err(Violation::IdleOrder("had lost an established pin at rest"))
            }
            Some(_) => Ok(()),
            None if pin.state() == State::Established => {
                Err(Violation::IdleOrder("never had an established pin at rest"))
            }
            None => Ok(()),
        }
    }

    /// Closes a pin, for a reason that must be true.
    fn end(&mut self, place: usize, mut pin: Pinned<Upstream>, reason: EndReason) -> Outcome {
        if pin.connection().idle_key.is_some() {
            self.wake(place, &mut pin)?;
        }
        let upstream = pin.connection();
        let group = pin.group().0 as usize;
        let old = self.now - upstream.opened;
        let idle = self.now - upstream.last_answer;
        let established = pin.state() == State::Established;
        let true_reason = match reason {
            EndReason::Idle => established && idle >= self.limits.idle_timeout,
            EndReason::Age => established && old >= self.limits.max_age,
            EndReason::Requests => established && upstream.requests >= self.limits.max_requests,
            EndReason::Evicted | EndReason::NewCredentials => established,
            EndReason::ClientClosed | EndReason::UpstreamClosed => true,
            EndReason::Error | EndReason::Shutdown => false,
        };
        if !true_reason && self.mistake != Some(Mistake::IgnoresLimits) {
            let state = pin.state();
            return Err(Violation::EndedTooSoon { reason, state });
        }
        *self.ends.entry(reason).or_default() += 1;
        if let Some(client) = &mut self.clients[place] {
            client.books[group].ended(reason);
        }
        let pooled = match self.mistake {
            Some(Mistake::PoolsRetiredPins) => {
                matches!(reason, EndReason::Age | EndReason::Requests)
            }
            Some(Mistake::PoolsPinsOfLeavers) => reason == EndReason::ClientClosed,
            Some(Mistake::ForgetsToClose) if reason == EndReason::Idle => {
                std::mem::forget(pin);
                return Ok(());
            }
            _ => false,
        };
        if pooled {
            // The types leave no other way than to put something in its place.
            let decoy = Upstream::open(&self.live, self.now);
            let upstream = std::mem::replace(pin.connection_mut(), decoy);
            let pool = &mut self.workers[place % WORKERS].pools[group];
            pool.put(0, upstream, self.now, 0, &self.pool_limits, self.now);
        }
        Ok(())
    }

    /// A request goes out on a pin that is there.
    fn check_use(&self, pin: &Pinned<Upstream>, leg: Option<Leg>) -> Outcome {
        if pin.state() == State::Handshaking {
            return Ok(());
        }
        let upstream = pin.connection();
        let (age, requests) = (self.now - upstream.opened, upstream.requests);
        if age >= self.limits.max_age || requests >= self.limits.max_requests {
            return Err(Violation::LimitIgnored { age, requests });
        }
        match leg {
            Some(leg)
                if !upstream.authenticated_request_only
                    && (leg.scheme.is_ntlm_message(leg.number) || !self.limits.reauth_same) =>
            {
                Err(Violation::LoginNotFresh { leg })
            }
            _ => Ok(()),
        }
    }

    /// The server closes its idle pinned connection with the client; the front sees it at once, or at the next request.
    fn server_closes(&mut self, place: usize, group: usize) -> Outcome {
        let Some(client) = self.clients[place].as_mut() else {
            return Ok(());
        };
        let id = GroupId(group as u32);
        let Some(pin) = client.pins.iter().find(|pin| pin.group() == id) else {
            return Ok(());
        };
        pin.connection().closed.set(true);
        if self.rng.random_range(0..2) == 0 {
            return Ok(());
        }
        if let Some(pin) = client.pins.remove(id) {
            self.end(place, pin, EndReason::UpstreamClosed)?;
        }
        let last = self.clients[place]
            .as_ref()
            .is_some_and(|client| client.exchange.is_none() && client.pins.is_empty());
        if last { self.leave(place) } else { Ok(()) }
    }

    /// The client connection ends, in whatever state it is.
    fn leave(&mut self, place: usize) -> Outcome {
        self.in_flight.retain(|other| *other != place);
        let Some(mut client) = self.clients[place].take() else {
            return Ok(());
        };
        if let Some(Exchange {
            route: Route::Pinned(pin),
            ..
        }) = client.exchange.take()
        {
            self.end(place, pin, EndReason::ClientClosed)?;
        }
        let groups: Vec<_> = client.pins.iter().map(Pinned::group).collect();
        for group in groups {
            if let Some(pin) = client.pins.remove(group) {
                self.end(place, pin, EndReason::ClientClosed)?;
            }
        }
        Ok(())
    }

    /// Once in a while a worker looks for what was idle too long.
    fn sweep(&mut self) -> Outcome {
        let limits = self.limits;
        for place in 0..self.clients.len() {
            while let Some(pin) = self.clients[place]
                .as_mut()
                .and_then(|client| client.pins.expired(|_| limits, self.now))
            {
                self.end(place, pin, EndReason::Idle)?;
            }
            let next = self.clients[place]
                .as_ref()
                .and_then(|client| client.pins.next_expiry(|_| limits));
            if next.is_some_and(|next| next <= self.now) {
                return Err(Violation::IdleOrder("an expired pin was left"));
            }
        }
        for pool in self.workers.iter_mut().flat_map(|worker| &mut worker.pools) {
            pool.sweep(&self.pool_limits, self.now, |_| false);
        }
        Ok(())
    }

    /// Every open connection has an owner, and the idle orders know exactly the idle established pins.
    fn count(&self) -> Outcome {
        let pooled = self.workers.iter().flat_map(|worker| &worker.pools);
        let mut owned: usize = pooled.map(Pool::len).sum();
        let mut idle = 0;
        for client in self.clients.iter().flatten() {
            owned += client.pins.iter().count() + usize::from(client.exchange.is_some());
            idle += (client.pins.iter())
                .filter(|pin| pin.state() == State::Established)
                .count();
        }
        let open = self.live.get();
        if open != owned {
            return Err(Violation::Leak { open, owned });
        }
        let ordered = self.workers.iter().flat_map(|worker| &worker.idle);
        if ordered.map(IdleOrder::len).sum::<usize>() != idle {
            return Err(Violation::IdleOrder(
                "is not as long as there are idle pins",
            ));
        }
        Ok(())
    }

    /// A table keyed by an address that was used again would do this.
    fn swap_with_another(&mut self, place: usize, group: usize, route: &mut Route) {
        let Route::Pinned(pin) = route else {
            return;
        };
        for (other, client) in self.clients.iter_mut().enumerate() {
            let exchange = client.as_mut().and_then(|client| client.exchange.as_mut());
            let Some(exchange) = exchange.filter(|exchange| exchange.group == group) else {
                continue;
            };
            if let Route::Pinned(theirs) = &mut exchange.route
                && other != place
            {
                return std::mem::swap(pin, theirs);
            }
        }
    }
}

impl From<random_plan::Limits> for Limits {
    fn from(limits: random_plan::Limits) -> Self {
        Self {
            connections: limits.connections,
            idle_timeout: Duration::from_millis(limits.timeout_millis),
            max_age: Duration::from_millis(limits.time_millis),
            max_requests: limits.requests,
            reauth_same: limits.reauth_same,
        }
    }
}
