use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use althing_types::Principal;
use tokio::sync::oneshot;

use super::{
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
    configured: bool,
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
    fn new(configured: bool) -> Self {
        Self { configured, counters: Arc::default(), connection: None }
    }

    /// The outbox of the current connection.
    pub(super) fn outbox(&self) -> Option<&Outbox> {
        self.connection.as_ref().map(|connection| &*connection.outbox)
    }
}

impl Peers {
    pub(super) fn new(configured: impl Iterator<Item = Principal>) -> Self {
        let entries = configured.map(|peer| (peer, Entry::new(true))).collect();
        Self { state: Mutex::new(PeersState { entries, departed: PeerStats::default() }) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, PeersState> {
        self.state.lock().expect("no holder panics")
    }

    pub(super) fn is_configured(&self, peer: Principal) -> bool {
        self.lock().get(peer).is_some_and(|entry| entry.configured)
    }
}

impl PeersState {
    pub(super) fn get(&self, peer: Principal) -> Option<&Entry> {
        self.entries.get(&peer)
    }

    /// Puts a connection in the peer's place. Returns its counters, and what resolves when a newer
    /// connection takes the place.
    pub(super) fn connect(
        &mut self,
        peer: Principal,
        number: u64,
        outbox: Arc<Outbox>,
    ) -> (Arc<Counters>, oneshot::Receiver<()>) {
        let entry = self.entries.entry(peer).or_insert_with(|| Entry::new(false));
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
        let is_gone = |entry: &Entry| !entry.configured && entry.connection.is_none();
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
