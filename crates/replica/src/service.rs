use crate::Pages;
use alloc::vec::Vec;
use althing_types::{ClientId, Instant, RequestNumber, Seq};
use thiserror::Error;

/// What every replica agrees on about the operation it executes. Nothing else may influence a
/// [`Service`]: not the clock, not randomness of its own, not the order of a hash map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Who submitted the operation.
    pub client: ClientId,
    /// The client's number for it.
    pub number: RequestNumber,
    /// The batch that the operation stands in.
    pub seq: Seq,
    /// Agreed time: proposed by the primary, checked by the backups, strictly growing from batch to batch.
    pub time: Instant,
    /// Agreed randomness for this operation. Unpredictable to nobody but equal everywhere: seed a
    /// generator with it, keep no secret with it.
    pub seed: [u8; 32],
}

/// Something that a service sends without being asked: an event for whoever listens to `channel`.
///
/// Every correct replica emits the same bytes, so a listener accepts a payload once f + 1 replicas
/// have sent it. An emission is sent once and can be lost: whoever needs it for certain numbers it
/// inside the payload, keeps it in the service's state until it is acknowledged, and lets listeners
/// ask again with a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emission {
    /// Which listeners it is for, in the numbering that service and runtime have agreed on.
    pub channel: u32,
    /// The event.
    pub payload: Vec<u8>,
}

/// What executing an operation led to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The result for the client that submitted the operation, unless it comes later.
    pub result: Vec<u8>,
    /// Whether the client has to wait: the result is among the [`late`](Self::late) ones of a later operation.
    pub is_deferred: bool,
    /// Results of earlier operations that were deferred.
    pub late: Vec<LateResult>,
    /// Events for others.
    pub emissions: Vec<Emission>,
}

/// The result of an operation that was deferred. It is the client's answer if that has gone on to no other
/// operation meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateResult {
    /// Who submitted the operation.
    pub client: ClientId,
    /// The client's number for it.
    pub number: RequestNumber,
    /// The result.
    pub result: Vec<u8>,
}

impl Outcome {
    /// The result comes later.
    #[must_use]
    pub fn deferred() -> Self {
        Self { is_deferred: true, ..Self::default() }
    }
}

impl From<Vec<u8>> for Outcome {
    fn from(result: Vec<u8>) -> Self {
        Self { result, ..Self::default() }
    }
}

/// Pages that do not form a state of this service.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("page {page} is not part of a state of this service: {reason}")]
pub struct InstallError {
    /// The page at fault.
    pub page: u32,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A deterministic state machine: what is replicated.
///
/// Two instances that started alike and executed the same operations in the same contexts have
/// equal pages and gave equal outcomes (PBFT §3). Operations come from anywhere: a malformed one
/// is answered with an error result of the service's own, never a panic.
///
/// The state is shown as numbered [`Pages`], so that checkpoints, their digests and state transfer
/// cost what changed and not what exists. A page is at most [`MAX_PAGE_BYTES`](crate::MAX_PAGE_BYTES)
/// long and a canonical encoding of its part of the state. A service that keeps its state in
/// [`Page`](crate::Page)s shares them with the checkpoints; one that writes it out pays for both.
pub trait Service {
    /// Executes one ordered operation.
    fn execute(&mut self, operation: &[u8], context: &Context) -> Outcome;

    /// An operation of this client is probably going to be executed soon: what takes long and can be found out without the
    /// state, such as whether a signature in it is good, may be begun elsewhere. It can come several times, or never be executed.
    /// Nothing that is replicated may depend on it: each replica foresees what it happens to hear of.
    fn foresee(&mut self, _operation: &[u8], _client: ClientId) {}

    /// Answers an operation that changes nothing from the present state, or `None` where the
    /// operation has to be ordered.
    fn query(&self, operation: &[u8], client: ClientId) -> Option<Vec<u8>>;

    /// Brings `pages` up to date with the state. They are as the last call left them, or the last
    /// installation; at the first call there are none.
    ///
    /// A page that is written again as it was costs the writing, and nothing after that.
    fn save(&mut self, pages: &mut Pages);

    /// Becomes the state that `pages` show, which [`Service::save`] made at another replica.
    ///
    /// `changed` are the numbers, ascending, of the pages in which they differ from what this
    /// service saved or installed last; nothing was executed since. Of those that are missing in
    /// `pages`, the service had one.
    ///
    /// Where a replica becomes a witness, which holds no state, there are no pages at all. A service that can't be
    /// empty refuses that, and keeps what it has for nothing.
    ///
    /// # Errors
    /// When they are no state of this service; the state is then unchanged.
    fn install(&mut self, pages: &Pages, changed: &[u32]) -> Result<(), InstallError>;
}
