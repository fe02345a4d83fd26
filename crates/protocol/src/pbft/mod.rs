//! Practical Byzantine Fault Tolerance: Castro and Liskov, OSDI'99, with the view change that needs
//! no signed prepares from "Practical Byzantine Fault Tolerance and Proactive Recovery", TOCS 2002.
//!
//! Tolerates f Byzantine replicas among n ≥ 3f + 1. Safe under asynchrony; live once messages
//! between correct replicas arrive within a bound that need not be known.
//!
//! | message | from → to | authentication | when |
//! |---|---|---|---|
//! | `Forward` | backup → primary | MAC (and the client's own) | a client's request reached a backup |
//! | `PrePrepare` | primary → all | MAC | it assigns a number to a batch |
//! | `Prepare` | backup → all | MAC | it accepted the assignment |
//! | `Commit` | all → all | MAC | the batch prepared there |
//! | `Checkpoint` | all → all | transferable | every K numbers, with the digest of the state |
//! | `ViewChange` | all → all | transferable | a request waited too long, or f + 1 others say so |
//! | `NewView` | new primary → all | transferable | enough view changes came in |
//! | `RelayNewView`, `RelayStable` | any → any | transferable inside | a `Status` shows that it is missed |
//! | `Status` | all → all | MAC | regularly, as long as the sender waits for something |
//! | `Decided` | any → any | MAC | a `Status` shows that a batch is missed that the sender has executed |
//! | `FetchBatch`, `BatchBody` | any → any | MAC | a batch that others agreed on is missing |
//! | `RecoverQuery`, `RecoverReport` | any → any | MAC, transferable inside | a replica lost its disk, or doubts it |
//! | `FillTo` | any → all | MAC | it waits for the group to get so far, to vote again or to come back |
//! | `Caught` | any → all | MAC | it left a view in which MACs of these clients had held up the order |
//! | `Made` | any → witnesses | MAC | it has said that it made a checkpoint |
//!
//! Deviations from the papers:
//! - Quorums are those of any n ≥ 3f + 1, not only of n = 3f + 1 (`Quorums`).
//! - View changes are signed, so a new view proves itself and can be passed on by anybody; TOCS'02
//!   §4.4 uses acknowledgements with MACs instead. Stable checkpoints in them carry certificates,
//!   so a new view starts from the highest one, as in OSDI'99 §4.4.
//! - An agreement quorum of commits decides, whether or not the batch prepared here. It implies that
//!   f + 1 correct replicas prepared it, and lets a replica learn what it slept through. So do f + 1
//!   replicas that have executed the batch: one of them is correct.
//! - A request with MACs never starts the view-change timer: a faulty client could make it good for
//!   a backup and bad for the primary. A client that waits too long signs, and signed requests do.
//! - The timer guards the *oldest* waiting request instead of any progress, so a primary can't
//!   starve one client while it serves others.
//! - A replica that lost its disk votes again only where nothing that it may have signed before can
//!   matter (a bound like H_M of TOCS'02 §5.3.2; the argument stands in `recovery`). The primary fills
//!   up with null requests so that this comes soon. One that lost its disk as the primary is voted out.
//! - A replica that recovers proactively votes by the records on its disk if they could be true, also above
//!   H_M, and is silent if they can't (`suspicion`).
//! - A view change whose log ends below the start of the new view is void.
//! - A replica that gave up on a view alone comes back to it, once its view change is void (`rejoin`).
//! - A new view that starts more than a log below what a replica knows to be committed is followed only where
//!   an agreement quorum was seen to vote in it (`stale`).
//! - A primary that is to stop steps down first, and backups follow it without a timeout (`handover`).
//! - A tentative reply follows the replica's own commit, and only small batches are executed tentatively
//!   (`tentative`).
//! - A client whose MACs held up the order has to sign, for a while (`distrust`).
//! - An instance may be closed and have a successor with other members (`succession`).
//! - After a view without progress a primary proposes signed requests only, until there is some.
//! - Some replicas may be witnesses, which agree and do not execute (`attested`) unless executors are down
//!   (`standing_in`).
//! - Backups hold the primary to a floor of throughput and one of fairness, and f + 1 that find it below
//!   one of them replace it (`floors`). In the papers only the view timeout bounds what it may take.
//!
//! Liveness also assumes that messages arrive within 2⁸ view timeouts at the latest: they double no
//! further.

mod attested;
mod checkpoint;
mod choice;
mod config;
mod distrust;
mod early;
mod floors;
mod handover;
mod log;
mod message;
mod normal;
mod persistence;
mod recovery;
mod rejoin;
mod replicable;
mod restart;
mod separate;
mod stale;
mod standing_in;
mod status;
mod succession;
mod suspicion;
mod tentative;
mod turnaround;
mod view_change;
mod words;

pub use crate::config::ConfigError as PbftConfigError;
pub use crate::separate::{NamedRequest, ShortProposal};
pub use config::{PbftConfig, PbftSettings};
pub use message::{
    Checkpoint, CheckpointCertificate, Claim, NewView, PbftMessage, PrePrepare, Signed, Status, ViewChange,
    Vote, checkpoint_statement,
};

use crate::distrust::Distrust;
use crate::outbox::Outbox;
use crate::pending::{Arrival, Pending};
use crate::separate::{Lacked, Unfinished};
use crate::{
    Action, Actions, Auth, Event, Evidence, Misbehaviour, Protocol, Settings, SignedPart, Statement, TimerId,
};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_types::{Digest, Instant, Quorums, ReplicaId, Seq, View, encode};
use attested::Attested;
use borsh::{BorshDeserialize, BorshSerialize};
use choice::Terms;
use early::Early;
use floors::Floors;
use log::Log;
use persistence::Deferred;
use recovery::Membership;
use standing_in::StandingIn;
use status::Peers;
use tentative::Tentative;

/// Runs while a replica waits for the primary, or for a new view.
const VIEW_TIMER: TimerId = TimerId(0);
/// Runs always.
const STATUS_TIMER: TimerId = TimerId(1);

/// What the view timer runs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
enum Guard {
    /// The primary has to get this request executed.
    Request(Arrival),
    /// The primary has to get the null request executed that it proposed for this number.
    Null(Seq),
    /// The batch at this number, which is executed tentatively, has to be decided.
    Tentative(Seq),
    /// The primary of this view has to start it.
    NewView(View),
    /// The primary has to get this number executed, since the instance is closed.
    End(Seq),
}

/// One PBFT replica.
#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub struct Pbft {
    config: PbftConfig,
    view: View,
    /// Whether `view` has started here; if not, this replica is changing to it.
    is_in_view: bool,
    /// What this instance goes on from; `None` for the initial state.
    start: Option<Checkpoint>,
    /// Where it ends, once it is closed.
    end: Option<Seq>,
    /// The last batch that the engine has said to be executed.
    acknowledged: Seq,
    /// Whether this replica had lost its disk and did not vote yet where its predecessor ended.
    has_forgotten: bool,
    /// Whether its predecessor ended with somebody else's records, or none, as far as it could know.
    is_doubtful: bool,
    /// h: the low watermark.
    stable: Seq,
    stable_certificate: Option<CheckpointCertificate>,
    /// The highest stable checkpoint that is on disk with its state.
    stable_durable: Seq,
    /// The last checkpoint whose state was fetched.
    installed: Seq,
    /// Proven checkpoints that this replica shares, of which the first is on its way to the disk.
    keeping: VecDeque<CheckpointCertificate>,
    executed: Seq,
    /// What is executed beyond that, and not yet decided.
    tentative: Option<Tentative>,
    log: Log,
    /// What came for numbers beyond that.
    early: Early,
    pending: Pending,
    /// As primary: the next number to assign.
    next_seq: Seq,
    /// Signed checkpoints above the stable one, by number and signer.
    checkpoints: BTreeMap<Seq, BTreeMap<ReplicaId, (Digest, Proof)>>,
    /// As witness: what executors say that they have made.
    attested: Attested,
    /// As witness: whether it executes in an executor's place.
    standing_in: StandingIn,
    /// Checkpoints that this replica made.
    own_checkpoints: BTreeMap<Seq, Digest>,
    /// The highest that this replica has ever made.
    made: Seq,
    /// The highest of those that is on disk: up to there they may be said, again and again.
    made_durable: Seq,
    /// A stable checkpoint that this replica has not reached, or whose state it does not share.
    behind: Option<CheckpointCertificate>,
    /// The stable checkpoint that state transfer was last asked for.
    fetching: Option<CheckpointCertificate>,
    /// The view change of the highest view from each replica.
    view_changes: BTreeMap<ReplicaId, Signed<ViewChange>>,
    /// Who says that it is in a view below the one that it had asked for: it took that back.
    returned: BTreeSet<ReplicaId>,
    own_view_change: Option<ViewChange>,
    /// Whether that is on disk, so that it may leave, again and again.
    is_view_change_durable: bool,
    /// The new view that started `view`, to pass on; none for view 0.
    new_view: Option<Signed<NewView>>,
    /// As new primary: the one new view that this replica has made for `view`.
    own_new_view: Option<NewView>,
    /// Whether that is on disk.
    is_new_view_durable: bool,
    /// View changes since a request was last executed.
    fruitless_views: u32,
    guard: Option<Guard>,
    outbox: Outbox<Deferred>,
    peers: Peers,
    membership: Membership,
    /// The highest number that this replica may have executed and acknowledged before it started.
    vouched: Seq,
    /// When this replica last began anew: without its disk, or without a view change that it had taken
    /// back; 0 if never.
    incarnation: u64,
    /// When the present view started here.
    in_view_since: Instant,
    /// When this replica last left a view.
    left_at: Instant,
    /// When this replica was last seen to wait for its own disk alone.
    held_up_until: Instant,
    /// While this replica waits for a view: the latest earlier one in which the others were seen to go on
    /// without it.
    committing: Option<View>,
    /// What this replica committed last.
    last_commit: Option<Vote>,
    /// The view in which an agreement quorum was last seen to vote.
    proven: Option<View>,
    /// As primary: propose null requests up to here, for a replica that recovers.
    fill_to: Seq,
    /// When each replica that has lost its past was last heard to ask for it.
    learners: BTreeMap<ReplicaId, Instant>,
    /// When each replica that recovers was last helped so.
    fills: BTreeMap<ReplicaId, Instant>,
    /// Batches that are agreed on and missing here, and when they were last asked for.
    wanted: BTreeMap<(Seq, Digest), Instant>,
    /// Batches that others asked for, and when they were last given.
    given: BTreeMap<(Seq, Digest, ReplicaId), Instant>,
    /// As backup: how the primary does.
    floors: Floors,
    /// Clients that have to sign.
    distrust: Distrust,
    /// Whose requests have to be sent whole to whom.
    lacked: Lacked,
    /// Proposals by name that are not whole yet.
    unfinished: Unfinished,
}

/// What one event leads to.
struct Step<'a> {
    now: Instant,
    actions: &'a mut Actions<PbftMessage>,
}

impl Step<'_> {
    fn send(&mut self, to: ReplicaId, message: PbftMessage) {
        self.actions.push(Action::Send { to, message, auth: Auth::Mac });
    }

    fn send_signed(&mut self, to: ReplicaId, message: PbftMessage) {
        self.actions.push(Action::Send { to, message, auth: Auth::Transferable });
    }

    fn broadcast(&mut self, message: PbftMessage) {
        self.actions.push(Action::Broadcast { message, auth: Auth::Mac });
    }

    fn broadcast_signed(&mut self, message: PbftMessage) {
        self.actions.push(Action::Broadcast { message, auth: Auth::Transferable });
    }
}

impl Pbft {
    /// A replica that has not started yet.
    #[must_use]
    pub fn new(config: PbftConfig) -> Self {
        Self {
            config,
            view: View(0),
            is_in_view: true,
            start: None,
            end: None,
            acknowledged: Seq(0),
            has_forgotten: false,
            is_doubtful: false,
            stable: Seq(0),
            stable_certificate: None,
            stable_durable: Seq(0),
            installed: Seq(0),
            keeping: VecDeque::new(),
            executed: Seq(0),
            tentative: None,
            log: Log::default(),
            early: Early::default(),
            pending: Pending::default(),
            next_seq: Seq(1),
            checkpoints: BTreeMap::new(),
            attested: Attested::default(),
            standing_in: StandingIn::default(),
            own_checkpoints: BTreeMap::new(),
            made: Seq(0),
            made_durable: Seq(0),
            behind: None,
            fetching: None,
            view_changes: BTreeMap::new(),
            returned: BTreeSet::new(),
            own_view_change: None,
            is_view_change_durable: false,
            new_view: None,
            own_new_view: None,
            is_new_view_durable: false,
            fruitless_views: 0,
            guard: None,
            outbox: Outbox::default(),
            peers: Peers::default(),
            membership: Membership::Voter,
            vouched: Seq(0),
            incarnation: 0,
            in_view_since: Instant::default(),
            left_at: Instant::default(),
            held_up_until: Instant::default(),
            committing: None,
            last_commit: None,
            proven: None,
            fill_to: Seq(0),
            learners: BTreeMap::new(),
            fills: BTreeMap::new(),
            wanted: BTreeMap::new(),
            given: BTreeMap::new(),
            floors: Floors::default(),
            distrust: Distrust::default(),
            lacked: Lacked::default(),
            unfinished: Unfinished::default(),
        }
    }

    /// The view that the replica is in or moving to.
    #[must_use]
    pub fn view(&self) -> View {
        self.view
    }

    /// Whether that view has started here.
    #[must_use]
    pub fn is_in_view(&self) -> bool {
        self.is_in_view
    }

    /// The last stable checkpoint: the low watermark.
    #[must_use]
    pub fn stable(&self) -> Seq {
        self.stable
    }

    /// The last batch handed out for execution.
    #[must_use]
    pub fn executed(&self) -> Seq {
        self.executed
    }

    /// Whether the replica votes. One that lost its disk does not until it is safe again.
    #[must_use]
    pub fn is_voting(&self) -> bool {
        self.membership.is_voter()
    }

    /// Whether nothing that it may have signed and does not know of can matter: not as long as it has lost
    /// its past, or doubts it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.membership.is_settled()
    }

    /// How much is held in memory, in elements: for the simulator's memory oracle.
    #[must_use]
    pub fn footprint(&self) -> usize {
        let entries = |(_, entry): (Seq, &log::Entry)| {
            1 + entry.bodies.len()
                + entry.prepares.len()
                + entry.commits.len()
                + entry.decided.len()
                + entry.pre_prepared.len()
        };
        self.log.iter().map(entries).sum::<usize>()
            + self.early.len()
            + self.unfinished.len()
            + self.checkpoints.values().map(BTreeMap::len).sum::<usize>()
            + self.attested.len()
            + self.own_checkpoints.len()
            + self.keeping.len()
            + self.view_changes.len()
            + self.pending.len()
            + self.outbox.len()
    }

    fn quorums(&self) -> Quorums {
        self.config.quorums
    }

    fn me(&self) -> ReplicaId {
        self.config.me
    }

    fn primary(&self) -> ReplicaId {
        self.quorums().primary(self.view)
    }

    /// Whether this replica is the primary of a view that has started.
    fn is_leading(&self) -> bool {
        self.is_in_view && self.primary() == self.me()
    }

    /// H: the high watermark.
    fn high_watermark(&self) -> Seq {
        Seq(self.stable.0 + self.config.settings.log_size)
    }

    fn is_in_watermarks(&self, seq: Seq) -> bool {
        seq > self.stable && seq <= self.high_watermark()
    }

    fn terms(&self) -> Terms {
        let PbftConfig { quorums, settings, .. } = &self.config;
        let (checkpoint_period, log_size) = (settings.checkpoint_period, settings.log_size);
        Terms { quorums: *quorums, checkpoint_period, log_size, start: self.start }
    }

    fn is_checkpoint(&self, seq: Seq) -> bool {
        seq.0.is_multiple_of(self.config.settings.checkpoint_period)
    }

    fn accuse(
        &self,
        step: &mut Step,
        accused: ReplicaId,
        misbehaviour: Misbehaviour,
        statements: Vec<Statement>,
    ) {
        if accused != self.config.me {
            step.actions.push(Action::Evidence(Evidence { accused, misbehaviour, statements }));
        }
    }

    /// A message of `from`, under its key of this number.
    fn on_message(
        &mut self,
        step: &mut Step,
        (from, key): (ReplicaId, u64),
        message: PbftMessage,
        proof: Option<Proof>,
    ) {
        let voted_on = message.voted_on();
        if voted_on.is_some() && proof.is_some() {
            return self.accuse(step, from, Misbehaviour::InvalidMessage, Vec::new());
        }
        let Some(message) = self.hold_if_early(step.now, (from, key), message) else { return };
        self.dispatch(step, (from, key), message, proof);
        if let Some(seq) = voted_on {
            self.note_key(seq, from, key);
        }
    }

    fn dispatch(
        &mut self,
        step: &mut Step,
        (from, key): (ReplicaId, u64),
        message: PbftMessage,
        proof: Option<Proof>,
    ) {
        match (message, proof) {
            (PbftMessage::Forward(request), _) => self.on_forward(step, request),
            (PbftMessage::ShortPrePrepare(short), _) => {
                self.on_short_pre_prepare(step, (from, key), short);
            }
            (PbftMessage::FetchProposal { view, seq }, _) => self.on_fetch_proposal(step, from, view, seq),
            (PbftMessage::PrePrepare(proposal), _) => self.on_pre_prepare(step, from, proposal),
            (PbftMessage::Prepare(vote), _) => self.on_prepare(step, from, &vote),
            (PbftMessage::Commit(vote), _) => self.on_commit(step, from, &vote),
            (PbftMessage::Checkpoint(checkpoint), Some(proof)) => {
                self.on_checkpoint(step, from, checkpoint, proof)
            }
            (PbftMessage::ViewChange(content), Some(proof)) => {
                self.on_view_change(step, Signed { signer: from, content, proof });
            }
            (PbftMessage::NewView(content), Some(proof)) => {
                self.on_new_view(step, Signed { signer: from, content, proof });
            }
            (PbftMessage::RelayNewView(signed), _) => self.on_new_view(step, signed),
            (PbftMessage::RelayStable(certificate), _) => {
                self.on_relayed_certificate(step, from, certificate)
            }
            (PbftMessage::Status(status), _) => self.on_status(step, from, status),
            (PbftMessage::Decided { seq, digest }, _) => self.on_decided(from, seq, digest),
            (PbftMessage::FetchBatch { seq, digest }, _) => self.on_fetch_batch(step, from, seq, digest),
            (PbftMessage::BatchBody { seq, batch }, _) => self.on_batch_body(step, seq, batch),
            (PbftMessage::RecoverQuery { nonce, is_voting }, _) => {
                self.on_recover_query(step, from, nonce, is_voting);
            }
            (PbftMessage::FillTo { target }, _) => self.on_fill_to(step, from, target),
            (PbftMessage::Caught { clients }, _) => self.on_caught(step, from, &clients),
            (PbftMessage::Made(checkpoint), None) => self.on_made(step, (from, key), checkpoint),
            (PbftMessage::RecoverReport { nonce, last, stable }, _) => {
                self.on_recover_report(step, from, nonce, last, stable);
            }
            (PbftMessage::Checkpoint(_) | PbftMessage::ViewChange(_) | PbftMessage::NewView(_), None)
            | (PbftMessage::Made(_), Some(_)) => {
                self.accuse(step, from, Misbehaviour::InvalidMessage, Vec::new());
            }
        }
    }

    /// Does whatever has become possible: run after every event, so that no handler has to think of
    /// what its change enables elsewhere.
    fn settle(&mut self, step: &mut Step) {
        self.withdraw_tentative(step);
        self.execute_committed(step);
        self.attest(step);
        self.execute_tentatively(step);
        self.vote_again_if_safe(step);
        self.return_to_first_view(step);
        self.follow_primary(step);
        self.watch_fairness(step);
        self.leave_if_suspected(step);
        self.join_view_change(step);
        self.start_new_view(step);
        self.propose(step);
        self.update_guard(step);
    }
}

impl Protocol for Pbft {
    type Message = PbftMessage;

    fn handle(&mut self, now: Instant, event: Event<PbftMessage>, actions: &mut Actions<PbftMessage>) {
        let mut step = Step { now, actions };
        match event {
            Event::Start(start) => self.on_start(&mut step, start),
            Event::Message { from, message, proof, key } => {
                self.on_message(&mut step, (from, key), message, proof);
            }
            Event::KeysEnded { of, before } => self.on_keys_ended(of, before),
            Event::Timer(VIEW_TIMER) => self.on_view_timer(&mut step),
            Event::Timer(STATUS_TIMER) => self.on_status_timer(&mut step),
            // It speculates on nothing.
            Event::Certificate(_) | Event::AskedAgain { .. } | Event::Timer(_) => {}
            Event::Request(request) => self.on_request(&mut step, request),
            Event::Close(seq) => self.on_close(&mut step, seq),
            Event::Body(request) => self.on_body(&mut step, request),
            Event::Witness { request, owner } => self.on_witness(&step, &request, owner),
            Event::Persisted(id) => self.on_persisted(&mut step, id),
            Event::StateKept(seq) => self.on_state_kept(&mut step, seq),
            Event::Executed { seq, state } => self.on_executed(&mut step, seq, state),
            Event::HandOver => self.on_hand_over(&mut step),
            Event::StateInstalled { seq, executed } => self.on_state_installed(&mut step, seq, &executed),
        }
        self.settle(&mut step);
    }

    fn answers_from(&self) -> Option<Seq> {
        // A state that was fetched counts once it is on disk.
        let is_durable = self.executed <= self.end_of_execution();
        let has_state = self.has_started() && !self.executes_nothing();
        let may_answer = self.membership.is_voter() && is_durable && has_state;
        may_answer.then_some(self.vouched)
    }

    fn is_witness(&self) -> bool {
        self.executes_nothing()
    }

    fn successor(
        &self,
        me: ReplicaId,
        quorums: Quorums,
        settings: &Settings,
        start: Option<(Seq, Digest)>,
    ) -> Option<Self> {
        let Settings::Pbft(settings) = settings else { return None };
        let config = PbftConfig::new(me, quorums, settings.clone()).ok()?;
        Some(Self::heir(self.legacy(quorums), config, start))
    }

    fn settings(&self) -> Option<Settings> {
        Some(Settings::Pbft(self.config.settings.clone()))
    }

    fn has_forgotten(&self) -> bool {
        !self.membership.is_voter()
    }

    fn statements(&self, stable: Option<(Seq, Digest)>, records: &[Vec<u8>]) -> Option<Vec<SignedPart>> {
        suspicion::statements(self.terms(), self.me(), stable, records)
    }

    fn knows_all(&self, records: &[Vec<u8>], has_forgotten: bool) -> bool {
        suspicion::knows_all(records, has_forgotten)
    }
}

/// The signed message as a statement to accuse its signer with.
fn statement(message: &PbftMessage, proof: &Proof) -> Statement {
    Statement { bytes: encode(message), proof: proof.clone() }
}
