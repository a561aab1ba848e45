//! The page: one file, nothing fetched.

use std::error::Error;

use super::{Finished, Report, plots, table};

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.warning { color: #a00; white-space: pre-wrap; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; }
svg { max-width: 100%; height: auto; }
small { color: #666; }
";

/// The whole page.
pub(super) fn page(report: &Report) -> Result<String, Box<dyn Error + Send + Sync>> {
    let machine = &report.machine;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>ntlmfront: comparison</title>\n\
         <style>{STYLE}</style>\n<h1>ntlmfront: comparison</h1>\n\
         <p>{} · {} cores, {} · Linux {} · {} rounds of {} s each<br><small>bench {}</small></p>\n",
        escaped(&machine.date),
        machine.cores,
        escaped(&machine.cpu),
        escaped(&machine.kernel),
        report.rounds,
        report.seconds_each,
        escaped(&report.command),
    );
    page += "<ul>\n";
    for (name, version) in &report.contenders {
        page += &format!("<li><b>{}</b>: {}\n", escaped(name), escaped(version));
    }
    page += "</ul>\n<p>Medians of all rounds. × nginx and × floor are medians of the ratios within a round, of the figure \
             before ±; below 1 is less. Absolute figures hold for this machine and this hour only.</p>\n\
             <div class=\"plots\">\n";
    for plot in plots::all(report)? {
        page += &plot;
    }
    page += "</div>\n";
    for scenario in &report.scenarios {
        page += &section(scenario);
    }
    if !report.two_workers_against_one.is_empty() {
        page += "<h2>2 workers against 1</h2>\n<p>CPU of a request: ";
        let ratios: Vec<String> = report
            .two_workers_against_one
            .iter()
            .map(|(name, summary)| format!("{} × {:.2}", escaped(name), summary.median))
            .collect();
        page += &ratios.join(", ");
        page += "</p>\n";
    }
    if !report.notes.is_empty() {
        page += "<h2>Notes</h2>\n<ul>\n";
        for note in &report.notes {
            page += &format!("<li>{}\n", escaped(note));
        }
        page += "</ul>\n";
    }
    page += "</html>\n";
    Ok(page)
}

fn section(scenario: &Finished) -> String {
    let mut text = format!(
        "<h2>{}</h2>\n<p>{}</p>\n<table>\n",
        escaped(scenario.name),
        escaped(scenario.about)
    );
    for (number, row) in table::rows(scenario).iter().enumerate() {
        let tag = if number == 0 { "th" } else { "td" };
        text += "<tr>";
        for word in row {
            text += &format!("<{tag}>{}</{tag}>", escaped(word));
        }
        text += "</tr>\n";
    }
    text += "</table>\n";
    if let Some(tls) = &scenario.tls {
        text += &format!("<small>clients: {}</small><br>\n", escaped(tls));
    }
    for cell in &scenario.contenders {
        if !cell.system_calls.is_empty() {
            let calls: Vec<String> = cell
                .system_calls
                .iter()
                .filter(|call| call.1 >= 0.005)
                .map(|(name, calls)| format!("{} {calls:.2}", escaped(name)))
                .collect();
            text += &format!(
                "<small>{}, calls for each request: {}</small><br>\n",
                escaped(&cell.contender),
                calls.join(", ")
            );
        }
    }
    for warning in &scenario.warnings {
        text += &format!("<p class=\"warning\">{}</p>\n", escaped(warning));
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
