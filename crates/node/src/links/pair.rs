use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Uplink;
use crate::control::{LinkFault, PairReport};

/// A packet, as far as corruption is concerned, in bytes.
const PACKET_BYTES: usize = 1500;

/// What goes from one site to another, and what is imposed on it.
#[derive(Debug)]
pub(super) struct Pair {
    delay: Duration,
    imposed: watch::Sender<Imposed>,
    figures: Figures,
}

/// What is imposed on a pair beside its usual delay.
#[derive(Debug, Clone, Default)]
struct Imposed {
    fault: LinkFault,
    /// The rate of the pair itself, where the fault gives it one.
    throttle: Option<Arc<Uplink>>,
}

#[derive(Debug, Default)]
struct Figures {
    connections: AtomicU64,
    delivered: AtomicU64,
    held: AtomicU64,
    corrupted: AtomicU64,
}

impl Pair {
    /// One on which everything is under way for `delay`.
    pub(super) fn new(delay: Duration) -> Self {
        Self { delay, imposed: watch::Sender::new(Imposed::default()), figures: Figures::default() }
    }

    /// Makes it faulty, or mends it.
    pub(super) fn impose(&self, fault: LinkFault) {
        let throttle = match fault {
            LinkFault::Slow { bps: Some(bps), .. } => Some(Arc::new(Uplink::new(Some(bps.max(1))))),
            _ => None,
        };
        self.imposed.send_replace(Imposed { fault, throttle });
    }

    /// Waits while it is cut.
    pub(super) async fn until_open(&self) {
        if self.imposed.borrow().fault == LinkFault::Cut {
            let mut imposed = self.imposed.subscribe();
            // The sender is here.
            let _ = imposed.wait_for(|imposed| imposed.fault != LinkFault::Cut).await;
        }
    }

    /// Waits until the time that `when` says, which is asked anew whenever what is imposed changes.
    pub(super) async fn until(&self, when: impl Fn() -> Instant) {
        let mut imposed = self.imposed.subscribe();
        loop {
            tokio::select! {
                () = sleep_until(when()) => return,
                // The sender is here.
                _ = imposed.changed() => {}
            }
        }
    }

    /// How long what leaves now is under way.
    pub(super) fn delay(&self) -> Duration {
        match self.imposed.borrow().fault {
            LinkFault::Slow { delay_ms, .. } => self.delay + Duration::from_millis(delay_ms),
            _ => self.delay,
        }
    }

    /// The rate of the pair itself, where it has one.
    pub(super) fn throttle(&self) -> Option<Arc<Uplink>> {
        self.imposed.borrow().throttle.clone()
    }

    /// Whether that is the rate that it still has.
    pub(super) fn has_throttle(&self, throttle: &Arc<Uplink>) -> bool {
        self.imposed.borrow().throttle.as_ref().is_some_and(|own| Arc::ptr_eq(own, throttle))
    }

    /// Flips a bit in some of the packets, where that is imposed.
    pub(super) fn corrupt(&self, bytes: &mut [u8]) {
        let LinkFault::Corrupt { per_mille } = self.imposed.borrow().fault else { return };
        for packet in bytes.chunks_mut(PACKET_BYTES) {
            if fastrand::u16(0..1000) < per_mille {
                let at = fastrand::usize(0..packet.len());
                packet[at] ^= 1 << fastrand::u8(0..8);
                self.figures.corrupted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts a connection for as long as what this gives is kept.
    pub(super) fn connection(self: &Arc<Self>) -> Counted {
        self.figures.connections.fetch_add(1, Ordering::Relaxed);
        Counted { pair: Arc::clone(self), what: What::Connection }
    }

    /// Counts so many bytes as held for as long as what this gives is kept.
    pub(super) fn held(self: &Arc<Self>, bytes: usize) -> Counted {
        self.figures.held.fetch_add(bytes as u64, Ordering::Relaxed);
        Counted { pair: Arc::clone(self), what: What::Held(bytes as u64) }
    }

    /// Counts so many bytes as delivered.
    pub(super) fn delivered(&self, bytes: usize) {
        self.figures.delivered.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Where it stands.
    pub(super) fn report(&self, from: &str, to: &str) -> PairReport {
        let load = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        PairReport {
            from: from.to_owned(),
            to: to.to_owned(),
            connections: load(&self.figures.connections),
            delivered_bytes: load(&self.figures.delivered),
            held_bytes: load(&self.figures.held),
            corrupted: load(&self.figures.corrupted),
            fault: self.imposed.borrow().fault,
        }
    }
}

/// Something that counts until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    pair: Arc<Pair>,
    what: What,
}

#[derive(Debug)]
enum What {
    Connection,
    Held(u64),
}

impl Drop for Counted {
    fn drop(&mut self) {
        let figures = &self.pair.figures;
        match self.what {
            What::Connection => figures.connections.fetch_sub(1, Ordering::Relaxed),
            What::Held(bytes) => figures.held.fetch_sub(bytes, Ordering::Relaxed),
        };
    }
}
