use crate::commands::bench::load::Load;
use crate::commands::bench::report::{Report, Row};
use serde::Serialize;

/// Something that the project holds itself to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Goal {
    pub(super) what: &'static str,
    pub(super) figure: Figure,
    pub(super) bound: Bound,
}

/// Where a figure stands in a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Figure {
    /// Throughput of a contender as a share of another's, with so many clients.
    ThroughputShare { of: &'static str, against: &'static str, clients: usize },
    /// Median latency of a contender as a multiple of the first one's.
    LatencyMultiple { of: &'static str, clients: usize },
    /// Operations a second.
    Throughput { of: &'static str, clients: usize },
    /// The longest time without a completed operation after a fault, in milliseconds, of any round.
    Gap { of: &'static str },
    /// Operations that failed, of all rounds.
    Failed { of: &'static str },
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Figure {
    /// What was measured; `None` where it was not.
    pub(super) fn of(&self, report: &Report) -> Option<f64> {
        let of_closed = |name: &str, clients: usize| {
            report.rows.iter().find(|row| row.contender.name == name && row.load == Load::Closed { clients })
        };
        let by_name = |name: &str| report.rows.iter().find(|row| row.contender.name == name);
        match *self {
            Self::ThroughputShare { of, against, clients } => {
                share(of_closed(of, clients)?, of_closed(against, clients)?)
            }
            Self::LatencyMultiple { of, clients } => of_closed(of, clients)?.latency_ratio.map(|r| r.median),
            Self::Throughput { of, clients } => Some(of_closed(of, clients)?.operations_per_second.median),
            Self::Gap { of } => longest_gap(by_name(of)?),
            #[expect(clippy::cast_precision_loss, reason = "failures of a run are few")]
            Self::Failed { of } => Some(by_name(of)?.failed as f64),
        }
    }

    /// A value of it, as people write it.
    pub(super) fn written(&self, value: f64) -> String {
        match self {
            Self::ThroughputShare { .. } => format!("{value:.2} ×"),
            Self::LatencyMultiple { .. } => format!("{value:.2} ×"),
            Self::Throughput { .. } => format!("{value:.0} op/s"),
            Self::Gap { .. } => format!("{value:.0} ms"),
            Self::Failed { .. } => format!("{value:.0}"),
        }
    }
}

/// The throughput of one as a share of the other's: round by round, as they alternated.
fn share(own: &Row, other: &Row) -> Option<f64> {
    let rounds = own.rounds.iter().zip(&other.rounds);
    let shares = rounds.map(|(own, other)| own.operations_per_second / other.operations_per_second);
    let shares: Vec<_> = shares.filter(|share| share.is_finite()).collect();
    (!shares.is_empty()).then(|| crate::commands::bench::statistics::Spread::of(shares).median)
}

fn longest_gap(row: &Row) -> Option<f64> {
    let injected = row.rounds.iter().flat_map(|round| &round.injected);
    let longest = injected.map(|injected| injected.longest_gap.length_ms).max()?;
    #[expect(clippy::cast_precision_loss, reason = "a gap is at most as long as the run")]
    let longest = longest as f64;
    Some(longest)
}

impl Bound {
    pub(super) fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl Goal {
    /// The bound, as people write it.
    pub(super) fn target(&self) -> String {
        match self.bound {
            Bound::AtLeast(least) => format!("at least {}", self.figure.written(least)),
            Bound::AtMost(most) => format!("at most {}", self.figure.written(most)),
        }
    }
}
