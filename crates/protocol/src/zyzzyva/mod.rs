//! Zyzzyva, speculative Byzantine fault tolerance: Kotla, Alvisi, Dahlin, Clement and Wong, SOSP'07 and
//! TOCS 2009, with another view change, since the paper's is not safe (Abraham, Gueta, Malkhi, Alvisi,
//! Kotla and Martin, arXiv 1712.01367).
//!
//! Replicas execute what the primary orders at once, and clients decide: a result is final once all replicas
//! have speculated alike, or once an agreement quorum holds a certificate that an agreement quorum has.
//! Tolerates f Byzantine replicas among n ≥ 3f + 1. Safe under asynchrony; live once messages between correct
//! replicas arrive within a bound that need not be known.
//!
//! | message | from → to | authentication | when |
//! |---|---|---|---|
//! | `Forward` | backup → primary | MAC (and the client's own) | a client's request reached a backup |
//! | `OrderRequest` | primary → all | MAC; transferable on demand | it assigns a number to a batch |
//! | `Demand` | backup → primary | MAC | another replica has signed that it accepted something else |
//! | `Pass`, `Linked` | replica → its f + 1 successors | MAC | it has accepted something, in a view of Chain |
//! | `RelayOrder` | any → any | transferable inside | it is missed, or another replica was told another |
//! | `Hearsay` | backup → any | MAC | an assignment is missed that the primary has not signed |
//! | `FillHole` | backup → primary | MAC | assignments before a known one are missing |
//! | `Reached` | backup → primary | MAC | it has accepted some more requests: more gather meanwhile |
//! | `Speculated` | all → all | transferable | something has been speculative for long, at checkpoints, for a new view |
//! | `Committed` | all → all | MAC | the sender holds a certificate, on disk, of the view it is in |
//! | `Checkpoint` | all → all | transferable | every K numbers, with the digest of the final state |
//! | `ViewChange` | all → all | transferable | a request waited too long, f + 1 others say so, or the primary was caught |
//! | `NewView` | new primary → all | transferable | enough view changes came in |
//! | `RelayNewView`, `RelayStable` | any → any | transferable inside | a `Status` shows that it is missed |
//! | `Status` | all → all | MAC | regularly, as long as the sender waits for something |
//! | `FetchBatch`, `BatchBody` | any → any | MAC | a batch that a new view brings along is missing |
//! | `Caught` | any → all | MAC | it left a view in which MACs of these clients had held up the order |
//!
//! How a view orders is its [`Mode`]: as said here, or as Quorum, Chain or Backup, which take turns in a
//! [`Composition`]. The rest is the same for all.
//!
//! What makes a number final *for a replica* (`settle`): an agreement quorum has said `Committed` in one view.
//! A certificate alone is not enough, since only who holds it brings it into the next view. Replicas do that by
//! themselves in the background, so that nothing stays speculative when clients fall silent.
//!
//! Deviations from the papers:
//! - Quorums are those of any n ≥ 3f + 1; a client decides at once with *all n* speculations.
//! - The certificate of the latest view counts in a view change, not the longest; and a view is entered only
//!   with a certificate for all that it starts with (the paper's view confirmation made durable). The argument
//!   is in `choice`, the counterexample to the paper's rule in the tests.
//! - A view change is itself the wish for another view; f + 1 of them take everybody along, as in PBFT. There
//!   is no message of its own for that (I-HATE-THE-PRIMARY).
//! - Assignments have MACs. The primary signs them where two replicas contradict each other (`orders`). A proof of
//!   misbehaviour is two assignments that it signed; whoever has it shows them to all. A primary that lies and does
//!   not sign is left by those that know.
//! - What the primary does not give to a replica others do, which have no proof of it: that is accepted once f + 1
//!   replicas have signed histories with it, or a certificate is there.
//! - The order waits at each checkpoint until that is stable: so a history never spans two states, and whoever
//!   fetches the state can take part at once.
//! - A view change names the batches after the stable checkpoint, which are fetched where they are missing.
//! - An acceptance is on disk before it is answered; the paper's replicas keep nothing.
//! - A request with MACs never starts the view-change timer, as in our PBFT. An assignment with a request whose
//!   MAC is bad here is accepted once f + 1 replicas have; a client whose MACs ended a view has to sign, for a while
//!   (`distrust`).
//! - A replica that lost its disk does not vote any more in its instance, nor in those that follow
//!   (`restart`): it has to be replaced to count again. It keeps up with the others all the same.
//! - A replica that gave up on a view alone can't come back to it. After sixteen view timeouts the others follow it
//!   into the next one, since clients decide at once only while all take part.
//! - Operations are not sent to all replicas apart from their order, and nothing holds the primary to a floor of
//!   throughput or fairness.
//! - Reads without ordering are answered only once all is final that was accepted before they came
//!   ([`answers_from`](crate::Protocol::answers_from)): what a client has decided need not be final here.
//!
//! Liveness also assumes that messages arrive within 2⁸ view timeouts at the latest: they double no
//! further.

mod abort;
mod backup;
mod chain;
mod checkpoint;
mod choice;
mod config;
mod distrust;
mod entering;
mod execution;
mod gathering;
mod handling;
mod history;
mod message;
mod mode;
mod normal;
mod orders;
mod persistence;
mod quorum;
mod replicable;
mod restart;
mod settle;
mod status;
mod succession;
mod trials;
mod view_change;

pub use config::{ZyzzyvaConfig, ZyzzyvaSettings};
pub use message::{
    Checkpoint, CheckpointCertificate, NewView, OrderRequest, Signed, Status, ViewChange, ZyzzyvaMessage,
    checkpoint_statement,
};
pub use mode::{Composition, Mode};

use crate::distrust::Distrust;
use crate::outbox::Outbox;
use crate::pending::{Arrival, Pending};
use crate::{
    Action, Actions, Auth, Batch, CommitCertificate, Evidence, Misbehaviour, Speculation, Statement, TimerId,
};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_types::{Digest, Instant, Quorums, ReplicaId, Seq, View, encode};
use borsh::{BorshDeserialize, BorshSerialize};
use chain::Links;
use choice::Terms;
use entering::Entering;
use gathering::Progress;
use history::Log;
use orders::Orders;
use persistence::Deferred;
use settle::{Commitments, Speculations};
use status::Peers;
use trials::Trials;

/// Runs while a replica waits for the primary, or for a new view.
const VIEW_TIMER: TimerId = TimerId(0);
/// Runs always.
const STATUS_TIMER: TimerId = TimerId(1);
/// Runs while something is speculative.
const SETTLE_TIMER: TimerId = TimerId(2);

/// What the view timer runs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
enum Guard {
    /// The primary has to get this request executed for good.
    Request(Arrival),
    /// The batch at this number has to become final.
    Final(Seq),
    /// The primary of this view has to start it.
    NewView(View),
    /// The primary has to get this number executed, since the instance is closed.
    End(Seq),
}

/// One Zyzzyva replica.
#[derive(Debug, BorshSerialize, BorshDeserialize)]
pub struct Zyzzyva {
    config: ZyzzyvaConfig,
    view: View,
    /// Whether `view` has started here; if not, this replica is changing to it.
    is_in_view: bool,
    /// What this instance goes on from; `None` for the initial state.
    start: Option<Checkpoint>,
    /// Where it ends, once it is closed.
    end: Option<Seq>,
    /// Whether this replica has lost its disk: it does not vote.
    has_forgotten: bool,
    /// The batches after the last stable checkpoint, in the order of `view`, or of the last one that started here.
    log: Log,
    /// The proof of that checkpoint.
    base: Option<CheckpointCertificate>,
    /// The last batch of the log that is on disk.
    durable: Seq,
    /// The last batch that was executed, speculatively or for good.
    speculated: Seq,
    /// The last batch that is known to be final.
    final_to: Seq,
    /// The last batch that was executed for good.
    executed: Seq,
    /// The last of those that the engine has said to be executed.
    acknowledged: Seq,
    /// The highest number that this replica may have accepted before it started.
    vouched: Seq,
    /// The last checkpoint whose state is on disk, and up to which the log is truncated.
    stable: Seq,
    /// Its proof.
    stable_certificate: Option<CheckpointCertificate>,
    /// The last one of which a record on disk says so.
    stable_durable: Seq,
    /// The last checkpoint whose state was fetched.
    installed: Seq,
    /// Stable checkpoints that this replica shares, of which the first is on its way to the disk.
    keeping: VecDeque<CheckpointCertificate>,
    /// A stable checkpoint that this replica has not reached, or whose state it does not share.
    behind: Option<CheckpointCertificate>,
    /// The one that state transfer was last asked for.
    fetching: Option<CheckpointCertificate>,
    /// Signed checkpoints above the stable one, by number and signer.
    checkpoints: BTreeMap<Seq, BTreeMap<ReplicaId, (Digest, Proof)>>,
    /// Checkpoints that this replica made, and whether that is on disk.
    own_checkpoints: BTreeMap<Seq, (Digest, bool)>,
    /// Assignments of this view that can't be accepted yet.
    orders: Orders,
    /// What is said along the chain of this view and can't be accepted yet.
    links: Links,
    /// The last accepted number when a hole was last asked to be filled.
    hole_after: Option<Seq>,
    /// What replicas have signed of what they accepted.
    speculations: Speculations,
    /// What replicas hold certificates for.
    commitments: Commitments,
    /// The last certificate of the view that started here last.
    certificate: Option<CommitCertificate>,
    /// Whether that is on disk.
    is_certificate_durable: bool,
    /// A certificate that a client has shown, for what this replica has not accepted yet.
    shown: Option<CommitCertificate>,
    /// What this replica has last said to settle.
    said: Option<Speculation>,
    is_settling: bool,
    /// The new view that started `view`, with the proof that it was confirmed; none for view 0.
    entry: Option<(Signed<NewView>, CommitCertificate)>,
    /// A new view for `view` that is not confirmed yet.
    entering: Option<Entering>,
    /// What this replica has confirmed of a view before it followed another start of that.
    overruled: Option<Speculation>,
    /// Batches that were fetched, and are in no log yet.
    bodies: BTreeMap<(Seq, Digest), Arc<Batch>>,
    /// Batches that are missing, and when they were last asked for.
    wanted: BTreeMap<(Seq, Digest), Instant>,
    /// Who was given the batch of a number, or assignments (0), and when last.
    given: BTreeMap<(ReplicaId, Seq), Instant>,
    pending: Pending,
    /// As primary: propose null requests up to here.
    fill_to: Seq,
    /// The view change of the highest view from each replica.
    view_changes: BTreeMap<ReplicaId, Signed<ViewChange>>,
    own_view_change: Option<ViewChange>,
    /// Whether that is on disk, so that it may leave, again and again.
    is_view_change_durable: bool,
    /// As new primary: the one new view that this replica has made for `view`.
    own_new_view: Option<NewView>,
    /// Whether that is on disk.
    is_new_view_durable: bool,
    /// View changes since a request was last executed.
    fruitless_views: u32,
    guard: Option<Guard>,
    /// When the present view started here.
    in_view_since: Instant,
    /// Since when another replica asks for a later view than this one is in, as far as was looked.
    lone_since: Option<Instant>,
    /// When this replica was last seen to wait for its own disk alone.
    held_up_until: Instant,
    /// How far replicas have said to be in this view, so that requests gather.
    progress: Progress,
    /// Clients that have to sign.
    distrust: Distrust,
    /// Clients that have to sign where one name is enough.
    doubted: Distrust,
    outbox: Outbox<Deferred>,
    peers: Peers,
    trials: Trials,
}

/// What one event leads to.
struct Step<'a> {
    now: Instant,
    actions: &'a mut Actions<ZyzzyvaMessage>,
}

impl Step<'_> {
    fn send(&mut self, to: ReplicaId, message: ZyzzyvaMessage) {
        self.actions.push(Action::Send { to, message, auth: Auth::Mac });
    }

    fn send_signed(&mut self, to: ReplicaId, message: ZyzzyvaMessage) {
        self.actions.push(Action::Send { to, message, auth: Auth::Transferable });
    }

    fn broadcast(&mut self, message: ZyzzyvaMessage) {
        self.actions.push(Action::Broadcast { message, auth: Auth::Mac });
    }

    fn broadcast_signed(&mut self, message: ZyzzyvaMessage) {
        self.actions.push(Action::Broadcast { message, auth: Auth::Transferable });
    }
}

impl Zyzzyva {
    /// A replica that has not started yet.
    #[must_use]
    pub fn new(config: ZyzzyvaConfig) -> Self {
        Self {
            config,
            view: View(0),
            is_in_view: true,
            start: None,
            end: None,
            has_forgotten: false,
            log: Log::default(),
            base: None,
            durable: Seq(0),
            speculated: Seq(0),
            final_to: Seq(0),
            executed: Seq(0),
            acknowledged: Seq(0),
            vouched: Seq(0),
            stable: Seq(0),
            stable_certificate: None,
            stable_durable: Seq(0),
            installed: Seq(0),
            keeping: VecDeque::new(),
            behind: None,
            fetching: None,
            checkpoints: BTreeMap::new(),
            own_checkpoints: BTreeMap::new(),
            orders: Orders::default(),
            links: Links::default(),
            hole_after: None,
            speculations: Speculations::default(),
            commitments: Commitments::default(),
            certificate: None,
            is_certificate_durable: false,
            shown: None,
            said: None,
            is_settling: false,
            entry: None,
            entering: None,
            overruled: None,
            bodies: BTreeMap::new(),
            wanted: BTreeMap::new(),
            given: BTreeMap::new(),
            pending: Pending::default(),
            fill_to: Seq(0),
            view_changes: BTreeMap::new(),
            own_view_change: None,
            is_view_change_durable: false,
            own_new_view: None,
            is_new_view_durable: false,
            fruitless_views: 0,
            guard: None,
            in_view_since: Instant::default(),
            lone_since: None,
            held_up_until: Instant::default(),
            progress: Progress::default(),
            distrust: Distrust::default(),
            doubted: Distrust::default(),
            outbox: Outbox::default(),
            peers: Peers::default(),
            trials: Trials::default(),
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

    /// The last checkpoint whose state is on disk.
    #[must_use]
    pub fn stable(&self) -> Seq {
        self.stable
    }

    /// The last batch accepted.
    #[must_use]
    pub fn accepted(&self) -> Seq {
        self.log.last()
    }

    /// The last batch handed out for execution for good.
    #[must_use]
    pub fn executed(&self) -> Seq {
        self.executed
    }

    /// Whether the replica votes. One that lost its disk does not.
    #[must_use]
    pub fn is_voting(&self) -> bool {
        !self.has_forgotten
    }

    /// How much is held in memory, in elements: for the simulator's memory oracle.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.log.len()
            + self.orders.len()
            + self.links.len()
            + self.bodies.len()
            + self.wanted.len()
            + self.speculations.len()
            + self.commitments.len()
            + self.checkpoints.values().map(BTreeMap::len).sum::<usize>()
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

    /// How the view that this replica is in or moving to orders.
    fn mode(&self) -> Mode {
        self.mode_of(self.view)
    }

    fn mode_of(&self, view: View) -> Mode {
        self.config.settings.composition.mode(self.quorums(), view)
    }

    /// Whether this replica is the primary of a view that has started.
    fn is_leading(&self) -> bool {
        self.is_in_view && self.primary() == self.me()
    }

    /// The last number of which anything is kept: a log above the state on disk.
    fn high_watermark(&self) -> Seq {
        Seq(self.stable.0.saturating_add(self.config.settings.log_size))
    }

    fn terms(&self) -> Terms {
        let ZyzzyvaConfig { quorums, settings, ranking, .. } = &self.config;
        let (checkpoint_period, start) = (settings.checkpoint_period, self.start);
        Terms { quorums: *quorums, checkpoint_period, start, ranking: *ranking }
    }

    fn is_checkpoint(&self, seq: Seq) -> bool {
        seq.0.is_multiple_of(self.config.settings.checkpoint_period)
    }

    /// The checkpoint that the order waits at next.
    fn next_checkpoint(&self) -> Seq {
        self.terms().checkpoint_after(self.log.base())
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
}

/// The signed message as a statement to accuse its signer with.
fn statement(message: &ZyzzyvaMessage, proof: &Proof) -> Statement {
    Statement { bytes: encode(message), proof: proof.clone() }
}
