use crate::frame::{ClientMessage, Envelope, ReplyFrame, Room, Seal, frame_bytes};
use crate::io::Output;
use crate::replica::ReplicaConfig;
use crate::tamper::{Outgoing, Tamper};
use crate::transfer::EngineMessage;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::{Domain, Keyring, Proof};
use althing_protocol::{Auth, Message};
use althing_types::{ClientId, Principal, Quorums, ReplicaId, encode};

/// Seals what leaves, and lets a [`Tamper`] have its way with it first.
pub(crate) struct Outbound<M> {
    me: ReplicaId,
    quorums: Quorums,
    keyring: Keyring,
    tamper: Option<Box<dyn Tamper<M> + Send>>,
}

impl<M: Message> Outbound<M> {
    pub(crate) fn new(config: &ReplicaConfig) -> Self {
        Self { me: config.replica, quorums: config.quorums, keyring: config.keyring.clone(), tamper: None }
    }

    pub(crate) fn set_tamper(&mut self, tamper: Option<Box<dyn Tamper<M> + Send>>) {
        self.tamper = tamper;
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
        let frame = frame_bytes(&Envelope { sender: self.me, room: Room::Protocol, seal, body });
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

    /// Sends `message` to a client.
    pub(crate) fn send_client(&mut self, to: ClientId, message: ClientMessage, outputs: &mut Vec<Output>) {
        self.dispatch(Principal::Client(to), Outgoing::Client(message), outputs);
    }

    /// The frames that carry `message` to a client: one, unless there is a tamper.
    pub(crate) fn seal_client(&mut self, to: ClientId, message: ClientMessage) -> Vec<Arc<[u8]>> {
        self.seal_tampered(Principal::Client(to), Outgoing::Client(message))
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
    fn seal(&self, to: Principal, message: Outgoing<M>) -> Option<Arc<[u8]>> {
        match message {
            Outgoing::Protocol(message, auth) => self.envelope(to, Room::Protocol, encode(&message), auth),
            Outgoing::Engine(message) => self.envelope(to, Room::Engine, encode(&message), Auth::Mac),
            Outgoing::Client(message) => {
                let body = encode(&message);
                let mac = self.keyring.mac(to, Domain::Reply, &body)?;
                Some(frame_bytes(&ReplyFrame { replica: self.me, mac, body }))
            }
        }
    }

    fn envelope(&self, to: Principal, room: Room, body: Vec<u8>, auth: Auth) -> Option<Arc<[u8]>> {
        let seal = match auth {
            Auth::Mac => Seal::Mac(self.keyring.mac(to, room.domain(), &body)?),
            Auth::Transferable => Seal::Proof(self.keyring.sign(room.domain(), &body)),
        };
        Some(frame_bytes(&Envelope { sender: self.me, room, seal, body }))
    }
}
