use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use althing_components::{WireId, canonical};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, MqttOptions, Publish, QoS, SubscribeReasonCode,
};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Shared;
use super::redelivery::{Arrival, Message, Redelivery};
use crate::config::{Broker, EdgeConfig, EdgeWire};
use crate::control::{EdgeGroupReport, IncomingReport};

/// The most that MQTT allows: a message that is refused by the client library comes again for ever, so
/// each has to be read before it can be refused.
const MAX_PACKET_BYTES: usize = 268_435_460;

/// Acknowledgements and subscriptions on their way to the connection, at most.
const MAX_REQUESTS: usize = 256;

/// Readings that wait for the group, at most: of quality of service 0, more are dropped; with more of
/// quality of service 1 nothing is read from the broker.
const MAX_WAITING: usize = 1024;

/// Pauses before connecting again.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The options of an MQTT connection to `broker` by this name.
pub(super) fn options(broker: &Broker, name: &str) -> MqttOptions {
    let (host, port) = broker.host_and_port();
    let mut options = MqttOptions::new(name, host, port);
    options.set_keep_alive(Duration::from_secs(10)).set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
    options
}

/// The next event of a connection, after a pause if the last one was a failure.
pub(super) async fn poll(eventloop: &mut EventLoop, pause: Duration) -> Result<Event, ConnectionError> {
    sleep(pause).await;
    eventloop.poll().await
}

/// The pause after a failure that came after this pause.
pub(super) fn longer(pause: Duration) -> Duration {
    (2 * pause).clamp(MIN_PAUSE, MAX_PAUSE)
}

/// A reading for the group.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) wire: WireId,
    /// Canonical JSON.
    pub(super) event: Vec<u8>,
    /// What to say when the group has accepted it; none for quality of service 0.
    pub(super) ticket: Option<u64>,
}

/// One wire from MQTT: its connection, and the readings on their way.
pub(super) struct Ingress {
    options: MqttOptions,
    wire: EdgeWire,
    /// Exists once the broker has been told to forget what an earlier deployment left there.
    marker: PathBuf,
    readings: mpsc::Sender<Reading>,
    accepted: mpsc::UnboundedReceiver<u64>,
    waiting: VecDeque<Reading>,
    redelivery: Redelivery,
    /// Whether the broker went on with a session: retained messages are then old news.
    is_resumed: bool,
    report: Shared<EdgeGroupReport>,
}

impl Ingress {
    pub(super) fn new(
        config: &EdgeConfig,
        wire: &EdgeWire,
        readings: mpsc::Sender<Reading>,
        accepted: mpsc::UnboundedReceiver<u64>,
        report: Shared<EdgeGroupReport>,
    ) -> Self {
        let incoming =
            IncomingReport { wire: wire.wire.0, topic: wire.topic.clone(), ..IncomingReport::default() };
        report.lock().expect("no holder panics").incoming.push(incoming);
        let name = format!("althing-{}-{}", config.application(), wire.wire);
        let mut options = options(config.broker(), &name);
        options.set_clean_session(false).set_manual_acks(true);
        Self {
            options,
            marker: config.data().join(format!("session-{}", wire.wire)),
            wire: wire.clone(),
            readings,
            accepted,
            waiting: VecDeque::new(),
            redelivery: Redelivery::default(),
            is_resumed: false,
            report,
        }
    }

    /// Carries readings until the gateway ends.
    pub(super) async fn run(mut self) {
        self.forget_earlier_session().await;
        let (client, mut eventloop) = AsyncClient::new(self.options.clone(), MAX_REQUESTS);
        eventloop.network_options.set_tcp_nodelay(true);
        let mut pause = Duration::ZERO;
        loop {
            let event = {
                let poll = poll(&mut eventloop, pause);
                tokio::pin!(poll);
                loop {
                    self.acknowledge(&client);
                    tokio::select! {
                        event = &mut poll, if self.waiting.len() < MAX_WAITING => break event,
                        ticket = self.accepted.recv() => match ticket {
                            Some(ticket) => self.redelivery.done(ticket),
                            None => return,
                        },
                        permit = self.readings.reserve(), if !self.waiting.is_empty() => match permit {
                            Ok(permit) => {
                                if let Some(reading) = self.waiting.pop_front() {
                                    permit.send(reading);
                                }
                            }
                            Err(_) => return,
                        },
                    }
                }
            };
            pause = match event {
                Ok(event) => {
                    self.on_event(event, &client);
                    Duration::ZERO
                }
                Err(error) => {
                    self.on_failure(&error, &mut eventloop);
                    longer(pause)
                }
            };
        }
    }

    /// At the first start of a deployment, has the broker forget what it kept for an earlier one of
    /// the same name.
    async fn forget_earlier_session(&self) {
        if self.marker.exists() {
            return;
        }
        let mut options = self.options.clone();
        options.set_clean_session(true);
        let (client, mut eventloop) = AsyncClient::new(options, MAX_REQUESTS);
        eventloop.network_options.set_tcp_nodelay(true);
        let mut pause = Duration::ZERO;
        loop {
            match poll(&mut eventloop, pause).await {
                Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                    // The connection is idle, so there is room.
                    let _ = client.try_disconnect();
                    pause = Duration::ZERO;
                }
                Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect)) => break,
                Ok(_) => pause = Duration::ZERO,
                Err(error) => {
                    tracing::warn!(%error, "no connection to the MQTT broker yet");
                    pause = longer(pause);
                }
            }
        }
        if let Err(error) = fs::write(&self.marker, b"") {
            // Next time it is forgotten again, and readings from meanwhile with it.
            tracing::warn!(%error, marker = %self.marker.display(), "cannot be written");
        }
    }

    fn on_event(&mut self, event: Event, client: &AsyncClient) {
        match event {
            Event::Incoming(Incoming::ConnAck(answer)) => {
                tracing::info!(topic = self.wire.topic, resumed = answer.session_present, "subscribes");
                self.is_resumed = answer.session_present;
                self.redelivery.connected(answer.session_present);
                // Also in a resumed session: the edge may have ended before it had subscribed.
                if client.try_subscribe(self.wire.topic.clone(), QoS::AtLeastOnce).is_err() {
                    tracing::error!(topic = self.wire.topic, "no room to subscribe");
                }
            }
            Event::Incoming(Incoming::SubAck(answer)) => {
                if answer.return_codes.contains(&SubscribeReasonCode::Failure) {
                    tracing::error!(topic = self.wire.topic, "the broker refuses the subscription");
                } else {
                    self.update(|report| report.is_connected = true);
                }
            }
            Event::Incoming(Incoming::Publish(publish)) => self.on_publish(publish),
            _ => {}
        }
    }

    fn on_failure(&mut self, error: &ConnectionError, eventloop: &mut EventLoop) {
        tracing::warn!(%error, topic = self.wire.topic, "the MQTT connection failed");
        self.update(|report| report.is_connected = false);
        // Whatever was to be sent is decided anew on the next connection.
        eventloop.clean();
        eventloop.pending.clear();
        // What it had yet to tell belongs to the connection that is gone.
        eventloop.state.events.clear();
    }

    fn on_publish(&mut self, publish: Publish) {
        if publish.retain && self.is_resumed {
            // Sent again because of the subscription; it came before when it was news.
            if publish.qos != QoS::AtMostOnce {
                let (packet, payload) = (publish.pkid, publish.payload);
                let arrival = self.redelivery.arrived(Message {
                    packet,
                    topic: publish.topic,
                    payload,
                    is_duplicate: false,
                });
                if let Arrival::New(ticket) = arrival {
                    self.redelivery.done(ticket);
                }
            }
            return;
        }
        self.update(|report| report.received += 1);
        let ticket = match publish.qos {
            QoS::AtMostOnce if self.waiting.len() >= MAX_WAITING / 2 => {
                return self.update(|report| report.dropped += 1);
            }
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => {
                let arrival = self.redelivery.arrived(Message {
                    packet: publish.pkid,
                    topic: publish.topic.clone(),
                    payload: publish.payload.clone(),
                    is_duplicate: publish.dup,
                });
                match arrival {
                    Arrival::Again => return self.update(|report| report.duplicates += 1),
                    Arrival::New(ticket) => Some(ticket),
                }
            }
        };
        match self.wire.carries.read_payload(&publish.payload) {
            Ok(value) => {
                let event = canonical(&value);
                self.waiting.push_back(Reading { wire: self.wire.wire, event, ticket });
            }
            Err(error) => {
                tracing::warn!(topic = publish.topic, %error, "refused a message");
                ticket.into_iter().for_each(|ticket| self.redelivery.done(ticket));
                self.update(|report| {
                    report.refused += 1;
                    report.last_refusal = Some(error.to_string());
                });
            }
        }
    }

    fn acknowledge(&mut self, client: &AsyncClient) {
        while let Some(packet) = self.redelivery.to_acknowledge() {
            let mut publish = Publish::new("", QoS::AtLeastOnce, Vec::new());
            publish.pkid = packet;
            if client.try_ack(&publish).is_err() {
                // There is room again once the connection has moved on.
                return;
            }
            self.redelivery.acknowledged();
        }
    }

    fn update(&self, change: impl FnOnce(&mut IncomingReport)) {
        let mut report = self.report.lock().expect("no holder panics");
        let own = report.incoming.iter_mut().find(|incoming| incoming.wire == self.wire.wire.0);
        if let Some(own) = own {
            change(own);
        }
    }
}
