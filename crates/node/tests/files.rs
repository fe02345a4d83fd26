//! Files of a deployment that are broken: each is refused for its reason, and nothing starts.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use althing_components::{Application, Plan};
use althing_node::config::{
    ClientFile, EdgeConfig, GroupConfig, ProtocolKind, RawService, ReplicaFile, SiteKeysFile, deal_site,
    write_successor,
};
use althing_node::deployment::{
    Deployment, ProvisionOptions, ServiceGroup, provision_application, provision_replica, provision_service,
};
use althing_protocol::Settings;
use althing_protocol::paxos::PaxosSettings;
use althing_protocol::pbft::PbftSettings;
use althing_replica::membership::{Member, Membership};
use althing_replica::{Durability, EngineSettings, RequestAuthPolicy};
use althing_types::{ClientId, Epoch, ReplicaId, View};
use common::{directory, quick};
use serde_json::{Value, json};

const SPEC: &str = "
name: two
components:
  first: { builtin: average, replicate: { faults: byzantine, f: 1 } }
  second: { builtin: thermostat, config: { target: 21 }, replicate: { faults: byzantine, f: 1 } }
wires:
  - { from: mqtt:a, to: first.value }
  - { from: first.average, to: second.temperature }
  - { from: second.heater, to: mqtt:b }
";

fn application(path: &Path) -> Deployment {
    let plan = Plan::of(&Application::parse(SPEC).unwrap());
    provision_application(path, &plan, path, &ProvisionOptions::default()).unwrap()
}

/// What the error has to say, and what is wrong with the file.
type Case = (&'static str, fn(&mut Value));

/// Changes a JSON file, sees what `load` says, and changes it back.
fn broken(file: &Path, change: impl FnOnce(&mut Value), load: impl Fn() -> Option<String>) -> String {
    let before = fs::read(file).unwrap();
    let mut value: Value = serde_json::from_slice(&before).unwrap();
    change(&mut value);
    fs::write(file, value.to_string()).unwrap();
    let error = load().expect("the file is refused");
    fs::write(file, before).unwrap();
    assert_eq!(load(), None, "the file as it was is taken");
    error
}

#[test]
fn what_is_provisioned_is_taken() {
    let (_directory, path) = directory();
    let deployment = application(&path);
    for process in deployment.processes() {
        let file = deployment.config_file(&process.name);
        if process.name == "edge" {
            assert_eq!(EdgeConfig::load(&file).unwrap().groups().len(), 2);
        } else {
            let replica = ReplicaFile::load(&file).unwrap();
            assert_eq!(replica.name(), process.name);
            assert_eq!(replica.courier().is_some(), process.name.starts_with("first"));
        }
    }
    for client in deployment.clients() {
        ClientFile::load(&deployment.client_file(&client.name)).unwrap();
    }
    assert_eq!(Deployment::load(&path).unwrap().processes(), deployment.processes());
    let again = Plan::of(&Application::parse(SPEC).unwrap());
    let error = provision_application(&path, &again, &path, &ProvisionOptions::default()).unwrap_err();
    assert!(error.to_string().contains("already"), "{error}");
}

#[test]
fn secret_keys_are_their_owners_alone() {
    let (_directory, path) = directory();
    let deployment = application(&path);
    let process = deployment.process_directory("first-0");
    let mut keys = 0;
    for entry in fs::read_dir(&process).unwrap() {
        let entry = entry.unwrap();
        if entry.path().extension().is_some_and(|e| e == "key") {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            keys += 1;
        }
    }
    assert_eq!(keys, 3, "its own, as courier and as producer");
    let key = process.join("replica.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = ReplicaFile::load(&deployment.config_file("first-0")).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let other = fs::read(deployment.process_directory("first-1").join("replica.key")).unwrap();
    let own = fs::read(&key).unwrap();
    fs::write(&key, other).unwrap();
    let error = ReplicaFile::load(&deployment.config_file("first-0")).unwrap_err().to_string();
    assert!(error.contains("is not the key of r0"), "{error}");
    fs::write(&key, &own[..40]).unwrap();
    let error = ReplicaFile::load(&deployment.config_file("first-0")).unwrap_err().to_string();
    assert!(error.contains("cut off"), "{error}");
}

/// The same for a change that needs something else.
type ChangeCase<'a> = (&'a str, &'a dyn Fn(&mut Value));

#[test]
fn each_broken_file_of_a_sites_keys_is_refused_for_its_reason() {
    let (_directory, path) = directory();
    let file = deal_site(&path, "athens", 4, Some(1)).unwrap().public_file;
    let plain = deal_site(&path, "oslo", 3, None).unwrap();
    let plain_key = json!(plain.public.to_string());
    let load = |file: &Path| SiteKeysFile::load(file).err().map(|e| e.to_string());
    let cases: [ChangeCase; 9] = [
        ("the name", &|v| v["name"] = json!("../etc")),
        ("at least 7 replicas", &|v| v["f"] = json!(2)),
        ("the first 1 share keys do not make", &|v| v["f"] = json!(0)),
        ("4 share keys for 5 servers", &|v| v["servers"] = json!(5)),
        ("needs `f`", &|v| drop(v.as_object_mut().unwrap().remove("f"))),
        ("server r3 does not fit", &|v| v["share_keys"][3] = v["share_keys"][2].clone()),
        ("public key of server 1", &|v| v["share_keys"][1] = json!("althing-site-share-2:00")),
        ("a plain key has none", &|v| v["public_key"] = plain_key.clone()),
        ("unknown field `shares`", &|v| v["shares"] = json!([])),
    ];
    for (reason, change) in cases {
        let error = broken(&file, change, || load(&file));
        assert!(error.contains(reason), "{reason}: {error}");
    }
    let file = plain.public_file;
    let cases: [ChangeCase; 3] = [
        ("servers must not be zero", &|v| v["servers"] = json!(0)),
        ("at most 100", &|v| v["servers"] = json!(101)),
        ("a plain key has none", &|v| v["share_keys"] = json!(["althing-site-share-2:00"])),
    ];
    for (reason, change) in cases {
        let error = broken(&file, change, || load(&file));
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn each_broken_group_file_is_refused_for_its_reason() {
    let (_directory, path) = directory();
    let deployment = application(&path);
    let file = deployment.group_file("first");
    let load = || GroupConfig::load(&file).err().map(|e| e.to_string());
    let cases: [Case; 22] = [
        ("public key of an administrator", |v| v["admins"] = json!(["me"])),
        ("no administrators", |v| v["epoch"] = json!(1)),
        ("unknown field `administrators`", |v| v["administrators"] = json!([])),
        ("at least 4 replicas", |v| drop(v["replicas"].as_array_mut().unwrap().pop())),
        ("tolerate", |v| v["f"] = json!(2)),
        ("the name", |v| v["name"] = json!("../etc")),
        ("32 hexadecimal digits", |v| v["id"] = json!("12")),
        ("same address", |v| v["replicas"][1]["address"] = v["replicas"][0]["address"].clone()),
        ("same public key", |v| v["replicas"][1]["public_key"] = v["replicas"][0]["public_key"].clone()),
        ("public key of replica r2", |v| v["replicas"][2]["public_key"] = json!("althing-public-1:00")),
        ("invalid socket address", |v| v["replicas"][0]["address"] = json!("somewhere")),
        ("listed twice", |v| v["clients"][1]["id"] = v["clients"][0]["id"].clone()),
        ("has 0 sessions", |v| v["clients"][0]["sessions"] = json!(0)),
        ("must be 1 to 4096", |v| v["clients"][0]["sessions"] = json!(4097)),
        ("have ids that reach up to those of", |v| {
            v["clients"][0]["id"] = json!("7");
            v["clients"][1]["id"] = json!("9");
            v["clients"][0]["sessions"] = json!(3);
        }),
        ("2⁶⁴ − 1", |v| {
            v["clients"][0]["id"] = json!(u64::MAX.to_string());
            v["clients"][0]["sessions"] = json!(2);
        }),
        ("must not be zero", |v| v["pbft"]["pipeline"] = json!(0)),
        ("at least twice", |v| v["pbft"]["log_size"] = json!(3)),
        ("a group of 2 is too small", |v| {
            v["replicas"].as_array_mut().unwrap().truncate(2);
            (v["f"], v["proactive_recovery_ms"]) = (json!(0), json!(60_000));
        }),
        ("at least 8000", |v| v["proactive_recovery_ms"] = json!(7_999)),
        ("key_refresh_ms must not be 0", |v| {
            (v["key_refresh_ms"], v["proactive_recovery_ms"]) = (json!(0), json!(60_000));
        }),
        ("unknown field `colour`", |v| v["colour"] = json!(1)),
    ];
    for (reason, change) in cases {
        let error = broken(&file, change, load);
        assert!(error.contains(reason) && error.contains("first.json"), "{reason}: {error}");
    }
}

#[test]
fn each_broken_process_file_is_refused_for_its_reason() {
    let (_directory, path) = directory();
    let deployment = application(&path);
    let file = deployment.config_file("first-0");
    let load = || ReplicaFile::load(&file).err().map(|e| e.to_string());
    let cases: [Case; 11] = [
        ("no replica 9", |v| v["replica"] = json!(9)),
        ("is not the key of r1", |v| v["replica"] = json!(1)),
        ("cannot be read", |v| v["group"] = json!("nowhere.json")),
        ("no builtin component `magic`", |v| {
            v["service"]["component"]["implementation"]["builtin"]["name"] = json!("magic");
        }),
        ("window", |v| {
            v["service"]["component"]["implementation"]["builtin"]["config"] = json!({ "window": 0 });
        }),
        ("needs the program", |v| {
            v["service"]["component"]["implementation"] =
                json!({ "process": { "argv": [], "working_directory": "." } });
        }),
        ("does not have", |v| v["service"]["component"]["incoming"][0]["port"] = json!("colour")),
        ("listed twice", |v| {
            let wire = v["service"]["component"]["incoming"][0].clone();
            v["service"]["component"]["incoming"].as_array_mut().unwrap().push(wire);
        }),
        ("does not know client", |v| {
            v["service"]["component"]["incoming"][0]["source"] = json!({ "edge": { "client": "7" } });
        }),
        ("does not lead from this component", |v| v["courier"]["consumers"][0]["wires"] = json!([0])),
        ("only the replicas of a component", |v| v["service"] = json!("kv")),
    ];
    for (reason, change) in cases {
        let error = broken(&file, change, load);
        assert!(error.contains(reason), "{reason}: {error}");
    }
    let file = deployment.config_file("edge");
    let load = || EdgeConfig::load(&file).err().map(|e| e.to_string());
    let topic = broken(&file, |v| v["groups"][1]["outgoing"][0]["topic"] = json!("a/#"), load);
    assert!(topic.contains("is no MQTT topic"), "{topic}");
    let filter = broken(&file, |v| v["groups"][0]["incoming"][0]["topic"] = json!("a/#/b"), load);
    assert!(filter.contains("is no MQTT topic filter"), "{filter}");
}

#[test]
fn each_group_has_the_durability_that_its_component_asks_for() {
    let (_directory, path) = directory();
    let spec = SPEC.replace("second: { ", "second: { durability: async, ");
    let plan = Plan::of(&Application::parse(&spec).unwrap());
    let deployment = provision_application(&path, &plan, &path, &ProvisionOptions::default()).unwrap();
    let durability = |process: &str| {
        let file = deployment.config_file(process);
        ReplicaFile::load(&file).unwrap().group().durability()
    };
    assert_eq!((durability("first-0"), durability("second-0")), (Durability::Sync, Durability::Async));
    assert!(plan.text().contains("right while 1 of them lies; durability async"), "{}", plan.text());
}

#[test]
fn files_that_are_none_are_named() {
    let (_directory, path) = directory();
    let group = ServiceGroup {
        name: "store".to_owned(),
        n: 1,
        f: 0,
        protocol: ProtocolKind::Pbft,
        durability: Durability::Sync,
        service: RawService::Null { reply_bytes: 0 },
        clients: 1,
        sessions: 1,
    };
    let deployment = provision_service(&path, &group, &quick()).unwrap();
    let file = deployment.client_file("client-0");
    for (content, reason) in [("", "EOF"), ("{", "EOF"), ("\u{0}", "expected value")] {
        fs::write(&file, content).unwrap();
        let error = ClientFile::load(&file).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("client-0.json"), "{error}");
    }
    let too_few = ServiceGroup { n: 3, f: 1, ..group };
    let (_other, path) = directory();
    let error = provision_service(&path, &too_few, &quick()).unwrap_err().to_string();
    assert!(error.contains("at least 4 replicas"), "{error}");
}

fn store(path: &Path) -> Deployment {
    let group = ServiceGroup {
        name: "store".to_owned(),
        n: 4,
        f: 1,
        protocol: ProtocolKind::Pbft,
        durability: Durability::Sync,
        service: RawService::Kv,
        clients: 2,
        sessions: 3,
    };
    provision_service(path, &group, &quick()).unwrap()
}

#[test]
fn who_changes_a_group_is_a_client_of_it_whose_key_its_file_names() {
    let (_directory, path) = directory();
    let deployment = store(&path);
    let admin = ClientFile::load(&deployment.admin_file()).unwrap();
    assert_eq!(admin.group().membership().unwrap().admins, [admin.identity().public()]);
    assert_eq!((admin.client(), admin.sessions()), (ClientId(7), 1));
    assert!(deployment.clients().iter().all(|client| client.name != "admin"), "it is no load");
    let (_other, path) = directory();
    let components = application(&path);
    let group = GroupConfig::load(&components.group_file("first")).unwrap();
    assert!(group.membership().is_none() && !components.admin_file().exists());
    // Others know the replicas of a component by their numbers.
    let key = admin.identity().public().to_string();
    let load = || ReplicaFile::load(&components.config_file("first-0")).err().map(|e| e.to_string());
    let error = broken(&components.group_file("first"), |v| v["admins"] = json!([key]), load);
    assert!(error.contains("replicas of a component can't be changed"), "{error}");
}

#[test]
fn a_replica_finds_its_place_and_a_client_the_latest_group_by_the_files_beside() {
    let (_directory, path) = directory();
    let mut deployment = store(&path);
    let file = deployment.group_file("store");
    let newcomer = provision_replica(&mut deployment, "store-4").unwrap();
    let again = provision_replica(&mut deployment, "store-4").unwrap_err().to_string();
    assert!(again.contains("already"), "{again}");
    assert_eq!(Deployment::load(&path).unwrap().processes().len(), 5);
    let error = ReplicaFile::load(&newcomer.config).unwrap_err().to_string();
    assert!(error.contains("has no place in the group"), "{error}");

    let first = GroupConfig::load(&file).unwrap().membership().unwrap();
    let member = Member { key: newcomer.key, address: "127.0.0.1:9".to_owned() };
    let members = [&first.members[1..], &[member]].concat();
    let third = Membership { epoch: Epoch(3), members, ..first.clone() };
    let successor = write_successor(&file, &third).unwrap();
    assert_eq!(successor, path.join("groups/store.epoch-3.json"));
    let older = Membership { epoch: Epoch(2), ..first.clone() };
    write_successor(&file, &older).unwrap();

    let place = |name: &str| {
        let replica = ReplicaFile::load(&deployment.config_file(name)).unwrap();
        (replica.replica(), replica.group().membership().unwrap().epoch)
    };
    assert_eq!(place("store-4"), (ReplicaId(3), Epoch(3)));
    assert_eq!(place("store-1"), (ReplicaId(0), Epoch(3)), "it has moved up");
    assert_eq!(place("store-0"), (ReplicaId(0), Epoch(2)), "the last in which it had a place");
    let client = ClientFile::load(&deployment.client_file("client-1")).unwrap();
    assert_eq!(client.group().membership(), Some(third.clone()));
    // What stands there is not written again, whatever anybody says later.
    let other = Membership { f: 0, ..third.clone() };
    write_successor(&file, &other).unwrap();
    assert_eq!(GroupConfig::load(&successor).unwrap().membership(), Some(third.clone()));

    // A later epoch may go by other settings, and another may lead first.
    let pbft =
        PbftSettings { pipeline: 3, view_timeout: Duration::from_millis(700), ..PbftSettings::default() };
    let settings = Settings::Pbft(pbft.clone());
    let fifth = Membership { epoch: Epoch(5), settings, first_primary: ReplicaId(2), ..third.clone() };
    write_successor(&file, &fifth).unwrap();
    let group = GroupConfig::load_latest(&file).unwrap();
    assert_eq!(group.membership(), Some(fifth.clone()));
    assert_eq!(group.quorums().primary(View(0)), ReplicaId(2));
    let fine = PbftSettings { view_timeout: Duration::from_micros(700_500), ..pbft };
    let fine = Membership { epoch: Epoch(6), settings: Settings::Pbft(fine), ..fifth };
    let error = write_successor(&file, &fine).unwrap_err().to_string();
    assert!(error.contains("no whole number of milliseconds"), "{error}");
    // And may run another protocol, with what is written for the first kept for the day on which it does so again.
    let paxos = PaxosSettings { checkpoint_period: 32, ..PaxosSettings::default() };
    let seventh = Membership { epoch: Epoch(7), settings: Settings::Paxos(paxos), ..fine };
    write_successor(&file, &seventh).unwrap();
    let group = GroupConfig::load_latest(&file).unwrap();
    assert_eq!((group.membership(), group.protocol()), (Some(seventh.clone()), ProtocolKind::Paxos));
    assert_eq!(group.quorums().agreement(), 3, "a majority of four");
    let pipelines = |group: &GroupConfig| match group.settings_of(ProtocolKind::Pbft) {
        Some(Settings::Pbft(settings)) => settings.pipeline,
        other => panic!("{other:?}"),
    };
    assert_eq!(pipelines(&group), 3, "of the fifth: the sixth was never written");
    let json = |first: u16| move |v: &mut Value| v["first_primary"] = json!(first);
    let load = || GroupConfig::load(&file).err().map(|error| error.to_string());
    assert!(broken(&file, json(4), load).contains("there are 4 replicas"));

    // And take requests in another way.
    let engine = EngineSettings {
        max_outstanding_requests: 77,
        outstanding_expiry: Duration::from_millis(2500),
        request_auth: RequestAuthPolicy::SignatureOnly,
    };
    let eighth = Membership { epoch: Epoch(8), engine, ..seventh };
    let successor = write_successor(&file, &eighth).unwrap();
    assert_eq!(GroupConfig::load_latest(&file).unwrap().membership(), Some(eighth.clone()));
    let json = |v: &mut Value| v["max_outstanding"] = json!(0);
    let load = || GroupConfig::load(&successor).err().map(|error| error.to_string());
    assert!(broken(&successor, json, load).contains("max_outstanding is 0"));
    let engine = EngineSettings { outstanding_expiry: Duration::from_micros(2500), ..engine };
    let error =
        write_successor(&file, &Membership { epoch: Epoch(9), engine, ..eighth }).unwrap_err().to_string();
    assert!(error.contains("no whole number of milliseconds"), "{error}");

    let mut nowhere = Membership { epoch: Epoch(4), ..third };
    nowhere.members[1].address = "somewhere".to_owned();
    let error = write_successor(&file, &nowhere).unwrap_err().to_string();
    assert!(error.contains("r1 has the address `somewhere`"), "{error}");
}
