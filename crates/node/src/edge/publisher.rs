use std::collections::VecDeque;
use std::time::Duration;

use althing_components::WireId;
use rumqttc::{AsyncClient, Event, Incoming, Outgoing, QoS};
use tokio::sync::mpsc;

use super::ingress::{longer, options, poll};
use crate::config::Broker;

/// Messages that the broker has not yet acknowledged, at most.
const WINDOW: usize = 32;

/// An event to publish.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) wire: WireId,
    pub(super) seq: u64,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
}

/// An event that the broker has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) wire: WireId,
    pub(super) seq: u64,
}

/// What the broker has yet to acknowledge, and what it has yet to be sent, in order.
#[derive(Debug, Default)]
struct Queue {
    /// Sent on this connection, with the broker's number as soon as it is known.
    sent: VecDeque<(Option<u16>, Publication)>,
    waiting: VecDeque<Publication>,
}

/// Publishes events in their order, each until the broker has acknowledged it.
pub(super) async fn run(
    broker: Broker,
    name: String,
    mut publications: mpsc::UnboundedReceiver<Publication>,
    published: mpsc::UnboundedSender<Published>,
) {
    let (client, mut eventloop) = AsyncClient::new(options(&broker, &name), 2 * WINDOW);
    eventloop.network_options.set_tcp_nodelay(true);
    let mut queue = Queue::default();
    let mut is_connected = false;
    let mut pause = Duration::ZERO;
    loop {
        let event = {
            let poll = poll(&mut eventloop, pause);
            tokio::pin!(poll);
            loop {
                if is_connected {
                    queue.send(&client);
                }
                tokio::select! {
                    event = &mut poll => break event,
                    publication = publications.recv() => match publication {
                        Some(publication) => queue.waiting.push_back(publication),
                        // The gateway has ended.
                        None => return,
                    },
                }
            }
        };
        pause = Duration::ZERO;
        match event {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => is_connected = true,
            Ok(Event::Outgoing(Outgoing::Publish(packet))) => queue.numbered(packet),
            Ok(Event::Incoming(Incoming::PubAck(ack))) => {
                for done in queue.acknowledged(ack.pkid) {
                    if published.send(done).is_err() {
                        return;
                    }
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the MQTT connection for publishing failed");
                is_connected = false;
                pause = longer(pause);
                eventloop.clean();
                eventloop.pending.clear();
                // What it had yet to tell belongs to the connection that is gone.
                eventloop.state.events.clear();
                queue.disconnected();
            }
        }
    }
}

impl Queue {
    /// Sends as much as the window lets.
    fn send(&mut self, client: &AsyncClient) {
        while self.sent.len() < WINDOW
            && let Some(next) = self.waiting.pop_front()
        {
            if client.try_publish(&next.topic, QoS::AtLeastOnce, false, next.payload.clone()).is_err() {
                self.waiting.push_front(next);
                return;
            }
            self.sent.push_back((None, next));
        }
    }

    /// The oldest message without a number has this one.
    fn numbered(&mut self, packet: u16) {
        if let Some((number, _)) = self.sent.iter_mut().find(|(number, _)| number.is_none()) {
            *number = Some(packet);
        }
    }

    /// The broker has taken a message. Returns those that are done, in their order.
    fn acknowledged(&mut self, packet: u16) -> Vec<Published> {
        // Brokers acknowledge in order (MQTT 3.1.1 §4.6), so what stands before it is done too.
        let Some(index) = self.sent.iter().position(|(number, _)| *number == Some(packet)) else {
            return Vec::new();
        };
        let done = self.sent.drain(..=index);
        done.map(|(_, publication)| Published { wire: publication.wire, seq: publication.seq }).collect()
    }

    /// What was not acknowledged is sent again, before all else.
    fn disconnected(&mut self) {
        while let Some((_, publication)) = self.sent.pop_back() {
            self.waiting.push_front(publication);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(seq: u64) -> Publication {
        Publication { wire: WireId(1), seq, topic: "t".to_owned(), payload: Vec::new() }
    }

    #[test]
    fn what_was_not_acknowledged_goes_first_after_a_reconnection() {
        let options = rumqttc::MqttOptions::new("test", "localhost", 1);
        let (client, _eventloop) = AsyncClient::new(options, 2 * WINDOW);
        let mut queue = Queue { waiting: (1..=40).map(publication).collect(), ..Queue::default() };
        queue.send(&client);
        assert_eq!((queue.sent.len(), queue.waiting.len()), (WINDOW, 8));
        (1..=3).for_each(|packet| queue.numbered(packet));
        let done: Vec<u64> = queue.acknowledged(2).iter().map(|p| p.seq).collect();
        assert_eq!(done, [1, 2]);
        assert_eq!(queue.acknowledged(9), []);
        queue.disconnected();
        let waiting: Vec<u64> = queue.waiting.iter().map(|p| p.seq).collect();
        assert_eq!(waiting, (3..=40).collect::<Vec<_>>());
    }
}
