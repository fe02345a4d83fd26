//! Who belongs to a group, and how that changes: by an ordered command, from one epoch to the next.
//!
//! - a [`Membership`] is what an epoch has: its replicas, in order, how many may be faulty, and the settings by
//!   which they all go;
//! - a [`Reconfigure`] command, signed by an administrator, says what the next one is to be;
//! - a [`Link`] proves to whoever knows one membership what the next one is.
//!
//! The present membership is part of the replicated state. What replicas and clients say is of one epoch:
//! the name of the group that authenticates it follows from the membership.

mod command;
mod link;
mod succession;

pub use command::{Change, Reconfigure, ReconfigureOutcome, Reconfigured, Refusal, SignedReconfigure};
pub use link::Link;

pub(crate) use link::{MAX_LINKS_BYTES, links_from};
pub(crate) use succession::{SUCCESSION_PAGE, Succession};

use crate::{EngineSettings, EngineSettingsError};
use alloc::string::String;
use alloc::vec::Vec;
use althing_crypto::{Hasher, Keyring, PublicIdentity};
use althing_protocol::{ConfigError, Settings};
use althing_types::{Epoch, FaultModel, GroupId, Principal, Quorums, ReplicaId};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

/// The longest address of a replica, in bytes.
const MAX_ADDRESS_BYTES: usize = 200;
/// The most administrators.
const MAX_ADMINS: usize = 16;

/// A replica of a membership.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Member {
    /// What it is known by.
    pub key: PublicIdentity,
    /// Where it listens, for the runtimes of the others and of clients.
    pub address: String,
}

/// Who belongs to a group during one epoch, and how it works.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Membership {
    /// Which epoch.
    pub epoch: Epoch,
    /// How many of the replicas may be faulty.
    pub f: u16,
    /// The replicas; a [`ReplicaId`] is a place among them.
    pub members: Vec<Member>,
    /// Who may change the membership.
    pub admins: Vec<PublicIdentity>,
    /// What the replicas run, and how.
    pub settings: Settings,
    /// Who leads the first view of the epoch.
    pub first_primary: ReplicaId,
    /// How many requests the replicas take, and which, whatever they run.
    pub engine: EngineSettings,
    /// Whether others take the group for one machine: they know its replicas by their places, and count on what it has
    /// done. Then its members stay who they are, as many may be faulty as before and in the same way, and nothing is
    /// executed that might be taken back.
    pub is_one_machine: bool,
}

/// What can't be a membership.
#[derive(Debug, Clone, PartialEq, Eq, Error, BorshSerialize, BorshDeserialize)]
pub enum MembershipError {
    /// Too few replicas for the faults, or more than a group may have.
    #[error(
        "{n} replicas do not make a group that tolerates {f} {}: it takes {} to {}",
        match .model { FaultModel::Byzantine => "Byzantine fault(s)", FaultModel::Crash => "crash(es)" },
        match .model { FaultModel::Byzantine => 3, FaultModel::Crash => 2 } * u32::from(*f) + 1,
        Quorums::MAX_REPLICAS
    )]
    Size {
        /// Replicas.
        n: u32,
        /// Faults.
        f: u16,
        /// What those may be, with the settings.
        model: FaultModel,
    },
    /// Two replicas have the same key, to sign with or to agree on keys with.
    #[error("{first} and {second} have the same key; each replica needs its own")]
    SameKey {
        /// One of them.
        first: ReplicaId,
        /// The other.
        second: ReplicaId,
    },
    /// Two replicas have the same address.
    #[error("{first} and {second} have the same address")]
    SameAddress {
        /// One of them.
        first: ReplicaId,
        /// The other.
        second: ReplicaId,
    },
    /// An address is empty or too long.
    #[error("the address of {0} has no bytes, or more than {MAX_ADDRESS_BYTES}")]
    Address(ReplicaId),
    /// More administrators than there may be.
    #[error("{0} administrators, but there may be at most {MAX_ADMINS}")]
    TooManyAdmins(u32),
    /// Who is to lead first is none of the replicas.
    #[error("{0} is to lead first, but is none of the {n} replicas", n = .1)]
    NoSuchPrimary(ReplicaId, u32),
    /// A group of that size can't go by these settings.
    #[error(transparent)]
    Settings(#[from] ConfigError),
    /// It acts as one machine, and would take back what others have been told.
    #[error("the group is one machine to others, and may execute nothing that is not decided")]
    Tentative,
    /// No group can take requests as it says.
    #[error(transparent)]
    Engine(#[from] EngineSettingsError),
}

impl Membership {
    /// Whether this can be a membership.
    ///
    /// # Errors
    /// One variant of [`MembershipError`] a rule.
    pub fn check(&self) -> Result<Quorums, MembershipError> {
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let n = self.members.len();
        let size = MembershipError::Size { n: count(n), f: self.f, model: self.settings.fault_model() };
        let quorums = self.settings.quorums(n, self.f.into()).map_err(|_| size.clone())?;
        if n == 0 {
            return Err(size);
        }
        if self.admins.len() > MAX_ADMINS {
            return Err(MembershipError::TooManyAdmins(count(self.admins.len())));
        }
        if !quorums.has(self.first_primary) {
            return Err(MembershipError::NoSuchPrimary(self.first_primary, count(n)));
        }
        self.settings.check(quorums)?;
        self.engine.check()?;
        if self.is_one_machine && self.settings.is_tentative() {
            return Err(MembershipError::Tentative);
        }
        let quorums = quorums.led_first_by(self.first_primary);
        for (second, member) in quorums.replicas().zip(&self.members) {
            if member.address.is_empty() || member.address.len() > MAX_ADDRESS_BYTES {
                return Err(MembershipError::Address(second));
            }
            for (first, other) in quorums.replicas().zip(&self.members[..usize::from(second.0)]) {
                if other.key.shares_a_key_with(&member.key) {
                    return Err(MembershipError::SameKey { first, second });
                }
                if other.address == member.address {
                    return Err(MembershipError::SameAddress { first, second });
                }
            }
        }
        Ok(quorums)
    }

    /// The quorums of this epoch.
    ///
    /// # Panics
    /// If [`Self::check`] refuses it.
    #[must_use]
    pub fn quorums(&self) -> Quorums {
        self.check().expect("a membership was checked when it was made or came in")
    }

    /// The name under which everything of this epoch is authenticated, in the group that its clients know
    /// as `root`.
    #[must_use]
    pub fn group(&self, root: GroupId) -> GroupId {
        if self.epoch == Epoch(0) {
            return root;
        }
        let mut hasher = Hasher::new("althing epoch");
        hasher.value(&root);
        hasher.value(self);
        let mut group = GroupId::default();
        group.0.copy_from_slice(&hasher.finish().0[..16]);
        group
    }

    /// The place of who has this key.
    #[must_use]
    pub fn place_of(&self, key: &PublicIdentity) -> Option<ReplicaId> {
        let place = self.members.iter().position(|member| member.key == *key)?;
        u16::try_from(place).ok().map(ReplicaId)
    }

    /// The replica in this place.
    #[must_use]
    pub fn member(&self, id: ReplicaId) -> Option<&Member> {
        self.members.get(usize::from(id.0))
    }

    /// The keyring of the same member as `other`'s, in this epoch: as replica if it is one, else as client.
    #[must_use]
    pub fn keyring(&self, other: &Keyring) -> Keyring {
        let keys = self.members.iter().map(|member| member.key).collect();
        let me = match other.me() {
            Principal::Replica(id) => Principal::Replica(self.place_of(&other.identity()).unwrap_or(id)),
            client @ Principal::Client(_) => client,
        };
        other.in_epoch(self.group(other.root()), me, keys)
    }
}
