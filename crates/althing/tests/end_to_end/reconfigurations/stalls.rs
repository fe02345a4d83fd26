use super::Kind;
use std::fmt;
use std::time::Duration;

/// No client waits for as many view timeouts.
const MOST_TIMEOUTS: u32 = 3;

/// What clients had to wait for while the group changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stall {
    pub(super) kind: Kind,
    pub(super) has_liar: bool,
    /// Whether a replica was killed meanwhile, beside what the change asks for.
    pub(super) has_crash: bool,
    /// The longest time in which no client had an operation done.
    pub(super) pause: Duration,
    /// What the slowest operation took.
    pub(super) slowest: Duration,
    /// The longer of those before and after the change.
    pub(super) view_timeout: Duration,
}

impl Stall {
    /// The slowest operation, in view timeouts.
    fn timeouts(&self) -> f64 {
        self.slowest.as_secs_f64() / self.view_timeout.as_secs_f64()
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pause, slowest) = (self.pause.as_millis(), self.slowest.as_millis());
        write!(
            f,
            "none for {pause} ms, the slowest {slowest} ms, {:.2} of {} ms",
            self.timeouts(),
            self.view_timeout.as_millis()
        )
    }
}

/// All of them, shown as a table with a line a kind.
#[derive(Debug, Default)]
pub(super) struct Stalls(Vec<Stall>);

impl Stalls {
    pub(super) fn push(&mut self, stall: Stall) {
        self.0.push(stall);
    }

    /// # Panics
    /// Where a client waited for too long.
    pub(super) fn check(&self) {
        for stall in &self.0 {
            let most = stall.view_timeout * MOST_TIMEOUTS;
            assert!(stall.pause.max(stall.slowest) < most, "{:?}: {stall}", stall.kind);
        }
    }
}

impl fmt::Display for Stalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| change | so often | with a liar | with a crash | longest without any operation, ms | median | slowest operation, ms \
             | in view timeouts |\n|---|--:|--:|--:|--:|--:|--:|--:|"
        )?;
        let lines = Kind::ALL.map(|kind| (format!("{kind:?}"), vec![kind]));
        for (name, kinds) in lines.into_iter().chain([("all".to_owned(), Kind::ALL.to_vec())]) {
            let of: Vec<_> = self.0.iter().filter(|stall| kinds.contains(&stall.kind)).collect();
            let mut pauses: Vec<_> = of.iter().map(|stall| stall.pause.as_millis()).collect();
            pauses.sort_unstable();
            let Some(longest) = pauses.last() else { continue };
            let slowest = of.iter().map(|stall| stall.slowest).max().unwrap_or_default();
            let timeouts = of.iter().map(|stall| stall.timeouts()).fold(0.0, f64::max);
            let liars = of.iter().filter(|stall| stall.has_liar).count();
            let crashes = of.iter().filter(|stall| stall.has_crash).count();
            let (so_often, median) = (of.len(), pauses[pauses.len() / 2]);
            writeln!(
                f,
                "| {name} | {so_often} | {liars} | {crashes} | {longest} | {median} | {} | {timeouts:.2} |",
                slowest.as_millis()
            )?;
        }
        Ok(())
    }
}
