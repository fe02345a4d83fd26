//! Loss, delay, reordering, slow disks, restarts and impatience, by seeds: what was decided stays so, and once
//! the network heals everything that waits is executed.

use crate::group::{Group, R, Wire, composed, replica};
use crate::node::Node;
use crate::requests::signed;
use althing_protocol::zyzzyva::{Composition, ZyzzyvaSettings};
use althing_protocol::{Evidence, Message};
use std::time::Duration;

/// SplitMix64: the same seed, the same run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("it is below a usize")
    }

    /// In one of so many cases.
    fn one_in(&mut self, cases: usize) -> bool {
        self.below(cases) == 0
    }
}

/// Settings with which what failed is soon tried again.
fn hectic(composition: Composition) -> ZyzzyvaSettings {
    let ms = Duration::from_millis;
    let (view_timeout, settle_patience) = match composition {
        Composition::Zyzzyva => (ms(1000), ms(50)),
        Composition::Quorum | Composition::Chain | Composition::Aliph => (ms(40), ms(10)),
    };
    ZyzzyvaSettings { backup_requests: 1, view_timeout, settle_patience, ..composed(composition) }
}

/// How much of what can go wrong did: a test in which too little does shows nothing.
#[derive(Debug, Default)]
struct Troubles {
    views: u64,
    checkpoints: u64,
    taken_back: usize,
    /// Not a trouble: what clients decided before it was final.
    decided_early: usize,
    proofs: usize,
}

impl Troubles {
    /// What is taken back shows where something else is speculated in its place: not in Backup, nor in a chain.
    fn are_many(&self, composition: Composition) -> bool {
        let taken_back = match composition {
            Composition::Zyzzyva | Composition::Aliph => 5,
            Composition::Quorum | Composition::Chain => 0,
        };
        self.views > 20 && self.checkpoints > 50 && self.taken_back >= taken_back && self.decided_early > 20
    }

    fn add(&mut self, group: &Group) {
        let nodes = || group.nodes.iter();
        self.views += nodes().map(|node| node.zyzzyva.view().0).max().unwrap_or(0);
        self.checkpoints += nodes().map(|node| node.zyzzyva.stable().0 / 4).max().unwrap_or(0);
        self.taken_back += group.taken_back;
        self.decided_early += group.oracle.early;
        self.proofs += nodes().filter(|node| node.evidence.iter().any(Evidence::is_transferable)).count();
    }
}

/// Something happens to somebody.
fn step(group: &mut Group, dice: &mut Dice, numbers: &mut [u64]) {
    let n = group.nodes.len();
    match dice.below(100) {
        0..=59 if !group.wires.is_empty() => {
            // Mostly in order, and from anywhere.
            let near = group.wires.len().min(if dice.one_in(4) { 64 } else { 3 });
            let wire = group.wires.remove(dice.below(near)).expect("there are so many");
            let is_lost = wire.from != wire.to && dice.one_in(12);
            if wire.from != wire.to && dice.one_in(30) {
                group.wires.push_back(wire.clone());
            }
            if !is_lost {
                group.arrive(wire);
            }
        }
        0..=79 => group.sync_one(dice.below(n)),
        80..=87 => {
            let client = dice.below(numbers.len());
            numbers[client] += 1;
            group.submit(&signed(client as u64, numbers[client]));
            if dice.one_in(3) {
                contend(group, dice, numbers);
            }
        }
        88..=92 => {
            let now = group.now + core::time::Duration::from_millis(20);
            group.fire_next(now);
        }
        93..=95 => {
            if let Some(shown) = group.certificate_of_clients() {
                group.show(dice.below(n), &shown);
            }
        }
        96 if dice.one_in(2) => {
            let client = dice.below(numbers.len());
            group.ask_again(client as u64, numbers[client]);
        }
        96 => drop(group.transfer(dice.below(n))),
        97 if dice.one_in(6) => group.restart(dice.below(n)),
        98 if dice.one_in(6) => {
            let i = dice.below(n);
            if group.nodes[i].timers.contains_key(&crate::group::VIEW_TIMER) {
                group.give_up(i);
            }
        }
        _ => {}
    }
}

/// Two clients reach the replicas in different orders, and one of them does not reach all.
fn contend(group: &mut Group, dice: &mut Dice, numbers: &mut [u64]) {
    numbers[0] += 1;
    numbers[1] += 1;
    let requests = [signed(0, numbers[0]), signed(1, numbers[1])];
    let missed = dice.below(4 * group.nodes.len());
    for i in 0..group.nodes.len() {
        let first = dice.below(2);
        group.submit_to(&[i], &requests[first]);
        if i != missed {
            group.submit_to(&[i], &requests[1 - first]);
        }
    }
}

/// Heals the network, and waits until the last request of each client is executed for good at all of these.
fn heal(group: &mut Group, all: &[usize], numbers: &mut [u64]) {
    (0..group.nodes.len()).for_each(|i| group.sync(i));
    for (client, number) in numbers.iter_mut().enumerate() {
        *number += 1;
        group.submit(&signed(client as u64, *number));
    }
    group.run_with_transfers(|group| {
        let executed = group.executed(all[0]);
        let mut last = numbers.iter().enumerate().map(|(client, number)| (client as u64, *number));
        group.have_executed(all, executed.len()) && last.all(|last| executed.contains(&last))
    });
    group.assert_safe();
    let order = group.nodes[all[0]].order();
    let decided = &group.oracle.decided;
    assert!(order.starts_with(decided) || decided.starts_with(&order));
}

fn run((n, composition): (usize, Composition), seed: u64, troubles: &mut Troubles) {
    let mut dice = Dice(seed);
    let mut group = Group::with(n, hectic(composition));
    group.stuck = (0..n).map(replica).filter(|_| dice.one_in(2)).collect();
    let mut numbers = [0; 4];
    for _ in 0..1500 {
        step(&mut group, &mut dice, &mut numbers);
        assert!(group.oracle.contradictions.is_empty(), "seed {seed}: {:?}", group.oracle.contradictions);
    }
    heal(&mut group, &(0..n).collect::<Vec<_>>(), &mut numbers);
    troubles.add(&group);
    for node in &group.nodes {
        assert!(node.evidence.is_empty(), "seed {seed}: {:?} of a correct replica", node.evidence);
    }
}

/// Replica 0 is two: each of them reaches some of the others, now these and now those.
fn run_with_twins((n, composition): (usize, Composition), seed: u64, troubles: &mut Troubles) {
    let mut dice = Dice(seed);
    let mut group = Group::with_twins(n, &hectic(composition));
    let mut numbers = [0; 4];
    let mut sides = vec![0; n];
    for round in 0..2000 {
        if round % 100 == 0 {
            sides.iter_mut().for_each(|side| *side = dice.below(3));
        }
        let is_apart = |wire: &Wire| {
            let ((from, to), twin) = (wire.nodes, |node: usize| if node == n { 1 } else { 0 });
            let sees = |node: usize, twin: usize| sides[node] == 2 || sides[node] == twin;
            wire.from != wire.to
                && ((wire.from == R[0] && !sees(to, twin(from)))
                    || (wire.to == R[0] && !sees(from, twin(to))))
        };
        group.wires.retain(|wire| !is_apart(wire));
        step(&mut group, &mut dice, &mut numbers);
        assert!(group.oracle.contradictions.is_empty(), "seed {seed}: {:?}", group.oracle.contradictions);
    }
    // They go on to be two, and reach everybody.
    heal(&mut group, &(1..n).collect::<Vec<_>>(), &mut numbers);
    troubles.add(&group);
}

/// Of what replica 0 says, much contradicts what it says to others.
fn run_with_a_liar((n, composition): (usize, Composition), seed: u64, troubles: &mut Troubles) {
    let mut dice = Dice(seed);
    let mut group = Group::with_a_liar(n, &hectic(composition));
    let mut numbers = [0; 4];
    let mut seen = 0;
    for _ in 0..1500 {
        let new = group.wires.len().saturating_sub(seen);
        for wire in group.wires.iter_mut().rev().take(new) {
            if wire.from == R[0] && wire.to != R[0] && dice.one_in(4) {
                wire.message = wire.message.contradiction().unwrap_or(wire.message.clone());
            }
        }
        seen = group.wires.len();
        step(&mut group, &mut dice, &mut numbers);
        assert!(group.oracle.contradictions.is_empty(), "seed {seed}: {:?}", group.oracle.contradictions);
        let wrongly = |node: &Node| node.evidence.iter().any(|evidence| evidence.accused != R[0]);
        assert!(!group.nodes[1..].iter().any(wrongly), "seed {seed}: a correct replica is accused");
    }
    heal(&mut group, &(1..n).collect::<Vec<_>>(), &mut numbers);
    troubles.add(&group);
}

#[test]
fn what_was_decided_stays_and_all_that_waits_is_executed_once_the_network_heals() {
    for composition in Composition::ALL {
        let mut troubles = Troubles::default();
        for seed in 0..60 {
            run((4, composition), seed, &mut troubles);
        }
        assert!(troubles.are_many(composition), "{composition:?}: {troubles:?}");
    }
}

#[test]
fn the_same_holds_in_larger_groups() {
    for composition in Composition::ALL {
        let mut troubles = Troubles::default();
        for seed in 0..20 {
            run((5, composition), seed, &mut troubles);
            run((7, composition), seed, &mut troubles);
        }
        assert!(troubles.are_many(composition), "{composition:?}: {troubles:?}");
    }
}

#[test]
fn the_same_holds_while_one_is_down() {
    for (seed, composition) in (0..30).flat_map(|seed| Composition::ALL.map(|each| (seed, each))) {
        let mut dice = Dice(seed);
        let mut group = Group::with(4, hectic(composition));
        group.down = vec![R[dice.below(4)]];
        let mut numbers = [0; 4];
        for _ in 0..1000 {
            step(&mut group, &mut dice, &mut numbers);
        }
        group.down.clear();
        heal(&mut group, &[0, 1, 2, 3], &mut numbers);
    }
}

#[test]
fn a_replica_that_is_two_makes_nobody_decide_two_things() {
    for composition in Composition::ALL {
        let mut troubles = Troubles::default();
        for seed in 0..40 {
            run_with_twins((4, composition), seed, &mut troubles);
            run_with_twins((5, composition), seed, &mut troubles);
        }
        assert!(troubles.are_many(composition) && troubles.proofs > 50, "{composition:?}: {troubles:?}");
    }
}

#[test]
fn a_replica_that_contradicts_itself_makes_nobody_decide_two_things() {
    for composition in Composition::ALL {
        let mut troubles = Troubles::default();
        for seed in 0..40 {
            run_with_a_liar((4, composition), seed, &mut troubles);
            run_with_a_liar((7, composition), seed, &mut troubles);
        }
        assert!(troubles.are_many(composition) && troubles.proofs > 50, "{composition:?}: {troubles:?}");
    }
}
