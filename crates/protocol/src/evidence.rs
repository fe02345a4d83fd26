use alloc::vec::Vec;
use althing_crypto::Proof;
use althing_types::{ReplicaId, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;

/// What a replica was caught at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Misbehaviour {
    /// As primary it assigned one sequence number to two batches in one view.
    ConflictingPrePrepare(View, Seq),
    /// It voted for two batches at one sequence number in one view.
    ConflictingVote(View, Seq),
    /// It signed two digests for one checkpoint.
    ConflictingCheckpoint(Seq),
    /// It signed a checkpoint that a certificate contradicts: its state has diverged.
    WrongCheckpoint(Seq),
    /// It signed two view changes for one view.
    ConflictingViewChange(View),
    /// It signed a view change that no correct replica makes.
    InvalidViewChange(View),
    /// It signed a new view that does not follow from the view changes inside.
    InvalidNewView(View),
    /// It proposed a batch that no correct primary makes: one that is too large.
    InvalidBatch(View, Seq),
    /// It sent something that no correct replica sends at all.
    InvalidMessage,
    /// It sent a forged message: an authentication inside does not hold.
    Forgery,
    /// It sent state that does not match the checkpoint it belongs to.
    WrongState(Seq),
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConflictingPrePrepare(view, seq) => write!(f, "proposed two batches at {seq} in {view}"),
            Self::ConflictingVote(view, seq) => write!(f, "voted for two batches at {seq} in {view}"),
            Self::ConflictingCheckpoint(seq) => write!(f, "signed two digests for checkpoint {seq}"),
            Self::WrongCheckpoint(seq) => write!(f, "signed a wrong digest for checkpoint {seq}"),
            Self::ConflictingViewChange(view) => write!(f, "signed two view changes for {view}"),
            Self::InvalidViewChange(view) => write!(f, "signed an impossible view change for {view}"),
            Self::InvalidNewView(view) => write!(f, "signed a new view {view} that does not follow"),
            Self::InvalidBatch(view, seq) => write!(f, "proposed an impossible batch at {seq} in {view}"),
            Self::InvalidMessage => write!(f, "sent a message that no correct replica sends"),
            Self::Forgery => write!(f, "sent a message with a forged part"),
            Self::WrongState(seq) => write!(f, "sent state that does not match checkpoint {seq}"),
        }
    }
}

/// Something that a replica signed: the bytes of a protocol message and the proof over them.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Statement {
    /// The canonical encoding of the message.
    pub bytes: Vec<u8>,
    /// The accused replica's proof over `bytes`.
    pub proof: Proof,
}

/// That a replica broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Evidence {
    /// Who did it.
    pub accused: ReplicaId,
    /// What it did.
    pub misbehaviour: Misbehaviour,
    /// The statements that show it to anybody. Empty where only MACs bound the messages: such
    /// evidence convinces the replica that saw it and nobody else.
    pub statements: Vec<Statement>,
}

impl Evidence {
    /// Whether somebody who did not see it happen can be convinced.
    #[must_use]
    pub fn is_transferable(&self) -> bool {
        !self.statements.is_empty()
    }
}
