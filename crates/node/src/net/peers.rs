use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use althing_types::Principal;
use tokio::sync::oneshot;

use super::{
    config::Peer,
    outbox::Outbox,
    stats::{Counters, PeerStats},
};

/// Everybody configured or connected, with the current connection.
pub(super) struct Peers {
    state: Mutex<PeersState>,
}

#[derive(Default)]
pub(super) struct PeersState {
    entries: HashMap<Principal, Entry>,
    departed: PeerStats,
}

pub(super) struct Entry {
    /// `None` for who is only let in.
    peer: Option<Peer>,
    pub(super) counters: Arc<Counters>,
    connection: Option<Connection>,
}

struct Connection {
    number: u64,
    outbox: Arc<Outbox>,
    /// Dropped when a newer connection takes the place, which tells the older to end.
    _in_place: oneshot::Sender<()>,
}

impl Entry {
    fn new(peer: Option<Peer>) -> Self {
        Self { peer, counters: Arc::default(), connection: None }
    }

    /// The outbox of the current connection.
    pub(super) fn outbox(&self) -> Option<&Outbox> {
        self.connection.as_ref().map(|connection| &*connection.outbox)
    }
}

impl Peers {
    pub(super) fn new(configured: &[Peer]) -> Self {
        let entries = configured.iter().map(|peer| (peer.id, Entry::new(Some(*peer)))).collect();
        Self { state: Mutex::new(PeersState { entries, departed: PeerStats::default() }) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, PeersState> {
        self.state.lock().expect("no holder panics")
    }

    /// Whether it is for this peer to dial.
    pub(super) fn is_awaited(&self, peer: Principal) -> bool {
        let state = self.lock();
        state.get(peer).and_then(|entry| entry.peer).is_some_and(|configured| !configured.is_dialled)
    }
}

impl PeersState {
    pub(super) fn get(&self, peer: Principal) -> Option<&Entry> {
        self.entries.get(&peer)
    }

    /// Has these for peers from now on. Connections of replicas that are none end.
    pub(super) fn configure(&mut self, peers: &[Peer]) {
        self.entries.values_mut().for_each(|entry| entry.peer = None);
        for peer in peers {
            self.entries.entry(peer.id).or_insert_with(|| Entry::new(None)).peer = Some(*peer);
        }
        let is_dropped = |(id, entry): &(&Principal, &mut Entry)| {
            matches!(id, Principal::Replica(_)) && entry.peer.is_none()
        };
        let mut dropped = Vec::new();
        for (id, entry) in self.entries.iter_mut().filter(is_dropped) {
            entry.connection = None;
            dropped.push(*id);
        }
        dropped.into_iter().for_each(|id| self.remove_departed(id));
    }

    /// Ends the connection of a peer, which may come back.
    pub(super) fn hang_up(&mut self, peer: Principal) {
        if let Some(entry) = self.entries.get_mut(&peer) {
            entry.connection = None;
        }
    }

    /// Puts a connection in the peer's place. Returns its counters, and what resolves when a newer
    /// connection takes the place.
    pub(super) fn connect(
        &mut self,
        peer: Principal,
        number: u64,
        outbox: Arc<Outbox>,
    ) -> (Arc<Counters>, oneshot::Receiver<()>) {
        let entry = self.entries.entry(peer).or_insert_with(|| Entry::new(None));
        let (in_place, replaced) = oneshot::channel();
        entry.connection = Some(Connection { number, outbox, _in_place: in_place });
        entry.counters.connected();
        (Arc::clone(&entry.counters), replaced)
    }

    /// Takes this connection out of the peer's place, if it still holds it.
    pub(super) fn release(&mut self, peer: Principal, number: u64) {
        if let Some(entry) = self.entries.get_mut(&peer) {
            entry.connection.take_if(|connection| connection.number == number);
        }
    }

    /// Forgets a peer that is neither configured nor connected, but for its counters.
    pub(super) fn remove_departed(&mut self, peer: Principal) {
        let is_gone = |entry: &Entry| entry.peer.is_none() && entry.connection.is_none();
        if self.entries.get(&peer).is_some_and(is_gone) {
            let counters = self.entries.remove(&peer).map(|entry| entry.counters.read());
            self.departed += counters.unwrap_or_default();
        }
    }

    /// The counters of each, by id, and those of the departed.
    pub(super) fn stats(&self) -> (Vec<(Principal, PeerStats)>, PeerStats) {
        let entries = self.entries.iter();
        let mut peers: Vec<_> = entries.map(|(peer, entry)| (*peer, entry.counters.read())).collect();
        peers.sort_by_key(|(peer, _)| *peer);
        (peers, self.departed)
    }
}
