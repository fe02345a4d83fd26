use schemars::JsonSchema;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// An application for Althing: components, the wires between them, and MQTT topics at its edges.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Althing application", rename = "Application")]
pub(super) struct RawApplication {
    /// The application's name: lower-case letters, digits and `-`.
    #[schemars(with = "String", extend("pattern" = "^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"))]
    pub(super) name: Spanned<String>,
    /// The MQTT broker at the edges. Althing runs one itself when this is absent.
    #[serde(default)]
    pub(super) mqtt: Option<RawMqtt>,
    /// The components by name.
    #[schemars(with = "BTreeMap<String, RawComponent>")]
    pub(super) components: Spanned<Entries<RawComponent>>,
    /// The wires that carry events.
    #[serde(default)]
    #[schemars(with = "Vec<RawWire>")]
    pub(super) wires: Option<Spanned<Vec<Spanned<RawWire>>>>,
}

/// An MQTT broker.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Mqtt")]
pub(super) struct RawMqtt {
    /// Its address, `host:port`.
    #[schemars(with = "String")]
    pub(super) broker: Spanned<String>,
}

/// A component: either one that Althing ships (`builtin`) or any program (`process`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Component", extend("oneOf" = [{ "required": ["builtin"] }, { "required": ["process"] }]))]
pub(super) struct RawComponent {
    /// A component that Althing ships.
    #[serde(default)]
    #[schemars(with = "crate::builtins::Builtin")]
    pub(super) builtin: Option<Spanned<String>>,
    /// Settings of the builtin.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Value>")]
    pub(super) config: Option<Spanned<Entries<Spanned<Value>>>>,
    /// A program that speaks the line protocol, and its arguments.
    #[serde(default)]
    #[schemars(with = "Vec<String>", extend("minItems" = 1))]
    pub(super) process: Option<Spanned<Vec<Spanned<String>>>>,
    /// Input ports and their types. A builtin brings its own.
    #[serde(default, rename = "in")]
    #[schemars(with = "BTreeMap<String, crate::value::PortType>")]
    pub(super) inputs: Option<Spanned<Entries<Spanned<String>>>>,
    /// Output ports and their types. A builtin brings its own.
    #[serde(default, rename = "out")]
    #[schemars(with = "BTreeMap<String, crate::value::PortType>")]
    pub(super) outputs: Option<Spanned<Entries<Spanned<String>>>>,
    /// Replicates the component, so that it survives faults.
    #[serde(default)]
    #[schemars(with = "RawReplicate")]
    pub(super) replicate: Option<RawReplicate>,
    /// What an event that was taken survives. `sync` (the default): the power failing at every replica at
    /// once; `async`: all processes being killed, and the power failing at f machines; `none`: the failure
    /// of f replicas.
    #[serde(default)]
    #[schemars(with = "String", extend("enum" = ["sync", "async", "none"]))]
    pub(super) durability: Option<Spanned<String>>,
}

/// How a component is replicated.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Replicate")]
pub(super) struct RawReplicate {
    /// What may go wrong with a replica. `byzantine`: anything, lies included; `crash`: it stops, and may start again.
    #[schemars(with = "String", extend("enum" = ["byzantine", "crash"]))]
    pub(super) faults: Spanned<String>,
    /// How many replicas may be faulty at once; it takes 3f + 1 replicas, or 2f + 1 where they only crash.
    #[schemars(with = "u16", range(min = 1, max = 49))]
    pub(super) f: Spanned<i64>,
    /// Has the replicas recover in turn, so that f may be taken over not in all, but in the time that this
    /// takes. Not where they only crash.
    #[serde(default)]
    #[schemars(with = "RawProactiveRecovery")]
    pub(super) proactive_recovery: Option<RawProactiveRecovery>,
}

/// How replicas recover in turn.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ProactiveRecovery")]
pub(super) struct RawProactiveRecovery {
    /// The time in which each replica recovers once, in seconds.
    #[schemars(with = "u64", range(min = 8))]
    pub(super) every_s: Spanned<i64>,
}

/// A wire. An end is `component.port` or `mqtt:topic/path`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Wire")]
pub(super) struct RawWire {
    /// Where events come from: an output port or MQTT topic (`+` and `#` allowed).
    #[schemars(with = "String")]
    pub(super) from: Spanned<String>,
    /// Where they go: an input port or MQTT topic.
    #[schemars(with = "String")]
    pub(super) to: Spanned<String>,
}

/// A mapping in the order of the file, whose keys know their place.
#[derive(Debug)]
pub(super) struct Entries<T>(pub(super) Vec<(Spanned<String>, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Mapping<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Mapping<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Mapping(PhantomData))
    }
}
