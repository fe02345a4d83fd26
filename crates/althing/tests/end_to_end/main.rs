//! The real binary, with real clients on the loopback interface: what a user does, as a user does it.
//!
//! `mosquitto`, `mosquitto-clients` and `python3` have to be installed, and users have to be allowed
//! namespaces of their own; a test that needs one fails without it, since a test that is skipped proves
//! nothing.

mod bench;
mod changing;
mod commands;
mod deployment;
mod disk;
mod flood;
mod greenhouse;
mod hostile;
mod kv;
mod links;
mod load;
mod members;
mod mqtt;
mod own_service;
mod process;
mod reconfigurations;
mod recovery;
mod sites;
mod soak;
mod torture;
mod witnesses;
