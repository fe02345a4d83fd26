use super::*;
use alloc::vec;
use proptest::prelude::*;

const SMALL: Sizes = Sizes { segment: 300, short: 100, slack: 50 };

/// A disk: the segments by number.
type Disk = BTreeMap<u64, Vec<Entry>>;

fn checkpoint(pages: &BTreeMap<u32, Vec<u8>>) -> Checkpoint {
    let mut tree = PageTree::default();
    for (index, page) in pages {
        tree.set(*index, page.clone());
    }
    Checkpoint { state: tree.refresh(), tree, is_hollow: false }
}

fn write(disk: &mut Disk, contents: &[SegmentContent]) {
    for content in contents {
        let entries = content.entries().cloned().collect();
        assert!(disk.insert(content.segment().number, entries).is_none(), "a number is used once");
    }
}

/// What a start finds.
fn read(disk: &Disk, kept: &KeptState) -> KeptState {
    let mut found = KeptState::named(kept.seq(), kept.state());
    found.sizes = kept.sizes;
    for segment in kept.segments() {
        found.read(segment);
        disk[&segment.number].iter().cloned().for_each(|entry| found.take(entry));
    }
    found
}

fn bytes(kept: &KeptState) -> u64 {
    kept.segments().map(|segment| segment.len).sum()
}

fn step() -> impl Strategy<Value = Vec<(u32, Option<u8>)>> {
    let page = (0u32..40, proptest::option::weighted(0.8, any::<u8>()));
    proptest::collection::vec(page, 1..12)
}

proptest! {
    /// Whatever changes, the segments that are named give the state; after a restart as well.
    #[test]
    fn what_is_named_is_the_state(
        steps in proptest::collection::vec((step(), any::<bool>()), 1..40),
    ) {
        let (mut kept, mut disk) = (KeptState { sizes: SMALL, ..KeptState::default() }, Disk::new());
        let mut pages = BTreeMap::new();
        for (seq, (changes, restarts)) in (1..).zip(steps) {
            for (index, page) in changes {
                match page {
                    Some(byte) => drop(pages.insert(index, vec![byte; usize::from(byte % 60)])),
                    None => drop(pages.remove(&index)),
                }
            }
            let target = checkpoint(&pages);
            let before = kept.clone();
            let (contents, dropped) = kept.advance(Seq(seq), &target);
            write(&mut disk, &contents);
            // A crash right now: what was named before is there still.
            prop_assert_eq!(read(&disk, &before).checkpoint().state, checkpoint_state(&before));
            for number in dropped {
                prop_assert!(disk.remove(&number).is_some());
            }
            prop_assert_eq!(disk.len(), kept.segments.len(), "nothing is left behind");
            let mut found = read(&disk, &kept);
            prop_assert_eq!(found.checkpoint().state, target.state);
            prop_assert_eq!((found.live, &found.located), (kept.live, &kept.located));
            if restarts {
                kept = found;
            }
        }
    }
}

fn checkpoint_state(kept: &KeptState) -> Digest {
    kept.tree.clone().refresh()
}

/// `pages` pages of 50 bytes of which `changed` change at each checkpoint, as `pick` says.
fn longest(pages: u32, changed: u32, pick: impl Fn(u64, u32) -> u32) -> (f64, f64) {
    let mut kept = KeptState { sizes: SMALL, ..KeptState::default() };
    let mut state = checkpoint(&(0..pages).map(|index| (index, vec![0; 50])).collect());
    kept.advance(Seq(1), &state);
    let (live, mut longest, mut most) = (kept.live as f64, 0f64, 0f64);
    for round in 2u64..400 {
        for i in 0..changed {
            let page = [&round.to_le_bytes()[..], &[0; 42]].concat();
            state.tree.set(pick(round, i) % pages, page);
        }
        state.state = state.tree.refresh();
        let (contents, _) = kept.advance(Seq(round), &state);
        let written = contents.iter().map(|content| content.segment().len).sum::<u64>();
        longest = longest.max(bytes(&kept) as f64 / live);
        most = most.max(written as f64 / (f64::from(changed) * 58.0));
    }
    (longest, most)
}

#[test]
fn segments_are_never_much_longer_than_twice_the_state_nor_a_checkpoint_than_what_changed() {
    let scattered = |round: u64, i: u32| (round as u32).wrapping_mul(2_654_435_761).wrapping_add(i * 97) >> 3;
    let hot = |round: u64, i: u32| (round as u32 + i) % 40;
    let in_turn = |round: u64, i: u32| round as u32 * 20 + i;
    for (name, pick) in
        [("scattered", &scattered as &dyn Fn(u64, u32) -> u32), ("hot", &hot), ("in turn", &in_turn)]
    {
        let (longest, most) = longest(1000, 20, pick);
        assert!(longest < 2.1, "{name}: {longest} times the state");
        assert!(longest > 1.4, "{name}: {longest}: nothing would ever have been dropped late");
        assert!(most < 4.5, "{name}: a checkpoint wrote {most} times what had changed");
    }
}

#[test]
fn small_changes_leave_few_segments() {
    let mut kept = KeptState::default();
    let mut state = checkpoint(&(0..2000).map(|index| (index, vec![1; 4000])).collect());
    kept.advance(Seq(1), &state);
    // Each is twice as long as the next, up to 1 MiB; and of those no more than twice the state holds.
    let most = 8 + 2 * 8;
    for seq in 2..500 {
        state.tree.set(seq as u32, vec![2; 4000]);
        state.state = state.tree.refresh();
        kept.advance(Seq(seq), &state);
        assert!(kept.segments.len() <= most, "{} segments", kept.segments.len());
    }
}
