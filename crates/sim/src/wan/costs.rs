use super::cpu::Work;
use crate::dice::nanos;
use crate::sites::LevelProtocol;
use crate::sites::quorums;
use serde::Serialize;
use std::time::Duration;

/// What a signature scheme costs on one core.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SchemeCosts {
    /// To sign, or to make a share of a signature.
    pub sign: Duration,
    /// To make a signature of the shares and check it; none where one server signs alone.
    pub combine: Duration,
    /// To check a signature.
    pub verify: Duration,
    /// How long a signature is.
    pub bytes: usize,
}

/// What it costs to know who says something within a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MessageCosts {
    /// To seal a message for all other servers.
    pub seal: Duration,
    /// To check one.
    pub check: Duration,
}

impl MessageCosts {
    /// Messages that are signed.
    #[must_use]
    pub fn signed(scheme: &SchemeCosts) -> Self {
        Self { seal: scheme.sign, check: scheme.verify }
    }
}

/// What cryptography costs. All else that a server does is free: it is little beside that.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CostTable {
    /// Its name.
    pub name: String,
    /// What servers' messages within their site cost, shares of signatures among them.
    pub within: MessageCosts,
    /// What clients sign updates with, and a site signs with where its servers only crash.
    pub plain: SchemeCosts,
    /// What a site signs with where its servers may lie.
    pub threshold: SchemeCosts,
}

impl CostTable {
    /// The paper's: 1024-bit RSA, which all messages within a site are signed with as well, and threshold RSA with 6 of
    /// 16 shares, on a Xeon of 3.2 GHz (SRDS'07 §7).
    #[must_use]
    pub fn paper() -> Self {
        let verify = Duration::from_micros(70);
        let sign = Duration::from_micros(1300);
        let plain = SchemeCosts { sign, combine: Duration::ZERO, verify, bytes: 128 };
        Self {
            name: "paper".to_owned(),
            within: MessageCosts::signed(&plain),
            plain,
            threshold: SchemeCosts {
                sign: Duration::from_micros(3900),
                combine: Duration::from_micros(3400),
                verify,
                bytes: 128,
            },
        }
    }

    /// The same on processors that are so many times as fast.
    ///
    /// # Panics
    /// If that is zero.
    #[must_use]
    pub fn on_faster(&self, times: u32) -> Self {
        let faster = |scheme: SchemeCosts| SchemeCosts {
            sign: scheme.sign / times,
            combine: scheme.combine / times,
            verify: scheme.verify / times,
            bytes: scheme.bytes,
        };
        let within = MessageCosts { seal: self.within.seal / times, check: self.within.check / times };
        let name = format!("{} {times} times as fast", self.name);
        Self { name, within, plain: faster(self.plain), threshold: faster(self.threshold) }
    }

    /// What a site of this kind signs with.
    #[must_use]
    pub fn of_site(&self, local: LevelProtocol) -> SchemeCosts {
        match local {
            LevelProtocol::Pbft => self.threshold,
            LevelProtocol::Paxos => self.plain,
        }
    }
}

/// A site's own protocol, as far as it takes time. Every server seals what it says and checks all that it hears.
#[derive(Debug, Clone)]
pub(super) struct LocalCosts {
    /// Until all have heard of a batch that is to be ordered, in nanoseconds.
    pub(super) proposing: u64,
    /// To order a batch: Paxos in two rounds, PBFT in three, of which all but the first are all to all.
    pub(super) ordering: Work,
    /// To sign for the site: one round of shares where servers may lie.
    pub(super) signing: Work,
    /// To check what came out of that, once it has been sent.
    pub(super) check_signed: u64,
    /// To check another site's signature.
    pub(super) verify_site: u64,
    /// The same, where the site has to wait for servers which do that when they execute what has come.
    pub(super) verify_site_by_others: u64,
    /// To check a client's.
    pub(super) verify_client: u64,
}

impl LocalCosts {
    pub(super) fn new(table: &CostTable, local: LevelProtocol, servers: usize, lan_delay: Duration) -> Self {
        let (seal, check, lan) = (nanos(table.within.seal), nanos(table.within.check), nanos(lan_delay));
        let others = servers as u64 - 1;
        let group = quorums(local, servers);
        let site = table.of_site(local);
        // A round all to all lasts until a quorum is heard; then the rest is checked as well.
        let quorum = group.agreement() as u64 - 1;
        let first = seal + lan + check;
        let round = seal + lan + quorum * check;
        let (ordering, signing) = match local {
            LevelProtocol::Paxos => (
                Work { busy: seal + check + others * check, takes: first + round },
                Work::of(nanos(site.sign)),
            ),
            LevelProtocol::Pbft => (
                Work { busy: 2 * seal + check + 2 * others * check, takes: first + 2 * round },
                Self::threshold(site, (seal, check, lan), (group.one_correct() as u64 - 1, others)),
            ),
        };
        let verify_site = nanos(site.verify);
        // Who signs alone need not look.
        let check_signed = match local {
            LevelProtocol::Pbft => verify_site,
            LevelProtocol::Paxos => 0,
        };
        let verify_site_by_others = match local {
            LevelProtocol::Pbft => verify_site,
            LevelProtocol::Paxos => 0,
        };
        Self {
            proposing: first,
            ordering,
            signing,
            check_signed,
            verify_site,
            verify_site_by_others,
            verify_client: nanos(table.plain.verify),
        }
    }

    /// A share, sealed and sent to all, then those of the others and what they make up, unchecked.
    fn threshold(
        site: SchemeCosts,
        (seal, check, lan): (u64, u64, u64),
        (needed, others): (u64, u64),
    ) -> Work {
        let own = nanos(site.sign) + seal;
        let combine = nanos(site.combine.saturating_sub(site.verify));
        Work { busy: own + others * check + combine, takes: own + lan + needed * check + combine }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_table_adds_up() {
        let lan = Duration::from_micros(100);
        let paxos = LocalCosts::new(&CostTable::paper(), LevelProtocol::Paxos, 16, lan);
        // One signature, an accept and 15 votes to be checked.
        assert_eq!(paxos.ordering.busy, 1_300_000 + 16 * 70_000);
        assert_eq!(paxos.signing.busy, 1_300_000);
        let pbft = LocalCosts::new(&CostTable::paper(), LevelProtocol::Pbft, 16, lan);
        // Two signatures, a pre-prepare, 15 prepares and 15 commits to be checked.
        assert_eq!(pbft.ordering.busy, 2_600_000 + 31 * 70_000);
        let signing = pbft.signing.busy + pbft.check_signed;
        assert_eq!(signing, 3_900_000 + 1_300_000 + 15 * 70_000 + 3_400_000);
        assert!(pbft.ordering.takes > pbft.ordering.busy, "a server waits for the others");
    }
}
