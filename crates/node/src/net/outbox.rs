use std::{collections::VecDeque, sync::Mutex};

use tokio::sync::Notify;

use super::config::QueueLimit;
use super::envelope::Enveloped;

/// What became of a frame given to [`NetworkHandle::send`](super::NetworkHandle::send).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is in the queue of the peer's connection.
    Queued,
    /// Dropped: the queue is full.
    Full,
    /// Dropped: the peer is not connected.
    NotConnected,
    /// Dropped: it is longer than any peer accepts.
    TooLong,
}

/// The frames waiting to be sent on one connection.
pub(super) struct Outbox {
    limit: QueueLimit,
    queue: Mutex<Queue>,
    ready: Notify,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Enveloped>,
    bytes: usize,
    /// Frames taken, but not known to be sent.
    taken: usize,
}

impl Outbox {
    pub(super) fn new(limit: QueueLimit) -> Self {
        Self { limit, queue: Mutex::default(), ready: Notify::new() }
    }

    pub(super) fn push(&self, frame: Enveloped) -> Sent {
        let mut queue = self.queue.lock().expect("no holder panics");
        if !self.limit.has_room(queue.frames.len(), queue.bytes) {
            return Sent::Full;
        }
        queue.bytes += frame.bytes.len();
        queue.frames.push_back(frame);
        if queue.frames.len() == 1 {
            self.ready.notify_one();
        }
        Sent::Queued
    }

    /// Moves frames to `batch` until it has at least `min_bytes` or none is left.
    pub(super) fn take(&self, batch: &mut Vec<Enveloped>, min_bytes: usize) {
        let mut queue = self.queue.lock().expect("no holder panics");
        let mut taken = 0;
        while taken < min_bytes {
            let Some(frame) = queue.frames.pop_front() else { break };
            queue.bytes -= frame.bytes.len();
            // An empty frame costs something too.
            taken += frame.bytes.len().max(1);
            batch.push(frame);
            queue.taken += 1;
        }
    }

    /// What was taken has been sent.
    pub(super) fn taken_are_sent(&self) {
        self.queue.lock().expect("no holder panics").taken = 0;
    }

    /// Waits until there may be a frame. Meant for one task.
    pub(super) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// How many frames have not been sent.
    pub(super) fn unsent(&self) -> usize {
        let queue = self.queue.lock().expect("no holder panics");
        queue.frames.len() + queue.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(len: usize) -> Enveloped {
        Enveloped { session: 0, bytes: vec![0; len].into() }
    }

    #[test]
    fn frames_and_bytes_are_bounded() {
        let outbox = Outbox::new(QueueLimit { frames: 3, bytes: 10 });
        assert_eq!(outbox.push(frame(4)), Sent::Queued);
        assert_eq!(outbox.push(frame(100)), Sent::Queued);
        assert_eq!(outbox.push(frame(0)), Sent::Full);
        let mut batch = Vec::new();
        outbox.take(&mut batch, 1000);
        assert_eq!((batch.len(), outbox.unsent()), (2, 2));
        outbox.taken_are_sent();
        assert_eq!(outbox.unsent(), 0);
        (0..3).for_each(|_| assert_eq!(outbox.push(frame(0)), Sent::Queued));
        assert_eq!(outbox.push(frame(0)), Sent::Full);
    }

    #[test]
    fn a_batch_ends_when_it_is_long_enough() {
        let outbox = Outbox::new(QueueLimit { frames: 100, bytes: 1000 });
        (0..10).for_each(|_| assert_eq!(outbox.push(frame(10)), Sent::Queued));
        let mut batch = Vec::new();
        outbox.take(&mut batch, 25);
        assert_eq!(batch.len(), 3);
        outbox.take(&mut batch, 25);
        assert_eq!((batch.len(), outbox.unsent()), (6, 10));
    }
}
