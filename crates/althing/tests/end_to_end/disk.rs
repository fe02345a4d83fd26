//! A replica whose disk is full: a small file system of its own, in a mount namespace.

use super::deployment::Deployment;
use super::process::{althing, until};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The replica that runs out of room.
const POOR: &str = "kv-3";

/// What it leaves for the replica, in bytes.
const LEFT: u64 = 8 << 10;

/// `path` as a process in another mount namespace sees it.
fn seen_by(pid: u32, path: &Path) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join("root").join(path.strip_prefix("/").expect("absolute"))
}

/// Writes until there is hardly room left.
fn fill(path: &Path) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("a file on the disk");
    while file.write_all(&[0; 1024]).is_ok() {}
    let length = file.metadata().expect("the file is there").len();
    file.set_len(length - LEFT).expect("a file can be cut");
}

#[test]
fn a_full_disk_stops_one_replica_and_room_brings_it_back() {
    let provisioned = Deployment::durable_kv();
    let data = provisioned.data(POOR);
    let home = provisioned.end_and_keep();
    let mut command = Command::new("unshare");
    let script = format!("mount -t tmpfs -o size=1m tmpfs '{}' && exec \"$@\"", data.display());
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]);
    command.arg(althing().get_program());
    let store = Deployment::again(command, "kv", home);

    let replica = |name: &str| store.process(name).filter(|status| status["is_voting"] == true);
    until("that it learnt what its new disk lacks", || replica(POOR));
    let inside = seen_by(store.pids().0, &data);
    fill(&inside.join("filler"));
    let log = store.log(POOR);
    let stops = || fs::read_to_string(&log).unwrap_or_default().matches("the disk failed").count();
    let mut written = 0;
    until("that the disk is full", || {
        store.tell(&["kv", "put", "key", &"x".repeat(1000)]);
        written += 1;
        (stops() > 0).then_some(())
    });
    let first = Instant::now();
    let complaint = fs::read_to_string(&log).expect("a log");
    assert!(complaint.contains("No space left on device"), "{complaint}");
    assert!(complaint.contains("make room"), "{complaint}");
    // It is started again, less and less often, and stops each time.
    let seen = stops();
    until("that it was started again", || (stops() >= seen + 3).then_some(()));
    assert!(first.elapsed() >= Duration::from_millis(600), "in a hot loop: {:?}", first.elapsed());
    store.tell(&["kv", "put", "key", "without it"]);
    assert_eq!(store.tell(&["kv", "get", "key"]), "without it\n");

    fs::remove_file(inside.join("filler")).expect("the filler can be removed");
    until("that it is back", || replica(POOR));
    assert_eq!(store.tell(&["kv", "get", "key"]), "without it\n");
    store.end();
}
