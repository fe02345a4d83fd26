//! The links between sites, on one machine: a process that all traffic between them goes through, and that
//! imposes on it what a wide-area network does.
//!
//! For each site and each server of another one it listens at an address of its own, and connects whoever comes to
//! that server. What a site sends, on whichever connection and in whichever direction that was opened, waits for
//! its turn on the site's one uplink ([`Uplink`]), which all connections share in turn; then it is under way for
//! as long as the link is ([`flow`]). What is in the stream is nobody's business here: channels go through end to end.
//!
//! - *Bounded.* Of each direction of a connection at most [`flow::WINDOW`] bytes are held. Where that is full
//!   nothing more is read, and the sender's own socket fills up.
//! - *In order.* A connection is a stream before and after.
//! - *Charged* is what the connections carry. What the network would add for its own headers isn't.
//!
//! Links can be made faulty while they run ([`LinkFault`](crate::control::LinkFault)). One that is cut keeps its connections and
//! what is under way: to both ends it looks like a network that drops everything.

mod flow;
mod pair;
mod run;
mod uplink;
mod way;

#[cfg(test)]
mod tests;

pub use run::{LinksError, run_links};

use uplink::Uplink;
