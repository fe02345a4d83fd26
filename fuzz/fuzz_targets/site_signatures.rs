//! What sites hand each other and their servers hand each other: proofs, keys, and shares, which are
//! combined. The first byte chooses.
#![no_main]

use althing_crypto::site::{
    SignatureShare, SiteBatch, SiteDeal, SiteKeys, SiteProof, SitePublic, SiteSignature,
};
use althing_crypto::{Domain, KeySeed, MerklePath, Proof};
use althing_fuzz::canonical;
use althing_types::{Digest, GroupId, Quorums, ReplicaId, SiteId};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::sync::LazyLock;

const SYSTEM: GroupId = GroupId([5; 16]);

static SITE: LazyLock<SiteDeal> = LazyLock::new(|| {
    SiteDeal::threshold(Quorums::byzantine(4, 1).expect("four are enough"), &KeySeed::from([4; 32]))
});

fuzz_target!(|bytes: &[u8]| {
    let Some((shape, rest)) = bytes.split_first() else {
        return;
    };
    match shape % 5 {
        0 => drop(canonical::<SitePublic>(rest, SitePublic::MAX_BYTES)),
        1 => drop(canonical::<SiteSignature>(rest, SiteSignature::MAX_BYTES)),
        2 => {
            if let Some(path) = canonical::<MerklePath>(rest, MerklePath::MAX_BYTES) {
                assert!(path.index() < path.leaves());
                let _ = path.root(&Digest::NULL);
            }
        }
        3 => {
            let proof = canonical::<SiteProof>(rest, SiteProof::MAX_BYTES);
            let keys = SiteKeys::new(SYSTEM, vec![*SITE.shares.public()]);
            let is_good = keys.verify(SiteId(0), &Proof(rest.to_vec()), Domain::Protocol, b"never said");
            assert!(!is_good, "a forgery: {proof:?}");
        }
        _ => combine(rest),
    }
});

/// Shares of anybody's making, for what the site never said: unless the fuzzer has broken BLS they make
/// nothing, and each that had to be looked at is wrong.
fn combine(bytes: &[u8]) {
    let shares = canonical::<BTreeMap<ReplicaId, SignatureShare>>(bytes, 8 * SignatureShare::MAX_BYTES);
    let Some(shares) = shares else { return };
    let batch = SiteBatch::new(SYSTEM, SiteId(0), &[(Domain::Protocol, b"never said")]);
    let combined = SITE.shares.combine(&batch.statement(), &shares);
    assert_eq!(combined.signature, None);
    let are_enough = shares.keys().filter(|server| server.0 < 4).count() >= SITE.shares.needed();
    assert_eq!(combined.wrong.len(), if are_enough { shares.len() } else { 0 });
}
