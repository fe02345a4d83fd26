//! A system of sites as its users see it: each site a group of processes, and each site's clients ask it alone.

use super::deployment::{Deployment, pid};
use super::process::{expect, signal, until};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tempfile::TempDir;

/// Paxos among a site whose servers may lie and two whose servers may crash.
const MIXED: &str = "
name: north
wide: { protocol: paxos }
sites:
  oslo: { local: pbft, f: 1 }
  vik: { local: paxos, f: 1 }
  turku: { local: paxos, f: 1 }
";

const SITES: [&str; 3] = ["oslo", "vik", "turku"];

struct System {
    deployment: Deployment,
    _spec: TempDir,
}

impl System {
    fn up(spec: &str) -> Self {
        let home = TempDir::new().expect("a temporary directory");
        let path = home.path().join("sites.yaml");
        fs::write(&path, spec).expect("a file in a temporary directory");
        Self { deployment: Deployment::up(&path), _spec: home }
    }

    fn put(&self, site: &str, key: &str, value: &str) {
        let told = self.deployment.tell(&["kv", "put", key, value, "--site", site, "--within", "40"]);
        assert_eq!(told, "stored\n");
    }

    /// Has a site's group changed, and waits until all its servers are in that epoch.
    fn change(&self, site: &str, epoch: u64, changes: &[&str]) -> Value {
        let arguments = [&["reconfigure", "--site", site, "--json"], changes].concat();
        let report: Value = serde_json::from_str(&self.deployment.tell(&arguments)).expect("JSON");
        assert_eq!((&report["outcome"], &report["epoch"]), (&"changed".into(), &epoch.into()), "{report}");
        let n = report["members"].as_array().map_or(0, Vec::len);
        until("that all servers of the site are in the epoch", || {
            let servers = self.servers(site);
            let are_there = servers.iter().all(|it| it["epoch"] == epoch && it["is_voting"] == true);
            (are_there && servers.len() == n).then_some(())
        });
        report
    }

    fn refuses(&self, site: &str, changes: &[&str], why: &str) {
        let arguments = [&["reconfigure", "--site", site], changes].concat();
        let (_, refusal) = expect(&self.deployment.ask(&arguments), 1);
        assert!(refusal.contains(why), "{changes:?}: {refusal}");
    }

    fn get(&self, site: &str, key: &str) -> String {
        self.deployment.tell(&["kv", "get", key, "--site", site, "--within", "40"])
    }

    /// The servers of a site that answer.
    fn servers(&self, site: &str) -> Vec<Value> {
        self.deployment.replicas(site)
    }

    /// Waits until all servers of all sites have executed the same, and as much as any.
    #[track_caller]
    fn has_settled(&self, servers: usize) {
        until("that all servers are where the others are", || {
            let reports: Vec<Value> = SITES.iter().flat_map(|site| self.servers(site)).collect();
            let executed: Vec<_> = reports.iter().map(|report| &report["site"]["executed"]).collect();
            let is_even = executed.iter().all(|it| *it == executed[0]);
            (reports.len() == servers && is_even).then_some(())
        });
    }
}

#[test]
fn each_sites_clients_see_what_those_of_all_others_wrote_while_servers_and_sites_come_and_go() {
    let system = System::up(MIXED);
    for site in SITES {
        system.put(site, site, "here");
    }
    for site in SITES {
        for other in SITES {
            assert_eq!(system.get(site, other), "here\n", "{site} of {other}");
        }
    }

    // Nobody could tell that a whole site lies.
    let (_, refusal) = expect(&system.deployment.ask(&["inject", "site", "vik", "lie"]), 2);
    assert!(refusal.contains("the sites run paxos among themselves, which tolerates no"), "{refusal}");

    // A server lies. Its site signs without it, and the others find out.
    system.deployment.tell(&["inject", "oslo-1", "lie"]);
    let is_caught = || {
        SITES.iter().for_each(|site| system.put(site, "lied", site));
        let others = system.servers("oslo").into_iter().filter(|report| report["replica"] != 1);
        let caught = others.flat_map(|report| report["evidence"].as_array().cloned().unwrap_or_default());
        let is_it = |evidence: &Value| {
            evidence["accused"] == 1 && evidence["misbehaviour"].to_string().contains("wrong share")
        };
        caught.into_iter().any(|evidence| is_it(&evidence)).then_some(())
    };
    until("that a wrong share is reported", is_caught);
    assert_eq!(system.get("vik", "lied"), "turku\n");

    // A server comes back with its disk, and its own site does not wait for it.
    let server = system.deployment.process("oslo-1").expect("it answers");
    signal(pid(&server), Signal::KILL);
    system.put("oslo", "one", "down");
    assert_eq!(system.get("turku", "one"), "down\n");

    // A whole site comes back with its disks, and catches up with what the others did meanwhile.
    let servers = system.servers("vik");
    assert_eq!(servers.len(), 3);
    servers.iter().for_each(|server| signal(pid(server), Signal::KILL));
    system.put("turku", "two", "down");
    assert_eq!(system.get("vik", "two"), "down\n");
    assert_eq!(system.get("vik", "oslo"), "here\n");
    system.has_settled(10);

    // All of them at once.
    for server in SITES.iter().flat_map(|site| system.servers(site)) {
        signal(pid(&server), Signal::KILL);
    }
    for site in SITES {
        assert_eq!(system.get(site, "two"), "down\n");
        system.put(site, "three", site);
    }
    assert_eq!(system.get("oslo", "three"), "turku\n");
    system.has_settled(10);

    // One that loses its disk is brought up by the others of its site.
    let server = system.deployment.process("turku-0").expect("it answers");
    fs::remove_dir_all(system.deployment.data("turku-0")).expect("it has a disk");
    signal(pid(&server), Signal::KILL);
    system.put("turku", "four", "here");
    until("that it votes again", || {
        let again = system.deployment.process("turku-0").filter(|it| it["pid"] != server["pid"])?;
        (again["is_voting"] == true && again["is_transferring"] == false).then_some(())
    });
    assert_eq!(system.get("turku", "four"), "here\n");
    system.has_settled(10);
    let reports: Vec<Value> = SITES.iter().flat_map(|site| system.servers(site)).collect();
    for report in &reports {
        assert_eq!(report["evidence"], Value::Array(Vec::new()), "nobody is accused: {report}");
        assert_eq!(report["counters"]["divergences"], 0, "{report}");
    }
    system.deployment.end();
}

#[test]
fn updates_that_a_site_answers_for_are_executed_and_answered_everywhere() {
    let system = System::up(&format!("{MIXED}updates: vouched\n"));
    for site in SITES {
        system.put(site, site, "here");
    }
    for site in SITES {
        for other in SITES {
            assert_eq!(system.get(site, other), "here\n", "{site} of {other}");
        }
    }
    // A site goes on answering for its clients from its disks, and hears of those of others that were served meanwhile.
    system.servers("vik").iter().for_each(|server| signal(pid(server), Signal::KILL));
    system.put("oslo", "one", "down");
    assert_eq!(system.get("vik", "one"), "down\n");
    system.put("vik", "two", "up");
    assert_eq!(system.get("turku", "two"), "up\n");
    system.has_settled(10);
    for report in SITES.iter().flat_map(|site| system.servers(site)) {
        assert_eq!(report["evidence"], Value::Array(Vec::new()), "nobody is accused: {report}");
        assert_eq!(report["counters"]["divergences"], 0, "{report}");
    }

    // It is the same at all sites: one that asks for the clients' signatures takes what the others say for forged.
    let file = system.deployment.directory().join("system.json");
    let written = fs::read_to_string(&file).expect("all servers read it");
    let other = written.replace("\"vouched\"", "\"origin\"");
    assert_ne!(other, written);
    fs::write(&file, other).expect("it is ours");
    system.servers("vik").iter().for_each(|server| signal(pid(server), Signal::KILL));
    let is_forged =
        |evidence: &Value| evidence["accused"] == 0 && evidence["misbehaviour"].to_string().contains("forge");
    until("that a site misses signatures", || {
        system.put("oslo", "one", "more");
        let said =
            system.servers("vik").into_iter().filter_map(|report| report["evidence"].as_array().cloned());
        said.flatten().any(|evidence| is_forged(&evidence)).then_some(())
    });
    system.deployment.end();
}

/// A site's group changes as any other, but for who belongs to it: by its administrator's command, while the clients of
/// all sites go on.
#[test]
fn the_groups_of_sites_get_other_settings_and_leaders_while_all_sites_work() {
    let system = System::up(MIXED);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let work = |site: &'static str| {
            let mut done = 0;
            while !is_over.load(Ordering::Relaxed) {
                let put = ["kv", "put", site, &done.to_string(), "--site", site, "--within", "40"];
                // A client of its own: two programs can't share one.
                let told = system.deployment.tell(&[&put[..], &["--client", "client-1"]].concat());
                assert_eq!(told, "stored\n");
                done += 1;
            }
            done
        };
        let workers = ["oslo", "vik"].map(|site| scope.spawn(move || work(site)));
        let set = ["--set", "pipeline=4", "--set", "view_timeout_ms=900", "--set", "request_auth=signatures"];
        let report = system.change("oslo", 1, &[&set[..], &["--first-primary", "2"]].concat());
        let changed = report["settings"].as_array().expect("what changed");
        assert!(changed.iter().any(|it| it["name"] == "pipeline" && it["after"] == 4), "{report}");
        let primary = |site: &str| system.servers(site)[0]["primary"].clone();
        assert_eq!(primary("oslo"), 2);
        system.change("vik", 1, &["--set", "pipeline=3", "--first-primary", "1"]);
        assert_eq!(primary("vik"), 1);
        // Other sites know its servers by their places, and count on what it has said.
        system.refuses("oslo", &["--remove", "0"], "the group is one machine to others");
        system.refuses("vik", &["--protocol", "pbft", "--f", "0"], "the group is one machine to others");
        let tentative = "may execute nothing that is not decided";
        system.refuses("oslo", &["--set", "tentative_requests=4"], tentative);
        // It stays so when all of a site come back.
        let servers = system.servers("oslo");
        assert_eq!(servers.len(), 4);
        servers.iter().for_each(|server| signal(pid(server), Signal::KILL));
        system.put("turku", "turku", "here");
        until("that the site is there again, in its epoch", || {
            let again = system.servers("oslo");
            let is_it = |it: &Value| it["epoch"] == 1 && it["settings"]["pipeline"] == 4;
            (again.len() == 4 && again.iter().all(is_it)).then_some(())
        });
        system.change("oslo", 2, &["--set", "request_auth=macs", "--set", "max_batch_requests=64"]);
        system.put("oslo", "last", "here");
        is_over.store(true, Ordering::Relaxed);
        for worker in workers {
            assert!(worker.join().expect("no update failed") > 0);
        }
    });
    for site in SITES {
        assert_eq!(system.get(site, "last"), "here\n");
    }
    system.has_settled(10);
    for report in SITES.iter().flat_map(|site| system.servers(site)) {
        assert_eq!(report["evidence"], Value::Array(Vec::new()), "nobody is accused: {report}");
        assert_eq!(report["counters"]["divergences"], 0, "{report}");
    }
    system.deployment.end();
}
