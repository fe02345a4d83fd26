//! The spec file: what an application consists of, in YAML.
//!
//! [`Application::parse`] is the only way to an [`Application`]. It deserialises into raw structs
//! whose fields know their place in the file, checks every rule, and reports each one that is
//! broken, with the place and the remedy. A file whose shape is wrong (no YAML, an unknown or missing
//! key, a list in place of a mapping) can't be checked further, so that a problem of that kind comes
//! alone.

mod advice;
mod application;
mod check;
mod nearest;
mod problem;
mod raw;
mod rule;
mod shape;
mod topic;

pub use application::{Application, BrokerAddress, ComponentSpec, End, Implementation, Replication, Wire};
pub use problem::{Problem, Problems, Severity, Span};
pub use rule::{Direction, Named, Rule};

use schemars::Schema;
use schemars::transform::{RecursiveTransform, Transform};

/// The longest spec file, in bytes.
pub const MAX_SPEC_BYTES: usize = 1024 * 1024;

/// The most components of an application.
pub const MAX_COMPONENTS: usize = 256;

/// The most wires of an application.
pub const MAX_WIRES: usize = 1024;

/// The most ports of a component, in one direction.
pub const MAX_PORTS: usize = 64;

/// The longest name of an application, component or port, in characters.
pub const MAX_NAME_CHARS: usize = 40;

/// The longest MQTT topic, in bytes.
pub const MAX_TOPIC_BYTES: usize = 1024;

/// The most Byzantine faults that a group can tolerate: n = 3f + 1 is at most 100.
pub const MAX_FAULTS: u16 = 33;

/// The shortest time for one replica to recover before the next has its turn, in seconds.
pub const LEAST_TURN_S: i64 = 2;

/// The longest time in which each replica recovers once, in seconds: a year.
pub const MOST_RECOVERY_S: i64 = 365 * 24 * 3600;

/// The prefix of a wire's end that is MQTT.
const MQTT_PREFIX: &str = "mqtt:";

impl Application {
    /// Reads and checks a spec file.
    ///
    /// # Errors
    /// Every rule that `text` breaks, in the order of the file.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        let raw = shape::read(text)?;
        check::check(text, &raw)
    }

    /// The JSON Schema of the spec file, for editors.
    #[must_use]
    pub fn json_schema() -> serde_json::Value {
        let mut schema = schemars::schema_for!(raw::RawApplication);
        // Optional keys are absent by default, not null.
        let mut without_default = RecursiveTransform(|schema: &mut Schema| {
            schema.remove("default");
        });
        without_default.transform(&mut schema);
        schema.to_value()
    }
}
