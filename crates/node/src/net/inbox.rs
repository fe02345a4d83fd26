use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use althing_types::Principal;
use bytes::Bytes;
use tokio::sync::Notify;

use super::config::{Limits, QueueLimit};
use super::envelope::Enveloped;
use crate::channel::Role;

/// What a network reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetEvent {
    /// A connection to this peer stands. Also when a newer one has replaced an older, in which
    /// case `Disconnected` comes first.
    Connected(Principal),
    /// The connection is lost. Every frame received on it has been reported before.
    Disconnected(Principal),
    /// A frame, authenticated as sent by this peer.
    Frame {
        /// The sender.
        from: Principal,
        /// The session of the client at either end; 0 between replicas.
        session: u16,
        /// The content.
        bytes: Bytes,
    },
}

/// The events of a network, to be read by one task.
#[derive(Debug)]
pub struct NetEvents {
    pub(super) inbox: Arc<Inbox>,
}

impl NetEvents {
    /// The next event; `None` after the network has been shut down. A cancelled call loses nothing.
    pub async fn recv(&mut self) -> Option<NetEvent> {
        loop {
            // Finished is read first: nothing is added after it.
            let finished = self.inbox.lock().finished;
            if let Some(event) = self.try_recv() {
                return Some(event);
            }
            if finished {
                return None;
            }
            self.inbox.ready.notified().await;
        }
    }

    /// The next event if there is one.
    pub fn try_recv(&mut self) -> Option<NetEvent> {
        self.inbox.lock().pop()
    }
}

impl Drop for NetEvents {
    fn drop(&mut self) {
        // Nobody will make room any more; what connections still receive is thrown away.
        self.inbox.lock().abandon();
    }
}

/// The events waiting to be read: a bounded lane for each peer, emptied in turns.
pub(super) struct Inbox {
    limits: Limits,
    state: Mutex<State>,
    ready: Notify,
}

/// A newer connection has taken the lane: the older has to end.
#[derive(Debug)]
pub(super) struct Stale;

#[derive(Default)]
struct State {
    lanes: HashMap<Principal, Lane>,
    /// The lanes that have events, replicas' and clients' apart.
    turns: [VecDeque<Principal>; 2],
    /// Which of `turns` comes first next time.
    next: usize,
    generations: u64,
    finished: bool,
    abandoned: bool,
}

struct Lane {
    limit: QueueLimit,
    /// The connection that fills the lane.
    connection: Option<u64>,
    events: VecDeque<LaneEvent>,
    frames: usize,
    bytes: usize,
    room: Arc<Notify>,
    /// Whether the connection waits for room.
    waiting: bool,
    /// Whether the lane is among the turns: exactly when it has events.
    scheduled: bool,
}

#[derive(PartialEq, Eq)]
enum LaneEvent {
    Connected,
    Disconnected,
    Frame(Enveloped),
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

impl Inbox {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default(), ready: Notify::new() }
    }

    /// Opens the peer's lane for a new connection, and returns the connection's number. Frames of
    /// an older one that wait are kept; it can add no more.
    pub(super) fn open(&self, peer: Principal) -> u64 {
        let mut state = self.lock();
        state.generations += 1;
        let number = state.generations;
        let lane = state.lanes.entry(peer).or_insert_with(|| Lane::new(self.limits.queue(peer)));
        if lane.connection.replace(number).is_some() {
            lane.push_disconnected();
        }
        lane.waiting = false;
        lane.room = Arc::default();
        lane.events.push_back(LaneEvent::Connected);
        state.schedule(peer);
        drop(state);
        self.ready.notify_one();
        number
    }

    /// Closes the lane if it still belongs to this connection.
    pub(super) fn close(&self, peer: Principal, number: u64) {
        let mut state = self.lock();
        let abandoned = state.abandoned;
        let Some(lane) = state.lanes.get_mut(&peer).filter(|lane| lane.connection == Some(number)) else {
            return;
        };
        lane.connection = None;
        lane.push_disconnected();
        if abandoned || lane.events.is_empty() {
            // There is no reader, or it never learned of the connection.
            state.lanes.remove(&peer);
            state.turns[class_of(peer)].retain(|other| *other != peer);
        } else {
            state.schedule(peer);
        }
        drop(state);
        self.ready.notify_one();
    }

    /// Adds the frames to the lane, waiting for room where there is none. A cancelled call leaves
    /// those not added in `frames`.
    pub(super) async fn deliver(
        &self,
        peer: Principal,
        number: u64,
        frames: &mut VecDeque<Enveloped>,
    ) -> Result<(), Stale> {
        while !frames.is_empty() {
            let room = self.deliver_some(peer, number, frames)?;
            if let Some(room) = room {
                room.notified().await;
            }
        }
        Ok(())
    }

    /// Adds as many frames as there is room for; returns what to wait for if some are left.
    fn deliver_some(
        &self,
        peer: Principal,
        number: u64,
        frames: &mut VecDeque<Enveloped>,
    ) -> Result<Option<Arc<Notify>>, Stale> {
        let mut state = self.lock();
        if state.abandoned {
            frames.clear();
            return Ok(None);
        }
        let lane = state.lanes.get_mut(&peer).filter(|lane| lane.connection == Some(number));
        let lane = lane.ok_or(Stale)?;
        while lane.limit.has_room(lane.frames, lane.bytes) {
            let Some(frame) = frames.pop_front() else { break };
            lane.frames += 1;
            lane.bytes += frame.bytes.len();
            lane.events.push_back(LaneEvent::Frame(frame));
        }
        lane.waiting = !frames.is_empty();
        let room = lane.waiting.then(|| Arc::clone(&lane.room));
        state.schedule(peer);
        drop(state);
        self.ready.notify_one();
        Ok(room)
    }

    /// How many clients have a lane: those connected, and those gone with events unread.
    pub(super) fn clients(&self) -> usize {
        self.lock().lanes.keys().filter(|peer| matches!(peer, Principal::Client(_))).count()
    }

    /// Whether the peer has a lane.
    pub(super) fn contains(&self, peer: Principal) -> bool {
        self.lock().lanes.contains_key(&peer)
    }

    /// Ends the events once the waiting ones are read. Nothing may be added afterwards.
    pub(super) fn finish(&self) {
        self.lock().finished = true;
        self.ready.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl State {
    fn pop(&mut self) -> Option<NetEvent> {
        let first = self.next;
        let class = [first, 1 - first].into_iter().find(|&class| !self.turns[class].is_empty())?;
        self.next = 1 - class;
        let peer = self.turns[class].pop_front()?;
        let lane = self.lanes.get_mut(&peer).expect("a lane with a turn exists");
        let event = lane.pop().expect("a lane with a turn has events");
        lane.scheduled = false;
        if lane.events.is_empty() && lane.connection.is_none() {
            self.lanes.remove(&peer);
        } else {
            self.schedule(peer);
        }
        Some(match event {
            LaneEvent::Connected => NetEvent::Connected(peer),
            LaneEvent::Disconnected => NetEvent::Disconnected(peer),
            LaneEvent::Frame(Enveloped { session, bytes }) => NetEvent::Frame { from: peer, session, bytes },
        })
    }

    /// Gives the lane a turn if it has events.
    fn schedule(&mut self, peer: Principal) {
        let lane = self.lanes.get_mut(&peer).expect("the caller has just used it");
        if !lane.scheduled && !lane.events.is_empty() {
            lane.scheduled = true;
            self.turns[class_of(peer)].push_back(peer);
        }
    }

    /// Throws everything away: nobody will read it.
    fn abandon(&mut self) {
        self.abandoned = true;
        self.turns.iter_mut().for_each(VecDeque::clear);
        for lane in self.lanes.values_mut() {
            lane.events.clear();
            (lane.frames, lane.bytes, lane.scheduled) = (0, 0, false);
            lane.room.notify_one();
        }
        self.lanes.retain(|_, lane| lane.connection.is_some());
    }
}

impl Lane {
    fn new(limit: QueueLimit) -> Self {
        Self {
            limit,
            connection: None,
            events: VecDeque::new(),
            frames: 0,
            bytes: 0,
            room: Arc::default(),
            waiting: false,
            scheduled: false,
        }
    }

    /// Adds the end of a connection, or takes back its beginning if that has not been read: so a
    /// peer that connects over and over fills nothing.
    fn push_disconnected(&mut self) {
        if self.events.back() == Some(&LaneEvent::Connected) {
            self.events.pop_back();
        } else {
            self.events.push_back(LaneEvent::Disconnected);
        }
    }

    fn pop(&mut self) -> Option<LaneEvent> {
        let event = self.events.pop_front()?;
        if let LaneEvent::Frame(frame) = &event {
            self.frames -= 1;
            self.bytes -= frame.bytes.len();
        }
        // Half the lane at once, so that a full lane does not wake its connection for every frame.
        let has_much_room = self.frames <= self.limit.frames / 2 && self.bytes <= self.limit.bytes / 2;
        if self.waiting && has_much_room {
            self.waiting = false;
            self.room.notify_one();
        }
        Some(event)
    }
}

fn class_of(peer: Principal) -> usize {
    match Role::from(peer) {
        Role::Replica => 0,
        Role::Client => 1,
    }
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
