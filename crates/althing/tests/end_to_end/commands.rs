//! Commands that need no deployment: what they print, and with which exit code.

use super::process::{althing, example, expect, run};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use tempfile::TempDir;

/// What a command printed as JSON, having ended with `code`.
#[track_caller]
pub(crate) fn json(output: &Output, code: i32) -> Value {
    let (out, _) = expect(output, code);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

/// A spec file with what is wrong in it at line 4.
fn broken(home: &Path) -> std::path::PathBuf {
    let path = home.join("broken.yaml");
    let text = "name: broken\ncomponents:\n  thermostat:\n    builtin: thermostatt\n    \
        config: { target: 21 }\nwires:\n  - { from: mqtt:a/b, to: thermostat.temperature }\n";
    fs::write(&path, text).expect("a file in a temporary directory");
    path
}

/// The names under "Commands:" in a help text.
fn subcommands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    // A description that is wrapped goes on further to the right.
    let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[test]
fn every_help_has_an_example() {
    let mut left = vec![Vec::new()];
    let mut seen = 0;
    while let Some(command) = left.pop() {
        let (help, _) = expect(&althing().args(&command).arg("--help").output().expect("it starts"), 0);
        seen += 1;
        let called = format!("  althing {}", command.join(" "));
        let has_example = help.split_once("Example").or_else(|| help.split_once("First steps"));
        assert!(
            has_example.is_some_and(|(_, after)| after.contains(&called)),
            "no example of `{called}` in: {help}"
        );
        // The kinds of faults are listed like commands; their examples stand at `inject`.
        if command == ["inject"] {
            continue;
        }
        left.extend(subcommands(&help).into_iter().map(|name| [&command[..], &[name]].concat()));
    }
    assert!(seen > 12, "only {seen} commands found");
}

#[test]
fn good_specs_are_valid_and_have_plans() {
    for name in ["greenhouse.yaml", "greenhouse-python.yaml", "greenhouse-two-stage.yaml"] {
        let spec = example(name);
        let (out, error) = expect(&run(["check".as_ref(), spec.as_os_str()]), 0);
        assert!(out.contains("is valid"), "{out}");
        assert_eq!(error, "");
        let checked = json(&run(["check".as_ref(), spec.as_os_str(), "--json".as_ref()]), 0);
        assert_eq!(checked["valid"], true);
        assert_eq!(checked["problems"].as_array().map(Vec::len), Some(0));
        let (plan, _) = expect(&run(["plan".as_ref(), spec.as_os_str()]), 0);
        assert!(plan.contains("thermostat-3"), "{plan}");
        assert!(json(&run(["plan".as_ref(), spec.as_os_str(), "--json".as_ref()]), 0).is_object());
    }
    assert!(json(&run(["check", "--schema"]), 0)["properties"]["components"].is_object());
}

#[test]
fn a_plan_can_be_drawn() {
    let home = TempDir::new().expect("a temporary directory");
    let picture = home.path().join("plan.svg");
    let spec = example("greenhouse.yaml");
    expect(&run(["plan".as_ref(), spec.as_os_str(), "--svg".as_ref(), picture.as_os_str()]), 0);
    assert!(fs::read_to_string(picture).expect("it was drawn").starts_with("<svg"));
}

#[test]
fn broken_specs_are_refused_at_their_place() {
    let home = TempDir::new().expect("a temporary directory");
    let spec = broken(home.path());
    for command in ["check", "plan", "up"] {
        let output = althing().arg(command).arg(&spec).current_dir(home.path()).output().expect("it starts");
        let (out, error) = expect(&output, 2);
        assert_eq!(out, "");
        assert!(error.contains("thermostatt") && error.contains("broken.yaml:4"), "{error}");
    }
    let checked = json(&run(["check".as_ref(), spec.as_os_str(), "--json".as_ref()]), 2);
    assert_eq!(checked["valid"], false);
    let problem = &checked["problems"][0];
    assert_eq!((&problem["severity"], &problem["line"]), (&"error".into(), &4.into()));
    assert!(problem["help"].as_str().is_some_and(|help| help.contains("thermostat")), "{problem}");
    let (_, error) = expect(&run(["check", "no-such-file.yaml"]), 2);
    assert!(error.contains("no-such-file.yaml"), "{error}");
}

#[test]
fn a_secret_key_is_its_owners_alone_and_never_overwritten() {
    let home = TempDir::new().expect("a temporary directory");
    let file = home.path().join("a.key");
    let arguments = ["keygen".as_ref(), "--out".as_ref(), file.as_os_str()];
    let (public, _) = expect(&run(arguments), 0);
    let secret = fs::read_to_string(&file).expect("the secret key was written");
    assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
    assert!(!public.trim().is_empty() && !public.contains(secret.trim()));
    let (_, error) = expect(&run(arguments), 2);
    assert!(error.contains("never overwritten"), "{error}");
    assert_eq!(fs::read_to_string(&file).expect("still there"), secret);
    let other = home.path().join("b.key");
    let made = json(&run(["keygen".as_ref(), "--json".as_ref(), "--out".as_ref(), other.as_os_str()]), 0);
    assert!(made["public_key"].as_str().is_some_and(|key| key != public.trim()), "{made}");
    assert_eq!(made["secret_key_file"], other.to_str().expect("a path in UTF-8"));
}

#[test]
fn a_status_without_a_deployment_tells_what_to_do() {
    let home = TempDir::new().expect("a temporary directory");
    let nowhere = althing().arg("status").current_dir(home.path()).output().expect("it starts");
    let (_, error) = expect(&nowhere, 2);
    assert!(error.contains("no deployment") && error.contains("althing up"), "{error}");
    let named = run(["status".as_ref(), "--dir".as_ref(), home.path().join("none").as_os_str()]);
    let (out, error) = expect(&named, 2);
    assert!(out.is_empty() && error.contains("deployment.json"), "{error}");
}
