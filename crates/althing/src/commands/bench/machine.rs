//! What a benchmark ran on.

use serde::Serialize;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: u64 = 86_400;

/// What a benchmark ran on. Nothing in it names a particular machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    pub(super) cpu_model: String,
    pub(super) memory_bytes: u64,
    pub(super) kernel: String,
    /// Where the replicas write.
    pub(super) filesystem: String,
}

impl Machine {
    /// This machine, with replicas that write below `directory`.
    pub(super) fn here(directory: &Path) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let memory_kib: Option<u64> = entry(&read("/proc/meminfo"), "MemTotal")
            .and_then(|value| value.split_whitespace().next()?.parse().ok());
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu_model: entry(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            memory_bytes: memory_kib.unwrap_or_default() * 1024,
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            filesystem: fs::canonicalize(directory)
                .ok()
                .and_then(|directory| filesystem(&read("/proc/self/mounts"), &directory))
                .unwrap_or_else(unknown),
        }
    }

    /// Whether what is written survives nothing.
    pub(super) fn writes_to_memory(&self) -> bool {
        matches!(self.filesystem.as_str(), "tmpfs" | "ramfs")
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// The value of the first line `key: value`.
fn entry(text: &str, key: &str) -> Option<String> {
    let of_key = |line: &str| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    };
    text.lines().find_map(of_key)
}

/// The type of the filesystem that holds `directory`: of the mounts, the one furthest down, and of
/// several at one place the last.
fn filesystem(mounts: &str, directory: &Path) -> Option<String> {
    let holding = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (fields.next()?, fields.next()?);
        directory.starts_with(at).then_some((at.len(), kind))
    });
    holding.max_by_key(|(length, _)| *length).map(|(_, kind)| kind.to_owned())
}

/// Today's date in universal time, as in 2026-11-21.
pub(super) fn today() -> String {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date(since_epoch.as_secs() / SECONDS_PER_DAY)
}

/// The date so many days after the first of 1970, by the Gregorian calendar.
fn date(days: u64) -> String {
    let (mut year, mut day) = (1970, days);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_322, "2000-12-31"),
            (20_778, "2026-11-21"),
        ] {
            assert_eq!(date(days), expected);
        }
    }

    #[test]
    fn the_mount_that_holds_a_directory_decides() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/deep xfs rw 0 0\n\
            /dev/c /tmporary btrfs rw 0 0\nover /tmp/deep overlay rw 0 0\n";
        let of = |path| filesystem(mounts, Path::new(path)).expect("the root holds everything");
        assert_eq!([of("/home/x"), of("/tmp/x"), of("/tmp/deep/er")], ["ext4", "tmpfs", "overlay"]);
    }

    #[test]
    fn this_machine_has_what_every_machine_has() {
        let machine = Machine::here(Path::new("."));
        assert!(machine.cores > 0 && machine.memory_bytes > 1 << 20, "{machine:?}");
        assert!(machine.kernel.len() > "Linux ".len() && machine.filesystem != "unknown", "{machine:?}");
    }
}
