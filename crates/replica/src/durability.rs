use core::fmt;
use serde::{Deserialize, Serialize};

/// What an acknowledged operation survives: what becomes of what a protocol asks to persist, before a vote
/// on it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The power failing at every replica at once: each vote is on disk before it leaves.
    #[default]
    Sync,
    /// All replica processes being killed at once, and the power failing at f machines at a time: the
    /// system has each vote before it leaves, and writes it to disk in the background. Where the power
    /// fails at more, the group stops.
    Async,
    /// The failure of f replicas, and no more: nothing is written, a replica that restarts recovers
    /// from the others, and a group whose replicas all stop has lost everything.
    None,
}

impl Durability {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Sync, Self::Async, Self::None];

    /// Its name in files and arguments.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Async => "async",
            Self::None => "none",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|durability| durability.name() == name)
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
