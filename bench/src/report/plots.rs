//! The plots of the page, as SVG.

use std::collections::BTreeMap;
use std::error::Error;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use super::{Finished, Metric, Report};
use crate::scenario::Family;
use crate::stats;

const SIZE: (u32, u32) = (540, 360);
const COLOURS: [RGBColor; 7] = [
    RGBColor(120, 120, 120),
    RGBColor(31, 119, 180),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(255, 127, 14),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
];

type Failed = Box<dyn Error + Send + Sync>;

/// One line of a plot.
struct Line<'a> {
    contender: &'a str,
    points: Vec<(f64, f64)>,
}

/// Words and kinds of axes.
struct Plot<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
    x_words: fn(f64) -> String,
    scales: Scales,
    legend: SeriesLabelPosition,
}

/// Which axes are logarithmic. Those that are not begin at zero.
#[derive(Clone, Copy)]
enum Scales {
    Linear,
    LogarithmicX,
    Logarithmic,
}

/// All plots for which something was measured.
pub(super) fn all(report: &Report) -> Result<Vec<String>, Failed> {
    let mut plots = Vec::new();
    let by_connections = by_scenario(report, Family::Small, Metric::CpuMicrosPerRequest, |at| {
        at.connections as f64
    });
    let connections = Plot {
        title: "CPU of a small request",
        x: "connections",
        y: "µs",
        x_words: whole,
        scales: Scales::LogarithmicX,
        legend: SeriesLabelPosition::UpperRight,
    };
    plots.extend(connections.draw(report, &by_connections)?);
    for (family, title) in [
        (Family::Answer, "CPU of answers by size"),
        (Family::Upload, "CPU of uploads by size"),
    ] {
        let lines = by_scenario(report, family, Metric::CpuMicrosPerMib, |at| {
            at.body_bytes as f64
        });
        let plot = Plot {
            title,
            x: "body",
            y: "µs for each MiB",
            x_words: bytes,
            scales: Scales::Logarithmic,
            legend: SeriesLabelPosition::UpperRight,
        };
        plots.extend(plot.draw(report, &lines)?);
    }
    for scenario in report
        .scenarios
        .iter()
        .filter(|scenario| scenario.headline == Metric::P99Micros)
    {
        let lines: Vec<Line<'_>> = scenario
            .contenders
            .iter()
            .map(|cell| Line {
                contender: &cell.contender,
                points: cell
                    .latency
                    .iter()
                    .map(|&(percentile, micros)| (100.0 / (100.0 - percentile), micros))
                    .collect(),
            })
            .collect();
        let plot = Plot {
            title: &format!(
                "latency at a fixed rate, {} connections",
                scenario.connections
            ),
            x: "percentile",
            y: "µs",
            x_words: percentile,
            scales: Scales::Logarithmic,
            legend: SeriesLabelPosition::LowerRight,
        };
        plots.extend(plot.draw(report, &lines)?);
    }
    for scenario in report
        .scenarios
        .iter()
        .filter(|scenario| scenario.headline == Metric::MemoryBytesPerPair)
    {
        let memory = Plot {
            title: &format!("{}: memory of idle pairs", scenario.name),
            x: "pairs",
            y: "KiB",
            x_words: whole,
            scales: Scales::Linear,
            legend: SeriesLabelPosition::UpperLeft,
        };
        plots.extend(memory.draw(report, &memory_by_pairs(scenario))?);
    }
    Ok(plots)
}

fn by_scenario(
    report: &Report,
    family: Family,
    metric: Metric,
    x: fn(&Finished) -> f64,
) -> Vec<Line<'_>> {
    let mut lines: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for scenario in &report.scenarios {
        if scenario.family == family {
            for cell in &scenario.contenders {
                if let Some(median) = cell.median(metric) {
                    let points = lines.entry(&cell.contender).or_default();
                    points.push((x(scenario), median));
                }
            }
        }
    }
    lines
        .into_iter()
        .map(|(contender, points)| Line { contender, points })
        .collect()
}

fn memory_by_pairs(scenario: &Finished) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    for cell in &scenario.contenders {
        let mut by_pairs: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for &(pairs, grown) in cell
            .samples
            .iter()
            .flat_map(|sample| &sample.memory_by_pairs)
        {
            by_pairs
                .entry(pairs)
                .or_default()
                .push(grown as f64 / 1024.0);
        }
        lines.push(Line {
            contender: &cell.contender,
            points: by_pairs
                .iter()
                .filter_map(|(&pairs, grown)| Some((pairs as f64, stats::median(grown)?)))
                .collect(),
        });
    }
    lines
}

impl Plot<'_> {
    /// The picture; `None` without a line.
    fn draw(&self, report: &Report, lines: &[Line<'_>]) -> Result<Option<String>, Failed> {
        let points = || lines.iter().flat_map(|line| &line.points);
        let range = |of: fn(&(f64, f64)) -> f64| {
            points()
                .map(of)
                .fold(None, |range: Option<(f64, f64)>, at| {
                    let (low, high) = range.unwrap_or((at, at));
                    Some((low.min(at), high.max(at)))
                })
        };
        let (Some((left, right)), Some((low, high))) = (range(|at| at.0), range(|at| at.1)) else {
            return Ok(None);
        };
        let right = if right > left {
            right
        } else {
            left * 2.0 + 1.0
        };
        let mut text = String::new();
        {
            let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
            area.fill(&WHITE)?;
            let x = left.max(0.5)..right * 1.05;
            let from_zero = 0.0..(high * 1.3).max(1.0);
            let y = low.max(1.0) * 0.8..high.max(2.0) * 1.2;
            match self.scales {
                Scales::Linear => self.lines(report, lines, &area, 0.0..x.end, from_zero)?,
                Scales::LogarithmicX => {
                    self.lines(report, lines, &area, x.log_scale(), from_zero)?;
                }
                Scales::Logarithmic => {
                    self.lines(report, lines, &area, x.log_scale(), y.log_scale())?;
                }
            }
            area.present()?;
        }
        Ok(Some(text))
    }

    fn lines<X, Y>(
        &self,
        report: &Report,
        lines: &[Line<'_>],
        area: &DrawingArea<SVGBackend<'_>, Shift>,
        x: X,
        y: Y,
    ) -> Result<(), Failed>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 17))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(x, y)
            .map_err(words)?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_labels(7)
            .y_labels(7)
            .x_label_formatter(&|at| (self.x_words)(*at))
            .y_label_formatter(&|at| whole(*at))
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(225, 225, 225))
            .draw()
            .map_err(words)?;
        for line in lines {
            let colour = colour(report, line.contender);
            let points = line.points.iter().copied();
            chart
                .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))
                .map_err(words)?
                .label(line.contender)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2))
                });
            // A curve of many points is line enough.
            if line.points.len() <= 8 {
                chart
                    .draw_series(points.map(|at| Circle::new(at, 3, colour.filled())))
                    .map_err(words)?;
            }
        }
        chart
            .configure_series_labels()
            .position(self.legend.clone())
            .background_style(WHITE.mix(0.8))
            .margin(4)
            .draw()
            .map_err(words)?;
        Ok(())
    }
}

/// A contender has one colour on all plots.
fn colour(report: &Report, contender: &str) -> RGBColor {
    let position = report
        .contenders
        .iter()
        .position(|(name, _)| name == contender)
        .unwrap_or_default();
    COLOURS[position % COLOURS.len()]
}

fn words(error: impl std::fmt::Display) -> Failed {
    error.to_string().into()
}

fn whole(value: f64) -> String {
    match value {
        small if small < 10.0 && small.fract() != 0.0 => format!("{small:.1}"),
        other => format!("{other:.0}"),
    }
}

fn bytes(value: f64) -> String {
    match value {
        mib if mib >= 1024.0 * 1024.0 => format!("{:.1} MiB", mib / (1024.0 * 1024.0)),
        kib => format!("{:.0} KiB", kib / 1024.0),
    }
}

/// The axis holds one in how many requests is slower.
fn percentile(one_in: f64) -> String {
    let percent = 100.0 - 100.0 / one_in;
    let nines = (one_in.log10().round() as usize).saturating_sub(2);
    format!("p{percent:.nines$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_speak_the_readers_units() {
        assert_eq!(bytes(65536.0), "64 KiB");
        assert_eq!(bytes(10.0 * 1024.0 * 1024.0), "10.0 MiB");
        for (one_in, name) in [
            (1.0, "p0"),
            (10.0, "p90"),
            (100.0, "p99"),
            (1000.0, "p99.9"),
        ] {
            assert_eq!(percentile(one_in), name);
        }
    }
}
