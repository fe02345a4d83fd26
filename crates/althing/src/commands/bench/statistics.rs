//! Figures over the rounds of a benchmark.

use hdrhistogram::Histogram;
use serde::Serialize;

/// One figure over all rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// The spread of at least one number.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let [min, max] = [values.first(), values.last()].map(|value| *value.expect("there is a round"));
        Self { median: median(&values), min, max }
    }
}

/// The median of ascending numbers; of an even count, the mean of the middle two.
fn median(ascending: &[f64]) -> f64 {
    let middle = ascending.len() / 2;
    if ascending.len() % 2 == 1 {
        ascending[middle]
    } else {
        f64::midpoint(ascending[middle - 1], ascending[middle])
    }
}

/// How latencies are distributed over all operations of all rounds, in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Distribution {
    pub(super) count: u64,
    pub(super) mean_us: f64,
    pub(super) p50_us: u64,
    pub(super) p90_us: u64,
    pub(super) p99_us: u64,
    pub(super) p999_us: u64,
    pub(super) max_us: u64,
}

impl Distribution {
    /// `None` where there is nothing to be told.
    pub(super) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile);
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            mean_us: histogram.mean(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max(),
        })
    }
}

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_of_any_number_of_rounds_in_any_order() {
        assert_eq!(Spread::of([9.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 9.0 });
        assert_eq!(Spread::of([9.0, 1.0, 2.0, 4.0]), Spread { median: 3.0, min: 1.0, max: 9.0 });
        assert_eq!(Spread::of([5.0]), Spread { median: 5.0, min: 5.0, max: 5.0 });
    }

    #[test]
    fn a_distribution_of_nothing_is_none() {
        let mut histogram = Histogram::<u64>::new(3).expect("three digits are allowed");
        assert_eq!(Distribution::of(&histogram), None);
        (1..=1000).for_each(|us| histogram.record(us).expect("it grows by itself"));
        let distribution = Distribution::of(&histogram).expect("there is something");
        assert_eq!((distribution.count, distribution.p50_us, distribution.p99_us), (1000, 500, 990));
        assert_eq!((distribution.p90_us, distribution.max_us), (900, 1000));
    }
}
