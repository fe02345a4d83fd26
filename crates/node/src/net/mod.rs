//! The network of one replica or client: a channel to each peer, kept up for ever.
//!
//! - Of two replicas one dials, as its peers say; clients dial every replica. A lost
//!   connection is dialled again with jittered, growing pauses.
//! - A newer connection of the same principal replaces the older.
//! - Sending never waits: each peer has a bounded queue, and what does not fit is dropped and
//!   counted. The protocols retransmit; a slow peer costs neither memory nor others' time.
//! - Receiving is fair: each peer has a bounded queue. Replicas together, clients together, and each among
//!   its like get as much of the reader's time while others wait, however many frames they send and
//!   whatever these cost (`fair.rs`). A peer whose queue is full is not read from until there is room.
//! - What strangers can cause is bounded: how many connections are in the handshake, and how much time
//!   goes into taking connections and computing handshakes. Callers from where members are known to call
//!   don't wait for others (`callers.rs`).

mod allowance;
mod backoff;
mod callers;
mod config;
mod connection;
mod dialler;
mod envelope;
mod fair;
mod half_open;
mod handle;
mod inbox;
mod listener;
mod outbox;
mod peers;
mod shared;
mod stats;
mod throttle;

pub use config::{ConfigError, Directory, Limits, NetworkConfig, Peer, QueueLimit, TimeShare, Timing};
pub use handle::{Network, NetworkHandle, StartError};
pub use inbox::{NetEvent, NetEvents};
pub use outbox::Sent;
pub use stats::{NetworkStats, PeerStats};

#[cfg(test)]
mod tests;
