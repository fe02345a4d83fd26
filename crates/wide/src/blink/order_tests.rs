//! The paper's claims, each by trying all there is to try.

use super::*;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Byzantine or benign, and how many servers for F faults.
const KINDS: [(bool, usize); 2] = [(true, 3), (false, 2)];

fn servers(may_lie: bool, all: usize, faulty: usize) -> Servers {
    if may_lie { Servers::byzantine(all, faulty) } else { Servers::benign(all, faulty) }.unwrap()
}

/// Sites as small as their faults allow.
fn smallest((may_lie, per_fault): (bool, usize), faulty: usize) -> Servers {
    servers(may_lie, per_fault * faulty + 1, faulty)
}

/// All the turns of an order that does not depend on who is suspected, in a round.
fn round(order: &SelectionOrder) -> Vec<VirtualLink> {
    (0..order.round()).map(|number| order.virtual_link(Turn { number, peers: 0 })).collect()
}

/// All ways in which `faulty` of `all` can be faulty, as bits.
fn placements(servers: Servers) -> Vec<u32> {
    (0u32..1 << servers.all).filter(|bits| u64::from(bits.count_ones()) == servers.faulty).collect()
}

fn is_correct(link: &VirtualLink, (faulty_from, faulty_to): (u32, u32)) -> bool {
    faulty_from >> link.forwarder.0 & 1 == 0 && faulty_to >> link.peer.0 & 1 == 0
}

/// The longest run of links with a faulty server over all placements, going round.
fn longest_run(order: &SelectionOrder) -> u64 {
    let round = round(order);
    let mut longest = 0;
    for from in placements(order.from) {
        for to in placements(order.to) {
            let mut run = 0;
            for link in round.iter().chain(&round) {
                run = if is_correct(link, (from, to)) { 0 } else { run + 1 };
                longest = longest.max(run);
            }
        }
    }
    longest
}

fn gcd(a: u64, b: u64) -> u64 {
    (1..=a.min(b)).rev().find(|d| a.is_multiple_of(*d) && b.is_multiple_of(*d)).unwrap()
}

#[test]
fn the_order_of_figure_3() {
    let site = servers(true, 4, 1);
    let order = SelectionOrder::new(site, site);
    let links: Vec<_> = round(&order).iter().map(|link| (link.forwarder.0, link.peer.0)).collect();
    let series = [
        [(0, 0), (1, 1), (2, 2), (3, 3)],
        [(1, 0), (2, 1), (3, 2), (0, 3)],
        [(2, 0), (3, 1), (0, 2), (1, 3)],
        [(3, 0), (0, 1), (1, 2), (2, 3)],
    ];
    assert_eq!(links, series.concat());
}

#[test]
fn properties_1_to_3() {
    for (a, b) in (1u64..=12).flat_map(|a| (1u64..=12).map(move |b| (a, b))) {
        let order = SelectionOrder::new(servers(true, a as usize, 0), servers(true, b as usize, 0));
        let (round, gcd) = (round(&order), gcd(a, b));
        let length = (a * b / gcd) as usize;
        let series: Vec<BTreeSet<_>> =
            round.chunks(length).map(|series| series.iter().copied().collect()).collect();
        assert_eq!(series.len() as u64, a.max(b));
        for (s, links) in series.iter().enumerate() {
            assert_eq!(links.len(), length, "1: a series has distinct links");
            for (t, others) in series.iter().enumerate() {
                let are_congruent = s as u64 % gcd == t as u64 % gcd;
                assert!(are_congruent || links.is_disjoint(others), "2: {s} and {t} of {a}, {b}");
            }
            let consecutive = (0..gcd as usize).flat_map(|next| &series[(s + next) % series.len()]);
            let all: BTreeSet<_> = consecutive.collect();
            assert_eq!(all.len() as u64, a * b, "3: GCD series have all links");
        }
    }
}

#[test]
fn in_each_block_the_fraction_of_correct_links_is_the_papers() {
    for (from, to) in KINDS.into_iter().flat_map(|from| KINDS.map(|to| (from, to))) {
        let (of, out_of) = match (from.0, to.0) {
            (true, true) => (4, 9),
            (true, false) | (false, true) => (1, 3),
            // The paper's order for this one is another; of the pairs there are, as many are correct.
            (false, false) => (1, 4),
        };
        for (fa, fb) in (0..=3).flat_map(|fa| (0..=3).map(move |fb| (fa, fb))) {
            let order = SelectionOrder::new(smallest(from, fa), smallest(to, fb));
            // What the order of sites in which servers may lie would be, whatever they are.
            let lying = |servers: Servers| Servers { may_lie: true, ..servers };
            let round = round(&SelectionOrder::new(lying(order.from), lying(order.to)));
            for faulty_from in placements(order.from) {
                for faulty_to in placements(order.to) {
                    let block = (order.from.all * order.to.all) as usize;
                    for links in round.chunks(block) {
                        let correct = links.iter().filter(|link| is_correct(link, (faulty_from, faulty_to)));
                        assert!(correct.count() * out_of > block * of, "{order:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn no_more_links_in_a_row_are_faulty_than_is_said_and_so_many_can_be() {
    let sites: Vec<Servers> = (1..=8usize)
        .flat_map(|all| {
            let lying = (0..=(all - 1) / 3).map(move |faulty| servers(true, all, faulty));
            lying.chain((0..=(all - 1) / 2).map(move |faulty| servers(false, all, faulty)))
        })
        .collect();
    for (from, to) in sites.iter().flat_map(|from| sites.iter().map(move |to| (*from, *to))) {
        let order = SelectionOrder::new(from, to);
        if !order.keeps_forwarders() {
            assert_eq!(longest_run(&order), order.most_faulty_in_a_row(), "{order:?}");
        }
    }
}

/// (Byzantine, Byzantine), (Byzantine, benign), and (benign, Byzantine) as the text has it.
fn papers_bounds(fa: u64) -> [u64; 3] {
    [2 * fa, (5 * fa / 2).max((3 * fa).saturating_sub(2)), (2 * fa).saturating_sub(1).max(5 * fa / 3)]
}

#[test]
fn the_bounds_of_the_text_hold_in_both_directions_for_f_up_to_3() {
    for (case, (from, to)) in [(0, 0), (0, 1), (1, 0)].into_iter().enumerate() {
        for fa in 0..=3 {
            let larger = smallest(KINDS[from], fa);
            let smaller = (0..=3).map(|fb| smallest(KINDS[to], fb)).filter(|site| site.all <= larger.all);
            let bound = papers_bounds(fa as u64)[case];
            let mut longest = 0;
            for smaller in smaller {
                let there = longest_run(&SelectionOrder::new(larger, smaller));
                let back = longest_run(&SelectionOrder::new(smaller, larger));
                assert!(there <= bound, "{larger:?} to {smaller:?}: {there}, not {bound}");
                assert_eq!(back, there, "{smaller:?} to {larger:?}");
                longest = longest.max(there);
            }
            assert_eq!(longest, bound, "it is reached, F_A = {fa}");
        }
    }
}

#[test]
fn the_bounds_of_the_text_hold_for_all_sites_of_up_to_a_hundred_servers() {
    for (case, (from, to)) in [(0, 0), (0, 1), (1, 0)].into_iter().enumerate() {
        for fa in 0..=33 {
            let larger = smallest(KINDS[from], fa);
            let smaller = (0..=49).map(|fb| smallest(KINDS[to], fb)).filter(|site| site.all <= larger.all);
            let row = |smaller| SelectionOrder::new(larger, smaller).most_faulty_in_a_row();
            let longest = smaller.map(row).max().unwrap();
            let bound = papers_bounds(fa as u64)[case];
            let is_reached = case < 2 || fa < 4 || fa % 2 == 1;
            assert_eq!(longest, bound - u64::from(!is_reached), "case {case}, F_A = {fa}");
            // Table 1 has the bound of the line before for (benign, Byzantine), too.
            assert!(case < 2 || fa == 0 || longest < papers_bounds(fa as u64)[1], "the table is loose");
        }
    }
}

#[test]
fn with_the_papers_order_a_larger_receiver_has_longer_runs() {
    let (from, to) = (servers(false, 7, 3), servers(true, 10, 3));
    // L as it is written: the sending site's servers shift, whichever is larger.
    let length = 70;
    let papers = (0..7 * length).map(|i: u16| (ReplicaId((i % length + i / length) % 7), ReplicaId(i % 10)));
    let papers: Vec<_> = papers.map(|(forwarder, peer)| VirtualLink { forwarder, peer }).collect();
    let run_of = |links: &[VirtualLink], faulty: (u32, u32)| {
        let runs = links.iter().chain(links).scan(0, |run, link| {
            *run = if is_correct(link, faulty) { 0 } else { *run + 1 };
            Some(*run)
        });
        runs.max().unwrap()
    };
    let placements =
        || placements(from).into_iter().flat_map(|x| placements(to).into_iter().map(move |y| (x, y)));
    assert_eq!(placements().map(|faulty| run_of(&papers, faulty)).max(), Some(9));
    assert_eq!(SelectionOrder::new(from, to).most_faulty_in_a_row(), 6);
}

/// All servers that don't lie: a forwarder that works says of each peer whether it does, and one that doesn't is
/// replaced.
#[test]
fn where_no_server_lies_peers_are_tried_in_turn() {
    for (a, b) in (1usize..=7).flat_map(|a| (1usize..=7).map(move |b| (a, b))) {
        let (from, to) = (servers(false, a, (a - 1) / 2), servers(false, b, (b - 1) / 2));
        let order = SelectionOrder::new(from, to);
        let mut most = 0;
        for (faulty_from, faulty_to) in
            placements(from).into_iter().flat_map(|x| placements(to).into_iter().map(move |y| (x, y)))
        {
            for start in 0..(a * b) as u64 {
                let (mut turn, mut given_up) = (order.start(start), 0);
                loop {
                    let link = order.virtual_link(turn);
                    if is_correct(&link, (faulty_from, faulty_to)) {
                        break;
                    }
                    let is_crashed = faulty_from >> link.forwarder.0 & 1 == 1;
                    let next = order.after(turn, if is_crashed { Suspect::Forwarder } else { Suspect::Peer });
                    let kept = order.virtual_link(next);
                    assert_eq!(kept.peer == link.peer, is_crashed || b == 1);
                    assert_eq!(kept.forwarder == link.forwarder, !is_crashed || a == 1);
                    (turn, given_up) = (next, given_up + 1);
                }
                most = most.max(given_up);
            }
        }
        assert_eq!(most, order.most_faulty_in_a_row(), "{order:?}");
    }
}

#[test]
fn where_servers_may_lie_it_does_not_matter_who_is_suspected() {
    let order = SelectionOrder::new(servers(true, 4, 1), servers(false, 3, 1));
    let turn = order.start(5);
    assert_eq!(order.after(turn, Suspect::Peer), order.after(turn, Suspect::Forwarder));
    let last = Turn { number: u64::MAX, peers: u64::MAX };
    assert_eq!(order.after(last, Suspect::Peer).number, 0, "the end of all numbers is no harm");
}

#[test]
fn starts_are_spread_over_the_servers() {
    for kind in [true, false] {
        let order = SelectionOrder::new(servers(kind, 4, 1), servers(kind, 4, 1));
        let starts: BTreeSet<_> = (0..4).map(|spread| order.virtual_link(order.start(spread))).collect();
        assert_eq!(starts.iter().map(|link| link.forwarder).collect::<BTreeSet<_>>().len(), 4);
        assert_eq!(starts.iter().map(|link| link.peer).collect::<BTreeSet<_>>().len(), 4);
        let _ = order.virtual_link(order.start(u64::MAX));
    }
}

#[test]
fn sites_that_are_too_small_are_refused() {
    let refused = |servers, faults, needed| Err(TooFewServers { servers, faults, needed });
    assert_eq!(Servers::byzantine(3, 1), refused(3, 1, 4));
    assert_eq!(Servers::benign(2, 1), refused(2, 1, 3));
    assert_eq!(Servers::benign(0, 0), refused(0, 0, 1));
    assert_eq!(Servers::byzantine(7, usize::MAX), refused(7, usize::MAX, usize::MAX));
    assert_eq!(Servers::byzantine(1 << 16, 1), refused(1 << 16, 1, 4));
}
