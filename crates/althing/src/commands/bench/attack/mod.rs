//! Attacks on a group under load: what a flood costs the clients that behave.

mod frames;
mod handshakes;
mod process;

pub(super) use process::Attacker;
pub(crate) use process::RunAttack;

use althing_node::control::Flood;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Who floods the group with what. Clients are real ones of the group, with their own keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Attack {
    /// A client sends bytes that mean nothing
    Garbage,
    /// A client sends requests with MACs that don't hold
    BadMacs,
    /// A client sends requests with signatures that don't hold
    BadSignatures,
    /// A client sends request after request, and waits for no answer
    Requests,
    /// The same, and they are as long as the group allows
    LargeRequests,
    /// A stranger begins handshake after handshake
    Handshakes,
    /// A backup sends the others bytes that mean nothing
    ReplicaGarbage,
    /// A backup sends the others signatures that don't hold
    ReplicaSignatures,
    /// A backup repeats to the others what it has just said
    ReplicaRepeats,
}

impl Attack {
    /// Its name on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What a replica does, where it is one that attacks.
    pub(super) fn of_replica(self) -> Option<Flood> {
        match self {
            Self::ReplicaGarbage => Some(Flood::Garbage),
            Self::ReplicaSignatures => Some(Flood::Signatures),
            Self::ReplicaRepeats => Some(Flood::Repeats),
            _ => None,
        }
    }
}

/// What runs beside the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Beside {
    /// An attacker.
    Attacker(Attack),
    /// A process that is as busy as this attacker was in the run before, and attacks nobody: on a machine that
    /// all share, an attacker costs others its processor time as well.
    Busy(Attack),
}

impl Beside {
    /// As a part of a name.
    pub(super) fn name(self) -> String {
        match self {
            Self::Attacker(attack) => attack.name(),
            Self::Busy(attack) => format!("busy-as-{}", attack.name()),
        }
    }
}
