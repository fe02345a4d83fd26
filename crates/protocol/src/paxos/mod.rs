//! Paxos for a sequence of decisions: Lamport, "The Part-Time Parliament", TOCS 1998, and "Paxos Made Simple",
//! 2001, §3; built as by Chandra, Griesemer and Redstone, "Paxos Made Live", PODC'07, and Kirsch and Amir,
//! "Paxos for System Builders", 2008.
//!
//! Tolerates f replicas that crash, among n ≥ 2f + 1, and start again with their disk or without. Nobody lies,
//! except clients. Safe under asynchrony; live once messages between replicas that are up arrive within a
//! bound that need not be known.
//!
//! A ballot is a view, and its leader the view's primary. All messages are authenticated by MACs, but for the
//! last checkpoint of an instance, which is signed.
//!
//! | message | from → to | when |
//! |---|---|---|
//! | `Forward` | any → leader | a client's request reached somebody else |
//! | `Accept`, `ShortAccept` | leader → all | it assigns a number to a batch: phase 2a |
//! | `Accepted` | all → all | the sender has accepted a batch at a number: phase 2b |
//! | `Checkpoint` | all → all | every K numbers, with the digest of the state |
//! | `Promise` | all → all | a request waited too long, or others say so: phase 1b, for all numbers |
//! | `StartView` | new leader → all, passed on by any | a majority has promised: phase 2a for what they had accepted |
//! | `Status` | all → all | regularly, as long as the sender waits for something |
//! | `Decided`, `Stable` | any → any | a `Status` shows that it is missed |
//! | `FetchBatch`, `BatchBody`, `FetchProposal` | any → any | a batch that others accepted, or that was proposed by name, is missing |
//! | `RecoverQuery`, `RecoverReport` | any → any | a replica lost its disk |
//! | `FillTo` | any → all | it waits for the group to get so far, to vote again |
//!
//! Deviations from the papers:
//! - There is no phase 1a: whoever gives up on a leader promises the next view unasked, and whoever leads that
//!   has its promises a message earlier.
//! - Promises and the start of a view name batches by their digests, so that they are small whatever was
//!   accepted. A leader fetches what it lacks before it starts; an acceptor accepts what it has.
//! - In the first view nothing can have been accepted before: it needs no promises.
//! - Everybody hears every vote and learns by itself: one delay less than where the leader tells.
//! - Numbers that no promise says anything of are filled with the null request when a view starts.
//! - What is decided is not written down: who starts again hears of it, or of the votes for it.
//! - A promise whose window ends below the start of a view is void (`election`), since it may be that of a
//!   former self. Who made it says it again once it has caught up.
//! - A replica that lost its disk votes again only where nothing that it may have said before can matter
//!   (`recovery`).
//! - The log is as long at all replicas as PBFT's, and its checkpoints are: a majority has to have the same
//!   state before a replica forgets how it got there.
//! - Replicas follow a leader out of its view, and a leader follows anybody: it has lost an acceptor.
//! - An acceptor takes the word of others for a request. So no request can be good at one replica and bad at
//!   another, and any request that waits is a reason to give up on a leader.
//! - An instance may be closed and have a successor with other members, or of another protocol (`succession`).
//!
//! Liveness also assumes that messages arrive within 2⁸ view timeouts at the latest: they double no
//! further.

mod checkpoint;
mod config;
mod election;
mod execution;
mod log;
mod message;
mod normal;
mod persistence;
mod recovery;
mod replicable;
mod restart;
mod separate;
mod state;
mod status;
mod succession;

pub use crate::separate::{NamedRequest, ShortProposal};
pub use config::{PaxosConfig, PaxosSettings};
pub use message::{
    Checkpoint, PaxosMessage, Promise, Proposal, StartView, Status, Vote, checkpoint_statement,
};

use crate::pending::Arrival;
use crate::{Action, Actions, Auth, Event, Evidence, Misbehaviour, Protocol, Settings, SignedPart, TimerId};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_types::{Digest, Instant, Quorums, ReplicaId, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};
use state::State;

/// Runs while a replica waits for the leader, or for a new view.
const VIEW_TIMER: TimerId = TimerId(0);
/// Runs always.
const STATUS_TIMER: TimerId = TimerId(1);

/// What the view timer runs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
enum Guard {
    /// The leader has to get this request executed.
    Request(Arrival),
    /// What was accepted at this number has to be decided.
    Accepted(Seq),
    /// The leader of this view has to start it.
    StartView(View),
    /// The leader has to get this number executed, since the instance is closed.
    End(Seq),
}

/// One Paxos replica.
#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub struct Paxos {
    config: PaxosConfig,
    state: State,
}

/// What one event leads to.
struct Step<'a> {
    now: Instant,
    actions: &'a mut Actions<PaxosMessage>,
}

impl Step<'_> {
    fn send(&mut self, to: ReplicaId, message: PaxosMessage) {
        self.actions.push(Action::Send { to, message, auth: Auth::Mac });
    }

    fn broadcast(&mut self, message: PaxosMessage) {
        self.actions.push(Action::Broadcast { message, auth: Auth::Mac });
    }

    fn send_signed(&mut self, to: ReplicaId, message: PaxosMessage) {
        self.actions.push(Action::Send { to, message, auth: Auth::Transferable });
    }

    fn broadcast_signed(&mut self, message: PaxosMessage) {
        self.actions.push(Action::Broadcast { message, auth: Auth::Transferable });
    }
}

impl Paxos {
    /// A replica that has not started yet.
    #[must_use]
    pub fn new(config: PaxosConfig) -> Self {
        Self { config, state: State::new() }
    }

    /// The view that the replica is in or moving to.
    #[must_use]
    pub fn view(&self) -> View {
        self.state.view
    }

    /// Whether that view has started here.
    #[must_use]
    pub fn is_in_view(&self) -> bool {
        self.state.is_in_view
    }

    /// The last stable checkpoint: the low watermark.
    #[must_use]
    pub fn stable(&self) -> Seq {
        self.state.stable
    }

    /// The last batch handed out for execution.
    #[must_use]
    pub fn executed(&self) -> Seq {
        self.state.executed
    }

    /// Whether the replica votes. One that lost its disk does not until it is safe again.
    #[must_use]
    pub fn is_voting(&self) -> bool {
        self.state.membership.is_voter()
    }

    /// How much is held in memory, in elements: for the simulator's memory oracle.
    #[must_use]
    pub fn footprint(&self) -> usize {
        let state = &self.state;
        let entries = |(_, entry): (Seq, &log::Entry)| 1 + entry.batches.len() + entry.votes.len();
        state.log.iter().map(entries).sum::<usize>()
            + state.checkpoints.values().map(BTreeMap::len).sum::<usize>()
            + state.own_checkpoints.len()
            + state.keeping.len()
            + state.promises.len()
            + state.signatures.len()
            + state.pending.len()
            + state.outbox.len()
            + state.unfinished.len()
    }

    fn quorums(&self) -> Quorums {
        self.config.quorums
    }

    fn me(&self) -> ReplicaId {
        self.config.me
    }

    fn leader(&self) -> ReplicaId {
        self.quorums().primary(self.state.view)
    }

    /// Whether this replica leads a view that has started.
    fn is_leading(&self) -> bool {
        self.state.is_in_view && self.leader() == self.me()
    }

    /// How many numbers above its stable checkpoint a replica accepts: a leader uses half of them, so that
    /// nobody misses what is proposed because its own disk is slower.
    fn window(&self) -> u64 {
        2 * self.config.settings.log_size
    }

    fn is_in_window(&self, seq: Seq) -> bool {
        seq > self.state.stable && seq.0 <= self.state.stable.0 + self.window()
    }

    fn is_checkpoint(&self, seq: Seq) -> bool {
        seq.0.is_multiple_of(self.config.settings.checkpoint_period)
    }

    /// What no replica of a group says that only crashes.
    fn accuse(&self, step: &mut Step, accused: ReplicaId, misbehaviour: Misbehaviour) {
        if accused != self.config.me {
            let statements = Vec::new();
            step.actions.push(Action::Evidence(Evidence { accused, misbehaviour, statements }));
        }
    }

    fn on_message(&mut self, step: &mut Step, from: ReplicaId, message: PaxosMessage, proof: Option<Proof>) {
        match message {
            PaxosMessage::Forward(request) => self.on_forward(step, request),
            PaxosMessage::Accept(proposal) => self.on_accept(step, from, proposal),
            PaxosMessage::ShortAccept(short) => self.on_short_accept(step, from, short),
            PaxosMessage::FetchProposal { view, seq } => self.on_fetch_proposal(step, from, view, seq),
            PaxosMessage::Accepted(vote) => self.on_accepted(from, &vote),
            PaxosMessage::Checkpoint(checkpoint) => {
                self.on_checkpoint(step, from, checkpoint);
                if let Some(proof) = proof {
                    self.file_signature(step, from, checkpoint, proof);
                }
            }
            PaxosMessage::Promise(promise) => self.on_promise(step, from, promise),
            PaxosMessage::StartView(start_view) => self.on_start_view(step, start_view),
            PaxosMessage::Stable(checkpoint) => self.on_stable(step, checkpoint),
            PaxosMessage::Status(status) => self.on_status(step, from, status),
            PaxosMessage::Decided { seq, digest } => self.on_decided(seq, digest),
            PaxosMessage::FetchBatch { seq, digest } => self.on_fetch_batch(step, from, seq, digest),
            PaxosMessage::BatchBody { seq, batch } => self.on_batch_body(step, from, (seq, batch)),
            PaxosMessage::RecoverQuery { nonce } => self.on_recover_query(step, from, nonce),
            PaxosMessage::RecoverReport { nonce, last, stable } => {
                self.on_recover_report(step, from, nonce, last, stable);
            }
            PaxosMessage::FillTo { target } => self.on_fill_to(target),
        }
    }

    /// Does whatever has become possible: run after every event, so that no handler has to think of
    /// what its change enables elsewhere.
    fn settle(&mut self, step: &mut Step) {
        self.execute_decided(step);
        self.vote_again_if_safe(step);
        self.follow_others(step);
        self.start_own_view(step);
        self.propose(step);
        self.update_guard(step);
    }
}

impl Protocol for Paxos {
    type Message = PaxosMessage;

    fn handle(&mut self, now: Instant, event: Event<PaxosMessage>, actions: &mut Actions<PaxosMessage>) {
        let mut step = Step { now, actions };
        match event {
            Event::Start(start) => self.on_start(&mut step, start),
            Event::Message { from, message, proof, .. } => self.on_message(&mut step, from, message, proof),
            Event::Close(seq) => self.on_close(&mut step, seq),
            Event::Timer(VIEW_TIMER) => self.on_view_timer(&mut step),
            Event::Timer(STATUS_TIMER) => self.on_status_timer(&mut step),
            Event::Request(request) => self.on_request(&mut step, request),
            Event::Body(request) => self.on_body(&mut step, request),
            Event::Persisted(id) => self.on_persisted(&mut step, id),
            Event::StateKept(seq) => self.on_state_kept(&mut step, seq),
            Event::Executed { seq, state } => self.on_executed(&mut step, seq, state),
            Event::HandOver => self.on_hand_over(&mut step),
            Event::StateInstalled { seq, executed } => self.on_state_installed(&mut step, seq, &executed),
            // Nobody speaks for somebody else where nobody lies, a leader that serves one client late is slow and
            // no more, and nothing is speculated.
            Event::KeysEnded { .. }
            | Event::Witness { .. }
            | Event::Certificate(_)
            | Event::AskedAgain { .. }
            | Event::Timer(_) => {}
        }
        self.settle(&mut step);
    }

    fn answers_from(&self) -> Option<Seq> {
        // A state that was fetched counts once it is on disk.
        let is_durable = self.state.executed <= self.end_of_execution();
        (self.is_voting() && is_durable && self.has_started()).then_some(self.state.vouched)
    }

    fn successor(
        &self,
        me: ReplicaId,
        quorums: Quorums,
        settings: &Settings,
        start: Option<(Seq, Digest)>,
    ) -> Option<Self> {
        let Settings::Paxos(settings) = settings else { return None };
        let config = PaxosConfig::new(me, quorums, settings.clone()).ok()?;
        Some(Self::heir(self.legacy(quorums), config, start))
    }

    fn settings(&self) -> Option<Settings> {
        Some(Settings::Paxos(self.config.settings.clone()))
    }

    fn has_forgotten(&self) -> bool {
        !self.is_voting()
    }

    /// Nobody has signed any, and where nobody lies none need to: records are true if they can be read.
    fn statements(&self, _stable: Option<(Seq, Digest)>, records: &[Vec<u8>]) -> Option<Vec<SignedPart>> {
        persistence::are_readable(records).then(Vec::new)
    }

    fn knows_all(&self, records: &[Vec<u8>], has_forgotten: bool) -> bool {
        persistence::know_all(records, has_forgotten)
    }
}
