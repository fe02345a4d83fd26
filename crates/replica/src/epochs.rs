//! From one epoch to the next: the old protocol instance has ended at a checkpoint, its successor goes on
//! from there, with other members or settings and under another name.
//!
//! A replica gets to the next epoch in one of two ways. It executes to the end of the present one, and the
//! protocol proves that the state there is stable; or it has missed that, and others show it the proof
//! ([`Link`]), by which it finds out who the members are and what state to fetch from them. One that has
//! no place in the next epoch retires: it does nothing any more but show that proof to who asks.
//!
//! Nothing of the new epoch is said before the change is on its way to disk: it is one rewrite, which names
//! the epoch whose records follow, and records get to disk in order. So what was said in one epoch is never
//! taken for something said in another.
//!
//! A replica that is new in its epoch (or has lost its disk) does not know the state from which the epoch
//! started. It *joins*: it asks the others, and believes one correct one.

use crate::checkpoints::Checkpoint;
use crate::inbound::Opener;
use crate::io::{Output, Report, Timer, TimerKind};
use crate::kept::KeptState;
use crate::membership::{Link, Membership, SUCCESSION_PAGE, SignedReconfigure, Succession};
use crate::outbound::Outbound;
use crate::pages::Path;
use crate::records::{EpochRecord, RecordError, rewrite};
use crate::remains::Doubted;
use crate::replica::{Replica, ReplicaConfig};
use crate::tally::Tally;
use crate::transfer::{EngineMessage, Supplier};
use crate::{Durability, EngineSettings, Service};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_protocol::{Event, Protocol, Request, RequestKind, Settings, Start};
use althing_types::{ClientId, Digest, Epoch, Instant, ReplicaId, Seq, View, decode};

/// Links that are kept: whoever knows only an earlier epoch has to be told of a later one by other means.
const MAX_LINKS: usize = 32;

/// What a replica is in its epoch.
#[derive(Debug)]
pub(crate) enum Place {
    /// It takes part.
    Member,
    /// It has to find out from which state the epoch started: what each of the others says of that, and
    /// whether it may have taken part in the epoch before.
    Joining(Tally<(Seq, Digest)>, Memory),
    /// It has no place in the epoch after its own.
    Retired,
}

/// What a replica knows of what it said before it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    Whole,
    Lost,
}

/// The epoch of a replica, in a group whose members change.
pub(crate) struct Tenure {
    /// What the engine's parts are made from, in the present epoch.
    pub(crate) config: ReplicaConfig,
    pub(crate) membership: Membership,
    pub(crate) place: Place,
    /// From where the epoch started; `None` in the first one, and while that is not known.
    start: Option<(Seq, Digest)>,
    /// Whether this replica had lost its disk and did not vote yet when it came to the epoch.
    has_forgotten: bool,
    /// How the epochs ended that this replica was in, and those that it was shown.
    pub(crate) links: Vec<Link>,
    /// When each replica was last shown some, or asked for some.
    pub(crate) shown: BTreeMap<[u8; 64], Instant>,
    /// When each client was last shown some.
    pub(crate) shown_to_clients: BTreeMap<ClientId, Instant>,
    /// What was found on a disk that is doubted, of an epoch whose start nothing there proves.
    pub(crate) doubted: Option<Doubted>,
    /// Whether the protocol knows that the epoch ends.
    is_closing: bool,
    /// The proof that the epoch has ended, until that is carried out.
    ended: Option<Vec<Link>>,
    /// Whether that is under way: the old instance is left, and the disk has yet to follow.
    is_leaving: bool,
}

impl Tenure {
    /// The tenure of the replica that `config` is for, if its group's members change.
    ///
    /// # Panics
    /// If the replica is not the member that it says.
    pub(crate) fn new(config: &ReplicaConfig) -> Option<Self> {
        let membership = config.membership.clone()?;
        let place = membership.place_of(&config.keyring.identity());
        assert_eq!(place, Some(config.replica), "a replica has the key of its place");
        Some(Self {
            config: config.clone(),
            membership,
            place: Place::Member,
            start: None,
            has_forgotten: false,
            links: Vec::new(),
            shown: BTreeMap::new(),
            shown_to_clients: BTreeMap::new(),
            doubted: None,
            is_closing: false,
            ended: None,
            is_leaving: false,
        })
    }

    /// From where the epoch started; `None` in the first one, and while that is not known.
    pub(crate) fn start(&self) -> Option<(Seq, Digest)> {
        self.start
    }

    /// What the disk has to say of the epoch.
    fn record(&self) -> EpochRecord {
        EpochRecord {
            membership: self.membership.clone(),
            start: self.start,
            links: self.links.clone(),
            is_retired: matches!(self.place, Place::Retired),
            has_forgotten: self.has_forgotten,
        }
    }
}

impl<P: Protocol, S: Service> Replica<P, S> {
    /// The membership that this replica is in; `None` where the group's members do not change.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.tenure.as_ref().map(|tenure| &tenure.membership)
    }

    /// Whether an administrator has signed what this asks for.
    pub(crate) fn is_command(&self, request: &Request) -> bool {
        let Some(Tenure { config, membership, .. }) = &self.tenure else { return false };
        let is_of_admin =
            |signed: SignedReconfigure| signed.authorise(config.keyring.root(), membership).is_ok();
        request.kind == RequestKind::Reconfigure
            && decode(&request.operation, request.operation.len()).is_ok_and(is_of_admin)
    }

    /// What the present instance of the protocol goes by; `None` where it has no successors.
    #[must_use]
    pub fn settings(&self) -> Option<Settings> {
        self.protocol.settings()
    }

    /// How many requests this replica takes, and which.
    #[must_use]
    pub fn engine_settings(&self) -> EngineSettings {
        let (most, outstanding_expiry) = self.admission.bounds();
        EngineSettings {
            max_outstanding_requests: u32::try_from(most).expect("it came from as many"),
            outstanding_expiry,
            request_auth: self.opener.policy(),
        }
    }

    /// Has it take requests in another way than its epoch says: for fault injection.
    pub fn set_engine_settings(&mut self, settings: EngineSettings) {
        self.opener.set_policy(settings.request_auth);
        self.admission.go_by(&settings);
    }

    /// Whether this replica has no place in the group any more, as far as it knows.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        matches!(&self.tenure, Some(Tenure { place: Place::Retired, .. }))
    }

    /// Whether this replica takes part in its epoch: it is neither about to join nor retired.
    #[must_use]
    pub fn takes_part(&self) -> bool {
        self.is_member()
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.tenure.as_ref().map_or(Epoch(0), |tenure| tenure.membership.epoch)
    }

    /// Whether the protocol's instance is at work.
    pub(crate) fn is_member(&self) -> bool {
        self.tenure.as_ref().is_none_or(|tenure| matches!(tenure.place, Place::Member) && !tenure.is_leaving)
    }

    /// Whether the state is that of the next epoch already: what it says may be news to this one.
    pub(crate) fn is_epoch_over(&self) -> bool {
        self.state.epoch() > self.epoch()
    }

    pub(crate) fn epoch_record(&self) -> Option<EpochRecord> {
        self.tenure.as_ref().map(Tenure::record)
    }

    /// Has the disk say which epoch it is of, with what is kept of the state.
    pub(crate) fn write_epoch(&mut self, outputs: &mut Vec<Output>) {
        if self.tenure.is_some() && self.durability != Durability::None {
            let records = rewrite(self.kept.as_ref(), self.epoch_record(), Vec::new());
            let dropped = core::mem::take(&mut self.dropped_segments);
            outputs.push(Output::Rewrite { records, dropped });
        }
    }

    /// The replica starts with nothing to remember.
    pub(crate) fn start_blank(&mut self, memory: Memory, outputs: &mut Vec<Output>) -> Option<Start> {
        let epoch = self.epoch();
        // Who was the whole group, and has forgotten, can't tell whether it still is: it would speak alone
        // for a group that has grown since.
        let may_have_grown = memory == Memory::Lost && self.quorums.n() == 1;
        if self.tenure.is_some() && (epoch > Epoch(0) || may_have_grown) {
            return self.join(memory, outputs);
        }
        if let Some(tenure) = &mut self.tenure {
            tenure.has_forgotten = memory == Memory::Lost;
        }
        self.write_epoch(outputs);
        Some(match memory {
            Memory::Whole => Start::Genesis,
            Memory::Lost => Start::Amnesia,
        })
    }

    /// The replica has to be told from which state its epoch started.
    pub(crate) fn join(&mut self, memory: Memory, outputs: &mut Vec<Output>) -> Option<Start> {
        if let Some(tenure) = &mut self.tenure {
            tenure.place = Place::Joining(Tally::new(), memory);
            self.ask_for_start(outputs);
        }
        None
    }

    /// The disk is of this epoch. Says whether the replica takes part in it.
    ///
    /// # Errors
    /// Where this replica's key has no place in it, or it can't be.
    pub(crate) fn resume_epoch(
        &mut self,
        record: EpochRecord,
        outputs: &mut Vec<Output>,
    ) -> Result<bool, RecordError> {
        let EpochRecord { membership, start, links, is_retired, has_forgotten } = record;
        let Some(tenure) = &mut self.tenure else { return Ok(true) };
        (tenure.links, tenure.has_forgotten) = (links, has_forgotten);
        let epoch = membership.epoch;
        let me = membership.place_of(&tenure.config.keyring.identity());
        let me = me.ok_or(RecordError::NoPlace { epoch })?;
        if tenure.membership != membership || tenure.start != start {
            membership.check().map_err(|error| RecordError::Membership { epoch, error })?;
            self.enter(membership, me, start, outputs);
        }
        if let Some(tenure) = self.tenure.as_mut().filter(|_| is_retired) {
            tenure.place = Place::Retired;
        }
        Ok(!is_retired)
    }

    /// Becomes replica `me` of another membership, with a new instance of the protocol that is not started.
    pub(crate) fn enter(
        &mut self,
        membership: Membership,
        me: ReplicaId,
        start: Option<(Seq, Digest)>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(tenure) = &mut self.tenure else { return };
        let config = &mut tenure.config;
        config.quorums = membership.quorums();
        config.replica = me;
        config.keyring = membership.keyring(&self.outbound.keyring);
        config.engine = membership.engine;
        config.membership = Some(membership.clone());
        let successor = self.protocol.successor(me, config.quorums, &membership.settings, start);
        self.protocol = successor.expect("no settings are agreed on that the protocol does not allow");
        (self.me, self.quorums) = (me, config.quorums);
        self.opener = Opener::new(config);
        self.admission.go_by(&membership.engine);
        let tamper = self.outbound.take_tamper();
        self.outbound = Outbound::new(config);
        self.outbound.set_tamper(tamper);
        self.accusations = crate::accusations::Accusations::default();
        self.supplier = Supplier::new(self.limits.settings().transfer_bytes_per_second);
        self.believed_from.clear();
        (self.view, self.is_in_view) = (View(0), true);
        self.certified.forget();
        tenure.membership = membership.clone();
        (tenure.place, tenure.start, tenure.is_closing) = (Place::Member, start, false);
        tenure.shown.clear();
        tenure.shown_to_clients.clear();
        self.take_role();
        outputs.push(Output::Epoch { membership: Box::new(membership), me, start });
    }

    /// Whether the state, as it is now, is the last but for the next checkpoint of this epoch, or beyond it.
    pub(crate) fn ends_epoch(&self) -> bool {
        self.is_epoch_over() || self.state.is_epoch_ending()
    }

    /// Tells the protocol that its instance ends, if that is what the state after `seq` said.
    pub(crate) fn close_if_ending(&mut self, seq: Seq, is_ending: bool) {
        if let Some(tenure) = self.tenure.as_mut().filter(|tenure| is_ending && !tenure.is_closing) {
            tenure.is_closing = true;
            self.events.push_back(Event::Close(seq));
        }
    }

    /// The protocol's instance has ended at `seq`. A witness can't prove what the state says there: the others show
    /// it, as they show anybody who still speaks in the epoch that has ended.
    pub(crate) fn on_closed(&mut self, seq: Seq, state: Digest, votes: Vec<(ReplicaId, Proof)>) {
        let path =
            self.checkpoints.find_whole(seq, state).and_then(|own| Path::to_page(&own.tree, SUCCESSION_PAGE));
        if let Some(tenure) = &mut self.tenure
            && let Some(path) = path
        {
            tenure.ended =
                Some(alloc::vec![Link { epoch: tenure.membership.epoch, seq, state, votes, path }]);
        }
    }

    /// Others say how this replica's epoch ended, and maybe those after it.
    pub(crate) fn on_links(&mut self, shown: Vec<Link>) {
        let Some(tenure) = self.tenure.as_mut().filter(|tenure| tenure.ended.is_none()) else { return };
        if matches!(tenure.place, Place::Retired) {
            return;
        }
        let mut reached = tenure.membership.clone();
        let root = tenure.config.keyring.root();
        let mut proven = Vec::new();
        for link in shown {
            if let Some(next) = link.follow(root, &reached) {
                reached = next;
                proven.push(link);
            }
        }
        tenure.ended = (!proven.is_empty()).then_some(proven);
    }

    /// Goes over to the epoch that the links lead to, if there are any: between two events, so that
    /// nothing that the old instance still wanted to say is said in the new one's name.
    ///
    /// The log is to name only a state that is on disk. So the old instance is left at once, and the rest
    /// waits until what is being written is there, and so is the state at the end if this replica has it.
    pub(crate) fn hand_over(&mut self, now: Instant, outputs: &mut Vec<Output>) {
        let Some(tenure) = self.tenure.as_mut().filter(|tenure| tenure.ended.is_some()) else { return };
        if !core::mem::replace(&mut tenure.is_leaving, true) {
            self.leave_instance(outputs);
        }
        if !self.is_end_kept(outputs) {
            return;
        }
        let Some(tenure) = &mut self.tenure else { return };
        let Some(proven) = tenure.ended.take() else { return };
        tenure.is_leaving = false;
        let (root, own) = (tenure.config.keyring.root(), tenure.config.keyring.identity());
        // The last epoch among those reached in which this replica has a place, if there is one.
        let (mut reached, mut start) = (tenure.membership.clone(), tenure.start);
        for link in &proven {
            reached = link.follow(root, &reached).expect("it was followed before");
            start = Some((link.seq, link.state));
        }
        let first = tenure.membership.epoch;
        tenure.links.extend(proven);
        let excess = tenure.links.len().saturating_sub(MAX_LINKS);
        tenure.links.drain(..excess);
        match reached.place_of(&own) {
            Some(me) => self.take_office(now, (reached, me), start, outputs),
            None => {
                tenure.place = Place::Retired;
                outputs.push(Output::Report(Report::Retired { epoch: reached.epoch }));
                self.write_epoch(outputs);
            }
        }
        self.show_to_clients(now, first, outputs);
    }

    /// Whether the disk holds the state from which this replica goes on. If that is the end of an epoch and
    /// not on disk yet, it is written now.
    fn is_end_kept(&mut self, outputs: &mut Vec<Output>) -> bool {
        let last =
            self.tenure.as_ref().and_then(|tenure| tenure.ended.as_ref()).and_then(|links| links.last());
        let Some((seq, state)) = last.map(|link| (link.seq, link.state)) else { return true };
        self.checkpoints.name(seq, state);
        // Who has the whole state by now may have on disk what it kept as a witness.
        let is_hollow = self.checkpoints.find(seq, state).is_some_and(|own| own.is_hollow);
        let is_it = |kept: &mut KeptState| kept.seq() == seq && (is_hollow || kept.digest() == state);
        let is_kept = self.kept.as_mut().is_some_and(is_it);
        let is_to_be_kept =
            self.durability != Durability::None && !is_kept && self.checkpoints.find(seq, state).is_some();
        if is_to_be_kept && !self.is_keeping {
            self.keep_state(seq, state, outputs);
        }
        !self.is_keeping
    }

    /// The old instance says and hears nothing any more.
    fn leave_instance(&mut self, outputs: &mut Vec<Output>) {
        self.roll_back(outputs);
        self.queries.clear();
        self.events.clear();
        outputs.extend(self.timers.iter().map(|id| Output::CancelTimer(Timer::protocol(*id))));
        self.timers.clear();
        if let Some(transfer) = self.transfer.take() {
            self.next_ticket = transfer.next_ticket();
            outputs.push(Output::CancelTimer(Timer::TRANSFER));
            outputs.push(Output::Report(Report::TransferDropped { seq: transfer.target().0 }));
        }
    }

    fn take_office(
        &mut self,
        now: Instant,
        (membership, me): (Membership, ReplicaId),
        start: Option<(Seq, Digest)>,
        outputs: &mut Vec<Output>,
    ) {
        // Who knew all that it had said, and whose disk is of an earlier epoch, has said nothing in this one.
        let is_later = membership.epoch > self.epoch();
        let is_doubtful = self.give_up_doubted() == Some(Memory::Whole) && is_later;
        let is_lost = matches!(&self.tenure, Some(Tenure { place: Place::Joining(_, Memory::Lost), .. }));
        let is_amnesiac = is_lost && !is_doubtful;
        let has_forgotten = is_amnesiac || self.protocol.has_forgotten();
        self.enter(membership, me, start, outputs);
        if let Some(tenure) = &mut self.tenure {
            tenure.has_forgotten = has_forgotten;
        }
        let is_witness = self.is_witness();
        let is_enough = |own: &Checkpoint| is_witness || !own.is_hollow;
        let has_state =
            start.is_some_and(|(seq, state)| self.checkpoints.find(seq, state).is_some_and(is_enough));
        if let Some((seq, state)) = start.filter(|_| has_state) {
            self.checkpoints.on_stable(seq, state);
            self.checkpoints.on_kept(seq);
        }
        self.write_epoch(outputs);
        if self.outbound.keyring.announcement().is_some() {
            self.spread_key(now, outputs);
        }
        let executed = self.state.executed();
        self.events.push_back(Event::Start(if is_amnesiac {
            Start::Amnesia
        } else if is_doubtful {
            self.start_in_doubt()
        } else {
            Start::Handover { executed, has_state }
        }));
        if self.is_to_stop {
            self.events.push_back(Event::HandOver);
        }
    }

    /// Asks all others from which state the epoch started, again and again.
    pub(crate) fn ask_for_start(&mut self, outputs: &mut Vec<Output>) {
        if !matches!(&self.tenure, Some(Tenure { place: Place::Joining(..), .. })) {
            return;
        }
        let me = self.me;
        for to in self.quorums.replicas().filter(|id| *id != me) {
            self.outbound.send_engine(to, EngineMessage::AskStart, outputs);
        }
        let after = self.limits.settings().transfer_timeout;
        outputs.push(Output::SetTimer { timer: Timer(TimerKind::Join), after });
    }

    pub(crate) fn on_ask_start(&mut self, from: ReplicaId, outputs: &mut Vec<Output>) {
        if let Some(Tenure { place: Place::Member, start: Some((seq, state)), .. }) = self.tenure {
            self.outbound.send_engine(from, EngineMessage::Start { seq, state }, outputs);
        }
    }

    pub(crate) fn on_start_said(
        &mut self,
        now: Instant,
        from: ReplicaId,
        start: (Seq, Digest),
        outputs: &mut Vec<Output>,
    ) {
        let enough = self.quorums.one_correct();
        let Some(Tenure { place: Place::Joining(said, _), membership, .. }) = &mut self.tenure else {
            return;
        };
        if said.vote(from, start) >= enough {
            let membership = membership.clone();
            outputs.push(Output::CancelTimer(Timer(TimerKind::Join)));
            if self.restore_if_it_starts_from(start, outputs) {
                return;
            }
            self.take_office(now, (membership, self.me), Some(start), outputs);
        }
    }
}

/// The memberships as a part of the state of a new replica.
pub(crate) fn succession(config: &ReplicaConfig) -> Option<Succession> {
    let membership = config.membership.clone()?;
    Some(Succession::new(config.keyring.root(), membership))
}
