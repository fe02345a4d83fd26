use super::cpu::Work;
use crate::config::ProtocolKind;
use crate::dice::nanos;
use crate::sites::quorums;
use serde::Serialize;
use std::time::Duration;

/// What a signature scheme costs on one core.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SchemeCosts {
    /// To sign, or to make a share of a signature.
    pub sign: Duration,
    /// To make a signature of the shares; none where one server signs alone.
    pub combine: Duration,
    /// To check a signature.
    pub verify: Duration,
    /// How long a signature is.
    pub bytes: usize,
}

/// What cryptography costs. All else that a server does is free: it is little beside that.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CostTable {
    /// Its name.
    pub name: String,
    /// What servers sign with in their site's protocol, clients sign updates with, and a site signs with where its
    /// servers only crash.
    pub plain: SchemeCosts,
    /// What a site signs with where its servers may lie.
    pub threshold: SchemeCosts,
}

impl CostTable {
    /// The paper's: 1024-bit RSA, and threshold RSA with 6 of 16 shares, on a Xeon of 3.2 GHz (SRDS'07 §7).
    #[must_use]
    pub fn paper() -> Self {
        let verify = Duration::from_micros(70);
        Self {
            name: "paper".to_owned(),
            plain: SchemeCosts {
                sign: Duration::from_micros(1300),
                combine: Duration::ZERO,
                verify,
                bytes: 128,
            },
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
        let name = format!("{}, {times} times as fast", self.name);
        Self { name, plain: faster(self.plain), threshold: faster(self.threshold) }
    }

    /// What a site of this kind signs with.
    #[must_use]
    pub fn of_site(&self, local: ProtocolKind) -> SchemeCosts {
        match local {
            ProtocolKind::Pbft => self.threshold,
            ProtocolKind::Paxos => self.plain,
        }
    }
}

/// A site's own protocol, as far as it takes time. Every server signs what it says and checks all that it hears, as the
/// paper has it.
#[derive(Debug, Clone)]
pub(super) struct LocalCosts {
    /// To order a batch: Paxos in two rounds, PBFT in three, of which all but the first are all to all.
    pub(super) ordering: Work,
    /// To sign for the site: one round of shares where servers may lie.
    pub(super) signing: Work,
    /// To check another site's signature.
    pub(super) verify_site: u64,
    /// To check a client's.
    pub(super) verify_client: u64,
}

impl LocalCosts {
    pub(super) fn new(table: &CostTable, local: ProtocolKind, servers: usize, lan_delay: Duration) -> Self {
        let (sign, verify, lan) = (nanos(table.plain.sign), nanos(table.plain.verify), nanos(lan_delay));
        let others = servers as u64 - 1;
        let group = quorums(local, servers);
        let site = table.of_site(local);
        // A round all to all lasts until a quorum is heard; then the rest is checked as well.
        let quorum = group.agreement() as u64 - 1;
        let first = sign + lan + verify;
        let round = sign + lan + quorum * verify;
        let (ordering, signing) = match local {
            ProtocolKind::Paxos => (
                Work { busy: sign + verify + others * verify, takes: first + round },
                Work::of(nanos(site.sign)),
            ),
            ProtocolKind::Pbft => (
                Work { busy: 2 * sign + verify + 2 * others * verify, takes: first + 2 * round },
                Self::threshold(site, (sign, verify, lan), (group.one_correct() as u64 - 1, others)),
            ),
        };
        Self { ordering, signing, verify_site: nanos(site.verify), verify_client: nanos(table.plain.verify) }
    }

    /// A share, signed and sent to all, then those of the others and what they make up.
    fn threshold(
        site: SchemeCosts,
        (sign, verify, lan): (u64, u64, u64),
        (needed, others): (u64, u64),
    ) -> Work {
        let own = nanos(site.sign) + sign;
        let combine = nanos(site.combine);
        Work { busy: own + others * verify + combine, takes: own + lan + needed * verify + combine }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_table_adds_up() {
        let lan = Duration::from_micros(100);
        let paxos = LocalCosts::new(&CostTable::paper(), ProtocolKind::Paxos, 16, lan);
        // One signature, an accept and 15 votes to be checked.
        assert_eq!(paxos.ordering.busy, 1_300_000 + 16 * 70_000);
        assert_eq!(paxos.signing.busy, 1_300_000);
        let pbft = LocalCosts::new(&CostTable::paper(), ProtocolKind::Pbft, 16, lan);
        // Two signatures, a pre-prepare, 15 prepares and 15 commits to be checked.
        assert_eq!(pbft.ordering.busy, 2_600_000 + 31 * 70_000);
        assert_eq!(pbft.signing.busy, 3_900_000 + 1_300_000 + 15 * 70_000 + 3_400_000);
        assert!(pbft.ordering.takes > pbft.ordering.busy, "a server waits for the others");
    }
}
