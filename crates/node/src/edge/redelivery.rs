use std::collections::VecDeque;

use bytes::Bytes;

/// Messages that are remembered after they were acknowledged, in case the acknowledgement is lost.
const REMEMBERED: usize = 256;

/// A message as the broker names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) packet: u16,
    pub(super) topic: String,
    pub(super) payload: Bytes,
    /// Whether the broker says that it may have sent it before.
    pub(super) is_duplicate: bool,
}

impl Message {
    fn has_content_of(&self, other: &Self) -> bool {
        self.topic == other.topic && self.payload == other.payload
    }
}

/// The messages of quality of service 1 from a broker: which are new, and which may be acknowledged.
/// Acknowledgements leave in the order in which the messages came, as MQTT demands.
///
/// A broker that did not get an acknowledgement sends the message again after a reconnection, in the
/// original order and under its original number (MQTT 3.1.1 §4.4), marked as a duplicate. Some brokers
/// neither mark it nor keep the number; then it is recognised as long as it had not been
/// acknowledged.
#[derive(Debug, Default)]
pub(super) struct Redelivery {
    /// Not yet acknowledged, oldest first, with their tickets.
    open: VecDeque<Open>,
    /// Acknowledged, oldest first.
    past: VecDeque<Message>,
    next_ticket: u64,
    /// Open messages that the broker has still to send again on this connection, from this index on.
    awaited: Option<usize>,
}

#[derive(Debug)]
struct Open {
    ticket: u64,
    message: Message,
    is_done: bool,
    /// Whether this connection can acknowledge it: the broker has sent it here.
    is_present: bool,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// New: to be delivered under this ticket, and done with [`Redelivery::done`].
    New(u64),
    /// Seen before: nothing to deliver.
    Again,
}

impl Redelivery {
    /// There is a new connection, on which the broker goes on with the session or not.
    pub(super) fn connected(&mut self, is_resumed: bool) {
        if is_resumed {
            self.open.iter_mut().for_each(|open| open.is_present = false);
            self.awaited = (!self.open.is_empty()).then_some(0);
        } else {
            // The broker knows nothing of them any more, and will take no acknowledgement.
            self.open.clear();
            self.past.clear();
            self.awaited = None;
        }
    }

    /// Takes a message.
    pub(super) fn arrived(&mut self, message: Message) -> Arrival {
        if let Some(index) = self.find_again(&message) {
            let open = &mut self.open[index];
            open.message.packet = message.packet;
            open.is_present = true;
            return Arrival::Again;
        }
        let was_acknowledged = message.is_duplicate
            && self.past.iter().any(|past| past.packet == message.packet && past.has_content_of(&message));
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.open.push_back(Open { ticket, message, is_done: was_acknowledged, is_present: true });
        if was_acknowledged { Arrival::Again } else { Arrival::New(ticket) }
    }

    /// The index of the open message that this one repeats.
    fn find_again(&mut self, message: &Message) -> Option<usize> {
        let first = self.awaited?;
        let found = (first..self.open.len())
            .find(|&index| !self.open[index].is_present && self.open[index].message.has_content_of(message));
        self.awaited = found.map(|index| index + 1).filter(|next| *next < self.open.len());
        found
    }

    /// The message of this ticket is dealt with.
    pub(super) fn done(&mut self, ticket: u64) {
        if let Ok(index) = self.open.binary_search_by_key(&ticket, |open| open.ticket) {
            self.open[index].is_done = true;
        }
    }

    /// The number of the message to acknowledge next.
    pub(super) fn to_acknowledge(&self) -> Option<u16> {
        self.open.front().filter(|open| open.is_done && open.is_present).map(|open| open.message.packet)
    }

    /// The message of [`Self::to_acknowledge`] was acknowledged.
    pub(super) fn acknowledged(&mut self) {
        if let Some(open) = self.open.pop_front() {
            self.past.push_back(open.message);
            if self.past.len() > REMEMBERED {
                self.past.pop_front();
            }
            self.awaited = self.awaited.map(|index| index.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(packet: u16, payload: &'static str, is_duplicate: bool) -> Message {
        let payload = Bytes::from_static(payload.as_bytes());
        Message { packet, topic: "t".to_owned(), payload, is_duplicate }
    }

    fn acknowledge_all(redelivery: &mut Redelivery) -> Vec<u16> {
        let mut packets = Vec::new();
        while let Some(packet) = redelivery.to_acknowledge() {
            redelivery.acknowledged();
            packets.push(packet);
        }
        packets
    }

    #[test]
    fn acknowledgements_keep_the_order_of_arrival() {
        let mut redelivery = Redelivery::default();
        for packet in 1..=3 {
            assert_eq!(redelivery.arrived(message(packet, "x", false)), Arrival::New(u64::from(packet) - 1));
        }
        redelivery.done(1);
        assert_eq!(acknowledge_all(&mut redelivery), [0u16; 0]);
        redelivery.done(0);
        assert_eq!(acknowledge_all(&mut redelivery), [1, 2]);
        redelivery.done(2);
        assert_eq!(acknowledge_all(&mut redelivery), [3]);
    }

    #[test]
    fn what_was_not_acknowledged_comes_again_and_is_known() {
        let mut redelivery = Redelivery::default();
        redelivery.arrived(message(1, "20", false));
        redelivery.arrived(message(2, "20", false));
        redelivery.done(0);
        redelivery.connected(true);
        // Done, but this connection has not brought it yet.
        assert_eq!(acknowledge_all(&mut redelivery), [0u16; 0]);
        // This broker gives new numbers and no mark.
        assert_eq!(redelivery.arrived(message(7, "20", false)), Arrival::Again);
        assert_eq!(acknowledge_all(&mut redelivery), [7]);
        assert_eq!(redelivery.arrived(message(8, "20", false)), Arrival::Again);
        // An equal reading is a reading of its own.
        assert_eq!(redelivery.arrived(message(9, "20", false)), Arrival::New(2));
        redelivery.done(1);
        redelivery.done(2);
        assert_eq!(acknowledge_all(&mut redelivery), [8, 9]);
    }

    #[test]
    fn a_lost_acknowledgement_is_repeated_without_delivering_again() {
        let mut redelivery = Redelivery::default();
        redelivery.arrived(message(5, "20", false));
        redelivery.done(0);
        assert_eq!(acknowledge_all(&mut redelivery), [5]);
        redelivery.connected(true);
        assert_eq!(redelivery.arrived(message(5, "20", true)), Arrival::Again);
        assert_eq!(acknowledge_all(&mut redelivery), [5]);
        // The number is used again for another message.
        assert_eq!(redelivery.arrived(message(5, "21", false)), Arrival::New(2));
    }

    #[test]
    fn a_forgotten_session_starts_afresh() {
        let mut redelivery = Redelivery::default();
        redelivery.arrived(message(1, "20", false));
        redelivery.connected(false);
        redelivery.done(0);
        assert_eq!(acknowledge_all(&mut redelivery), [0u16; 0]);
        assert_eq!(redelivery.arrived(message(1, "20", false)), Arrival::New(1));
    }
}
