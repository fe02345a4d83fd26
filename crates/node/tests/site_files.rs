//! Files of a system of sites that are broken: each is refused for its reason, and nothing starts.

mod common;

use std::fs;
use std::path::Path;

use althing_components::Spec;
use althing_components::spec::SiteSystem;
use althing_node::config::{ClientFile, ReplicaFile, ServiceConfig, SystemConfig};
use althing_node::deployment::{Deployment, Relay, SitesOptions, provision_sites};
use althing_types::{ReplicaId, SiteId};
use althing_wide::Dissemination;
use common::directory;
use serde_json::{Value, json};

const SPEC: &str = "
name: north
wide: { protocol: pbft }
sites:
  oslo: { local: pbft, f: 1 }
  vik: { local: paxos, f: 1 }
  turku: { local: pbft, f: 1 }
  riga: { local: paxos, f: 2 }
links: { delay_ms: 25, mbps: 10 }
";

fn system() -> SiteSystem {
    match Spec::parse(SPEC).unwrap() {
        Spec::Sites(system) => system,
        Spec::Application(_) => unreachable!("it has sites"),
    }
}

fn provisioned(path: &Path) -> (Deployment, Vec<Relay>) {
    let system = system();
    provision_sites(path, &system, &SitesOptions::suiting(&system)).unwrap()
}

#[test]
fn bundles_suit_the_links() {
    let options = SitesOptions::suiting(&system());
    // 10 Mbps to three others, for two delays of 25 ms and a tenth of a second.
    let settings = options.settings;
    assert_eq!((settings.bundle_window_bytes, settings.max_bundle_bytes), (62_499, 15_624));
    assert_eq!(options.pbft.separate_patience_ms, 600);
}

#[test]
fn the_way_of_updates_in_the_spec_file_is_that_of_the_sites() {
    for (name, is_vouching) in [("origin", false), ("vouched", true)] {
        let (_home, directory) = directory();
        let spec = format!("{SPEC}updates: {name}\n");
        let Ok(Spec::Sites(system)) = Spec::parse(&spec) else { panic!("{spec} is a system of sites") };
        provision_sites(&directory, &system, &SitesOptions::suiting(&system)).unwrap();
        let system = SystemConfig::load(&directory.join("system.json")).unwrap();
        let Dissemination::Origin { is_vouching: is_it, .. } = system.dissemination() else {
            panic!("{name}: {:?}", system.dissemination())
        };
        assert_eq!(is_it, is_vouching, "{name}");
    }
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

#[track_caller]
fn all_refused(file: &Path, load: impl Fn() -> Option<String>, cases: &[Case]) {
    for (reason, change) in cases {
        let error = broken(file, change, &load);
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn what_is_provisioned_is_taken_and_relays_stand_between_sites() {
    let (_directory, path) = directory();
    let (deployment, relays) = provisioned(&path);
    assert_eq!(deployment.processes().len(), 4 + 3 + 4 + 5);
    assert_eq!(relays.len(), 3 * 16, "from each other site to each server");
    for process in deployment.processes() {
        let file = ReplicaFile::load(&deployment.config_file(&process.name)).unwrap();
        let ServiceConfig::Site(config) = file.service() else { panic!("{} is a site's", process.name) };
        assert_eq!(process.name, format!("{}-{}", file.group().name(), file.replica().0));
        for peer in &config.peers {
            let is_it = |relay: &&Relay| {
                (relay.from, relay.to, relay.server) == (config.site, peer.site, peer.server)
            };
            let relay = relays.iter().find(is_it);
            assert_eq!(relay.map_or(peer.address, |relay| relay.listen), peer.address);
            assert_eq!(relay.is_none(), peer.site == config.site, "a site's own servers reach each other");
        }
    }
    let first = ReplicaFile::load(&deployment.config_file("vik-2")).unwrap();
    let ServiceConfig::Site(config) = first.service() else { panic!("it is a site's") };
    let to_it: Vec<_> = relays.iter().filter(|it| (it.to, it.server) == (SiteId(1), ReplicaId(2))).collect();
    assert!(to_it.iter().all(|relay| relay.forward == config.listen) && to_it.len() == 3);
    for client in deployment.clients() {
        let file = ClientFile::load(&deployment.client_file(&client.name)).unwrap();
        assert!(file.system().is_some() && file.group().name() == client.group);
    }
}

#[test]
fn each_broken_system_file_is_refused_for_its_reason() {
    let (_directory, path) = directory();
    provisioned(&path);
    let file = path.join("system.json");
    let load = || SystemConfig::load(&file).err().map(|error| error.to_string());
    let cases: [Case; 28] = [
        ("the name", |v| v["name"] = json!("../etc")),
        ("32 hexadecimal digits", |v| v["id"] = json!("1")),
        ("not `unreplicated`", |v| v["protocol"] = json!("unreplicated")),
        ("at least 7 replicas", |v| v["f"] = json!(2)),
        ("no component and no system", |v| v["service"] = two_level()),
        ("tentative_requests must be 0", |v| v["pbft"]["tentative_requests"] = json!(1)),
        ("primary_slack must be 0", |v| v["pbft"]["primary_slack"] = json!(1)),
        ("primary_passes must be 0", |v| v["pbft"]["primary_passes"] = json!(1)),
        ("pbft: ", |v| v["pbft"]["log_size"] = json!(1)),
        ("`oslo` is there twice", |v| v["sites"][2]["name"] = json!("oslo")),
        ("same public key", |v| v["sites"][2]["public_key"] = v["sites"][0]["public_key"].clone()),
        ("public key of site oslo", |v| v["sites"][0]["public_key"] = json!("key")),
        ("needs a threshold key", |v| v["sites"][0]["public_key"] = v["sites"][1]["public_key"].clone()),
        ("needs a plain key", |v| v["sites"][1]["public_key"] = v["sites"][0]["public_key"].clone()),
        ("at least 7 replicas", |v| v["sites"][0]["f"] = json!(2)),
        ("no site `rome`", |v| v["clients"][0]["site"] = json!("rome")),
        ("client c1 is listed twice", |v| v["clients"][1]["id"] = json!("1")),
        ("names for sites", |v| v["clients"][0]["id"] = json!((1u64 << 63).to_string())),
        ("client c1 and client c", |v| {
            v["clients"][1]["public_key"] = v["clients"][0]["public_key"].clone();
        }),
        ("public key of client c1", |v| v["clients"][0]["public_key"] = json!("key")),
        ("timeout of a link is zero", |v| v["settings"]["link_timeout_ms"] = json!(0)),
        ("floor of a link is zero", |v| v["settings"]["link_floor_bytes_per_s"] = json!(0)),
        ("relay_timeout_ms must not be zero", |v| v["settings"]["relay_timeout_ms"] = json!(0)),
        ("bundles must not be zero", |v| v["settings"]["bundles"] = json!(0)),
        ("bundle_window_bytes must not", |v| v["settings"]["bundle_window_bytes"] = json!(0)),
        ("separate_patience and five", |v| v["pbft"]["separate_patience_ms"] = json!(3_600_000)),
        ("unknown variant `vouching`, expected one of `leader`, `origin`, `vouched`", |v| {
            v["settings"]["dissemination"] = json!("vouching")
        }),
        ("unknown field `tock_ms`", |v| v["settings"]["tock_ms"] = json!(0)),
    ];
    all_refused(&file, load, &cases);
}

/// A system that replicates a place in a system.
fn two_level() -> Value {
    let listen = "127.0.0.1:1";
    let (system, keys) = ("system.json", "keys");
    json!({ "site": {
        "system": system, "site_keys": keys, "site_secret": keys, "lanes": [], "lane_secret": keys,
        "listen": listen, "peers": []
    } })
}

/// What is said has to fit into what carries it: else it would be dropped, or worse, each time that it is said.
#[test]
fn what_can_not_be_carried_is_refused_before_anything_starts() {
    let (_directory, path) = directory();
    provisioned(&path);
    let file = path.join("system.json");
    let load = || SystemConfig::load(&file).err().map(|error| error.to_string());
    let cases: [Case; 6] = [
        ("a batch", |v| v["pbft"]["max_batch_bytes"] = json!(1 << 20)),
        ("a batch", |v| v["pbft"]["max_batch_requests"] = json!(4096)),
        ("a bundle", |v| v["settings"]["max_bundle_bytes"] = json!(1 << 20)),
        ("a message", |v| v["settings"]["max_message_bytes"] = json!(1 << 20)),
        ("a batch", |v| v["settings"]["max_update_bytes"] = json!(1 << 20)),
        ("a result", |v| v["settings"]["max_reply_bytes"] = json!(1 << 20)),
    ];
    all_refused(&file, load, &cases);
}

#[test]
fn each_broken_place_of_a_server_is_refused_for_its_reason() {
    let (_directory, path) = directory();
    let (deployment, _) = provisioned(&path);
    let file = deployment.config_file("oslo-1");
    let load = || ReplicaFile::load(&file).err().map(|error| error.to_string());
    let cases: [Case; 11] = [
        ("cannot be read", |v| v["service"]["site"]["system"] = json!("elsewhere")),
        ("is not what r1 of the site `oslo` was dealt", |v| {
            v["service"]["site"]["site_secret"] = json!("../oslo-2/site.key");
        }),
        ("has another public key", |v| {
            v["service"]["site"]["site_keys"] = json!("../../sites/vik.site.json");
        }),
        ("is not the key of c", |v| v["service"]["site"]["lane_secret"] = json!("../oslo-2/lanes.key")),
        ("`lanes` lists other servers", |v| {
            drop(v["service"]["site"]["lanes"].as_array_mut().unwrap().pop())
        }),
        ("needs 5 sessions", |v| v["service"]["site"]["lanes"][0]["client"] = json!("1")),
        ("does not know client c77", |v| v["service"]["site"]["lanes"][0]["client"] = json!("77")),
        ("no site `rome`", |v| v["service"]["site"]["peers"][0]["site"] = json!("rome")),
        ("r0 of the site `vik` and r1 of the site `vik` have the same public key", |v| {
            let peers = &mut v["service"]["site"]["peers"];
            peers[4]["public_key"] = peers[3]["public_key"].clone();
        }),
        ("is no other server", |v| v["service"]["site"]["peers"][0]["server"] = json!(1)),
        ("`peers` lacks r4 of the site `riga`", |v| {
            drop(v["service"]["site"]["peers"].as_array_mut().unwrap().pop());
        }),
    ];
    all_refused(&file, load, &cases);
    let group = deployment.group_file("oslo");
    let json = |file: &Path| -> Value { serde_json::from_slice(&fs::read(file).unwrap()).unwrap() };
    let (of_group, of_system) = (json(&group), json(&path.join("system.json")));
    for (key, who) in [
        (&of_group["replicas"][1], "r1 of the site `oslo` and r2 of the site `riga`"),
        (&of_system["clients"][5], "r2 of the site `riga` and client c"),
        (of_group["clients"].as_array().unwrap().last().unwrap(), "r2 of the site `riga` and client c"),
    ] {
        let taken = |v: &mut Value| {
            v["service"]["site"]["peers"][12]["public_key"] = key["public_key"].clone();
        };
        let error = broken(&file, taken, load);
        assert!(error.contains(who) && error.contains("have the same public key"), "{who}: {error}");
    }
    let cases: [Case; 5] = [
        ("no site `rome`", |v| v["name"] = json!("rome")),
        ("another size, f or protocol", |v| v["f"] = json!(0)),
        ("tentative_requests must be 0", |v| v["pbft"]["tentative_requests"] = json!(1)),
        ("leave proactive_recovery_ms", |v| v["proactive_recovery_ms"] = json!(60_000)),
        ("so it needs `is_site` too", |v| v["is_site"] = json!(false)),
    ];
    all_refused(&group, load, &cases);
}

#[test]
fn a_client_asks_the_site_in_which_it_lives() {
    let (_directory, path) = directory();
    let (deployment, _) = provisioned(&path);
    let file = deployment.client_file("vik-client-0");
    let load = || ClientFile::load(&file).err().map(|error| error.to_string());
    let system = path.join("system.json");
    let error = broken(&system, |v| v["clients"][4]["site"] = json!("oslo"), load);
    assert!(error.contains("does not live in the site `vik`"), "{error}");
}
