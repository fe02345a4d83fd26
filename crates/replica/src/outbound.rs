use crate::announced::Announced;
use crate::frame::{ClientMessage, Envelope, ReplyFrame, Room, Seal, frame_bytes};
use crate::io::Output;
use crate::replica::ReplicaConfig;
use crate::tamper::{Outgoing, Tamper};
use crate::transfer::EngineMessage;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::{Domain, Keyring, Mac, NewKey, Proof};
use althing_protocol::{Auth, Message};
use althing_types::{ClientId, Epoch, Instant, Principal, Quorums, ReplicaId, encode};

/// Seals what leaves, and lets a [`Tamper`] have its way with it first.
pub(crate) struct Outbound<M> {
    me: ReplicaId,
    epoch: Epoch,
    quorums: Quorums,
    pub(crate) keyring: Keyring,
    announced: Announced,
    tamper: Option<Box<dyn Tamper<M> + Send>>,
}

impl<M: Message> Outbound<M> {
    pub(crate) fn new(config: &ReplicaConfig) -> Self {
        Self {
            me: config.replica,
            epoch: config.epoch(),
            quorums: config.quorums,
            keyring: config.keyring.clone(),
            announced: Announced::new(config.limits.settings().key_repeat),
            tamper: None,
        }
    }

    pub(crate) fn set_tamper(&mut self, tamper: Option<Box<dyn Tamper<M> + Send>>) {
        self.tamper = tamper;
    }

    pub(crate) fn take_tamper(&mut self) -> Option<Box<dyn Tamper<M> + Send>> {
        self.tamper.take()
    }

    /// A proof of this replica's over `message`.
    pub(crate) fn prove(&self, message: &M) -> Proof {
        self.keyring.sign(Domain::Protocol, &encode(message))
    }

    /// Sends `message` to all other replicas, sealed once for all; gives back the proof, if it is
    /// to be transferable.
    pub(crate) fn broadcast(&mut self, message: &M, auth: Auth, outputs: &mut Vec<Output>) -> Option<Proof> {
        let body = encode(message);
        let proof = (auth == Auth::Transferable).then(|| self.keyring.sign(Domain::Protocol, &body));
        let me = self.me;
        let others = self.quorums.replicas().filter(move |id| *id != me);
        if self.tamper.is_some() {
            for to in others {
                self.send(to, message.clone(), auth, outputs);
            }
            return proof;
        }
        let seal = match &proof {
            Some(proof) => Seal::Proof(proof.clone()),
            None => Seal::Macs(self.keyring.authenticate(Domain::Protocol, &body)),
        };
        let frame = frame_bytes(&self.enclosed(Room::Protocol, seal, body));
        outputs.extend(others.map(|to| Output::Send { to: Principal::Replica(to), frame: frame.clone() }));
        proof
    }

    /// Sends `message` to one other replica.
    pub(crate) fn send(&mut self, to: ReplicaId, message: M, auth: Auth, outputs: &mut Vec<Output>) {
        self.dispatch(Principal::Replica(to), Outgoing::Protocol(message, auth), outputs);
    }

    /// Sends a message of the engine to one other replica.
    pub(crate) fn send_engine(&mut self, to: ReplicaId, message: EngineMessage, outputs: &mut Vec<Output>) {
        self.dispatch(Principal::Replica(to), Outgoing::Engine(message), outputs);
    }

    /// Tells `to` of this replica's key, unless it was told a moment ago or there is none.
    pub(crate) fn announce(&mut self, now: Instant, to: Principal, outputs: &mut Vec<Output>) {
        if let Some(new_key) = self.keyring.announcement().cloned()
            && to != Principal::Replica(self.me)
            && self.announced.is_due(now, to, new_key.counter)
        {
            self.dispatch(to, self.announcement(to, new_key), outputs);
        }
    }

    /// The clients that know a key of this replica's.
    pub(crate) fn told_clients(&self) -> impl Iterator<Item = Principal> {
        self.announced.told().filter(|who| matches!(who, Principal::Client(_)))
    }

    fn announcement(&self, to: Principal, new_key: NewKey) -> Outgoing<M> {
        match to {
            Principal::Replica(to) => {
                let known = self.keyring.announced(to).cloned();
                Outgoing::Engine(EngineMessage::NewKey { new_key, known })
            }
            Principal::Client(_) => Outgoing::Client(ClientMessage::NewKey(new_key)),
        }
    }

    /// What a client has to hear first, to believe what follows.
    fn seal_announcement(&mut self, to: ClientId) -> Vec<Arc<[u8]>> {
        let to = Principal::Client(to);
        match self.keyring.announcement().cloned() {
            Some(new_key) if self.announced.is_first(to, new_key.counter) => {
                let announcement = self.announcement(to, new_key);
                self.seal_tampered(to, announcement)
            }
            _ => Vec::new(),
        }
    }

    /// Sends `message` to a client.
    pub(crate) fn send_client(&mut self, to: ClientId, message: ClientMessage, outputs: &mut Vec<Output>) {
        let first = self.seal_announcement(to);
        outputs.extend(first.into_iter().map(|frame| Output::Send { to: Principal::Client(to), frame }));
        self.dispatch(Principal::Client(to), Outgoing::Client(message), outputs);
    }

    /// The frames that carry `message` to a client: one, unless there is a tamper or the client has yet
    /// to hear of this replica's key.
    pub(crate) fn seal_client(&mut self, to: ClientId, message: ClientMessage) -> Vec<Arc<[u8]>> {
        let mut frames = self.seal_announcement(to);
        frames.extend(self.seal_tampered(Principal::Client(to), Outgoing::Client(message)));
        frames
    }

    fn dispatch(&mut self, to: Principal, message: Outgoing<M>, outputs: &mut Vec<Output>) {
        let frames = self.seal_tampered(to, message);
        outputs.extend(frames.into_iter().map(|frame| Output::Send { to, frame }));
    }

    fn seal_tampered(&mut self, to: Principal, message: Outgoing<M>) -> Vec<Arc<[u8]>> {
        let messages = match &mut self.tamper {
            Some(tamper) => tamper.tamper(to, message),
            None => alloc::vec![message],
        };
        messages.into_iter().filter_map(|message| self.seal(to, message)).collect()
    }

    /// Nothing where `to` is not of the group, or not of the kind that gets such messages.
    fn seal(&mut self, to: Principal, message: Outgoing<M>) -> Option<Arc<[u8]>> {
        match message {
            Outgoing::Protocol(message, auth) => self.envelope(to, Room::Protocol, encode(&message), auth),
            // Who does not know the key yet can't check a MAC.
            Outgoing::Engine(message @ EngineMessage::NewKey { .. }) => {
                self.envelope(to, Room::Engine, encode(&message), Auth::Transferable)
            }
            Outgoing::Engine(message) => self.envelope(to, Room::Engine, encode(&message), Auth::Mac),
            Outgoing::Client(message) => {
                let body = encode(&message);
                let mac = self.keyring.mac(to, Domain::Reply, &body)?;
                Some(frame_bytes(&ReplyFrame { replica: self.me, mac, body }))
            }
        }
    }

    fn envelope(&mut self, to: Principal, room: Room, body: Vec<u8>, auth: Auth) -> Option<Arc<[u8]>> {
        let seal = match auth {
            Auth::Mac => Seal::Mac(self.keyring.mac(to, room.domain(), &body)?),
            Auth::Transferable => Seal::Proof(self.keyring.sign(room.domain(), &body)),
        };
        Some(frame_bytes(&self.enclosed(room, seal, body)))
    }

    fn enclosed(&self, room: Room, seal: Seal, body: Vec<u8>) -> Envelope {
        Envelope { epoch: self.epoch, sender: self.me, room, seal, body }
    }

    /// The frames that carry a message which stands for itself to a replica that is not of the epoch.
    pub(crate) fn seal_stray(&mut self, message: EngineMessage) -> Vec<Arc<[u8]>> {
        let nobody = Principal::Replica(ReplicaId(u16::MAX));
        let messages = match &mut self.tamper {
            Some(tamper) => tamper.tamper(nobody, Outgoing::Engine(message)),
            None => alloc::vec![Outgoing::Engine(message)],
        };
        let frame = |message| match message {
            Outgoing::Engine(message) => {
                Some(frame_bytes(&self.enclosed(Room::Engine, Seal::Mac(Mac::default()), encode(&message))))
            }
            _ => None,
        };
        messages.into_iter().filter_map(frame).collect()
    }
}
