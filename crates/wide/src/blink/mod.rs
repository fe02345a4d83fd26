//! BLink: how one site's messages reach another although servers of both may be faulty, and are
//! normally sent once (Amir, Coan, Kirsch and Lane, SRDS'07 §5).
//!
//! A *logical link* leads from a site A of A' servers, of which F_A may be faulty, to a site B. It
//! consists of *virtual links*, each with a server of A as its *forwarder* and one of B as its *peer*. One of them
//! carries everything, until the servers of A find that too little is acknowledged and take the
//! next. [`SelectionOrder`] says which one that is; [`LinkWatch`] says when a server finds that it is time.
//!
//! | A, B | order | links in a row with a faulty server, at most | reached |
//! |---|---|---|---|
//! | Byzantine, Byzantine | L | 2 F_A | for each F_A, at F_B = F_A |
//! | Byzantine, benign | L | max(⌊2.5 F_A⌋, 3 F_A − 2) | for each F_A |
//! | benign, Byzantine | L | max(2 F_A − 1, ⌊5 F_A / 3⌋) | for F_A = 2 and each odd one; F_A = 4, 6, …: one less |
//! | benign, benign | peers in turn | F_A + F_B | always |
//!
//! for sites of 3F + 1 or 2F + 1 servers with A' ≥ B'. The exact number for any two sites is
//! [`SelectionOrder::most_faulty_in_a_row`]. The tests hold all of this, and the paper's properties 1 to 3, against
//! each placement of the faulty servers and each start, for F up to 3 and for all sites of up to 8 servers.
//!
//! # Deviations from the paper, and what it leaves open
//! - Its text and its Table 1 give two bounds for (benign, Byzantine). The text's holds, and is the one above; the
//!   table's, which repeats the line before, is never reached.
//! - It takes A' ≥ B' for granted. Where B is larger the order is turned round: the *peers* shift from one series to
//!   the next, and the bounds above hold with A and B exchanged. With the paper's order they don't: from a benign site of
//!   7 servers to a Byzantine one of 10 it has 9 links in a row with a faulty server, and this one 6.
//! - Progress is not a timeout for the first unacknowledged message, which a forwarder can meet with one message
//!   at a time. Each message has a time of its own by which it has to be acknowledged, and all of them together ask
//!   for a throughput ([`LinkWatch`]).
//! - Timeouts grow when a whole round of virtual links, one with two correct servers among them, was of no use: then
//!   it is the network that is slower than was thought. The paper has the network's bound unknown, and says
//!   nothing of it here.

mod config;
mod order;
mod progress;
mod watch;

pub use config::LinkConfig;
pub use order::{SelectionOrder, Servers, Suspect, TooFewServers, Turn, VirtualLink};
pub use progress::{LinkPace, LinkPaceError, LinkProgress};
pub use watch::{LinkWatch, Obligation};
