use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use althing_types::Principal;
use bytes::Bytes;
use tokio::sync::Notify;

use super::config::{Limits, QueueLimit};
use super::envelope::Enveloped;
use super::fair::Turns;
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

impl NetEvent {
    /// How long its frame is, if it is one.
    fn bytes(&self) -> usize {
        match self {
            Self::Frame { bytes, .. } => bytes.len(),
            Self::Connected(_) | Self::Disconnected(_) => 0,
        }
    }
}

/// The events of a network, to be read by one task.
#[derive(Debug)]
pub struct NetEvents {
    inbox: Arc<Inbox>,
    /// What the last event cost the reader.
    cost: Duration,
}

impl NetEvents {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, cost: Duration::ZERO }
    }

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
        let cost = std::mem::take(&mut self.cost);
        self.inbox.lock().pop(cost)
    }

    /// Tells how long the reader was busy with the last event. Peers that wait get as much of the reader's
    /// time as each other: the longer it is busy with their events, the more rarely it reads one of theirs.
    pub fn charge(&mut self, cost: Duration) {
        self.cost = cost;
    }
}

/// What the arrival of an event, and of each byte of it, counts for: about what it costs the tasks that
/// receive and decrypt it, which nobody measures.
const ARRIVAL_NS: u64 = 1000;
const ARRIVAL_OF_BYTE_NS: u64 = 1;

/// What an event may cost the reader at most, beside what its bytes do: whoever is being served when the
/// system gives the processor to somebody else can't help it.
const MOST_COST_NS: u64 = 1_000_000;
const MOST_COST_OF_BYTE_NS: u64 = 2;

impl Drop for NetEvents {
    fn drop(&mut self) {
        // Nobody will make room any more; what connections still receive is thrown away.
        self.inbox.lock().abandon();
    }
}

/// The events waiting to be read: a bounded lane for each peer. Replicas together, clients together, and each
/// among its like have turns that come to as much of the reader's time.
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
    /// Replicas' and clients' apart.
    classes: [Class; 2],
    /// The classes that have lanes with events.
    turns: Turns<usize>,
    /// Whose event was read last, and how many bytes that had.
    served: Option<(Principal, usize)>,
    generations: u64,
    finished: bool,
    abandoned: bool,
}

#[derive(Default)]
struct Class {
    /// The lanes that have events.
    turns: Turns<Principal>,
    used_ns: u64,
    turn: Turn,
}

struct Lane {
    limit: QueueLimit,
    /// The connection that fills the lane.
    connection: Option<u64>,
    events: VecDeque<LaneEvent>,
    frames: usize,
    bytes: usize,
    used_ns: u64,
    turn: Turn,
    room: Arc<Notify>,
    /// Whether the connection waits for room.
    waiting: bool,
}

/// Whether a lane or a class waits for its turn, which it does when it has events. While it has it, it is not
/// known yet what that costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Turn {
    #[default]
    None,
    Waits,
    Has,
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
            state.classes[class_of(peer)].turns.remove(&peer);
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
    /// The next event, after one that cost the reader so much.
    fn pop(&mut self, cost: Duration) -> Option<NetEvent> {
        self.settle(cost);
        let peer = self.next()?;
        let lane = self.lanes.get_mut(&peer).expect("a lane that waits exists");
        let event = lane.pop().expect("a lane that waits has events");
        lane.turn = Turn::Has;
        if lane.events.is_empty() && lane.connection.is_none() {
            self.lanes.remove(&peer);
        }
        let event = match event {
            LaneEvent::Connected => NetEvent::Connected(peer),
            LaneEvent::Disconnected => NetEvent::Disconnected(peer),
            LaneEvent::Frame(Enveloped { session, bytes }) => NetEvent::Frame { from: peer, session, bytes },
        };
        self.served = Some((peer, event.bytes()));
        Some(event)
    }

    /// Ends the last turn, now that it is known what it cost.
    fn settle(&mut self, cost: Duration) {
        let Some((peer, bytes)) = self.served.take() else { return };
        let cost = turn_ns(cost, bytes);
        let class = &mut self.classes[class_of(peer)];
        class.used_ns += cost;
        class.turn = Turn::None;
        // It may be another lane by now, which then has not had a turn.
        if let Some(lane) = self.lanes.get_mut(&peer).filter(|lane| lane.turn == Turn::Has) {
            lane.used_ns += cost;
            lane.turn = Turn::None;
            self.schedule(peer);
        }
        self.schedule_class(class_of(peer));
    }

    /// The peer whose turn it is.
    fn next(&mut self) -> Option<Principal> {
        loop {
            let class = &mut self.classes[self.turns.next()?];
            if let Some(peer) = class.turns.next() {
                class.turn = Turn::Has;
                return Some(peer);
            }
            // All of its lanes are gone.
            class.turn = Turn::None;
        }
    }

    /// Has the lane wait for its turn if it has events.
    fn schedule(&mut self, peer: Principal) {
        let lane = self.lanes.get_mut(&peer).expect("the caller has just used it");
        if lane.turn == Turn::None && !lane.events.is_empty() {
            let class = &mut self.classes[class_of(peer)];
            lane.turn = Turn::Waits;
            lane.used_ns = class.turns.wait(peer, lane.used_ns);
            self.schedule_class(class_of(peer));
        }
    }

    fn schedule_class(&mut self, number: usize) {
        let class = &mut self.classes[number];
        if class.turn == Turn::None && !class.turns.is_empty() {
            class.turn = Turn::Waits;
            class.used_ns = self.turns.wait(number, class.used_ns);
        }
    }

    /// Throws everything away: nobody will read it.
    fn abandon(&mut self) {
        self.abandoned = true;
        self.turns.clear();
        for class in &mut self.classes {
            class.turns.clear();
        }
        for lane in self.lanes.values_mut() {
            lane.events.clear();
            (lane.frames, lane.bytes) = (0, 0);
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
            used_ns: 0,
            turn: Turn::None,
            room: Arc::default(),
            waiting: false,
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

/// What a turn counts for.
fn turn_ns(cost: Duration, bytes: usize) -> u64 {
    let bytes = bytes as u64;
    let cost = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX);
    ARRIVAL_NS + ARRIVAL_OF_BYTE_NS * bytes + cost.min(MOST_COST_NS + MOST_COST_OF_BYTE_NS * bytes)
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
