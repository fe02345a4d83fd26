#![no_std]
//! The services shipped with Althing: a key-value store, and one that does nothing, to measure what
//! replication costs.

extern crate alloc;

mod kv;
mod null;

pub use kv::{Kv, KvOperation, KvRefusal, KvResult, MAX_KEY_BYTES, MAX_VALUE_BYTES};
pub use null::Null;
