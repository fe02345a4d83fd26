//! What a server of a site has beside its replica: a station, which speaks to the other servers of the system and
//! puts what it hears in order, as a client of the replica's own group.
//!
//! It has two networks of its own. Over the one it is with all other servers of the system, those of its own site
//! too. Over the other it is a client of its own group, with a session for each lane: to the group it is as any
//! other, as bounded and as fairly served. So the network of the group itself knows nothing of sites.

mod attend;
mod late;
mod machine;
mod part;

pub(super) use machine::SiteMachine;
pub(super) use part::{SitePart, next_arrival};
