//! Medians and spreads.

use serde::Serialize;

/// More than this between the middle of the values and their usual distance from it says that the machine was too restless.
pub(crate) const SPREAD_TOLERATED: f64 = 0.10;

/// Some values of one quantity, summed up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// The middle one.
    pub(crate) median: f64,
    /// Median distance from the median.
    pub(crate) deviation: f64,
    /// The least.
    pub(crate) min: f64,
    /// The most.
    pub(crate) max: f64,
    /// How many.
    pub(crate) count: usize,
}

impl Summary {
    /// `None` without values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let middle = median(values)?;
        let distances: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
        Some(Self {
            median: middle,
            deviation: median(&distances)?,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            count: values.len(),
        })
    }

    /// The deviation in parts of the median. With two values, half their distance.
    pub(crate) fn spread(&self) -> f64 {
        if self.median == 0.0 {
            return 0.0;
        }
        (self.deviation / self.median).abs()
    }

    /// Whether the values are too far apart to say anything.
    pub(crate) fn is_wide(&self) -> bool {
        self.spread() > SPREAD_TOLERATED
    }
}

/// The middle value, or the mean of the two in the middle. `None` without values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[half]),
        _ => Some((sorted[half - 1] + sorted[half]) / 2.0),
    }
}

/// The ratios of values that were measured in the same round. What a restless machine does to a whole round cancels out.
pub(crate) fn ratios(values: &[(u32, f64)], base: &[(u32, f64)]) -> Vec<f64> {
    values
        .iter()
        .filter_map(|&(round, value)| {
            let &(_, base) = base.iter().find(|&&(other, _)| other == round)?;
            (base > 0.0).then_some(value / base)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn one_outlier_does_not_make_a_spread() {
        let summary = Summary::of(&[10.0, 10.1, 9.9, 10.0, 55.0]).unwrap();
        assert_eq!(
            (summary.median, summary.min, summary.max),
            (10.0, 9.9, 55.0)
        );
        assert!(!summary.is_wide());
        assert!(
            Summary::of(&[10.0, 13.0, 7.0, 8.0, 12.0])
                .unwrap()
                .is_wide()
        );
        assert!(!Summary::of(&[0.0, 0.0]).unwrap().is_wide());
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn ratios_are_those_within_a_round() {
        // The second round was twice as slow for both.
        let ours = [(0, 6.0), (1, 12.0), (2, 5.0)];
        let theirs = [(0, 10.0), (1, 20.0), (3, 1.0)];
        assert_eq!(ratios(&ours, &theirs), [0.6, 0.6]);
        assert!(ratios(&ours, &[(0, 0.0)]).is_empty());
    }
}
