//! The edge: where wires meet MQTT.
//!
//! - Each wire from MQTT has a connection of its own, with one subscription of quality of service 1.
//!   A message is acknowledged to the broker once the group has accepted it. One that the broker sends
//!   again because it did not get the acknowledgement is recognised for as long as the edge runs.
//! - Each group has one connection to publish on. An event leaves once f + 1 replicas agree on it, in
//!   order, and the group is told when the broker has taken it.
//! - After a restart, the edge goes on from the groups' outboxes. What was published and not yet
//!   acknowledged to the group is published again: towards MQTT, events come at least once across a
//!   restart of the edge, and exactly once otherwise, as long as the connection to the broker holds.

mod broker;
mod gateway;
mod ingress;
mod outlet;
mod publisher;
mod redelivery;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::config::{Broker, ConfigError, EdgeConfig, EdgeGroup, create_directory};
use crate::control::{
    ControlCall, ControlError, ControlServer, EdgeGroupReport, EdgeReport, Request, Response, Status,
};
use crate::net::StartError;
use gateway::Gateway;

/// Why the edge did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// Its files are unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its network did not start.
    #[error(transparent)]
    Network(#[from] StartError),
    /// Its control socket can't be opened.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The embedded broker does not run.
    #[error("the embedded MQTT broker does not listen at {address}; is the port taken?")]
    Broker {
        /// Where it should listen.
        address: SocketAddr,
    },
    /// The system gives no thread for the broker.
    #[error("no thread for the embedded MQTT broker: {0}")]
    Thread(io::Error),
    /// One of its tasks ended, which it never should.
    #[error("a part of the edge has ended unexpectedly")]
    Ended,
}

/// Figures that tasks write and the control socket reads.
type Shared<T> = Arc<Mutex<T>>;

/// Runs the edge until `shutdown` resolves, it is told to end over its control socket, or it fails.
///
/// # Errors
/// See [`EdgeError`].
pub async fn run_edge(
    config: EdgeConfig,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), EdgeError> {
    create_directory(config.data())?;
    let mut broker = match config.broker() {
        Broker::Embedded(address) => Some((*address, broker::start(*address)?)),
        Broker::External { .. } => None,
    };
    let (control, mut calls) = ControlServer::open(config.control())?;
    let mut tasks = JoinSet::new();
    let mut reports = Vec::new();
    for group in config.groups() {
        reports.push(start_group(&config, group, &mut tasks).await?);
    }
    tracing::info!(application = config.application(), "the edge runs");
    tokio::pin!(shutdown);
    let result = loop {
        tokio::select! {
            () = &mut shutdown => break Ok(()),
            Some(call) = calls.recv() => if answer(call, &config, &reports) { break Ok(()) },
            Some(_) = tasks.join_next() => break Err(EdgeError::Ended),
            address = broker_ended(broker.as_mut()) => break Err(EdgeError::Broker { address }),
        }
    };
    drop(control);
    tasks.shutdown().await;
    result
}

async fn broker_ended(broker: Option<&mut (SocketAddr, oneshot::Receiver<()>)>) -> SocketAddr {
    match broker {
        Some((address, ended)) => {
            // Whether it said so or its thread panicked, it is gone.
            let _ = ended.await;
            *address
        }
        None => std::future::pending().await,
    }
}

async fn start_group(
    config: &EdgeConfig,
    group: &EdgeGroup,
    tasks: &mut JoinSet<()>,
) -> Result<Shared<EdgeGroupReport>, EdgeError> {
    let report = Arc::new(Mutex::new(EdgeGroupReport {
        group: group.client.group().name().to_owned(),
        ..EdgeGroupReport::default()
    }));
    let (reading, readings) = mpsc::channel(gateway::MAX_PENDING);
    let mut gateway = Gateway::connect(group, readings, Arc::clone(&report)).await?;
    for wire in &group.incoming {
        let accepted = gateway.add_inlet(wire);
        let ingress = ingress::Ingress::new(config, wire, reading.clone(), accepted, Arc::clone(&report));
        tasks.spawn(ingress.run());
    }
    if !group.outgoing.is_empty() {
        let (publications, published) = gateway.publisher();
        let name = format!("althing-{}-{}", config.application(), group.client.group().name());
        tasks.spawn(publisher::run(config.broker().clone(), name, publications, published));
    }
    tasks.spawn(gateway.run());
    Ok(report)
}

/// Answers a request; returns whether the edge was told to end.
fn answer(call: ControlCall, config: &EdgeConfig, reports: &[Shared<EdgeGroupReport>]) -> bool {
    let (response, is_end) = match call.request {
        Request::Status => (Response::Status(Box::new(Status::Edge(report(config, reports)))), false),
        Request::Shutdown => (Response::Done, true),
        Request::Inject { .. } | Request::InjectLink { .. } | Request::Corrupt => {
            let reason = "the edge has no faults to inject; choose a replica".to_owned();
            (Response::Refused { reason }, false)
        }
    };
    // Whoever asked may have gone.
    let _ = call.answer.send(response);
    is_end
}

fn report(config: &EdgeConfig, reports: &[Shared<EdgeGroupReport>]) -> EdgeReport {
    let (host, port) = config.broker().host_and_port();
    EdgeReport {
        name: "edge".to_owned(),
        pid: std::process::id(),
        application: config.application().to_owned(),
        broker: format!("{host}:{port}"),
        is_broker_embedded: matches!(config.broker(), Broker::Embedded(_)),
        groups: reports.iter().map(|report| report.lock().expect("no holder panics").clone()).collect(),
    }
}
