//! Tables 1 and 2 of SRDS'07: what does not depend on load.

use althing_sim::sites::LevelProtocol::{Paxos, Pbft};
use althing_sim::wan::{Carriage, Composition, Rounds, SiteKind, link_figures, rounds};
use std::fmt::Write;

/// More faulty servers of a site than this take long to try in all places.
const MOST_FAULTS: u64 = 2;

/// A bound on faulty links in a row, where F servers of the larger site are faulty.
type Bound = fn(u64) -> u64;

/// Table 1: virtual links with two correct servers, and those in a row without, by trying all placements of faulty servers.
pub(super) fn links() -> String {
    use SiteKind::{Benign, Byzantine};
    // The paper's table repeats the second line's bound in the third, where its text has this one.
    let rows: [((SiteKind, SiteKind), &str, f64, Bound); 4] = [
        ((Byzantine, Byzantine), "Byzantine, Byzantine", 4.0 / 9.0, |f| 2 * f),
        ((Byzantine, Benign), "Byzantine, benign", 1.0 / 3.0, |f| (5 * f / 2).max((3 * f).saturating_sub(2))),
        ((Benign, Byzantine), "benign, Byzantine", 1.0 / 3.0, |f| (2 * f).saturating_sub(1).max(5 * f / 3)),
        ((Benign, Benign), "benign, benign", 1.0 / 4.0, |f| 2 * f),
    ];
    let mut text =
        "Table 1, tried (the paper's bounds): virtual links, F servers of the sending site faulty\n"
            .to_owned();
    for (kinds, name, least, bound) in rows {
        for faults in 1..=MOST_FAULTS {
            let figures = link_figures(kinds, usize::try_from(faults).expect("few"));
            let _ = writeln!(
                text,
                "  {name:<21} F = {faults}  correct {:.3} (> {least:.3}), faulty in a row {} (≤ {})",
                figures.correct,
                figures.in_a_row,
                bound(faults)
            );
        }
    }
    text
}

/// Table 2: rounds in the normal case, counted in runs in which nothing but messages takes time.
pub(super) fn normal_case() -> String {
    let rows = [
        ("Paxos/Paxos", (Paxos, Paxos), (2, 6)),
        ("BFT/Paxos", (Pbft, Paxos), (3, 8)),
        ("Paxos/BFT", (Paxos, Pbft), (2, 11)),
        ("BFT/BFT", (Pbft, Pbft), (3, 15)),
    ];
    let mut text = "Table 2, counted (the paper's): rounds until an update is executed\n".to_owned();
    for (name, (wide, local), paper) in rows {
        let counted = rounds(Composition { wide, local, carriage: Carriage::Leader });
        let Rounds { wide, local } = counted;
        let _ = writeln!(text, "  {name:<12} wide {wide} ({}), local {local} ({})", paper.0, paper.1);
    }
    text
}
