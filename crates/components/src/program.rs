//! The program's end of the line protocol of [`crate::process`], for components written in Rust.

use crate::component::{Component, ComponentContext, ComponentError};
use crate::process::MAX_LINE_BYTES;
use crate::value::{canonical, parse_up_to};
use serde::Deserialize;
use serde_json::{Value, json};

/// A request as it is read.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Event { port: String, value: Value, time_ns: u64, seed: String },
    Snapshot,
    Restore { state: String },
}

/// Answers the `line` of a request, with or without its line feed, by one with a line feed. The state
/// goes as a string of hexadecimal digits, since a component's snapshot is any bytes.
///
/// # Errors
/// With the reason when the component is broken: its program should end.
pub fn answer(component: &mut dyn Component, line: &[u8]) -> Result<Vec<u8>, String> {
    let answer = match carry_out(component, line) {
        Ok(answer) => answer,
        Err(ComponentError::Refused(reason)) => json!({ "error": reason }),
        Err(ComponentError::Broken(reason)) => return Err(reason),
    };
    let mut line = canonical(&answer);
    line.push(b'\n');
    Ok(line)
}

fn carry_out(component: &mut dyn Component, line: &[u8]) -> Result<Value, ComponentError> {
    let refused = |reason: String| ComponentError::Refused(reason);
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let request = parse_up_to(line, MAX_LINE_BYTES).map_err(|error| refused(error.to_string()))?;
    let request = Request::deserialize(request).map_err(|error| refused(error.to_string()))?;
    Ok(match request {
        Request::Event { port, value, time_ns, seed } => {
            let seed = unhex(&seed).and_then(|seed| seed.try_into().ok());
            let seed = seed.ok_or_else(|| refused("a seed is 64 hexadecimal digits".to_owned()))?;
            let context = ComponentContext { time_ns, seed };
            json!({ "outputs": component.on_event(&port, &value, &context)? })
        }
        Request::Snapshot => json!({ "state": crate::process::hex(&component.snapshot()?) }),
        Request::Restore { state } => {
            let state = unhex(&state).ok_or_else(|| refused("a state is hexadecimal digits".to_owned()))?;
            component.restore(&state)?;
            json!({ "restored": true })
        }
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| match pair {
        [high, low] => {
            let [high, low] = [high, low].map(|digit| char::from(*digit).to_digit(16));
            u8::try_from(16 * high? + low?).ok()
        }
        _ => None,
    };
    digits.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::OutputEvent;
    use crate::process::{Exchange, ProcessComponent};

    /// Adds up; refuses what is no number, and breaks at 13.
    #[derive(Default)]
    struct Sum(u64);

    impl Component for Sum {
        fn on_event(
            &mut self,
            _port: &str,
            value: &Value,
            context: &ComponentContext,
        ) -> Result<Vec<OutputEvent>, ComponentError> {
            let number = value.as_u64().ok_or_else(|| ComponentError::Refused("no number".to_owned()))?;
            if number == 13 {
                return Err(ComponentError::Broken("bad luck".to_owned()));
            }
            self.0 += number + u64::from(context.seed[31]) + context.time_ns;
            Ok(vec![OutputEvent::new("sum", self.0)])
        }

        fn snapshot(&mut self) -> Result<Vec<u8>, ComponentError> {
            Ok(self.0.to_le_bytes().to_vec())
        }

        fn restore(&mut self, state: &[u8]) -> Result<(), ComponentError> {
            let state = state.try_into().map_err(|_| ComponentError::Refused("no sum".to_owned()))?;
            self.0 = u64::from_le_bytes(state);
            Ok(())
        }
    }

    /// Both ends of the protocol, without a program between them.
    struct Wire(Sum);

    impl Exchange for Wire {
        fn exchange(&mut self, line: &[u8]) -> Result<Vec<u8>, String> {
            answer(&mut self.0, line)
        }
    }

    #[test]
    fn a_component_is_the_same_over_the_line_protocol() {
        let context = ComponentContext { time_ns: 1 << 60, seed: [7; 32] };
        let (mut plain, mut wired) = (Sum::default(), ProcessComponent::new(Wire(Sum::default())));
        for value in [json!(1), json!("two"), json!(3)] {
            assert_eq!(plain.on_event("in", &value, &context), wired.on_event("in", &value, &context));
        }
        let state = wired.snapshot().unwrap();
        let mut copy = ProcessComponent::new(Wire(Sum::default()));
        copy.restore(&state).unwrap();
        let next = json!(5);
        assert_eq!(plain.on_event("in", &next, &context), copy.on_event("in", &next, &context));
        assert_eq!(copy.restore(b"\"00\""), Err(ComponentError::Refused("no sum".to_owned())));
        let broken = wired.on_event("in", &json!(13), &context);
        assert_eq!(broken, Err(ComponentError::Broken("bad luck".to_owned())));
    }

    #[test]
    fn a_line_that_is_no_request_is_refused() {
        let event = r#"{"kind":"event","port":"p","value":1,"time_ns":1,"seed":"SEED"}"#;
        let wrong_seeds =
            ["", "abc", &"+f".repeat(32), &"é".repeat(32)].map(|seed| event.replace("SEED", seed));
        let others =
            ["", "{}", r#"{"kind":"stop"}"#, r#"{"kind":"restore","state":"x1"}"#].map(str::to_owned);
        for line in wrong_seeds.iter().chain(&others) {
            let answer = answer(&mut Sum::default(), line.as_bytes()).unwrap();
            assert!(answer.starts_with(b"{\"error\":\""), "{line}");
        }
    }
}
