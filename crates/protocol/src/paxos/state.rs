use super::Guard;
use super::log::Log;
use super::message::{Checkpoint, Promise, StartView};
use super::persistence::Deferred;
use super::recovery::Membership;
use super::status::{Asked, Peers};
use crate::outbox::Outbox;
use crate::pending::Pending;
use crate::separate::{Lacked, Unfinished};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use althing_crypto::Proof;
use althing_types::{Digest, Instant, ReplicaId, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};

/// All that a replica knows and its configuration does not say.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
pub(super) struct State {
    /// The view that this replica has promised: it accepts nothing in lower ones.
    pub(super) view: View,
    /// Whether that has started here; if not, this replica is waiting for it.
    pub(super) is_in_view: bool,
    /// What this instance goes on from; `None` for the initial state.
    pub(super) start: Option<Checkpoint>,
    /// Where it ends, once it is closed.
    pub(super) end: Option<Seq>,
    /// Whether this replica had lost its disk and did not vote yet where its predecessor ended.
    pub(super) has_forgotten: bool,
    /// Who has signed which checkpoint: an instance ends there.
    pub(super) signatures: BTreeMap<ReplicaId, (Checkpoint, Proof)>,
    /// The low watermark.
    pub(super) stable: Seq,
    /// The checkpoint there; `None` for the initial state.
    pub(super) stable_checkpoint: Option<Checkpoint>,
    /// The highest stable checkpoint that is on disk with its state.
    pub(super) stable_durable: Seq,
    /// The last checkpoint whose state was fetched.
    pub(super) installed: Seq,
    /// Stable checkpoints that this replica shares, of which the first is on its way to the disk.
    pub(super) keeping: VecDeque<Checkpoint>,
    pub(super) executed: Seq,
    /// The last batch that the engine has said to be executed.
    pub(super) acknowledged: Seq,
    pub(super) log: Log,
    pub(super) pending: Pending,
    /// As leader: the next number to assign.
    pub(super) next_seq: Seq,
    /// Who has made which checkpoints above the stable one.
    pub(super) checkpoints: BTreeMap<Seq, BTreeMap<ReplicaId, Digest>>,
    /// Checkpoints that this replica made.
    pub(super) own_checkpoints: BTreeMap<Seq, Digest>,
    /// The highest that this replica has ever made.
    pub(super) made: Seq,
    /// The highest of those that is on disk: up to there they may be said, again and again.
    pub(super) made_durable: Seq,
    /// A stable checkpoint that this replica has not reached, or whose state it does not share.
    pub(super) behind: Option<Checkpoint>,
    /// The stable checkpoint that state transfer was last asked for.
    pub(super) fetching: Option<Checkpoint>,
    /// The promise of the highest view from each replica, its own among them once that is on disk.
    pub(super) promises: BTreeMap<ReplicaId, Promise>,
    /// Whether this replica's promise of its view is on disk.
    pub(super) is_promise_durable: bool,
    /// What started `view`, to pass on, if it is known here.
    pub(super) start_view: Option<StartView>,
    /// As leader: whether that is on disk.
    pub(super) is_start_durable: bool,
    /// Views since a request was last executed.
    pub(super) fruitless_views: u32,
    pub(super) guard: Option<Guard>,
    pub(super) outbox: Outbox<Deferred>,
    pub(super) peers: Peers,
    pub(super) membership: Membership,
    /// Whether the disk says that this replica has lost an earlier one.
    pub(super) is_reborn: bool,
    /// The highest number that this replica may have executed and vouched for before it started.
    pub(super) vouched: Seq,
    /// When the present view started here.
    pub(super) in_view_since: Instant,
    /// When this replica was last seen to wait for its own disk, or for a state.
    pub(super) held_up_until: Instant,
    /// As leader: propose null requests up to here, for a replica that recovers.
    pub(super) fill_to: Seq,
    /// When each replica that has lost its disk was last heard to ask for it.
    pub(super) learners: BTreeMap<ReplicaId, Instant>,
    /// Batches that are missing here, and who was asked for them last.
    pub(super) wanted: BTreeMap<(Seq, Digest), Asked>,
    /// Who was asked for a batch in vain, and has given none since.
    pub(super) mute: BTreeSet<ReplicaId>,
    /// Batches that others asked for, and when they were last given.
    pub(super) given: BTreeMap<(Seq, Digest, ReplicaId), Instant>,
    /// Whose requests have to be sent whole to whom.
    pub(super) lacked: Lacked,
    /// Proposals by name that are not whole yet.
    pub(super) unfinished: Unfinished,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            view: View(0),
            is_in_view: true,
            start: None,
            end: None,
            has_forgotten: false,
            signatures: BTreeMap::new(),
            stable: Seq(0),
            stable_checkpoint: None,
            stable_durable: Seq(0),
            installed: Seq(0),
            keeping: VecDeque::new(),
            executed: Seq(0),
            acknowledged: Seq(0),
            log: Log::default(),
            pending: Pending::default(),
            next_seq: Seq(1),
            checkpoints: BTreeMap::new(),
            own_checkpoints: BTreeMap::new(),
            made: Seq(0),
            made_durable: Seq(0),
            behind: None,
            fetching: None,
            promises: BTreeMap::new(),
            is_promise_durable: false,
            start_view: None,
            is_start_durable: false,
            fruitless_views: 0,
            guard: None,
            outbox: Outbox::default(),
            peers: Peers::default(),
            membership: Membership::Voter,
            is_reborn: false,
            vouched: Seq(0),
            in_view_since: Instant::default(),
            held_up_until: Instant::default(),
            fill_to: Seq(0),
            learners: BTreeMap::new(),
            wanted: BTreeMap::new(),
            mute: BTreeSet::new(),
            given: BTreeMap::new(),
            lacked: Lacked::default(),
            unfinished: Unfinished::default(),
        }
    }
}
