use super::config::{Composition, System, WanConfig};
use super::costs::{CostTable, MessageCosts, SchemeCosts};
use super::run;
use std::time::Duration;

/// How many messages follow each other until an update of a client of the leading site is executed there: a row of SRDS'07
/// Table 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounds {
    /// Between sites.
    pub wide: u64,
    /// Between servers of a site.
    pub local: u64,
}

/// How long a message between sites takes, where nothing else takes any time.
const WIDE: Duration = Duration::from_secs(1);

/// How long one within a site does.
const LOCAL: Duration = Duration::from_millis(1);

/// From the client to its server, and back.
const OF_CLIENT: u64 = 2;

/// Counts the rounds of a composition: from the latency of a lone client, where only messages take time, and those between
/// sites a thousand times as long as those within.
///
/// # Panics
/// If the client gets no answer.
#[must_use]
pub fn rounds(composition: Composition) -> Rounds {
    let free =
        SchemeCosts { sign: Duration::ZERO, combine: Duration::ZERO, verify: Duration::ZERO, bytes: 0 };
    let config = WanConfig {
        diameter: WIDE,
        uplink_bits_per_s: 1_000_000_000_000_000,
        costs: CostTable {
            name: "free".to_owned(),
            within: MessageCosts::signed(&free),
            plain: free,
            threshold: free,
        },
        lan_delay: LOCAL,
        warm_up: Duration::from_secs(20),
        measured: Duration::from_secs(60),
        ..WanConfig::new(System::Sites(composition), 1)
    };
    let latency = run(&config).latency.expect("the client is answered");
    let locals = (latency.p50_ms / (LOCAL.as_secs_f64() * 1e3)).round() as u64;
    let locals_of_wide = (WIDE.as_millis() / LOCAL.as_millis()) as u64;
    Rounds { wide: locals / locals_of_wide, local: locals % locals_of_wide - OF_CLIENT }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sites::LevelProtocol::{Paxos, Pbft};
    use crate::wan::Carriage;

    #[test]
    fn all_compositions_have_as_many_rounds_as_in_the_paper() {
        let count = |(wide, local)| {
            let Rounds { wide, local } = rounds(Composition { wide, local, carriage: Carriage::Leader });
            (wide, local)
        };
        let all = [(Paxos, Paxos), (Pbft, Paxos), (Paxos, Pbft), (Pbft, Pbft)].map(count);
        assert_eq!(all, [(2, 6), (3, 8), (2, 11), (3, 15)]);
    }
}
