use super::*;
use crate::config::RawGroup;
use althing_crypto::Identity;
use althing_protocol::Settings;
use althing_protocol::pbft::PbftSettings;
use althing_replica::EngineSettings;
use althing_replica::membership::Member;
use althing_types::Epoch;

fn identity(machine: u8) -> Identity {
    Identity::from_secret_bytes(&[machine + 1; 64])
}

fn key(machine: u8) -> PublicIdentity {
    identity(machine).public()
}

fn address(machine: u8) -> String {
    format!("127.0.0.1:{}", 7000 + u16::from(machine))
}

fn group() -> GroupConfig {
    let replica =
        |machine| format!(r#"{{"address":"{}","public_key":"{}"}}"#, address(machine), key(machine));
    let replicas: Vec<_> = (0..4).map(replica).collect();
    let text = format!(
        r#"{{"name":"kv","id":"{}","f":1,"replicas":[{}],"clients":[],"admins":["{}"]}}"#,
        "07".repeat(16),
        replicas.join(","),
        key(200)
    );
    let raw: RawGroup = serde_json::from_str(&text).expect("a group file");
    GroupConfig::try_from(raw).expect("a group")
}

fn membership(epoch: u64, machines: &[u8]) -> Membership {
    let member = |machine: &u8| Member { key: key(*machine), address: address(*machine) };
    let members = machines.iter().map(member).collect();
    let (settings, first_primary) = (Settings::Pbft(PbftSettings::default()), ReplicaId(0));
    let (epoch, admins, engine) = (Epoch(epoch), vec![key(200)], EngineSettings::default());
    Membership { epoch, f: 1, members, admins, settings, first_primary, engine, is_one_machine: false }
}

fn roster(machine: u8) -> Roster {
    Roster::new(&group(), replica(machine.into()), key(machine))
}

fn replica(id: u16) -> Principal {
    Principal::Replica(ReplicaId(id))
}

#[test]
fn whoever_stays_keeps_its_slot_whatever_its_number_becomes() {
    let mut roster = roster(3);
    assert_eq!(roster.route(replica(2)), Some(replica(2)));
    roster.enter(&membership(1, &[1, 2, 3, 9]));
    assert_eq!(roster.route(replica(0)), Some(replica(1)));
    assert_eq!(roster.route(replica(3)), Some(replica(4)), "a slot of its own");
    assert_eq!(roster.route(replica(4)), None);
    assert_eq!(roster.place(ReplicaId(0)), None, "it has left");
    assert_eq!((roster.key(ReplicaId(0)), roster.slot_of(&key(0))), (Some(&key(0)), Some(replica(0))));
    assert_eq!(roster.place(ReplicaId(4)), Some(ReplicaId(3)));
    let owner = roster.directory()(&channel_key(&key(9)));
    assert_eq!(owner, Some(replica(4)), "it is let in");
    roster.enter(&membership(2, &[1, 2, 3, 0]));
    assert_eq!(roster.route(replica(3)), Some(replica(0)), "who comes back is known");
}

#[test]
fn of_two_members_one_dials_in_each_epoch() {
    for (epoch, machines) in [(0, [0, 1, 2, 3]), (1, [8, 2, 3, 9]), (2, [9, 8, 2, 3])] {
        let rosters = machines.map(|machine| {
            let mut roster = Roster::new(&group(), replica(0), key(machine));
            if epoch > 0 {
                roster = Roster::new(&group(), replica(77), key(machine));
                roster.enter(&membership(epoch, &machines));
                roster.me = roster.slot_of(&key(machine)).expect("it is a member");
            } else {
                roster.me = replica(machine.into());
            }
            roster
        });
        let dials = |from: usize, to: usize| {
            let peers = rosters[from].peers(&[]);
            let key = channel_key(&key(machines[to]));
            peers.iter().find(|peer| peer.key == key).is_some_and(|peer| peer.is_dialled)
        };
        for (from, to) in (0..4).flat_map(|from| (0..from).map(move |to| (from, to))) {
            assert!(dials(from, to) != dials(to, from), "{epoch}: {from} and {to}");
        }
    }
}

#[test]
fn who_has_left_may_call_and_is_not_called() {
    let mut roster = roster(1);
    roster.enter(&membership(1, &[1, 2, 3, 9]));
    let former = |also: &[Principal]| roster.peers(also).into_iter().find(|peer| peer.id == replica(0));
    assert!(!former(&[]).expect("it is let in").is_dialled);
    let is_dialled = channel_key(&key(1)) < channel_key(&key(0));
    assert_eq!(former(&[replica(0)]).expect("it is a peer for a while").is_dialled, is_dialled);
    assert!(roster.peers(&[]).iter().all(|peer| peer.id != replica(1)), "nobody is its own peer");
}

#[test]
fn a_client_dials_those_that_are_there_and_nobody_else() {
    let mut roster = Roster::new(&group(), Principal::Client(althing_types::ClientId(1)), key(100));
    roster.enter(&membership(1, &[1, 2, 3, 9]));
    let peers = roster.peers(&[]);
    assert!(peers.iter().all(|peer| peer.is_dialled));
    assert_eq!(peers.iter().map(|peer| peer.id).collect::<Vec<_>>(), [1, 2, 3, 4].map(replica));
}
