//! The key-value store against a map, with a replica that is made afresh from pages now and then.
#![no_main]

use althing_fuzz::shadow::{Shadow, install_hostile};
use althing_replica::{Context, Service};
use althing_services::{Kv, KvOperation, KvResult};
use althing_types::{ClientId, Instant, Seq};
use borsh::BorshDeserialize;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

/// What the store should have become, had the operation not been refused.
fn apply(model: &mut BTreeMap<Vec<u8>, Vec<u8>>, operation: &KvOperation) {
    match operation.clone() {
        KvOperation::Get { .. } => {}
        KvOperation::Put { key, value } => drop(model.insert(key, value)),
        KvOperation::Delete { key } => drop(model.remove(&key)),
        KvOperation::Cas { key, expected, new } => {
            if model.get(&key) == expected.as_ref() {
                match new {
                    Some(value) => drop(model.insert(key, value)),
                    None => drop(model.remove(&key)),
                }
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = bytes;
    let (mut one, mut other) = (Kv::with_max_pages(64), Kv::with_max_pages(64));
    let (mut model, mut shadow) = (BTreeMap::new(), Shadow::default());
    for seq in 1..200 {
        let Ok(step) = u8::deserialize(&mut input) else { return };
        let context = Context {
            client: ClientId(u64::from(step & 3)),
            seq: Seq(seq),
            time: Instant(seq),
            seed: [step; 32],
        };
        if step & 0x40 != 0 {
            let outcome = one.execute(input, &context);
            assert_eq!(outcome, other.execute(input, &context));
            KvResult::decode(&outcome.result).expect("a result decodes");
            return install_hostile(&mut one, &Vec::deserialize(&mut input).unwrap_or_default());
        }
        let Ok(operation) = KvOperation::deserialize(&mut input) else { return };
        let encoded = operation.encode();
        let outcome = one.execute(&encoded, &context);
        assert_eq!(outcome, other.execute(&encoded, &context));
        let result = KvResult::decode(&outcome.result).expect("a result decodes");
        if !matches!(result, KvResult::Refused(_)) {
            apply(&mut model, &operation);
        }
        assert_eq!(one.len(), model.len());
        assert!(model.iter().all(|(key, value)| one.value(key) == Some(value)), "it differs from a map");
        shadow.follow(&mut one);
        assert!(shadow.is_of(&other), "two replicas differ");
        if step & 0x80 != 0 {
            other = Kv::with_max_pages(64);
            shadow.install_into(&mut other);
        }
    }
});
