//! The Paxos core, replica by replica: what it says, writes and executes when what arrives in which order.

mod checkpoints;
mod elections;
mod group;
mod normal_case;
mod persistence;
mod recovery;
mod replicable;
mod separate;
mod succession;
