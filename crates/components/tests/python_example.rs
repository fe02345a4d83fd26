//! The Python thermostat of the book does what the builtin does. Needs `python3`.

use althing_components::process::{Exchange, ProcessComponent};
use althing_components::{Builtin, Component, ComponentContext, ComponentError, OutputEvent};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

struct Program {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/thermostat.py");
        let mut child = Command::new("python3")
            .args([script, "--target", "21", "--band", "1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs python3");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }
}

impl Exchange for Program {
    fn exchange(&mut self, line: &[u8]) -> Result<Vec<u8>, String> {
        let input = self.input.as_mut().expect("open until the end");
        input.write_all(line).and_then(|()| input.flush()).map_err(|e| e.to_string())?;
        let mut answer = Vec::new();
        match self.output.read_until(b'\n', &mut answer) {
            Ok(0) => Err("it has ended".into()),
            Ok(_) => Ok(answer),
            Err(e) => Err(e.to_string()),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.input.take());
        let status = self.child.wait().expect("it was started");
        assert!(status.success(), "it ends well when its input ends: {status}");
    }
}

fn builtin() -> Box<dyn Component> {
    let config = json!({ "target": 21, "band": 1 });
    let builtin = Builtin::Thermostat;
    let config = config.as_object().unwrap();
    builtin.build(config, &builtin.usual_inputs(), &builtin.usual_outputs()).unwrap()
}

/// What came of an event; why one was refused is told in other words.
fn taken(component: &mut dyn Component, reading: &Value) -> Option<Vec<OutputEvent>> {
    let context = ComponentContext { time_ns: 1, seed: [7; 32] };
    match component.on_event("temperature", reading, &context) {
        Ok(outputs) => Some(outputs),
        Err(ComponentError::Refused(_)) => None,
        Err(broken) => panic!("{broken}"),
    }
}

#[test]
fn the_python_thermostat_does_what_the_builtin_does() {
    let mut python = ProcessComponent::new(Program::start());
    let mut builtin = builtin();
    let wild = [json!(null), json!("hot"), json!(900), json!(-61), json!([1]), json!({}), json!(true)];
    let readings = (0..300u32).map(|i| json!(f64::from(i * 37 % 60) / 10.0 + 18.0));
    let boundaries = [20.5, 21.5, 20.499, 21.499, 21.5, -60.0, 100.0].map(|r| json!(r));
    for reading in readings.chain(wild).chain(boundaries) {
        assert_eq!(taken(&mut python, &reading), taken(builtin.as_mut(), &reading), "at {reading}");
    }
}

#[test]
fn its_state_moves_to_another_process() {
    let mut old = ProcessComponent::new(Program::start());
    assert_eq!(taken(&mut old, &json!(10)).unwrap().len(), 1);
    let state = old.snapshot().unwrap();
    assert_eq!(state, br#"{"heating":true}"#);
    let mut new = ProcessComponent::new(Program::start());
    new.restore(&state).unwrap();
    assert_eq!(new.snapshot().unwrap(), state);
    assert_eq!(taken(&mut new, &json!(10)), Some(vec![]));
    assert!(matches!(new.restore(b"{\"heating\":3}"), Err(ComponentError::Refused(_))));
    assert!(matches!(new.restore(b"7"), Err(ComponentError::Refused(_))));
    assert_eq!(new.snapshot().unwrap(), state);
}
