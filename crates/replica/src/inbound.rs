use crate::frame::{
    ClientFrame, Envelope, Seal, decode_client_frame, decode_engine_message, decode_envelope,
};
use crate::replica::ReplicaConfig;
use crate::transfer::EngineMessage;
use crate::{Limits, RequestAuthPolicy, Room};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use althing_crypto::{Authenticator, Checked, Domain, Hasher, Keyring, Mac, Proof};
use althing_protocol::{
    CommitCertificate, Evidence, Message, Misbehaviour, Request, RequestAuth, RequestKind, SignedPart,
    Statement,
};
use althing_types::{ClientId, Digest, Epoch, Principal, Quorums, Recent, ReplicaId, decode};

/// A frame from a replica, opened and checked.
#[derive(Debug)]
pub(crate) enum Opened<M> {
    Protocol {
        message: M,
        proof: Option<Proof>,
        /// Of the sender, by its number: the one that the message was sealed with.
        key: u64,
    },
    Engine(EngineMessage),
    /// It was said in another epoch.
    Elsewhere(Epoch),
}

/// Why a frame from a replica was not let in.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Anybody could have made it.
    Unauthentic(&'static str),
    /// Only a faulty replica makes it.
    Caught(Evidence),
}

/// Opens frames: checks who sent them, and everything in them that somebody authenticated.
pub(crate) struct Opener {
    me: ReplicaId,
    epoch: Epoch,
    quorums: Quorums,
    limits: Limits,
    policy: RequestAuthPolicy,
    verified: Verified,
    /// Whose MACs were made with keys that this replica has replaced, or with none that it knows.
    outdated: BTreeSet<Principal>,
}

impl Opener {
    pub(crate) fn new(config: &ReplicaConfig) -> Self {
        Self {
            me: config.replica,
            epoch: config.epoch(),
            quorums: config.quorums,
            limits: config.limits.clone(),
            policy: config.engine.request_auth,
            verified: Verified::default(),
            outdated: BTreeSet::new(),
        }
    }

    /// Which requests it takes.
    pub(crate) fn policy(&self) -> RequestAuthPolicy {
        self.policy
    }

    pub(crate) fn set_policy(&mut self, policy: RequestAuthPolicy) {
        self.policy = policy;
    }

    /// Those who have yet to hear of this replica's key, as what was opened lately shows.
    pub(crate) fn take_outdated(&mut self) -> BTreeSet<Principal> {
        core::mem::take(&mut self.outdated)
    }

    /// Whether what was opened last from `who` had a MAC made with such keys.
    pub(crate) fn is_outdated(&self, who: Principal) -> bool {
        self.outdated.contains(&who)
    }

    /// Under which of its keys `from` made the MAC, if it did.
    fn key_of_mac(
        &mut self,
        keyring: &mut Keyring,
        (from, domain): (Principal, Domain),
        mac: &Mac,
        bytes: &[u8],
    ) -> Option<u64> {
        let checked = keyring.check_mac(from, mac, domain, bytes);
        // Whoever makes up the names of clients would fill the memory with them.
        if !matches!(checked, Checked::Good(_)) && keyring.public(from).is_some() {
            self.outdated.insert(from);
        }
        checked.key()
    }

    /// Opens a frame from replica `from`.
    pub(crate) fn open<M: Message>(
        &mut self,
        keyring: &mut Keyring,
        from: ReplicaId,
        bytes: &[u8],
    ) -> Result<Opened<M>, Refusal> {
        let envelope = decode_envelope(bytes, &self.limits)
            .map_err(|_| Refusal::Unauthentic("a frame is malformed or too long"))?;
        if let Some(links) = succession_in(&envelope) {
            return Ok(Opened::Engine(links));
        }
        if envelope.epoch != self.epoch {
            return Ok(Opened::Elsewhere(envelope.epoch));
        }
        if envelope.sender != from || from == self.me || !self.quorums.has(from) {
            return Err(Refusal::Unauthentic("a frame's sender is not who the channel belongs to"));
        }
        let Some(key) = self.key_of_seal(keyring, from, &envelope) else {
            return Err(Refusal::Unauthentic("a frame's authentication does not hold"));
        };
        match envelope.room {
            Room::Engine => match decode_engine_message(&envelope.body) {
                Ok(message) => Ok(Opened::Engine(message)),
                Err(_) => Err(caught(&envelope, Misbehaviour::InvalidMessage)),
            },
            Room::Protocol => self.open_protocol(keyring, envelope, key),
        }
    }

    /// The epoch in which a frame was said, and what it proves by itself.
    pub(crate) fn peek(&self, bytes: &[u8]) -> Result<(Epoch, Option<EngineMessage>), &'static str> {
        let envelope =
            decode_envelope(bytes, &self.limits).map_err(|_| "a frame is malformed or too long")?;
        Ok((envelope.epoch, succession_in(&envelope)))
    }

    /// Under which of its keys `from` sealed it, if it did. What is signed is under none: 0.
    fn key_of_seal(&mut self, keyring: &mut Keyring, from: ReplicaId, envelope: &Envelope) -> Option<u64> {
        let (sender, domain, body) = (Principal::Replica(from), envelope.room.domain(), &envelope.body);
        match &envelope.seal {
            Seal::Mac(mac) => self.key_of_mac(keyring, (sender, domain), mac, body),
            Seal::Macs(macs) if macs.0.len() == self.quorums.n() => {
                macs.mac_for(self.me).and_then(|mac| self.key_of_mac(keyring, (sender, domain), mac, body))
            }
            Seal::Macs(_) => None,
            Seal::Proof(proof) => keyring.verify(sender, proof, domain, body).then_some(0),
        }
    }

    fn open_protocol<M: Message>(
        &mut self,
        keyring: &mut Keyring,
        envelope: Envelope,
        key: u64,
    ) -> Result<Opened<M>, Refusal> {
        let Ok(mut message) = decode::<M>(&envelope.body, self.limits.settings().max_message_bytes) else {
            return Err(caught(&envelope, Misbehaviour::InvalidMessage));
        };
        let parts = message.signed_parts();
        let limits = self.limits.settings();
        let (requests, max_bytes) = (message.requests_mut(), limits.max_operation_bytes);
        let is_too_much = parts.len() > most_signed_parts(self.quorums)
            || requests.len() > limits.max_requests_per_message
            || requests.iter().any(|request| {
                request.operation.len() > max_bytes || request.answers.named() > self.quorums.n()
            });
        if is_too_much {
            return Err(caught(&envelope, Misbehaviour::InvalidMessage));
        }
        if !parts.iter().all(|part| self.is_genuine(keyring, part)) {
            return Err(caught(&envelope, Misbehaviour::Forgery));
        }
        for request in message.requests_mut() {
            request.is_authentic = self.is_authentic(keyring, request);
        }
        let proof = match envelope.seal {
            Seal::Proof(proof) => Some(proof),
            Seal::Mac(_) | Seal::Macs(_) => None,
        };
        Ok(Opened::Protocol { message, proof, key })
    }

    fn is_genuine(&mut self, keyring: &Keyring, part: &SignedPart) -> bool {
        let signer = Principal::Replica(part.signer);
        self.verified.check(signer, &part.bytes, &part.proof, Domain::Protocol, keyring)
    }

    /// Whether the client that `request` names made it, and may make such a one.
    fn is_authentic(&mut self, keyring: &mut Keyring, request: &Request) -> bool {
        let is_too_long = request.operation.len() > self.limits.settings().max_operation_bytes;
        // Nobody has checked what is in a bundle.
        let is_bundle = request.kind == RequestKind::Bundle;
        if is_too_long || is_bundle || request.answers.named() > self.quorums.n() {
            return false;
        }
        let (client, bytes) = (Principal::Client(request.client), request.signed_bytes());
        match (&request.auth, self.policy) {
            (RequestAuth::Signed(proof), _) => {
                self.verified.check(client, &bytes, proof, Domain::Request, keyring)
            }
            (RequestAuth::Macs(macs), RequestAuthPolicy::MacsOrSignature) => {
                macs.0.len() == self.quorums.n()
                    && macs
                        .mac_for(self.me)
                        .and_then(|mac| self.key_of_mac(keyring, (client, Domain::Request), mac, &bytes))
                        .is_some()
            }
            (RequestAuth::Macs(_), RequestAuthPolicy::SignatureOnly) => false,
        }
    }

    /// Whether `request` is its client's as its MACs say, and only lacks the signature that is asked for.
    fn lacks_signature(&mut self, keyring: &mut Keyring, request: &Request) -> bool {
        let is_to_be_signed = self.policy == RequestAuthPolicy::SignatureOnly;
        let RequestAuth::Macs(macs) = &request.auth else { return false };
        is_to_be_signed
            && request.operation.len() <= self.limits.settings().max_operation_bytes
            && self.is_macs_good(keyring, request.client, macs, (Domain::Request, request.signed_bytes()))
    }

    /// Whether one of the MACs is for this replica, and the client's over these bytes.
    fn is_macs_good(
        &mut self,
        keyring: &mut Keyring,
        client: ClientId,
        macs: &Authenticator,
        (domain, signed): (Domain, Vec<u8>),
    ) -> bool {
        let mac = macs.mac_for(self.me);
        mac.and_then(|mac| self.key_of_mac(keyring, (Principal::Client(client), domain), mac, &signed))
            .is_some()
    }

    /// Whether an agreement quorum has signed what this says they have.
    fn is_proven(&mut self, keyring: &Keyring, certificate: &CommitCertificate) -> bool {
        let bytes = certificate.speculation.statement();
        certificate.is_complete(self.quorums)
            && certificate.votes.iter().all(|(signer, proof)| {
                self.verified.check(Principal::Replica(*signer), &bytes, proof, Domain::Protocol, keyring)
            })
    }

    /// Opens a frame from client `from`. A request in it is authentic, or says that it is not and lacks nothing but a
    /// signature; a certificate is proven.
    pub(crate) fn open_client(
        &mut self,
        keyring: &mut Keyring,
        from: ClientId,
        bytes: &[u8],
    ) -> Result<ClientFrame, (&'static str, Epoch)> {
        if keyring.public(Principal::Client(from)).is_none() {
            return Err(("the client is not in the group's directory", self.epoch));
        }
        let frame = decode_client_frame(bytes, &self.limits)
            .map_err(|_| ("a client's frame is malformed or too long", self.epoch))?;
        let epoch = frame.epoch();
        self.check_client(keyring, from, frame).map_err(|reason| (reason, epoch))
    }

    fn check_client(
        &mut self,
        keyring: &mut Keyring,
        from: ClientId,
        mut frame: ClientFrame,
    ) -> Result<ClientFrame, &'static str> {
        let (client, is_authentic) = match &mut frame {
            ClientFrame::Request(request) | ClientFrame::Witness(request) | ClientFrame::Body(request) => {
                request.is_authentic = self.is_authentic(keyring, request);
                (request.client, request.is_authentic)
            }
            ClientFrame::Query(query) => {
                let signed = (Domain::Query, query.signed_bytes());
                let is_authentic = query.operation.len() <= self.limits.settings().max_operation_bytes
                    && self.is_macs_good(keyring, query.client, &query.macs, signed);
                (query.client, is_authentic)
            }
            ClientFrame::Prove(prove) => {
                let signed = (Domain::Prove, prove.signed_bytes());
                (prove.client, self.is_macs_good(keyring, prove.client, &prove.macs, signed))
            }
            ClientFrame::Certificate { client, certificate, .. } => {
                (*client, self.is_proven(keyring, certificate))
            }
        };
        if client != from {
            return Err("a frame's client is not who the channel belongs to");
        }
        if let ClientFrame::Request(request) = &frame
            && !is_authentic
            && self.lacks_signature(keyring, request)
        {
            return Ok(frame);
        }
        if !is_authentic {
            return Err("a client's authentication does not hold, or is not of the kind asked for");
        }
        Ok(frame)
    }
}

/// The proof that an epoch has ended, if that is what the frame carries. Nobody has to have sealed it.
fn succession_in(envelope: &Envelope) -> Option<EngineMessage> {
    let is_engine = envelope.room == Room::Engine;
    let message = is_engine.then(|| decode_engine_message(&envelope.body).ok())??;
    matches!(message, EngineMessage::Succession(_)).then_some(message)
}

/// The most signed parts of a message that makes sense: a new view with a view change of each replica, each with
/// two certificates by each replica, and with one certificate for all of it. More would only burn time.
fn most_signed_parts(quorums: Quorums) -> usize {
    let n = quorums.n();
    n * (2 * n + 1) + n + 1
}

fn caught(envelope: &Envelope, misbehaviour: Misbehaviour) -> Refusal {
    let statements = match (&envelope.seal, envelope.room) {
        (Seal::Proof(proof), Room::Protocol) => {
            alloc::vec![Statement { bytes: envelope.body.clone(), proof: proof.clone() }]
        }
        _ => Vec::new(),
    };
    Refusal::Caught(Evidence { accused: envelope.sender, misbehaviour, statements })
}

/// Proofs that were found good lately: the same certificates and requests come again and again, and
/// checking a signature costs more than all else.
#[derive(Debug)]
struct Verified(Recent<Digest>);

impl Default for Verified {
    fn default() -> Self {
        Self(Recent::new(4096))
    }
}

impl Verified {
    fn check(
        &mut self,
        signer: Principal,
        bytes: &[u8],
        proof: &Proof,
        domain: Domain,
        keyring: &Keyring,
    ) -> bool {
        let mut hasher = Hasher::new("althing verified proof");
        hasher.value(&(signer, domain as u8, proof));
        hasher.bytes(bytes);
        let digest = hasher.finish();
        if self.0.has(&digest) {
            return true;
        }
        if !keyring.verify(signer, proof, domain, bytes) {
            return false;
        }
        self.0.add(digest);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, EngineSettings};
    use alloc::collections::BTreeMap;
    use althing_crypto::Identity;
    use althing_protocol::{Answers, RequestKind};
    use althing_types::{GroupId, RequestNumber};

    fn opener() -> (Opener, Keyring) {
        let public = |secret: u8| Identity::from_secret_bytes(&[secret; 64]).public();
        let clients = BTreeMap::from([(ClientId(7), public(7))]);
        let (me, identity) = (Principal::Replica(ReplicaId(0)), Identity::from_secret_bytes(&[1; 64]));
        let keyring = Keyring::new(GroupId([0; 16]), me, identity, [1, 2, 3, 4].map(public).into(), clients);
        let config = ReplicaConfig {
            replica: ReplicaId(0),
            quorums: Quorums::byzantine(4, 1).expect("four are enough"),
            keyring: keyring.clone(),
            limits: Limits::default(),
            engine: EngineSettings::default(),
            durability: Durability::None,
            membership: None,
        };
        (Opener::new(&config), keyring)
    }

    #[test]
    fn who_is_not_of_the_group_is_told_of_no_key() {
        let (mut opener, mut keyring) = opener();
        let mut outdated_after = |client| {
            let request = Request {
                client: ClientId(client),
                number: RequestNumber(1),
                kind: RequestKind::Service,
                operation: Vec::new(),
                epoch: Epoch(0),
                answers: Answers::All,
                auth: RequestAuth::Macs(Authenticator(alloc::vec![Mac::default(); 4])),
                is_authentic: false,
            };
            assert!(!opener.is_authentic(&mut keyring, &request));
            opener.take_outdated()
        };
        assert_eq!(outdated_after(7), BTreeSet::from([Principal::Client(ClientId(7))]));
        assert_eq!(outdated_after(8), BTreeSet::new(), "a replica could make up as many as it likes");
    }
}
