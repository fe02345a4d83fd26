//! The engine with real protocols, real keys and real clients, in memory.

mod client;
mod disk;
mod engine;
mod faults;
mod hostile_epochs;
mod keys;
mod ledger;
mod net;
mod reconfiguration;
mod recovery;
mod slow_disks;
mod tentative;
