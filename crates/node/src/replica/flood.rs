use std::collections::VecDeque;
use std::time::Duration;

use althing_replica::{Envelope, Room, Seal};
use althing_types::{Epoch, Principal, ReplicaId, encode};
use bytes::Bytes;
use tokio::time::Instant;

use crate::config::ReplicaFile;
use crate::control::Flood;
use crate::net::NetworkHandle;

/// How often frames are added to those that wait to be sent.
const EVERY: Duration = Duration::from_millis(1);

/// Frames that wait to be sent to each of the others: what the replica has to say itself finds room.
const WAITING: usize = 256;

/// Different frames that are sent in turn.
const FRAMES: usize = 64;

/// The length of what means nothing.
const FRAME_LEN: usize = 200;

/// A flood that a replica was told to send the others: as many frames as they take.
#[derive(Debug)]
pub(super) struct Flooding {
    kind: Flood,
    network: NetworkHandle,
    /// The other replicas, by the network's names.
    others: Vec<Principal>,
    frames: VecDeque<Bytes>,
    at: Instant,
}

impl Flooding {
    /// A flood from the replica of this file, which is `me` in this epoch.
    pub(super) fn new(
        kind: Flood,
        file: &ReplicaFile,
        (epoch, me): (Epoch, ReplicaId),
        (network, others): (NetworkHandle, Vec<Principal>),
    ) -> Result<Self, getrandom::Error> {
        let mut frames = VecDeque::new();
        while kind != Flood::Repeats && frames.len() < FRAMES {
            let mut noise = vec![0; FRAME_LEN];
            getrandom::fill(&mut noise)?;
            frames.push_back(match kind {
                Flood::Signatures => badly_signed(file, (epoch, me), noise).into(),
                Flood::Garbage | Flood::Repeats => noise.into(),
            });
        }
        Ok(Self { kind, network, others, frames, at: Instant::now() })
    }

    /// The replica sends this, which may be worth repeating.
    pub(super) fn has_sent(&mut self, to: Principal, frame: &Bytes) {
        if self.kind == Flood::Repeats && matches!(to, Principal::Replica(_)) {
            self.frames.truncate(FRAMES - 1);
            self.frames.push_front(frame.clone());
        }
    }

    /// When more is to be sent.
    pub(super) fn next(&self) -> Instant {
        self.at + EVERY
    }

    /// Sends more, if it is time.
    pub(super) fn pour(&mut self, now: Instant) {
        if self.next() > now {
            return;
        }
        self.at = now;
        for &to in &self.others {
            for _ in self.network.backlog(to)..WAITING {
                let Some(frame) = self.frames.pop_front() else { return };
                let _ = self.network.send(to, frame.clone());
                self.frames.push_back(frame);
            }
        }
    }
}

/// A statement with the signature of another one.
fn badly_signed(file: &ReplicaFile, (epoch, me): (Epoch, ReplicaId), body: Vec<u8>) -> Vec<u8> {
    let room = Room::Protocol;
    let proof = file.identity().sign_in(file.group().id(), room.domain(), b"another one");
    encode(&Envelope { epoch, sender: me, room, seal: Seal::Proof(proof), body })
}
