//! The comparison: every parser has to see what the strict reader saw, or refuse for a reason of its own.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

use crate::case::{Case, Kind, describe};
use crate::excuses;
use crate::message::View;
use crate::parsers::{self, Nginx, Process};

/// Cases that are handed to the parsers at once.
pub(crate) const BATCH: usize = 128;

/// Failures that are shown; the first one ends the run.
const SHOWN: usize = 5;

/// What was compared.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) cases: u64,
    /// Cases that end within a message.
    pub(crate) cut: u64,
    /// Cases that were read again with a first line that every parser takes.
    pub(crate) tamed: u64,
    /// By parser and reason.
    pub(crate) excused: BTreeMap<(&'static str, &'static str), u64>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.cases += other.cases;
        self.cut += other.cut;
        self.tamed += other.tamed;
        for (reason, n) in &other.excused {
            *self.excused.entry(*reason).or_default() += n;
        }
    }
}

/// What went wrong, gathered from all threads.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    texts: Mutex<Vec<String>>,
    any: AtomicBool,
}

impl Failures {
    pub(crate) fn add(&self, text: String) {
        self.any.store(true, Ordering::Relaxed);
        self.texts
            .lock()
            .expect("no thread panics with it")
            .push(text);
    }

    /// Whether the run may end.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// # Panics
    /// There are some.
    pub(crate) fn report(&self, seed: u64) {
        let texts = self.texts.lock().expect("no thread panics with it");
        assert!(
            texts.is_empty(),
            "{} failures with DIFFERENTIAL_SEED={seed}; the first:\n\n{}",
            texts.len(),
            texts[..texts.len().min(SHOWN)].join("\n")
        );
    }
}

/// One set of parsers, which takes batches until there are no more.
pub(crate) fn verify(
    batches: &Mutex<Receiver<Vec<Case>>>,
    with_nginx: bool,
    failures: &Failures,
) -> Tally {
    let mut parsers = Parsers {
        h11: Process::h11(),
        llhttp: Process::llhttp(),
        nginx: with_nginx.then(Nginx::start),
    };
    let mut tally = Tally::default();
    loop {
        let next = batches.lock().expect("no thread panics with it").recv();
        let Ok(batch) = next else {
            return tally;
        };
        let views = parsers.read(&batch);
        let mut again = Vec::new();
        for (index, case) in batch.iter().enumerate() {
            let of_case = views.iter().map(|(who, views)| (*who, &views[index]));
            match compare(case, of_case, &mut tally) {
                Ok(agreeing) if agreeing < AGREEING_MIN => again.push(case.tamed()),
                Ok(_) => {}
                Err(problem) => failures.add(problem),
            }
        }
        if again.is_empty() {
            continue;
        }
        tally.tamed += again.len() as u64;
        let views = parsers.read(&again);
        for (index, case) in again.iter().enumerate() {
            let of_case = views.iter().map(|(who, views)| (*who, &views[index]));
            let problem = match compare(case, of_case, &mut Tally::default()) {
                Ok(agreeing) if agreeing > AGREEING_MIN => continue,
                Ok(_) => format!("not read by enough of them: {}", case.describe()),
                Err(problem) => problem,
            };
            failures.add(problem);
        }
    }
}

/// One of each.
struct Parsers {
    h11: Process,
    llhttp: Process,
    nginx: Option<Nginx>,
}

impl Parsers {
    fn read(&mut self, batch: &[Case]) -> Vec<(&'static str, Vec<View>)> {
        self.h11.ask(batch).expect("h11 runs");
        self.llhttp.ask(batch).expect("node runs");
        let mut views = vec![("hyper", batch.iter().map(parsers::hyper).collect())];
        if let Some(nginx) = &mut self.nginx {
            views.push(("nginx", by_nginx(nginx, batch)));
        }
        views.push(("llhttp", self.llhttp.answer(batch).expect("node runs")));
        views.push(("h11", self.h11.answer(batch).expect("h11 runs")));
        views
    }
}

/// nginx sees whole requests only: of those that are cut it would log the end of the connection.
fn by_nginx(nginx: &mut Nginx, batch: &[Case]) -> Vec<View> {
    let whole: Vec<Case> = batch
        .iter()
        .filter(|case| !case.expected.is_empty())
        .cloned()
        .collect();
    let mut views = nginx.read(&whole).into_iter();
    let view = |case: &Case| match case.expected.is_empty() {
        true => View::default(),
        false => views.next().expect("a view of each"),
    };
    batch.iter().map(view).collect()
}

/// Parsers that have to agree on every message as it is. Where fewer do, more of them have to, once its first line is one that
/// they all take.
const AGREEING_MIN: usize = 2;

/// How many agree.
fn compare<'a>(
    case: &Case,
    views: impl Iterator<Item = (&'static str, &'a View)> + Clone,
    tally: &mut Tally,
) -> Result<usize, String> {
    tally.cases += 1;
    let is_cut = case.expected.is_empty()
        || matches!(&case.kind, Kind::Response { heads } if case.expected.len() < heads.len());
    tally.cut += u64::from(is_cut);
    let mut problems = Vec::new();
    let mut agreeing = 0;
    for (who, view) in views.clone() {
        // What is cut ends in whatever error the parser has for that.
        if view.messages == case.expected && (is_cut || view.error.is_none()) {
            agreeing += 1;
            continue;
        }
        match excuses::excuse(who, case, view) {
            Some(reason) => *tally.excused.entry((who, reason)).or_default() += 1,
            None => problems.push(who),
        }
    }
    if problems.is_empty() {
        return Ok(agreeing);
    }
    let mut text = format!("{} disagree: {}", problems.join(", "), case.describe());
    for (who, view) in views {
        text += &describe(who, &view.messages, view.error.as_deref());
    }
    Err(text)
}
