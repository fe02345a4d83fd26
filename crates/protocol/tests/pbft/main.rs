//! PBFT replicas in a hand-driven network: what each message, timer and restart leads to, step by
//! step. Delay, loss and malice at length are the simulator's business.

mod attacks;
mod contradictions;
mod evidence;
mod floors;
mod former_selves;
mod group;
mod handover;
mod normal_case;
mod patience;
mod recovery;
mod rejoin;
mod replicable;
mod retransmission;
mod separate;
mod succession;
mod taken_back;
mod tentative;
mod view_changes;
mod witnesses;
mod words;
