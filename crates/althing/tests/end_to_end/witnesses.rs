//! Replicas become witnesses, which agree and do not execute, and executors again, under load and while others are
//! killed.

use super::changing::Changing;
use super::load::{CLIENTS, block_on};
use althing_node::GroupClient;
use althing_node::config::ClientFile;
use althing_node::control::{ReplicaReport, Role};

const ALL: [&str; 4] = ["kv-0", "kv-1", "kv-2", "kv-3"];

async fn is_witness(group: &Changing, name: &str) {
    let epoch = group.epoch;
    let is_so = |report: &ReplicaReport| report.epoch == epoch && report.role == Role::Witness;
    group.group.until(name, "a witness", is_so).await;
    // What it takes down it has on its disk.
    group.group.until(name, "at a checkpoint", |report| report.stable > 0).await;
}

#[test]
fn replicas_become_witnesses_and_executors_again_while_the_group_works() {
    block_on(async {
        let mut group = Changing::start().await;
        group.change(&["--set", "witnesses=[3]"]).await;
        group.settle("a witness").await;
        is_witness(&group, "kv-3").await;
        let shown = group.status().await;
        assert!(shown.contains("kv in epoch 1 goes by") && shown.contains("witnesses=[3]"), "{shown}");
        assert!(shown.lines().any(|line| line.starts_with("kv-3 ") && line.contains(" witness ")), "{shown}");
        let refused = group.ask(&["reconfigure", "--set", "witnesses=[2,3]"], 1).await;
        let reason = refused["refusal"].as_str().expect("a reason");
        assert!(reason.contains("2 of 4 replicas are to be witnesses, and at most 1 may"), "{reason}");
        // Two that execute are left, and the witness with them.
        group.kill("kv-1").await;
        group.settle("an executor is killed").await;
        group.kill("kv-3").await;
        group.restart("kv-1").await;
        group.settle("the witness is killed").await;
        group.restart("kv-3").await;
        is_witness(&group, "kv-3").await;
        group.takes_part("kv-1").await;
        // The one that led is to hold no state any more, and the witness is to have it.
        group.change(&["--set", "witnesses=[0]"]).await;
        group.settle("another witness").await;
        is_witness(&group, "kv-0").await;
        group.takes_part("kv-3").await;
        group.kill("kv-2").await;
        group.settle("another executor is killed").await;
        for name in ["kv-0", "kv-1", "kv-3"] {
            group.kill(name).await;
        }
        for name in ALL {
            group.restart(name).await;
        }
        group.settle("restart all").await;
        is_witness(&group, "kv-0").await;
        group.change(&["--set", "witnesses=[]"]).await;
        group.settle("all execute").await;
        for name in ALL {
            group.takes_part(name).await;
        }
        let clients = group.group.deployment.directory().join("clients");
        let file =
            ClientFile::load(&clients.join(format!("client-{CLIENTS}.json"))).expect("a client's file");
        let last = GroupClient::connect(&file).await.expect("a client can be started");
        group.judge(&last).await;
    });
}
