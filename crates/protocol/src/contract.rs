use crate::{Batch, CommitCertificate, Evidence, Request, Settings, Share, Speculation};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_types::{ClientId, Digest, Instant, Quorums, ReplicaId, RequestNumber, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt::Debug;
use core::time::Duration;

/// A replication protocol: orders operations.
///
/// The contract with the layer below:
/// - `now` never runs backwards.
/// - A message is handed over only after its outer authentication and all its
///   [`Message::signed_parts`] were checked, and with [`Request::is_authentic`] set on each request.
/// - A message sent with [`Auth::Transferable`] to all also comes back to its sender, as a
///   [`Event::Message`] from itself with its proof.
/// - [`Action::Execute`] is carried out in order, and each is answered by [`Event::Executed`].
/// - [`Action::FetchState`] done takes back what was executed tentatively.
/// - [`Event::Persisted`] comes in the order of the ids, and says that this and all earlier records
///   are on disk. A runtime whose storage fails stops the replica.
pub trait Protocol {
    /// What replicas say to each other.
    type Message: Message;

    /// Takes one event at time `now`, appending what is to be done to `actions`.
    fn handle(&mut self, now: Instant, event: Event<Self::Message>, actions: &mut Actions<Self::Message>);

    /// From which executed number on this replica's state may answer a query without ordering it;
    /// `None` while it may answer nothing at all that it does not execute just now. An answer is a vote
    /// that nothing later was executed here, so a replica that starts again has to reach what it vouched
    /// for before.
    fn answers_from(&self) -> Option<Seq> {
        Some(Seq(0))
    }

    /// Whether this replica agrees on the order and executes nothing: it has no state of the service, and can't
    /// give it to others. It changes within an instance's life only by [`Action::StandIn`], and only to no.
    ///
    /// What it is asked to [execute](Action::Execute) it takes down: which requests are done, and what the members
    /// are to be. Where a digest is asked for, [`Event::Executed`] has none; the digests in [`Action::Stable`],
    /// [`Action::KeepState`] and [`Action::FetchState`] are those of the others' state, of which it keeps and
    /// fetches what it takes down itself.
    fn is_witness(&self) -> bool {
        false
    }

    /// The instance that goes on in another membership, as its replica `me` and with its settings, from the
    /// state `start` where this one ended (there, or here without this replica); `None` is the initial state.
    /// It takes over the requests that wait and are good for others too, and goes on with the numbers of the
    /// records. `None` where this protocol has no successors, or none with such settings.
    ///
    /// It is started with [`Start::Handover`], or with what was on disk.
    fn successor(
        &self,
        me: ReplicaId,
        quorums: Quorums,
        settings: &Settings,
        start: Option<(Seq, Digest)>,
    ) -> Option<Self>
    where
        Self: Sized,
    {
        let _ = (me, quorums, settings, start);
        None
    }

    /// What this instance goes by; `None` where it has no successors.
    fn settings(&self) -> Option<Settings> {
        None
    }

    /// Whether this replica had lost its disk, and does not vote yet.
    fn has_forgotten(&self) -> bool {
        false
    }

    /// What others have signed among the records of a disk that somebody else may have written to: whoever
    /// starts from them checks each first. `stable` is the checkpoint whose state is on that disk, with its
    /// digest; `None` stands for the initial state. `None` where no correct replica has such records, or this
    /// protocol can't tell.
    fn statements(&self, stable: Option<(Seq, Digest)>, records: &[Vec<u8>]) -> Option<Vec<SignedPart>> {
        let _ = (stable, records);
        None
    }

    /// Whether whoever goes by these records knows all that it ever said: [`Protocol::statements`] found nothing
    /// wrong with them. For `has_forgotten` see [`Start::Recovered`].
    fn knows_all(&self, records: &[Vec<u8>], has_forgotten: bool) -> bool {
        let _ = records;
        !has_forgotten
    }
}

/// A protocol whose instances can themselves be replicated: the state of a logical machine.
///
/// An instance encodes all that it knows, its settings included, and one that was decoded goes on exactly as the
/// original: two that handled the same events have equal encodings. What no encoding holds is
/// [`Request::is_authentic`], so nothing else than authentic requests may be handed to such an instance.
pub trait Replicable: Protocol + BorshSerialize + BorshDeserialize {
    /// Has all requests that a decoded instance holds count as authentic, as they were in the original.
    fn vouch(&mut self);
}

/// A protocol's message, as far as the layer below has to know it.
pub trait Message: BorshSerialize + BorshDeserialize + Clone + Debug {
    /// The messages inside this one that others signed. The layer below checks each.
    fn signed_parts(&self) -> Vec<SignedPart>;

    /// The requests inside this one. The layer below sets [`Request::is_authentic`] on each.
    fn requests_mut(&mut self) -> &mut [Request];

    /// The kind of message, as the paper calls it: for logs, metrics and fault injection.
    fn kind(&self) -> &'static str;

    /// A well-formed message that contradicts this one, as a faulty replica could send it to some
    /// and this one to others; `None` where there is nothing to contradict. For fault injection.
    fn contradiction(&self) -> Option<Self>;
}

/// A message inside another, signed by its own author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPart {
    /// Whose statement it is.
    pub signer: ReplicaId,
    /// The canonical encoding of the message that was signed.
    pub bytes: Vec<u8>,
    /// The signer's proof over `bytes`.
    pub proof: Proof,
}

/// The kind of authentication that a message needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// The receiver must be sure of the sender, and need not convince anybody else.
    Mac,
    /// The receiver must be able to prove to others what the sender said.
    Transferable,
}

/// Names a record handed to storage. Ids grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, BorshSerialize, BorshDeserialize)]
pub struct PersistId(pub u64);

/// Names a timer. Setting a timer that is running starts it afresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId(pub u32);

/// What a replica starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The group is new: no replica has ever run.
    Genesis,
    /// This instance goes on where its predecessor ended ([`Protocol::successor`]).
    Handover {
        /// The last batch that this replica's state holds.
        executed: Seq,
        /// Whether that is the state to start from, and on disk. If not, it has to be fetched.
        has_state: bool,
    },
    /// The records that were on disk, oldest first. The state was brought to checkpoint `stable`
    /// before (0: the initial state).
    Recovered {
        /// The checkpoint that the engine's state is at.
        stable: Seq,
        /// The last request of each client that this state has executed.
        executed: Vec<(ClientId, RequestNumber)>,
        /// All records persisted since the last [`Action::Compact`], its own included.
        records: Vec<Vec<u8>>,
        /// Whether that state is the last of this instance, as [`Event::Close`] would say.
        is_closed: bool,
        /// Whether this instance was first started by one that had lost its disk, here or before. The
        /// records may end before its own record of that.
        has_forgotten: bool,
        /// Whether somebody else may have written them. [`Protocol::statements`] found nothing wrong with
        /// them then.
        is_doubtful: bool,
    },
    /// The disk is lost. What this replica once voted for, it no longer knows.
    Amnesia,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event<M> {
    /// The replica starts. Always the first event.
    Start(Start),
    /// A message from a replica of the group, authenticated.
    Message {
        /// Who sent it.
        from: ReplicaId,
        /// What it says.
        message: M,
        /// The sender's proof, for messages sent with [`Auth::Transferable`].
        proof: Option<Proof>,
        /// Under which of the sender's keys it was authenticated, by a number that grows from one to the next.
        /// It means nothing where there is a proof.
        key: u64,
    },
    /// Keys of a replica with numbers below this one have ended: nobody can say anything under them any more,
    /// and whoever could may have been somebody else. What the replica has said under them counts no longer
    /// where it does not yet decide anything, and it may say it again.
    KeysEnded {
        /// Whose.
        of: ReplicaId,
        /// The first of its keys that is still believed, or that would be.
        before: u64,
    },
    /// A timer expired.
    Timer(TimerId),
    /// A client's request: authentic, and newer than what the client had executed before.
    Request(Request),
    /// A request that its client has sent to the primary to be ordered, and to all others so that it need
    /// not be proposed as a whole.
    Body(Request),
    /// A copy of a request that its client has sent to another replica to be ordered, and shows this one so
    /// that it sees what becomes of it.
    Witness {
        /// The copy.
        request: Request,
        /// Whom its client belongs to: the same for all sessions of one, so that it can't outnumber others.
        owner: ClientId,
    },
    /// A client has all replicas asked, with its signature, for the answer to a request of its own that is executed
    /// here, early or for good: what it was told was not enough for it.
    AskedAgain {
        /// The client.
        client: ClientId,
        /// The request's number.
        number: RequestNumber,
    },
    /// A client shows that an agreement quorum has speculated alike, at this replica's place in the order or
    /// anywhere else. It is complete and its proofs hold.
    Certificate(CommitCertificate),
    /// This record, and all before it, are on disk.
    Persisted(PersistId),
    /// The replica is about to stop: where others wait for it, they should not have to.
    HandOver,
    /// The membership changes: this instance ends at the first checkpoint at or after this number, and
    /// executes nothing beyond. It has to see to it that this comes, if need be with null requests.
    Close(Seq),
    /// So is the state at this checkpoint, as [`Action::KeepState`] asked for.
    StateKept(Seq),
    /// A batch was executed. Nothing beyond a checkpoint is to be executed before this says that the
    /// checkpoint is: it may be the last.
    Executed {
        /// Its number.
        seq: Seq,
        /// The digest of the state, where `seq` is a checkpoint of this protocol.
        state: Option<Digest>,
    },
    /// State transfer brought the replica to a checkpoint that the protocol had asked for.
    StateInstalled {
        /// The checkpoint.
        seq: Seq,
        /// The last request of each client that this state has executed.
        executed: Vec<(ClientId, RequestNumber)>,
    },
}

impl<M> Event<M> {
    /// The same event with another kind of message.
    ///
    /// # Errors
    /// Who sent the message, if `convert` gives none.
    pub(crate) fn with_message<N>(self, convert: impl FnOnce(M) -> Option<N>) -> Result<Event<N>, ReplicaId> {
        Ok(match self {
            Self::Message { from, message, proof, key } => {
                let message = convert(message).ok_or(from)?;
                Event::Message { from, message, proof, key }
            }
            Self::Start(start) => Event::Start(start),
            Self::KeysEnded { of, before } => Event::KeysEnded { of, before },
            Self::Timer(id) => Event::Timer(id),
            Self::Request(request) => Event::Request(request),
            Self::Body(request) => Event::Body(request),
            Self::Witness { request, owner } => Event::Witness { request, owner },
            Self::AskedAgain { client, number } => Event::AskedAgain { client, number },
            Self::Certificate(certificate) => Event::Certificate(certificate),
            Self::Persisted(id) => Event::Persisted(id),
            Self::HandOver => Event::HandOver,
            Self::Close(seq) => Event::Close(seq),
            Self::StateKept(seq) => Event::StateKept(seq),
            Self::Executed { seq, state } => Event::Executed { seq, state },
            Self::StateInstalled { seq, executed } => Event::StateInstalled { seq, executed },
        })
    }
}

/// A batch and its place in the order.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Decision {
    /// Its number.
    pub seq: Seq,
    /// The view in which it was decided.
    pub view: View,
    /// The batch's digest.
    pub digest: Digest,
    /// The batch.
    pub batch: Arc<Batch>,
    /// Whether the engine has to answer with the digest of its state.
    pub is_checkpoint: bool,
    /// Whether replicas execute it tentatively where they can: the same at all of them. All replicas that
    /// a client has named answer then.
    pub is_eager: bool,
}

/// Something to be done.
#[derive(Debug, Clone)]
pub enum Action<M> {
    /// Send a message to one replica.
    Send {
        /// To whom.
        to: ReplicaId,
        /// What.
        message: M,
        /// Authenticated how.
        auth: Auth,
    },
    /// Send a message to all other replicas (and, if transferable, to oneself).
    Broadcast {
        /// What.
        message: M,
        /// Authenticated how.
        auth: Auth,
    },
    /// Broadcast a message, with [`Auth::Mac`], that nobody waits for: it may leave together with what
    /// goes to the same replica next, within a moment.
    Piggyback(M),
    /// Raise [`Event::Timer`] after this time.
    SetTimer {
        /// Which.
        id: TimerId,
        /// From now.
        after: Duration,
    },
    /// Forget a timer.
    CancelTimer(TimerId),
    /// Write a record to disk, then raise [`Event::Persisted`].
    Persist {
        /// Its id.
        id: PersistId,
        /// The record.
        record: Vec<u8>,
    },
    /// Write the state at this checkpoint, which is the engine's own, to disk. [`Event::StateKept`]
    /// follows, while all else goes on; no other is asked for before.
    KeepState {
        /// The checkpoint.
        seq: Seq,
        /// The digest of its state.
        state: Digest,
    },
    /// All records so far may be replaced by these, which belong to the state that was kept last.
    Compact(Vec<Vec<u8>>),
    /// Execute a batch, whose place is final. One that was just executed tentatively, with the same
    /// digest, becomes final; another one is taken back first.
    Execute(Decision),
    /// Execute a batch that may have to be taken back: at most one, and next to the last final one. What
    /// it emits and what queries see waits until it is final; clients are told that it is tentative.
    /// [`Event::Executed`] follows once it is final.
    ExecuteTentatively(Decision),
    /// Execute a batch before anything is known of what the others have at its place: right after the last one
    /// that was executed, speculatively or for good, and never beyond a checkpoint that is not final. Any number
    /// of them may have to be taken back. What they emit and what queries see waits until they are final
    /// ([`Action::Execute`], in order); clients are told this replica's signed [`Speculation`].
    /// [`Event::Executed`] follows once it is final.
    Speculate {
        /// The batch and its place.
        decision: Decision,
        /// The digest of all batches up to this one.
        history: Digest,
        /// What this replica tells clients, where that does not depend on whom they ask.
        share: Option<Share>,
    },
    /// This replica holds, on disk, a certificate for this speculation, and has entered no later view: whichever
    /// client has shown one for it or for an earlier one of that view is told so (Zyzzyva's local commit).
    Certified(Speculation),
    /// Take back all that was executed tentatively or speculatively and is not final.
    Rollback,
    /// A checkpoint is stable: enough replicas have this state, and this replica is one of them. A state
    /// transfer to this one or an earlier one that has not been installed yet is dropped. Earlier ones may
    /// be forgotten once this one is [kept](Action::KeepState).
    Stable {
        /// The checkpoint.
        seq: Seq,
        /// The digest of its state.
        state: Digest,
    },
    /// The checkpoint at which this instance ends ([`Event::Close`]) is stable, and on disk with its state.
    Closed {
        /// The checkpoint.
        seq: Seq,
        /// The digest of its state.
        state: Digest,
        /// The proof that an agreement quorum has that state: who signed
        /// [`Settings::checkpoint_statement`] of it, ascending.
        votes: Vec<(ReplicaId, Proof)>,
    },
    /// Bring the state to this checkpoint, by state transfer, then raise
    /// [`Event::StateInstalled`]. Asking again for the same changes nothing; a newer one replaces an
    /// older. Execution goes on meanwhile; the installed state may also lie before what was executed,
    /// where this replica's own state had diverged.
    FetchState {
        /// The checkpoint.
        seq: Seq,
        /// The digest that its state must have.
        state: Digest,
    },
    /// As witness: fetch the whole state at this checkpoint, the last stable one, with the service's part, and execute
    /// from there on; then raise [`Event::StateInstalled`]. Until then this replica goes on as a witness. Where another
    /// checkpoint becomes [stable](Action::Stable) meanwhile, that is fetched instead; where [`Action::FetchState`] asks
    /// for what a witness keeps, that is, and nothing is done until this is asked for again.
    StandIn {
        /// The checkpoint.
        seq: Seq,
        /// The digest of its state.
        state: Digest,
    },
    /// A peer broke the protocol. The engine brings the same thing forward once.
    Evidence(Evidence),
    /// A client's request was not believed, since its MACs have held up the order before: the client is told
    /// to sign it.
    MustSign {
        /// The client.
        client: ClientId,
        /// The request's number.
        number: RequestNumber,
    },
    /// What this client has shown this replica ([`Event::Witness`]) was served late: the client is told so.
    Late(ClientId),
    /// The replica is now in this view; for clients, metrics and logs.
    EnteredView(View),
    /// The replica has given up on the view before this one.
    LeftView(View),
}

impl<M> Action<M> {
    /// The same action with another kind of message.
    pub(crate) fn with_message<N>(self, convert: impl FnOnce(M) -> N) -> Action<N> {
        match self {
            Self::Send { to, message, auth } => Action::Send { to, message: convert(message), auth },
            Self::Broadcast { message, auth } => Action::Broadcast { message: convert(message), auth },
            Self::Piggyback(message) => Action::Piggyback(convert(message)),
            Self::SetTimer { id, after } => Action::SetTimer { id, after },
            Self::CancelTimer(id) => Action::CancelTimer(id),
            Self::Persist { id, record } => Action::Persist { id, record },
            Self::KeepState { seq, state } => Action::KeepState { seq, state },
            Self::Compact(records) => Action::Compact(records),
            Self::Execute(decision) => Action::Execute(decision),
            Self::ExecuteTentatively(decision) => Action::ExecuteTentatively(decision),
            Self::Speculate { decision, history, share } => Action::Speculate { decision, history, share },
            Self::Certified(speculation) => Action::Certified(speculation),
            Self::Rollback => Action::Rollback,
            Self::Stable { seq, state } => Action::Stable { seq, state },
            Self::Closed { seq, state, votes } => Action::Closed { seq, state, votes },
            Self::FetchState { seq, state } => Action::FetchState { seq, state },
            Self::StandIn { seq, state } => Action::StandIn { seq, state },
            Self::Evidence(evidence) => Action::Evidence(evidence),
            Self::MustSign { client, number } => Action::MustSign { client, number },
            Self::Late(client) => Action::Late(client),
            Self::EnteredView(view) => Action::EnteredView(view),
            Self::LeftView(view) => Action::LeftView(view),
        }
    }
}

/// The actions that an event led to, in the order in which they are to be done.
pub type Actions<M> = Vec<Action<M>>;
