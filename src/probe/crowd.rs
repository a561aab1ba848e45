//! Strangers: many connections at once on which nobody ever sends credentials.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::dial::{Dialer, Http};
use super::login::ask;

/// How many come at once: more than a front's workers, so that each of these is met.
const CONNECTIONS: usize = 16;

/// How many come one at a time at the most, and how long each of these waits. Limits of simultaneous requests and of requests in a
/// moment (IIS: "Dynamic IP Restrictions") do not show then.
const ALONE: usize = 4;
const PAUSE: Duration = Duration::from_millis(500);

/// How they were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Crowd {
    /// 401.
    pub(super) asked_to_log_in: usize,
    /// As somebody who need not log in, or has.
    pub(super) let_in: usize,
    /// As somebody who is logged in and is sent elsewhere or has no right here, or as a limit or a filter does.
    pub(super) doubtful: usize,
    /// Not at all, or by an answer that is about nobody: 400, 408, 429, 431, 5xx.
    pub(super) others: usize,
}

/// What the answer to a stranger means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    AskedToLogIn,
    LetIn,
    /// 3xx, 403, 404, …
    Doubtful,
    Other,
}

impl Meaning {
    /// Of an answer; `None`: there was none. `login` is what somebody who had logged in was answered.
    fn of(status: Option<u16>, login: Option<u16>) -> Self {
        match status {
            Some(401) => Self::AskedToLogIn,
            None | Some(400 | 407 | 408 | 421 | 429 | 431 | 500..) => Self::Other,
            Some(200..300) => Self::LetIn,
            same if same == login => Self::LetIn,
            Some(_) => Self::Doubtful,
        }
    }
}

impl Crowd {
    /// Has them all ask for the target once, at the same time. `login` is what somebody who had logged in was answered, if anybody
    /// has.
    pub(super) async fn ask(dialer: &Arc<Dialer>, login: Option<u16>) -> Self {
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
            match Meaning::of(status, login) {
                Meaning::AskedToLogIn => crowd.asked_to_log_in += 1,
                Meaning::LetIn => crowd.let_in += 1,
                Meaning::Doubtful => crowd.doubtful += 1,
                Meaning::Other => crowd.others += 1,
            }
        }
        crowd
    }

    /// Has some more come one at a time, before anybody has logged in. If some of these are asked to log in and others are not, it is no
    /// limit that answers so, and those that were doubtful were let in.
    pub(super) async fn settle(self, dialer: &Dialer) -> Self {
        if self.doubtful == 0 || !differ(dialer).await {
            return self;
        }
        Self {
            let_in: self.let_in + self.doubtful,
            doubtful: 0,
            ..self
        }
    }

    /// One who was let in where others were not.
    pub(super) fn let_in(mut self) -> Self {
        self.let_in += 1;
        self
    }

    /// How many there were.
    pub(super) fn number(&self) -> usize {
        self.asked_to_log_in + self.let_in + self.unserved()
    }

    fn unserved(&self) -> usize {
        self.doubtful + self.others
    }
}

impl std::ops::AddAssign for Crowd {
    fn add_assign(&mut self, other: Self) {
        self.asked_to_log_in += other.asked_to_log_in;
        self.let_in += other.let_in;
        self.doubtful += other.doubtful;
        self.others += other.others;
    }
}

impl fmt::Display for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            asked_to_log_in,
            let_in,
            ..
        } = self;
        write!(
            f,
            "{} connections without credentials: {asked_to_log_in} asked to log in, {let_in} let in",
            self.number()
        )?;
        match self.unserved() {
            0 => Ok(()),
            others => write!(f, ", {others} not served"),
        }
    }
}

/// Whether of those who come one at a time some are asked to log in and others are not.
async fn differ(dialer: &Dialer) -> bool {
    let (mut asked, mut not_asked) = (false, false);
    for _ in 0..ALONE {
        sleep(PAUSE).await;
        let Ok(http) = dialer.http().await else {
            continue;
        };
        match Meaning::of(status(http, &dialer.target.path).await, None) {
            Meaning::AskedToLogIn => asked = true,
            Meaning::LetIn | Meaning::Doubtful => not_asked = true,
            Meaning::Other => {}
        }
        if asked && not_asked {
            return true;
        }
    }
    false
}

async fn status(mut http: Http, path: &str) -> Option<u16> {
    ask(&mut http, path, None).await.ok().map(|it| it.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_mean() {
        use Meaning::{AskedToLogIn, Doubtful, LetIn, Other};
        for (status, before, after_403) in [
            (Some(200), LetIn, LetIn),
            (Some(206), LetIn, LetIn),
            (Some(302), Doubtful, Doubtful),
            (Some(401), AskedToLogIn, AskedToLogIn),
            (Some(403), Doubtful, LetIn),
            (Some(404), Doubtful, Doubtful),
            (Some(407), Other, Other),
            (Some(429), Other, Other),
            (Some(503), Other, Other),
            (None, Other, Other),
        ] {
            assert_eq!(Meaning::of(status, None), before, "{status:?}");
            assert_eq!(Meaning::of(status, Some(403)), after_403, "{status:?}");
        }
    }
}
