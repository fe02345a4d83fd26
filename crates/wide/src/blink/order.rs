use althing_types::{FaultModel, Quorums, ReplicaId};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

/// A site that its servers can't hold up against the faults asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{servers} servers tolerate fewer than {faults} faults; {needed} are needed, and at most 65,535")]
pub struct TooFewServers {
    /// Servers given.
    pub servers: usize,
    /// Faults asked for.
    pub faults: usize,
    /// Servers needed.
    pub needed: usize,
}

/// The servers of a site, as far as its links are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Servers {
    all: u64,
    faulty: u64,
    may_lie: bool,
}

impl Servers {
    /// So many servers, of which some may be Byzantine.
    ///
    /// # Errors
    /// With fewer than 3 · `faults` + 1 servers.
    pub fn byzantine(servers: usize, faults: usize) -> Result<Self, TooFewServers> {
        Self::new(servers, faults, faults.saturating_mul(3).saturating_add(1), true)
    }

    /// So many servers, of which some may crash, and none lies.
    ///
    /// # Errors
    /// With fewer than 2 · `faults` + 1 servers.
    pub fn benign(servers: usize, faults: usize) -> Result<Self, TooFewServers> {
        Self::new(servers, faults, faults.saturating_mul(2).saturating_add(1), false)
    }

    fn new(servers: usize, faults: usize, needed: usize, may_lie: bool) -> Result<Self, TooFewServers> {
        if servers < needed || servers > usize::from(u16::MAX) {
            return Err(TooFewServers { servers, faults, needed });
        }
        Ok(Self { all: servers as u64, faulty: faults as u64, may_lie })
    }

    /// How many of `length` consecutive ones, counted round, are faulty at most.
    fn faulty_in(&self, length: u64) -> u64 {
        length / self.all * self.faulty + self.faulty.min(length % self.all)
    }

    fn at(&self, place: u64) -> ReplicaId {
        ReplicaId(u16::try_from(place % self.all).expect("a site has at most 65,535 servers"))
    }
}

impl From<Quorums> for Servers {
    fn from(quorums: Quorums) -> Self {
        let may_lie = quorums.model() == FaultModel::Byzantine;
        Self { all: quorums.n() as u64, faulty: quorums.f() as u64, may_lie }
    }
}

/// A server that sends, and one that receives (SRDS'07 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VirtualLink {
    /// Of the sending site.
    pub forwarder: ReplicaId,
    /// Of the receiving site.
    pub peer: ReplicaId,
}

/// How far a logical link has come in its order. Part of the sending site's replicated state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, BorshSerialize, BorshDeserialize)]
pub struct Turn {
    /// How many virtual links had their turn before, so that each turn has a number of its own.
    pub number: u64,
    /// How many of them were given up for their peers, where the order tells peers from forwarders.
    peers: u64,
}

/// Who is to blame for a virtual link that is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Suspect {
    /// The forwarder; or, where servers may lie, either of the two.
    Forwarder,
    /// The peer: the forwarder says so, where servers don't lie.
    Peer,
}

/// The order in which the virtual links from one site to another have their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectionOrder {
    from: Servers,
    to: Servers,
}

impl SelectionOrder {
    /// The order for the link from one site to another.
    #[must_use]
    pub fn new(from: Servers, to: Servers) -> Self {
        Self { from, to }
    }

    /// A first turn. Links that start with other numbers share their load among other servers; the bounds
    /// hold from each start.
    #[must_use]
    pub fn start(&self, spread: u64) -> Turn {
        if self.keeps_forwarders() {
            let spread = spread % (self.from.all * self.to.all);
            return Turn { number: 2 * spread, peers: spread };
        }
        // In the first series, where neighbouring turns have other servers on both sides.
        Turn { number: spread % self.series_length(), peers: 0 }
    }

    /// The virtual link whose turn it is.
    #[must_use]
    pub fn virtual_link(&self, turn: Turn) -> VirtualLink {
        if self.keeps_forwarders() {
            // SRDS'07 §5.2: the next forwarder picks up where the last one left off.
            let forwarder = self.from.at(turn.number.wrapping_sub(turn.peers));
            return VirtualLink { forwarder, peer: self.to.at(turn.peers) };
        }
        // SRDS'07 §5.1: L_{s,i} with s = ⌊number / LCM⌋ and i = number mod LCM.
        let place = turn.number % self.round();
        let (series, step) = (place / self.series_length(), place % self.series_length());
        let (shifted, straight) = (step + series, step);
        if self.from.all >= self.to.all {
            VirtualLink { forwarder: self.from.at(shifted), peer: self.to.at(straight) }
        } else {
            VirtualLink { forwarder: self.from.at(straight), peer: self.to.at(shifted) }
        }
    }

    /// The turn after this one, whose virtual link is given up.
    #[must_use]
    pub fn after(&self, turn: Turn, suspect: Suspect) -> Turn {
        let is_peers = self.keeps_forwarders() && suspect == Suspect::Peer;
        Turn { number: turn.number.wrapping_add(1), peers: turn.peers.wrapping_add(u64::from(is_peers)) }
    }

    /// Whether a forwarder is believed about its peers, and stays while it answers: no server lies.
    #[must_use]
    pub fn keeps_forwarders(&self) -> bool {
        !self.from.may_lie && !self.to.may_lie
    }

    /// How many peers can be faulty.
    #[must_use]
    pub fn most_faulty_peers(&self) -> u64 {
        self.to.faulty
    }

    /// How many virtual links in a row have a faulty server, at most and wherever one starts. The one after
    /// them has two correct ones.
    ///
    /// Exact. In L the window has consecutive servers of the larger site, and of the other one counted
    /// round; the faulty ones of both cover no more of it than they are. They do cover it if it is as
    /// long as that allows, since anybody can be faulty. A window that is shorter than the larger site meets
    /// the gap between two series at most once, where a server of that site is left out.
    #[must_use]
    pub fn most_faulty_in_a_row(&self) -> u64 {
        if self.keeps_forwarders() {
            return self.from.faulty + self.to.faulty;
        }
        let covered = |length: u64| self.from.faulty_in(length) + self.to.faulty_in(length);
        let correct = (1..)
            .find(|length| covered(*length) < *length)
            .expect("fewer than a third and a half are faulty");
        correct - 1
    }

    /// LCM(A', B'): how many virtual links a series has.
    fn series_length(&self) -> u64 {
        let (mut a, mut b) = (self.from.all, self.to.all);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        self.from.all / a * self.to.all
    }

    /// After how many turns the order starts again: as many series as the larger site has servers.
    fn round(&self) -> u64 {
        self.series_length() * self.from.all.max(self.to.all)
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
