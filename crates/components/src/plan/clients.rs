use althing_types::{ClientId, ReplicaId};
use serde::Serialize;

/// Why a client speaks to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase", tag = "role")]
pub enum ClientRole {
    /// A replica of a group whose outputs this group takes: it delivers its own copies of them.
    Producer {
        /// Index of the producing group.
        group: u16,
        /// The replica.
        #[serde(serialize_with = "super::serialize_replica")]
        replica: ReplicaId,
    },
    /// A replica of this very group, that tells it which of its outputs have arrived.
    Courier {
        /// The replica.
        #[serde(serialize_with = "super::serialize_replica")]
        replica: ReplicaId,
    },
    /// The process that holds the MQTT ends of wires.
    Edge,
    /// Whoever operates the system; may look, but not deliver.
    Operator,
}

impl ClientRole {
    /// The identifier of this client of the group with this index: another one for each role and
    /// group, and the same in every plan of the same application.
    ///
    /// Bits from above: 8 for the role, 8 unused, 16 each for the producing group, the replica and
    /// the group spoken to.
    #[must_use]
    pub fn client_id(self, group: u16) -> ClientId {
        let (role, producer, replica) = match self {
            Self::Producer { group, replica } => (1u64, group, replica.0),
            Self::Courier { replica } => (2, group, replica.0),
            Self::Edge => (3, 0, 0),
            Self::Operator => (4, 0, 0),
        };
        ClientId(role << 56 | u64::from(producer) << 32 | u64::from(replica) << 16 | u64::from(group))
    }
}
