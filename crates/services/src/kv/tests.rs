use super::*;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_replica::{Context, MAX_PAGE_BYTES, Service};
use althing_types::{ClientId, Instant, Seq};
use proptest::prelude::*;

fn run(kv: &mut Kv, operation: &KvOperation) -> KvResult {
    run_bytes(kv, &operation.encode())
}

fn run_bytes(kv: &mut Kv, operation: &[u8]) -> KvResult {
    let context = Context { client: ClientId(1), seq: Seq(1), time: Instant(1), seed: [0; 32] };
    KvResult::decode(&kv.execute(operation, &context).result).unwrap()
}

fn pages(kv: &Kv) -> Vec<Vec<u8>> {
    (0..kv.page_count()).map(|index| kv.page(index)).collect()
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (0u8..30).prop_map(|k| alloc::vec![k]),
        1 => (0u8..3).prop_map(|k| alloc::vec![k; MAX_KEY_BYTES]),
        1 => Just(alloc::vec![0; MAX_KEY_BYTES + 1]),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let lengths = prop_oneof![
        6 => 0usize..40,
        3 => 500usize..5000,
        1 => Just(MAX_VALUE_BYTES),
        1 => Just(MAX_VALUE_BYTES + 1),
    ];
    (lengths, 0u8..3).prop_map(|(n, b)| alloc::vec![b; n])
}

fn operation() -> impl Strategy<Value = KvOperation> {
    prop_oneof![
        1 => key().prop_map(|key| KvOperation::Get { key }),
        5 => (key(), value()).prop_map(|(key, value)| KvOperation::Put { key, value }),
        2 => (key(), proptest::option::of(value()), proptest::option::of(value()))
            .prop_map(|(key, expected, new)| KvOperation::Cas { key, expected, new }),
        3 => key().prop_map(|key| KvOperation::Delete { key }),
    ]
}

/// What each operation has to do, on a plain map.
fn model(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, operation: &KvOperation) -> KvResult {
    let too_long = |key: &Vec<u8>, values: &[Option<&Vec<u8>>]| {
        if key.len() > MAX_KEY_BYTES {
            Some(KvRefusal::KeyTooLong)
        } else if values.iter().flatten().any(|v| v.len() > MAX_VALUE_BYTES) {
            Some(KvRefusal::ValueTooLong)
        } else {
            None
        }
    };
    match operation {
        KvOperation::Get { key } => {
            too_long(key, &[]).map_or_else(|| KvResult::Value(map.get(key).cloned()), KvResult::Refused)
        }
        KvOperation::Put { key, value } => {
            if let Some(refusal) = too_long(key, &[Some(value)]) {
                return KvResult::Refused(refusal);
            }
            map.insert(key.clone(), value.clone());
            KvResult::Stored
        }
        KvOperation::Delete { key } => {
            too_long(key, &[]).map_or_else(|| KvResult::Deleted(map.remove(key).is_some()), KvResult::Refused)
        }
        KvOperation::Cas { key, expected, new } => {
            if let Some(refusal) = too_long(key, &[expected.as_ref(), new.as_ref()]) {
                return KvResult::Refused(refusal);
            }
            if map.get(key) != expected.as_ref() {
                return KvResult::Mismatch { actual: map.get(key).cloned() };
            }
            match new {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
            KvResult::Stored
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_like_a_map_and_its_pages_are_its_state(
        before in proptest::collection::vec(operation(), 0..80),
        after in proptest::collection::vec(operation(), 0..40),
    ) {
        let (mut kv, mut map) = (Kv::new(), BTreeMap::new());
        let mut shown: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        for operation in &before {
            prop_assert_eq!(run(&mut kv, operation), model(&mut map, operation));
            // What the store says has changed is all that has changed.
            let dirty = kv.take_dirty();
            prop_assert!(dirty.len() <= 2);
            shown.extend(dirty.into_iter().map(|index| (index, kv.page(index))));
            shown.retain(|index, _| *index < kv.page_count());
            prop_assert_eq!(shown.values().cloned().collect::<Vec<_>>(), pages(&kv));
        }
        prop_assert!(pages(&kv).iter().all(|page| page.len() <= MAX_PAGE_BYTES));
        prop_assert_eq!(kv.len(), map.len());
        for (key, value) in &map {
            prop_assert_eq!(kv.value(key), Some(&**value));
        }

        let mut copy = Kv::new();
        let copied = pages(&kv);
        copy.install(&copied.iter().map(|page| &**page).collect::<Vec<_>>()).unwrap();
        prop_assert_eq!(pages(&copy), copied);
        prop_assert_eq!(copy.take_dirty().len(), copy.page_count() as usize);
        // It goes on exactly like the original.
        for operation in &after {
            prop_assert_eq!(run(&mut copy, operation), run(&mut kv, operation));
            prop_assert_eq!(pages(&copy), pages(&kv));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut kv = Kv::new();
        run_bytes(&mut kv, &bytes);
        let _ = kv.query(&bytes, ClientId(1));
        let _ = kv.install(&[&bytes]);
    }
}

#[test]
fn only_reads_are_answered_as_queries() {
    let mut kv = Kv::new();
    let (key, value) = (alloc::vec![1], alloc::vec![2]);
    run(&mut kv, &KvOperation::Put { key: key.clone(), value: value.clone() });
    let query = |operation: KvOperation| {
        kv.query(&operation.encode(), ClientId(1)).map(|bytes| KvResult::decode(&bytes).unwrap())
    };
    assert_eq!(query(KvOperation::Get { key: key.clone() }), Some(KvResult::Value(Some(value))));
    assert_eq!(query(KvOperation::Delete { key }), None);
    assert!(kv.query(&[99], ClientId(1)).is_some(), "a malformed one needs no ordering");
}

#[test]
fn pages_that_are_no_store_are_refused_and_change_nothing() {
    let mut kv = Kv::new();
    run(&mut kv, &KvOperation::Put { key: alloc::vec![1], value: alloc::vec![2] });
    let before = pages(&kv);
    let entries = |list: &[(&[u8], &[u8])]| althing_types::encode(&list.to_vec());
    let reason = |kv: &mut Kv, pages: &[Vec<u8>]| {
        let pages: Vec<&[u8]> = pages.iter().map(|page| &**page).collect();
        kv.install(&pages).unwrap_err().reason
    };
    assert_eq!(reason(&mut kv, &[alloc::vec![7]]), "it is no list of entries");
    let unsorted = entries(&[(&[2], &[]), (&[1], &[])]);
    assert_eq!(reason(&mut kv, &[unsorted]), "its keys do not ascend");
    let one = entries(&[(&[1], &[])]);
    assert_eq!(reason(&mut kv, &[one.clone(), one.clone()]), "it has a key that another page has too");
    let long = entries(&[(&[1; MAX_KEY_BYTES + 1], &[])]);
    assert_eq!(reason(&mut kv, &[long]), "it has a key or a value that is too long");
    assert_eq!(reason(&mut kv, &[one, entries(&[])]), "the last page is empty");
    assert_eq!(pages(&kv), before);
}

#[test]
fn small_entries_share_pages_and_emptied_ones_are_used_again() {
    let mut kv = Kv::new();
    let put = |kv: &mut Kv, k: u32| {
        let operation = KvOperation::Put { key: k.to_be_bytes().to_vec(), value: alloc::vec![0; 100] };
        assert_eq!(run(kv, &operation), KvResult::Stored);
    };
    (0..1000).for_each(|k| put(&mut kv, k));
    let full = kv.page_count();
    assert!(full < 1000 * 112 / 4096 + 2, "{full} pages");
    (0..500).for_each(|k| {
        run(&mut kv, &KvOperation::Delete { key: (k as u32).to_be_bytes().to_vec() });
    });
    (2000..2500).for_each(|k| put(&mut kv, k));
    assert!(kv.page_count() <= full);
    for k in (500..1000).chain(2000..2500) {
        run(&mut kv, &KvOperation::Delete { key: (k as u32).to_be_bytes().to_vec() });
    }
    assert_eq!(kv.page_count(), 0);
}

#[test]
fn a_full_store_refuses_what_does_not_fit_and_keeps_what_it_has() {
    let mut kv = Kv::with_max_pages(2);
    let put = |kv: &mut Kv, key: u8, bytes: usize| {
        run(kv, &KvOperation::Put { key: alloc::vec![key], value: alloc::vec![0; bytes] })
    };
    assert_eq!(put(&mut kv, 1, 5000), KvResult::Stored);
    assert_eq!(put(&mut kv, 2, 3000), KvResult::Stored);
    let before = pages(&kv);
    assert_eq!(put(&mut kv, 3, 5000), KvResult::Refused(KvRefusal::Full));
    assert_eq!(put(&mut kv, 3, 500), KvResult::Stored);
    assert_eq!(put(&mut kv, 3, 2000), KvResult::Refused(KvRefusal::Full));
    assert_eq!(run(&mut kv, &KvOperation::Delete { key: alloc::vec![3] }), KvResult::Deleted(true));
    assert_eq!(pages(&kv), before);
    let mut small = Kv::with_max_pages(1);
    let pages: Vec<&[u8]> = before.iter().map(|page| &**page).collect();
    assert_eq!(small.install(&pages).unwrap_err().page, 1);
}
