use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use althing_components::{Reply, Sink};
use althing_protocol::unreplicated::Unreplicated;
use althing_protocol::{AnyProtocol, Evidence, Protocol};
use althing_replica::storage::{SegmentContent, begin_recovery};
use althing_replica::{
    Emission, Input, Output, Remains, Replica, Report, Service, Startup, StopReason, Timer,
};
use althing_types::{ClientId, Principal, Seq};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::courier::{Couriers, LocalQuery};
use super::leaving::Leaving;
use super::members::Members;
use super::outgoing::Outgoing;
use super::recovery::Recovery;
use super::service::NodeService;
use super::site::{SitePart, next_arrival};
use super::{Ended, ReplicaError};
use crate::clock::WallClock;
use crate::config::{ReplicaFile, ServiceConfig};
use crate::control::{Accused, ControlCall, EvidenceReport, Fault, ReplicaCounters};
use crate::log::{LogError, LogEvent, LogThread};
use crate::net::{NetEvent, NetEvents, NetworkHandle};
use crate::roster::Roster;
use crate::timers::Timers;

/// Frames handled before what they led to is sent, at most.
pub(super) const BATCH: usize = 256;

/// And how long that may take: frames that cost a lot are not to hold up what others led to.
pub(super) const LONGEST_BATCH: Duration = Duration::from_micros(500);

/// Pieces of evidence kept for the control socket.
const MAX_EVIDENCE: usize = 100;

/// Names no record: what a rewrite is given, which needs no answer.
const REWRITE_ID: u64 = 0;

/// A protocol that a replica process can run.
pub(super) trait NodeProtocol: Protocol<Message: Send> + Send {
    /// Whether the replica votes.
    fn is_voting(&self) -> bool;

    /// Whether nothing that it may have said and does not know of can matter.
    fn is_settled(&self) -> bool;

    /// Whether all others are where it is, and know what they have said, as far as it has heard lately.
    fn knows_no_straggler(&self, now: althing_types::Instant) -> bool;
}

impl NodeProtocol for AnyProtocol {
    fn is_voting(&self) -> bool {
        AnyProtocol::is_voting(self)
    }

    fn is_settled(&self) -> bool {
        AnyProtocol::is_settled(self)
    }

    fn knows_no_straggler(&self, now: althing_types::Instant) -> bool {
        AnyProtocol::knows_no_straggler(self, now)
    }
}

impl NodeProtocol for Unreplicated {
    fn is_voting(&self) -> bool {
        true
    }

    fn is_settled(&self) -> bool {
        true
    }

    fn knows_no_straggler(&self, _now: althing_types::Instant) -> bool {
        true
    }
}

/// One replica and everything that it is connected to.
pub(super) struct Runtime<P: NodeProtocol> {
    pub(super) file: ReplicaFile,
    pub(super) replica: Replica<P, NodeService>,
    pub(super) clock: WallClock,
    timers: Timers<Timer>,
    pub(super) network: NetworkHandle,
    /// Who is who there, in the present epoch.
    pub(super) members: Members,
    pub(super) outgoing: Outgoing,
    log: Option<LogThread>,
    log_events: Option<mpsc::UnboundedReceiver<LogEvent>>,
    /// Clients outside of any group that listen to a channel.
    listeners: BTreeMap<u32, ClientId>,
    couriers: Couriers,
    /// What stands beside the replica, where it is a site's.
    pub(super) site: Option<SitePart>,
    pub(super) outputs: Vec<Output>,
    pub(super) fault: Fault,
    pub(super) counters: ReplicaCounters,
    pub(super) evidence: VecDeque<EvidenceReport>,
    /// When to take the next key, if ever.
    pub(super) refresh_at: Option<Instant>,
    pub(super) recovery: Recovery,
    /// Set once the replica is to end.
    pub(super) leaving: Option<Leaving>,
}

impl<P: NodeProtocol> Runtime<P> {
    pub(super) fn new(
        file: ReplicaFile,
        replica: Replica<P, NodeService>,
        (network, roster): (NetworkHandle, Roster),
        log: Option<(LogThread, mpsc::UnboundedReceiver<LogEvent>)>,
        couriers: Couriers,
    ) -> Self {
        let (log, log_events) = log.unzip();
        Self {
            listeners: listeners(&file),
            outgoing: Outgoing::new(Arc::clone(file.group()), network.clone()),
            members: Members::new(&file, roster),
            file,
            replica,
            clock: WallClock::default(),
            timers: Timers::default(),
            network,
            log,
            log_events,
            couriers,
            site: None,
            outputs: Vec::new(),
            fault: Fault::None,
            counters: ReplicaCounters::default(),
            evidence: VecDeque::new(),
            refresh_at: None,
            recovery: Recovery::default(),
            leaving: None,
        }
    }

    /// Runs the replica to its end.
    pub(super) async fn run(
        mut self,
        startup: Startup,
        mut events: NetEvents,
        mut calls: mpsc::Receiver<ControlCall>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<Ended, ReplicaError> {
        let kind = match &startup {
            Startup::Genesis => "a new group",
            Startup::Recovered { .. } => "its disk",
            Startup::Amnesia => "nothing: it asks the others",
            Startup::Recovering(Remains { records: Some(_), .. }) => "its disk, in doubt",
            Startup::Recovering(_) => "what can be read of its pages: it asks the others",
        };
        let (group, replica) = (self.file.group().name().to_owned(), self.file.replica());
        tracing::info!(group, %replica, from = kind, "the replica starts");
        self.handle(Input::Start(startup));
        tokio::pin!(shutdown);
        let result = match self.begin().await {
            Ok(()) => self.run_until(&mut events, &mut calls, shutdown.as_mut()).await,
            failed => failed,
        };
        if let Err(error) = &result {
            tracing::error!(group, %replica, %error, "the replica stops");
        }
        if let Some(log) = self.log.take() {
            log.close().await;
        }
        self.network.shutdown().await;
        if let Some(site) = &self.site {
            site.shutdown().await;
        }
        result?;
        if !self.recovery.is_due {
            return Ok(Ended::AsTold);
        }
        if let Some(disk) = &mut self.recovery.disk {
            begin_recovery(disk)?;
        }
        // Nobody listens any more after this.
        tokio::select! {
            biased;
            () = shutdown => Ok(Ended::AsTold),
            () = std::future::ready(()) => Ok(Ended::ToRecover { at_ns: self.clock.now().0 }),
        }
    }

    async fn begin(&mut self) -> Result<(), ReplicaError> {
        self.refresh_at = self.file.group().key_refresh().map(|_| Instant::now());
        self.refresh_keys()?;
        self.start_site();
        self.perform().await?;
        if self.replica.is_retired() {
            self.on_retired(self.members.epoch());
        }
        Ok(())
    }

    async fn run_until(
        &mut self,
        events: &mut NetEvents,
        calls: &mut mpsc::Receiver<ControlCall>,
        mut shutdown: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<(), ReplicaError> {
        let mut is_told = false;
        while !self.has_left() {
            let leaving = self.leaving.map(Leaving::wakes);
            let farewell = self.members.farewell_at();
            let beside = self.site.as_ref().and_then(SitePart::next);
            let wake = [self.timers.next(), self.outgoing.next(), self.refresh_at, leaving, farewell, beside];
            let wake = wake.into_iter().flatten().min();
            let mut are_more_waiting = false;
            tokio::select! {
                () = &mut shutdown, if !is_told => {
                    is_told = true;
                    self.end_as_told();
                }
                event = events.recv() => match event {
                    Some(event) => are_more_waiting = self.on_net_events(event, events),
                    None => return Ok(()),
                },
                Some(arrival) = next_arrival(self.site.as_mut()) => {
                    are_more_waiting = self.on_site_arrival(arrival);
                }
                event = next_log_event(self.log_events.as_mut()) => self.on_log_event(event)?,
                Some(call) = calls.recv() => self.on_call(call),
                // What is tentative must not reach another group.
                query = self.couriers.next_query(), if !self.replica.is_tentative() => {
                    self.on_local_query(query);
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            self.expire();
            self.say_farewell();
            self.refresh_keys()?;
            self.recover_if_due()?;
            self.perform().await?;
            if are_more_waiting {
                // Reading what one peer has flooded would otherwise keep others' frames from being received,
                // and the own ones from being sent, for as long as its queue is full.
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Whoever wants it to end does not want it back, also where it was about to recover.
    pub(super) fn end_as_told(&mut self) {
        self.recovery.is_due = false;
        if self.leaving.is_none() {
            self.leave();
        }
    }

    pub(super) fn handle(&mut self, input: Input) {
        let now = self.clock.now();
        self.replica.handle(now, input, &mut self.outputs);
    }

    /// Takes a batch of events. Whether it ended before there were no more.
    fn on_net_events(&mut self, first: NetEvent, events: &mut NetEvents) -> bool {
        let begun = Instant::now();
        let (mut next, mut before) = (Some(first), begun);
        for _ in 0..BATCH {
            let Some(event) = next.take().or_else(|| events.try_recv()) else { return false };
            self.on_net_event(event);
            let after = Instant::now();
            events.charge(after - before);
            if after - begun >= LONGEST_BATCH {
                break;
            }
            before = after;
        }
        true
    }

    fn on_net_event(&mut self, event: NetEvent) {
        match event {
            NetEvent::Frame { from, session, bytes } => match self.arrival(from, session, bytes.into()) {
                Some(input) => self.handle(input),
                // It has no such session.
                None => self.counters.refused_frames += 1,
            },
            NetEvent::Connected(who) => self.on_connected(who),
            NetEvent::Disconnected(who) => tracing::debug!(%who, "disconnected"),
        }
    }

    /// Each session of a client is one of its own to the group.
    fn on_connected(&mut self, who: Principal) {
        tracing::debug!(%who, "connected");
        let owner = match who {
            Principal::Client(owner) => owner,
            Principal::Replica(slot) => return self.on_replica_connected(slot),
        };
        for session in
            (0..).map_while(|session| self.file.group().session(owner, session)).collect::<Vec<_>>()
        {
            self.handle(Input::Connected(Principal::Client(session)));
        }
    }

    fn on_log_event(&mut self, event: Option<LogEvent>) -> Result<(), ReplicaError> {
        match event {
            Some(LogEvent::Durable(ids)) => {
                self.counters.records += ids.iter().filter(|id| **id != REWRITE_ID).count() as u64;
                if let Some(last) = ids.into_iter().filter(|id| *id != REWRITE_ID).max() {
                    self.recovery.durable = last;
                    self.handle(Input::Persisted(last));
                }
                Ok(())
            }
            Some(LogEvent::Kept(seq)) => {
                self.handle(Input::Kept(seq));
                Ok(())
            }
            Some(LogEvent::Failed(error)) => Err(error.into()),
            None => Err(self.log_failure()),
        }
    }

    /// Why the log's thread has ended.
    fn log_failure(&mut self) -> ReplicaError {
        while let Some(event) = self.log_events.as_mut().and_then(|events| events.try_recv().ok()) {
            if let LogEvent::Failed(error) = event {
                return error.into();
            }
        }
        ReplicaError::Storage(LogError::Poisoned { path: self.file.data().to_owned() })
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(timer) = self.timers.expired(now) {
            self.handle(Input::Timer(timer));
        }
        self.expire_site(now);
        self.outgoing.flush(Some(now));
    }

    /// Does what the engine wants done, and what stands beside it, until there is nothing more.
    async fn perform(&mut self) -> Result<(), ReplicaError> {
        self.carry_out().await?;
        while self.observe() {
            self.carry_out().await?;
        }
        Ok(())
    }

    /// Does what the engine wants done, in its order.
    async fn carry_out(&mut self) -> Result<(), ReplicaError> {
        // What a broken component led to must not leave.
        if let Some(reason) = self.replica.service().broken() {
            return Err(ReplicaError::Broken(reason));
        }
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Send { to: Principal::Client(to), frame } if self.answers_lane(to, &frame) => {}
                Output::Send { to, frame } => {
                    if let Some(to) = self.members.route(to) {
                        self.outgoing.send(to, frame);
                    }
                }
                Output::SendLazily { to, frame } => {
                    if let Some(to) = self.members.route(to) {
                        self.outgoing.send_lazily(to, frame);
                    }
                }
                Output::Flush => self.outgoing.flush_lazy(),
                Output::SendStray { to, frame } => {
                    if let Some(to) = self.members.slot_of(&to) {
                        self.outgoing.send(to, frame);
                    }
                }
                Output::Epoch { membership, me, .. } => self.enter(*membership, me),
                Output::SetTimer { timer, after } => self.timers.set(timer, after),
                Output::CancelTimer(timer) => self.timers.cancel(timer),
                Output::Append { id, record } => self.append(id, record).await?,
                Output::Rewrite { records, dropped } => self.rewrite(records, dropped).await?,
                Output::Keep { seq, segments } => self.keep(seq, segments)?,
                Output::Emit(emission) => self.emit(&emission),
                Output::Evidence(evidence) => self.on_evidence(&evidence),
                Output::Report(report) => self.on_report(&report),
                Output::Stop(StopReason::State(error)) => return Err(ReplicaError::State(error)),
                Output::Stop(StopReason::Records(source)) => {
                    let path = self.file.data().to_owned();
                    return Err(LogError::Unusable { path, source }.into());
                }
            }
        }
        self.outputs = outputs;
        Ok(())
    }

    async fn append(&mut self, id: u64, record: Vec<u8>) -> Result<(), ReplicaError> {
        let Some(log) = &self.log else { return Ok(()) };
        self.recovery.appended = id;
        if log.append(id, record.into()).await.is_err() {
            return Err(self.log_failure());
        }
        Ok(())
    }

    fn keep(&mut self, seq: Seq, segments: Vec<SegmentContent>) -> Result<(), ReplicaError> {
        match &self.log {
            Some(log) if log.keep(seq, segments).is_err() => Err(self.log_failure()),
            _ => Ok(()),
        }
    }

    async fn rewrite(&mut self, records: Vec<Vec<u8>>, dropped: Vec<u64>) -> Result<(), ReplicaError> {
        let Some(log) = &self.log else { return Ok(()) };
        self.counters.rewrites += 1;
        let records = records.into_iter().map(Bytes::from).collect();
        if log.rewrite(REWRITE_ID, records, dropped).await.is_err() {
            return Err(self.log_failure());
        }
        Ok(())
    }

    fn emit(&mut self, emission: &Emission) {
        self.counters.emissions += 1;
        if let Some(&listener) = self.listeners.get(&emission.channel) {
            for frame in self.replica.seal_emission(emission, listener) {
                self.outgoing.send(Principal::Client(listener), frame);
            }
        }
        self.couriers.wake(emission.channel);
    }

    fn on_evidence(&mut self, evidence: &Evidence) {
        let report = EvidenceReport {
            accused: evidence.accused.0,
            of: Accused::Replica,
            misbehaviour: evidence.misbehaviour.to_string(),
            is_transferable: evidence.is_transferable(),
            seen_ns: self.clock.now().0,
        };
        self.note_evidence(report);
    }

    pub(super) fn note_evidence(&mut self, report: EvidenceReport) {
        let EvidenceReport { accused, of, misbehaviour, .. } = &report;
        tracing::warn!(accused, ?of, misbehaviour, "evidence");
        if self.evidence.len() >= MAX_EVIDENCE {
            self.evidence.pop_front();
        }
        self.evidence.push_back(report);
    }

    fn on_report(&mut self, report: &Report) {
        let counters = &mut self.counters;
        match report {
            Report::Retired { epoch } => self.on_retired(*epoch),
            Report::EnteredView(view) => {
                counters.views_entered += 1;
                tracing::info!(%view, "entered a view");
            }
            Report::LeftView(view) => {
                counters.views_left += 1;
                tracing::info!(%view, "moves to another view");
            }
            Report::Executed { requests, .. } => {
                counters.batches += 1;
                counters.requests += requests.len() as u64;
            }
            Report::Stable { seq, .. } => tracing::debug!(%seq, "a checkpoint is stable"),
            Report::Diverged { seq } => {
                counters.divergences += 1;
                tracing::error!(%seq, "the own state differs from that of the others");
            }
            Report::TransferStarted { seq } => tracing::info!(%seq, "fetches the state"),
            Report::TransferFinished { seq, bytes } => {
                counters.transfers += 1;
                counters.transferred_bytes += bytes;
                tracing::info!(%seq, bytes, "has the state");
                self.couriers.wake_all();
            }
            Report::Confirmed { seq } => tracing::info!(%seq, "others confirm the start of its epoch"),
            Report::TransferDropped { seq } => tracing::info!(%seq, "needs the state no longer"),
            Report::StateRefused { seq, error } => tracing::error!(%seq, %error, "a state was refused"),
            Report::Refused { from, reason } => {
                counters.refused_frames += 1;
                tracing::debug!(%from, reason, "refused a frame");
            }
            Report::KeyRefreshed { counter } => {
                counters.keys_refreshed += 1;
                tracing::info!(counter, "has a new key");
            }
            Report::KeyLearned { of, counter } => {
                counters.keys_learned += 1;
                tracing::debug!(%of, counter, "learnt of a new key");
            }
            Report::EmissionTooLong { channel, bytes } => {
                tracing::warn!(channel, bytes, "dropped an emission that is too long");
            }
        }
    }

    /// A courier reads the own state. One that was told to lie or be silent does so there too.
    fn on_local_query(&mut self, query: LocalQuery) {
        let answer = match self.fault {
            Fault::Mute => None,
            _ => self.replica.service().query(&query.operation, query.client),
        };
        let answer = match (self.fault, answer) {
            (Fault::Lie, Some(reply)) => Some(falsified(reply)),
            (_, answer) => answer,
        };
        // The courier may have ended.
        let _ = query.answer.send(answer);
    }
}

async fn next_log_event(events: Option<&mut mpsc::UnboundedReceiver<LogEvent>>) -> Option<LogEvent> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// Which clients outside of any group listen to which channel.
fn listeners(file: &ReplicaFile) -> BTreeMap<u32, ClientId> {
    let ServiceConfig::Component(component) = file.service() else {
        return BTreeMap::new();
    };
    let edge = |sink: &Sink| match sink {
        Sink::Edge { client } => Some(*client),
        Sink::Group { .. } => None,
    };
    component.table.outgoing.iter().filter_map(|(wire, o)| Some((wire.0, edge(&o.sink)?))).collect()
}

/// The reply with its events changed, as a replica that lies would carry them.
fn falsified(reply: Vec<u8>) -> Vec<u8> {
    match Reply::decode(&reply) {
        Ok(Reply::Outputs { released_up_to, last, mut events }) => {
            events.iter_mut().filter_map(|event| event.event.last_mut()).for_each(|byte| *byte ^= 1);
            Reply::Outputs { released_up_to, last, events }.encode()
        }
        _ => reply,
    }
}
