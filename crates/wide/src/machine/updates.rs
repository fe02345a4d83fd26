//! The clients of a site: their updates, and what they are answered.

use super::drive::site;
use super::{Dissemination, LogicalMachine, Timer};
use crate::message::Kind;
use crate::operation::{Answer, Update};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_protocol::{Event, Replicable, Request};
use althing_replica::{Context, LateResult, ReplyOutcome, Service, Standing};
use althing_types::{ClientId, RequestNumber, encode};
use borsh::{BorshDeserialize, BorshSerialize};

/// So many updates are shown to all sites at once.
const MOST_RELAYED: usize = 1024;

/// An update that has not been executed.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
pub(super) struct Waiting {
    request: Request,
    /// The number of the client's request to this site.
    local: RequestNumber,
    /// How often the relay timer had expired when it came, or was last shown to all sites.
    since: u64,
}

impl<P: Replicable, S: Service> LogicalMachine<P, S> {
    /// A client of this site has an update; `None` where it has to wait for the answer.
    pub(super) fn on_update(&mut self, context: &Context, update: Update) -> Option<Answer> {
        let (client, local, since) = (context.client, context.number, self.core.relays);
        let lives_here = self.config.residents.get(&client).is_some_and(|it| it.site == self.config.site());
        let mut request = update.into_request(client);
        if !lives_here || self.authenticate(&mut request).is_err() {
            return Some(Answer::Refused);
        }
        if let Some(answer) = self.known_answer(client, request.number) {
            return Some(answer);
        }
        if let Some(waiting) = self.core.waiting.get_mut(&client)
            && waiting.request.number >= request.number
        {
            let last = waiting.request.number;
            if last > request.number {
                return Some(Answer::Superseded { last });
            }
            waiting.local = local;
            return None;
        }
        self.core.waiting.insert(client, Waiting { request: request.clone(), local, since });
        if !self.core.timers.is_running(Timer::Relay) {
            self.core.timers.set(Timer::Relay, self.config.relay_timeout);
        }
        match self.config.dissemination {
            Dissemination::Leader => self.drive(Event::Request(request)),
            Dissemination::Origin { .. } => {
                self.core.bundler.push(request);
                self.dispatch_bundles();
            }
        }
        None
    }

    /// What became of an update, if anything did.
    fn known_answer(&self, client: ClientId, number: RequestNumber) -> Option<Answer> {
        match self.nested.standing(client, number) {
            Standing::Last(outcome) => Some(Answer::Executed(outcome.clone())),
            Standing::Old(last) => Some(Answer::Superseded { last }),
            Standing::New | Standing::Awaited => None,
        }
    }

    /// The state is another: whoever waits for something that is executed in it is told.
    pub(super) fn answer_known(&mut self) {
        let waiting: Vec<_> =
            self.core.waiting.iter().map(|(client, it)| (*client, it.request.number)).collect();
        for (client, number) in waiting {
            if let Some(answer) = self.known_answer(client, number) {
                self.tell(client, &answer);
            }
        }
    }

    /// An update was executed: whoever waits for it, or for an earlier one of the same client, is told.
    pub(super) fn answer(&mut self, client: ClientId, number: RequestNumber, outcome: ReplyOutcome) {
        let Some(waiting) = self.core.waiting.get(&client).filter(|it| it.request.number <= number) else {
            return;
        };
        let answer = if waiting.request.number == number {
            Answer::Executed(outcome)
        } else {
            Answer::Superseded { last: number }
        };
        self.tell(client, &answer);
    }

    fn tell(&mut self, client: ClientId, answer: &Answer) {
        if let Some(Waiting { local, .. }) = self.core.waiting.remove(&client) {
            self.late.push(LateResult { client, number: local, result: encode(answer) });
        }
    }

    /// Has bundles leave as long as there is something to bundle, a slot, and room on the links.
    pub(super) fn dispatch_bundles(&mut self) {
        let Dissemination::Origin { slots, most_bytes, window_bytes, is_vouching } =
            self.config.dissemination
        else {
            return;
        };
        let (now, me) = (self.core.relays, self.config.site());
        while self.waiting_for_quorum() < window_bytes
            && let Some(bundle) = self.core.bundler.next(now, me, (slots, most_bytes, is_vouching))
        {
            // This site too has to have it signed, to order it or to know it by name.
            self.say_to_all(Kind::Bundle, encode(&bundle).into(), true);
        }
    }

    /// How many bytes wait on the links to others that carry best, of as many as it takes to decide, on the worst of
    /// them: those that are away hold nobody up.
    fn waiting_for_quorum(&self) -> u64 {
        let me = self.me();
        let others = self.config.sites.replicas().filter(|to| *to != me);
        let mut waiting: Vec<u64> = others.map(|to| self.core.links.waiting_bytes(site(to))).collect();
        waiting.sort_unstable();
        let needed = self.config.sites.agreement() - 1;
        needed.checked_sub(1).and_then(|last| waiting.get(last).copied()).unwrap_or(0)
    }

    /// Shows all sites what has waited for long, so that each sees to it that it is ordered.
    pub(super) fn relay(&mut self) {
        self.core.relays += 1;
        // Not by agreed time, which a faulty server can have stand still: whatever has seen a whole period go by.
        let now = self.core.relays;
        let mut overdue: Vec<(Kind, Arc<[u8]>)> = Vec::new();
        if self.config.dissemination == Dissemination::Leader {
            let waiting = self.core.waiting.values_mut().filter(|waiting| waiting.since + 2 <= now);
            for waiting in waiting.take(MOST_RELAYED) {
                waiting.since = now;
                overdue.push((Kind::Request, encode(&waiting.request).into()));
            }
        }
        let bundles = self.core.bundler.overdue(now);
        overdue.extend(bundles.map(|bundle| (Kind::UrgentBundle, encode(bundle).into())));
        for (kind, body) in overdue {
            self.say_to_all(kind, body, kind == Kind::UrgentBundle);
        }
        if !self.core.waiting.is_empty() || !self.core.bundler.is_idle() {
            self.core.timers.set(Timer::Relay, self.config.relay_timeout);
        }
    }
}
