use borsh::{BorshDeserialize, BorshSerialize};
use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BorshSerialize, BorshDeserialize,
        )]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// A replica's place in its group: `0..n`.
    ReplicaId(u16),
    "r"
);
id!(
    /// A site's place in its system: `0..n`. Its servers together act as one machine.
    SiteId(u16),
    "site"
);
id!(
    /// A client of a group: anything that submits operations, another group's replica included.
    ClientId(u64),
    "c"
);
id!(
    /// The number of a view; replica `v mod n` is its primary (PBFT §4).
    View(u64),
    "v"
);
id!(
    /// A sequence number in the order of operations. The first batch has number 1.
    Seq(u64),
    "s"
);
id!(
    /// A client's number for a request: grows from request to request, gaps allowed
    /// (the timestamp of PBFT §4.1).
    RequestNumber(u64),
    "t"
);
id!(
    /// A stretch of a group's life with the same members; each change of the members begins the next.
    Epoch(u64),
    "e"
);

/// Names a replica group. It is part of whatever is authenticated, so that a message of one
/// group means nothing in another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BorshSerialize, BorshDeserialize)]
pub struct GroupId(pub [u8; 16]);

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g")?;
        self.0[..4].iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Whoever can send an authenticated message to a replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub enum Principal {
    /// A replica of the group.
    Replica(ReplicaId),
    /// A client of the group.
    Client(ClientId),
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(id) => id.fmt(f),
            Self::Client(id) => id.fmt(f),
        }
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl View {
    /// The view after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Seq {
    /// The sequence number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
