//! A key-value store.
//!
//! | operation | result |
//! |---|---|
//! | `Get { key }` | `Value(Option<..>)`; also as a query |
//! | `Put { key, value }` | `Stored` |
//! | `Cas { key, expected, new }` | `Stored`, or `Mismatch { actual }` and no change |
//! | `Delete { key }` | `Deleted(whether there was one)` |
//!
//! Operations and results travel in the canonical encoding of [`KvOperation`] and [`KvResult`].

mod bucket;
mod buckets;
mod operation;
mod place;
mod store;

pub use operation::{KvOperation, KvRefusal, KvResult, MAX_KEY_BYTES, MAX_VALUE_BYTES};
pub use store::Kv;

#[cfg(test)]
mod tests;
