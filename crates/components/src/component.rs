use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// What every replica agrees on about the event that a component takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComponentContext {
    /// Agreed time: nanoseconds since the Unix epoch, never running backwards.
    pub time_ns: u64,
    /// Agreed randomness, another one for each event. Known to everybody: no secret may rest on it.
    pub seed: [u8; 32],
}

/// An event on an output port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputEvent {
    /// The port.
    pub port: String,
    /// What it carries.
    pub value: Value,
}

impl OutputEvent {
    /// An event on `port` that carries `value`.
    pub fn new(port: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { port: port.into(), value: value.into() }
    }
}

/// Why a component did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ComponentError {
    /// The component refuses the event, and does so at every replica in the same words. The event
    /// is dropped and counted.
    #[error("the component refuses this: {0}")]
    Refused(String),
    /// This replica's component no longer works, whatever the others do: its process died, or it
    /// answers nonsense. The replica has to stop and recover.
    #[error("the component of this replica is broken: {0}")]
    Broken(String),
}

/// A deterministic piece of an application: events in, events out.
///
/// Two components that were made alike and took the same events in the same contexts give the same
/// outputs and the same snapshots. Nothing but its state, the event and the context may influence
/// it: no clock, no randomness of its own, no order of a hash map, no file.
pub trait Component: Send {
    /// Takes the event that arrived at `port` and returns the events that it causes.
    ///
    /// # Errors
    /// [`ComponentError::Refused`] for an event that makes no sense, [`ComponentError::Broken`]
    /// when nothing can be expected from this component any more.
    fn on_event(
        &mut self,
        port: &str,
        value: &Value,
        context: &ComponentContext,
    ) -> Result<Vec<OutputEvent>, ComponentError>;

    /// The whole state as bytes: equal states give equal bytes.
    ///
    /// # Errors
    /// [`ComponentError::Broken`] when the state can't be had.
    fn snapshot(&mut self) -> Result<Vec<u8>, ComponentError>;

    /// Replaces the state by one that [`Component::snapshot`] gave elsewhere.
    ///
    /// # Errors
    /// [`ComponentError::Refused`] when the bytes are no such state, which is then unchanged, or
    /// [`ComponentError::Broken`].
    fn restore(&mut self, state: &[u8]) -> Result<(), ComponentError>;
}
