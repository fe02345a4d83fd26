//! What outlives a recovery: lies of different times, and proofs that are gone.

use crate::ledger::Operation;
use crate::net::{Net, Settings, member};
use crate::reconfiguration::{all_in, change, command, group, work};
use crate::recovery::pbft;
use althing_crypto::{Domain, Keyring};
use althing_protocol::pbft::PbftMessage;
use althing_replica::membership::Change;
use althing_replica::*;
use althing_types::{Digest, Epoch, Principal, ReplicaId, encode};
use std::time::Duration;

const R: fn(u16) -> ReplicaId = ReplicaId;

/// What whoever has these keys says to replica 3.
fn say(net: &mut Net<althing_protocol::pbft::Pbft>, keys: &mut Keyring, message: &PbftMessage) {
    let Principal::Replica(sender) = keys.me() else { panic!("a replica's keys") };
    let body = encode(message);
    let mac = keys.mac(Principal::Replica(R(3)), Domain::Protocol, &body).unwrap();
    let seal = Seal::Mac(mac);
    let bytes = encode(&Envelope { epoch: Epoch(0), sender, room: Room::Protocol, seal, body });
    net.input(R(3), Input::Frame { from: keys.me(), bytes });
}

/// Never more than one replica is anybody's, and a lifetime of keys lies between the two. A replica that is cut
/// off meanwhile still must not take what they say together for what one correct replica says.
#[test]
fn lies_of_different_times_do_not_add_up_at_a_replica() {
    let settings = Settings::new(4);
    let quorums = settings.quorums;
    let mut net = Net::new(settings, move |id| pbft(id, quorums));
    let refresh = |net: &mut Net<_>, id: u16, seed: u8| {
        let lifetime = Duration::from_secs(80);
        net.input(R(id), Input::Refresh { seed: [seed; 32].into(), lifetime });
    };
    (0..4).for_each(|id| refresh(&mut net, id, id as u8));
    net.write(1, b"all have this");
    net.run_for(Duration::from_millis(300));
    let executed = net.status(3).executed;
    net.cut_off.insert(R(3));
    net.write(1, b"true");
    // Somebody has replica 0.
    let lie = PbftMessage::Decided { seq: executed.next(), digest: Digest::NULL };
    let mut stolen = net.replica(0).keyring().clone();
    say(&mut net, &mut stolen, &lie);
    // It recovers, all keys are replaced, and what was known of the old ones is long gone.
    net.cut_off.clear();
    (0..4).for_each(|id| refresh(&mut net, id, 10 + id as u8));
    net.run_for(Duration::from_millis(1));
    net.cut_off.insert(R(3));
    net.run_for(Duration::from_secs(20));
    assert_eq!(net.status(3).executed, executed);
    // Now somebody has replica 1.
    let mut stolen = net.replica(1).keyring().clone();
    say(&mut net, &mut stolen, &lie);
    net.run_for(Duration::from_millis(1));
    assert_eq!(net.status(3).executed, executed, "it executed what the group has not decided");
    net.cut_off.clear();
    net.run_until("it has what is true", |net| net.cells(3) == net.cells(0));
    let (value, _) = net.call(0, &Operation::Read(1), OperationKind::Ordered);
    assert_eq!(value, b"true");
}

/// A replica keeps a bounded number of links. One that has been in all epochs since the first, and still has the
/// group file of that, has nothing in the end that leads from there to where it is: its disk would not be believed,
/// and nobody else could show it the way. So it has to know that before it doubts its disk.
#[test]
fn who_could_not_prove_its_epoch_knows_that_before_it_recovers() {
    let mut net = group(4);
    work(&mut net, 0, 2);
    for epoch in 0..34u64 {
        let joins = Change::Add(member(4 + (epoch / 2) as u16));
        let next = if epoch % 2 == 0 { joins } else { Change::Remove(R(4)) };
        change(&mut net, command(epoch, 1, &[next]), &[]);
        // So that each client hears of it.
        work(&mut net, 0, 1);
        net.run_until("all are there", |net| all_in(net, &[0, 1, 2, 3], epoch + 1));
        if epoch % 11 == 0 {
            let proves = net.replica(2).proves_its_epoch_from(Epoch(0));
            let Startup::Recovered { records, mut kept } = net.open_disk(R(2)) else {
                panic!("it has a disk")
            };
            assert_eq!(net.unstarted(R(2)).is_sound(&records, kept.as_mut()), proves, "epoch {epoch}");
            assert_eq!(proves, epoch < 32, "epoch {epoch}");
        }
    }
}
