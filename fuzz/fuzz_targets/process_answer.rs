//! What a component that is a program answers: any line, to any request.
#![no_main]

use althing_components::process::{Answer, Request, decode_answer, encode_request};
use althing_components::{ComponentContext, ComponentError, canonical};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    let context = ComponentContext { time_ns: 1, seed: [2; 32] };
    let value = serde_json::Value::from(21.5);
    let event = Request::Event { port: "temperature", value: &value, context: &context };
    let restore = Request::Restore { state: b"{}" };
    for request in [event, Request::Snapshot, restore] {
        match decode_answer(&request, line) {
            Ok(Answer::Outputs(outputs)) => outputs.iter().for_each(|output| drop(canonical(&output.value))),
            Ok(Answer::State(state)) => {
                let asked = encode_request(&Request::Restore { state: &state });
                assert_eq!(asked.expect("a state can be restored").last(), Some(&b'\n'));
            }
            Ok(Answer::Restored | Answer::Error(_)) => {}
            Err(error) => drop(ComponentError::from(error).to_string()),
        }
    }
    if let Ok(asked) = encode_request(&Request::Restore { state: line }) {
        assert_eq!(asked.iter().filter(|byte| **byte == b'\n').count(), 1, "a request is one line");
    }
});
