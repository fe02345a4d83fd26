use crate::accusations::Accusations;
use crate::admission::Admission;
use crate::checkpoints::Checkpoints;
use crate::client_table::Standing;
use crate::epochs::{Memory, Tenure, succession};
use crate::execution::State;
use crate::frame::{ClientFrame, ClientMessage, Execution, Given};
use crate::inbound::{Opened, Opener, Refusal};
use crate::io::{Input, Output, Report, Startup, StopReason, Timer, TimerKind};
use crate::kept::KeptState;
use crate::membership::Membership;
use crate::outbound::Outbound;
use crate::pages::PageTree;
use crate::penalties::Penalties;
use crate::queries::HeldQueries;
use crate::records::{RecordError, recover};
use crate::remains::Remains;
use crate::speculation::{Certified, Provers};
use crate::tamper::Tamper;
use crate::tentative::{History, Tentative, said};
use crate::transfer::{EngineMessage, Received, Supplier, Transfer};
use crate::{Durability, Emission, EngineSettings, Limits, Service};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::Keyring;
use althing_protocol::{
    Answers, Event, Evidence, Message, Misbehaviour, PersistId, Protocol, Request, RequestKind, Start,
    TimerId,
};
use althing_types::{ClientId, Epoch, Instant, Principal, Quorums, ReplicaId, Seq, View};

/// What a replica has to know from the start.
#[derive(Clone)]
pub struct ReplicaConfig {
    /// Which replica it is.
    pub replica: ReplicaId,
    /// The group's quorums.
    pub quorums: Quorums,
    /// Its keys, and everybody's public ones.
    pub keyring: Keyring,
    /// The bounds on what it takes, keeps and gives.
    pub limits: Limits,
    /// How many requests it takes, and which. Where members change their epoch says that.
    pub engine: EngineSettings,
    /// Whether it writes to disk.
    pub durability: Durability,
    /// Who belongs to the group, in an epoch that the replica has a place in: the present one, or an earlier
    /// one, from which it finds the way. `None` where the members do not change. The keyring is of the group
    /// as its clients know it.
    pub membership: Option<Membership>,
}

impl ReplicaConfig {
    pub(crate) fn epoch(&self) -> Epoch {
        self.membership.as_ref().map_or(Epoch(0), |membership| membership.epoch)
    }
}

/// Where a replica stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// The view it is in, or moving to.
    pub view: View,
    /// Whether that view has started for it.
    pub is_in_view: bool,
    /// The last batch it executed.
    pub executed: Seq,
    /// The last stable checkpoint that it holds.
    pub stable: Seq,
    /// Checkpoints that it keeps.
    pub checkpoints: usize,
    /// Whether it is fetching the state.
    pub is_transferring: bool,
    /// Clients that have had a request executed.
    pub clients: u32,
    /// Requests that are accepted and not yet executed.
    pub outstanding: usize,
    /// The agreed time of the last batch.
    pub time: Instant,
}

/// One replica: a protocol that orders, a service that executes, and everything between them.
///
/// It does no input or output itself: a runtime hands in what happens and does what comes out.
pub struct Replica<P: Protocol, S: Service> {
    pub(crate) me: ReplicaId,
    pub(crate) quorums: Quorums,
    pub(crate) limits: Limits,
    pub(crate) durability: Durability,
    pub(crate) protocol: P,
    pub(crate) state: State<S>,
    /// What the state holds beyond the last final batch.
    pub(crate) tentative: VecDeque<Tentative>,
    /// What clients were told, and want to hear, of the certificates that they have shown.
    pub(crate) certified: Certified,
    /// For which clients it signs what it speculates.
    pub(crate) provers: Provers,
    pub(crate) history: History,
    pub(crate) queries: HeldQueries,
    pub(crate) checkpoints: Checkpoints,
    /// The state that is on disk, or on its way there; `None` for the initial one.
    pub(crate) kept: Option<KeptState>,
    /// The highest number of a segment that was on disk before there was anything to keep.
    pub(crate) last_segment: u64,
    /// Whether it is on its way.
    pub(crate) is_keeping: bool,
    /// Segments of no use once the records name that state.
    pub(crate) dropped_segments: Vec<u64>,
    /// Pages that were found on a disk that is not believed, until they have served the first transfer.
    pub(crate) salvaged: Option<PageTree>,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) next_ticket: u64,
    pub(crate) supplier: Supplier,
    pub(crate) admission: Admission,
    penalties: Penalties,
    pub(crate) opener: Opener,
    /// Whether it is timed when keys are to be retired.
    pub(crate) is_retiring: bool,
    /// From which of their keys on the others are believed, as the protocol knows it.
    pub(crate) believed_from: BTreeMap<ReplicaId, u64>,
    pub(crate) outbound: Outbound<P::Message>,
    pub(crate) accusations: Accusations,
    /// What the protocol still has to be told.
    pub(crate) events: VecDeque<Event<P::Message>>,
    pub(crate) view: View,
    pub(crate) is_in_view: bool,
    /// The timers that the protocol has set.
    pub(crate) timers: BTreeSet<TimerId>,
    /// Its epoch, in a group whose members change.
    pub(crate) tenure: Option<Tenure>,
    is_started: bool,
    /// Whether it leads no view any more that it can hand over.
    pub(crate) is_to_stop: bool,
    /// Whether it can't go on, and does nothing any more.
    pub(crate) is_stopped: bool,
}

impl<P: Protocol, S: Service> Replica<P, S> {
    /// A replica that has yet to be started. `service` is in its initial state.
    ///
    /// # Panics
    /// If the keyring belongs to somebody else than `config.replica`, or the replica is not the member that
    /// it says.
    pub fn new(mut config: ReplicaConfig, protocol: P, service: S) -> Self {
        assert_eq!(config.keyring.me(), Principal::Replica(config.replica), "the keyring is its own");
        let succession = succession(&config);
        if let Some(membership) = &config.membership {
            config.keyring = membership.keyring(&config.keyring);
            config.quorums = membership.quorums();
            config.engine = membership.engine;
        }
        let tenure = Tenure::new(&config);
        let settings = config.limits.settings();
        let mut state = State::new(service, succession);
        state.is_hollow = protocol.is_witness();
        Self {
            me: config.replica,
            quorums: config.quorums,
            durability: config.durability,
            protocol,
            state,
            tentative: VecDeque::new(),
            certified: Certified::default(),
            provers: Provers::default(),
            history: History::default(),
            queries: HeldQueries::default(),
            checkpoints: Checkpoints::default(),
            kept: None,
            last_segment: 0,
            is_keeping: false,
            dropped_segments: Vec::new(),
            salvaged: None,
            transfer: None,
            next_ticket: 0,
            supplier: Supplier::new(settings.transfer_bytes_per_second),
            admission: Admission::new(&config.engine),
            penalties: Penalties::default(),
            opener: Opener::new(&config),
            is_retiring: false,
            believed_from: BTreeMap::new(),
            outbound: Outbound::new(&config),
            accusations: Accusations::default(),
            events: VecDeque::new(),
            view: View(0),
            is_in_view: true,
            timers: BTreeSet::new(),
            tenure,
            is_started: false,
            is_to_stop: false,
            is_stopped: false,
            limits: config.limits,
        }
    }

    /// Takes one input at time `now`, appending what is to be done to `outputs`.
    ///
    /// # Panics
    /// If the first input is not [`Input::Start`], or a later one is; and where the protocol breaks
    /// its contract.
    pub fn handle(&mut self, now: Instant, input: Input, outputs: &mut Vec<Output>) {
        assert_eq!(self.is_started, !matches!(input, Input::Start(_)), "the first input starts the replica");
        if self.is_stopped {
            return;
        }
        match input {
            Input::Start(startup) => self.start(startup, outputs),
            Input::Frame { from: Principal::Replica(from), bytes } => {
                self.on_replica_frame(now, from, &bytes, outputs);
            }
            Input::Frame { from: Principal::Client(from), bytes } => {
                self.on_client_frame(now, from, &bytes, outputs);
            }
            Input::Stray { from, bytes } => self.on_stray(now, &from, &bytes, outputs),
            Input::Timer(Timer(TimerKind::Join)) => self.ask_for_start(outputs),
            Input::Timer(Timer(TimerKind::Protocol(id))) => self.events.push_back(Event::Timer(id)),
            Input::Timer(Timer::TRANSFER) => {
                if let Some(transfer) = &mut self.transfer {
                    transfer.on_timer();
                }
            }
            Input::Timer(Timer::KEYS) => self.retire_keys(now, outputs),
            Input::Persisted(id) => self.events.push_back(Event::Persisted(PersistId(id))),
            Input::HandOver => {
                self.is_to_stop = true;
                self.events.push_back(Event::HandOver);
            }
            Input::Connected(peer) => self.outbound.announce(now, peer, outputs),
            Input::Refresh { seed, lifetime } => self.refresh(now, &seed, lifetime, outputs),
            Input::Kept(seq) => self.on_kept(seq),
        }
        self.tell_outdated(now, outputs);
        self.run(now, outputs);
    }

    /// Has `tamper` change what this replica says from now on; `None` makes it honest again.
    pub fn set_tamper(&mut self, tamper: Option<Box<dyn Tamper<P::Message> + Send>>) {
        self.outbound.set_tamper(tamper);
    }

    /// Has a bit of the service's state go bad in memory, which one by `choice`: for fault injection. Says
    /// whether one did.
    pub fn corrupt(&mut self, choice: u64) -> bool {
        self.state.corrupt(choice)
    }

    /// The frames that carry an emission to a listening client: one, unless there is a tamper.
    pub fn seal_emission(&mut self, emission: &Emission, to: ClientId) -> Vec<Arc<[u8]>> {
        let Emission { channel, payload } = emission.clone();
        self.outbound.seal_client(to, ClientMessage::Emission { channel, payload })
    }

    /// Where the replica stands.
    #[must_use]
    pub fn status(&self) -> ReplicaStatus {
        ReplicaStatus {
            view: self.view,
            is_in_view: self.is_in_view,
            executed: self.executed(),
            stable: self.checkpoints.stable_seq(),
            checkpoints: self.checkpoints.len(),
            is_transferring: self.transfer.is_some(),
            clients: self.state.table().len(),
            outstanding: self.admission.len(),
            time: self.state.time(),
        }
    }

    /// The last batch that is executed for good.
    #[must_use]
    pub fn executed(&self) -> Seq {
        match self.tentative.front() {
            Some(Tentative { decision, .. }) => Seq(decision.seq.0 - 1),
            None => self.state.executed(),
        }
    }

    /// The service, as of the last batch executed, [tentatively](Self::is_tentative) or not.
    #[must_use]
    pub fn service(&self) -> &S {
        self.state.service()
    }

    /// The service, for fault injection: nobody else has what is changed here.
    pub fn service_mut(&mut self) -> &mut S {
        self.state.service_mut()
    }

    /// The keys that it goes by now.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.outbound.keyring
    }

    /// The protocol.
    #[must_use]
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    fn start(&mut self, startup: Startup, outputs: &mut Vec<Output>) {
        self.is_started = true;
        let start = match (startup, self.durability) {
            (Startup::Genesis, _) => self.start_blank(Memory::Whole, outputs),
            (Startup::Amnesia, _) | (Startup::Recovered { .. }, Durability::None) => {
                self.start_blank(Memory::Lost, outputs)
            }
            (Startup::Recovered { records, kept }, Durability::Sync | Durability::Async) => {
                match self.restore(&records, kept, false, outputs) {
                    Ok(start) => start,
                    Err(error) => return self.stop(StopReason::Records(error), outputs),
                }
            }
            (Startup::Recovering(Remains { records: Some(records), kept }), durability)
                if durability != Durability::None =>
            {
                match self.restore_in_doubt(records, kept, outputs) {
                    Ok(start) => start,
                    Err(error) => return self.stop(StopReason::Records(error), outputs),
                }
            }
            (Startup::Recovering(Remains { kept, .. }), _) => {
                self.salvaged = kept.map(KeptState::into_pages);
                self.start_blank(Memory::Lost, outputs)
            }
        };
        self.events.extend(start.map(Event::Start));
    }

    pub(crate) fn stop(&mut self, reason: StopReason, outputs: &mut Vec<Output>) {
        self.is_stopped = true;
        outputs.push(Output::Stop(reason));
    }

    /// What the protocol starts from; `None` where it does not start yet, or not any more.
    pub(crate) fn restore(
        &mut self,
        records: &[Vec<u8>],
        kept: Option<KeptState>,
        is_doubtful: bool,
        outputs: &mut Vec<Output>,
    ) -> Result<Option<Start>, RecordError> {
        let mut recovered = recover(records, kept)?;
        let has_forgotten = recovered.epoch.as_ref().is_some_and(|epoch| epoch.has_forgotten);
        if let Some(mut epoch) = recovered.epoch {
            if is_doubtful {
                let known = self.epoch();
                epoch.links.retain(|link| link.epoch >= known);
            }
            if !self.resume_epoch(epoch, outputs)? {
                return Ok(None);
            }
        } else if self.epoch() > Epoch(0) {
            // It never got so far as to say anything.
            return Ok(self.start_blank(Memory::Whole, outputs));
        }
        let start = self.tenure.as_ref().and_then(Tenure::start).filter(|_| is_doubtful);
        let is_older = |(kept, _): &mut (KeptState, _)| start.is_some_and(|(start, _)| kept.seq() < start);
        if let Some((kept, _)) = recovered.stable.take_if(is_older) {
            self.salvage(kept);
        }
        if let Some((kept, checkpoint)) = recovered.stable {
            let seq = kept.seq();
            self.resume_state(kept, (checkpoint.state, checkpoint.tree))
                .map_err(|error| RecordError::State { seq, error })?;
        }
        Ok(Some(Start::Recovered {
            stable: self.state.executed(),
            executed: self.state.table().executed(),
            records: recovered.records,
            is_closed: self.is_epoch_over(),
            has_forgotten,
            is_doubtful,
        }))
    }

    fn on_replica_frame(&mut self, now: Instant, from: ReplicaId, bytes: &[u8], outputs: &mut Vec<Output>) {
        match self.opener.open::<P::Message>(&mut self.outbound.keyring, from, bytes) {
            Ok(Opened::Engine(EngineMessage::Succession(links))) => self.on_links(links),
            Ok(Opened::Engine(EngineMessage::Start { seq, state })) => {
                self.on_start_said(now, from, (seq, state), outputs);
            }
            // Who joins can't believe what it is told of the start without the keys of who tells it.
            Ok(Opened::Engine(EngineMessage::NewKey { new_key, known })) => {
                self.on_new_key(now, from, (new_key, known), outputs);
            }
            Ok(Opened::Elsewhere(epoch)) => self.show_to(now, from, epoch, outputs),
            Ok(_) if !self.is_member() => self.show_to(now, from, self.epoch(), outputs),
            Ok(Opened::Engine(EngineMessage::AskStart)) => self.on_ask_start(from, outputs),
            Ok(Opened::Protocol { mut message, proof, key }) => {
                for request in message.requests_mut() {
                    self.foresee(request);
                }
                self.events.push_back(Event::Message { from, message, proof, key });
            }
            Ok(Opened::Engine(EngineMessage::Fetch { seq, state, ticket, want })) => {
                let parts = self.supplier.answer(now, from, (seq, state), &want, &self.checkpoints);
                self.outbound.send_engine(from, EngineMessage::Fetched { ticket, parts }, outputs);
            }
            Ok(Opened::Engine(EngineMessage::Fetched { ticket, parts })) => {
                let Some(transfer) = &mut self.transfer else { return };
                if let Received::Wrong(seq) = transfer.on_fetched(from, ticket, parts) {
                    let misbehaviour = Misbehaviour::WrongState(seq);
                    let evidence = Evidence { accused: from, misbehaviour, statements: Vec::new() };
                    self.accusations.bring(evidence, outputs);
                }
            }
            Err(Refusal::Caught(evidence)) => self.accusations.bring(evidence, outputs),
            Err(Refusal::Unauthentic(reason)) => {
                outputs.push(Output::Report(Report::Refused { from: Principal::Replica(from), reason }));
            }
        }
    }

    fn on_client_frame(&mut self, now: Instant, from: ClientId, bytes: &[u8], outputs: &mut Vec<Output>) {
        let keyring = &mut self.outbound.keyring;
        let owner = keyring.owner(from);
        if self.penalties.ignores(now, (from, owner)) {
            return;
        }
        let is_known = keyring.public(Principal::Client(from)).is_some();
        let opened = self.opener.open_client(keyring, from, bytes);
        let epoch = opened.as_ref().map_or_else(|(_, epoch)| *epoch, ClientFrame::epoch);
        let is_shown = is_known && self.show_to_client(now, from, epoch, outputs);
        if is_known {
            // Who speaks in an earlier epoch has its keys: that is no garbage, until it has been told.
            let is_good = opened.is_ok() || is_shown;
            // Where this replica has a new key, the MACs of all sessions are bad at once.
            let is_about_keys = self.opener.is_outdated(Principal::Client(from));
            self.penalties.note(now, (from, owner), is_good, is_about_keys);
        }
        match opened {
            Ok(_) if !self.is_member() => {}
            Ok(ClientFrame::Request(request)) => self.on_request(now, request, outputs),
            Ok(ClientFrame::Query(query)) => self.on_query(query, outputs),
            Ok(ClientFrame::Witness(request)) => {
                let owner = self.outbound.keyring.owner(request.client);
                self.events.push_back(Event::Witness { request, owner });
            }
            Ok(ClientFrame::Body(request)) => {
                self.foresee(&request);
                self.events.push_back(Event::Body(request));
            }
            Ok(ClientFrame::Certificate { number, certificate, .. }) => {
                self.on_certificate(from, number, certificate, outputs);
            }
            Ok(ClientFrame::Prove(prove)) => self.on_prove(prove, outputs),
            Err(_) if is_shown => {}
            Err((reason, _)) => {
                outputs.push(Output::Report(Report::Refused { from: Principal::Client(from), reason }));
            }
        }
    }

    /// PBFT §4.1: a request that was executed is answered again. An older one never will be, and its client
    /// is told so: where its clock was set back, it would wait for ever.
    fn on_request(&mut self, now: Instant, request: Request, outputs: &mut Vec<Output>) {
        let (client, number) = (request.client, request.number);
        if !request.is_authentic {
            // It is its client's, who does not know that this group wants signatures. Of a group that changes it would
            // know; it goes by another file then, and could follow no change.
            if self.tenure.is_none() {
                self.outbound.send_client(client, ClientMessage::MustSign { number }, outputs);
            }
            return;
        }
        let is_owed = request.answers == Answers::All;
        match self.state.table().standing(client, number) {
            Standing::Old(last) => {
                self.outbound.send_client(client, ClientMessage::Superseded { number, last }, outputs);
            }
            Standing::Awaited => {}
            Standing::Last(_) if self.protocol.answers_from().is_none() => {}
            Standing::Last(outcome) => {
                if is_owed && !request.has_macs() {
                    self.events.push_back(Event::AskedAgain { client, number });
                }
                // It asks again, perhaps because it could not believe the answer for want of the key.
                self.outbound.announce(now, Principal::Client(client), outputs);
                let given = Given::Whole(outcome.clone());
                let reply = match self.early_execution(client, number) {
                    Some(early) => early.reply(client, number, given),
                    None => Some(said(self.view, number, Execution::Earlier, given)),
                };
                if let Some(reply) = reply {
                    self.outbound.send_client(client, reply, outputs);
                }
            }
            // Whoever fills all places must not keep an administrator from making more.
            Standing::New
                if self.admission.admit(now, client, number, is_owed) || self.is_command(&request) =>
            {
                self.foresee(&request);
                self.events.push_back(Event::Request(request));
            }
            Standing::New => {
                self.outbound.send_client(client, ClientMessage::Busy { number }, outputs);
            }
        }
    }

    /// Somebody wants a request to be ordered.
    fn foresee(&mut self, request: &Request) {
        let Request { client, number, is_authentic, kind, .. } = *request;
        let is_new = matches!(self.state.table().standing(client, number), Standing::New);
        if is_authentic && kind == RequestKind::Service && is_new && !self.is_witness() {
            self.state.service_mut().foresee(&request.operation, client);
        }
    }
}
