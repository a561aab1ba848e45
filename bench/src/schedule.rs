//! The open loop's timetable, without a clock of its own.
//!
//! A generator that waits for an answer before it sends the next request spares a slow server the requests that would
//! have come meanwhile, and never sees how long they would have waited ("coordinated omission"). Here each request has a
//! time at which it is due, settled before the first is sent. If no connection is free then, it waits, and its latency is
//! counted from when it was due all the same.

use std::collections::VecDeque;
use std::time::Duration;

/// Which request is due when, and on which connection it goes.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// Requests per second; above zero.
    rate: f64,
    total: u64,
    issued: u64,
    under_way: u64,
    /// Longest idle first, so that all connections take part.
    idle: VecDeque<usize>,
}

impl Schedule {
    /// `rate` requests per second for so long, at least one, on this many connections.
    pub(crate) fn new(rate: f64, time: Duration, connections: usize) -> Self {
        let rate = rate.max(1e-3);
        Self {
            rate,
            total: ((rate * time.as_secs_f64()) as u64).max(1),
            issued: 0,
            under_way: 0,
            idle: (0..connections).collect(),
        }
    }

    /// The next request that can be sent `now`: its connection, and when it was due.
    pub(crate) fn next_request(&mut self, now: Duration) -> Option<(usize, Duration)> {
        let due = self.due()?;
        if due > now {
            return None;
        }
        let connection = self.idle.pop_front()?;
        self.issued += 1;
        self.under_way += 1;
        Some((connection, due))
    }

    /// When to look again if nothing is answered before; `None` if only an answer can bring anything.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        if self.idle.is_empty() {
            return None;
        }
        self.due()
    }

    /// Frees a connection.
    pub(crate) fn answered(&mut self, connection: usize) {
        self.under_way -= 1;
        self.idle.push_back(connection);
    }

    /// Whether every request was sent and answered.
    pub(crate) fn is_over(&self) -> bool {
        self.issued == self.total && self.under_way == 0
    }

    fn due(&self) -> Option<Duration> {
        (self.issued < self.total).then(|| Duration::from_secs_f64(self.issued as f64 / self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Runs a schedule in steps of a millisecond against a server that answers each request after `service`, one at a
    /// time, and stands still in `pause`. Returns latencies in milliseconds.
    fn latencies(connections: usize, service: Duration, pause: std::ops::Range<u32>) -> Vec<u128> {
        let mut schedule = Schedule::new(100.0, MS * 1000, connections);
        let mut queue = VecDeque::new();
        let mut latencies = Vec::new();
        let mut busy_until = Duration::ZERO;
        for step in 0..10_000 {
            let now = MS * step;
            while let Some(request) = schedule.next_request(now) {
                queue.push_back(request);
            }
            while !pause.contains(&step)
                && now >= busy_until
                && let Some((connection, due)) = queue.pop_front()
            {
                busy_until = now + service;
                latencies.push((now + service - due).as_millis());
                schedule.answered(connection);
            }
            if schedule.is_over() {
                break;
            }
        }
        assert!(schedule.is_over());
        latencies
    }

    #[test]
    fn requests_are_due_at_even_times() {
        let mut schedule = Schedule::new(10.0, MS * 500, 8);
        let mut dues = Vec::new();
        while let Some((connection, due)) = schedule.next_request(MS * 10_000) {
            dues.push((connection, due.as_millis()));
        }
        assert_eq!(dues, [(0, 0), (1, 100), (2, 200), (3, 300), (4, 400)]);
        assert!(!schedule.is_over(), "five are under way");
        (0..5).for_each(|connection| schedule.answered(connection));
        assert!(schedule.is_over());
    }

    #[test]
    fn nothing_is_sent_before_its_time_or_without_a_connection() {
        let mut schedule = Schedule::new(10.0, MS * 1000, 1);
        assert_eq!(schedule.next_request(MS * 50), Some((0, Duration::ZERO)));
        assert_eq!(schedule.next_due(), None, "the one connection is busy");
        assert_eq!(schedule.next_request(MS * 500), None);
        schedule.answered(0);
        assert_eq!(schedule.next_due(), Some(MS * 100));
        assert_eq!(schedule.next_request(MS * 99), None);
    }

    #[test]
    fn a_pause_of_the_server_is_charged_to_every_request_it_delays() {
        // 100 per second; a pause of half a second delays some fifty requests, however few connections there are.
        for connections in [1, 4, 1000] {
            let latencies = latencies(connections, MS, 200..700);
            assert_eq!(latencies.len(), 100);
            let late = latencies.iter().filter(|&&ms| ms > 10).count();
            assert!((45..=60).contains(&late), "{late} were late");
            assert!(latencies.iter().max().is_some_and(|&ms| ms >= 500));
        }
        assert!(latencies(4, MS, 0..0).iter().all(|&ms| ms <= 1));
    }
}
