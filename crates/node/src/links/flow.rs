use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::Uplink;
use super::pair::{Counted, Pair};

/// The most bytes of one direction of a connection that are held, whatever keeps them.
pub(super) const WINDOW: usize = 1 << 20;

/// The most pieces of one direction of a connection that are held, as they were read.
const MAX_PIECES: usize = 1024;

/// How long before its last bytes have left a connection gives the uplink more. Timers are late now and then, and the
/// uplink must not stand still meanwhile.
const AHEAD: Duration = Duration::from_millis(10);

/// When some bytes have left, and how long they are under way. What a fault adds ends with the fault, also for those
/// that have left.
#[derive(Debug, Clone)]
struct Departure {
    /// When they have left the site.
    left: Instant,
    /// The rate that was imposed on their way, and when they have passed it.
    throttled: Option<(Arc<Uplink>, Instant)>,
    delay: Duration,
}

impl Departure {
    /// When the last of them has left, as things stand.
    fn over(&self, pair: &Pair) -> Instant {
        let throttled = self.throttled.as_ref().filter(|(throttle, _)| pair.has_throttle(throttle));
        throttled.map_or(self.left, |(_, passed)| self.left.max(*passed))
    }

    /// When they arrive at the earliest, as things stand.
    fn due(&self, pair: &Pair) -> Instant {
        self.over(pair) + self.delay.min(pair.delay())
    }
}

/// Some bytes under way.
struct Piece {
    bytes: Bytes,
    departure: Departure,
    _room: OwnedSemaphorePermit,
    _held: Counted,
}

/// One direction of a connection: from one site to another, over the uplink of the one.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub(super) pair: Arc<Pair>,
    pub(super) uplink: Arc<Uplink>,
}

impl Flow {
    /// Carries everything from `source` to `target`, and then its end.
    pub(super) async fn carry(self, source: OwnedReadHalf, target: OwnedWriteHalf) -> io::Result<()> {
        let (queue, under_way) = mpsc::channel(MAX_PIECES);
        tokio::try_join!(self.send(source, queue), self.deliver(under_way, target))?;
        Ok(())
    }

    /// Sends what comes from `source`, in turns with all others that use the uplink.
    async fn send(&self, source: OwnedReadHalf, queue: mpsc::Sender<Piece>) -> io::Result<()> {
        let room = Arc::new(Semaphore::new(WINDOW));
        let mut buffer = Vec::new();
        loop {
            let most = self.uplink.chunk_bytes();
            let permits = u32::try_from(most).expect("a turn is short");
            let mut room = Arc::clone(&room).acquire_many_owned(permits).await.expect("never closed");
            source.readable().await?;
            // What comes while the link is cut stays where it is, and so does the end.
            self.pair.until_open().await;
            buffer.resize(most, 0);
            let read = match source.try_read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            drop(room.split(most - read));
            let held = self.pair.held(read);
            let departure = self.leave(read).await;
            self.pair.corrupt(&mut buffer[..read]);
            let piece = Piece {
                bytes: Bytes::copy_from_slice(&buffer[..read]),
                departure: departure.clone(),
                _room: room,
                _held: held,
            };
            if queue.send(piece).await.is_err() {
                break;
            }
            self.pair.until(|| departure.over(&self.pair) - AHEAD).await;
        }
        Ok(())
    }

    /// When so many bytes leave, which is soon.
    async fn leave(&self, bytes: usize) -> Departure {
        let now = Instant::now();
        let throttled = self.pair.throttle().map(|throttle| {
            let passed = throttle.send(bytes, now);
            (throttle, passed)
        });
        let mut departure = Departure { left: now, throttled, delay: Duration::ZERO };
        if departure.throttled.is_some() {
            // The uplink is not kept from others by a pair that is slow.
            self.pair.until(|| departure.over(&self.pair) - AHEAD).await;
        }
        departure.left = self.uplink.send(bytes, Instant::now());
        departure.delay = self.pair.delay();
        departure
    }

    /// Brings what is under way to `target` when it is due.
    async fn deliver(
        &self,
        mut under_way: mpsc::Receiver<Piece>,
        mut target: OwnedWriteHalf,
    ) -> io::Result<()> {
        while let Some(piece) = under_way.recv().await {
            self.pair.until(|| piece.departure.due(&self.pair)).await;
            self.pair.until_open().await;
            target.write_all(&piece.bytes).await?;
            self.pair.delivered(piece.bytes.len());
        }
        // The end is under way as well.
        let end = Departure { left: Instant::now(), throttled: None, delay: self.pair.delay() };
        self.pair.until(|| end.due(&self.pair)).await;
        self.pair.until_open().await;
        target.shutdown().await
    }
}
