//! What our own primitives cost on this machine.

use althing_crypto::site::{SiteBatch, SiteDeal};
use althing_crypto::{Domain, KeySeed};
use althing_sim::wan::{CostTable, SchemeCosts};
use althing_types::{GroupId, Quorums, ReplicaId, SiteId};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Of so many trials the median counts.
const TRIALS: usize = 101;

/// Ed25519, and BLS with six of sixteen shares, on one thread.
pub(super) fn measured() -> CostTable {
    let batch = SiteBatch::new(GroupId([1; 16]), SiteId(0), &[(Domain::Link, &[7; 256][..])]);
    let statement = batch.statement();
    let seed = KeySeed::from([7; 32]);
    let quorums = Quorums::byzantine(16, 5).expect("16 servers tolerate 5");
    let scheme = |deal: &SiteDeal, bytes: usize| {
        let ids = (0u16..).map(ReplicaId);
        let shares: BTreeMap<_, _> =
            ids.zip(&deal.secrets).map(|(id, secret)| (id, secret.share(&statement))).collect();
        let combine = || deal.shares.combine(black_box(&statement), &shares);
        let signature = combine().signature.expect("the shares are right");
        SchemeCosts {
            sign: median(|| deal.secrets[0].share(black_box(&statement))),
            combine: if deal.secrets.len() > 1 { median(combine) } else { Duration::ZERO },
            verify: median(|| deal.shares.public().verify(black_box(&statement), &signature)),
            bytes,
        }
    };
    CostTable {
        name: "measured".to_owned(),
        plain: scheme(&SiteDeal::plain(1, &seed), 64),
        threshold: scheme(&SiteDeal::threshold(quorums, &seed), 48),
    }
}

fn median<T>(mut run: impl FnMut() -> T) -> Duration {
    let mut times: Vec<Duration> = (0..TRIALS)
        .map(|_| {
            let start = Instant::now();
            black_box(run());
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[TRIALS / 2]
}
