//! Carries a replica's outputs to the groups that consume them. Each replica delivers its own copies,
//! which are voted on over there, and tells its own group what has arrived.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use althing_components::{Courier, Operation, Reply, WireId};
use althing_types::ClientId;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use crate::client::GroupClient;
use crate::config::{ConsumerConfig, ReplicaFile};
use crate::net::StartError;

/// How long to wait after a consumer was busy, or before it is asked again how far it is.
const PAUSE: Duration = Duration::from_millis(50);

/// How long to wait for something to carry before looking anyway.
const IDLE: Duration = Duration::from_secs(1);

/// A question to the own replica's state.
pub(super) struct LocalQuery {
    pub(super) operation: Vec<u8>,
    pub(super) client: ClientId,
    pub(super) answer: oneshot::Sender<Option<Vec<u8>>>,
}

/// The couriers of a replica; they end when this is dropped.
pub(super) struct Couriers {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    wakers: BTreeMap<u32, Arc<Notify>>,
    queries: mpsc::Receiver<LocalQuery>,
    /// Keeps the queue open where there is no courier.
    _queries_open: mpsc::Sender<LocalQuery>,
}

impl Couriers {
    /// The next question to the own state.
    pub(super) async fn next_query(&mut self) -> LocalQuery {
        self.queries.recv().await.expect("one sender is kept")
    }

    /// Says that there is something on a channel.
    pub(super) fn wake(&self, channel: u32) {
        if let Some(waker) = self.wakers.get(&channel) {
            waker.notify_one();
        }
    }

    /// Says that there may be something on every channel.
    pub(super) fn wake_all(&self) {
        self.wakers.values().for_each(|waker| waker.notify_one());
    }
}

impl Drop for Couriers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Starts the couriers that the file asks for.
pub(super) async fn start(file: &ReplicaFile) -> Result<Couriers, StartError> {
    let (asking, queries) = mpsc::channel(16);
    let mut couriers =
        Couriers { tasks: Vec::new(), wakers: BTreeMap::new(), queries, _queries_open: asking.clone() };
    let Some(config) = file.courier() else { return Ok(couriers) };
    let own = GroupClient::connect(&config.own).await?;
    for consumer in &config.consumers {
        let waker = Arc::new(Notify::new());
        couriers.wakers.extend(consumer.wires.iter().map(|wire| (wire.0, Arc::clone(&waker))));
        let route = Route {
            me: config.own.client(),
            own: own.clone(),
            consumer: GroupClient::connect(&consumer.client).await?,
            couriers: couriers_of(consumer),
            state: asking.clone(),
            waker,
        };
        couriers.tasks.push(tokio::spawn(route.run()));
    }
    Ok(couriers)
}

fn couriers_of(consumer: &ConsumerConfig) -> Vec<(WireId, Courier)> {
    consumer.wires.iter().map(|wire| (*wire, Courier::new(*wire))).collect()
}

/// The way from this replica to one consuming group.
struct Route {
    me: ClientId,
    own: GroupClient,
    consumer: GroupClient,
    couriers: Vec<(WireId, Courier)>,
    state: mpsc::Sender<LocalQuery>,
    waker: Arc<Notify>,
}

/// What one round over a wire found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Round {
    /// Nothing to do until something is emitted.
    Idle,
    /// Something to be asked for again after a pause.
    Waiting,
    /// There may be more to do at once.
    Active,
}

impl Route {
    async fn run(mut self) {
        loop {
            let mut round = Round::Idle;
            for index in 0..self.couriers.len() {
                match self.step(index).await {
                    Some(step) => round = round.max(step),
                    // The replica or a client has ended.
                    None => return,
                }
            }
            match round {
                Round::Active => {}
                Round::Waiting => drop(timeout(PAUSE, self.waker.notified()).await),
                Round::Idle => drop(timeout(IDLE, self.waker.notified()).await),
            }
        }
    }

    /// Does what there is to do for one wire; `None` when the replica has ended.
    async fn step(&mut self, index: usize) -> Option<Round> {
        self.catch_up(index).await?;
        let courier = &mut self.couriers[index].1;
        if let Some(delivery) = courier.delivery() {
            let reply = ask(&self.consumer, &delivery).await?;
            if let Reply::Refused(refusal) = &reply {
                tracing::error!(%refusal, "the consuming group refuses what it is sent");
            }
            let is_complete = courier.on_reply(&delivery, &reply);
            return Some(if is_complete { Round::Active } else { Round::Waiting });
        }
        if let Some(acknowledgement) = courier.acknowledgement() {
            let reply = ask(&self.own, &acknowledgement).await?;
            if matches!(reply, Reply::Acknowledged { .. }) {
                courier.on_acknowledged(&acknowledgement);
                return Some(Round::Active);
            }
            tracing::error!(?reply, "the own group refuses an acknowledgement");
            return Some(Round::Waiting);
        }
        if let Some(question) = courier.progress() {
            // The copies of other replicas take their time; asking at once finds them under way.
            tokio::time::sleep(PAUSE).await;
            let reply = read(&self.consumer, &question).await?;
            let before = courier.acknowledgement().is_some();
            courier.on_reply(&question, &reply);
            let is_news = !before && courier.acknowledgement().is_some();
            return Some(if is_news { Round::Active } else { Round::Waiting });
        }
        Some(Round::Idle)
    }

    /// Takes what the own replica has emitted from its state, from where this courier is.
    async fn catch_up(&mut self, index: usize) -> Option<()> {
        let courier = &mut self.couriers[index].1;
        if courier.delivery().is_some() {
            return Some(());
        }
        let (answer, answered) = oneshot::channel();
        let operation = courier.catch_up().encode();
        self.state.send(LocalQuery { operation, client: self.me, answer }).await.ok()?;
        let reply = answered.await.ok()?.and_then(|reply| Reply::decode(&reply).ok());
        if let Some(reply) = reply {
            courier.on_outputs(reply);
        }
        Some(())
    }
}

async fn ask(group: &GroupClient, operation: &Operation) -> Option<Reply> {
    let answer = group.invoke(operation.encode()).await.ok()?;
    Reply::decode(&answer.result).ok()
}

async fn read(group: &GroupClient, question: &Operation) -> Option<Reply> {
    let answer = group.query(question.encode()).await.ok()?;
    Reply::decode(&answer.result).ok()
}
