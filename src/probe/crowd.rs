//! Strangers: many connections at once on which nobody ever sends credentials.

use std::fmt;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::dial::{Dialer, Http};
use super::login::ask;

/// How many come at once: more than a front's workers, so that each of these is met.
const CONNECTIONS: usize = 16;

/// How they were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Crowd {
    /// 401.
    pub(super) asked_to_log_in: usize,
    /// As somebody who need not log in, or has.
    pub(super) let_in: usize,
    /// Not at all, or by an answer that is about nobody: 400, 408, 429, 431, 5xx.
    pub(super) others: usize,
}

impl Crowd {
    /// Has them all ask for the target once, at the same time.
    pub(super) async fn ask(dialer: &Arc<Dialer>) -> Self {
        // All are there before the first of them asks.
        let mut opening = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let dialer = Arc::clone(dialer);
            opening.spawn(async move { dialer.http().await });
        }
        let mut asking = JoinSet::new();
        for opened in opening.join_all().await {
            let path = dialer.target.path.clone();
            asking.spawn(async move { status(opened.ok()?, &path).await });
        }
        let mut crowd = Self::default();
        for status in asking.join_all().await {
            crowd.note(status);
        }
        crowd
    }

    /// Counts an answer; `None`: there was none.
    pub(super) fn note(&mut self, status: Option<u16>) {
        match status {
            Some(401) => self.asked_to_log_in += 1,
            None | Some(400 | 407 | 408 | 429 | 431 | 500..) => self.others += 1,
            Some(_) => self.let_in += 1,
        }
    }

    /// How many there were.
    pub(super) fn number(&self) -> usize {
        self.asked_to_log_in + self.let_in + self.others
    }
}

impl std::ops::AddAssign for Crowd {
    fn add_assign(&mut self, other: Self) {
        self.asked_to_log_in += other.asked_to_log_in;
        self.let_in += other.let_in;
        self.others += other.others;
    }
}

impl fmt::Display for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            asked_to_log_in,
            let_in,
            others,
        } = self;
        write!(
            f,
            "{} connections without credentials: {asked_to_log_in} asked to log in, {let_in} let in",
            self.number()
        )?;
        if *others > 0 {
            write!(f, ", {others} not served")?;
        }
        Ok(())
    }
}

async fn status(mut http: Http, path: &str) -> Option<u16> {
    ask(&mut http, path, None).await.ok().map(|it| it.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_to_somebody_let_in() {
        let mut crowd = Crowd::default();
        for status in [200, 302, 401, 403, 404, 407, 429, 500, 503] {
            crowd.note(Some(status));
        }
        crowd.note(None);
        let expected = Crowd {
            asked_to_log_in: 1,
            let_in: 4,
            others: 5,
        };
        assert_eq!(crowd, expected);
        assert_eq!(crowd.number(), 10);
    }
}
