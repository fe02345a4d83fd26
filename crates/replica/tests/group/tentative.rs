//! What may have to be taken back: who sees it, and that it can be.

use crate::ledger::Operation;
use crate::net::{Net, Settings, keyring};
use althing_crypto::{Authenticator, Domain, Proof, hash};
use althing_protocol::unreplicated::Silence;
use althing_protocol::{
    Action, Actions, Answers, Batch, CommitCertificate, Decision, Event, Protocol, Request, RequestAuth,
    RequestKind, Speculation,
};
use althing_replica::*;
use althing_types::{
    ClientId, Digest, Epoch, Instant, Principal, ReplicaId, RequestNumber, Seq, View, encode,
};
use std::collections::VecDeque;
use std::sync::Arc;

const R0: ReplicaId = ReplicaId(0);

/// Does with a request what its number says: 1 executes it for good, 2 tentatively, 3 takes the last back
/// and executes this one tentatively, 4 makes the last final and orders nothing else, 5 executes this one
/// for good in the place of the last, 6 leaves the view and does nothing else, 7 and 17 speculate, 8 makes the
/// first of those final, 9 takes all of them back, 10 keeps a certificate for the last of them, 11 to 13 accept
/// one that may be decided anywhere and do nothing else, 14 enters the next view.
#[derive(Default)]
struct Fickle {
    executed: Seq,
    accepted: Seq,
    tentative: Option<Decision>,
    speculated: VecDeque<(Decision, Digest)>,
}

impl Fickle {
    fn decision(&self, request: Request) -> Decision {
        let batch = Arc::new(Batch { time: Instant(5), requests: vec![request] });
        let (seq, digest) = (self.executed.next(), batch.digest());
        Decision { seq, view: View(0), digest, batch, is_checkpoint: false, is_eager: true }
    }
}

impl Fickle {
    fn speculate(&mut self, mut decision: Decision, actions: &mut Actions<Silence>) {
        let last = self.speculated.back();
        decision.seq = last.map_or(decision.seq, |(last, _)| last.seq.next());
        let before = last.map_or(Digest::default(), |(_, history)| *history);
        let history = hash("history", &encode(&(before, decision.digest)));
        self.speculated.push_back((decision.clone(), history));
        actions.push(Action::Speculate { decision, history, share: None });
    }
}

fn of(decision: &Decision, history: Digest) -> Speculation {
    Speculation { view: decision.view, seq: decision.seq, history }
}

impl Protocol for Fickle {
    type Message = Silence;

    fn answers_from(&self) -> Option<Seq> {
        Some(self.accepted)
    }

    fn handle(&mut self, _: Instant, event: Event<Silence>, actions: &mut Actions<Silence>) {
        let Event::Request(request) = event else { return };
        let (number, decision) = (request.number.0, self.decision(request));
        if number == 6 {
            return actions.push(Action::LeftView(View(1)));
        }
        if number == 14 {
            return actions.push(Action::EnteredView(View(1)));
        }
        if matches!(number, 11..=13) {
            self.accepted = self.accepted.next();
            return;
        }
        if matches!(number, 7 | 17 | 27 | 77) {
            return self.speculate(decision, actions);
        }
        if number == 8 {
            self.executed = self.executed.next();
            return actions.extend(self.speculated.pop_front().map(|(first, _)| Action::Execute(first)));
        }
        if number == 10 {
            let speculation = self.speculated.back().map(|(last, history)| of(last, *history));
            return actions.extend(speculation.map(Action::Certified));
        }
        if number == 3 || number == 9 {
            self.speculated.clear();
            actions.push(Action::Rollback);
        }
        if number == 9 {
            return;
        }
        if number == 2 || number == 3 {
            self.tentative = Some(decision.clone());
            return actions.push(Action::ExecuteTentatively(decision));
        }
        let last = self.tentative.take().filter(|_| number == 4);
        self.executed = self.executed.next();
        actions.push(Action::Execute(last.unwrap_or(decision)));
    }
}

/// One replica, driven by as many clients as it takes.
struct Driven(Net<Fickle>);

impl Driven {
    fn new() -> Self {
        Self(Net::new(Settings::new(1), |_| Fickle::default()))
    }

    /// Has a client send the request of this number; gives back what it is told.
    fn send(&mut self, client: u64, number: u64, operation: &Operation) -> Vec<ClientMessage> {
        let mut request = Request {
            client: ClientId(client),
            number: RequestNumber(number),
            kind: RequestKind::Service,
            epoch: Epoch(0),
            operation: encode(operation),
            answers: Answers::All,
            auth: RequestAuth::Signed(Proof(vec![])),
            is_authentic: false,
        };
        let who = Principal::Client(ClientId(client));
        let macs = keyring(1, who).authenticate(Domain::Request, &request.signed_bytes());
        request.auth = RequestAuth::Macs(macs);
        self.input(who, &ClientFrame::Request(request))
    }

    /// Has client 2 ask for a cell.
    fn query(&mut self, cell: u32) -> Vec<ClientMessage> {
        let (client, number) = (ClientId(2), RequestNumber(9));
        let macs = Authenticator(vec![]);
        let mut query =
            Query { client, number, epoch: Epoch(0), operation: encode(&Operation::Read(cell)), macs };
        let who = Principal::Client(client);
        query.macs = keyring(1, who).authenticate(Domain::Query, &query.signed_bytes());
        self.input(who, &ClientFrame::Query(query))
    }

    /// Has a client ask for a proof of the request of this number, and of those up to the last.
    fn prove(&mut self, client: u64, first: u64, last: u64) -> Vec<ClientMessage> {
        let (client, first, last) = (ClientId(client), RequestNumber(first), RequestNumber(last));
        let mut prove = Prove { client, first, last, epoch: Epoch(0), macs: Authenticator(vec![]) };
        let who = Principal::Client(client);
        prove.macs = keyring(1, who).authenticate(Domain::Prove, &prove.signed_bytes());
        self.input(who, &ClientFrame::Prove(prove))
    }

    fn input(&mut self, from: Principal, frame: &ClientFrame) -> Vec<ClientMessage> {
        self.0.told.clear();
        self.0.input(R0, Input::Frame { from, bytes: encode(frame) });
        self.0.run_for(std::time::Duration::ZERO);
        self.0.told.iter().map(|(_, message)| message.clone()).collect()
    }

    fn cell(&self, index: usize) -> &[u8] {
        &self.0.cells(0)[index]
    }
}

fn write(cell: u32, byte: u8) -> Operation {
    Operation::Write(cell, vec![byte])
}

fn is_tentative(told: &[ClientMessage]) -> bool {
    match told {
        [ClientMessage::Reply { execution, .. }] => matches!(execution, Execution::Tentative(_)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_tentative_becomes_final_without_being_executed_again() {
    let mut replica = Driven::new();
    assert!(is_tentative(&replica.send(0, 2, &write(0, 1))));
    assert_eq!((replica.cell(0), replica.0.status(0).executed), (&[1][..], Seq(0)));
    assert!(is_tentative(&replica.send(0, 2, &write(0, 1))), "sent again");
    assert_eq!(replica.send(1, 4, &write(1, 1)), []);
    assert_eq!((replica.cell(0), replica.0.status(0).executed), (&[1][..], Seq(1)));
    assert!(!is_tentative(&replica.send(0, 2, &write(0, 1))), "sent again");
    assert_eq!(replica.0.replica(0).service().contexts.len(), 1);
}

#[test]
fn what_is_taken_back_leaves_no_trace() {
    for has_history in [false, true] {
        let (mut replica, mut other) = (Driven::new(), Driven::new());
        if has_history {
            for one in [&mut replica, &mut other] {
                one.send(0, 1, &write(0, 1));
                one.send(1, 2, &write(5, 5));
                one.send(0, 4, &write(0, 4));
            }
        }
        replica.send(2, 2, &write(0, 9));
        assert!(is_tentative(&replica.send(2, 3, &write(1, 3))));
        assert_eq!(replica.send(2, 5, &write(2, 2)).len(), 1);
        other.send(2, 5, &write(2, 2));
        assert_eq!(replica.0.cells(0), other.0.cells(0));
        let last = |one: &mut Driven| one.0.replica(0).service().contexts.last().copied();
        assert_eq!(last(&mut replica), last(&mut other), "agreed time and seed");
        // As if it had never been executed.
        assert_eq!(replica.send(1, 3, &write(3, 3)).len(), 1);
    }
}

#[test]
fn queries_and_emissions_wait_until_it_is_final() {
    let mut replica = Driven::new();
    replica.send(0, 2, &Operation::Emit(3, b"event".to_vec()));
    assert_eq!((replica.query(0), replica.0.emitted.len()), (vec![], 0));
    assert!(matches!(&replica.send(1, 4, &write(0, 1))[..], [ClientMessage::QueryReply { .. }]));
    assert_eq!(replica.0.emitted.len(), 1);

    replica.send(1, 2 + 3, &write(0, 1));
    assert_eq!(replica.query(0).len(), 1, "nothing is tentative");
}

#[test]
fn a_query_waits_for_what_was_accepted_before_it_came_and_for_nothing_later() {
    let mut replica = Driven::new();
    replica.send(0, 11, &write(0, 1));
    replica.send(0, 12, &write(0, 1));
    assert_eq!(replica.query(0), []);
    replica.send(0, 13, &write(0, 1));
    let told = replica.send(1, 1, &write(0, 1));
    assert!(
        matches!(told[..], [ClientMessage::Reply { .. }]),
        "one more may have been decided before: {told:?}"
    );
    let told = replica.send(2, 1, &write(0, 2));
    assert!(matches!(told[..], [ClientMessage::Reply { .. }, ClientMessage::QueryReply { .. }]), "{told:?}");
    assert_eq!(replica.query(0), [], "this one came later");
}

/// Its client may have been told by an agreement quorum, each of which has to have it again before it answers.
#[test]
fn a_query_waits_for_what_was_tentative_when_it_came_though_that_is_taken_back_meanwhile() {
    let mut replica = Driven::new();
    replica.send(0, 2, &write(0, 1));
    assert_eq!(replica.query(0), []);
    replica.send(1, 6, &write(0, 1));
    assert_eq!(replica.send(1, 9, &write(0, 1)), [], "taken back");
    assert_eq!(replica.send(1, 14, &write(0, 1)), [], "the next view has not got there yet");
    let told = replica.send(2, 1, &write(0, 1));
    assert!(matches!(told[..], [ClientMessage::Reply { .. }, ClientMessage::QueryReply { .. }]), "{told:?}");
}

#[test]
fn a_query_that_came_between_views_is_answered_in_the_next() {
    let mut replica = Driven::new();
    replica.send(0, 6, &write(0, 1));
    assert_eq!(replica.query(0), []);
    let told = replica.send(1, 14, &write(0, 1));
    assert!(matches!(told[..], [ClientMessage::QueryReply { .. }]), "{told:?}");
}

#[test]
fn a_tentative_reply_names_the_view_of_its_execution() {
    let mut replica = Driven::new();
    assert!(is_tentative(&replica.send(0, 2, &write(0, 1))));
    replica.send(1, 6, &write(0, 1));
    for message in replica.send(0, 2, &write(0, 1)) {
        let ClientMessage::Reply { view, execution, .. } = message else { panic!("{message:?}") };
        assert!(
            !matches!(execution, Execution::Tentative(_)) || view == View(0),
            "it executed it in view 0, and says {view}"
        );
    }
}

/// What a replica says of one request that it has speculated.
fn speculation(told: &[ClientMessage]) -> (Speculation, Option<Proof>) {
    match told {
        [ClientMessage::Speculated { speculation, proof, .. }] => (*speculation, proof.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn any_number_is_speculated_and_becomes_final_in_order() {
    let mut replica = Driven::new();
    let (first, _) = speculation(&replica.send(0, 7, &write(0, 1)));
    let (second, _) = speculation(&replica.send(1, 7, &write(1, 1)));
    assert_eq!((first.seq, second.seq), (Seq(1), Seq(2)));
    assert_ne!(first.history, second.history);
    assert_eq!(speculation(&replica.send(0, 7, &write(0, 1))).0, first, "sent again");
    let told = replica.query(0);
    assert!(
        matches!(told[..], [ClientMessage::QueryReply { answer: QueryAnswer::MustOrder, .. }]),
        "{told:?}"
    );
    assert_eq!(replica.0.status(0).executed, Seq(0));

    assert_eq!(replica.send(2, 8, &write(2, 1)), []);
    assert_eq!((replica.cell(1), replica.0.status(0).executed), (&[1][..], Seq(1)));
    assert!(!is_tentative(&replica.send(0, 7, &write(0, 1))), "the first is final");
    assert_eq!(speculation(&replica.send(1, 7, &write(1, 1))).0, second, "the second is not");
    assert_eq!(replica.send(2, 8, &write(2, 1)), []);
    let told = replica.query(0);
    assert!(
        matches!(told[..], [ClientMessage::QueryReply { answer: QueryAnswer::Result(_), .. }]),
        "{told:?}"
    );
    assert_eq!(replica.0.replica(0).service().contexts.len(), 2, "each was executed once");
}

/// Whether this is the replica's proof of that.
fn proves(proof: Option<&Proof>, speculation: Speculation) -> bool {
    let me = keyring(1, Principal::Client(ClientId(0)));
    let is_genuine =
        |proof| me.verify(Principal::Replica(R0), proof, Domain::Protocol, &speculation.statement());
    proof.is_some_and(is_genuine)
}

#[test]
fn what_is_speculated_is_signed_only_for_those_who_want_that_and_for_no_longer() {
    let mut replica = Driven::new();
    let (first, unsigned) = speculation(&replica.send(0, 7, &write(0, 1)));
    assert_eq!(unsigned, None);
    let (same, proof) = speculation(&replica.prove(0, 7, 17));
    assert_eq!(same, first);
    assert!(proves(proof.as_ref(), first));
    assert_eq!(speculation(&replica.prove(0, 7, 17)).1, proof, "asked again");
    assert_eq!(speculation(&replica.send(0, 7, &write(0, 1))).1, proof, "sent again");
    assert_eq!(speculation(&replica.send(1, 7, &write(0, 2))).1, None, "another has not asked for it");
    let (later, proof) = speculation(&replica.send(0, 17, &write(0, 3)));
    assert!(proves(proof.as_ref(), later), "it need not ask for each");
    assert_eq!(speculation(&replica.send(0, 27, &write(0, 4))).1, None);
    assert_eq!(replica.prove(2, 7, u64::MAX), [], "nothing is known of that request");
    let (own, proof) = speculation(&replica.send(2, 7, &write(0, 5)));
    assert!(proves(proof.as_ref(), own));
    assert_eq!(speculation(&replica.send(2, 77, &write(0, 5))).1, None, "nobody asks for ever");
}

#[test]
fn who_wants_a_proof_is_told_what_has_become_of_its_request() {
    let mut replica = Driven::new();
    speculation(&replica.send(0, 7, &write(0, 1)));
    speculation(&replica.send(1, 7, &write(0, 2)));
    replica.send(2, 8, &write(0, 0));
    let told = replica.prove(0, 7, 7);
    assert!(matches!(told[..], [ClientMessage::Reply { execution: Execution::Earlier, .. }]), "{told:?}");
    replica.send(2, 9, &write(0, 0));
    assert_eq!(replica.prove(1, 7, 7), [], "it was taken back");
    let (again, proof) = speculation(&replica.send(1, 7, &write(0, 2)));
    assert!(proves(proof.as_ref(), again), "and is executed again");
}

#[test]
fn a_wish_for_proofs_that_somebody_else_made_is_refused() {
    let mut replica = Driven::new();
    speculation(&replica.send(0, 7, &write(0, 1)));
    let (client, number, epoch) = (ClientId(0), RequestNumber(7), Epoch(0));
    let mut prove = Prove { client, first: number, last: number, epoch, macs: Authenticator(vec![]) };
    let other = keyring(1, Principal::Client(ClientId(1)));
    prove.macs = other.clone().authenticate(Domain::Prove, &prove.signed_bytes());
    assert_eq!(replica.input(Principal::Client(client), &ClientFrame::Prove(prove.clone())), []);
    assert_eq!(replica.input(Principal::Client(ClientId(1)), &ClientFrame::Prove(prove)), []);
    assert_eq!(speculation(&replica.send(0, 7, &write(0, 1))).1, None);
}

#[test]
fn all_that_is_speculated_is_taken_back_at_once_but_for_what_is_final() {
    let (mut replica, mut other) = (Driven::new(), Driven::new());
    for client in 0..2 {
        replica.send(client, 7, &write(0, client as u8 + 1));
    }
    replica.send(2, 8, &write(0, 0));
    other.send(0, 7, &write(0, 1));
    other.send(2, 8, &write(0, 0));
    assert_eq!(replica.cell(0), [2]);
    replica.send(2, 9, &write(0, 0));
    assert_eq!((replica.0.cells(0), replica.0.status(0).executed), (other.0.cells(0), Seq(1)));
    let again = speculation(&replica.send(1, 7, &write(5, 5)));
    assert_eq!(again.0.seq, Seq(2), "a client whose request was taken back may send it again");
}

#[test]
fn a_deferred_result_is_told_once_the_batch_that_gave_it_is_final() {
    let mut replica = Driven::new();
    assert_eq!(replica.send(0, 1, &Operation::Defer), []);
    let settle = Operation::Settle(ClientId(0), RequestNumber(1), b"done".to_vec());
    speculation(&replica.send(1, 7, &settle));
    assert_eq!(replica.send(0, 1, &Operation::Defer), [], "it may come out otherwise yet");
    let told = replica.send(2, 8, &write(0, 0));
    assert!(
        matches!(told[..], [ClientMessage::Reply { execution: Execution::Final(Seq(2)), .. }]),
        "{told:?}"
    );
    assert!(!is_tentative(&replica.send(0, 1, &Operation::Defer)));
}

#[test]
fn who_shows_a_certificate_is_told_once_it_is_kept() {
    let mut replica = Driven::new();
    for client in 0..2 {
        replica.prove(client, 7, 7);
    }
    let (first, first_proof) = speculation(&replica.send(0, 7, &write(0, 1)));
    let (second, proof) = speculation(&replica.send(1, 7, &write(1, 1)));
    let (first_proof, proof) = (first_proof.expect("it wanted one"), proof.expect("it wanted one"));
    let show = |replica: &mut Driven, client, speculation, proof: &Proof| {
        let votes = vec![(R0, proof.clone())];
        let certificate = CommitCertificate { speculation, votes };
        let (who, number) = (ClientId(client), RequestNumber(7));
        let frame = ClientFrame::Certificate { client: who, number, epoch: Epoch(0), certificate };
        replica.input(Principal::Client(who), &frame)
    };
    assert_eq!(show(&mut replica, 0, first, &proof), [], "signed for another");
    assert_eq!(show(&mut replica, 0, first, &first_proof), []);
    let told = replica.send(2, 10, &write(0, 0));
    assert_eq!(told, [ClientMessage::Certified { number: RequestNumber(7), speculation: first }]);
    let told = show(&mut replica, 1, second, &proof);
    assert_eq!(told, [ClientMessage::Certified { number: RequestNumber(7), speculation: second }]);
    replica.send(2, 8, &write(0, 0));
    let told = show(&mut replica, 0, first, &first_proof);
    assert!(!is_tentative(&told), "it is final by now");
    replica.send(2, 6, &write(0, 0));
    assert_eq!(show(&mut replica, 1, second, &proof), [], "the view is over");
}

/// A service that refuses pages: one whose program fails, or whose snapshots are not canonical.
#[derive(Default)]
struct Stubborn {
    executed: u8,
}

impl Service for Stubborn {
    fn execute(&mut self, _: &[u8], _: &Context) -> Outcome {
        self.executed += 1;
        Outcome::default()
    }
    fn query(&self, _: &[u8], _: ClientId) -> Option<Vec<u8>> {
        None
    }
    fn save(&mut self, pages: &mut Pages) {
        pages.set(0, vec![self.executed]);
    }
    fn install(&mut self, _: &Pages, _: &[u32]) -> Result<(), InstallError> {
        Err(InstallError { page: 0, reason: "no" })
    }
}

#[test]
fn a_replica_whose_service_does_not_take_its_state_back_stops() {
    // Another one is executed instead, tentatively and for good.
    for instead in [3, 5] {
        stops(instead);
    }
}

fn stops(instead: u64) {
    let config = ReplicaConfig {
        replica: R0,
        quorums: althing_types::Quorums::byzantine(1, 0).unwrap(),
        keyring: keyring(1, Principal::Replica(R0)),
        limits: Limits::default(),
        engine: EngineSettings::default(),
        durability: Durability::None,
        membership: None,
    };
    let mut replica = Replica::new(config, Fickle::default(), Stubborn::default());
    let mut outputs = vec![];
    replica.handle(Instant(1), Input::Start(Startup::Genesis), &mut outputs);
    for number in [2, instead] {
        let mut request = Request {
            client: ClientId(0),
            number: RequestNumber(number),
            kind: RequestKind::Service,
            epoch: Epoch(0),
            operation: vec![],
            answers: Answers::All,
            auth: RequestAuth::Signed(Proof(vec![])),
            is_authentic: false,
        };
        let who = Principal::Client(ClientId(0));
        let macs = keyring(1, who).authenticate(Domain::Request, &request.signed_bytes());
        request.auth = RequestAuth::Macs(macs);
        let bytes = encode(&ClientFrame::Request(request));
        replica.handle(Instant(2), Input::Frame { from: who, bytes }, &mut outputs);
    }
    assert!(matches!(outputs.last(), Some(Output::Stop(_))), "{outputs:?}");
}

/// A client has one operation under way, and no right to more of the memory.
#[test]
fn of_each_client_one_query_is_held() {
    let mut replica = Driven::new();
    replica.send(0, 2, &write(0, 1));
    for _ in 0..100 {
        assert_eq!(replica.query(0), []);
    }
    let told = replica.send(1, 4, &write(0, 1));
    assert_eq!(told.len(), 1, "held for one client");
}
