//! From measurements to figures.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;

use super::{Cell, Figure, Metric};
use crate::contender::{FLOOR, NGINX, NGINX_CUSTOM};
use crate::scenario::Scenario;
use crate::stats::{self, Summary};

/// Works out every figure of the contenders of a scenario.
pub(super) fn sum_up(cells: &mut [Cell]) {
    let values_of = |name: &str, cells: &[Cell]| {
        cells
            .iter()
            .find(|cell| cell.contender == name)
            .map(|cell| {
                let metrics = cell.samples.iter().flat_map(|sample| sample.values.keys());
                metrics
                    .map(|&metric| (metric, cell.values(metric)))
                    .collect::<BTreeMap<_, _>>()
            })
    };
    let nginx = values_of(NGINX, cells).or_else(|| values_of(NGINX_CUSTOM, cells));
    let floor = values_of(FLOOR, cells);
    for cell in cells {
        let metrics: Vec<Metric> = cell
            .samples
            .iter()
            .flat_map(|sample| sample.values.keys().copied())
            .collect();
        for metric in metrics {
            let values = cell.values(metric);
            let numbers: Vec<f64> = values.iter().map(|value| value.1).collect();
            let Some(summary) = Summary::of(&numbers) else {
                continue;
            };
            let ratio = |base: &Option<BTreeMap<Metric, Vec<(u32, f64)>>>| {
                Summary::of(&stats::ratios(&values, base.as_ref()?.get(&metric)?))
            };
            let figure = Figure {
                summary,
                ratio_to_nginx: ratio(&nginx),
                ratio_to_floor: ratio(&floor),
            };
            cell.metrics.insert(metric, figure);
        }
        cell.latency = percentiles(&cell.histogram);
    }
}

/// What clients agreed upon with the contenders: one thing for all, as they offer nothing else.
pub(super) fn agreed(scenario: &Scenario, cells: &[Cell]) -> Option<String> {
    let key = scenario.tls.key()?;
    let samples = cells.iter().flat_map(|cell| &cell.samples);
    let all: BTreeSet<&str> = samples
        .filter_map(|sample| sample.agreed.as_deref())
        .collect();
    let all: Vec<&str> = all.into_iter().collect();
    Some(format!("{}; {}", all.join(" or "), key.title()))
}

/// Points for a plot in which every step towards 100% has the same width.
fn percentiles(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    (0..=32)
        .map(|step| 1.0 - 10_f64.powf(-f64::from(step) / 8.0))
        // Beyond that, single requests would be shown.
        .take_while(|quantile| (1.0 - quantile) * histogram.len() as f64 >= 1.0)
        .map(|quantile| {
            let nanoseconds = histogram.value_at_quantile(quantile) as f64;
            (quantile * 100.0, nanoseconds / 1000.0)
        })
        .collect()
}

/// What a reader has to know before he believes the figures.
pub(super) fn warnings(cells: &[Cell], headline: Metric) -> Vec<String> {
    let mut warnings = Vec::new();
    for cell in cells {
        let name = &cell.contender;
        if let Some(failure) = &cell.failure {
            warnings.push(format!("{name} failed: {failure}"));
        }
        let Some(figure) = cell.metrics.get(&headline) else {
            continue;
        };
        // Where there is a ratio, it is what counts, and it may be steady while the machine is not.
        let mut judged = vec![
            ("× nginx", figure.ratio_to_nginx),
            ("× floor", figure.ratio_to_floor),
        ];
        if judged.iter().all(|(_, ratio)| ratio.is_none()) {
            judged.push((headline.title(), Some(figure.summary)));
        }
        for (what, summary) in judged {
            if let Some(summary) = summary.filter(Summary::is_wide) {
                warnings.push(format!(
                    "the spread of {name} is too wide to say anything: {what} {:.2} to {:.2}",
                    summary.min, summary.max
                ));
            }
        }
    }
    warnings
}
