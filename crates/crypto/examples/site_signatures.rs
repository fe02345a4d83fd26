//! What a site's signatures cost on this machine, on one thread: what the simulator's cost table is made of.
//!
//! ```sh
//! cargo run --release -p althing-crypto --example site_signatures
//! ```

use althing_crypto::site::{SignatureShare, SiteBatch, SiteDeal, SiteKeys};
use althing_crypto::{Domain, KeySeed, Proof};
use althing_types::{GroupId, Quorums, ReplicaId, SiteId};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

const SYSTEM: GroupId = GroupId([1; 16]);
const SITE: SiteId = SiteId(0);
/// An update of the paper's, and what it is sent with.
const MESSAGE_BYTES: usize = 256;

fn main() {
    println!("microseconds on one thread: the median, and the ninth of ten");
    for (n, f) in [(4, 1), (16, 5), (64, 21), (100, 33)] {
        threshold(n, f);
    }
    plain();
    merkle();
}

fn threshold(n: usize, f: usize) {
    let quorums = Quorums::byzantine(n, f).expect("n is at least 3f + 1");
    let deal = SiteDeal::threshold(quorums, &KeySeed::from([7; 32]));
    let batch = batch(1);
    let statement = batch.statement();
    let shares: BTreeMap<ReplicaId, SignatureShare> =
        quorums.replicas().zip(&deal.secrets).map(|(id, secret)| (id, secret.share(&statement))).collect();
    let mut one_is_wrong = shares.clone();
    one_is_wrong.insert(ReplicaId(0), deal.secrets[1].share(&statement));
    let signature = deal.shares.combine(&statement, &shares).signature.expect("the shares are right");
    let name = format!("BLS {} of {n}", f + 1);
    measure(&format!("{name}: share"), 200, || deal.secrets[0].share(black_box(&statement)));
    measure(&format!("{name}: check a share"), 200, || {
        deal.shares.verify_share(ReplicaId(0), black_box(&statement), &shares[&ReplicaId(0)])
    });
    // Of servers from all over the site, as they come.
    let spread: BTreeMap<_, _> =
        shares.iter().step_by(n / (f + 1)).map(|(id, share)| (*id, *share)).collect();
    measure(&format!("{name}: combine"), 200, || deal.shares.combine_unchecked(black_box(&spread)));
    measure(&format!("{name}: combine and verify"), 200, || {
        deal.shares.combine(black_box(&statement), &spread)
    });
    measure(&format!("{name}: the same, one share wrong"), 100, || {
        deal.shares.combine(black_box(&statement), &one_is_wrong)
    });
    measure(&format!("{name}: verify"), 200, || {
        deal.shares.public().verify(black_box(&statement), &signature)
    });
    measure(&format!("{name}: deal"), 10, || SiteDeal::threshold(quorums, &KeySeed::from([8; 32])));
}

fn plain() {
    let deal = SiteDeal::plain(1, &KeySeed::from([7; 32]));
    let batch = batch(1);
    let statement = batch.statement();
    let share = deal.secrets[0].share(&statement);
    let shares = BTreeMap::from([(ReplicaId(0), share)]);
    let signature = deal.shares.combine(&statement, &shares).signature.expect("the share is right");
    measure("Ed25519: sign", 2000, || deal.secrets[0].share(black_box(&statement)));
    measure("Ed25519: verify", 2000, || deal.shares.public().verify(black_box(&statement), &signature));
}

fn merkle() {
    let deal = SiteDeal::plain(1, &KeySeed::from([7; 32]));
    for messages in [1, 16, 64, 256] {
        let name = format!("batch of {messages} messages of {MESSAGE_BYTES} B");
        measure(&format!("{name}: make the tree"), 200, || batch(black_box(messages)));
        let batch = batch(messages);
        let shares = BTreeMap::from([(ReplicaId(0), deal.secrets[0].share(&batch.statement()))]);
        let signature = deal.shares.combine(&batch.statement(), &shares).signature.expect("it is right");
        let proof = batch.proof(messages / 2, signature);
        let message = message(messages / 2);
        measure(&format!("{name}: a path, hashed"), 2000, || {
            proof.statement(SYSTEM, SITE, Domain::Protocol, black_box(&message))
        });
        let keys = SiteKeys::new(SYSTEM, vec![*deal.shares.public()]);
        let proof = Proof::from(&proof);
        assert!(keys.verify(SITE, &proof, Domain::Protocol, &message));
        measure(&format!("{name}: a proof, its signature known"), 2000, || {
            keys.verify(SITE, black_box(&proof), Domain::Protocol, &message)
        });
        println!("{:>12} bytes  {name}: a proof", proof.0.len());
    }
}

fn message(number: usize) -> Vec<u8> {
    let mut bytes = vec![0xab; MESSAGE_BYTES];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn batch(messages: usize) -> SiteBatch {
    let messages: Vec<_> = (0..messages).map(message).collect();
    let messages: Vec<(Domain, &[u8])> = messages.iter().map(|m| (Domain::Protocol, m.as_slice())).collect();
    SiteBatch::new(SYSTEM, SITE, &messages)
}

fn measure<T>(name: &str, rounds: usize, mut run: impl FnMut() -> T) {
    for _ in 0..rounds / 10 {
        black_box(run());
    }
    let mut micros: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            black_box(run());
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    micros.sort_by(f64::total_cmp);
    println!("{:>9.1} {:>9.1}  {name}", micros[rounds / 2], micros[rounds * 9 / 10]);
}
