//! What a replica reports of others that break the protocol.

use crate::group::{Group, R, proof_of, signed};
use althing_protocol::pbft::{
    Checkpoint, CheckpointCertificate, NewView, PbftMessage, Signed, ViewChange, Vote,
};
use althing_protocol::{Event, Evidence, Message, Misbehaviour};
use althing_types::{Digest, ReplicaId, Seq, View};

fn digest(i: u8) -> Digest {
    Digest([i; 32])
}

fn view_change(view: u64) -> ViewChange {
    ViewChange { view: View(view), incarnation: 0, stable: None, prepared: vec![], pre_prepared: vec![] }
}

fn signed_view_change(signer: ReplicaId, view: u64) -> Signed<ViewChange> {
    Signed { signer, content: view_change(view), proof: proof_of(signer) }
}

/// What `evidence` shows to somebody who was not there: who signed what.
fn shown(evidence: &Evidence) -> Vec<PbftMessage> {
    let statements = evidence.statements.iter();
    let decode = |bytes: &[u8]| althing_types::decode(bytes, bytes.len()).expect("a protocol message");
    statements
        .inspect(|statement| assert_eq!(statement.proof, proof_of(evidence.accused), "the accused's proof"))
        .map(|statement| decode(&statement.bytes))
        .collect()
}

/// Asserts that replica 0 reports exactly this of replica `accused` and shows these statements of it.
fn assert_reported(group: &Group, accused: ReplicaId, misbehaviour: Misbehaviour, said: &[PbftMessage]) {
    let [evidence] = group.nodes[0].evidence.as_slice() else {
        panic!("one piece of evidence, not {:?}", group.nodes[0].evidence)
    };
    assert_eq!((evidence.accused, &evidence.misbehaviour), (accused, &misbehaviour));
    let shown = shown(evidence);
    assert_eq!(evidence.is_transferable(), !said.is_empty());
    assert!(shown.len() == said.len() && said.iter().all(|message| shown.contains(message)), "{shown:?}");
}

#[test]
fn conflicting_checkpoints_are_shown_to_anybody() {
    let mut group = Group::new(4);
    let said = [1, 2].map(|i| PbftMessage::Checkpoint(Checkpoint { seq: Seq(4), state: digest(i) }));
    for message in &said {
        group.receive(0, R[3], message.clone());
    }
    assert_reported(&group, R[3], Misbehaviour::ConflictingCheckpoint(Seq(4)), &said);
}

#[test]
fn a_checkpoint_against_the_certificate_is_shown_to_anybody() {
    let mut group = Group::new(4);
    let (right, wrong) = ([1, 2].map(digest)).map(|state| Checkpoint { seq: Seq(4), state }).into();
    group.receive(0, R[3], PbftMessage::Checkpoint(wrong));
    let votes = (0..3).map(|i| (R[i], proof_of(R[i]))).collect();
    let certificate = CheckpointCertificate { checkpoint: right, votes };
    group.receive(0, R[1], PbftMessage::RelayStable(certificate));
    assert_reported(&group, R[3], Misbehaviour::WrongCheckpoint(Seq(4)), &[PbftMessage::Checkpoint(wrong)]);
}

#[test]
fn conflicting_view_changes_are_shown_to_anybody() {
    let mut group = Group::new(4);
    let claim = althing_protocol::pbft::Claim { seq: Seq(1), digest: digest(1), view: View(0) };
    let said = [vec![], vec![claim]]
        .map(|prepared| PbftMessage::ViewChange(ViewChange { prepared, ..view_change(1) }));
    for message in &said {
        group.receive(0, R[3], message.clone());
    }
    assert_reported(&group, R[3], Misbehaviour::ConflictingViewChange(View(1)), &said);
}

#[test]
fn an_impossible_view_change_is_shown_to_anybody() {
    let mut group = Group::new(4);
    let claim = althing_protocol::pbft::Claim { seq: Seq(1), digest: digest(1), view: View(1) };
    let said = PbftMessage::ViewChange(ViewChange { prepared: vec![claim], ..view_change(1) });
    group.receive(0, R[3], said.clone());
    assert_reported(&group, R[3], Misbehaviour::InvalidViewChange(View(1)), &[said]);
}

#[test]
fn a_new_view_that_does_not_follow_is_shown_to_anybody_and_left() {
    let mut group = Group::new(4);
    // Replica 0 has to be changing to view 1: its primary is to be believed nothing more.
    for i in [2, 3] {
        group.receive(0, R[i], PbftMessage::ViewChange(view_change(1)));
    }
    assert!(group.nodes[0].pbft.view() == View(1) && !group.nodes[0].pbft.is_in_view());
    let view_changes = [R[0], R[2], R[3]].map(|signer| signed_view_change(signer, 1)).to_vec();
    let proposals = vec![(Seq(1), digest(1))];
    let said = PbftMessage::NewView(NewView { view: View(1), view_changes, proposals });
    group.receive(0, R[1], said.clone());
    assert_reported(&group, R[1], Misbehaviour::InvalidNewView(View(1)), &[said]);
    assert_eq!(group.nodes[0].pbft.view(), View(2));
}

#[test]
fn a_new_view_passed_on_accuses_its_maker_and_not_the_messenger() {
    let mut group = Group::new(4);
    let content = NewView { view: View(1), view_changes: vec![], proposals: vec![] };
    let relayed = Signed { signer: R[1], content: content.clone(), proof: proof_of(R[1]) };
    group.receive(0, R[2], PbftMessage::RelayNewView(relayed));
    let said = [PbftMessage::NewView(content)];
    assert_reported(&group, R[1], Misbehaviour::InvalidNewView(View(1)), &said);
}

#[test]
fn what_only_macs_bound_convinces_nobody_else() {
    let mut group = Group::new(4);
    for i in [1, 2] {
        let vote = Vote { view: View(0), seq: Seq(1), digest: digest(i) };
        group.receive(0, R[3], PbftMessage::Commit(vote));
    }
    assert_reported(&group, R[3], Misbehaviour::ConflictingVote(View(0), Seq(1)), &[]);
}

#[test]
fn two_proposals_for_one_number_are_reported() {
    let mut group = Group::new(4);
    group.event(0, Event::Request(signed(1, 1)));
    let proposal = group.wires.iter().find(|wire| wire.to == R[2]).expect("a proposal").message.clone();
    let other = proposal.contradiction().expect("another batch");
    group.receive(2, R[0], proposal);
    group.receive(2, R[0], other);
    let reported: Vec<_> = group.nodes[2].evidence.iter().map(|e| (e.accused, &e.misbehaviour)).collect();
    assert_eq!(reported, [(R[0], &Misbehaviour::ConflictingPrePrepare(View(0), Seq(1)))]);
}
