//! The side of Althing that an application meets: the component model, the spec file, the planner
//! that re-wires an application into replica groups, and the [`ComponentService`] that a group runs.
//!
//! Nothing here opens a socket, starts a thread or process, or reads a clock: that is the node's.

mod builtins;
mod component;
mod courier;
mod edge;
mod outbox;
pub mod plan;
pub mod process;
pub mod program;
mod service;
pub mod spec;
mod value;
mod voter;

pub use builtins::{Builtin, BuiltinError};
pub use component::{Component, ComponentContext, ComponentError, OutputEvent};
pub use courier::Courier;
pub use edge::{EdgeError, EdgeVoter};
pub use outbox::{MAX_OUTBOX_BYTES, MAX_OUTBOX_EVENTS};
pub use plan::{Plan, SitePlan, WireId};
pub use service::{
    ComponentService, Incoming, MAX_EVENTS_PER_DELIVERY, MAX_OPERATION_BYTES, MAX_OUTPUTS_BYTES,
    MAX_OUTPUTS_PER_EVENT, MAX_REPLY_BYTES, MAX_SNAPSHOT_BYTES, NumberedEvent, Operation, Outgoing,
    OutputCopy, Refusal, Reply, ServiceTable, Sink, Source,
};
pub use spec::{Application, SiteSystem, Spec};
pub use value::{MAX_EVENT_BYTES, PortType, ValueError, canonical, parse};
pub use voter::{Offer, VOTER_WINDOW, Voter};
