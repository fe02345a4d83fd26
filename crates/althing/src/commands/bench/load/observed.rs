//! What a load saw. Observations of several clients and processes add up exactly: histograms are
//! added, never percentiles averaged.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies are kept from 1 µs to this, with three significant digits.
const HIGHEST_LATENCY_US: u64 = 600_000_000;

/// Reasons of failures that are kept, at most; one is usually like the next.
const MAX_REASONS: usize = 3;

const NANOS_PER_MILLI: u64 = 1_000_000;

/// The measured time of a run, in nanoseconds of the machine's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Window {
    /// When clients begin to send; what is due before `from_ns` warms up.
    pub(in super::super) start_ns: u64,
    pub(in super::super) from_ns: u64,
    pub(in super::super) until_ns: u64,
}

impl Window {
    pub(super) fn contains(&self, time_ns: u64) -> bool {
        (self.from_ns..self.until_ns).contains(&time_ns)
    }

    fn millis(&self) -> usize {
        usize::try_from((self.until_ns - self.from_ns).div_ceil(NANOS_PER_MILLI)).unwrap_or(usize::MAX)
    }
}

/// One operation, from when it was due to when it was answered or given up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timed {
    pub(super) is_read: bool,
    /// When it should have been sent. In a closed loop that is when it was.
    pub(super) due_ns: u64,
    pub(super) sent_ns: u64,
    pub(super) ended_ns: u64,
}

/// What clients saw in the measured time. Latencies are those of the operations that were due in it,
/// whenever they ended; completions are those that ended in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Observed {
    /// In microseconds, from the time that an operation was due.
    #[serde(with = "as_counts")]
    pub(in super::super) reads: Histogram<u64>,
    #[serde(with = "as_counts")]
    pub(in super::super) updates: Histogram<u64>,
    /// How long operations of an open loop waited in the generator, in microseconds.
    #[serde(with = "as_counts")]
    pub(in super::super) waits: Histogram<u64>,
    /// Operations due in the measured time.
    pub(in super::super) offered: u64,
    /// Operations that were due but had not been sent when the run ended. Their latencies stand in the
    /// histograms as far as they had grown by then.
    pub(in super::super) unsent: u64,
    /// Operations without a right answer in time.
    pub(in super::super) failed: u64,
    pub(in super::super) reasons: Vec<String>,
    /// Operations completed, for each millisecond of the measured time.
    pub(in super::super) completed: Vec<u32>,
}

impl Observed {
    pub(in super::super) fn nothing(window: &Window) -> Self {
        Self {
            reads: histogram(),
            updates: histogram(),
            waits: histogram(),
            offered: 0,
            unsent: 0,
            failed: 0,
            reasons: Vec::new(),
            completed: vec![0; window.millis()],
        }
    }

    /// Operations completed.
    pub(in super::super) fn operations(&self) -> u64 {
        self.completed.iter().copied().map(u64::from).sum()
    }

    /// Of reads and updates together.
    pub(in super::super) fn latencies(&self) -> Histogram<u64> {
        let mut all = self.reads.clone();
        all.add(&self.updates).expect("all histograms have the same bounds");
        all
    }

    /// Takes down how an operation ended.
    pub(super) fn record(&mut self, window: &Window, timed: &Timed, outcome: Result<(), String>) {
        if outcome.is_ok() && window.contains(timed.ended_ns) {
            let millis = (timed.ended_ns - window.from_ns) / NANOS_PER_MILLI;
            self.completed[usize::try_from(millis).expect("it is in the window")] += 1;
        }
        if !window.contains(timed.due_ns) {
            return;
        }
        self.offered += 1;
        record(self.latencies_of(timed.is_read), timed.ended_ns.saturating_sub(timed.due_ns));
        record(&mut self.waits, timed.sent_ns.saturating_sub(timed.due_ns));
        if let Err(reason) = outcome {
            self.failed += 1;
            self.keep_reason(reason);
        }
    }

    /// Takes down an operation that was due at `due_ns` and never sent.
    pub(super) fn record_unsent(&mut self, window: &Window, is_read: bool, due_ns: u64) {
        if !window.contains(due_ns) {
            return;
        }
        self.offered += 1;
        self.unsent += 1;
        record(self.latencies_of(is_read), window.until_ns - due_ns);
        record(&mut self.waits, window.until_ns - due_ns);
    }

    fn latencies_of(&mut self, is_read: bool) -> &mut Histogram<u64> {
        if is_read { &mut self.reads } else { &mut self.updates }
    }

    fn keep_reason(&mut self, reason: String) {
        if self.reasons.len() < MAX_REASONS && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    /// Adds what others saw in the same time.
    pub(in super::super) fn add(&mut self, other: &Self) {
        assert_eq!(self.completed.len(), other.completed.len(), "both saw the same time");
        for (own, theirs) in [
            (&mut self.reads, &other.reads),
            (&mut self.updates, &other.updates),
            (&mut self.waits, &other.waits),
        ] {
            own.add(theirs).expect("all histograms have the same bounds");
        }
        self.offered += other.offered;
        self.unsent += other.unsent;
        self.failed += other.failed;
        other.reasons.iter().cloned().for_each(|reason| self.keep_reason(reason));
        self.completed.iter_mut().zip(&other.completed).for_each(|(own, theirs)| *own += theirs);
    }

    /// The longest time without a completed operation that ends after `after_ms`, as its begin and its
    /// length in milliseconds of the measured time. The time before `after_ms` counts along.
    pub(in super::super) fn longest_gap(&self, after_ms: usize) -> Gap {
        let mut longest = Gap::default();
        let mut began = 0;
        for (millis, count) in self.completed.iter().enumerate() {
            if *count > 0 {
                began = millis + 1;
            } else if millis >= after_ms && millis + 1 - began > longest.length_ms {
                longest = Gap { began_ms: began, length_ms: millis + 1 - began };
            }
        }
        longest
    }
}

/// A time without a completed operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(in super::super) struct Gap {
    pub(in super::super) began_ms: usize,
    pub(in super::super) length_ms: usize,
}

/// A histogram as it travels between processes: the values that occur, each with its count. Added again
/// under the same bounds, it is the same one.
mod as_counts {
    use super::{Histogram, histogram};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        histogram: &Histogram<u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let steps = histogram.iter_recorded();
        serializer.collect_seq(steps.map(|step| (step.value_iterated_to(), step.count_at_value())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Histogram<u64>, D::Error> {
        let mut histogram = histogram();
        for (value, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            histogram.saturating_record_n(value, count);
        }
        Ok(histogram)
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, HIGHEST_LATENCY_US, 3).expect("the bounds are sound")
}

fn record(histogram: &mut Histogram<u64>, nanos: u64) {
    // A value of zero would fall outside; nothing takes less than a microsecond.
    histogram.saturating_record((nanos / 1000).max(1));
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    const MS: u64 = NANOS_PER_MILLI;
    const WINDOW: Window = Window { start_ns: 0, from_ns: 10 * MS, until_ns: 30 * MS };

    fn timed(due: u64, ended: u64) -> Timed {
        Timed { is_read: false, due_ns: due * MS, sent_ns: due * MS, ended_ns: ended * MS }
    }

    #[test]
    fn latencies_follow_the_due_time_and_completions_the_end() {
        let mut observed = Observed::nothing(&WINDOW);
        for (due, ended) in [(5, 9), (5, 12), (12, 14), (29, 70), (30, 31)] {
            observed.record(&WINDOW, &timed(due, ended), Ok(()));
        }
        assert_eq!((observed.offered, observed.operations()), (2, 2));
        let updates = observed.updates.iter_recorded();
        let millis: Vec<_> = updates.map(|step| step.value_iterated_to() / 1000).collect();
        assert_eq!(millis, [2, 41]);
    }

    #[test]
    fn what_failed_or_was_never_sent_counts_with_the_time_it_took() {
        let mut observed = Observed::nothing(&WINDOW);
        observed.record(&WINDOW, &timed(11, 29), Err("no answer".to_owned()));
        observed.record_unsent(&WINDOW, true, 20 * MS);
        observed.record_unsent(&WINDOW, true, 5 * MS);
        assert_eq!((observed.offered, observed.failed, observed.unsent), (2, 1, 1));
        assert_eq!((observed.operations(), observed.latencies().len()), (0, 2));
        assert!(observed.reads.max() >= 10_000 && observed.updates.max() >= 18_000);
        assert_eq!(observed.reasons, ["no answer"]);
    }

    #[test]
    fn gaps_are_found_at_both_ends_and_in_between() {
        let mut observed = Observed::nothing(&WINDOW);
        let gap = |began_ms, length_ms| Gap { began_ms, length_ms };
        assert_eq!(observed.longest_gap(0), gap(0, 20));
        observed.completed[4] = 1;
        assert_eq!(observed.longest_gap(0), gap(5, 15));
        observed.completed[12] = 9;
        assert_eq!(observed.longest_gap(0), gap(5, 7));
        assert_eq!(observed.longest_gap(14), gap(13, 7));
        observed.completed.fill(1);
        assert_eq!(observed.longest_gap(0), Gap::default());
    }

    #[test]
    fn travelling_and_adding_loses_nothing() {
        let window = Window { start_ns: 0, from_ns: 0, until_ns: 50 * MS };
        for seed in 0..200 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let [mut all, mut first, mut second] = [(); 3].map(|()| Observed::nothing(&window));
            for _ in 0..seed {
                // From nanoseconds to the longest that is told apart.
                let nanos = random.next_u64() % (1000 << (random.next_u64() % 30));
                let is_read = random.next_u64().is_multiple_of(2);
                let timed = Timed { is_read, due_ns: 7, sent_ns: 8, ended_ns: 7 + nanos };
                let part = if random.next_u64().is_multiple_of(3) { &mut first } else { &mut second };
                part.record(&window, &timed, Ok(()));
                all.record(&window, &timed, Ok(()));
            }
            let mut added = Observed::nothing(&window);
            for part in [first, second] {
                let line = serde_json::to_string(&part).expect("it has a JSON form");
                added.add(&serde_json::from_str(&line).expect("it was just written"));
            }
            assert_eq!(added, all);
        }
    }
}
