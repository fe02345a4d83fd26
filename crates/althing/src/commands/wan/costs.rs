//! What our own primitives cost on this machine.

use althing_crypto::site::{SiteBatch, SiteDeal};
use althing_crypto::{Domain, Identity, KeySeed, Keyring, PublicIdentity};
use althing_sim::wan::{CostTable, MessageCosts, SchemeCosts};
use althing_types::{GroupId, Principal, Quorums, ReplicaId, SiteId};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Of so many trials the median counts.
const TRIALS: usize = 101;

/// How many servers a site has.
const SERVERS: u16 = 16;

/// Ed25519, BLS with six of sixteen shares, and MACs for sixteen servers, on one thread.
pub(super) fn measured() -> CostTable {
    let batch = SiteBatch::new(GroupId([1; 16]), SiteId(0), &[(Domain::Link, &[7; 256][..])]);
    let statement = batch.statement();
    let seed = KeySeed::from([7; 32]);
    let quorums = Quorums::byzantine(usize::from(SERVERS), 5).expect("16 servers tolerate 5");
    let scheme = |deal: &SiteDeal, bytes: usize| {
        // Of servers from all over the site, as they come.
        let of = deal
            .secrets
            .iter()
            .zip((0u16..).map(ReplicaId))
            .step_by(deal.secrets.len() / deal.shares.needed());
        let shares: BTreeMap<_, _> = of.map(|(secret, id)| (id, secret.share(&statement))).collect();
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
        within: within(),
        plain: scheme(&SiteDeal::plain(1, &seed), 64),
        threshold: scheme(&SiteDeal::threshold(quorums, &seed), 48),
    }
}

/// What servers say to each other while their site's protocol goes well: a message of 256 bytes has a MAC for each of
/// the others, and each checks its own. The primary's proposals and all votes are such messages. Shares of signatures come
/// over channels, which cost about as much.
fn within() -> MessageCosts {
    let group = GroupId([1; 16]);
    let identity = |server: u16| {
        let mut seed = [7; 64];
        seed[..2].copy_from_slice(&server.to_le_bytes());
        Identity::from_secret_bytes(&seed)
    };
    let replicas: Vec<PublicIdentity> = (0..SERVERS).map(|server| identity(server).public()).collect();
    let keyring = |server: u16| {
        let me = Principal::Replica(ReplicaId(server));
        Keyring::new(group, me, identity(server), replicas.clone(), BTreeMap::new())
    };
    let (mut sender, mut receiver) = (keyring(0), keyring(1));
    let message = [7; 256];
    let macs = sender.authenticate(Domain::Protocol, &message);
    let mac = macs.mac_for(ReplicaId(1)).expect("there is one for each server");
    let mut check = || receiver.verify_mac(Principal::Replica(ReplicaId(0)), mac, Domain::Protocol, &message);
    assert!(check(), "the MAC is right");
    MessageCosts {
        seal: median(|| sender.authenticate(Domain::Protocol, black_box(&message))),
        check: median(check),
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
