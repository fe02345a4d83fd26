use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::time::Duration;

use althing_components::{MAX_EVENTS_PER_DELIVERY, NumberedEvent, Operation, Reply, WireId};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::ingress::Reading;
use super::outlet::Outlet;
use super::publisher::{Publication, Published};
use crate::client::{Answer, GroupClient, InvokeError, ReplicaEmission};
use crate::config::{EdgeGroup, EdgeWire};
use crate::control::EdgeGroupReport;
use crate::net::StartError;

/// Readings that wait for the group, at most; the rest waits at the broker.
pub(super) const MAX_PENDING: usize = 256;

/// The most bytes of events in one delivery.
const MAX_DELIVERY_BYTES: usize = 128 * 1024;

/// How long to wait after the group was busy.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// How long to wait after the group refused something, which it never should.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// What a group is being asked.
enum Asked {
    Delivery(usize),
    Acknowledgement { wire: WireId, up_to: u64 },
    Outputs(WireId),
}

type Asking = Pin<Box<dyn Future<Output = (Asked, Result<Answer, InvokeError>)> + Send>>;

/// The edge's side of one group: brings it readings, and takes what it emits to the publisher. The
/// group is asked one thing at a time.
pub(super) struct Gateway {
    client: GroupClient,
    connected: watch::Receiver<usize>,
    emissions: mpsc::Receiver<ReplicaEmission>,
    readings: mpsc::Receiver<Reading>,
    pending: VecDeque<Reading>,
    inlets: BTreeMap<WireId, mpsc::UnboundedSender<u64>>,
    outlets: BTreeMap<WireId, Outlet>,
    publications: Option<mpsc::UnboundedSender<Publication>>,
    published: Option<mpsc::UnboundedReceiver<Published>>,
    deliver_at: Instant,
    acknowledge_at: Instant,
    was_delivery: bool,
    report: Shared<EdgeGroupReport>,
}

impl Gateway {
    pub(super) async fn connect(
        group: &EdgeGroup,
        readings: mpsc::Receiver<Reading>,
        report: Shared<EdgeGroupReport>,
    ) -> Result<Self, StartError> {
        let (client, emissions) = GroupClient::connect_listening(&group.client).await?;
        let quorums = group.client.group().quorums();
        let [n, f] = [quorums.n(), quorums.liars()]
            .map(|count| u16::try_from(count).expect("a group has at most 100 replicas"));
        let now = Instant::now();
        Ok(Self {
            connected: client.connected(),
            client,
            emissions,
            readings,
            pending: VecDeque::new(),
            inlets: BTreeMap::new(),
            outlets: group.outgoing.iter().map(|wire| (wire.wire, Outlet::new(wire, n, f))).collect(),
            publications: None,
            published: None,
            deliver_at: now,
            acknowledge_at: now,
            was_delivery: false,
            report,
        })
    }

    /// Adds a wire from MQTT; the receiver gets the tickets of the readings that were accepted.
    pub(super) fn add_inlet(&mut self, wire: &EdgeWire) -> mpsc::UnboundedReceiver<u64> {
        let (accepting, accepted) = mpsc::unbounded_channel();
        self.inlets.insert(wire.wire, accepting);
        accepted
    }

    /// The ends of the publisher. No more waits there than the outboxes of the group hold.
    pub(super) fn publisher(
        &mut self,
    ) -> (mpsc::UnboundedReceiver<Publication>, mpsc::UnboundedSender<Published>) {
        let (publications, to_publish) = mpsc::unbounded_channel();
        let (publishing, published) = mpsc::unbounded_channel();
        self.publications = Some(publications);
        self.published = Some(published);
        (to_publish, publishing)
    }

    /// Runs until a part of the edge has ended.
    pub(super) async fn run(mut self) {
        let mut asking: Option<Asking> = None;
        loop {
            if asking.is_none() {
                asking = self.next_question();
            }
            self.write_report();
            let wake = self.wake();
            tokio::select! {
                (asked, answer) = ask(asking.as_mut()), if asking.is_some() => {
                    asking = None;
                    let Ok(answer) = answer else { return };
                    self.on_answer(asked, &answer.result);
                }
                Some(reading) = self.readings.recv(), if self.pending.len() < MAX_PENDING => {
                    self.pending.push_back(reading);
                }
                emission = self.emissions.recv() => match emission {
                    Some(emission) => self.on_emission(&emission),
                    None => return,
                },
                published = next_published(self.published.as_mut()) => match published {
                    Some(Published { wire, seq }) => {
                        self.outlets.get_mut(&wire).into_iter().for_each(|outlet| outlet.on_published(seq));
                    }
                    None => return,
                },
                changed = self.connected.changed() => match changed {
                    // What was sent while a replica was not connected is lost.
                    Ok(()) => self.outlets.values_mut().for_each(Outlet::suspect),
                    Err(_) => return,
                },
                () = sleep_until(wake), if asking.is_none() => {}
            }
        }
    }

    /// When there is something to ask that has to wait.
    fn wake(&self) -> Instant {
        let mut wake = Instant::now() + Duration::from_secs(60);
        if !self.pending.is_empty() {
            wake = wake.min(self.deliver_at);
        }
        if self.outlets.values().any(|outlet| outlet.acknowledgement().is_some()) {
            wake = wake.min(self.acknowledge_at);
        }
        self.outlets.values().map(Outlet::due).fold(wake, Instant::min)
    }

    fn next_question(&mut self) -> Option<Asking> {
        let now = Instant::now();
        if let Some((wire, outlet)) = self.outlets.iter().find(|(_, outlet)| outlet.is_due(now)) {
            return Some(self.question(Asked::Outputs(*wire), &outlet.question()));
        }
        let can_deliver = !self.pending.is_empty() && now >= self.deliver_at;
        // In turns, since acknowledgements make the room that deliveries need.
        if (!can_deliver || self.was_delivery)
            && now >= self.acknowledge_at
            && let Some(Operation::Acknowledge { wire, up_to }) =
                self.outlets.values().find_map(Outlet::acknowledgement)
        {
            self.was_delivery = false;
            let asked = Asked::Acknowledgement { wire, up_to };
            return Some(self.question(asked, &Operation::Acknowledge { wire, up_to }));
        }
        if !can_deliver {
            return None;
        }
        self.was_delivery = true;
        let (count, delivery) = self.delivery()?;
        Some(self.question(Asked::Delivery(count), &delivery))
    }

    /// The readings that wait longest and are of one wire.
    fn delivery(&self) -> Option<(usize, Operation)> {
        let wire = self.pending.front()?.wire;
        let mut bytes = 0;
        let mut events = Vec::new();
        for reading in self.pending.iter().take(MAX_EVENTS_PER_DELIVERY) {
            bytes += reading.event.len();
            if reading.wire != wire || (bytes > MAX_DELIVERY_BYTES && !events.is_empty()) {
                break;
            }
            // The numbers of events from the edge are not looked at.
            events.push(NumberedEvent { seq: 0, event: reading.event.clone() });
        }
        Some((events.len(), Operation::Deliver { wire, events }))
    }

    fn question(&self, asked: Asked, operation: &Operation) -> Asking {
        let (client, operation) = (self.client.clone(), operation.encode());
        Box::pin(async move {
            let answer = match &asked {
                Asked::Outputs(_) => client.query(operation).await,
                Asked::Delivery(_) | Asked::Acknowledgement { .. } => client.invoke(operation).await,
            };
            (asked, answer)
        })
    }

    fn on_answer(&mut self, asked: Asked, result: &[u8]) {
        let Ok(reply) = Reply::decode(result) else {
            tracing::error!("the group gave an answer that is none");
            return self.pause(&asked, REFUSED_PAUSE);
        };
        match (asked, reply) {
            (Asked::Outputs(wire), reply) => {
                let outlet = self.outlets.get_mut(&wire);
                let publications = outlet.map(|outlet| outlet.on_answer(reply)).unwrap_or_default();
                self.publish(publications);
            }
            (Asked::Acknowledgement { wire, up_to }, Reply::Acknowledged { .. }) => {
                self.outlets.get_mut(&wire).into_iter().for_each(|outlet| outlet.on_acknowledged(up_to));
            }
            (Asked::Delivery(count), Reply::Delivered { .. }) => self.accept(count),
            (asked @ Asked::Delivery(count), Reply::Busy { taken, .. }) => {
                self.accept(count.min(taken as usize));
                self.pause(&asked, BUSY_PAUSE);
            }
            (asked, reply) => {
                tracing::error!(?reply, "the group refuses what the edge asks");
                self.pause(&asked, REFUSED_PAUSE);
            }
        }
    }

    fn pause(&mut self, asked: &Asked, pause: Duration) {
        let until = Instant::now() + pause;
        match asked {
            Asked::Delivery(_) => self.deliver_at = until,
            Asked::Acknowledgement { .. } => self.acknowledge_at = until,
            Asked::Outputs(wire) => {
                self.outlets.get_mut(wire).into_iter().for_each(|outlet| outlet.postpone(until));
            }
        }
    }

    /// The group has accepted the first readings.
    fn accept(&mut self, count: usize) {
        for Reading { wire, ticket, .. } in self.pending.drain(..count) {
            let mut report = self.report.lock().expect("no holder panics");
            let incoming = report.incoming.iter_mut().find(|incoming| incoming.wire == wire.0);
            incoming.into_iter().for_each(|incoming| incoming.accepted += 1);
            drop(report);
            if let (Some(ticket), Some(inlet)) = (ticket, self.inlets.get(&wire)) {
                // Where the other end has gone, the whole edge ends.
                let _ = inlet.send(ticket);
            }
        }
    }

    fn on_emission(&mut self, emission: &ReplicaEmission) {
        match emission {
            ReplicaEmission::Event { from, channel, payload } => {
                if let Some(outlet) = self.outlets.get_mut(&WireId(*channel)) {
                    let publications = outlet.on_emission(*from, payload);
                    self.publish(publications);
                }
            }
            ReplicaEmission::Ended { from } => {
                self.outlets.values_mut().for_each(|outlet| outlet.forget(*from));
            }
        }
    }

    fn publish(&self, publications: Vec<Publication>) {
        if let Some(publisher) = &self.publications {
            // Where the other end has gone, the whole edge ends.
            publications.into_iter().for_each(|publication| drop(publisher.send(publication)));
        }
    }

    fn write_report(&self) {
        let mut report = self.report.lock().expect("no holder panics");
        report.connected = *self.connected.borrow();
        report.outgoing = self.outlets.values().map(Outlet::report).collect();
    }
}

async fn ask(asking: Option<&mut Asking>) -> (Asked, Result<Answer, InvokeError>) {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

async fn next_published(published: Option<&mut mpsc::UnboundedReceiver<Published>>) -> Option<Published> {
    match published {
        Some(published) => published.recv().await,
        None => std::future::pending().await,
    }
}
