#![no_std]
//! The `Service` contract and the engine around a replication protocol.

extern crate alloc;

mod service;

pub use service::{Context, Emission, InstallError, MAX_PAGE_BYTES, MAX_PAGES, Outcome, Service};
