//! What sites hand each other and their servers hand each other: proofs, keys, parcels of messages, and shares,
//! which are combined. The first byte chooses.
#![no_main]

use althing_crypto::site::{
    SignatureShare, SiteBatch, SiteDeal, SiteKeys, SiteProof, SitePublic, SiteRangeProof, SiteSignature,
};
use althing_crypto::{Domain, KeySeed, MerklePath, MerkleRange, Proof};
use althing_fuzz::canonical;
use althing_types::{Digest, GroupId, Quorums, ReplicaId, SiteId};
use althing_wide::Parcel;
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
    match shape % 8 {
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
        4 => combine(rest),
        5 => {
            if let Some(range) = canonical::<MerkleRange>(rest, MerkleRange::MAX_BYTES) {
                let tree = range.tree(&vec![Digest::NULL; range.count()]).expect("as many as it shows");
                let root = tree.root();
                assert!(tree.into_paths().all(|path| path.root(&Digest::NULL) == root));
            }
        }
        6 => {
            let Some(proof) = canonical::<SiteRangeProof>(rest, SiteRangeProof::MAX_BYTES) else { return };
            let keys = SiteKeys::new(SYSTEM, vec![*SITE.shares.public()]);
            let said = vec![(Domain::Protocol, &b"never said"[..]); proof.range.count()];
            assert!(keys.verify_range(SiteId(0), &proof, &said).is_none(), "a forgery: {proof:?}");
        }
        _ => {
            let Some(parcel) = canonical::<Parcel>(rest, 1 << 16) else { return };
            let keys = SiteKeys::new(SYSTEM, vec![*SITE.shares.public()]);
            assert!(parcel.open(&keys).is_none(), "a forgery");
        }
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
