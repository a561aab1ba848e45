//! What came of the cells, as a table.

use std::time::Duration;

use crate::witness::{PATIENCE, Worst};

/// What came of one cell.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) expected: String,
    pub(crate) runs: usize,
    pub(crate) failures: Vec<String>,
    /// The slowest answers that the witnesses got meanwhile.
    pub(crate) worst: Worst,
}

/// Figures of the whole.
pub(crate) struct Summary {
    pub(crate) lines: Vec<Line>,
    pub(crate) witnessed: u64,
    /// Resident memory after the first runs and at the end, in bytes.
    pub(crate) resident: (usize, usize),
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

impl Summary {
    /// Prints all lines and the figures.
    pub(crate) fn print(&self, what: &str) {
        println!(
            "{what}: slowest answers in ms: a witness's, without what took long without the front too, without a front"
        );
        for line in &self.lines {
            let Line {
                name,
                expected,
                runs,
                failures,
                worst,
            } = line;
            println!(
                "{name:<62} {expected:<42} {runs:>4} runs {:>3} failed {:>6.1} {:>6.1} {:>6.1}",
                failures.len(),
                ms(worst.raw),
                ms(worst.by_the_front),
                ms(worst.without),
            );
        }
        let worst = self.worst();
        let (before, after) = self.resident;
        println!(
            "{what}: {} cells, {} runs, {} failed, {} wrong identities, {} answers to witnesses, the slowest {:.1} ms \
             ({:.1} ms by the front; {:.1} ms without a front), resident {} KiB after the first runs, {} KiB at the end",
            self.lines.len(),
            self.lines.iter().map(|line| line.runs).sum::<usize>(),
            self.failures().count(),
            self.failures()
                .filter(|failure| failure.contains("WRONG IDENTITY"))
                .count(),
            self.witnessed,
            ms(worst.raw),
            ms(worst.by_the_front),
            ms(worst.without),
            before >> 10,
            after >> 10,
        );
    }

    fn failures(&self) -> impl Iterator<Item = &String> {
        self.lines.iter().flat_map(|line| &line.failures)
    }

    fn worst(&self) -> Worst {
        self.lines
            .iter()
            .fold(Worst::default(), |worst, line| worst.max(line.worst))
    }

    /// Fails if a run did, or somebody had to wait.
    #[track_caller]
    pub(crate) fn judge(&self) {
        let failed: Vec<String> = self
            .lines
            .iter()
            .flat_map(|line| {
                line.failures
                    .iter()
                    .take(2)
                    .map(|failure| format!("{}: {failure}", line.name))
            })
            .collect();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
        let worst = self.worst();
        assert!(worst.by_the_front < PATIENCE, "somebody waited: {worst:?}");
    }
}
