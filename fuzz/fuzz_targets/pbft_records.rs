//! Records that somebody else may have left on a replica's disk: whatever passes for sound can be started
//! from.
#![no_main]

use althing_protocol::pbft::{Pbft, PbftConfig, PbftSettings};
use althing_protocol::{Event, Protocol, Settings, Start};
use althing_types::{Digest, Instant, Quorums, ReplicaId, Seq};
use libfuzzer_sys::fuzz_target;

/// A checkpoint, if there is one.
type Place = Option<(u64, [u8; 32])>;

fuzz_target!(|input: (Place, Place, Vec<Vec<u8>>)| {
    let (start, stable, records) = input;
    let [start, stable] = [start, stable].map(|at| at.map(|(seq, state)| (Seq(seq), Digest(state))));
    let quorums = Quorums::byzantine(4, 1).expect("four are enough");
    let config = PbftConfig::new(ReplicaId(3), quorums, PbftSettings::default()).expect("valid settings");
    let first = Pbft::new(config);
    // What goes on from another state is of a later epoch.
    let settings = Settings::Pbft(PbftSettings::default());
    let later = start.is_some().then(|| first.successor(ReplicaId(3), quorums, &settings, start)).flatten();
    let mut pbft = later.unwrap_or(first);
    if pbft.statements(stable, &records).is_some() {
        let stable = stable.map_or(Seq(0), |(seq, _)| seq);
        let start = Start::Recovered {
            stable,
            executed: Vec::new(),
            records,
            is_closed: false,
            has_forgotten: false,
            is_doubtful: true,
        };
        pbft.handle(Instant(1), Event::Start(start), &mut Vec::new());
    }
});
