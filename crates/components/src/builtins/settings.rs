use super::{Builtin, BuiltinError};
use serde_json::{Map, Value};

/// Reads the settings of a builtin.
pub(super) struct Settings<'a> {
    builtin: Builtin,
    map: &'a Map<String, Value>,
}

impl<'a> Settings<'a> {
    /// The settings in `map`, once all of them are among `known`.
    pub(super) fn new(
        builtin: Builtin,
        map: &'a Map<String, Value>,
        known: &'static [&'static str],
    ) -> Result<Self, BuiltinError> {
        match map.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(BuiltinError::UnknownSetting { builtin, key: key.clone(), known }),
            None => Ok(Self { builtin, map }),
        }
    }

    /// A number from `low` to `high`.
    pub(super) fn number(
        &self,
        key: &'static str,
        default: Option<f64>,
        (low, high): (f64, f64),
    ) -> Result<f64, BuiltinError> {
        let expected = || format!("a number from {low} to {high}");
        let read = |v: &Value| v.as_f64().filter(|n| (low..=high).contains(n));
        self.read(key, default, read, expected)
    }

    /// A whole number from `low` to `high`.
    pub(super) fn integer(
        &self,
        key: &'static str,
        default: Option<u64>,
        (low, high): (u64, u64),
    ) -> Result<u64, BuiltinError> {
        let expected = || format!("a whole number from {low} to {high}");
        let read = |v: &Value| v.as_u64().filter(|n| (low..=high).contains(n));
        self.read(key, default, read, expected)
    }

    /// One of `choices`, the first by default; its index.
    pub(super) fn choice(&self, key: &'static str, choices: &[&'static str]) -> Result<usize, BuiltinError> {
        let expected = || format!("one of {}", super::list(choices));
        let read = |v: &Value| choices.iter().position(|c| v.as_str() == Some(c));
        self.read(key, Some(0), read, expected)
    }

    /// The error of a setting that does not go with the others.
    pub(super) fn bad(&self, key: &'static str, expected: String) -> BuiltinError {
        BuiltinError::BadSetting {
            builtin: self.builtin,
            key,
            expected,
            found: self.map.get(key).map_or("missing".into(), Value::to_string),
        }
    }

    fn read<T>(
        &self,
        key: &'static str,
        default: Option<T>,
        read: impl Fn(&Value) -> Option<T>,
        expected: impl Fn() -> String,
    ) -> Result<T, BuiltinError> {
        match (self.map.get(key), default) {
            (Some(value), _) => read(value).ok_or_else(|| self.bad(key, expected())),
            (None, Some(default)) => Ok(default),
            (None, None) => {
                Err(BuiltinError::MissingSetting { builtin: self.builtin, key, expected: expected() })
            }
        }
    }
}
