//! When the operations of an open loop are due: fixed before the first is sent, so that nothing that
//! the group does can move it.

use clap::ValueEnum;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

const NANOS_PER_SECOND: f64 = 1e9;

/// How operations of an open loop follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Arrivals {
    /// At random and independent of each other, as from many users
    Poisson,
    /// At equal distances
    Uniform,
}

/// One of several equal parts of a schedule, each for a load process. Together they have the rate of
/// the whole: parts of a Poisson process are Poisson processes, and uniform ones are interleaved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) index: u32,
    pub(super) of: u32,
}

/// The times at which operations are due, in nanoseconds from the start, ascending and without end.
#[derive(Debug)]
pub(super) struct Schedule {
    arrivals: Arrivals,
    /// Of this part.
    mean_gap_ns: f64,
    next_ns: f64,
    random: ChaCha8Rng,
}

impl Schedule {
    /// One part of a schedule of `per_second` operations, which has to be positive.
    pub(super) fn new(arrivals: Arrivals, per_second: f64, part: Part, seed: u64) -> Self {
        let whole_gap_ns = NANOS_PER_SECOND / per_second;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(u64::from(part.index));
        let mut schedule =
            Self { arrivals, mean_gap_ns: whole_gap_ns * f64::from(part.of), next_ns: 0.0, random };
        schedule.next_ns = match arrivals {
            Arrivals::Poisson => schedule.gap_ns(),
            Arrivals::Uniform => whole_gap_ns * f64::from(part.index),
        };
        schedule
    }

    fn gap_ns(&mut self) -> f64 {
        match self.arrivals {
            Arrivals::Uniform => self.mean_gap_ns,
            // Exponential, by inversion; the logarithm's argument is in (0, 1].
            Arrivals::Poisson => -self.mean_gap_ns * (1.0 - unit(&mut self.random)).ln(),
        }
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "nanoseconds of a run are positive and far below 2^53"
        )]
        let due = self.next_ns as u64;
        self.next_ns += self.gap_ns();
        Some(due)
    }
}

/// A number from 0 up to, but never, 1.
pub(super) fn unit(random: &mut ChaCha8Rng) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a float holds exactly")]
    let unit = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    unit
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Part = Part { index: 0, of: 1 };

    #[test]
    fn a_uniform_schedule_has_equal_gaps_however_many_share_it() {
        let due: Vec<_> = Schedule::new(Arrivals::Uniform, 1000.0, WHOLE, 1).take(4).collect();
        assert_eq!(due, [0, 1_000_000, 2_000_000, 3_000_000]);
        let part = |index| Schedule::new(Arrivals::Uniform, 1000.0, Part { index, of: 3 }, 1).take(10);
        let mut all: Vec<_> = (0..3).flat_map(part).collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[1] - pair[0] == 1_000_000), "{all:?}");
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() {
        let due: Vec<_> = Schedule::new(Arrivals::Poisson, 1000.0, WHOLE, 7).take(100_000).collect();
        let gaps: Vec<f64> = due.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean / 1e6 - 1.0).abs() < 0.02, "mean {mean}");
        // Of an exponential the deviation is the mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "deviation {}", variance.sqrt());
    }

    #[test]
    fn parts_of_a_poisson_schedule_differ_and_add_up_to_its_rate() {
        let until = 20_000_000_000;
        let part = |index| -> Vec<u64> {
            let schedule = Schedule::new(Arrivals::Poisson, 1000.0, Part { index, of: 4 }, 7);
            schedule.take_while(|due| *due < until).collect()
        };
        assert_ne!(part(0), part(1));
        let count: usize = (0..4).map(|index| part(index).len()).sum();
        assert!((19_000..21_000).contains(&count), "{count} operations in 20 s at 1000/s");
    }

    #[test]
    fn the_same_seed_gives_the_same_ascending_times() {
        for seed in 0..100 {
            for rate in [0.5, 99.9, 1e6] {
                for arrivals in [Arrivals::Poisson, Arrivals::Uniform] {
                    let due = || Schedule::new(arrivals, rate, WHOLE, seed).take(200).collect::<Vec<_>>();
                    assert_eq!(due(), due());
                    assert!(due().windows(2).all(|pair| pair[0] <= pair[1]), "{arrivals:?} {rate} {seed}");
                }
            }
        }
        let first = |seed| Schedule::new(Arrivals::Poisson, 1.0, WHOLE, seed).next();
        assert_ne!(first(1), first(2));
    }
}
