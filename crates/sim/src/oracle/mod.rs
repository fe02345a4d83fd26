//! What has to hold in every run. No oracle calls the code that it judges.
//!
//! | oracle | holds |
//! |---|---|
//! | agreement | correct replicas execute the same batch at each number, with the same effect, in order |
//! | validity | what is executed was submitted, byte for byte, by the client it is attributed to |
//! | exactly-once | no operation, and no request number of a client, takes effect twice |
//! | checkpoint | correct replicas have the same state at each number, and never find it bad |
//! | linearizability | what correct clients saw can be explained by one order of their operations |
//! | durability | what was reported to be on disk is there when a replica starts from it, and nothing else is |
//! | accusation | evidence never accuses a correct replica, and its proofs hold |
//! | memory | what a correct replica holds is bounded |
//! | throughput | in an attack on it, each correct client completes its share of what it would without |
//! | patience | without faults the first primary stays |
//! | liveness | after the faults end, operations complete and replicas catch up, in bounded time |
//! | membership | correct replicas agree on who belongs to each epoch, somebody asked for it, nothing is executed in an epoch beyond its ends, who has left takes no part any more, and a change that was granted takes effect |
//! | panic | no code panics |

mod accusation;
mod durability;
mod ledger;
mod linearizability;
mod memory;
mod succession;
mod throughput;

pub(crate) use accusation::judge;
pub(crate) use durability::Promised;
pub(crate) use ledger::{Execution, Ledger};
pub use linearizability::History;
pub(crate) use memory::{Holdings, MemoryBound};
pub(crate) use succession::{Succession, spoke_after_leaving};
pub(crate) use throughput::{hold_to_share, keep_primary};

use std::any::Any;

/// Something that should have held and did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which oracle found it.
    pub oracle: &'static str,
    /// What it found.
    pub message: String,
}

impl Violation {
    pub(crate) fn new(oracle: &'static str, message: impl Into<String>) -> Self {
        Self { oracle, message: message.into() }
    }

    /// Some code panicked.
    pub(crate) fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Self::new("panic", message.unwrap_or_else(|| "a panic without a message".to_owned()))
    }
}

/// The verdict of an oracle.
pub type Verdict = Result<(), Violation>;
