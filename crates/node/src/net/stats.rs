use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use althing_types::Principal;

/// What has passed between this node and one peer, or all of some kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// Frames handed to the operating system.
    pub sent_frames: u64,
    /// Bytes in these.
    pub sent_bytes: u64,
    /// Frames received, whether taken up by the events' reader or not.
    pub received_frames: u64,
    /// Bytes in these.
    pub received_bytes: u64,
    /// Frames to this peer that were dropped: the queue was full, there was no connection, it was
    /// lost with frames in the queue, or the frame was too long.
    pub dropped_frames: u64,
    /// Connections established; all but the first were reconnections.
    pub connections: u64,
}

/// The counters of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkStats {
    /// Every peer configured and every client connected.
    pub peers: Vec<(Principal, PeerStats)>,
    /// The sum over the clients that are no longer connected.
    pub departed: PeerStats,
    /// Frames dropped because their addressee is neither configured nor connected.
    pub unroutable_frames: u64,
    /// Connections refused in the handshake: wrong protocol, key, group or role, or too late.
    pub refused: u64,
    /// Connections closed in the handshake to make room for newer ones.
    pub evicted: u64,
}

/// Counters in use.
#[derive(Debug, Default)]
pub(super) struct Counters {
    sent_frames: AtomicU64,
    sent_bytes: AtomicU64,
    received_frames: AtomicU64,
    received_bytes: AtomicU64,
    dropped_frames: AtomicU64,
    connections: AtomicU64,
}

impl Counters {
    pub(super) fn sent(&self, frames: usize, bytes: usize) {
        self.sent_frames.fetch_add(frames as u64, Relaxed);
        self.sent_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn received(&self, frames: usize, bytes: usize) {
        self.received_frames.fetch_add(frames as u64, Relaxed);
        self.received_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn dropped(&self, frames: usize) {
        self.dropped_frames.fetch_add(frames as u64, Relaxed);
    }

    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> PeerStats {
        PeerStats {
            sent_frames: self.sent_frames.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            received_frames: self.received_frames.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
            dropped_frames: self.dropped_frames.load(Relaxed),
            connections: self.connections.load(Relaxed),
        }
    }
}

impl std::ops::AddAssign for PeerStats {
    fn add_assign(&mut self, other: Self) {
        self.sent_frames += other.sent_frames;
        self.sent_bytes += other.sent_bytes;
        self.received_frames += other.received_frames;
        self.received_bytes += other.received_bytes;
        self.dropped_frames += other.dropped_frames;
        self.connections += other.connections;
    }
}
