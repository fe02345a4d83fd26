use super::settings::Settings;
use super::{Builtin, BuiltinError};
use crate::component::{Component, ComponentContext, ComponentError, OutputEvent};
use crate::value::PortType;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// [`Builtin::Thermostat`].
pub(super) struct Thermostat {
    on_at: f64,
    off_at: f64,
    target: f64,
    low: f64,
    high: f64,
    speaks_boolean: bool,
    /// The last command, if there was one.
    is_heating: Option<bool>,
}

impl Thermostat {
    pub(super) fn new(
        config: &Map<String, Value>,
        outputs: &BTreeMap<String, PortType>,
    ) -> Result<Self, BuiltinError> {
        const POSSIBLE: (f64, f64) = (-273.15, 1e4);
        let known = &["target", "band", "low", "high"];
        let settings = Settings::new(Builtin::Thermostat, config, known)?;
        let low = settings.number("low", Some(-60.0), POSSIBLE)?;
        let high = settings.number("high", Some(100.0), POSSIBLE)?;
        if high <= low {
            return Err(settings.bad("high", format!("above `low`, which is {low}")));
        }
        let target = settings.number("target", None, (low, high))?;
        let band = settings.number("band", Some(1.0), (0.0, high - low))?;
        Ok(Self {
            on_at: target - band / 2.0,
            off_at: target + band / 2.0,
            target,
            low,
            high,
            speaks_boolean: outputs.get("heater") == Some(&PortType::Boolean),
            is_heating: None,
        })
    }

    fn should_heat(&self, temperature: f64) -> bool {
        match self.is_heating {
            Some(true) => temperature < self.off_at,
            Some(false) => temperature < self.on_at,
            None => temperature < self.target,
        }
    }
}

impl Component for Thermostat {
    fn on_event(
        &mut self,
        _port: &str,
        value: &Value,
        _context: &ComponentContext,
    ) -> Result<Vec<OutputEvent>, ComponentError> {
        let plausible = self.low..=self.high;
        let Some(temperature) = value.as_f64().filter(|t| plausible.contains(t)) else {
            return Err(ComponentError::Refused(format!(
                "a reading of {value}, where {} to {} is plausible",
                self.low, self.high
            )));
        };
        let heat = self.should_heat(temperature);
        if self.is_heating.replace(heat) == Some(heat) {
            return Ok(Vec::new());
        }
        let command = match (self.speaks_boolean, heat) {
            (true, _) => Value::Bool(heat),
            (false, true) => "on".into(),
            (false, false) => "off".into(),
        };
        Ok(vec![OutputEvent::new("heater", command)])
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, ComponentError> {
        Ok(match self.is_heating {
            None => b"null".to_vec(),
            Some(true) => b"true".to_vec(),
            Some(false) => b"false".to_vec(),
        })
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), ComponentError> {
        self.is_heating = match state {
            b"null" => None,
            b"true" => Some(true),
            b"false" => Some(false),
            _ => return Err(ComponentError::Refused("no state of a thermostat".into())),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn thermostat(config: Value, output: PortType) -> Result<Thermostat, BuiltinError> {
        let outputs = BTreeMap::from([("heater".to_owned(), output)]);
        Thermostat::new(config.as_object().unwrap(), &outputs)
    }

    fn commands(thermostat: &mut Thermostat, readings: &[Value]) -> Vec<Option<Value>> {
        let context = ComponentContext { time_ns: 0, seed: [0; 32] };
        let mut command = |reading| {
            let outputs = thermostat.on_event("temperature", reading, &context);
            outputs.ok()?.pop().map(|o| o.value)
        };
        readings.iter().map(&mut command).collect()
    }

    #[test]
    fn speaks_only_when_the_command_changes() {
        let mut t = thermostat(json!({ "target": 21, "band": 2 }), PortType::String).unwrap();
        let readings = [20.5, 19.0, 21.9, 22.0, 20.1, 20.0, 19.9].map(|r| json!(r));
        let on = Some(json!("on"));
        let off = Some(json!("off"));
        assert_eq!(commands(&mut t, &readings), [on.clone(), None, None, off, None, None, on]);
    }

    #[test]
    fn a_broken_sensor_changes_nothing() {
        let mut t = thermostat(json!({ "target": 21 }), PortType::Boolean).unwrap();
        assert_eq!(commands(&mut t, &[json!(10)]), [Some(json!(true))]);
        let before = t.snapshot().unwrap();
        let broken = [json!(null), json!("hot"), json!(1e9), json!(-300), json!([])];
        assert!(commands(&mut t, &broken).iter().all(Option::is_none));
        assert_eq!(t.snapshot().unwrap(), before);
    }

    #[test]
    fn a_restored_thermostat_goes_on_alike() {
        let mut old = thermostat(json!({ "target": 21 }), PortType::String).unwrap();
        let mut new = thermostat(json!({ "target": 21 }), PortType::String).unwrap();
        commands(&mut old, &[json!(10)]);
        new.restore(&old.snapshot().unwrap()).unwrap();
        assert!(new.restore(b"nonsense").is_err());
        assert_eq!(commands(&mut new, &[json!(10), json!(30)])[0], None);
    }

    #[test]
    fn settings_are_checked() {
        let error = |config| thermostat(config, PortType::String).err().unwrap().to_string();
        assert_eq!(
            error(json!({ "target": 21, "bnd": 1 })),
            "`thermostat` has no setting `bnd`; it has `target`, `band`, `low`, `high`"
        );
        assert_eq!(error(json!({})), "`thermostat` needs the setting `target`: a number from -60 to 100");
        assert_eq!(
            error(json!({ "target": "warm" })),
            "`target` of `thermostat` is a number from -60 to 100, not \"warm\""
        );
        assert_eq!(
            error(json!({ "target": 1, "low": 5, "high": 5 })),
            "`high` of `thermostat` is above `low`, which is 5, not 5"
        );
    }
}
