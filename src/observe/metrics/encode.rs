//! The exposition formats: Prometheus' text format 0.0.4, and OpenMetrics 1.0, which is a stricter child of it.

use std::fmt::{Display, Write as _};

use super::super::histogram::{BOUNDS, Histogram, seconds};

/// In which format metrics are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format, which everybody understands.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The one that an `Accept` field prefers (RFC 9110 section 12.5.1); the text format where it does not matter.
    pub fn accepted(accept: Option<&[u8]>) -> Self {
        let text = String::from_utf8_lossy(accept.unwrap_or_default());
        // The most specific range that fits says how much something is wanted.
        let quality = |ranges: &[&str]| {
            ranges.iter().find_map(|wanted| {
                text.split(',').find_map(|range| {
                    let mut parts = range.split(';').map(str::trim);
                    if !parts.next()?.eq_ignore_ascii_case(wanted) {
                        return None;
                    }
                    let q = parts.find_map(|part| part.strip_prefix("q="));
                    Some(q.map_or(1.0, |q| q.parse().unwrap_or(0.0)))
                })
            })
        };
        // Only who names it knows it.
        let open = quality(&["application/openmetrics-text"]);
        let plain = quality(&["text/plain", "text/*", "*/*"]).unwrap_or(0.0_f32);
        match open {
            Some(open) if open > 0.0 && open >= plain => Self::OpenMetrics,
            _ => Self::Text,
        }
    }

    /// `Content-Type`
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What kind of numbers a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// Sum and count, without quantiles.
    Summary,
    /// Its labels are what it says; the value is 1.
    Info,
}

impl Kind {
    /// The word of the formats.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Info => "info",
        }
    }
}

/// Metrics of one name.
#[derive(Debug)]
pub(super) struct Family {
    /// Without `_total` and `_info`.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Names of its labels, in order.
    pub(super) labels: &'static [&'static str],
    /// What it is about: without quotes and backslashes, which the formats escape differently.
    pub(super) help: &'static str,
}

impl Family {
    /// The unit that the name ends with.
    pub(super) fn unit(&self) -> Option<&'static str> {
        let units = ["seconds", "bytes"];
        let (_, last) = self.name.rsplit_once('_')?;
        units.into_iter().find(|unit| *unit == last)
    }

    /// The name that queries use.
    pub(super) fn shown_name(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            _ => "",
        };
        format!("{}{suffix}", self.name)
    }
}

/// Writes metrics, family by family.
pub(super) struct Encoder {
    out: String,
    format: Format,
}

impl Encoder {
    pub(super) fn new(format: Format) -> Self {
        Self {
            out: String::with_capacity(32 << 10),
            format,
        }
    }

    /// Begins a family.
    pub(super) fn family(&mut self, family: &'static Family) -> Samples<'_> {
        let (name, help) = (family.name, family.help);
        // What the formats do not agree on. The text format knows neither units nor infos.
        let shown = match self.format {
            Format::OpenMetrics => name.to_owned(),
            Format::Text => family.shown_name(),
        };
        let kind = match (self.format, family.kind) {
            (Format::Text, Kind::Info) => Kind::Gauge,
            (_, kind) => kind,
        };
        let out = &mut self.out;
        // Writing to a string does not fail, here and below.
        let _ = writeln!(out, "# HELP {shown} {help}");
        let _ = writeln!(out, "# TYPE {shown} {}", kind.word());
        if let (Format::OpenMetrics, Some(unit)) = (self.format, family.unit()) {
            let _ = writeln!(out, "# UNIT {shown} {unit}");
        }
        Samples {
            out: &mut self.out,
            family,
        }
    }

    /// All of it.
    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

/// The samples of one family.
pub(super) struct Samples<'a> {
    out: &'a mut String,
    family: &'static Family,
}

impl Samples<'_> {
    /// Writes the number of a counter, gauge or info. `values` are those of the family's labels.
    pub(super) fn put<const N: usize>(&mut self, values: [&str; N], number: impl Display) {
        let suffix = match self.family.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            _ => "",
        };
        self.sample(suffix, &values, None, number);
    }

    /// Writes a summary.
    pub(super) fn put_summary<const N: usize>(
        &mut self,
        values: [&str; N],
        count: u64,
        sum: impl Display,
    ) {
        self.sample("_count", &values, None, count);
        self.sample("_sum", &values, None, sum);
    }

    /// Writes the sum of histograms of durations.
    pub(super) fn put_histogram<'h>(&mut self, all: impl Iterator<Item = &'h Histogram>) {
        let mut buckets = [0; BOUNDS + 1];
        let mut sum_us = 0;
        for histogram in all {
            let theirs = histogram.buckets();
            buckets
                .iter_mut()
                .zip(theirs)
                .for_each(|(ours, theirs)| *ours += theirs);
            sum_us += histogram.sum_us();
        }
        let mut count = 0;
        for (bucket, number) in buckets.into_iter().enumerate() {
            count += number;
            let bound = match bucket < buckets.len() - 1 {
                true => seconds(Histogram::bound_us(bucket)).to_string(),
                false => "+Inf".to_owned(),
            };
            self.sample("_bucket", &[], Some(&bound), count);
        }
        self.sample("_sum", &[], None, seconds(sum_us));
        self.sample("_count", &[], None, count);
    }

    fn sample(&mut self, suffix: &str, values: &[&str], bound: Option<&str>, number: impl Display) {
        let Family { name, labels, .. } = self.family;
        debug_assert_eq!(labels.len(), values.len(), "{name}");
        let out = &mut *self.out;
        let _ = write!(out, "{name}{suffix}");
        let named = labels.iter().copied().zip(values.iter().copied());
        let mut before = '{';
        for (label, value) in named.chain(bound.map(|bound| ("le", bound))) {
            let _ = write!(out, "{before}{label}=\"");
            push_escaped(out, value);
            out.push('"');
            before = ',';
        }
        if before == ',' {
            out.push('}');
        }
        let _ = writeln!(out, " {number}");
    }
}

/// A label's value, escaped as both formats want it.
fn push_escaped(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_is_wanted_most() {
        for (accept, expected) in [
            (None, Format::Text),
            (Some("*/*"), Format::Text),
            (Some("text/plain"), Format::Text),
            (
                Some("application/openmetrics-text; version=1.0.0"),
                Format::OpenMetrics,
            ),
            // As Prometheus asks.
            (
                Some(
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
                ),
                Format::OpenMetrics,
            ),
            (
                Some("text/plain;version=0.0.4;q=0.9,Application/OpenMetrics-Text;q=0.5"),
                Format::Text,
            ),
            (Some("application/openmetrics-text;q=0"), Format::Text),
            (Some("application/openmetrics-text;q=x"), Format::Text),
            // As browsers ask.
            (
                Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
                Format::Text,
            ),
        ] {
            assert_eq!(
                Format::accepted(accept.map(str::as_bytes)),
                expected,
                "{accept:?}"
            );
        }
    }

    static PINS: Family = Family {
        name: "pins",
        kind: Kind::Gauge,
        labels: &["upstream"],
        help: "Pins.",
    };
    static SENT: Family = Family {
        name: "sent_bytes",
        kind: Kind::Counter,
        labels: &[],
        help: "Bytes.",
    };
    static BUILD: Family = Family {
        name: "build",
        kind: Kind::Info,
        labels: &["version"],
        help: "Version.",
    };

    fn written(format: Format) -> String {
        let mut encoder = Encoder::new(format);
        let mut pins = encoder.family(&PINS);
        pins.put(["a\"b\\c\nd"], 1);
        pins.put([""], 2);
        encoder.family(&SENT).put([], 3);
        encoder.family(&BUILD).put(["1"], 1);
        encoder.finish()
    }

    #[test]
    fn both_formats() {
        let pins = "# HELP pins Pins.\n# TYPE pins gauge\npins{upstream=\"a\\\"b\\\\c\\nd\"} 1\npins{upstream=\"\"} 2\n";
        assert_eq!(
            written(Format::Text),
            format!(
                "{pins}# HELP sent_bytes_total Bytes.\n# TYPE sent_bytes_total counter\nsent_bytes_total 3\n\
                 # HELP build_info Version.\n# TYPE build_info gauge\nbuild_info{{version=\"1\"}} 1\n"
            )
        );
        assert_eq!(
            written(Format::OpenMetrics),
            format!(
                "{pins}# HELP sent_bytes Bytes.\n# TYPE sent_bytes counter\n# UNIT sent_bytes bytes\nsent_bytes_total 3\n\
                 # HELP build Version.\n# TYPE build info\nbuild_info{{version=\"1\"}} 1\n# EOF\n"
            )
        );
    }
}
