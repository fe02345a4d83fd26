//! Queries: answered from what is final, without being ordered.

use crate::frame::{ClientMessage, Query, QueryAnswer};
use crate::replica::Replica;
use crate::tentative::Certainty;
use crate::{Output, Service};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use althing_protocol::Protocol;
use althing_types::{ClientId, Seq};

/// What all that wait may be long together.
const MAX_HELD_BYTES: usize = 8 << 20;

/// Queries that wait: the last of each client, and what has to be final here before it is answered.
#[derive(Debug, Default)]
pub(crate) struct HeldQueries {
    queries: BTreeMap<ClientId, (Seq, Query)>,
    order: BTreeSet<(Seq, ClientId)>,
    bytes: usize,
}

impl HeldQueries {
    fn has_room_for(&self, query: &Query) -> bool {
        self.bytes + query.operation.len() <= MAX_HELD_BYTES
    }

    fn hold(&mut self, from: Seq, query: Query) {
        let client = query.client;
        if self.queries.get(&client).is_some_and(|(_, held)| held.number > query.number) {
            return;
        }
        self.remove(client);
        self.bytes += query.operation.len();
        self.queries.insert(client, (from, query));
        self.order.insert((from, client));
    }

    /// One that needs no more than this to be final.
    fn take(&mut self, executed: Seq) -> Option<Query> {
        let (_, client) = *self.order.first().filter(|(from, _)| *from <= executed)?;
        self.remove(client)
    }

    fn remove(&mut self, client: ClientId) -> Option<Query> {
        let (from, query) = self.queries.remove(&client)?;
        self.order.remove(&(from, client));
        self.bytes -= query.operation.len();
        Some(query)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl<P: Protocol, S: Service> Replica<P, S> {
    /// A query is answered once all is final that may have been decided before it came. What is tentative must not
    /// be seen before it is final either. It is so soon, and the query waits for it; what is speculative may stay so
    /// for long, and the client has its operation ordered then.
    ///
    /// A replica that fetches the state, or has lost it, may have one from long ago and says nothing; the client has
    /// its operation ordered where others say nothing either.
    pub(crate) fn on_query(&mut self, query: Query, outputs: &mut Vec<Output>) {
        let Some(from) = self.answers_from() else { return };
        // Clients may have decided what is tentative here, and it may be taken back before it is final.
        let from = from.max(self.state.executed());
        if self.may_show_state() && self.state.executed() >= from {
            return self.answer_query(&query, outputs);
        }
        let last = self.tentative.back().map(|tentative| &tentative.certainty);
        if matches!(last, Some(Certainty::Speculative(..))) || !self.queries.has_room_for(&query) {
            return self.tell(&query, QueryAnswer::MustOrder, outputs);
        }
        self.queries.hold(from, query);
        // What is to become final should not wait for something else to leave with it.
        if !self.tentative.is_empty() {
            outputs.push(Output::Flush);
        }
    }

    /// Answers the queries that waited, as far as that is due.
    pub(crate) fn answer_held_queries(&mut self, outputs: &mut Vec<Output>) {
        let executed = self.state.executed();
        while self.may_show_state()
            && let Some(query) = self.queries.take(executed)
        {
            self.answer_query(&query, outputs);
        }
    }

    /// From which final number on the state may answer at all.
    fn answers_from(&self) -> Option<Seq> {
        let may_answer = self.transfer.is_none() && !self.is_epoch_over();
        self.protocol.answers_from().filter(|_| may_answer)
    }

    /// Whether all that the service has executed is final, and others go on from there.
    fn may_show_state(&self) -> bool {
        self.is_in_view && self.tentative.is_empty() && self.answers_from().is_some()
    }

    fn answer_query(&mut self, query: &Query, outputs: &mut Vec<Output>) {
        let answer = match self.state.service().query(&query.operation, query.client) {
            Some(result) if result.len() <= self.limits.settings().max_reply_bytes => {
                QueryAnswer::Result(result)
            }
            // Ordered, it will be refused for its length by all alike.
            Some(_) | None => QueryAnswer::MustOrder,
        };
        self.tell(query, answer, outputs);
    }

    fn tell(&mut self, query: &Query, answer: QueryAnswer, outputs: &mut Vec<Output>) {
        let reply = ClientMessage::QueryReply { number: query.number, answer };
        self.outbound.send_client(query.client, reply, outputs);
    }
}
