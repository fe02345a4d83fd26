//! spec
mod application;
mod problem;
pub use application::{Application, BrokerAddress, ComponentSpec, End, Implementation, Replication, Wire};
