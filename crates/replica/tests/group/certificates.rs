//! The client's part in speculation, with replies made up by replicas with real keys.

use crate::net::keyring;
use althing_crypto::{Domain, Proof};
use althing_protocol::Speculation;
use althing_protocol::zyzzyva::Composition;
use althing_replica::*;
use althing_types::{
    ClientId, Digest, Instant, Principal, Quorums, ReplicaId, RequestNumber, Seq, View, decode, encode,
};
use std::time::Duration;

const RETRY: Duration = Duration::from_millis(10);
const SAID: Speculation = Speculation { view: View(0), seq: Seq(4), history: Digest([3; 32]) };

/// A client with one operation under way at a time, and what it was last told to do.
struct Driven {
    client: Client,
    now: Instant,
    number: RequestNumber,
}

/// What a client has done after an input.
#[derive(Debug, PartialEq, Eq)]
enum Done {
    Nothing,
    /// It waits for so long.
    Waits(Duration),
    /// It has shown a certificate that these have signed, and waits for so long.
    Shows(Vec<u16>, Duration),
    /// It has asked for proofs, of its present request or only of those that follow, and waits for so long.
    WantsProofs(Duration),
    /// It asks all replicas once more.
    AsksAgain,
    Completes,
}

impl Driven {
    fn new() -> Self {
        let me = Principal::Client(ClientId(0));
        let client = Client::new(ClientConfig {
            client: ClientId(0),
            keyring: keyring(4, me),
            quorums: Quorums::byzantine(4, 1).unwrap(),
            membership: None,
            limits: Limits::default(),
            auth: RequestAuthKind::Macs,
            reads: ReadPolicy::Ordered,
            answers: AnswerPolicy::All,
            separate_bytes: 0,
            composition: Composition::Zyzzyva,
            witnesses: Vec::new(),
            retry: RETRY,
            first_number: RequestNumber(1),
        });
        let mut driven = Self { client, now: Instant(0), number: RequestNumber(0) };
        driven.submit();
        driven
    }

    fn submit(&mut self) {
        let submitted = self.client.submit(self.now, vec![1], OperationKind::Ordered, &mut Vec::new());
        self.number = submitted.expect("nothing is under way");
    }

    fn input(&mut self, input: ClientInput) -> Done {
        let mut out = Vec::new();
        self.client.handle(self.now, input, &mut out);
        let timer = out.iter().find_map(|output| match output {
            ClientOutput::SetTimer { after } => Some(*after),
            _ => None,
        });
        let frame = out.iter().find_map(|output| match output {
            ClientOutput::Send { frame, .. } => Some(decode::<ClientFrame>(frame, 1 << 20).unwrap()),
            _ => None,
        });
        match (frame, timer) {
            (Some(ClientFrame::Certificate { certificate, number, .. }), Some(after)) => {
                assert_eq!((certificate.speculation, number), (SAID, self.number));
                let signers = certificate.votes.iter().map(|(signer, _)| signer.0);
                Done::Shows(signers.collect(), after)
            }
            (Some(ClientFrame::Prove(prove)), Some(after)) => {
                let (first, last) = (prove.first, RequestNumber(self.number.0 + 31));
                assert_eq!((prove.client, first, prove.last), (ClientId(0), self.number, last));
                Done::WantsProofs(after)
            }
            (Some(ClientFrame::Request(_)), _) => Done::AsksAgain,
            (None, Some(after)) => Done::Waits(after),
            _ if out.iter().any(|output| matches!(output, ClientOutput::Completed { .. })) => Done::Completes,
            _ => Done::Nothing,
        }
    }

    fn hear(&mut self, from: u16, message: &ClientMessage) -> Done {
        let (body, replica) = (encode(message), ReplicaId(from));
        let mut ring = keyring(4, Principal::Replica(replica));
        let mac = ring.mac(Principal::Client(ClientId(0)), Domain::Reply, &body).unwrap();
        let frame = ReplyFrame { replica, mac, body };
        self.input(ClientInput::Frame { from: replica, bytes: encode(&frame) })
    }

    /// A replica says that it has speculated; `signer` has signed it.
    fn hear_speculation(&mut self, from: u16, signer: u16) -> Done {
        let ring = keyring(4, Principal::Replica(ReplicaId(signer)));
        let proof: Proof = ring.sign(Domain::Protocol, &SAID.statement());
        self.hear_said(from, Some(proof))
    }

    /// A replica says that it has speculated.
    fn hear_said(&mut self, from: u16, proof: Option<Proof>) -> Done {
        let given = Given::Whole(ReplyOutcome::Result(vec![7]));
        let number = self.number;
        self.hear(from, &ClientMessage::Speculated { number, speculation: SAID, proof, given })
    }

    fn hear_kept(&mut self, from: u16) -> Done {
        self.hear(from, &ClientMessage::Certified { number: self.number, speculation: SAID })
    }
}

#[test]
fn what_all_have_speculated_is_complete_without_a_certificate() {
    let mut client = Driven::new();
    client.now = Instant(2_000_000);
    assert_eq!(client.hear_speculation(0, 0), Done::Nothing);
    assert_eq!(client.hear_speculation(1, 1), Done::Nothing);
    assert_eq!(client.hear_speculation(2, 2), Done::Waits(Duration::from_millis(2)), "as long again");
    assert_eq!(client.hear_speculation(3, 3), Done::Completes);
}

#[test]
fn who_waits_in_vain_shows_a_certificate_and_then_waits_no_more_for_a_while() {
    let mut client = Driven::new();
    for (from, done) in [(0, Done::Nothing), (1, Done::Nothing), (3, Done::Waits(Duration::from_micros(500)))]
    {
        assert_eq!(client.hear_speculation(from, from), done);
    }
    assert_eq!(client.input(ClientInput::Timer), Done::Shows(vec![0, 1, 3], RETRY));
    assert_eq!(client.hear_kept(0), Done::Nothing);
    assert_eq!(client.hear_kept(0), Done::Nothing, "the same once more");
    assert_eq!(client.hear_kept(2), Done::Nothing);
    assert_eq!(client.hear_kept(3), Done::Completes);
    for _ in 0..31 {
        client.submit();
        client.hear_speculation(0, 0);
        client.hear_speculation(1, 1);
        assert_eq!(client.hear_speculation(3, 3), Done::Shows(vec![0, 1, 3], RETRY));
        (0..3).for_each(|from| drop(client.hear_kept(from)));
    }
    client.submit();
    client.hear_speculation(0, 0);
    client.hear_speculation(1, 1);
    assert!(matches!(client.hear_speculation(3, 3), Done::Waits(_)), "the fourth gets another chance");
}

#[test]
fn a_certificate_that_is_not_kept_ends_in_asking_again() {
    let mut client = Driven::new();
    (0..3).for_each(|from| drop(client.hear_speculation(from, from)));
    assert!(matches!(client.input(ClientInput::Timer), Done::Shows(..)));
    assert_eq!(client.input(ClientInput::Timer), Done::AsksAgain);
    // In another view, perhaps.
    assert!(matches!(client.hear_speculation(0, 0), Done::Shows(..)), "what it has heard counts");
}

#[test]
fn who_signs_something_else_than_it_says_holds_nobody_up() {
    let mut client = Driven::new();
    client.hear_speculation(0, 1);
    client.hear_speculation(1, 1);
    assert!(matches!(client.hear_speculation(2, 2), Done::Waits(_)));
    assert_eq!(client.input(ClientInput::Timer), Done::AsksAgain, "two are too few");
    for _ in 0..3 {
        assert_eq!(client.hear_speculation(0, 1), Done::Nothing, "it is not believed any more");
    }
    assert!(matches!(client.hear_speculation(3, 3), Done::Waits(_)), "nor is the client hasty for its sake");
    assert_eq!(client.input(ClientInput::Timer), Done::Shows(vec![1, 2, 3], 2 * RETRY));
}

#[test]
fn what_all_say_alike_needs_no_signatures() {
    let mut client = Driven::new();
    for from in 0..3 {
        client.hear_said(from, None);
    }
    assert_eq!(client.hear_said(3, None), Done::Completes);
}

#[test]
fn proofs_are_asked_for_once_patience_ends_and_come_by_themselves_for_a_while() {
    let mut client = Driven::new();
    client.hear_said(0, None);
    client.hear_said(1, None);
    let patience = Duration::from_micros(500);
    assert_eq!(client.hear_said(3, None), Done::Waits(patience));
    assert_eq!(client.input(ClientInput::Timer), Done::WantsProofs(RETRY));
    assert_eq!(client.hear_speculation(0, 0), Done::Nothing);
    assert_eq!(client.hear_speculation(1, 1), Done::Nothing);
    assert_eq!(client.hear_said(3, None), Done::Nothing, "what was under way");
    assert_eq!(client.hear_speculation(3, 3), Done::Shows(vec![0, 1, 3], RETRY));
    (0..2).for_each(|from| drop(client.hear_kept(from)));
    assert_eq!(client.hear_kept(3), Done::Completes);
    client.submit();
    client.hear_speculation(0, 0);
    client.hear_speculation(1, 1);
    assert_eq!(client.hear_speculation(3, 3), Done::Shows(vec![0, 1, 3], RETRY), "it does not wait again");
    (0..2).for_each(|from| drop(client.hear_kept(from)));
    assert_eq!(client.hear_kept(3), Done::Completes);
    // One has started again, and knows nothing of that.
    client.submit();
    client.hear_speculation(0, 0);
    client.hear_speculation(1, 1);
    assert_eq!(client.hear_said(3, None), Done::Waits(patience));
    assert_eq!(client.input(ClientInput::Timer), Done::WantsProofs(RETRY));
    assert_eq!(client.hear_speculation(3, 3), Done::Shows(vec![0, 1, 3], RETRY));
}

#[test]
fn who_gives_no_proof_or_a_bad_one_ends_in_asking_again_and_is_made_up_for_by_another() {
    for liar_signs_as in [None, Some(1)] {
        let mut client = Driven::new();
        for from in 0..3 {
            client.hear_said(from, None);
        }
        assert_eq!(client.input(ClientInput::Timer), Done::WantsProofs(RETRY));
        client.hear_speculation(1, 1);
        client.hear_speculation(2, 2);
        match liar_signs_as {
            Some(signer) => assert_eq!(client.hear_speculation(0, signer), Done::AsksAgain),
            None => assert_eq!(client.input(ClientInput::Timer), Done::AsksAgain),
        }
        // The fourth signs, since it was asked to; where the liar is found out the other three are just enough.
        let done = client.hear_speculation(3, 3);
        if liar_signs_as.is_some() {
            assert!(matches!(done, Done::Waits(_)), "{done:?}");
            assert_eq!(client.input(ClientInput::Timer), Done::Shows(vec![1, 2, 3], 2 * RETRY));
        } else {
            assert_eq!(done, Done::Completes, "it had said the same as all");
        }
    }
}
