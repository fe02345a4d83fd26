//! Schedules that once broke safety, found by reading: a correct replica stood for two batches at one
//! number, or forgot what it had said. Each tells what broke and why.

use crate::group::{Group, R, Wire, is_checkpoint, proof_of, settings, signed};
use althing_protocol::pbft::{
    CheckpointCertificate, Claim, NewView, Pbft, PbftConfig, PbftMessage, PrePrepare, Signed, ViewChange,
    Vote,
};
use althing_protocol::{Action, Batch, Event, PersistId, Protocol, Start, TimerId};
use althing_types::{Digest, Instant, Quorums, Seq, View};
use std::sync::Arc;
use std::time::Duration;

/// A batch with one request.
fn batch(group: &Group, client: u64) -> Arc<Batch> {
    Arc::new(Batch { time: group.now, requests: vec![signed(client, 1)] })
}

/// All correct replicas give up on view 0; gives back the view changes of replicas 0 and 2. Replica 1,
/// the primary of view 1, is faulty.
fn give_up_on_view_0(group: &mut Group) -> [Signed<ViewChange>; 2] {
    group.down = vec![R[1]];
    group.submit(&signed(2, 1));
    group.lose();
    let view_changes = [0, 2].map(|i| {
        group.give_up(i);
        group.intercept_view_change(R[1])
    });
    group.give_up(3);
    group.lose();
    view_changes
}

/// The faulty replica 1 asks for view 2 and claims that this batch prepared in view 1, and was
/// pre-prepared there.
fn lie(seq: u64, digest: Digest, stable: Option<CheckpointCertificate>) -> PbftMessage {
    let claim = Claim { seq: Seq(seq), digest, view: View(1) };
    let (view, incarnation) = (View(2), 0);
    let (prepared, pre_prepared) = (vec![claim], vec![claim]);
    PbftMessage::ViewChange(ViewChange { view, incarnation, stable, prepared, pre_prepared })
}

/// A backup passed over what a new view assigned above its log, and took another batch there later.
#[test]
fn what_a_new_view_assigned_beyond_the_log_stays_assigned() {
    let mut group = Group::new(4);
    group.down = vec![R[3]];
    for number in 1..=8 {
        group.submit(&signed(1, number));
        group.settle();
    }
    // 9 is decided, and executed at 0 only.
    group.submit(&signed(1, 9));
    group.deliver(|wire| matches!(wire.message, PbftMessage::Commit(_)) && wire.to != R[0]);
    let decided = group.nodes[0].decisions[8].digest;
    // The new view of replica 1 is right. It reaches replica 3 alone, whose log ends at 8.
    let [zero, two] = give_up_on_view_0(&mut group);
    let stable = two.content.stable.clone();
    let one = Signed { signer: R[1], content: two.content.clone(), proof: proof_of(R[1]) };
    let (view_changes, proposals) = (vec![zero, one, two], vec![(Seq(9), decided)]);
    let new_view = NewView { view: View(1), view_changes, proposals };
    group.receive(3, R[1], PbftMessage::NewView(new_view));
    assert!(group.nodes[3].pbft.is_in_view());
    for _ in 0..2 {
        group.event(3, Event::Timer(TimerId(1)));
    }
    group.lose();
    group.transfer(3, 2);
    assert_eq!(group.nodes[3].pbft.stable(), Seq(8));
    let batch = batch(&group, 3);
    let other = batch.digest();
    group.receive(3, R[1], PbftMessage::PrePrepare(PrePrepare { view: View(1), seq: Seq(9), batch }));
    group.lose();
    group.down = vec![R[0], R[1]];
    group.give_up(3);
    group.receive(2, R[1], lie(9, other, stable));
    group.settle();
    group.down = vec![R[1]];
    group.run_until(|group| group.nodes[2].decisions.len() >= 9);
    assert_eq!(group.nodes[2].decisions[8].digest, decided);
}

/// A backup whose log begins below the start of the new view took proposals for what is decided there.
#[test]
fn below_the_start_of_a_new_view_nothing_is_voted_for() {
    let mut group = Group::new(4);
    // Replica 1 alone has the certificate that the others made, and shows it to replica 3 only.
    let stable = Some(group.certify_unheard());
    let decided = group.nodes[0].decisions[0].digest;
    let [zero, two] = give_up_on_view_0(&mut group);
    let (view, incarnation) = (View(1), 0);
    let content = ViewChange { view, incarnation, stable, prepared: vec![], pre_prepared: vec![] };
    let one = Signed { signer: R[1], content, proof: proof_of(R[1]) };
    let new_view = NewView { view, view_changes: vec![zero, one, two], proposals: vec![] };
    group.receive(3, R[1], PbftMessage::NewView(new_view));
    assert!(group.nodes[3].pbft.is_in_view());
    let batch = batch(&group, 3);
    let other = batch.digest();
    group.receive(3, R[1], PbftMessage::PrePrepare(PrePrepare { view, seq: Seq(1), batch }));
    group.lose();
    group.down = vec![R[0], R[1]];
    group.give_up(3);
    group.receive(2, R[1], lie(1, other, None));
    group.deliver(is_checkpoint);
    group.down = vec![R[1]];
    group.loses = |wire| match wire.message {
        PbftMessage::Checkpoint(_) | PbftMessage::Decided { .. } => true,
        PbftMessage::Commit(vote) => vote.view == View(0),
        _ => false,
    };
    group.run_for(Duration::from_secs(3));
    assert!(group.nodes[3].decisions.first().is_none_or(|decision| decision.digest == decided));
}

/// A primary took up, after a restart, any batch that it had ever stood for in the view: also one of a new
/// view that a power failure kept it from making, in the place of what it proposed there later.
#[test]
fn a_primary_goes_on_with_what_it_proposed_last() {
    // Which of the two has the greater digest is chance.
    for client in 10..26 {
        power_fails_twice(client);
    }
}

fn power_fails_twice(client: u64) {
    let mut group = Group::new(4);
    // Replica 0 is faulty and leads view 0: one batch at 6, which prepares at 2 only.
    group.down = vec![R[0]];
    let batch = batch(&group, 8);
    let first = batch.digest();
    for i in [1, 2] {
        let proposal = PrePrepare { view: View(0), seq: Seq(6), batch: batch.clone() };
        group.receive(i, R[0], PbftMessage::PrePrepare(proposal));
    }
    group.deliver(|wire| wire.to != R[2] || matches!(wire.message, PbftMessage::Commit(_)));
    for i in 1..4 {
        group.event(i, Event::Request(signed(1, 1)));
    }
    group.lose();
    for i in 1..4 {
        group.give_up(i);
    }
    // Replica 1 stands for it in view 1. The power fails before the new view is on disk.
    group.deliver_until(|wire| wire.from == R[1] && matches!(wire.message, PbftMessage::NewView(_)));
    group.nodes[1].records.pop();
    group.restart(1);
    group.lose();
    // With the view change of replica 0 in place of that of 2, its new view leaves 6 open.
    let (view, incarnation, stable) = (View(1), 0, None);
    let content = ViewChange { view, incarnation, stable, prepared: vec![], pre_prepared: vec![] };
    group.receive(1, R[0], PbftMessage::ViewChange(content));
    group.loses = |wire| wire.from == R[2] && matches!(wire.message, PbftMessage::ViewChange(_));
    let is_in_view_1 =
        |group: &Group, i: usize| group.nodes[i].pbft.is_in_view() && group.nodes[i].pbft.view() == View(1);
    group.run_until(|group| (1..4).all(|i| is_in_view_1(group, i)));
    group.loses = |_| false;
    group.settle();
    let mut late = vec![];
    for number in group.nodes[1].decisions.len() as u64 + 1..=5 {
        group.submit(&signed(1, number + 1));
        group.deliver(|wire| {
            late.extend(is_checkpoint(wire).then(|| wire.clone()));
            is_checkpoint(wire)
        });
    }
    // It proposes another batch at 6, which 3 executes with the help of 0. Replica 2 hears nothing.
    group.event(1, Event::Request(signed(client, 1)));
    let mut second = None;
    group.deliver(|wire| {
        if let PbftMessage::PrePrepare(proposal) = &wire.message {
            second = (proposal.seq == Seq(6)).then(|| proposal.batch.digest()).or(second);
        }
        wire.to == R[2]
    });
    let second = second.expect("it has proposed one");
    let vote = |seq, digest| Vote { view: View(1), seq: Seq(seq), digest };
    for vote in [PbftMessage::Prepare(vote(6, second)), PbftMessage::Commit(vote(6, second))] {
        for i in [1, 3] {
            group.receive(i, R[0], vote.clone());
        }
        group.deliver(|wire| wire.to == R[2]);
    }
    assert_eq!(group.nodes[3].decisions[5].digest, second);
    // Its records are rewritten. After that the power fails again.
    for wire in late {
        group.receive(wire.to.0.into(), wire.from, wire.message);
    }
    group.deliver(|wire| wire.to == R[2]);
    assert_eq!(group.nodes[1].pbft.stable(), Seq(4));
    group.restart(1);
    group.history.clear();
    group.down = vec![R[0], R[3]];
    group.run_for(Duration::from_millis(500));
    let proposed = group.sent(R[1], |wire| match &wire.message {
        PbftMessage::PrePrepare(proposal) if proposal.seq == Seq(6) => Some(proposal.batch.digest()),
        _ => None,
    });
    assert!(!proposed.is_empty() && !proposed.contains(&first), "it goes on with what it gave up");
}

/// A replica that had executed what it never prepared answered, after a restart, from a state before
/// what it had acknowledged.
#[test]
fn after_a_restart_a_replica_answers_from_nothing_that_it_may_have_gone_beyond() {
    let mut group = Group::new(4);
    group.submit(&signed(1, 1));
    group.deliver(|wire| match wire.message {
        PbftMessage::PrePrepare(_) | PbftMessage::Prepare(_) => wire.to == R[3],
        _ => false,
    });
    assert_eq!(group.executed(3), [(1, 1)]);
    group.restart(3);
    let answers_from = group.nodes[3].pbft.answers_from();
    assert!(answers_from.is_none_or(|seq| seq >= Seq(1)), "{answers_from:?}");
}

/// A checkpoint that was made, and not yet on disk, was missing from the records that replaced it.
#[test]
fn a_rewrite_holds_what_is_on_its_way_to_disk() {
    let mut group = Group::new(4);
    let (mut checkpoints, mut commits) = (vec![], vec![]);
    for number in 1..=8 {
        group.submit(&signed(1, number));
        group.deliver(|wire| {
            let is_last = matches!(wire.message, PbftMessage::Commit(vote) if vote.seq == Seq(8));
            let is_commit = wire.to == R[3] && is_last;
            let is_first = matches!(wire.message, PbftMessage::Checkpoint(own) if own.seq == Seq(4));
            checkpoints.extend((wire.to == R[3] && is_first).then(|| wire.clone()));
            commits.extend(is_commit.then(|| wire.clone()));
            is_commit || is_checkpoint(wire)
        });
    }
    // Replica 3 executes 8 and makes its checkpoint while 4 becomes stable; its disk is slow.
    let mut disk = SlowDisk { records: group.nodes[3].records.clone(), pending: vec![] };
    for wire in commits {
        let Wire { from, message, .. } = wire;
        disk.run(&mut group, Event::Message { from, message, proof: None, key: 0 });
    }
    for wire in checkpoints {
        let Wire { from, message, proof, .. } = wire;
        disk.run(&mut group, Event::Message { from, message, proof, key: 0 });
    }
    assert_eq!(group.nodes[3].pbft.stable(), Seq(4));
    let mut said = vec![];
    for id in std::mem::take(&mut disk.pending) {
        said.extend(disk.run(&mut group, Event::Persisted(id)));
    }
    assert!(said.contains(&Seq(8)));
    // It restarts from its disk, and is asked what checkpoints it made.
    let quorums = Quorums::byzantine(4, 1).expect("four are enough");
    let mut pbft = Pbft::new(PbftConfig::new(R[3], quorums, settings()).expect("good settings"));
    let (now, records) = (Instant(2_000_000_000), disk.records);
    let (stable, executed) = (Seq(4), vec![]);
    let (is_closed, has_forgotten, is_doubtful) = (false, false, false);
    let start = Start::Recovered { stable, executed, records, is_closed, has_forgotten, is_doubtful };
    pbft.handle(now, Event::Start(start), &mut vec![]);
    let (query, mut answers) = (PbftMessage::RecoverQuery { nonce: 1, is_voting: false }, vec![]);
    pbft.handle(now, Event::Message { from: R[0], message: query, proof: None, key: 0 }, &mut answers);
    let report = answers.iter().find_map(|action| match action {
        Action::Send { message: PbftMessage::RecoverReport { last, .. }, .. } => Some(*last),
        _ => None,
    });
    assert_eq!(report, Some(Seq(8)));
}

/// A replica that was far ahead of its disk could not know, after a restart, up to where it had answered.
#[test]
fn nothing_is_executed_far_ahead_of_the_disk() {
    let mut group = Group::new(4);
    let mut heard = vec![];
    for number in 1..=12 {
        group.submit(&signed(1, number));
        group.deliver(|wire| {
            heard.extend((wire.to == R[3]).then(|| wire.clone()));
            wire.to == R[3]
        });
    }
    let mut disk = SlowDisk { records: group.nodes[3].records.clone(), pending: vec![] };
    for Wire { from, message, proof, .. } in heard {
        disk.run(&mut group, Event::Message { from, message, proof, key: 0 });
    }
    assert_eq!((group.nodes[3].pbft.stable(), group.nodes[3].decisions.len()), (Seq(8), 8));
    while let Some(id) = disk.pending.pop() {
        disk.run(&mut group, Event::Persisted(id));
    }
    assert_eq!(group.nodes[3].decisions.len(), 12);
}

/// A disk of replica 3 that has written nothing of what it was last given.
struct SlowDisk {
    records: Vec<Vec<u8>>,
    pending: Vec<PersistId>,
}

impl SlowDisk {
    /// Hands an event to replica 3, which executes at once; gives back the checkpoints that it says.
    fn run(&mut self, group: &mut Group, event: Event<PbftMessage>) -> Vec<Seq> {
        let (mut events, mut said) = (vec![event], vec![]);
        while let Some(event) = events.pop() {
            let mut actions = vec![];
            group.nodes[3].pbft.handle(group.now, event, &mut actions);
            for action in actions {
                match action {
                    Action::Persist { id, record } => {
                        self.records.push(record);
                        self.pending.push(id);
                    }
                    Action::KeepState { seq, .. } => events.push(Event::StateKept(seq)),
                    Action::Compact(records) => self.records = records,
                    Action::Execute(decision) => {
                        let executed = group.nodes[3].execute(decision);
                        events.push(executed);
                    }
                    Action::Broadcast { message: PbftMessage::Checkpoint(own), .. } => said.push(own.seq),
                    _ => {}
                }
            }
        }
        said
    }
}
