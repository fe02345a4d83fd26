use super::{Means, Said};
use crate::dice::Dice;
use crate::fault::{Injection, Injections};
use crate::keys::CLIENTS;
use crate::witness::labelled;
use althing_crypto::{Authenticator, Keyring, Mac, Proof};
use althing_protocol::pbft::{Checkpoint, CheckpointCertificate, NewView, PbftMessage, Signed, ViewChange};
use althing_protocol::{Answers, Auth, Request, RequestAuth, RequestKind};
use althing_replica::{Envelope, Limits, Seal, decode_envelope};
use althing_services::KvOperation;
use althing_types::{ClientId, Digest, Epoch, Principal, ReplicaId, RequestNumber, Seq, View, encode};
use std::sync::Arc;

/// Adds messages with forged parts: requests that no client made, certificates that nobody signed.
pub(super) fn invent(means: &mut Means, message: PbftMessage, auth: Auth) -> Said {
    if !means.dice.chance(80) {
        return vec![(message, auth)];
    }
    means.injections.note(Injection::Forged);
    let dice = &mut means.dice;
    let forged = match (dice.below(4), message.clone()) {
        (_, PbftMessage::PrePrepare(mut proposal)) => {
            let request = forged_request(dice, means.quorums.n());
            Arc::make_mut(&mut proposal.batch).requests.push(request);
            // In place of the right one: two would be taken for equivocation.
            return vec![(PbftMessage::PrePrepare(proposal), auth)];
        }
        (0, _) => PbftMessage::Forward(forged_request(dice, means.quorums.n())),
        (1, _) => {
            let seq = Seq(means.checkpoint_period * dice.between(1, 30));
            PbftMessage::RelayStable(forged_certificate(dice, means.quorums.n(), seq))
        }
        (2, _) => {
            let view = View(dice.between(1, 9));
            let stable = Some(forged_certificate(dice, means.quorums.n(), Seq(means.checkpoint_period)));
            let content =
                ViewChange { view, incarnation: 0, stable, prepared: Vec::new(), pre_prepared: Vec::new() };
            PbftMessage::ViewChange(content)
        }
        _ => {
            let view = View(dice.between(1, 9));
            let content = NewView { view, view_changes: Vec::new(), proposals: Vec::new() };
            let signer = means.quorums.primary(view);
            PbftMessage::RelayNewView(Signed { signer, content, proof: forged_proof(dice) })
        }
    };
    let forged_auth =
        if matches!(forged, PbftMessage::ViewChange(_)) { Auth::Transferable } else { Auth::Mac };
    vec![(message, auth), (forged, forged_auth)]
}

fn forged_proof(dice: &mut Dice) -> Proof {
    let mut bytes = vec![0; 64];
    dice.fill(&mut bytes);
    Proof(bytes)
}

fn forged_request(dice: &mut Dice, n: usize) -> Request {
    let operation = KvOperation::Put { key: b"k0".to_vec(), value: b"forged".to_vec() };
    let auth = if dice.chance(500) {
        RequestAuth::Signed(forged_proof(dice))
    } else {
        RequestAuth::Macs(Authenticator(vec![Mac([5; 16]); n]))
    };
    Request {
        client: ClientId(dice.below(CLIENTS)),
        number: RequestNumber(dice.between(1, 1000)),
        kind: dice.pick(&[RequestKind::Service, RequestKind::Service, RequestKind::Reconfigure]),
        epoch: Epoch(dice.below(3)),
        operation: labelled(u64::MAX - dice.below(1000), &operation.encode()),
        answers: Answers::All,
        auth,
        is_authentic: true,
    }
}

fn forged_certificate(dice: &mut Dice, n: usize, seq: Seq) -> CheckpointCertificate {
    let votes = (0..n).map(|id| (ReplicaId(u16::try_from(id).expect("small")), forged_proof(dice)));
    CheckpointCertificate { votes: votes.collect(), checkpoint: Checkpoint { seq, state: Digest([6; 32]) } }
}

/// The part of a faulty replica that forges frames, and repeats old ones.
pub(crate) struct Forger {
    dice: Dice,
    injections: Injections,
    forges: bool,
    repeats: bool,
    /// Some of the frames that it sent.
    sent: Vec<Arc<[u8]>>,
}

/// Frames kept to be repeated.
const KEPT: usize = 200;

impl Forger {
    pub(crate) fn new(dice: Dice, injections: Injections, (forges, repeats): (bool, bool)) -> Self {
        Self { dice, injections, forges, repeats, sent: Vec::new() }
    }

    /// What is sent beside `frame`. `keyring` gives the keys that the replica goes by now.
    pub(crate) fn more(
        &mut self,
        to: Principal,
        frame: &Arc<[u8]>,
        n: usize,
        keyring: impl Fn() -> Option<Keyring>,
    ) -> Option<Arc<[u8]>> {
        if self.repeats {
            if self.sent.len() < KEPT {
                self.sent.push(frame.clone());
            } else {
                let place = self.dice.index(KEPT);
                self.sent[place] = frame.clone();
            }
            if self.dice.chance(120) {
                self.injections.note(Injection::Replayed);
                return Some(self.sent[self.dice.index(self.sent.len())].clone());
            }
        }
        if self.forges && self.dice.chance(120) {
            self.injections.note(Injection::Forged);
            return Some(self.forge(to, frame, n, keyring()?).into());
        }
        None
    }

    fn forge(&mut self, to: Principal, frame: &[u8], n: usize, mut keyring: Keyring) -> Vec<u8> {
        let dice = &mut self.dice;
        let limits = Limits::default();
        let mut bytes = frame.to_vec();
        let envelope = decode_envelope(frame, &limits).ok();
        match (dice.below(6), envelope) {
            (0, _) => dice.bytes(200),
            (1, _) => {
                bytes.truncate(dice.index(bytes.len().max(1)));
                bytes
            }
            (2, Some(mut envelope)) => {
                envelope.sender = ReplicaId(u16::try_from(dice.index(n + 2)).expect("small"));
                encode(&envelope)
            }
            (3, Some(mut envelope)) => {
                envelope.seal = forged_seal(dice, n);
                encode(&envelope)
            }
            (4, Some(envelope)) => {
                let body = dice.bytes(80);
                encode(&Envelope { body, ..envelope })
            }
            (_, Some(envelope)) => {
                // Garbage under a seal that holds.
                let body = dice.bytes(80);
                let seal = match keyring.mac(to, envelope.room.domain(), &body) {
                    Some(mac) if dice.chance(500) => Seal::Mac(mac),
                    _ => Seal::Proof(keyring.sign(envelope.room.domain(), &body)),
                };
                encode(&Envelope { body, seal, ..envelope })
            }
            (_, None) => {
                if !bytes.is_empty() {
                    let place = dice.index(bytes.len());
                    bytes[place] ^= 0x40;
                }
                bytes
            }
        }
    }
}

fn forged_seal(dice: &mut Dice, n: usize) -> Seal {
    match dice.below(5) {
        0 => Seal::Mac(Mac([1; 16])),
        1 => Seal::Macs(Authenticator(Vec::new())),
        2 => Seal::Macs(Authenticator(vec![Mac([1; 16]); n])),
        3 => Seal::Proof(Proof(Vec::new())),
        _ => Seal::Proof(forged_proof(dice)),
    }
}
