use super::*;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_replica::{Context, InstallError, Page, Pages, Service};
use althing_types::{ClientId, Instant, RequestNumber, Seq};
use proptest::prelude::*;

fn run(kv: &mut Kv, operation: &KvOperation) -> KvResult {
    run_bytes(kv, &operation.encode())
}

fn run_bytes(kv: &mut Kv, operation: &[u8]) -> KvResult {
    let context = Context {
        client: ClientId(1),
        number: RequestNumber(1),
        seq: Seq(1),
        time: Instant(1),
        seed: [0; 32],
    };
    KvResult::decode(&kv.execute(operation, &context).result).unwrap()
}

/// All pages of a store that has shown none to anybody.
fn pages(kv: &Kv) -> Pages {
    let mut pages = Pages::default();
    kv.clone().save(&mut pages);
    pages
}

/// A store made from pages.
fn installed(pages: &Pages) -> Result<Kv, InstallError> {
    let mut kv = Kv::new();
    let indexes: Vec<u32> = pages.iter().map(|(index, _)| index).collect();
    kv.install(pages, &indexes)?;
    Ok(kv)
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
        let mut saved = Pages::default();
        let mut earlier = kv.clone();
        for (step, operation) in (0..).zip(&before) {
            prop_assert_eq!(run(&mut kv, operation), model(&mut map, operation));
            prop_assert_eq!(kv.len(), map.len());
            // What the store says has changed is all that has changed, however it got there: the
            // same entries, put in in another order, lie on the same pages.
            kv.save(&mut saved);
            let mut other = Kv::new();
            for (key, value) in map.iter().rev() {
                run(&mut other, &KvOperation::Put { key: key.clone(), value: value.clone() });
            }
            prop_assert_eq!(&pages(&other), &saved);
            if step == 20 {
                earlier = kv.clone();
            }
        }
        for (key, value) in &map {
            prop_assert_eq!(kv.value(key), Some(&**value));
        }

        let mut copy = installed(&saved).unwrap();
        // One that is nearly right takes what differs.
        let mut near = Pages::default();
        if before.len() <= 20 {
            earlier = Kv::new();
        } else {
            near = installed_pages(&before[..=20]);
        }
        let changed = near.differing(&mut saved.clone());
        earlier.install(&saved, &changed).unwrap();
        for operation in &after {
            // They go on exactly like the original.
            let expected = run(&mut kv, operation);
            prop_assert_eq!(run(&mut copy, operation), expected.clone());
            prop_assert_eq!(run(&mut earlier, operation), expected);
        }
        let (mut copied, mut followed) = (saved.clone(), saved.clone());
        kv.save(&mut saved);
        copy.save(&mut copied);
        earlier.save(&mut followed);
        prop_assert_eq!(&copied, &saved);
        prop_assert_eq!(&followed, &saved);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), index in 0u32..8) {
        let mut kv = Kv::new();
        run_bytes(&mut kv, &bytes);
        let _ = kv.query(&bytes, ClientId(1));
        let _ = installed(&[(index, Page::from(bytes))].into_iter().collect());
    }
}

/// The pages of a store on which `operations` were run.
fn installed_pages(operations: &[KvOperation]) -> Pages {
    let mut kv = Kv::new();
    for operation in operations {
        run(&mut kv, operation);
    }
    pages(&kv)
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

fn put(kv: &mut Kv, key: u32, bytes: usize) -> KvResult {
    let key = key.to_be_bytes().to_vec();
    run(kv, &KvOperation::Put { key, value: alloc::vec![0; bytes] })
}

fn delete(kv: &mut Kv, key: u32) {
    let key = key.to_be_bytes().to_vec();
    assert_eq!(run(kv, &KvOperation::Delete { key }), KvResult::Deleted(true));
}

/// A page of these entries.
fn page(entries: &[(&[u8], &[u8])]) -> Page {
    althing_types::encode(&entries.to_vec()).into()
}

#[test]
fn pages_that_are_no_store_are_refused_and_change_nothing() {
    let mut kv = Kv::new();
    put(&mut kv, 1, 2);
    let before = pages(&kv);
    let mut reason = |pages: &[(u32, Page)]| {
        let pages: Pages = pages.iter().cloned().collect();
        let changed = before.clone().differing(&mut pages.clone());
        kv.install(&pages, &changed).unwrap_err().reason
    };
    let one: &[(&[u8], &[u8])] = &[(&[1], &[])];
    assert_eq!(reason(&[(1, alloc::vec![7].into())]), "it is no list of entries");
    assert_eq!(reason(&[(1, alloc::vec![1, 0, 0, 0].into())]), "it is no list of entries");
    assert_eq!(reason(&[(1, [&page(one)[..], &[0]].concat().into())]), "it is no list of entries");
    assert_eq!(reason(&[(1, page(&[(&[2], &[]), (&[1], &[])]))]), "its keys do not ascend");
    assert_eq!(reason(&[(1, page(&[(&[1], &[]), (&[1], &[])]))]), "its keys do not ascend");
    let long = page(&[(&[1; MAX_KEY_BYTES + 1], &[])]);
    assert_eq!(reason(&[(1, long)]), "it has a key or a value that is too long");
    assert_eq!(reason(&[(1, page(&[]))]), "it is empty");
    assert_eq!(reason(&[(0, page(one))]), "the store has no such page");
    let half = if super::place::key_hash(&[1]) < 1 << 29 { 2 } else { 3 };
    assert_eq!(reason(&[(half ^ 1, page(one))]), "it has a key that belongs elsewhere");
    assert_eq!(reason(&[(half, page(one))]), "it is divided for no reason");
    assert_eq!(reason(&[(1, page(one)), (half, page(one))]), "another page holds what belongs there");
    let value = alloc::vec![0; 3000];
    let crowded = page(&[(&[1], &value), (&[2], &value)]);
    assert_eq!(reason(&[(1, crowded)]), "it holds what belongs on several pages");
    assert_eq!(pages(&kv), before);
}

#[test]
fn small_entries_share_pages_and_what_is_emptied_is_gathered() {
    let mut kv = Kv::new();
    for key in 0..1000 {
        assert_eq!(put(&mut kv, key, 100), KvResult::Stored);
    }
    let mut saved = Pages::default();
    kv.save(&mut saved);
    // 112 000 bytes: halves are between half full and full.
    let full = saved.iter().count();
    assert!((28..=56).contains(&full), "{full} pages");
    for key in (0..1000).filter(|key| key % 10 != 0) {
        delete(&mut kv, key);
    }
    kv.save(&mut saved);
    let sparse = saved.iter().count();
    assert!(sparse <= 6, "{sparse} pages");
    for key in (0..1000).step_by(10) {
        delete(&mut kv, key);
    }
    kv.save(&mut saved);
    assert_eq!(saved, Pages::default());
}

#[test]
fn a_change_dirties_the_page_of_its_key() {
    let mut kv = Kv::new();
    for key in 0..10_000 {
        put(&mut kv, key, 100);
    }
    let mut before = Pages::default();
    kv.save(&mut before);
    for key in 0..100 {
        let mut after = before.clone();
        run(&mut kv, &KvOperation::Put { key: u32::to_be_bytes(key).to_vec(), value: alloc::vec![7; 100] });
        kv.save(&mut after);
        assert_eq!(before.differing(&mut after).len(), 1);
        before = after;
    }
}

#[test]
fn a_full_store_refuses_what_does_not_fit_and_keeps_what_it_has() {
    let mut kv = Kv::with_max_pages(2);
    assert_eq!(put(&mut kv, 1, 5000), KvResult::Stored);
    // Keys that lie on the other page, and the one that does not.
    let half = |key: u32| super::place::key_hash(&key.to_be_bytes()) >> 29;
    let mut others = (2..).filter(|key| half(*key) != half(1));
    let (a, b, c) = (others.next().unwrap(), others.next().unwrap(), others.next().unwrap());
    assert_eq!(put(&mut kv, a, 3000), KvResult::Stored);
    let before = pages(&kv);
    assert_eq!(put(&mut kv, b, 5000), KvResult::Refused(KvRefusal::Full));
    assert_eq!(pages(&kv), before);
    assert_eq!(put(&mut kv, b, 500), KvResult::Stored);
    assert_eq!(put(&mut kv, c, 2000), KvResult::Refused(KvRefusal::Full));
    assert_eq!(put(&mut kv, b, 2000), KvResult::Refused(KvRefusal::Full));
    delete(&mut kv, b);
    assert_eq!(pages(&kv), before);
    let indexes: Vec<u32> = before.iter().map(|(index, _)| index).collect();
    let error = Kv::with_max_pages(1).install(&before, &indexes).unwrap_err();
    assert_eq!(error.reason, "the store has no room for it");
}

/// Keys of which two each have equal hashes, as somebody finds them who looks for them.
fn colliding_keys() -> Vec<Vec<u8>> {
    let (mut seen, mut keys) = (BTreeMap::new(), Vec::new());
    for key in (0u32..).map(|key| key.to_be_bytes().to_vec()) {
        if let Some(other) = seen.insert(super::place::key_hash(&key), key.clone()) {
            keys.extend([other, key]);
        }
        if keys.len() == 6 {
            return keys;
        }
    }
    unreachable!("there are fewer hashes than keys");
}

/// Where hashes have no more bits, entries share a page whatever it takes, and what does not fit on it
/// is refused; everything else is as everywhere.
#[test]
fn keys_with_equal_hashes_share_a_page_and_their_pages_follow_from_them() {
    let keys = colliding_keys();
    let lengths = [0, 1, 1500, 2040, 2041, 2042, 3000, 5000, 30_000, MAX_VALUE_BYTES];
    let mut dice = 7u64;
    let mut roll = |sides: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % sides
    };
    let (mut kv, mut map, mut saved) = (Kv::new(), BTreeMap::new(), Pages::default());
    let mut refused = 0;
    for _ in 0..3000 {
        let key = keys[roll(keys.len())].clone();
        if roll(4) == 0 {
            let had = map.remove(&key).is_some();
            assert_eq!(run(&mut kv, &KvOperation::Delete { key }), KvResult::Deleted(had));
        } else {
            let value = alloc::vec![1; lengths[roll(lengths.len())]];
            match run(&mut kv, &KvOperation::Put { key: key.clone(), value: value.clone() }) {
                KvResult::Stored => drop(map.insert(key, value)),
                other => {
                    assert_eq!(other, KvResult::Refused(KvRefusal::Full));
                    refused += 1;
                }
            }
        }
        kv.save(&mut saved);
        let mut other = Kv::new();
        for (key, value) in map.iter().rev() {
            run(&mut other, &KvOperation::Put { key: key.clone(), value: value.clone() });
        }
        assert_eq!(pages(&other), saved);
        let installed = installed(&saved).unwrap();
        assert!(map.iter().all(|(key, value)| installed.value(key) == Some(&**value)));
        assert_eq!(installed.len(), map.len());
    }
    assert!(refused > 20, "{refused} are refused for want of room");
}
