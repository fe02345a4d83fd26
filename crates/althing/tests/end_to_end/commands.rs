//! Commands that need no deployment: what they print, and with which exit code.

use super::process::{althing, example, expect, run};
use althing_node::config::SiteKeysFile;
use althing_types::ReplicaId;
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
    for (name, process) in [
        ("greenhouse.yaml", "thermostat-3"),
        ("greenhouse-python.yaml", "thermostat-3"),
        ("greenhouse-two-stage.yaml", "thermostat-3"),
        ("five-sites.yaml", "reykjavik-3"),
        ("mixed-sites.yaml", "station-4"),
    ] {
        let spec = example(name);
        let (out, error) = expect(&run(["check".as_ref(), spec.as_os_str()]), 0);
        assert!(out.contains("is valid"), "{out}");
        assert_eq!(error, "");
        let checked = json(&run(["check".as_ref(), spec.as_os_str(), "--json".as_ref()]), 0);
        assert_eq!(checked["valid"], true);
        assert_eq!(checked["problems"].as_array().map(Vec::len), Some(0));
        let (plan, _) = expect(&run(["plan".as_ref(), spec.as_os_str()]), 0);
        assert!(plan.contains(process), "{plan}");
        assert!(json(&run(["plan".as_ref(), spec.as_os_str(), "--json".as_ref()]), 0).is_object());
    }
    let schema = json(&run(["check", "--schema"]), 0);
    for (kind, key) in [("Application", "components"), ("Sites", "sites")] {
        assert!(schema["$defs"][kind]["properties"][key].is_object(), "{schema}");
    }
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

/// Without the line breaks that a long path leads to, wherever they fall.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect()
}

#[test]
fn a_site_is_dealt_its_keys_whole_and_once() {
    let home = TempDir::new().expect("a temporary directory");
    let directory = home.path().join("keys");
    let out = directory.to_str().expect("a path in UTF-8");
    let (public, _) = expect(&run(["keygen", "--site", "athens", "--servers", "4", "--out", out]), 0);
    let site = SiteKeysFile::load(&directory.join("athens.site.json")).expect("the public keys are good");
    assert_eq!((site.name(), site.shares().needed()), ("athens", 2));
    assert_eq!(site.shares().public().to_string(), public.trim());
    let secret = |server: u16| directory.join(format!("athens-{server}.site.key"));
    for server in 0..4 {
        site.load_secret(ReplicaId(server), &secret(server)).expect("each server has its share");
        let mode = fs::metadata(secret(server)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let error = site.load_secret(ReplicaId(1), &secret(2)).expect_err("somebody else's").to_string();
    assert!(error.contains("is not what r1 of the site `athens` was dealt"), "{error}");
    fs::set_permissions(secret(0), fs::Permissions::from_mode(0o640)).expect("it is ours");
    let error = site.load_secret(ReplicaId(0), &secret(0)).expect_err("others can read it").to_string();
    assert!(error.contains("chmod 600"), "{error}");

    // What is left of another site of that name is in the way, and nothing is left of the new one.
    fs::remove_file(secret(1)).expect("it is ours");
    let kept = fs::read(secret(2)).expect("it is there");
    for file in [secret(0), secret(3), directory.join("athens.site.json")] {
        fs::remove_file(file).expect("it is ours");
    }
    let (_, error) = expect(&run(["keygen", "--site", "athens", "--servers", "4", "--out", out]), 2);
    assert!(error.contains("never overwritten"), "{error}");
    assert!(unwrapped(&error).contains("athens-2.site.key"), "{error}");
    assert_eq!(fs::read_dir(&directory).expect("it is there").count(), 1);
    assert_eq!(fs::read(secret(2)).expect("it is there"), kept);

    let arguments =
        ["keygen", "--json", "--site", "oslo", "--servers", "3", "--faults", "crash", "--out", out];
    let made = json(&run(arguments), 0);
    let file = made["public_keys_file"].as_str().expect("a path");
    let site = SiteKeysFile::load(Path::new(file)).expect("the public keys are good");
    assert!(!site.shares().public().is_threshold() && site.shares().needed() == 1);
    for (server, file) in (0..).zip(made["secret_key_files"].as_array().expect("a list")) {
        let file = Path::new(file.as_str().expect("a path"));
        site.load_secret(ReplicaId(server), file).expect("each server has the key");
    }
    for (arguments, complaint) in [
        (&["--site", "x", "--servers", "3", "--f", "1"][..], "at least 4 replicas"),
        (&["--site", "x", "--servers", "101"], "at most 100"),
        (&["--site", "x", "--servers", "0", "--faults", "crash"], "servers must not be zero"),
        (&["--site", "x", "--servers", "3", "--faults", "crash", "--f", "1"], "leave --f out"),
        (&["--site", "../x", "--servers", "4"], "the name `../x`"),
        (&["--site", "x"], "--servers"),
    ] {
        let (_, error) = expect(&run([&["keygen", "--out", out], arguments].concat()), 2);
        assert!(unwrapped(&error).contains(&unwrapped(complaint)), "{arguments:?}: {error}");
    }
    assert_eq!(fs::read_dir(&directory).expect("it is there").count(), 1 + 4, "nothing else was written");
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

#[test]
fn who_reads_on_no_more_is_no_reason_to_complain() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = althing().arg("check").arg(example("greenhouse.yaml")).stdout(writer).output();
    let (_, complaint) = expect(&output.expect("the binary under test can be started"), 0);
    assert_eq!(complaint, "");
}
