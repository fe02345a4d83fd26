//! The key-value store against a map, with a replica that is made afresh from pages now and then.
#![no_main]

use althing_fuzz::shadow::{Shadowed, install_hostile};
use althing_replica::{Context, Service};
use althing_services::{Kv, KvOperation, KvResult};
use althing_types::{ClientId, Instant, RequestNumber, Seq};
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

fn store() -> Kv {
    Kv::with_max_pages(64)
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = bytes;
    let (mut one, mut other) = (Shadowed::new(store()), Shadowed::new(store()));
    let mut model = BTreeMap::new();
    for seq in 1..200 {
        let Ok(step) = u8::deserialize(&mut input) else { return };
        let context = Context {
            client: ClientId(u64::from(step & 3)),
            number: RequestNumber(seq),
            seq: Seq(seq),
            time: Instant(seq),
            seed: [step; 32],
        };
        if step & 0x40 != 0 {
            let outcome = one.service.execute(input, &context);
            assert_eq!(outcome, other.service.execute(input, &context));
            KvResult::decode(&outcome.result).expect("a result decodes");
            return install_hostile(&mut one, store(), Vec::deserialize(&mut input).unwrap_or_default());
        }
        let Ok(operation) = KvOperation::deserialize(&mut input) else { return };
        let encoded = operation.encode();
        let outcome = one.service.execute(&encoded, &context);
        assert_eq!(outcome, other.service.execute(&encoded, &context));
        let result = KvResult::decode(&outcome.result).expect("a result decodes");
        if !matches!(result, KvResult::Refused(_)) {
            apply(&mut model, &operation);
        }
        for kv in [&one.service, &other.service] {
            assert_eq!(kv.len(), model.len());
            assert!(model.iter().all(|(key, value)| kv.value(key) == Some(value)), "it differs from a map");
        }
        if step & 0x80 != 0 {
            // Whatever was not saved is lost on the way.
            other = Shadowed::new(store());
            assert!(other.install(one.pages().clone()), "pages of a correct replica form a state");
        }
        assert!(one.pages() == other.pages(), "two replicas differ");
    }
});
