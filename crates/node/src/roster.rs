//! Who is who on the network, while the members of a group change.
//!
//! A replica's number is its place in the present epoch. On the network it goes by its key, and by a *slot*
//! that it keeps as long as the process runs: a connection outlives the epoch in which it was made. In a
//! group whose members do not change, slots and numbers are the same.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use althing_crypto::PublicIdentity;
use althing_replica::membership::Membership;
use althing_types::{Principal, ReplicaId};

use crate::channel::PublicKey;
use crate::config::GroupConfig;
use crate::net::{Directory, Peer};

type Owners = BTreeMap<PublicKey, Principal>;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Roster {
    /// Who this is.
    me: Principal,
    own_key: PublicIdentity,
    /// By slot.
    known: Vec<Known>,
    /// The slots of the present epoch's replicas, by number.
    places: Vec<u16>,
    /// Slots and clients by channel key, for the network.
    owners: Arc<RwLock<Owners>>,
}

#[derive(Debug)]
struct Known {
    key: PublicIdentity,
    /// `None` where nobody can listen.
    address: Option<SocketAddr>,
}

impl Roster {
    /// Who is who in `group`, as its file says, for `me` who has `own_key`.
    pub(crate) fn new(group: &GroupConfig, me: Principal, own_key: PublicIdentity) -> Self {
        let known = group.replicas().iter().map(|r| Known { key: r.key, address: Some(r.address) });
        let replicas = group.quorums().replicas().map(Principal::Replica).zip(group.replicas());
        let replicas = replicas.map(|(id, replica)| (channel_key(&replica.key), id));
        let clients = group.clients().iter().map(|(id, c)| (channel_key(&c.key), Principal::Client(*id)));
        Self {
            me,
            own_key,
            known: known.collect(),
            places: group.quorums().replicas().map(|id| id.0).collect(),
            owners: Arc::new(RwLock::new(replicas.chain(clients).collect())),
        }
    }

    /// Whom the network lets in.
    pub(crate) fn directory(&self) -> Directory {
        let owners = Arc::clone(&self.owners);
        Arc::new(move |key| owners.read().expect("no writer panics").get(key).copied())
    }

    /// The slot of a replica of the present epoch; clients go by their own ids.
    pub(crate) fn route(&self, to: Principal) -> Option<Principal> {
        match to {
            Principal::Replica(place) => {
                self.places.get(usize::from(place.0)).map(|slot| Principal::Replica(ReplicaId(*slot)))
            }
            client @ Principal::Client(_) => Some(client),
        }
    }

    /// The number that who has this slot has in the present epoch.
    pub(crate) fn place(&self, slot: ReplicaId) -> Option<ReplicaId> {
        let place = self.places.iter().position(|held| *held == slot.0)?;
        u16::try_from(place).ok().map(ReplicaId)
    }

    /// The key of who has this slot.
    pub(crate) fn key(&self, slot: ReplicaId) -> Option<&PublicIdentity> {
        self.known.get(usize::from(slot.0)).map(|known| &known.key)
    }

    /// The slot of who has this key.
    pub(crate) fn slot_of(&self, key: &PublicIdentity) -> Option<Principal> {
        let slot = self.known.iter().position(|known| known.key == *key)?;
        u16::try_from(slot).ok().map(|slot| Principal::Replica(ReplicaId(slot)))
    }

    /// The slots of the present epoch's replicas.
    pub(crate) fn present(&self) -> Vec<Principal> {
        self.places.iter().map(|slot| Principal::Replica(ReplicaId(*slot))).collect()
    }

    /// Goes over to another membership.
    pub(crate) fn enter(&mut self, membership: &Membership) {
        self.places.clear();
        for member in &membership.members {
            let address = member.address.parse().ok();
            if address.is_none() {
                tracing::error!(address = member.address, "a member has an address that is none");
            }
            let slot = self.known.iter().position(|known| known.key == member.key).unwrap_or_else(|| {
                self.known.push(Known { key: member.key, address });
                self.known.len() - 1
            });
            self.known[slot].address = address;
            let slot = u16::try_from(slot).expect("a process does not outlive so many members");
            self.places.push(slot);
            let id = Principal::Replica(ReplicaId(slot));
            self.owners.write().expect("no reader panics").insert(channel_key(&member.key), id);
        }
    }

    /// With whom to be connected: the present epoch's replicas, and `also`. Whoever else is known may call,
    /// to be told that there has been a change.
    pub(crate) fn peers(&self, also: &[Principal]) -> Vec<Peer> {
        let own = channel_key(&self.own_key);
        let is_client = matches!(self.me, Principal::Client(_));
        let present = self.present();
        let peer = |(slot, known): (u16, &Known)| {
            let (id, key) = (Principal::Replica(ReplicaId(slot)), channel_key(&known.key));
            let is_wanted = present.contains(&id) || also.contains(&id);
            let address = known.address.filter(|_| id != self.me && (is_wanted || !is_client))?;
            // Who dials follows from the keys, on which both sides agree.
            Some(Peer { id, address, key, is_dialled: is_wanted && (is_client || own < key) })
        };
        (0..).zip(&self.known).filter_map(peer).collect()
    }
}

fn channel_key(identity: &PublicIdentity) -> PublicKey {
    PublicKey(identity.exchange_bytes())
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
