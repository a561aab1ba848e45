//! What a probe prints: a line for each leg, and in the end what is wrong and what to do about it.

use std::fmt;
use std::io::Write;

use super::finding::Finding;

/// How wide the first column is.
const LABEL_WIDTH: usize = 12;

/// The report, as it grows.
pub(super) struct Report<'a> {
    out: &'a mut (dyn Write + Send),
    label: &'static str,
    findings: Vec<Finding>,
}

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a mut (dyn Write + Send)) -> Self {
        Self {
            out,
            label: "",
            findings: Vec::new(),
        }
    }

    /// Prints a line. The label of lines in a row stands before the first of them.
    pub(super) fn line(&mut self, label: &'static str, text: fmt::Arguments<'_>) {
        let shown = if label == self.label { "" } else { label };
        self.label = label;
        self.print(format_args!("  {shown:<LABEL_WIDTH$}{text}"));
    }

    /// Keeps a finding for the conclusion.
    pub(super) fn note(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Prints the conclusion; `fine` is what holds if nothing is wrong. True if nothing is.
    pub(super) fn conclude(&mut self, fine: &str) -> bool {
        let findings = std::mem::take(&mut self.findings);
        let problems = findings.iter().filter(|it| it.is_problem()).count();
        self.print(format_args!(""));
        for finding in &findings {
            let kind = if finding.is_problem() {
                "Problem"
            } else {
                "Note"
            };
            self.print(format_args!("{kind}: {finding}"));
            let advice = finding.advice();
            if !advice.is_empty() {
                self.print(format_args!("  What to do: {advice}"));
            }
        }
        if problems == 0 {
            self.print(format_args!("Fine: {fine}"));
        }
        problems == 0
    }

    /// Whoever reads it may have seen enough: that is no failure.
    pub(super) fn print(&mut self, text: fmt::Arguments<'_>) {
        let _ = writeln!(self.out, "{text}");
        let _ = self.out.flush();
    }
}
