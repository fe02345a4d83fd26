//! A client floods the group, a stranger does, and then a replica, while others work: no correct client sees
//! an error, and the memory of the replicas stays within bounds.

use super::load::{CLIENTS, Group, Load, PATIENCE, block_on, make, resident};
use althing_node::control::{Fault, Flood, ReplicaReport};
use althing_replica::Durability;
use std::process::{Child, Command, Stdio};
use tokio::time::Instant;

/// Attacks by a client or a stranger, how much of each has to have come before it may end, and whether
/// replicas have to have found some of it bad.
const ATTACKS: [(&str, u64, bool); 6] = [
    ("garbage", 20_000, true),
    ("bad-macs", 2_000, true),
    ("bad-signatures", 2_000, true),
    ("requests", 2_000, false),
    ("large-requests", 50, false),
    ("handshakes", 200, false),
];

/// Frames that a flooding replica has to have sent before it may end.
const FRAMES: u64 = 20_000;

/// Operations of correct clients during each attack.
const OPERATIONS: u64 = 60;

/// The memory of a replica, in KiB, whoever floods: some times what it has otherwise, and far less than what it is sent.
const MEMORY: u64 = 100 << 10;

/// What replicas have found bad.
const REFUSED: &str = "refused";

/// Kills the attacker, whatever becomes of the test.
struct Attacker(Child);

impl Attacker {
    fn start(group: &Group, kind: &str) -> Self {
        let client = group.deployment.client_file(&format!("client-{CLIENTS}"));
        let own = std::process::id().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_althing"));
        command.args(["attack", kind]).arg(client).args(["--die-with-parent", &own]);
        Self(command.stdin(Stdio::null()).spawn().expect("an attacker can be started"))
    }

    fn assert_runs(&mut self) {
        assert!(self.0.try_wait().expect("it can be asked").is_none(), "the attacker has ended");
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What has come to all replicas: frames, or connections that were no good.
async fn came(group: &Group, kind: &str) -> u64 {
    let count = |report: &ReplicaReport| match kind {
        "handshakes" => report.counters.refused_connections,
        REFUSED => report.counters.refused_frames,
        _ => report.counters.received_frames,
    };
    let mut sum = 0;
    for name in group.names() {
        sum += count(&group.until(&name, "there", |_| true).await);
    }
    sum
}

/// Waits until so much more has come, with clients at work meanwhile.
async fn until_more(group: &Group, load: &mut Load, (kind, before, more): (&str, u64, u64)) {
    let begun = Instant::now();
    load.progress(OPERATIONS).await;
    while came(group, kind).await < before + more {
        assert!(begun.elapsed() < PATIENCE, "{kind}: too little of it has come");
        load.progress(1).await;
    }
}

async fn assert_bounded(group: &Group, kind: &str) {
    for name in group.names() {
        let memory = resident(group.until(&name, "there", |_| true).await.pid);
        println!("{kind}: {name} has {memory} KiB");
        assert!(memory < MEMORY, "{kind}: {name} has {memory} KiB");
    }
}

#[test]
fn floods_are_seen_by_no_correct_client_and_fill_no_memory() {
    block_on(async {
        let group = Group::start(Durability::None).await;
        let mut load = Load::start(&group).await;
        load.progress(OPERATIONS).await;
        for (kind, more, is_refused) in ATTACKS {
            let (before, refused) = (came(&group, kind).await, came(&group, REFUSED).await);
            let mut attacker = Attacker::start(&group, kind);
            until_more(&group, &mut load, (kind, before, more)).await;
            if is_refused {
                // While it is not listened to for what it did before, nothing is looked at.
                until_more(&group, &mut load, (REFUSED, refused, 1)).await;
            }
            assert_bounded(&group, kind).await;
            attacker.assert_runs();
            drop(attacker);
            load.turn_to_other_keys();
        }
        let backup = group.names().pop().expect("there are replicas");
        for with in Flood::ALL {
            let before = came(&group, with.name()).await;
            make(&group, &backup, Fault::Flood { with }).await;
            until_more(&group, &mut load, (with.name(), before, FRAMES)).await;
            assert_bounded(&group, with.name()).await;
            make(&group, &backup, Fault::None).await;
            load.turn_to_other_keys();
        }
        load.progress(OPERATIONS).await;
        load.judge(&group.client(CLIENTS).await).await;
    });
}
