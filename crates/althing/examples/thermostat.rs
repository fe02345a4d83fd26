//! A component in Rust, as a program of its own: the guide's page "Components in any language".

use althing::{Component, ComponentContext, ComponentError, OutputEvent};
use serde_json::Value;
use std::process::ExitCode;

/// Keeps 21 degrees, give or take half a degree.
#[derive(Default)]
struct Thermostat {
    /// The last command; none so far.
    heating: Option<bool>,
}

impl Component for Thermostat {
    fn on_event(
        &mut self,
        _port: &str,
        value: &Value,
        _context: &ComponentContext,
    ) -> Result<Vec<OutputEvent>, ComponentError> {
        let is_plausible = |degrees: &f64| (-60.0..=100.0).contains(degrees);
        let refused = || ComponentError::Refused(format!("a reading of {value}"));
        let degrees = value.as_f64().filter(is_plausible).ok_or_else(refused)?;
        let heat = match self.heating {
            Some(true) => degrees < 21.5,
            Some(false) => degrees < 20.5,
            None => degrees < 21.0,
        };
        let has_changed = self.heating.replace(heat) != Some(heat);
        let command = if heat { "on" } else { "off" };
        Ok(if has_changed { vec![OutputEvent::new("heater", command)] } else { Vec::new() })
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, ComponentError> {
        Ok(self.heating.map(u8::from).into_iter().collect())
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), ComponentError> {
        self.heating = match state {
            [] => None,
            [0] => Some(false),
            [1] => Some(true),
            _ => return Err(ComponentError::Refused("no state of a thermostat".to_owned())),
        };
        Ok(())
    }
}

fn main() -> ExitCode {
    althing::run_component(Thermostat::default())
}
