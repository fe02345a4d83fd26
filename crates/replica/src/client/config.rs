use crate::Limits;
use crate::membership::Membership;
use alloc::vec::Vec;
use althing_crypto::Keyring;
use althing_protocol::zyzzyva::Composition;
use althing_types::{ClientId, Quorums, ReplicaId, RequestNumber};
use core::time::Duration;

/// How a client authenticates its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestAuthKind {
    /// With a MAC for each replica.
    #[default]
    Macs,
    /// With a signature.
    Signed,
}

/// How the clients of a group read. All of them have to read alike, since the writers have to wait
/// for as many replicas as the readers count on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadPolicy {
    /// Reads are ordered like writes, and one correct replica's word is enough for both.
    #[default]
    Ordered,
    /// Reads are first tried without ordering (PBFT §5.1.3). An agreement quorum has to give the
    /// same answer, and writes too are complete only once an agreement quorum has executed them:
    /// otherwise a read could miss a write that was complete before it. The price is that a write
    /// waits for the slowest correct replicas when others are faulty (SRDS'21).
    Fast,
}

/// Whom clients ask to answer a request at first. One that has to be sent again is answered by all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnswerPolicy {
    /// As few as can convince the client: one gives the result and the others its digest (PBFT §5.1.1).
    /// A client that waits in vain for one of them pays with the time until it asks again, once.
    #[default]
    Few,
    /// All, each with the whole result.
    All,
}

/// What a client has to know from the start.
#[derive(Clone)]
pub struct ClientConfig {
    /// Which client it is.
    pub client: ClientId,
    /// Its keys, and the replicas' public ones.
    pub keyring: Keyring,
    /// The group's quorums.
    pub quorums: Quorums,
    /// Who belongs to the group, in an epoch that the client knows of: it finds the way to the present one.
    /// `None` where the members do not change. The keyring is of the group as its clients know it.
    pub membership: Option<Membership>,
    /// The group's bounds.
    pub limits: Limits,
    /// How it authenticates requests where the group takes both.
    pub auth: RequestAuthKind,
    /// How the group's clients read.
    pub reads: ReadPolicy,
    /// Whom it asks to answer.
    pub answers: AnswerPolicy,
    /// An operation of at least so many bytes goes to all replicas at once, so that the primary need not pass
    /// it on; 0: none does. As the group's own setting.
    pub separate_bytes: usize,
    /// Which protocols take turns, where the group speculates. As the group's own setting.
    pub composition: Composition,
    /// The replicas that execute nothing and answer nothing. As the group's own setting.
    pub witnesses: Vec<ReplicaId>,
    /// How long it waits before it asks all replicas.
    pub retry: Duration,
    /// The number of its first request: above all that it has ever used, as far as it knows.
    pub first_number: RequestNumber,
}

impl ClientConfig {
    /// Whether a replica executes, and so answers.
    pub(super) fn executes(&self, replica: ReplicaId) -> bool {
        !self.witnesses.contains(&replica)
    }

    /// How many replicas have to give the same result of an operation that they have executed for good.
    pub(super) fn enough_replies(&self) -> usize {
        match self.reads {
            ReadPolicy::Ordered => self.quorums.one_correct(),
            ReadPolicy::Fast => self.quorums.read_by_later(self.witnesses.len()),
        }
    }
}
