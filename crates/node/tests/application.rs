//! Applications from spec files: readings in over MQTT, commands out, while replicas fail.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use althing_components::{Application, Plan};
use althing_node::config::RawBroker;
use althing_node::control::{Fault, Request, Response};
use althing_node::deployment::{Deployment, provision_application};
use common::{Cluster, PATIENCE, RunningEdge, directory, quick, show_logs, wait_for_edge};
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};
use tokio::sync::mpsc;
use tokio::time::timeout;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn provision(path: &Path, spec: &str) -> Deployment {
    show_logs();
    let application = Application::parse(spec).unwrap();
    provision_application(path, &Plan::of(&application), &examples(), &quick()).unwrap()
}

fn example(name: &str) -> String {
    std::fs::read_to_string(examples().join(name)).unwrap()
}

fn broker_of(deployment: &Deployment) -> (String, u16) {
    match deployment.broker().unwrap() {
        RawBroker::Embedded { address } => (address.ip().to_string(), address.port()),
        RawBroker::External { host, port } => (host.clone(), *port),
    }
}

/// A device on the broker: a sensor that publishes, and an actuator that listens.
struct Device {
    client: AsyncClient,
    published: mpsc::UnboundedReceiver<()>,
    commands: mpsc::UnboundedReceiver<(String, String)>,
}

impl Device {
    async fn connect((host, port): (String, u16), name: &str, topic: &str) -> Self {
        let mut options = MqttOptions::new(name, host, port);
        options.set_keep_alive(Duration::from_secs(5));
        let (client, mut eventloop) = AsyncClient::new(options, 64);
        let (publishing, published) = mpsc::unbounded_channel();
        let (commanding, commands) = mpsc::unbounded_channel();
        let (subscribing, mut subscribed) = mpsc::unbounded_channel();
        client.subscribe(topic, QoS::AtLeastOnce).await.unwrap();
        tokio::spawn(async move {
            loop {
                match eventloop.poll().await {
                    Ok(Event::Incoming(Incoming::SubAck(_))) => drop(subscribing.send(())),
                    Ok(Event::Incoming(Incoming::PubAck(_))) => drop(publishing.send(())),
                    Ok(Event::Incoming(Incoming::Publish(publish))) => {
                        let text = String::from_utf8(publish.payload.to_vec()).unwrap();
                        if commanding.send((publish.topic, text)).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        timeout(PATIENCE, subscribed.recv()).await.unwrap().unwrap();
        Self { client, published, commands }
    }

    /// Publishes, and waits until the broker has it.
    async fn publish(&mut self, topic: &str, payload: &str) {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload.as_bytes()).await.unwrap();
        timeout(PATIENCE, self.published.recv()).await.unwrap().unwrap();
    }

    async fn command(&mut self) -> String {
        let command = timeout(PATIENCE, self.commands.recv()).await;
        command.expect("a command in time").expect("the device runs").1
    }

    /// Publishes readings that switch the heater each, and expects exactly the right commands.
    async fn heat_and_cool(&mut self, topic: &str, rounds: usize) {
        for _ in 0..rounds {
            for (reading, command) in [("18.5", "on"), ("24", "off")] {
                self.publish(topic, reading).await;
                assert_eq!(self.command().await, command);
            }
        }
    }

    /// Nothing else has come: what a last exchange would have brought out.
    fn is_quiet(&mut self) -> bool {
        self.commands.try_recv().is_err()
    }
}

async fn inject(cluster: &Cluster, name: &str, fault: Fault) {
    assert_eq!(cluster.request(name, &Request::Inject { fault }).await, Response::Done);
}

#[tokio::test]
async fn the_greenhouse_survives_a_liar_and_a_lost_primary() {
    let (_directory, path) = directory();
    let deployment = provision(&path, &example("greenhouse.yaml"));
    let broker = broker_of(&deployment);
    let mut cluster = Cluster::start(deployment);
    let _edge = RunningEdge::start(&cluster.deployment);
    wait_for_edge(&cluster.deployment, "subscribed", |r| r.groups[0].incoming[0].is_connected).await;
    let mut device = Device::connect(broker, "device", "greenhouse/heater").await;
    device.heat_and_cool("greenhouse/temperature", 5).await;

    inject(&cluster, "thermostat-2", Fault::Lie).await;
    device.heat_and_cool("greenhouse/temperature", 5).await;
    let report = wait_for_edge(&cluster.deployment, "aware of the liar", |r| {
        r.groups[0].outgoing[0].disagreements[2] > 0
    })
    .await;
    assert_eq!(report.groups[0].outgoing[0].disagreements[..2], [0, 0]);
    inject(&cluster, "thermostat-2", Fault::None).await;

    cluster.stop("thermostat-0");
    device.heat_and_cool("greenhouse/temperature", 5).await;
    cluster.restart("thermostat-0", true);
    device.heat_and_cool("greenhouse/temperature", 5).await;
    cluster.wait_for("thermostat-0", "a voter again", |r| r.is_voting && !r.is_transferring).await;
    device.heat_and_cool("greenhouse/temperature", 5).await;

    for bad in ["hot", "\"21\"", "{", "99999999999999999999999"] {
        device.publish("greenhouse/temperature", bad).await;
    }
    let report = wait_for_edge(&cluster.deployment, "done with bad readings", |r| {
        r.groups[0].incoming[0].refused == 4
    })
    .await;
    device.heat_and_cool("greenhouse/temperature", 1).await;
    assert!(device.is_quiet());
    let incoming = &report.groups[0].incoming[0];
    assert_eq!((incoming.accepted, incoming.received), (50, 54), "{report:#?}");
}

#[tokio::test]
async fn groups_vote_on_what_other_groups_say() {
    let (_directory, path) = directory();
    let deployment = provision(&path, &example("greenhouse-two-stage.yaml"));
    let broker = broker_of(&deployment);
    let mut cluster = Cluster::start(deployment);
    let _edge = RunningEdge::start(&cluster.deployment);
    wait_for_edge(&cluster.deployment, "subscribed", |r| {
        r.groups.iter().flat_map(|g| &g.incoming).all(|i| i.is_connected)
    })
    .await;
    let mut device = Device::connect(broker, "device", "greenhouse/heater").await;
    // A median over three readings follows after two equal ones.
    for round in 0..4 {
        match round {
            1 => inject(&cluster, "smoother-1", Fault::Lie).await,
            2 => inject(&cluster, "smoother-1", Fault::None).await,
            3 => cluster.stop("smoother-0"),
            _ => {}
        }
        for (reading, command) in [("18", "on"), ("25", "off")] {
            for sensor in ["a", "b", "c"] {
                device.publish(&format!("greenhouse/{sensor}/temperature"), reading).await;
            }
            assert_eq!(device.command().await, command, "round {round}");
        }
    }
    assert!(device.is_quiet());
    let report = cluster.report("thermostat-1").await.unwrap();
    let producers = &report.service["incoming"][0]["producers"];
    assert!(producers[1]["disagreements"].as_u64().unwrap() > 0, "{producers}");
    cluster.restart("smoother-0", true);
    cluster.wait_for("smoother-0", "a voter again", |r| r.is_voting && !r.is_transferring).await;
}

#[tokio::test]
async fn programs_are_components_and_take_over_each_others_state() {
    let (_directory, path) = directory();
    let deployment = provision(&path, &example("greenhouse-python.yaml"));
    let broker = broker_of(&deployment);
    let mut cluster = Cluster::start(deployment);
    let _edge = RunningEdge::start(&cluster.deployment);
    wait_for_edge(&cluster.deployment, "subscribed", |r| r.groups[0].incoming[0].is_connected).await;
    let mut device = Device::connect(broker, "device", "greenhouse/heater").await;
    device.heat_and_cool("greenhouse/temperature", 3).await;
    cluster.stop("thermostat-0");
    cluster.restart("thermostat-0", true);
    cluster.wait_for("thermostat-0", "a voter again", |r| r.is_voting && !r.is_transferring).await;
    cluster.stop("thermostat-3");
    device.heat_and_cool("greenhouse/temperature", 6).await;
    cluster.restart("thermostat-3", false);
    device.heat_and_cool("greenhouse/temperature", 2).await;
    assert!(device.is_quiet());
}

#[tokio::test]
async fn the_edge_goes_on_where_it_ended() {
    let (_directory, path) = directory();
    let deployment = provision(&path, &example("greenhouse.yaml"));
    let cluster_path = path.clone();
    let cluster = Cluster::start(deployment);
    let mosquitto = Mosquitto::start(&cluster_path);
    // The same deployment, with a broker that outlives the edge.
    let edge_file = cluster.deployment.config_file("edge");
    let mut edge: serde_json::Value = serde_json::from_slice(&std::fs::read(&edge_file).unwrap()).unwrap();
    edge["broker"] = serde_json::json!({ "external": { "host": "127.0.0.1", "port": mosquitto.port } });
    std::fs::write(&edge_file, edge.to_string()).unwrap();
    let running = RunningEdge::start(&cluster.deployment);
    wait_for_edge(&cluster.deployment, "subscribed", |r| r.groups[0].incoming[0].is_connected).await;
    let broker = ("127.0.0.1".to_owned(), mosquitto.port);
    let mut device = Device::connect(broker, "device", "greenhouse/heater").await;
    device.heat_and_cool("greenhouse/temperature", 3).await;
    wait_for_edge(&cluster.deployment, "idle", |r| r.groups[0].outgoing[0].acknowledged == 6).await;
    running.stop().unwrap();
    // The broker keeps what comes meanwhile.
    for reading in ["18", "24", "18"] {
        device.publish("greenhouse/temperature", reading).await;
    }
    let _running = RunningEdge::start(&cluster.deployment);
    for command in ["on", "off", "on"] {
        assert_eq!(device.command().await, command);
    }
    device.publish("greenhouse/temperature", "30").await;
    assert_eq!(device.command().await, "off");
    assert!(device.is_quiet());
}

/// Debian's broker.
struct Mosquitto {
    child: Child,
    port: u16,
}

impl Mosquitto {
    fn start(directory: &Path) -> Self {
        let port = althing_node::deployment::free_ports(1).unwrap()[0].port();
        let config = directory.join("mosquitto.conf");
        std::fs::write(&config, format!("listener {port} 127.0.0.1\nallow_anonymous true\nlog_type error\n"))
            .unwrap();
        let binary = ["/usr/sbin/mosquitto", "mosquitto"].into_iter().find(|p| Path::new(p).exists());
        let child = Command::new(binary.unwrap_or("mosquitto")).arg("-c").arg(config).spawn();
        Self { child: child.expect("mosquitto is installed"), port }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
