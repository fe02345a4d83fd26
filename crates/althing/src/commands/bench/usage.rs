//! What processes cost, as the kernel counts it.

use rustix::param::clock_ticks_per_second;
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What a process has used since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    /// Of all its threads, in user and kernel mode; good to about 10 ms.
    pub(super) cpu: Duration,
    pub(super) switches: Switches,
}

/// Context switches of the threads that live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Switches {
    /// It had to wait for something.
    pub(super) voluntary: u64,
    /// Its time was up, or something more urgent came.
    pub(super) involuntary: u64,
}

impl Usage {
    /// What process `pid` has used; `None` where there is none.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let cpu = cpu_of(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        let mut switches = Switches::default();
        for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            // A thread may end meanwhile.
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            switches.voluntary += field(&status, "voluntary_ctxt_switches").unwrap_or_default();
            switches.involuntary += field(&status, "nonvoluntary_ctxt_switches").unwrap_or_default();
        }
        Some(Self { cpu, switches })
    }

    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            switches: Switches {
                // Fewer where a thread has ended.
                voluntary: self.switches.voluntary.saturating_sub(earlier.switches.voluntary),
                involuntary: self.switches.involuntary.saturating_sub(earlier.switches.involuntary),
            },
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            switches: Switches {
                voluntary: self.switches.voluntary + other.switches.voluntary,
                involuntary: self.switches.involuntary + other.switches.involuntary,
            },
        }
    }
}

/// The most memory that process `pid` has had, in bytes, since it started or since
/// [`forget_peak_memory`].
pub(super) fn peak_memory_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    field(&status, "VmHWM").unwrap_or_default() * 1024
}

/// Counts the peak of a process's memory afresh.
pub(super) fn forget_peak_memory(pid: u32) {
    // Where the kernel does not let us, the peak since the start stands in the report instead.
    let _ = fs::write(Path::new("/proc").join(pid.to_string()).join("clear_refs"), "5");
}

/// The time that all processors together have been busy since the machine started.
pub(super) fn busy() -> Duration {
    busy_of(&fs::read_to_string("/proc/stat").unwrap_or_default())
}

fn cpu_of(stat: &str) -> Option<Duration> {
    // The name, in brackets, may hold anything. After it come the state, as field 3, and numbers.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut ticks = rest.split(' ').skip(14 - 3).map(str::parse::<u64>);
    Some(of_ticks(ticks.next()?.ok()? + ticks.next()?.ok()?))
}

fn busy_of(stat: &str) -> Duration {
    let line = stat.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).map(|ticks| ticks.parse::<u64>().unwrap_or_default());
    // user, nice, system, idle, iowait, irq, softirq; guests count as user already.
    of_ticks(ticks.take(7).enumerate().filter(|(i, _)| ![3, 4].contains(i)).map(|(_, ticks)| ticks).sum())
}

fn of_ticks(ticks: u64) -> Duration {
    Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / clock_ticks_per_second().max(1)))
}

/// The number after `name:` in a status file.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What part a process plays in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Part {
    /// It executes operations.
    Replica,
    /// It asks for them.
    Load,
    /// It attacks, or is as busy as an attacker.
    Attacker,
}

/// What a process used in the measured time.
#[derive(Debug, Clone)]
pub(super) struct Used {
    pub(super) name: String,
    pub(super) part: Part,
    pub(super) usage: Usage,
    pub(super) peak_memory_bytes: u64,
}

/// Meters the processes of a run, also across their restarts.
pub(super) struct Meter {
    processes: Vec<Metered>,
    busy: Duration,
    own: Usage,
}

struct Metered {
    used: Used,
    /// The process that runs now, and what it had used when metering began.
    running: Option<(u32, Usage)>,
}

impl Meter {
    /// Begins to meter processes, each with its name and id.
    pub(super) fn begin(processes: Vec<(String, Part, u32)>) -> Self {
        let metered = |(name, part, pid): (String, Part, u32)| Metered {
            used: Used { name, part, usage: Usage::default(), peak_memory_bytes: 0 },
            running: Some((pid, Usage::of(pid).unwrap_or_default())),
        };
        Self {
            processes: processes.into_iter().map(metered).collect(),
            busy: busy(),
            own: Usage::of(std::process::id()).unwrap_or_default(),
        }
    }

    /// Takes down what a process has used before it is killed.
    pub(super) fn before_kill(&mut self, name: &str) {
        if let Some(metered) = self.processes.iter_mut().find(|metered| metered.used.name == name) {
            metered.stop();
        }
    }

    /// Ends metering after `elapsed`. Gives what each process used, and how many cores everything else
    /// on the machine kept busy. `pid_of` knows the processes that were started again.
    pub(super) fn end(mut self, elapsed: Duration, pid_of: impl Fn(&str) -> Option<u32>) -> (Vec<Used>, f64) {
        for metered in &mut self.processes {
            if metered.running.is_none() {
                // All that it has used since its start is of the measured time.
                metered.running = pid_of(&metered.used.name).map(|pid| (pid, Usage::default()));
            }
            metered.stop();
        }
        let own = Usage::of(std::process::id()).unwrap_or_default().since(self.own);
        let ours: Duration = self.processes.iter().map(|metered| metered.used.usage.cpu).sum();
        let foreign = busy().saturating_sub(self.busy).saturating_sub(ours + own.cpu);
        let used = self.processes.into_iter().map(|metered| metered.used).collect();
        (used, foreign.as_secs_f64() / elapsed.as_secs_f64())
    }
}

impl Metered {
    fn stop(&mut self) {
        let Some((pid, began)) = self.running.take() else { return };
        let usage = Usage::of(pid).map_or(Usage::default(), |now| now.since(began));
        self.used.usage = self.used.usage.and(usage);
        self.used.peak_memory_bytes = self.used.peak_memory_bytes.max(peak_memory_bytes(pid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read_at_the_right_places() {
        let stat = "42 (a) name)) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 7 8 20 0 4 0 100 1 2";
        assert_eq!(cpu_of(stat), Some(of_ticks(300)));
        assert_eq!(cpu_of("42 (cut off) S 1"), None);
        let status =
            "Name:\tx\nVmHWM:\t    2048 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(field(status, "VmHWM"), Some(2048));
        assert_eq!(field(status, "voluntary_ctxt_switches"), Some(7));
        assert_eq!(field(status, "nonvoluntary_ctxt_switches"), Some(3));
        assert_eq!(busy_of("cpu  1 2 4 1000 1000 8 16 99 1 1\ncpu0 9 9 9 9\n"), of_ticks(31));
    }

    #[test]
    fn work_and_memory_of_a_process_are_seen() {
        let pid = std::process::id();
        let before = Usage::of(pid).unwrap();
        let mut worked = 0_u64;
        while Usage::of(pid).unwrap().since(before).cpu < Duration::from_millis(30) {
            worked = (0..100_000_u64).fold(worked, |sum, i| sum.wrapping_mul(31).wrapping_add(i));
        }
        assert_ne!(worked, 1);
        assert!(peak_memory_bytes(pid) > 1 << 20);
        assert_eq!(Usage::of(u32::MAX), None);
    }

    #[test]
    fn a_process_that_is_started_again_is_metered_on() {
        let own = std::process::id();
        let mut meter = Meter::begin(vec![("a".to_owned(), Part::Replica, own)]);
        meter.before_kill("a");
        // It comes back as one that has used something since its start: here, this process.
        let (used, foreign) = meter.end(Duration::from_secs(1), |_| Some(own));
        assert!(used[0].usage.cpu >= Usage::of(own).unwrap().cpu.saturating_sub(Duration::from_millis(500)));
        assert!(foreign >= 0.0);
    }
}
