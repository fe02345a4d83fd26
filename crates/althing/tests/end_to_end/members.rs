//! The members of a group change under load: from four to seven and back, one is replaced and one gets
//! another key, until none is left of those that the clients once heard of. So do its settings, and what it runs.

use super::changing::{Changing, address};
use super::load::{CLIENTS, block_on};
use althing_node::GroupClient;
use althing_node::config::{ClientFile, ProtocolKind, RequestAuthKind};
use althing_node::control::{ReplicaReport, Role};
use althing_node::deployment::Deployment;
use althing_protocol::Settings;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A copy of a client's files as they were when the group was made.
fn old_client_file(deployment: &Deployment, home: &Path) -> ClientFile {
    for part in ["clients", "groups"] {
        fs::create_dir(home.join(part)).expect("a directory");
    }
    let name = format!("clients/client-{CLIENTS}");
    for file in ["groups/kv.json".to_owned(), format!("{name}.json"), format!("{name}.key")] {
        fs::copy(deployment.directory().join(&file), home.join(&file)).expect("a copy");
    }
    ClientFile::load(&home.join(format!("{name}.json"))).expect("a client's file")
}

#[test]
fn a_group_goes_from_four_to_seven_and_back_while_it_works() {
    block_on(async {
        let mut group = Changing::start().await;
        for name in ["kv-4", "kv-5", "kv-6"] {
            group.add(name).await;
        }
        group.change(&["--remove", "0", "--remove", "1", "--f", "1"]).await;
        group.settle("remove two").await;
        group.change(&["--remove", "0"]).await;
        group.settle("remove one").await;
        let (key, place) = (group.make("kv-7").await, address());
        group.change(&["--replace", &format!("0={place}={key}")]).await;
        group.start_newcomer("kv-7").await;
        group.settle("replace one").await;
        for name in ["kv-0", "kv-1", "kv-2", "kv-3"] {
            group.is_retired(name).await;
        }
        // The same machine, under another key.
        let key = group.make("kv-8").await;
        group.change(&["--rekey", &format!("1={key}")]).await;
        group.is_retired("kv-4").await;
        group.kill("kv-4").await;
        group.start_newcomer("kv-8").await;
        group.settle("give one another key").await;
        // Each finds its group again, alone and after all were gone.
        group.kill("kv-5").await;
        group.restart("kv-5").await;
        group.takes_part("kv-5").await;
        group.progress().await;
        let members = ["kv-7", "kv-8", "kv-5", "kv-6"];
        for name in members {
            group.kill(name).await;
        }
        for name in members {
            group.restart(name).await;
        }
        for name in members {
            group.takes_part(name).await;
        }
        group.settle("restart all").await;
        // A client that knows nobody of the group is shown the way by those that have left.
        let home = tempfile::TempDir::new().expect("a temporary directory");
        let file = old_client_file(&group.group.deployment, home.path());
        let last = GroupClient::connect(&file).await.expect("a client can be started");
        let epoch = group.epoch;
        group.judge(&last).await;
        let known = last.membership().borrow().as_ref().map(|membership| membership.epoch.0);
        assert_eq!(known, Some(epoch));
    });
}

#[test]
fn the_settings_of_a_group_change_while_it_works_and_outlast_the_processes() {
    block_on(async {
        let mut group = Changing::start().await;
        let set = ["--set", "pipeline=8", "--set", "view_timeout_ms=700", "--set", "checkpoint_period=24"];
        let set = [&set[..], &["--set", "log_size=48", "--first-primary", "2"]].concat();
        let report = group.change(&set).await;
        let of = |name: &str| {
            let settings = report["settings"].as_array().expect("what changed");
            let found = settings.iter().find(|changed| changed["name"] == name);
            found.map(|changed| (changed["before"].clone(), changed["after"].clone()))
        };
        assert_eq!(of("pipeline"), Some((16.into(), 8.into())), "{report}");
        assert_eq!(of("view_timeout_ms"), Some((500.into(), 700.into())), "{report}");
        assert_eq!(report["settings"].as_array().map(Vec::len), Some(4), "and nothing else: {report}");
        group.settle("other settings").await;
        for name in ["kv-0", "kv-1", "kv-2", "kv-3"] {
            group.takes_part(name).await;
        }
        let is_first =
            |report: &ReplicaReport| report.epoch == 1 && report.view == 0 && report.role == Role::Primary;
        group.group.until("kv-2", "the primary of the first view", is_first).await;
        // With a member that joins, and refused where they make no sense.
        let refused = group.ask(&["reconfigure", "--set", "log_size=200"], 1).await;
        let reason = refused["refusal"].as_str().expect("a reason");
        assert!(reason.contains("log_size is 200, but must be a multiple"), "{reason}");
        let newcomer = format!("{}={}", address(), group.make("kv-4").await);
        let set = ["--set", "max_batch_requests=64", "--set", "request_auth=signatures"];
        let set = [&set[..], &["--set", "max_outstanding=64", "--add", &newcomer]].concat();
        let report = group.change(&set).await;
        let changed = report["settings"].as_array().expect("what changed");
        let auth = changed.iter().find(|changed| changed["name"] == "request_auth").expect("it changed");
        assert_eq!((&auth["before"], &auth["after"]), (&"macs".into(), &"signatures".into()), "{report}");
        group.start_newcomer("kv-4").await;
        group.settle("a member, a setting and how requests are signed").await;
        let shown = group.status().await;
        let line = shown.lines().find(|line| line.starts_with("kv in epoch 2 goes by "));
        let line = line.unwrap_or_else(|| panic!("{shown}"));
        let set = ["pipeline=8", "view_timeout_ms=700", "max_batch_requests=64", "max_outstanding=64"];
        for setting in [&set[..], &["request_auth=\"signatures\""]].concat() {
            assert!(line.contains(setting), "{line}");
        }
        assert!(!line.contains("primary_slack"), "it is what it always was: {line}");
        let members = ["kv-0", "kv-1", "kv-2", "kv-3", "kv-4"];
        for name in members {
            group.kill(name).await;
        }
        for name in members {
            group.restart(name).await;
        }
        let wants_signatures = |report: &ReplicaReport| {
            report.engine.max_outstanding == 64 && report.engine.request_auth == RequestAuthKind::Signatures
        };
        for name in members {
            group.takes_part(name).await;
            group.group.until(name, "it wants signatures", wants_signatures).await;
        }
        group.settle("restart all").await;
        let refused = group.ask(&["reconfigure", "--set", "max_outstanding=0"], 1).await;
        let reason = refused["refusal"].as_str().expect("a reason");
        assert!(reason.contains("max_outstanding is 0, but must be from 1"), "{reason}");
        let file = group.group.deployment.directory().join("groups/kv.epoch-2.json");
        let written: Value = serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON");
        assert_eq!((&written["pbft"]["pipeline"], &written["first_primary"]), (&8.into(), &2.into()));
        // A client that knows the first epoch only.
        let home = tempfile::TempDir::new().expect("a temporary directory");
        let file = old_client_file(&group.group.deployment, home.path());
        let last = GroupClient::connect(&file).await.expect("a client can be started");
        group.judge(&last).await;
        let known = last.membership().borrow().clone().expect("the group has members that change");
        let Settings::Pbft(settings) = known.settings else { panic!("it runs {:?}", known.settings) };
        assert_eq!((settings.pipeline, settings.max_batch_requests), (8, 64));
    });
}

/// The protocol that a replica runs, as its status says.
fn runs(report: &ReplicaReport) -> Option<ProtocolKind> {
    report.settings.as_ref().map(|settings| ProtocolKind::from(&settings.settings()))
}

#[test]
fn a_group_goes_from_pbft_to_paxos_and_back_while_it_works_and_processes_are_killed() {
    const ALL: [&str; 4] = ["kv-0", "kv-1", "kv-2", "kv-3"];
    block_on(async {
        let mut group = Changing::start().await;
        let report = group.change(&["--protocol", "paxos", "--set", "pipeline=8"]).await;
        // The one that leads, before the others can be through with it.
        group.kill("kv-0").await;
        assert_eq!((&report["protocol"], &report["f"]), (&"paxos".into(), &1.into()), "{report}");
        let changed = report["settings"].as_array().expect("what changed");
        assert!(changed.iter().any(|changed| changed["name"] == "tentative_requests"), "{report}");
        group.settle("to paxos, with its leader killed").await;
        for name in &ALL[1..] {
            group.takes_part(name).await;
            group.group.until(name, "paxos", |report| runs(report) == Some(ProtocolKind::Paxos)).await;
        }
        group.restart("kv-0").await;
        group.takes_part("kv-0").await;
        // What the other protocol would do with it is refused by its rules.
        let refused = group.ask(&["reconfigure", "--protocol", "pbft", "--f", "2"], 1).await;
        let reason = refused["refusal"].as_str().expect("a reason");
        assert!(reason.contains("tolerates 2 Byzantine fault(s): it takes 7"), "{reason}");
        for name in ALL {
            group.kill(name).await;
        }
        for name in ALL {
            group.restart(name).await;
        }
        group.settle("restart all in paxos").await;
        let report = group.change(&["--protocol", "pbft"]).await;
        group.kill("kv-2").await;
        assert_eq!((&report["protocol"], &report["f"]), (&"pbft".into(), &1.into()), "{report}");
        group.settle("back to pbft, with a backup killed").await;
        group.restart("kv-2").await;
        for name in ALL {
            group.takes_part(name).await;
            group.group.until(name, "PBFT", |report| runs(report) == Some(ProtocolKind::Pbft)).await;
        }
        let file = group.group.deployment.directory().join("groups/kv.epoch-2.json");
        let written: Value = serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON");
        assert_eq!((&written["protocol"], &written["paxos"]["pipeline"]), (&"pbft".into(), &8.into()));
        assert_eq!(written["pbft"]["pipeline"], 16, "what it was run with before");
        // A client that knows the first epoch only.
        let home = tempfile::TempDir::new().expect("a temporary directory");
        let file = old_client_file(&group.group.deployment, home.path());
        let last = GroupClient::connect(&file).await.expect("a client can be started");
        group.judge(&last).await;
        let known = last.membership().borrow().clone().expect("the group has members that change");
        assert_eq!((known.epoch.0, ProtocolKind::from(&known.settings)), (2, ProtocolKind::Pbft));
    });
}

#[test]
fn a_group_speculates_for_a_while_and_processes_are_killed_meanwhile() {
    const ALL: [&str; 4] = ["kv-0", "kv-1", "kv-2", "kv-3"];
    block_on(async {
        let mut group = Changing::start().await;
        let report = group.change(&["--protocol", "zyzzyva", "--set", "settle_patience_ms=20"]).await;
        assert_eq!((&report["protocol"], &report["f"]), (&"zyzzyva".into(), &1.into()), "{report}");
        group.settle("to zyzzyva").await;
        for name in ALL {
            group.takes_part(name).await;
            group.group.until(name, "zyzzyva", |report| runs(report) == Some(ProtocolKind::Zyzzyva)).await;
        }
        // Without a backup clients make certificates; without the primary there is another view.
        group.kill("kv-3").await;
        group.settle("without a backup").await;
        group.restart("kv-3").await;
        group.takes_part("kv-3").await;
        group.kill("kv-0").await;
        group.settle("without the primary").await;
        group.restart("kv-0").await;
        for name in ALL {
            group.kill(name).await;
        }
        for name in ALL {
            group.restart(name).await;
        }
        group.settle("restart all in zyzzyva").await;
        group.change(&["--protocol", "paxos"]).await;
        group.settle("to paxos").await;
        group.change(&["--protocol", "zyzzyva"]).await;
        group.settle("to zyzzyva again").await;
        group.change(&["--protocol", "pbft"]).await;
        group.settle("back to pbft").await;
        for name in ALL {
            group.takes_part(name).await;
        }
        let home = tempfile::TempDir::new().expect("a temporary directory");
        let file = old_client_file(&group.group.deployment, home.path());
        let last = GroupClient::connect(&file).await.expect("a client can be started");
        group.judge(&last).await;
    });
}

#[test]
fn what_can_not_be_done_to_a_group_is_said_and_nothing_changes() {
    block_on(async {
        let group = Changing::start().await;
        let (one, two) = (group.make("kv-4").await, group.make("kv-5").await);
        let add = |key: &str| format!("{}={key}", address());
        let report =
            group.ask(&["reconfigure", "--add", &add(&one), "--add", &add(&two), "--f", "1"], 1).await;
        assert_eq!((&report["outcome"], &report["epoch"]), (&"refused".into(), &0.into()), "{report}");
        let reason = report["refusal"].as_str().expect("a reason");
        assert!(reason.contains("2 replicas join at once, and at most 1 may"), "{reason}");
        let report = group.ask(&["reconfigure", "--remove", "3"], 1).await;
        assert!(report["refusal"].as_str().is_some_and(|reason| reason.contains("3 replicas")), "{report}");
        // Who comes without knowing what others have changed is told.
        let mut group = group;
        group.change(&["--add", &add(&one)]).await;
        let groups = group.group.deployment.directory().join("groups");
        let successor = groups.join("kv.epoch-1.json");
        fs::remove_file(&successor).expect("the group file has a successor");
        let report = group.ask(&["reconfigure", "--add", &add(&two)], 1).await;
        let reason = report["refusal"].as_str().expect("a reason");
        assert!(reason.contains("the command is for epoch e0"), "{reason}");
        assert!(successor.exists() && report["members"].as_array().is_some_and(|members| members.len() == 5));
    });
}
