use crate::fault::Fault;
use althing_replica::Timer;
use althing_types::Principal;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A place in the simulated network: a replica's host, or a client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    /// A host that runs a replica. A twin is a host of its own.
    Host(usize),
    /// A client, correct or not.
    Client(usize),
}

/// Something that is going to happen.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    /// A frame arrives.
    Arrival { from: Node, as_from: Principal, to: Node, frame: Arc<[u8]> },
    /// A replica's timer expires, unless it was set again (another generation) or the host was
    /// restarted (another incarnation) since.
    Timer { host: usize, incarnation: u32, timer: Timer, generation: u64 },
    /// An unfair host lets in a frame that it had held up.
    HeldUp { host: usize, as_from: Principal, frame: Arc<[u8]> },
    /// A host's disk has written what it was writing.
    Disk { host: usize, incarnation: u32 },
    /// It has written a state.
    Kept { host: usize, incarnation: u32 },
    /// A host's replica takes a new key.
    Refresh { host: usize, incarnation: u32 },
    /// A client's timer expires.
    ClientTimer { client: usize, generation: u64 },
    /// A client does its next operation.
    ClientTurn { client: usize },
    /// A fault of the plan.
    Fault(Fault),
}

/// What is going to happen, in order of time, and of scheduling where times are equal.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: BTreeMap<(u64, u64), Happening>,
    scheduled: u64,
}

impl Queue {
    pub(crate) fn schedule(&mut self, at: u64, happening: Happening) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), happening);
    }

    /// The next event, with its time.
    pub(crate) fn pop(&mut self) -> Option<(u64, Happening)> {
        self.events.pop_first().map(|((at, _), happening)| (at, happening))
    }
}
