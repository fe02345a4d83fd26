//! The control socket of a process: a Unix-domain socket that only its owner can open, over which
//! one JSON line asks and one JSON line answers.
//!
//! ```text
//! {"request":"status"}                              → {"response":"status","runs":"replica",…}
//! {"request":"inject","fault":{"kind":"delay","ms":200}} → {"response":"done"}
//! {"request":"inject_link","links":{"site":"vik"},"fault":{"kind":"cut"}} → {"response":"done"}
//! {"request":"shutdown"}                            → {"response":"done"}
//! ```

mod call;
mod links;
mod report;
mod server;
mod site_report;

pub use call::{ControlError, Fault, Flood, Request, Response, request};
pub use links::{LinkFault, LinkSelection, LinksReport, PairReport, UplinkReport};
pub use report::{
    Accused, EdgeGroupReport, EdgeReport, EvidenceReport, IncomingReport, OutgoingReport, RecoveryReport,
    ReplicaCounters, ReplicaReport, Role, Status,
};
pub(crate) use server::{ControlCall, ControlServer};
pub use site_report::{LinkReport, SiteReport};
