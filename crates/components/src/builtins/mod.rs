mod average;
mod rate_limit;
mod settings;
mod thermostat;

use crate::component::Component;
use crate::value::PortType;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use thiserror::Error;

/// The components that Althing ships.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Builtin {
    /// Switches a heater so that a temperature stays around a target.
    ///
    /// In `temperature: number`; out `heater: string` (`on`, `off`) or `heater: boolean`. Settings:
    /// `target` (degrees), `band` (width of the range around the target in which the heater is left
    /// alone, default 1), `low` and `high` (readings outside are a broken sensor and refused,
    /// default −60 and 100). Emits a command at the first reading and then only when it changes.
    Thermostat,
    /// The average of the last readings.
    ///
    /// In `value: number`; out `average: number`. Settings: `window` (readings, 1 to 1000, default
    /// 5), `statistic` (`mean`, the default, or `median`, which single wild readings don't move).
    /// Emits at each reading.
    Average,
    /// Lets an event through only when enough agreed time has passed since the last one let through.
    ///
    /// In and out `value`, of any type but the same. Setting: `every_ms` (1 to 86 400 000).
    RateLimit,
}

/// Why a builtin can't be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BuiltinError {
    /// A setting that it does not have.
    #[error("`{builtin}` has no setting `{key}`; it has {}", list(known))]
    UnknownSetting {
        /// The builtin.
        builtin: Builtin,
        /// The setting.
        key: String,
        /// The settings it has.
        known: &'static [&'static str],
    },
    /// A setting without default that is not given.
    #[error("`{builtin}` needs the setting `{key}`: {expected}")]
    MissingSetting {
        /// The builtin.
        builtin: Builtin,
        /// The setting.
        key: &'static str,
        /// What it should be.
        expected: String,
    },
    /// A setting with a value that makes no sense.
    #[error("`{key}` of `{builtin}` is {expected}, not {found}")]
    BadSetting {
        /// The builtin.
        builtin: Builtin,
        /// The setting.
        key: &'static str,
        /// What it should be.
        expected: String,
        /// What it is, as JSON.
        found: String,
    },
    /// Other ports than it has.
    #[error("`{builtin}` has {} as `{direction}`, not {}", ports(expected), ports(found))]
    WrongPorts {
        /// The builtin.
        builtin: Builtin,
        /// `in` or `out`.
        direction: &'static str,
        /// The ports it has, with the types that fit.
        expected: Vec<(String, Vec<PortType>)>,
        /// The ports declared.
        found: Vec<(String, Vec<PortType>)>,
    },
    /// An input and an output of different types where they have to be the same.
    #[error("the ports of `{builtin}` have one type, not {input} in and {output} out")]
    DifferentTypes {
        /// The builtin.
        builtin: Builtin,
        /// Type of the input.
        input: PortType,
        /// Type of the output.
        output: PortType,
    },
}

/// A port that a builtin has, with the types it can have, the usual one first.
type Signature = (&'static str, &'static [PortType]);

impl Builtin {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Thermostat, Self::Average, Self::RateLimit];

    /// The name in a spec file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Thermostat => "thermostat",
            Self::Average => "average",
            Self::RateLimit => "rate_limit",
        }
    }

    /// The builtin of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|b| b.name() == name)
    }

    /// The input ports, as they are when a spec file does not declare them.
    #[must_use]
    pub fn usual_inputs(self) -> BTreeMap<String, PortType> {
        usual(self.inputs())
    }

    /// The output ports, as they are when a spec file does not declare them.
    #[must_use]
    pub fn usual_outputs(self) -> BTreeMap<String, PortType> {
        usual(self.outputs())
    }

    fn inputs(self) -> &'static [Signature] {
        match self {
            Self::Thermostat => &[("temperature", &[PortType::Number])],
            Self::Average => &[("value", &[PortType::Number])],
            Self::RateLimit => &[(
                "value",
                &[PortType::Json, PortType::Number, PortType::Integer, PortType::Boolean, PortType::String],
            )],
        }
    }

    fn outputs(self) -> &'static [Signature] {
        match self {
            Self::Thermostat => &[("heater", &[PortType::String, PortType::Boolean])],
            Self::Average => &[("average", &[PortType::Number])],
            Self::RateLimit => self.inputs(),
        }
    }

    /// Checks that the ports of a component are this builtin's.
    ///
    /// # Errors
    /// [`BuiltinError::WrongPorts`] or [`BuiltinError::DifferentTypes`].
    pub fn check_ports(
        self,
        inputs: &BTreeMap<String, PortType>,
        outputs: &BTreeMap<String, PortType>,
    ) -> Result<(), BuiltinError> {
        self.check_direction("in", self.inputs(), inputs)?;
        self.check_direction("out", self.outputs(), outputs)?;
        match (self, inputs.get("value"), outputs.get("value")) {
            (Self::RateLimit, Some(&input), Some(&output)) if input != output => {
                Err(BuiltinError::DifferentTypes { builtin: self, input, output })
            }
            _ => Ok(()),
        }
    }

    fn check_direction(
        self,
        direction: &'static str,
        signature: &[Signature],
        declared: &BTreeMap<String, PortType>,
    ) -> Result<(), BuiltinError> {
        let fits = declared.len() == signature.len()
            && signature.iter().all(|(name, types)| declared.get(*name).is_some_and(|t| types.contains(t)));
        if fits {
            return Ok(());
        }
        let owned = |(name, types): &Signature| ((*name).to_owned(), types.to_vec());
        Err(BuiltinError::WrongPorts {
            builtin: self,
            direction,
            expected: signature.iter().map(owned).collect(),
            found: declared.iter().map(|(name, &t)| (name.clone(), vec![t])).collect(),
        })
    }

    /// Makes a component with these settings and ports.
    ///
    /// # Errors
    /// When one of them does not suit it.
    pub fn build(
        self,
        config: &Map<String, Value>,
        inputs: &BTreeMap<String, PortType>,
        outputs: &BTreeMap<String, PortType>,
    ) -> Result<Box<dyn Component>, BuiltinError> {
        self.check_ports(inputs, outputs)?;
        Ok(match self {
            Self::Thermostat => Box::new(thermostat::Thermostat::new(config, outputs)?),
            Self::Average => Box::new(average::Average::new(config)?),
            Self::RateLimit => Box::new(rate_limit::RateLimit::new(config)?),
        })
    }
}

impl fmt::Display for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn usual(signature: &[Signature]) -> BTreeMap<String, PortType> {
    let port = |(name, types): &Signature| ((*name).to_owned(), types[0]);
    signature.iter().map(port).collect()
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|n| format!("`{n}`")).collect();
    quoted.join(", ")
}

fn ports(ports: &[(String, Vec<PortType>)]) -> String {
    let port = |(name, types): &(String, Vec<PortType>)| {
        let types: Vec<_> = types.iter().map(|t| t.name()).collect();
        format!("{name}: {}", types.join(" or "))
    };
    let ports: Vec<_> = ports.iter().map(port).collect();
    format!("`{{ {} }}`", ports.join(", "))
}
