//! The engine with real protocols, real keys and real clients, in memory.

mod certificates;
mod client;
mod deferred;
mod disk;
mod doubtful_epochs;
mod engine;
mod engine_settings;
mod faults;
mod former_lives;
mod hostile_epochs;
mod keys;
mod ledger;
mod net;
mod proactive;
mod protocols;
mod reconfiguration;
mod recovery;
mod settings;
mod slow_disks;
mod tentative;
mod witnesses;
