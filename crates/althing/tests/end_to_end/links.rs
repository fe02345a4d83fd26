//! A system of sites whose links and servers fail on purpose, while its clients go on.

use super::commands::json;
use super::deployment::{Deployment, pid};
use super::process::{expect, signal, until};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use tempfile::TempDir;

/// Four sites, of which one may be taken over as a whole, over links as slow as real ones.
const NORTH: &str = "
name: north
wide: { protocol: pbft }
sites:
  oslo: { local: pbft, f: 1 }
  vik: { local: paxos, f: 1 }
  turku: { local: paxos, f: 1 }
  umea: { local: paxos, f: 1 }
links: { delay_ms: 10, mbps: 20 }
";

const SITES: [&str; 4] = ["oslo", "vik", "turku", "umea"];

const SERVERS: usize = 13;

fn put(system: &Deployment, site: &str, key: &str) {
    assert_eq!(system.tell(&["kv", "put", key, key, "--site", site, "--within", "40"]), "stored\n");
}

/// The system, in which a client of each site has been answered, and where its spec file is.
fn north() -> (TempDir, Deployment) {
    let home = TempDir::new().expect("a temporary directory");
    let path = home.path().join("north.yaml");
    fs::write(&path, NORTH).expect("a file in a temporary directory");
    let system = Deployment::up(&path);
    SITES.iter().for_each(|site| put(&system, site, site));
    (home, system)
}

fn reports(system: &Deployment) -> Vec<Value> {
    SITES.iter().flat_map(|site| system.replicas(site)).collect()
}

/// Which site leads, as most servers see it.
fn leader(system: &Deployment) -> String {
    let reports = reports(system);
    let leads = |site: &&str| reports.iter().filter(|report| report["site"]["leader"] == **site).count();
    (*SITES.iter().max_by_key(|site| leads(site)).expect("there are sites")).to_owned()
}

/// How a site's link to another stands, as one of its servers sees it that has seen most turns.
fn link(system: &Deployment, from: &str, to: &str) -> Value {
    let replicas = system.replicas(from);
    let links = replicas.iter().filter_map(|report| report["site"]["links"].as_array()).flatten();
    let links = links.filter(|link| link["site"] == to);
    links.max_by_key(|link| link["turn"].as_u64()).expect("the site has said something to it").clone()
}

/// The report of the process of the links.
fn links(system: &Deployment) -> Value {
    system.process("links").expect("it answers")
}

#[test]
fn clients_go_on_while_links_are_cut_and_corrupt_and_servers_fail_towards_other_sites() {
    let (_home, system) = north();
    let delivered = links(&system)["pairs"].as_array().map_or(0, Vec::len);
    assert_eq!(delivered, 12, "all traffic goes through the links");

    // What one site sends arrives with bits flipped, until it is mended.
    system.tell(&["inject", "link", "oslo", "vik", "corrupt", "100"]);
    // A forwarder that forwards nothing is replaced.
    let before = link(&system, "oslo", "turku");
    let forwarder = format!("oslo-{}", before["forwarder"]);
    system.tell(&["inject", &forwarder, "silent-forwarder"]);
    system.tell(&["inject", "vik-1", "mute"]);
    put(&system, "oslo", "corrupt");
    put(&system, "vik", "corrupted");
    let corrupted = || {
        links(&system)["pairs"].as_array().into_iter().flatten().any(|it| it["corrupted"].as_u64() > Some(0))
    };
    until("that a packet was corrupted", || corrupted().then_some(()));
    until("that another server forwards", || {
        let now = link(&system, "oslo", "turku");
        (now["turn"].as_u64() > before["turn"].as_u64() && now["forwarder"] != before["forwarder"])
            .then_some(())
    });
    system.tell(&["inject", "link", "oslo", "vik", "mend"]);
    system.tell(&["inject", &forwarder, "heal"]);
    system.tell(&["inject", "vik-1", "heal"]);

    // The leading site is cut off: the others take another one.
    let cut = leader(&system);
    system.tell(&["inject", "site", &cut, "cut"]);
    let others: Vec<_> = SITES.into_iter().filter(|site| *site != cut).collect();
    others.iter().for_each(|site| put(&system, site, &format!("without-{site}")));
    system.tell(&["inject", "site", &cut, "mend"]);
    put(&system, &cut, "back");

    until("that all servers are where the others are", || {
        let reports = reports(&system);
        let executed: Vec<_> = reports.iter().map(|report| &report["site"]["executed"]).collect();
        let is_even = executed.iter().all(|it| *it == executed[0]);
        (reports.len() == SERVERS && is_even).then_some(())
    });
    for site in SITES {
        let got =
            system.tell(&["kv", "get", &format!("without-{}", others[0]), "--site", site, "--within", "40"]);
        assert_eq!(got, format!("without-{}\n", others[0]));
    }
    assert!(reports(&system).iter().all(|report| report["counters"]["divergences"] == 0));
    let status = json(&system.ask(&["status", "--json"]), 0);
    assert!(status["processes"].as_array().is_some_and(|all| all.len() == SERVERS + 1), "{status}");
    system.end();
}

/// How the link of a site to another stands, once another one has its turn than before.
#[track_caller]
fn next_turn(system: &Deployment, (from, to): (&str, &str), before: &Value) {
    until("that another virtual link has its turn", || {
        // Something has to be said for a link to owe it.
        put(system, from, "turn");
        (link(system, from, to)["turn"].as_u64() > before["turn"].as_u64()).then_some(())
    });
}

/// What servers of the other sites say that a site was caught at.
fn caught(system: &Deployment, site: usize) -> usize {
    let others = SITES.iter().filter(|other| **other != SITES[site]);
    let reports: Vec<Value> = others.flat_map(|other| system.replicas(other)).collect();
    let evidence = reports.iter().filter_map(|report| report["evidence"].as_array()).flatten();
    evidence.filter(|it| it["of"] == "site" && it["accused"] == site).count()
}

/// How many servers say that their site is taken over.
fn taken_over(system: &Deployment, site: &str) -> usize {
    system.replicas(site).iter().filter(|report| report["site"]["is_taken_over"] == true).count()
}

#[test]
fn servers_that_fail_towards_other_sites_and_whole_sites_that_fail_or_lie_are_seen_and_outlived() {
    let (_home, system) = north();

    // A forwarder that is slow is replaced, and a peer that is deaf; who sends wrong shares is reported.
    let slow = link(&system, "oslo", "turku");
    system.tell(&["inject", &format!("oslo-{}", slow["forwarder"]), "slow-forwarder", "6000"]);
    let deaf = link(&system, "vik", "umea");
    system.tell(&["inject", &format!("umea-{}", deaf["peer"]), "deaf-peer"]);
    next_turn(&system, ("oslo", "turku"), &slow);
    next_turn(&system, ("vik", "umea"), &deaf);
    let liar = format!("oslo-{}", slow["forwarder"]);
    system.tell(&["inject", &liar, "wrong-shares"]);
    until("that a wrong share is reported", || {
        put(&system, "oslo", "share");
        let others =
            system.replicas("oslo").into_iter().filter(|report| report["replica"] != slow["forwarder"]);
        others
            .map(|report| report["site"]["wrong_shares"].as_u64())
            .any(|count| count > Some(0))
            .then_some(())
    });
    system.tell(&["inject", &liar, "heal"]);
    system.tell(&["inject", &format!("umea-{}", deaf["peer"]), "heal"]);

    // One server of a site hangs: the others are told all the same, and which one was not.
    let hung = pid(&system.process("vik-1").expect("it answers"));
    signal(hung, Signal::STOP);
    let (out, error) = expect(&system.ask(&["inject", "site", "vik", "mute"]), 1);
    assert!(out.contains("2 of 3 servers of vik are mute"), "{out}");
    assert!(error.contains("not vik-1"), "{error}");
    put(&system, "turku", "vik-is-mute");
    signal(hung, Signal::CONT);
    system.tell(&["inject", "site", "vik", "mend"]);
    put(&system, "vik", "vik-is-back");

    // All servers of a site are killed, and started again.
    let out = system.tell(&["inject", "site", "turku", "crash"]);
    assert!(out.contains("the 3 servers of turku are killed"), "{out}");
    put(&system, "oslo", "turku-is-down");
    put(&system, "turku", "turku-is-back");

    // A site lies, and is let go while clients go on: its servers begin and end together.
    system.tell(&["inject", "site", "umea", "lie"]);
    until("that all its servers know", || (taken_over(&system, "umea") == 3).then_some(()));
    until("that the others catch it", || {
        ["oslo", "vik", "turku"].iter().for_each(|site| put(&system, site, "lied-to"));
        (caught(&system, 3) > 0).then_some(())
    });
    std::thread::scope(|scope| {
        scope.spawn(|| (0..10).for_each(|_| put(&system, "vik", "while-mended")));
        system.tell(&["inject", "site", "umea", "mend"]);
    });
    until("that all its servers are let go", || (taken_over(&system, "umea") == 0).then_some(()));
    put(&system, "umea", "umea-is-back");

    until("that all servers are where the others are", || {
        let reports = reports(&system);
        let executed: Vec<_> = reports.iter().map(|report| &report["site"]["executed"]).collect();
        let is_even = executed.iter().all(|it| *it == executed[0]);
        (reports.len() == SERVERS && is_even).then_some(())
    });
    for site in SITES {
        let got = system.tell(&["kv", "get", "umea-is-back", "--site", site, "--within", "40"]);
        assert_eq!(got, "umea-is-back\n");
    }
    for report in reports(&system) {
        assert_eq!(report["counters"]["divergences"], 0, "{report}");
    }
    system.end();
}
