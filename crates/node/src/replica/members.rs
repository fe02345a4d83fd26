//! The members of a replica's group, as they change.

use std::mem;
use std::time::Duration;

use althing_crypto::PublicIdentity;
use althing_replica::Input;
use althing_replica::membership::Membership;
use althing_types::{Epoch, Principal, Quorums, ReplicaId};
use tokio::time::Instant;

use super::runtime::{NodeProtocol, Runtime};
use crate::config::ReplicaFile;
use crate::roster::Roster;

/// How long a replica stays connected with those that have left, so that they hear of it.
const FAREWELL: Duration = Duration::from_secs(10);

/// Who the members are, and who was one.
#[derive(Debug)]
pub(super) struct Members {
    roster: Roster,
    epoch: Epoch,
    me: ReplicaId,
    quorums: Quorums,
    /// Those that have left and are still connected with, and until when.
    leaving: Vec<Principal>,
    farewell_at: Option<Instant>,
}

impl Members {
    pub(super) fn new(file: &ReplicaFile, roster: Roster) -> Self {
        let (me, quorums) = (file.replica(), file.group().quorums());
        let epoch = file.group().membership().map_or(Epoch(0), |membership| membership.epoch);
        Self { roster, epoch, me, quorums, leaving: Vec::new(), farewell_at: None }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Which replica this is.
    pub(super) fn me(&self) -> ReplicaId {
        self.me
    }

    pub(super) fn quorums(&self) -> Quorums {
        self.quorums
    }

    /// Whom the network knows as `to`.
    pub(super) fn route(&self, to: Principal) -> Option<Principal> {
        self.roster.route(to)
    }

    /// Whom the network knows by this key.
    pub(super) fn slot_of(&self, key: &PublicIdentity) -> Option<Principal> {
        self.roster.slot_of(key)
    }

    /// The members, as the network knows them.
    pub(super) fn present(&self) -> Vec<Principal> {
        self.roster.present()
    }

    pub(super) fn farewell_at(&self) -> Option<Instant> {
        self.farewell_at
    }
}

impl<P: NodeProtocol> Runtime<P> {
    /// What came over a channel, as the engine takes it.
    pub(super) fn arrival(&self, from: Principal, session: u16, bytes: Vec<u8>) -> Option<Input> {
        let from = match from {
            Principal::Client(owner) => Principal::Client(self.file.group().session(owner, session)?),
            Principal::Replica(slot) => match self.members.roster.place(slot) {
                Some(place) => Principal::Replica(place),
                None => {
                    let from = Box::new(*self.members.roster.key(slot)?);
                    return Some(Input::Stray { from, bytes });
                }
            },
        };
        Some(Input::Frame { from, bytes })
    }

    pub(super) fn on_replica_connected(&mut self, slot: ReplicaId) {
        if let Some(place) = self.members.roster.place(slot) {
            self.handle(Input::Connected(Principal::Replica(place)));
        }
    }

    /// The replica is number `me` of another membership from now on.
    pub(super) fn enter(&mut self, membership: Membership, me: ReplicaId) {
        let members = &mut self.members;
        let before = members.roster.present();
        members.roster.enter(&membership);
        let present = members.roster.present();
        members.leaving.extend(before.into_iter().filter(|id| !present.contains(id)));
        members.leaving.retain(|id| !present.contains(id));
        // Where the group file knows of a later epoch, its members can show the way there.
        let latest = self.file.group().membership().map(|known| known.epoch);
        let is_behind = latest.is_some_and(|latest| membership.epoch < latest);
        let farewell = !members.leaving.is_empty() && !is_behind;
        members.farewell_at = farewell.then(|| Instant::now() + FAREWELL);
        (members.epoch, members.me, members.quorums) = (membership.epoch, me, membership.quorums());
        self.network.set_peers(&members.roster.peers(&members.leaving));
        let (epoch, n) = (membership.epoch, membership.members.len());
        tracing::info!(%epoch, replica = %me, n, "the members of the group have changed");
    }

    /// Hangs up on those that left a while ago. They may call, if they have not heard of it.
    pub(super) fn say_farewell(&mut self) {
        let members = &mut self.members;
        if members.farewell_at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        members.farewell_at = None;
        let leaving = mem::take(&mut members.leaving);
        let mut peers = members.roster.peers(&[]);
        if self.replica.is_retired() {
            peers.iter_mut().for_each(|peer| peer.is_dialled = false);
        }
        self.network.set_peers(&peers);
        leaving.into_iter().for_each(|id| self.network.hang_up(id));
    }

    /// The replica has no place any more. It goes on to listen, to show clients and replicas the way.
    pub(super) fn on_retired(&mut self, epoch: Epoch) {
        let members = &mut self.members;
        // Those that stay have to hear last what there is to hear.
        members.leaving = members.roster.present();
        members.farewell_at = Some(Instant::now() + FAREWELL);
        tracing::warn!(%epoch, "this replica has no place any more; it may be stopped once the others are in the epoch");
    }
}
