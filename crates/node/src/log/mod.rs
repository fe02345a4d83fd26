//! The disk of one replica: what must survive the power failing.
//!
//! What is written when, and what a replica may start from, is decided by [`althing_replica::storage`];
//! here is what it takes a machine for:
//!
//! - [`Files`] is a [`Storage`](althing_replica::storage::Storage) of real files;
//! - [`LogThread`] owns a log on a thread of its own and commits in groups.

mod background;
mod error;
mod files;
mod thread;

pub use error::{LogError, Operation};
pub use files::Files;
pub use thread::{LogClosed, LogEvent, LogThread};
