//! The replicated store as its user sees it.

use super::deployment::Deployment;
use super::process::{expect, run, signal, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

#[test]
fn values_are_put_got_swapped_and_deleted() {
    let store = Deployment::kv();
    let kv = |arguments: &[&str], code: i32| expect(&store.ask(&[&["kv"], arguments].concat()), code);
    assert_eq!(kv(&["get", "colour"], 1), (String::new(), "absent\n".to_owned()));
    assert_eq!(kv(&["put", "colour", "green"], 0).0, "stored\n");
    assert_eq!(kv(&["get", "colour"], 0).0, "green\n");
    assert_eq!(kv(&["cas", "colour", "green", "blue"], 0).0, "stored\n");
    assert!(kv(&["cas", "colour", "green", "red"], 1).1.contains("the value is blue"));
    assert!(kv(&["cas", "colour", "--absent", "red"], 1).1.contains("the value is blue"));
    assert_eq!(kv(&["cas", "taste", "--absent", "sour"], 0).0, "stored\n");
    assert_eq!(kv(&["delete", "colour"], 0).0, "deleted\n");
    assert_eq!(kv(&["delete", "colour"], 0).1, "absent\n");

    let told = |arguments: &[&str], code: i32| -> Value {
        serde_json::from_str(&kv(arguments, code).0).expect("JSON")
    };
    assert_eq!(told(&["get", "colour", "--json"], 1), json!({ "outcome": "absent", "value": null }));
    assert_eq!(told(&["get", "taste", "--json"], 0), json!({ "outcome": "value", "value": "sour" }));
    assert_eq!(told(&["put", "taste", "sweet", "--json"], 0)["outcome"], "stored");
    let refused = told(&["cas", "taste", "sour", "salty", "--json"], 1);
    assert_eq!(refused, json!({ "outcome": "mismatch", "value": "sweet" }));

    // A second client sees what the first has done, also with a replica gone for a moment.
    let (_, primary) = store.primary("kv");
    signal(primary, Signal::KILL);
    assert_eq!(kv(&["get", "taste", "--client", "client-1"], 0).0, "sweet\n");
    assert!(kv(&["get", "taste", "--client", "nobody"], 2).1.contains("client-15"));
    until("the return of the replica", || (store.replicas("kv").len() == 4).then_some(()));
    store.end();
}

#[test]
fn a_client_that_the_group_does_not_know_gets_nothing() {
    let store = Deployment::kv();
    store.tell(&["kv", "put", "colour", "green"]);
    let elsewhere = TempDir::new().expect("a temporary directory");
    let public = steal(&store.directory(), elsewhere.path());
    let access = |more: &[&str]| {
        let place = [elsewhere.path().as_os_str(), "--client".as_ref(), "client-1".as_ref()];
        let arguments = ["kv".as_ref(), "get".as_ref(), "colour".as_ref(), "--dir".as_ref()];
        run(arguments.into_iter().chain(place).chain(more.iter().map(std::ffi::OsStr::new)))
    };

    // Its key is not the one that the group file has for it: nobody needs to be asked.
    let (out, error) = expect(&access(&[]), 2);
    assert!(out.is_empty() && error.contains("client-1"), "{error}");

    // With a group file that says otherwise only the replicas can refuse it, and all do.
    let file = elsewhere.path().join("groups/kv.json");
    let mut group: Value = serde_json::from_slice(&fs::read(&file).expect("it was copied")).expect("JSON");
    group["clients"][1]["public_key"] = public.into();
    fs::write(&file, group.to_string()).expect("written");
    let output = access(&["--within", "1"]);
    assert!(output.stdout.is_empty() && !output.status.success(), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("no answer") || error.contains("answer"), "{error}");

    // The group has noticed and goes on.
    let refused = |replica: &Value| replica["counters"]["refused_connections"].as_u64().unwrap_or_default();
    assert!(store.replicas("kv").iter().map(refused).sum::<u64>() > 0);
    assert_eq!(store.tell(&["kv", "get", "colour", "--client", "client-1"]), "green\n");
    store.end();
}

/// A copy of what a client has, but with a secret key of its own making; its public key.
fn steal(from: &Path, to: &Path) -> String {
    for folder in ["groups", "clients"] {
        fs::create_dir(to.join(folder)).expect("a new directory");
    }
    for file in ["deployment.json", "groups/kv.json", "clients/client-1.json"] {
        fs::copy(from.join(file), to.join(file)).expect("the deployment has this file");
    }
    let key = to.join("clients/client-1.key");
    let (public, _) = expect(&run(["keygen".as_ref(), "--out".as_ref(), key.as_os_str()]), 0);
    public.trim().to_owned()
}
