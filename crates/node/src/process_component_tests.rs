use super::*;
use serde_json::json;

/// Counts events, and does as it is told: dies once, hangs once, talks out of turn.
const COUNTER: &str = r#"
import json, os, sys, time
count = 0
def once(name):
    path = name + ".done"
    if os.path.exists(path):
        return False
    open(path, "w").close()
    return True
for line in sys.stdin:
    request = json.loads(line)
    kind = request["kind"]
    if kind == "event":
        value = request["value"]
        if value == "die" and once("die"):
            os._exit(3)
        if value == "die always":
            os._exit(4)
        if value == "hang" and once("hang"):
            time.sleep(600)
        if value == "refuse":
            print(json.dumps({"error": "no"}), flush=True)
            continue
        count += 1
        print(json.dumps({"outputs": [{"port": "count", "value": count}]}), flush=True)
    elif kind == "snapshot":
        print(json.dumps({"state": count}), flush=True)
    else:
        count = request["state"]
        print(json.dumps({"restored": True}), flush=True)
"#;

const CONTEXT: ComponentContext = ComponentContext { time_ns: 1, seed: [0; 32] };

fn counter(directory: &Path, deadline: Duration) -> ChildComponent {
    std::fs::write(directory.join("counter.py"), COUNTER).unwrap();
    let config = ProcessConfig {
        program: "python3".to_owned(),
        arguments: vec!["counter.py".to_owned()],
        working_directory: directory.to_owned(),
        deadline,
    };
    ChildComponent::start(&config, None).unwrap()
}

fn count(component: &mut ChildComponent, value: &str) -> u64 {
    let outputs = component.on_event("in", &json!(value), &CONTEXT).unwrap();
    outputs[0].value.as_u64().unwrap()
}

#[test]
fn a_program_that_dies_or_hangs_is_brought_back_to_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let mut component = counter(directory.path(), Duration::from_millis(500));
    assert_eq!(count(&mut component, "a"), 1);
    assert_eq!(component.snapshot(), Ok(b"1".to_vec()));
    assert_eq!(count(&mut component, "b"), 2);
    assert_eq!(count(&mut component, "die"), 3);
    assert_eq!(count(&mut component, "hang"), 4);
    let refused = component.on_event("in", &json!("refuse"), &CONTEXT);
    assert_eq!(refused, Err(ComponentError::Refused("no".to_owned())));
    assert_eq!(count(&mut component, "c"), 5);
    assert_eq!(component.snapshot(), Ok(b"5".to_vec()));
    component.restore(b"41").unwrap();
    assert_eq!(count(&mut component, "d"), 42);
}

#[test]
fn a_program_that_fails_again_is_broken() {
    let directory = tempfile::tempdir().unwrap();
    let mut component = counter(directory.path(), Duration::from_secs(5));
    count(&mut component, "a");
    let broken = component.on_event("in", &json!("die always"), &CONTEXT);
    assert!(matches!(broken, Err(ComponentError::Broken(_))), "{broken:?}");
}

/// It once held its replica up for ever.
#[test]
fn a_program_that_answers_and_does_not_read_is_broken() {
    let directory = tempfile::tempdir().unwrap();
    let deaf = "import time; print('{\"outputs\": []}', flush=True); time.sleep(600)";
    let config = ProcessConfig {
        program: "python3".to_owned(),
        arguments: vec!["-c".to_owned(), deaf.to_owned()],
        working_directory: directory.path().to_owned(),
        deadline: Duration::from_millis(500),
    };
    let mut component = ChildComponent::start(&config, None).unwrap();
    // More than a pipe holds.
    let long = json!("x".repeat(1 << 20));
    assert_eq!(component.on_event("in", &long, &CONTEXT), Ok(vec![]));
    let broken = component.on_event("in", &long, &CONTEXT);
    assert!(matches!(broken, Err(ComponentError::Broken(_))), "{broken:?}");
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let config = ProcessConfig {
        program: "no-such-program".to_owned(),
        arguments: Vec::new(),
        working_directory: "/".into(),
        deadline: Duration::from_secs(1),
    };
    let error = ChildComponent::start(&config, None).unwrap_err().to_string();
    assert!(error.contains("no-such-program") && error.contains("installed"), "{error}");
}
