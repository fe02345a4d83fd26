use super::settings::Settings;
use super::{Builtin, BuiltinError};
use crate::component::{Component, ComponentContext, ComponentError, OutputEvent};
use serde_json::{Map, Value};

/// [`Builtin::RateLimit`].
pub(super) struct RateLimit {
    every_ns: u64,
    /// Agreed time of the last event that was let through.
    last_ns: Option<u64>,
}

impl RateLimit {
    pub(super) fn new(config: &Map<String, Value>) -> Result<Self, BuiltinError> {
        let settings = Settings::new(Builtin::RateLimit, config, &["every_ms"])?;
        let every_ms = settings.integer("every_ms", None, (1, 86_400_000))?;
        Ok(Self { every_ns: every_ms * 1_000_000, last_ns: None })
    }
}

impl Component for RateLimit {
    fn on_event(
        &mut self,
        _port: &str,
        value: &Value,
        context: &ComponentContext,
    ) -> Result<Vec<OutputEvent>, ComponentError> {
        let is_early = self.last_ns.is_some_and(|last| context.time_ns.saturating_sub(last) < self.every_ns);
        if is_early {
            return Ok(Vec::new());
        }
        self.last_ns = Some(context.time_ns);
        Ok(vec![OutputEvent::new("value", value.clone())])
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, ComponentError> {
        Ok(self.last_ns.map_or(Vec::new(), |ns| ns.to_le_bytes().to_vec()))
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), ComponentError> {
        self.last_ns = match (state.is_empty(), state.try_into()) {
            (true, _) => None,
            (_, Ok(bytes)) => Some(u64::from_le_bytes(bytes)),
            _ => return Err(ComponentError::Refused("no state of a rate limit".into())),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lets_through_by_agreed_time() {
        let config = json!({ "every_ms": 10 });
        let mut limit = RateLimit::new(config.as_object().unwrap()).unwrap();
        let mut passes = |ms: u64| {
            let context = ComponentContext { time_ns: ms * 1_000_000, seed: [0; 32] };
            let outputs = limit.on_event("value", &json!("x"), &context).unwrap();
            let snapshot = limit.snapshot().unwrap();
            limit.restore(&snapshot).unwrap();
            !outputs.is_empty()
        };
        let passed = [0, 5, 9, 10, 15, 19, 25].map(&mut passes);
        assert_eq!(passed, [true, false, false, true, false, false, true]);
        assert!(limit.restore(b"abc").is_err());
    }
}
