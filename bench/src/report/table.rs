//! Tables: rows of words for the terminal and the page alike.

use std::fmt::Write;

use super::{Cell, Finished, Metric, Report};
use crate::stats::Summary;

/// What a scenario shows, as words. The first row holds the titles.
pub(super) fn rows(scenario: &Finished) -> Vec<Vec<String>> {
    let cells = &scenario.contenders;
    let headline = scenario.headline;
    let columns: Vec<Metric> = [
        Metric::CpuMicrosPerRequest,
        Metric::CpuMicrosPerMib,
        Metric::MemoryBytesPerPair,
        Metric::SocketsPerPair,
        Metric::RequestsPerSecond,
        Metric::P50Micros,
        Metric::P90Micros,
        Metric::P99Micros,
        Metric::P999Micros,
        Metric::CpuBusyPercent,
        Metric::SystemPercent,
    ]
    .into_iter()
    .filter(|metric| cells.iter().any(|cell| cell.metrics.contains_key(metric)))
    .collect();
    let calls = cells.iter().any(|cell| cell.calls().is_some());

    let mut titles = vec![String::new()];
    for &metric in &columns {
        titles.push(metric.title().to_owned());
        if metric == headline {
            titles.extend(["±", "× nginx", "× floor"].map(str::to_owned));
        }
    }
    if calls {
        titles.push("system calls".to_owned());
    }
    let mut rows = vec![titles];
    for cell in cells {
        let mut row = vec![cell.contender.clone()];
        for &metric in &columns {
            row.push(cell.median(metric).map_or_else(missing, figure));
            if metric == headline {
                row.extend(comparison(cell, headline));
            }
        }
        if calls {
            row.push(
                cell.calls()
                    .map_or_else(missing, |calls| format!("{calls:.2}")),
            );
        }
        rows.push(row);
    }
    rows
}

fn comparison(cell: &Cell, headline: Metric) -> [String; 3] {
    let Some(figure) = cell.metrics.get(&headline) else {
        return [missing(), missing(), missing()];
    };
    let spread = match figure.summary.count {
        1 => missing(),
        _ => format!("{:.0}%", figure.summary.spread() * 100.0),
    };
    [
        spread,
        figure.ratio_to_nginx.map_or_else(missing, ratio),
        figure.ratio_to_floor.map_or_else(missing, ratio),
    ]
}

fn ratio(summary: Summary) -> String {
    format!("{:.2}", summary.median)
}

fn missing() -> String {
    "-".to_owned()
}

/// Three digits that count, or all before the point.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A scenario's table for the terminal.
pub(super) fn text(scenario: &Finished) -> String {
    let mut text = format!("{}: {}\n", scenario.name, scenario.about);
    let rows = rows(scenario);
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    for row in &rows {
        for (column, (word, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a string cannot fail.
            let _ = match column {
                0 => write!(text, "  {word:width$}"),
                _ => write!(text, "  {word:>width$}"),
            };
        }
        text.push('\n');
    }
    if let Some(tls) = &scenario.tls {
        text += &format!("  clients: {tls}\n");
    }
    for warning in &scenario.warnings {
        text += &format!("  ! {warning}\n");
    }
    text
}

/// What is said about all scenarios together, for the terminal.
pub(super) fn totals(report: &Report) -> String {
    let mut text = String::new();
    if !report.two_workers_against_one.is_empty() {
        text += "2 workers against 1, CPU of a request:\n";
        for (contender, summary) in &report.two_workers_against_one {
            text += &format!("  {contender}: × {:.2}\n", summary.median);
        }
    }
    if report.rounds < 3 {
        text += "fewer than three rounds: nothing can be said about the spread\n";
    }
    for note in &report.notes {
        text += &format!("note: {note}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_as_many_digits_as_count() {
        for (value, text) in [
            (1234.5, "1234"),
            (99.94, "99.9"),
            (1.234, "1.23"),
            (0.0, "0.00"),
        ] {
            assert_eq!(figure(value), text);
        }
    }
}
