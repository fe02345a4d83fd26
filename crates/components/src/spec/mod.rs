//! The spec file: what an application consists of, or a system of sites, in YAML.
//!
//! [`Spec::parse`] is the only way to an [`Application`] or a [`SiteSystem`]. It deserialises into raw structs
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
pub mod sites;
mod topic;

pub use application::{Application, BrokerAddress, ComponentSpec, End, Implementation, Replication, Wire};
pub use problem::{Problem, Problems, Severity, Span};
pub use rule::{Choice, Direction, Named, Rule};
pub use sites::{LinkSpec, ReplicationProtocol, SiteService, SiteSpec, SiteSystem, Updates};

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

/// The shortest time for one replica to recover before the next has its turn, in seconds.
pub const LEAST_TURN_S: i64 = 2;

/// The longest time in which each replica recovers once, in seconds: a year.
pub const MOST_RECOVERY_S: i64 = 365 * 24 * 3600;

/// The prefix of a wire's end that is MQTT.
const MQTT_PREFIX: &str = "mqtt:";

/// What a spec file describes.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// Components and the wires between them.
    Application(Application),
    /// A service that sites replicate.
    Sites(SiteSystem),
}

impl Spec {
    /// Reads and checks a spec file.
    ///
    /// # Errors
    /// Every rule that `text` breaks, in the order of the file.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        if shape::is_of_sites(text) {
            let raw = shape::read(text)?;
            return sites::check(text, &raw).map(Self::Sites);
        }
        Application::parse(text).map(Self::Application)
    }

    /// The name of what it describes.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Application(application) => application.name(),
            Self::Sites(system) => system.name(),
        }
    }

    /// What is allowed but probably not meant.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        match self {
            Self::Application(application) => application.warnings(),
            Self::Sites(system) => system.warnings(),
        }
    }

    /// The JSON Schema of the spec file, for editors.
    #[must_use]
    pub fn json_schema() -> serde_json::Value {
        let mut schema = schemars::schema_for!(RawSpec);
        // Optional keys are absent by default, not null.
        let mut without_default = RecursiveTransform(|schema: &mut Schema| {
            schema.remove("default");
        });
        without_default.transform(&mut schema);
        schema.to_value()
    }
}

/// A spec file as its schema describes it.
#[derive(schemars::JsonSchema)]
#[schemars(title = "Althing spec file", untagged)]
#[expect(dead_code, clippy::large_enum_variant, reason = "only its schema is used")]
enum RawSpec {
    Application(raw::RawApplication),
    Sites(sites::RawSites),
}

impl Application {
    /// Reads and checks a spec file of an application.
    ///
    /// # Errors
    /// Every rule that `text` breaks, in the order of the file.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        let raw = shape::read(text)?;
        check::check(text, &raw)
    }
}
