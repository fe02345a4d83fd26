//! A site's servers, of which any orders what it likes, and other sites that say what they like: executed at two
//! servers, of which one is made afresh from the other's pages now and then. They stay equal.
#![no_main]

use althing_crypto::Domain;
use althing_crypto::site::{SiteBatch, SiteKeys, SiteSignature, SiteStatement, SiteVerifier};
use althing_fuzz::shadow::Shadowed;
use althing_protocol::pbft::{Pbft, PbftConfig, PbftMessage, PbftSettings};
use althing_replica::{Context, Service};
use althing_services::Kv;
use althing_types::{ClientId, GroupId, Instant, Quorums, ReplicaId, RequestNumber, Seq, SiteId, encode};
use althing_wide::{
    Dissemination, Header, Kind, LinkConfig, LinkMessage, LinkPace, LogicalMachine, MachineConfig, SiteEvent,
    SiteOperation,
};
use borsh::BorshDeserialize;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const SYSTEM: GroupId = GroupId([5; 16]);

/// Who may say what is not what is fuzzed: other sites may be Byzantine.
#[derive(Debug)]
struct Credulous;

impl SiteVerifier for Credulous {
    fn verify(&self, _: SiteId, _: &SiteStatement, _: &SiteSignature) -> bool {
        true
    }
}

fn machine(dissemination: Dissemination) -> LogicalMachine<Pbft, Kv> {
    let sites = Quorums::byzantine(4, 1).expect("four are enough");
    let settings = PbftSettings {
        checkpoint_period: 4,
        log_size: 16,
        tentative_requests: 0,
        piggyback_commits: false,
        primary_slack: 0,
        primary_passes: 0,
        ..PbftSettings::default()
    };
    let pbft = Pbft::new(PbftConfig::new(ReplicaId(0), sites, settings).expect("valid settings"));
    let pace = LinkPace::new(Duration::from_millis(500), 10_000).expect("neither is zero");
    let config = MachineConfig {
        links: LinkConfig { site: SiteId(0), groups: vec![sites; 4], pace },
        sites,
        lanes: (0..4).map(|server| (ClientId(u64::from(server)), ReplicaId(server))).collect(),
        keys: SiteKeys::with_verifier(SYSTEM, Arc::new(Credulous)),
        residents: BTreeMap::new(),
        dissemination,
        max_update_bytes: 1000,
        max_reply_bytes: 1000,
        max_message_bytes: 10_000,
        max_unacknowledged_bytes: 5_000,
        acknowledgement_delay: Duration::from_millis(20),
        relay_timeout: Duration::from_secs(1),
    };
    LogicalMachine::new(config, pbft, Kv::new())
}

/// The next thing that is ordered: by whom, and what.
fn step(input: &mut &[u8], numbers: &mut [u64; 4]) -> Option<(ClientId, Vec<u8>)> {
    let (client, shape) = <(u8, u8)>::deserialize(input).ok()?;
    let client = ClientId(u64::from(client % 5));
    let operation = match shape % 4 {
        0 => SiteOperation::deserialize(input).ok()?,
        1 => SiteOperation::Events(Vec::deserialize(input).ok()?),
        // A site says the next thing that it could say: a message of the protocol, or anything.
        shape => {
            let (from, acknowledged) = <(u8, u8)>::deserialize(input).ok()?;
            let (kind, body) = if shape == 2 {
                (Kind::Protocol, encode(&PbftMessage::deserialize(input).ok()?))
            } else {
                <(Kind, Vec<u8>)>::deserialize(input).ok()?
            };
            let from = u16::from(from % 4);
            let number = &mut numbers[usize::from(from)];
            *number += 1;
            let header = Header {
                from: SiteId(from),
                to: SiteId(0),
                number: *number,
                base: 1,
                acknowledged: acknowledged.into(),
                kind,
            };
            let batch = SiteBatch::new(SYSTEM, header.from, &[(Domain::Link, b"anything")]);
            let proof = batch.proof(0, SiteSignature::Threshold([0; 48]));
            SiteOperation::Events(vec![SiteEvent::Incoming(LinkMessage { header, proof, body })])
        }
    };
    Some((client, encode(&operation)))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, mut input)) = bytes.split_first() else { return };
    let dissemination = match first % 3 {
        0 => Dissemination::Leader,
        kind => {
            Dissemination::Origin { slots: 2, most_bytes: 1000, window_bytes: 500, is_vouching: kind == 2 }
        }
    };
    let [mut one, mut other] = [(); 2].map(|()| Shadowed::new(machine(dissemination)));
    let mut numbers = [0; 4];
    for seq in 1..100 {
        let Some((client, operation)) = step(&mut input, &mut numbers) else { return };
        let time = Instant(seq * 50_000_000);
        let context = Context {
            client,
            number: RequestNumber(seq),
            seq: Seq(seq),
            time,
            seed: [first.wrapping_add(1); 32],
        };
        assert_eq!(one.service.execute(&operation, &context), other.service.execute(&operation, &context));
        assert!(one.pages() == other.pages(), "two servers differ");
        if seq % 4 == u64::from(first % 4) {
            other = Shadowed::new(machine(dissemination));
            assert!(other.install(one.pages().clone()), "pages of a correct server form a state");
        }
    }
});
