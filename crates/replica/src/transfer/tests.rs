use super::missing::Missing;
use super::*;
use crate::checkpoints::Checkpoints;
use crate::pages::PageTree;
use crate::pages::tests::tree;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use althing_types::{Instant, Quorums, ReplicaId};
use core::time::Duration;
use proptest::prelude::*;

const ME: ReplicaId = ReplicaId(0);
const TIMEOUT: Duration = Duration::from_millis(100);

fn checkpoints(seq: Seq, tree: &PageTree) -> (Digest, Checkpoints) {
    let mut kept = Checkpoints::default();
    let state = tree.clone().refresh();
    kept.insert(seq, state, tree.clone());
    (state, kept)
}

fn transfer(target: (Seq, Digest), base: &PageTree) -> Transfer {
    Transfer::new((ME, Quorums::byzantine(4, 1).unwrap()), TIMEOUT, target, base.clone(), 7)
}

/// How a replica answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Honest,
    Silent,
    Without,
    /// Falsifies what it sends; the byte picks how.
    Liar(u8),
}

fn falsify(parts: Parts, how: u8) -> Parts {
    match (parts, how % 4) {
        (_, 0) => Parts::Pages(vec![]),
        (_, 1) => Parts::Nodes(vec![vec![(0, Digest::NULL)]]),
        (Parts::Pages(mut pages), 2) => {
            pages[0].push(0);
            Parts::Pages(pages)
        }
        (Parts::Pages(mut pages), _) => {
            pages.push(vec![1]);
            Parts::Pages(pages)
        }
        (Parts::Nodes(mut nodes), 2) => {
            nodes.last_mut().expect("something was asked for").pop();
            Parts::Nodes(nodes)
        }
        (Parts::Nodes(mut nodes), _) => {
            nodes.push(vec![]);
            Parts::Nodes(nodes)
        }
        (Parts::Unavailable, _) => Parts::Nodes(vec![]),
    }
}

/// What a run of a transfer came to.
struct Run {
    tree: PageTree,
    accused: Vec<ReplicaId>,
    /// What each replica was asked.
    questions: Vec<(ReplicaId, Want)>,
    /// When it was over.
    end: Instant,
}

/// How long an answer takes.
const ROUND_TRIP: Duration = Duration::from_millis(1);

/// Runs `transfer` to its end against replicas 1, 2 and 3 that have `kept`, in simulated time.
fn run(transfer: &mut Transfer, kept: &Checkpoints, kinds: [Kind; 3]) -> Run {
    let mut supplier = Supplier::new(1 << 40);
    let (mut accused, mut questions) = (Vec::new(), Vec::new());
    let (mut now, mut timer) = (Instant(1), None);
    let mut underway: VecDeque<(Instant, ReplicaId, u64, Parts)> = VecDeque::new();
    for _ in 0..10_000 {
        match transfer.step() {
            Step::Complete(tree) => return Run { tree, accused, questions, end: now },
            Step::Wait(after) => {
                timer = after.map(|after| now + after).or(timer);
                let arrival = underway.front().map(|(at, ..)| *at);
                now = arrival.into_iter().chain(timer).min().expect("something is waited for");
                if arrival != Some(now) {
                    timer = None;
                    transfer.on_timer();
                    continue;
                }
                let (_, from, ticket, parts) = underway.pop_front().expect("it has just arrived");
                let stale = [(from, ticket + 1000), (ME, ticket), (ReplicaId(1 + from.0 % 3), ticket)];
                for (from, ticket) in stale {
                    assert_eq!(transfer.on_fetched(from, ticket, parts.clone()), Received::Stale);
                }
                if let Received::Wrong(seq) = transfer.on_fetched(from, ticket, parts) {
                    assert_eq!(seq, transfer.target().0);
                    accused.push(from);
                }
            }
            Step::Ask { to, message } => {
                assert_ne!(to, ME);
                let EngineMessage::Fetch { seq, state, ticket, want } = message else {
                    panic!("a transfer only asks");
                };
                questions.push((to, want.clone()));
                let honest = supplier.answer(now, ME, (seq, state), &want, kept);
                let parts = match kinds[usize::from(to.0) - 1] {
                    Kind::Silent => continue,
                    Kind::Honest => honest,
                    Kind::Without => Parts::Unavailable,
                    Kind::Liar(how) => falsify(honest, how),
                };
                underway.push_back((now + ROUND_TRIP, to, ticket, parts));
            }
        }
    }
    panic!("the transfer does not end");
}

fn pages() -> impl Strategy<Value = BTreeMap<u32, Vec<u8>>> {
    let index = prop_oneof![6 => 0u32..600, 1 => 0x8000_0000u32..0x8000_0010, 1 => any::<u32>()];
    let bytes = proptest::collection::vec(any::<u8>(), 0..6);
    proptest::collection::btree_map(index, bytes, 1..80)
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Honest), Just(Kind::Silent), Just(Kind::Without), any::<u8>().prop_map(Kind::Liar)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn ends_at_the_target_whatever_the_others_do(
        own in pages(), theirs in pages(), kinds in (kind(), kind()), honest in 0usize..3,
    ) {
        let mut all = vec![kinds.0, kinds.1];
        all.insert(honest, Kind::Honest);
        let kinds = [all[0], all[1], all[2]];
        let target = tree(&theirs);
        let (state, kept) = checkpoints(Seq(8), &target);
        let run = run(&mut transfer((Seq(8), state), &tree(&own)), &kept, kinds);
        prop_assert_eq!(run.tree.pages(), target.pages());
        prop_assert_eq!(run.tree.clone().refresh(), state);
        for accused in run.accused {
            prop_assert!(matches!(kinds[usize::from(accused.0) - 1], Kind::Liar(_)));
        }
    }
}

fn numbered(count: u32, bytes: usize) -> BTreeMap<u32, Vec<u8>> {
    (0..count).map(|index| (index, vec![index as u8; bytes])).collect()
}

const HONEST: [Kind; 3] = [Kind::Honest; 3];

#[test]
fn only_what_differs_is_fetched() {
    let own = numbered(2000, 100);
    let mut theirs = own.clone();
    theirs.insert(77, vec![1; 500]);
    theirs.remove(&1999);
    let (state, kept) = checkpoints(Seq(8), &tree(&theirs));
    let mut transfer = transfer((Seq(8), state), &tree(&own));
    let run = run(&mut transfer, &kept, HONEST);
    assert_eq!(run.tree.pages().len(), 1999);
    // One page, two paths of nodes of at most 256 children, and what comes along from each of the others.
    let most = 500 + 2 * (2 * 16 + 3 * 256) * 33 + 3 * MAX_UNASKED_BYTES as u64;
    assert!(transfer.fetched_bytes() <= most, "{}", transfer.fetched_bytes());
    assert!(transfer.fetched_bytes() < 2000 * 100);
}

#[test]
fn what_is_there_already_needs_no_questions() {
    let own = tree(&numbered(300, 10));
    let (state, kept) = checkpoints(Seq(8), &own);
    assert_eq!(run(&mut transfer((Seq(8), state), &own), &kept, [Kind::Silent; 3]).questions, []);
}

#[test]
fn a_newer_target_keeps_what_is_still_part_of_it() {
    let first = numbered(1000, 1000);
    let mut second = first.clone();
    second.insert(3, vec![9; 1000]);
    let ((state, kept), empty) = (checkpoints(Seq(8), &tree(&first)), PageTree::default());
    let mut transfer = transfer((Seq(8), state), &empty);
    let mut supplier = Supplier::new(1 << 40);
    let mut last = None;
    while transfer.pages_held() < 700 {
        let Step::Ask { to, message: EngineMessage::Fetch { seq, state, ticket, want } } = transfer.step()
        else {
            // All three are under way; the last answer comes.
            let (to, ticket, parts) = last.take().expect("somebody was asked");
            transfer.on_fetched(to, ticket, parts);
            continue;
        };
        let parts = supplier.answer(Instant(1), ME, (seq, state), &want, &kept);
        if let Some((to, ticket, parts)) = last.replace((to, ticket, parts)) {
            transfer.on_fetched(to, ticket, parts);
        }
    }
    let before = transfer.fetched_bytes();
    let (state, kept) = checkpoints(Seq(16), &tree(&second));
    transfer.retarget(Seq(16), state);
    // What was on its way when the target moved is taken, too.
    let (to, ticket, parts) = last.take().expect("one answer is on its way");
    assert_eq!(transfer.on_fetched(to, ticket, parts), Received::Progress);
    let run = run(&mut transfer, &kept, HONEST);
    assert_eq!(run.tree.pages().len(), 1000);
    let since = transfer.fetched_bytes() - before;
    assert!(since <= 301 * 1000 + 8 * 256 * 33, "{since}");
}

#[test]
fn each_liar_wastes_one_answer() {
    let target = tree(&numbered(3000, 100));
    let (state, kept) = checkpoints(Seq(8), &target);
    let kinds = [Kind::Liar(2), Kind::Liar(3), Kind::Honest];
    let run = run(&mut transfer((Seq(8), state), &PageTree::default()), &kept, kinds);
    let mut accused = run.accused;
    accused.sort_unstable();
    assert_eq!(accused, [ReplicaId(1), ReplicaId(2)]);
}

#[test]
fn all_others_give_a_share_and_hardly_anything_comes_twice() {
    let target = tree(&numbered(3000, 1000));
    let (state, kept) = checkpoints(Seq(8), &target);
    let mut transfer = transfer((Seq(8), state), &PageTree::default());
    let run = run(&mut transfer, &kept, HONEST);
    let mut given = BTreeMap::<ReplicaId, usize>::new();
    for (to, want) in &run.questions {
        if let Want::Pages(pages) = want {
            *given.entry(*to).or_default() += pages.len();
        }
    }
    // Who is done first asks for the last shares of the others, too: an answer each.
    let twice = given.values().sum::<usize>() - 3000;
    assert!(twice <= 2 * MAX_PAGES_PER_FETCH, "{given:?}");
    assert!(given.len() == 3 && given.values().all(|pages| *pages >= 700), "{given:?}");
}

#[test]
fn one_that_is_mute_holds_up_nothing() {
    let target = tree(&numbered(10_000, 100));
    let (state, kept) = checkpoints(Seq(8), &target);
    let time = |kinds| run(&mut transfer((Seq(8), state), &PageTree::default()), &kept, kinds).end;
    let held_up = time([Kind::Silent, Kind::Honest, Kind::Honest]).since(time(HONEST));
    assert!(held_up <= ROUND_TRIP * 20, "{held_up:?}");
}

#[test]
fn one_asks_again_after_a_rest_that_doubles() {
    let (state, _) = checkpoints(Seq(8), &tree(&numbered(10, 10)));
    let mut transfer = transfer((Seq(8), state), &PageTree::default());
    for expected in [TIMEOUT, TIMEOUT * 2, TIMEOUT * 4] {
        let (mut asked, mut rest) = (0, Duration::ZERO);
        loop {
            match transfer.step() {
                Step::Ask { to, message: EngineMessage::Fetch { ticket, .. } } if rest == Duration::ZERO => {
                    asked += 1;
                    let received = transfer.on_fetched(to, ticket, Parts::Unavailable);
                    assert_eq!(received, Received::Unavailable);
                }
                Step::Wait(Some(after)) => {
                    assert!(matches!(transfer.step(), Step::Wait(None)), "it is set once");
                    transfer.on_timer();
                    rest += after;
                }
                other => panic!("unexpected {other:?}"),
            }
            if rest > expected {
                break;
            }
        }
        assert_eq!((rest, asked), (expected + TIMEOUT / 4, 3));
    }
}

#[test]
fn a_supplier_serves_each_replica_at_its_rate_and_nothing_it_does_not_have() {
    let target = tree(&numbered(64, MAX_PAGE_BYTES));
    let (state, kept) = checkpoints(Seq(8), &target);
    let mut supplier = Supplier::new(1 << 20);
    let want = Want::Pages((0..64).collect());
    let mut ask = |now: u64, from: u16, target: (Seq, Digest), want: &Want| match supplier.answer(
        Instant(now),
        ReplicaId(from),
        target,
        want,
        &kept,
    ) {
        Parts::Pages(pages) => pages.len(),
        Parts::Nodes(nodes) => nodes.len(),
        Parts::Unavailable => 0,
    };
    let at = (Seq(8), state);
    assert_eq!(ask(0, 1, at, &want), 16, "as many as fit into an answer");
    assert_eq!(ask(0, 1, at, &want), 16, "the burst");
    assert_eq!(ask(0, 1, at, &want), 0, "over the rate");
    assert_eq!(ask(0, 2, at, &want), 16, "another replica has its own");
    assert_eq!(ask(1_000_000_000, 1, at, &want), 16);
    assert_eq!(ask(0, 3, (Seq(9), state), &want), 0);
    assert_eq!(ask(0, 3, (Seq(8), Digest::NULL), &want), 0);
    assert_eq!(ask(0, 3, at, &Want::Pages(vec![0, 64])), 0, "no such page");
    assert_eq!(ask(0, 3, at, &Want::Pages(vec![0; MAX_PAGES_PER_FETCH + 1])), 0);
    assert_eq!(ask(0, 3, at, &Want::Nodes(vec![NodeId::ROOT; MAX_NODES_PER_FETCH + 1])), 0);
    // The way down to 64 pages: the root, three nodes below each other, and four side by side.
    assert_eq!(ask(0, 4, at, &Want::Nodes(vec![NodeId::ROOT])), 8);
}

#[test]
fn questions_that_can_not_be_answered_count_as_served() {
    let target = tree(&numbered(16, MAX_PAGE_BYTES));
    let (state, kept) = checkpoints(Seq(8), &target);
    let mut supplier = Supplier::new(1 << 20);
    let mut ask = |want| supplier.answer(Instant(0), ReplicaId(1), (Seq(8), state), &want, &kept);
    // Fifteen pages are copied for nothing each time.
    let (bad, good) = (Want::Pages((0..15).chain([99]).collect()), Want::Pages(vec![0]));
    assert_eq!(ask(bad), Parts::Unavailable);
    assert!(matches!(ask(good.clone()), Parts::Pages(_)), "the burst");
    assert_eq!(ask(good), Parts::Unavailable);
}

/// Fetches all of a state of 2000 pages while the group goes on: every `period` there is a newer stable
/// checkpoint, in which a page in a hundred has changed, and nobody keeps the one before. Replica 1
/// answers after `late`, the others after `round_trip`. Gives the number of checkpoints it took, if it
/// took less than 200.
fn behind_a_group_that_goes_on(period: Duration, round_trip: Duration, late: Duration) -> Option<u64> {
    let mut all = numbered(2000, 100);
    let (mut state, mut kept) = checkpoints(Seq(1), &tree(&all));
    let mut transfer = transfer((Seq(1), state), &PageTree::default());
    let mut supplier = Supplier::new(1 << 40);
    let (mut now, mut timer, mut moves) = (Instant(1), None, Instant(1) + period);
    let mut underway: Vec<(Instant, ReplicaId, u64, Parts)> = Vec::new();
    let mut seq = 1;
    while seq < 200 {
        match transfer.step() {
            Step::Complete(mut tree) => {
                assert_eq!(tree.refresh(), state);
                return Some(seq);
            }
            Step::Ask { to, message: EngineMessage::Fetch { seq, state, ticket, want } } => {
                let after = if to == ReplicaId(1) { late } else { round_trip };
                let parts = supplier.answer(now, ME, (seq, state), &want, &kept);
                underway.push((now + after, to, ticket, parts));
            }
            Step::Ask { .. } => panic!("a transfer only asks"),
            Step::Wait(after) => {
                timer = after.map(|after| now + after).or(timer);
                underway.sort_by_key(|(at, ..)| core::cmp::Reverse(*at));
                let arrival = underway.last().map(|(at, ..)| *at);
                now = arrival.into_iter().chain(timer).chain([moves]).min().expect("it moves on");
                if now == moves {
                    seq += 1;
                    moves = now + period;
                    for index in (0..2000).filter(|index| (index + seq as u32).is_multiple_of(100)) {
                        all.insert(index, vec![seq as u8; 99]);
                    }
                    (state, kept) = checkpoints(Seq(seq), &tree(&all));
                    transfer.retarget(Seq(seq), state);
                } else if arrival == Some(now) {
                    let (_, from, ticket, parts) = underway.pop().expect("it has just arrived");
                    assert!(!matches!(transfer.on_fetched(from, ticket, parts), Received::Wrong(_)));
                } else {
                    timer = None;
                    transfer.on_timer();
                }
            }
        }
    }
    None
}

#[test]
fn one_that_is_always_late_does_not_keep_a_replica_behind_a_group_that_goes_on() {
    let (period, late) = (Duration::from_millis(60), Duration::from_millis(90));
    assert_eq!(behind_a_group_that_goes_on(period, ROUND_TRIP, late), Some(1));
}

#[test]
fn a_replica_that_is_far_away_catches_up_with_a_group_that_goes_on() {
    // Less than four round trips from one checkpoint to the next.
    let (period, round_trip) = (Duration::from_millis(60), Duration::from_millis(16));
    let took = behind_a_group_that_goes_on(period, round_trip, round_trip);
    assert!(took.is_some_and(|took| took <= 10), "{took:?}");
}

/// One that was asked about a checkpoint may answer when the target is a newer one, and all of that is here
/// already. What it then brings is right, and is not what is wanted.
#[test]
fn an_answer_to_an_old_question_takes_the_place_of_nothing_newer() {
    let first = numbered(100, 10);
    let mut second = first.clone();
    second.insert(3, vec![9; 10]);
    let (first, second) = (tree(&first), tree(&second));
    let ((old, old_kept), (new, new_kept)) = (checkpoints(Seq(8), &first), checkpoints(Seq(16), &second));
    let mut supplier = Supplier::new(1 << 40);
    let mut answer = |seq, state, want: &Want, kept: &Checkpoints| {
        supplier.answer(Instant(1), ME, (Seq(seq), state), want, kept)
    };
    let mut missing = Missing::new(old, PageTree::default());
    let mut late = vec![];
    while let Some(share) = missing.share(1, false) {
        let parts = answer(8, old, &share.want(), &old_kept);
        late.push((share.clone(), parts.clone()));
        if matches!(parts, Parts::Pages(_)) {
            break;
        }
        assert!(missing.take(&share, parts));
    }
    missing.retarget(new);
    while let Some(share) = missing.share(1, true) {
        let parts = answer(16, new, &share.want(), &new_kept);
        assert!(missing.take(&share, parts));
    }
    assert!(late.len() > 1 && missing.is_complete());
    // Pages first.
    for (share, parts) in late.into_iter().rev() {
        assert!(missing.take(&share, parts), "it does not lie");
        let assembled = missing.assemble();
        assert!(
            assembled.pages() == second.pages(),
            "page 3 is {:?}",
            assembled.page(3).map(|page| page.to_vec())
        );
    }
}
