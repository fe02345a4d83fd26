//! The append-only log of one replica: what must survive the power failing.
//!
//! - [`record`] is the format and the parser, pure and fit for fuzzing;
//! - [`Log`] is one file, opened, appended to in groups and replaced atomically;
//! - [`LogThread`] owns a [`Log`] on a thread of its own and commits in groups.

mod error;
mod file;
pub mod record;
mod thread;

pub use error::{LogError, Operation};
pub use file::{Log, LogOptions, Recovery};
pub use thread::{LogClosed, LogEvent, LogThread};
