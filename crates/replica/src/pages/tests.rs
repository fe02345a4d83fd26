use super::*;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use althing_crypto::Hasher;
use althing_types::encode;
use proptest::prelude::*;

/// The tree's digest, computed from a plain map by the definition.
fn model_root(pages: &BTreeMap<u32, Vec<u8>>) -> Digest {
    let mut level: BTreeMap<u32, Digest> =
        pages.iter().map(|(i, bytes)| (*i, page_digest(*i, bytes))).collect();
    for (l, bits) in (1u8..).zip([4u32, 4, 8, 8, 8]) {
        let mut above: BTreeMap<u32, Children> = BTreeMap::new();
        for (index, digest) in &level {
            let slot = index & ((1 << bits) - 1);
            above.entry(index >> bits).or_default().push((slot as u8, *digest));
        }
        level = above
            .iter()
            .map(|(i, children)| (*i, node_digest(NodeId { level: l, index: *i }, children)))
            .collect();
    }
    level.get(&0).copied().unwrap_or_else(|| node_digest(NodeId::ROOT, &Vec::new()))
}

fn index() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..4, 14u32..18, 250u32..260, 65_530u32..65_540, any::<u32>()]
}

#[derive(Debug, Clone)]
enum Step {
    Set(u32, Vec<u8>),
    Remove(u32),
    Update(Vec<(u32, Option<Vec<u8>>)>),
    Refresh,
    Keep,
}

/// Changes in any order, sometimes several of a page, and sometimes more than are fetched together.
fn changes() -> impl Strategy<Value = Vec<(u32, Option<Vec<u8>>)>> {
    let page = proptest::option::weighted(0.7, proptest::collection::vec(any::<u8>(), 0..4));
    proptest::collection::vec((index(), page), 0..40)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (index(), proptest::collection::vec(any::<u8>(), 0..4)).prop_map(|(i, b)| Step::Set(i, b)),
        2 => index().prop_map(Step::Remove),
        2 => changes().prop_map(Step::Update),
        1 => Just(Step::Refresh),
        1 => Just(Step::Keep),
    ]
}

proptest! {
    #[test]
    fn incremental_roots_equal_the_definition(steps in proptest::collection::vec(step(), 0..60)) {
        let mut tree = PageTree::default();
        let mut model = BTreeMap::new();
        let mut kept = Vec::new();
        for step in steps {
            match step {
                Step::Set(i, bytes) => {
                    tree.set(i, bytes.clone());
                    model.insert(i, bytes);
                }
                Step::Remove(i) => {
                    tree.remove(i);
                    model.remove(&i);
                }
                Step::Update(changes) => {
                    tree.update(changes.iter().map(|(i, page)| (*i, page.clone().map(Page::from))));
                    for (i, page) in changes {
                        match page {
                            Some(bytes) => model.insert(i, bytes),
                            None => model.remove(&i),
                        };
                    }
                }
                Step::Refresh => prop_assert_eq!(tree.refresh(), model_root(&model)),
                Step::Keep => kept.push((tree.clone(), model.clone())),
            }
        }
        prop_assert_eq!(tree.refresh(), model_root(&model));
        // Checkpoints kept on the way are untouched by what came later.
        for (mut tree, model) in kept {
            prop_assert_eq!(tree.refresh(), model_root(&model));
            let pages: BTreeMap<_, _> = tree.pages().into_iter().map(|(i, b)| (i, b.to_vec())).collect();
            prop_assert_eq!(pages, model);
        }
    }

    #[test]
    fn any_change_of_any_page_changes_the_root(
        pages in proptest::collection::btree_map(index(), proptest::collection::vec(any::<u8>(), 1..8), 1..20),
        pick in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut tree = PageTree::default();
        for (i, bytes) in &pages {
            tree.set(*i, bytes.clone());
        }
        let before = tree.refresh();
        let (i, bytes) = pages.iter().nth(pick.index(pages.len())).unwrap();
        let mut changed = bytes.clone();
        changed[byte.index(bytes.len())] ^= 1 << bit;
        let mut other = tree.clone();
        other.set(*i, changed);
        prop_assert_ne!(other.refresh(), before);
        let mut moved = tree.clone();
        moved.remove(*i);
        prop_assert_ne!(moved.refresh(), before);
        other.set(*i, bytes.clone());
        prop_assert_eq!(other.refresh(), before);
    }
}

/// What is signed must not change by accident.
#[test]
fn a_digest_is_that_of_the_canonical_encodings() {
    let (id, children) = (NodeId { level: 2, index: 77 }, vec![(3, Digest([1; 32])), (9, Digest([2; 32]))]);
    let mut hasher = Hasher::new("althing state node");
    hasher.value(&id);
    hasher.value(&2u32);
    hasher.bytes(&encode(&children)[4..]);
    assert_eq!(node_digest(id, &children), hasher.finish());
}

#[test]
fn nodes_are_found_by_place_and_invalid_places_are_nothing() {
    let mut tree = PageTree::default();
    tree.set(0x0102_0304, [7u8].as_slice());
    tree.refresh();
    for (level, index) in [(5, 0), (4, 1), (3, 0x0102), (2, 0x0001_0203), (1, 0x0010_2030)] {
        let id = NodeId { level, index };
        let children = tree.children(id).unwrap();
        assert_eq!(tree.digest(id), Some(node_digest(id, &children)));
    }
    for (level, index) in
        [(0, 0), (6, 0), (5, 1), (4, 256), (3, 0x1_0000), (2, 0x100_0000), (1, 0x1000_0000), (1, 0)]
    {
        assert_eq!(tree.children(NodeId { level, index }), None, "{level} {index}");
    }
    tree.remove_all(NodeId { level: 3, index: 0x0102 });
    assert!(tree.pages().is_empty());
    assert_eq!(tree.refresh(), PageTree::default().refresh());
}

fn map() -> impl Strategy<Value = BTreeMap<u32, Vec<u8>>> {
    proptest::collection::btree_map(index(), proptest::collection::vec(any::<u8>(), 0..3), 0..30)
}

/// A tree of these pages, refreshed.
pub(crate) fn tree(pages: &BTreeMap<u32, Vec<u8>>) -> PageTree {
    let mut tree = PageTree::default();
    for (index, bytes) in pages {
        tree.set(*index, bytes.clone());
    }
    tree.refresh();
    tree
}

proptest! {
    #[test]
    fn what_differs_is_what_differs_page_by_page(one in map(), other in map(), is_near in any::<bool>()) {
        // Two trees of one history share nodes; two that were made apart share none.
        let mut other_pages = other;
        let mut other = tree(&other_pages);
        if is_near {
            other = tree(&one);
            let mut near = one.clone();
            for (index, bytes) in other_pages {
                other.set(index, bytes.clone());
                near.insert(index, bytes);
            }
            if let Some((first, _)) = near.pop_first() {
                other.remove(first);
            }
            other_pages = near;
            other.refresh();
        }
        let indexes: BTreeSet<u32> = one.keys().chain(other_pages.keys()).copied().collect();
        let expected: Vec<u32> =
            indexes.into_iter().filter(|index| one.get(index) != other_pages.get(index)).collect();
        prop_assert_eq!(tree(&one).differing(&other), expected);
    }

    #[test]
    fn a_state_is_split_where_it_was_joined(pages in map()) {
        let whole = tree(&pages);
        let (service, mut engine) = Pages::split(&whole);
        prop_assert!(service.iter().all(|(index, _)| index < MAX_PAGES));
        prop_assert!(engine.pages().iter().all(|(index, _)| *index >= MAX_PAGES));
        engine.refresh();
        let mut joined = service.under(&engine);
        prop_assert_eq!(joined.refresh(), model_root(&pages));
        prop_assert_eq!(joined.pages(), whole.pages());
    }
}

#[test]
fn the_pages_that_are_intact_are_those_that_have_their_digest() {
    let pages = (0..300).map(|index| (index, vec![1, 2])).collect();
    let whole = tree(&pages);
    assert_eq!(whole.intact().pages(), whole.pages());
    let corrupted = whole.with_corrupted_page(17);
    assert_eq!(corrupted.digest(NodeId::ROOT), whole.digest(NodeId::ROOT));
    assert_eq!(corrupted.intact().differing(&whole), [17]);
}

#[test]
fn a_page_that_is_put_where_an_equal_one_lies_dirties_nothing() {
    let mut tree = tree(&BTreeMap::from([(4, vec![1]), (5, vec![2])]));
    let before = tree.digest(NodeId::ROOT);
    tree.set(4, vec![1]);
    assert_eq!(tree.digest(NodeId::ROOT), before);
    tree.set(4, vec![2]);
    assert_eq!(tree.digest(NodeId::ROOT), None, "a change does");
}

#[test]
#[should_panic(expected = "pages are numbered below 2147483648, not 2147483648")]
fn an_update_reaches_no_page_of_the_engine() {
    Pages::default().update([(1, None), (MAX_PAGES, Some(Page::from(vec![1])))]);
}

#[test]
fn the_sole_page_is_page_0() {
    let sole = |indexes: &[u32]| {
        let pages: Pages = indexes.iter().map(|index| (*index, Page::from(vec![7]))).collect();
        pages.sole().map(|page| page.to_vec()).map_err(|error| error.page)
    };
    assert_eq!(sole(&[0]), Ok(vec![7]));
    assert_eq!([sole(&[]), sole(&[3]), sole(&[0, 9])], [Err(0), Err(3), Err(9)]);
}
