//! How a view orders requests, and which way of ordering follows which.
//!
//! The view change of this protocol is what ends an instance and starts another one elsewhere: its view changes are
//! signed abort histories, and a new view with the certificate that confirms it is an init history with its proof. So
//! protocols that only order while all goes well need no machinery of their own: they are ways in which a view orders,
//! and a view in which one does not get on is left for the next (Aublin, Guerraoui, Knežević, Quéma and Vukolić, "The
//! Next 700 BFT Protocols", TOCS 2015, where each of them is an instance).

use althing_types::{Quorums, ReplicaId, View};
use borsh::{BorshDeserialize, BorshSerialize};

/// Which protocols take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, BorshSerialize, BorshDeserialize)]
pub enum Composition {
    /// Zyzzyva all the time.
    #[default]
    Zyzzyva,
    /// Quorum, and Backup where there is contention or a fault.
    Quorum,
    /// Chain, and Backup where there is a fault.
    Chain,
    /// Quorum, Chain under contention, and Backup where there is a fault.
    Aliph,
}

/// How a view orders requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The primary assigns numbers, and all execute at once and tell clients (Zyzzyva §3).
    Zyzzyva,
    /// Clients send to all replicas, and each executes what arrives in the order in which it does. A client decides
    /// where all have done alike, two message delays after it sent. Works without contention and faults only.
    Quorum,
    /// Requests go along a chain of all replicas, whose last f + 1 tell clients. Works without faults only.
    Chain,
    /// The primary assigns numbers, and clients are told what is final: it works whatever happens, as PBFT does.
    Backup,
}

impl Composition {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Zyzzyva, Self::Quorum, Self::Chain, Self::Aliph];

    /// Its name, in files and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zyzzyva => "zyzzyva",
            Self::Quorum => "quorum",
            Self::Chain => "chain",
            Self::Aliph => "aliph",
        }
    }

    /// What is tried before Backup, in order.
    fn stages(self) -> &'static [Mode] {
        match self {
            Self::Zyzzyva => &[Mode::Zyzzyva],
            Self::Quorum => &[Mode::Quorum],
            Self::Chain => &[Mode::Chain],
            Self::Aliph => &[Mode::Quorum, Mode::Chain],
        }
    }

    /// So many views make a round: one of each stage, and then one of Backup for each replica to lead, so that
    /// one of them has a primary that is correct.
    fn round(self, quorums: Quorums) -> u64 {
        match self {
            Self::Zyzzyva => 1,
            Self::Quorum | Self::Chain | Self::Aliph => (self.stages().len() + quorums.n()) as u64,
        }
    }

    /// How this view orders. Everybody knows it from the view's number.
    #[must_use]
    pub fn mode(self, quorums: Quorums, view: View) -> Mode {
        let place = usize::try_from(view.0 % self.round(quorums)).expect("a round is short");
        self.stages().get(place).copied().unwrap_or(Mode::Backup)
    }

    /// The first view after this one in which the stages are tried anew.
    #[must_use]
    pub fn next_round(self, quorums: Quorums, view: View) -> View {
        let round = self.round(quorums);
        View((view.0 / round).saturating_add(1).saturating_mul(round))
    }

    /// Whether a client needs to hear this replica to decide what was speculated in this view.
    ///
    /// In a chain those at its end have accepted what all correct replicas before them have, and one of the last f + 1
    /// is correct; else all have to say the same.
    #[must_use]
    pub fn is_decisive(self, quorums: Quorums, view: View, replica: ReplicaId) -> bool {
        match self.mode(quorums, view) {
            Mode::Chain => place(quorums, view, replica) >= quorums.n() - quorums.one_correct(),
            Mode::Zyzzyva | Mode::Quorum | Mode::Backup => true,
        }
    }
}

impl Mode {
    /// Whether the primary says to all what it orders.
    pub(super) fn is_led(self) -> bool {
        matches!(self, Self::Zyzzyva | Self::Backup)
    }

    /// Whether one replica that does not take part ends it.
    pub(super) fn needs_all(self) -> bool {
        matches!(self, Self::Quorum | Self::Chain)
    }
}

/// The replica's place in the chain of this view, from its head, the primary, on.
pub(super) fn place(quorums: Quorums, view: View, replica: ReplicaId) -> usize {
    let (n, head) = (quorums.n(), usize::from(quorums.primary(view).0));
    (usize::from(replica.0) + n - head) % n
}

/// Who stands at this place in the chain of this view.
pub(super) fn at_place(quorums: Quorums, view: View, place: usize) -> ReplicaId {
    let index = (usize::from(quorums.primary(view).0) + place) % quorums.n();
    ReplicaId(u16::try_from(index).expect("a group has at most 100 replicas"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn four() -> Quorums {
        Quorums::byzantine(4, 1).expect("four are enough")
    }

    #[test]
    fn a_round_tries_each_stage_and_then_backup_with_each_primary() {
        for composition in Composition::ALL {
            let (round, stages) = (composition.round(four()), composition.stages());
            let modes: Vec<_> = (0..2 * round).map(|view| composition.mode(four(), View(view))).collect();
            let (first, second) = modes.split_at(modes.len() / 2);
            assert_eq!(first, second);
            assert_eq!(&first[..stages.len()], stages);
            assert!(first[stages.len()..].iter().all(|mode| *mode == Mode::Backup));
            let backup = (0..round).map(View).filter(|view| composition.mode(four(), *view) == Mode::Backup);
            let mut primaries: Vec<_> = backup.map(|view| four().primary(view)).collect();
            primaries.sort_unstable();
            let all =
                if composition == Composition::Zyzzyva { Vec::new() } else { four().replicas().collect() };
            assert_eq!(primaries, all, "{composition:?}");
        }
    }

    #[test]
    fn the_next_round_is_after_this_view() {
        for (view, next) in [(0, 6), (5, 6), (6, 12), (u64::MAX, u64::MAX)] {
            assert_eq!(Composition::Aliph.next_round(four(), View(view)), View(next), "{view}");
        }
        assert_eq!(Composition::Zyzzyva.next_round(four(), View(7)), View(8));
    }

    #[test]
    fn of_a_chain_the_last_f_plus_1_decide() {
        let seven = Quorums::byzantine(7, 2).expect("seven are enough");
        let decisive = |composition: Composition, view| {
            let is_decisive = |id: &ReplicaId| composition.is_decisive(seven, View(view), *id);
            seven.replicas().filter(is_decisive).map(|id| id.0).collect::<Vec<_>>()
        };
        assert_eq!(decisive(Composition::Chain, 0), [4, 5, 6]);
        // The head is replica 1.
        assert_eq!(decisive(Composition::Chain, 8), [0, 5, 6]);
        assert_eq!(decisive(Composition::Aliph, 0).len(), 7);
        for (i, id) in seven.replicas().enumerate() {
            assert_eq!(place(seven, View(3), at_place(seven, View(3), i)), i);
            assert_eq!(at_place(seven, View(3), place(seven, View(3), id)), id);
        }
    }
}
