//! A whole site that betrays the others, for fault injection.

use super::LogicalMachine;
use super::drive::site;
use crate::message::Kind;
use alloc::collections::BTreeMap;
use althing_protocol::{Auth, Message, Replicable};
use althing_replica::Service;
use althing_types::{ReplicaId, Seq, SiteId, encode};
use borsh::{BorshDeserialize, BorshSerialize};

/// What a site does that somebody has taken over, with all its servers: what it says, all of them say, and so the
/// site signs it. A site with more faulty servers than it tolerates can do no worse to the others.
///
/// What it leads to follows from the local batch alone, so that all servers that go by the same one do the same.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Treachery {
    /// From this local batch on.
    pub from: Seq,
    /// What chance follows from.
    pub seed: u64,
    /// Of 1000 messages of the protocol, to how many it says the contrary of what it says to other sites.
    pub contradicts: u16,
    /// Of 1000 messages of the protocol, how many it does not say at all.
    pub keeps_silent: u16,
    /// It takes no notice of anything that this site says.
    pub is_deaf_to: Option<SiteId>,
}

impl Treachery {
    /// What becomes of a message to a site that is the `said`th one of a local batch.
    fn twist<M: Message>(&self, (batch, said): (Seq, u64), message: &M) -> Option<M> {
        if batch < self.from {
            return Some(message.clone());
        }
        let chance = scramble(scramble(self.seed ^ batch.0).wrapping_add(said));
        let of_1000 = |bits: u64| u16::try_from(bits % 1000).expect("less than 1000");
        if of_1000(chance >> 32) < self.keeps_silent {
            return None;
        }
        let other = message.contradiction().filter(|_| of_1000(chance & 0xffff_ffff) < self.contradicts);
        Some(other.unwrap_or_else(|| message.clone()))
    }
}

/// Which servers of the site say that somebody has taken them over, and what the site does for it.
///
/// That is ordered as all that happens, so a site begins and ends to betray the others at one place in its order: its
/// servers stay equal under any load, and so does one that is started again or brought to a state. It gives nobody a
/// power: as many servers as it takes can sign what they like.
#[derive(Debug, Default, BorshSerialize, BorshDeserialize)]
pub(super) struct Takeover {
    taken: BTreeMap<ReplicaId, Treachery>,
    agreed: Option<Treachery>,
}

impl Takeover {
    /// A server is taken over, or is no more. The site does what `enough` servers are taken over for.
    fn on_said(&mut self, server: ReplicaId, treachery: Option<Treachery>, enough: usize) {
        match treachery {
            Some(treachery) => self.taken.insert(server, treachery),
            None => self.taken.remove(&server),
        };
        let count = |one: &Treachery| self.taken.values().filter(|it| *it == one).count();
        self.agreed = self.taken.values().find(|it| count(it) >= enough).cloned();
    }
}

/// Bits that look like chance (Steele, Lea and Flood's SplitMix64).
fn scramble(seed: u64) -> u64 {
    let bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

impl<P: Replicable, S: Service> LogicalMachine<P, S> {
    /// Has this server betray the other sites, whatever the others of its site do. For simulators: it is no part of the
    /// replicated state, so those that are given different ones, or at different times, are equal no more.
    pub fn set_treachery(&mut self, treachery: Option<Treachery>) {
        self.treachery = treachery;
    }

    /// Whether the site betrays the others, because enough of its servers say that they are taken over.
    #[must_use]
    pub fn is_taken_over(&self) -> bool {
        self.core.takeover.agreed.is_some()
    }

    /// What a server has been taken over for, as far as it has said so in the order.
    pub(crate) fn taken_over(&self, server: ReplicaId) -> Option<&Treachery> {
        self.core.takeover.taken.get(&server)
    }

    pub(super) fn on_taken_over(&mut self, server: ReplicaId, treachery: Option<Treachery>) {
        self.core.takeover.on_said(server, treachery, self.config.enough());
    }

    fn treachery(&self) -> Option<&Treachery> {
        self.treachery.as_ref().or(self.core.takeover.agreed.as_ref())
    }

    /// Says a message of the protocol to a site: what is left of it.
    pub(super) fn say_message(&mut self, to: SiteId, kind: Kind, message: &P::Message) {
        let place = (self.now.0, self.said + 1);
        let Some(treachery) = self.treachery() else {
            return self.say(to, kind, encode(message).into());
        };
        // To itself it is honest, or it would not know what it has said.
        let is_own = to == self.config.site();
        let left = if is_own { Some(message.clone()) } else { treachery.twist(place, message) };
        self.said += 1;
        if let Some(message) = left {
            self.say(to, kind, encode(&message).into());
        }
    }

    /// Says a message of the protocol to all sites. A transferable one comes back to this site too, with its proof.
    pub(super) fn say_message_to_all(&mut self, kind: Kind, message: &P::Message, auth: Auth) {
        if self.treachery().is_none() {
            return self.say_to_all(kind, encode(message).into(), auth == Auth::Transferable);
        }
        let me = self.me();
        for to in self.config.sites.replicas().filter(|to| *to != me || auth == Auth::Transferable) {
            self.say_message(site(to), kind, message);
        }
    }

    /// Whether it takes no notice of what a site says.
    pub(super) fn is_deaf_to(&self, site: SiteId) -> bool {
        let treachery = self.treachery().filter(|it| it.from <= self.now.0);
        treachery.is_some_and(|it| it.is_deaf_to == Some(site))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use althing_protocol::pbft::{PbftMessage, Vote};
    use althing_types::{Digest, View};

    #[test]
    fn a_site_does_what_enough_of_its_servers_are_taken_over_for() {
        let with = |seed| {
            Some(Treachery { from: Seq(0), seed, contradicts: 500, keeps_silent: 0, is_deaf_to: None })
        };
        let mut takeover = Takeover::default();
        let mut said = |server, treachery: Option<Treachery>| {
            takeover.on_said(ReplicaId(server), treachery, 2);
            takeover.agreed.clone()
        };
        assert_eq!(said(0, with(1)), None);
        assert_eq!(said(0, with(1)), None, "the same one twice");
        assert_eq!(said(1, with(2)), None, "for something else");
        assert_eq!(said(3, with(1)), with(1));
        assert_eq!(said(2, with(1)), with(1));
        assert_eq!(said(0, None), with(1), "two are left");
        assert_eq!(said(2, None), None);
    }

    #[test]
    fn it_says_the_contrary_to_some_nothing_to_others_and_is_honest_before() {
        let message = PbftMessage::Prepare(Vote { view: View(0), seq: Seq(1), digest: Digest::NULL });
        let treachery =
            Treachery { from: Seq(10), seed: 7, contradicts: 500, keeps_silent: 300, is_deaf_to: None };
        let said = |batch: u64| -> Vec<_> {
            (1..=1000).map(|said| treachery.twist((Seq(batch), said), &message)).collect()
        };
        assert!(said(9).iter().all(|it| it.as_ref() == Some(&message)));
        let silent = said(10).iter().filter(|it| it.is_none()).count();
        let honest = said(10).iter().filter(|it| it.as_ref() == Some(&message)).count();
        assert!((200..400).contains(&silent) && (250..450).contains(&honest), "{silent}, {honest}");
        assert_eq!(said(10), said(10));
        assert_ne!(said(10), said(11));
    }
}
