use super::*;
use crate::{Domain, KeyError, KeySeed, Proof};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use althing_types::{DecodeError, GroupId, Quorums, ReplicaId, SiteId, decode, encode};
use blst::MultiPoint;
use blst::min_sig::{AggregateSignature, Signature};
use proptest::prelude::*;

const SYSTEM: GroupId = GroupId([5; 16]);
const SITE: SiteId = SiteId(2);
/// The order of the subgroup of BLS12-381 that is used, the least byte first.
const ORDER: [u8; 32] = [
    0x01, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe, 0x5b, 0xfe, 0xff, 0x02, 0xa4, 0xbd, 0x53, 0x05, 0xd8, 0xa1,
    0x09, 0x08, 0xd8, 0x39, 0x33, 0x48, 0x7d, 0x9d, 0x29, 0x53, 0xa7, 0xed, 0x73,
];

fn threshold(n: usize, f: usize) -> SiteDeal {
    SiteDeal::threshold(Quorums::byzantine(n, f).unwrap(), &KeySeed::from([n as u8; 32]))
}

fn plain(servers: usize) -> SiteDeal {
    SiteDeal::plain(servers, &KeySeed::from([9; 32]))
}

fn batch(messages: &[&[u8]]) -> SiteBatch {
    let messages: Vec<_> = messages.iter().map(|bytes| (Domain::Protocol, *bytes)).collect();
    SiteBatch::new(SYSTEM, SITE, &messages)
}

fn statement(text: &str) -> SiteStatement {
    batch(&[text.as_bytes()]).statement()
}

fn shares(deal: &SiteDeal, statement: &SiteStatement, of: &[u16]) -> BTreeMap<ReplicaId, SignatureShare> {
    let share = |server: u16| deal.secrets[usize::from(server)].share(statement);
    of.iter().map(|server| (ReplicaId(*server), share(*server))).collect()
}

/// By a plain key.
fn signature_of(deal: &SiteDeal, batch: &SiteBatch) -> SiteSignature {
    let made = deal.shares.combine_unchecked(&shares(deal, &batch.statement(), &[0]));
    made.expect("one is enough")
}

/// All choices of `count` of `0..n`.
fn choices(n: u16, count: usize) -> Vec<Vec<u16>> {
    let masks = (0u32..1 << n).filter(|mask| mask.count_ones() as usize == count);
    masks.map(|mask| (0..n).filter(|i| mask >> i & 1 == 1).collect()).collect()
}

/// A point of the curve that is outside the subgroup. Not the one with x = 0, which is of order 3.
fn stray_point() -> Signature {
    let mut candidates = (1u8..=255).map(|byte| {
        let mut bytes = [byte; 48];
        bytes[0] = 0x80 | (byte & 0x0f);
        bytes
    });
    candidates.find_map(|bytes| Signature::uncompress(&bytes).ok().filter(|p| !p.subgroup_check())).unwrap()
}

#[test]
fn any_f_plus_1_servers_make_the_same_signature_and_fewer_make_none() {
    for (n, f) in [(1, 0), (4, 1), (5, 1), (7, 2)] {
        let (deal, statement) = (threshold(n, f), statement("hello"));
        assert_eq!(deal.shares.needed(), f + 1);
        let mut signatures: Vec<_> = choices(n as u16, f + 1)
            .iter()
            .map(|of| {
                let combined = deal.shares.combine(&statement, &shares(&deal, &statement, of));
                assert_eq!(combined.wrong, []);
                combined.signature.expect("f + 1 are enough")
            })
            .collect();
        signatures.dedup();
        assert_eq!(signatures.len(), 1, "{n}");
        assert!(deal.shares.public().verify(&statement, &signatures[0]));
        assert!(encode(&signatures[0]).len() == 1 + 48);
        for of in choices(n as u16, f) {
            let combined = deal.shares.combine(&statement, &shares(&deal, &statement, &of));
            assert_eq!(combined, Combination { signature: None, wrong: Vec::new() }, "f are not");
        }
    }
}

#[test]
fn shares_of_too_few_or_of_another_polynomial_interpolate_to_nothing_that_verifies() {
    let (deal, other, statement) = (threshold(7, 2), threshold(5, 1), statement("hello"));
    // f shares, as if they were enough for a polynomial of a lower degree.
    for of in choices(7, 2) {
        let two = shares(&deal, &statement, &of);
        let points: Vec<_> =
            two.iter().map(|(i, share)| (interpolation::place(*i), share.point().unwrap())).collect();
        let made = interpolation::of_signatures(interpolation::scale(7), &points).compress();
        assert!(!deal.shares.public().verify(&statement, &SiteSignature::Threshold(made)));
    }
    let strange = other.shares.combine(&statement, &shares(&other, &statement, &[0, 1])).signature.unwrap();
    assert!(!deal.shares.public().verify(&statement, &strange));
}

/// A wrong share in place of that of server 1, in each way that comes to mind.
fn wrong_shares(deal: &SiteDeal, statement: &SiteStatement) -> Vec<(&'static str, SignatureShare)> {
    let of_point = |point: &Signature| SignatureShare::Threshold(point.serialize());
    let mut infinity = [0; 96];
    infinity[0] = 0x40;
    vec_of([
        ("over another batch", deal.secrets[1].share(&super::tests::statement("other"))),
        ("somebody else's", deal.secrets[2].share(statement)),
        ("of another site", threshold(5, 1).secrets[1].share(statement)),
        ("with the other sign", deal.secrets[1].share(statement).contradiction()),
        ("no point", SignatureShare::Threshold([0xff; 96])),
        ("the point at infinity", SignatureShare::Threshold(infinity)),
        ("outside the subgroup", of_point(&stray_point())),
        ("of the other kind", SignatureShare::Plain([3; 64])),
    ])
}

fn vec_of<T, const N: usize>(items: [T; N]) -> Vec<T> {
    items.into()
}

#[test]
fn wrong_shares_are_named_and_the_others_combined() {
    let (deal, statement) = (threshold(4, 1), statement("hello"));
    let right = deal.shares.combine(&statement, &shares(&deal, &statement, &[2, 3])).signature;
    for (what, share) in wrong_shares(&deal, &statement) {
        let own = deal.secrets[1].share(&statement);
        assert!(!deal.shares.verify_share(ReplicaId(1), &statement, &share), "{what}");
        assert!(deal.shares.verify_share(ReplicaId(1), &statement, &own));
        // It comes before, among and behind the others.
        for of in [&[1, 2, 3][..], &[0, 1, 2], &[0, 1, 3]] {
            let mut given = shares(&deal, &statement, of);
            given.insert(ReplicaId(1), share);
            let combined = deal.shares.combine(&statement, &given);
            assert_eq!(combined.signature, right, "{what}");
            assert_eq!(combined.wrong, [ReplicaId(1)], "{what}");
            // Unchecked the first two decide.
            let unchecked = deal.shares.combine_unchecked(&given);
            assert_ne!(unchecked, right, "{what}");
        }
        // Enough came before it: nobody has to look.
        let mut given = shares(&deal, &statement, &[0, 2]);
        given.insert(ReplicaId(3), share);
        assert_eq!(deal.shares.combine(&statement, &given).signature, right, "{what}");
        assert_eq!(deal.shares.combine_unchecked(&given), right, "{what}");
        // Without it there are too few, but now it is known who is to blame.
        let mut given = shares(&deal, &statement, &[0]);
        given.insert(ReplicaId(1), share);
        let wrong = [ReplicaId(1)].into();
        assert_eq!(deal.shares.combine(&statement, &given), Combination { signature: None, wrong }, "{what}");
    }
}

#[test]
fn a_share_with_something_added_that_is_outside_the_subgroup_changes_no_signature() {
    let (deal, statement) = (threshold(4, 1), statement("hello"));
    let right = deal.shares.combine(&statement, &shares(&deal, &statement, &[2, 3])).signature;
    let share = {
        let own = deal.secrets[1].share(&statement).point().unwrap();
        let mut sum = AggregateSignature::from_signature(&own);
        sum.add_signature(&[stray_point()].mult(&ORDER, 255).to_signature(), false).unwrap();
        SignatureShare::Threshold(sum.to_signature().serialize())
    };
    assert!(!deal.shares.verify_share(ReplicaId(1), &statement, &share));
    // Server 1 gets the coefficient 72 beside server 2, and -24 beside server 0.
    for of in [[1, 2, 3], [0, 1, 2]] {
        let mut given = shares(&deal, &statement, &of);
        given.insert(ReplicaId(1), share);
        let combined = deal.shares.combine(&statement, &given);
        assert_eq!((combined.signature, combined.wrong), (right, [ReplicaId(1)].into()));
    }
}

/// The cofactor of G1, without one of its factors 3; the least byte first.
const COFACTOR_BY_3: [u8; 16] = 0x1324_2eaa_c71c_a072_2eaa_e38e_5555_8e39_u128.to_le_bytes();

#[test]
fn what_is_added_to_a_share_and_multiplied_to_nothing_does_no_harm() {
    let (deal, statement) = (threshold(4, 1), statement("hello"));
    let right = deal.shares.combine(&statement, &shares(&deal, &statement, &[2, 3])).signature;
    let of_the_cofactor = [stray_point()].mult(&ORDER, 255).to_signature();
    let of_order_3 = [of_the_cofactor].mult(&COFACTOR_BY_3, 128).to_signature();
    let mut sum = AggregateSignature::from_signature(&deal.secrets[1].share(&statement).point().unwrap());
    sum.add_signature(&of_order_3, false).unwrap();
    let share = SignatureShare::Threshold(sum.to_signature().serialize());
    assert_ne!(share, deal.secrets[1].share(&statement));
    assert!(!deal.shares.verify_share(ReplicaId(1), &statement, &share));
    let mut given = shares(&deal, &statement, &[1, 2]);
    given.insert(ReplicaId(1), share);
    assert_eq!(deal.shares.combine(&statement, &given), Combination { signature: right, wrong: Vec::new() });
}

#[test]
fn a_signature_is_good_where_blst_itself_says_so() {
    for text in ["hello", "other", ""] {
        let (deal, said) = (threshold(4, 1), statement(text));
        let keys::PublicKind::Threshold(key) = deal.shares.public().0 else {
            panic!("it is a threshold key")
        };
        let right = deal.shares.combine(&said, &shares(&deal, &said, &[0, 1])).signature.unwrap();
        let SiteSignature::Threshold(right) = right else { panic!("it is of a threshold key") };
        let wrong = wrong_shares(&deal, &said).into_iter().filter_map(|(_, share)| share.point());
        for bytes in wrong.map(|point| point.compress()).chain([right]) {
            for statement in [said, statement("hello")] {
                let is_good = Signature::uncompress(&bytes).is_ok_and(|it| {
                    let message = &statement.digest().0;
                    let verified = it.verify(true, message, signature::CIPHERSUITE, &[], &key, false);
                    verified == blst::BLST_ERROR::BLST_SUCCESS
                });
                assert_eq!(is_good, bytes == right && statement == said, "what blst says");
                let signature = SiteSignature::Threshold(bytes);
                assert_eq!(deal.shares.public().verify(&statement, &signature), is_good);
            }
        }
    }
}

#[test]
fn several_wrong_shares_and_servers_that_there_are_not() {
    let (deal, statement) = (threshold(7, 2), statement("hello"));
    let mut given = shares(&deal, &statement, &[0, 1, 2, 3, 6]);
    given.insert(ReplicaId(1), deal.secrets[0].share(&statement));
    given.insert(ReplicaId(3), SignatureShare::Threshold([0x80; 96]));
    let combined = deal.shares.combine(&statement, &given);
    assert_eq!(combined.wrong, [ReplicaId(1), ReplicaId(3)]);
    assert!(deal.shares.public().verify(&statement, &combined.signature.unwrap()));
    let mut given = shares(&deal, &statement, &[5, 6]);
    given.insert(ReplicaId(7), deal.secrets[0].share(&statement));
    assert_eq!(deal.shares.combine(&statement, &given).signature, None, "7 is not of the site");
    assert!(!deal.shares.verify_share(ReplicaId(7), &statement, &deal.secrets[0].share(&statement)));
}

#[test]
fn a_plain_site_signs_by_any_of_its_servers() {
    let (deal, statement) = (plain(3), statement("hello"));
    for server in 0..3 {
        let combined = deal.shares.combine(&statement, &shares(&deal, &statement, &[server]));
        assert!(deal.shares.public().verify(&statement, &combined.signature.unwrap()));
    }
    let mut given = shares(&deal, &statement, &[0, 1, 2]);
    given.insert(ReplicaId(0), deal.secrets[0].share(&statement).contradiction());
    let combined = deal.shares.combine(&statement, &given);
    assert_eq!((combined.signature.is_some(), combined.wrong), (true, [ReplicaId(0)].into()));
    let stranger = [(ReplicaId(3), deal.secrets[0].share(&statement))].into();
    assert_eq!(deal.shares.combine(&statement, &stranger).signature, None);
    let byzantine = threshold(4, 1);
    let signature = byzantine.shares.combine(&statement, &shares(&byzantine, &statement, &[0, 1])).signature;
    assert!(!deal.shares.public().verify(&statement, &signature.unwrap()), "of the other kind");
}

#[test]
fn a_proof_is_of_one_message_one_domain_one_site_and_one_system() {
    let messages: [&[u8]; 5] = [b"zero", b"one", b"two", b"three", b"four"];
    for (deal, signers) in [(threshold(4, 1), &[0, 3][..]), (plain(3), &[1])] {
        let batch = batch(&messages);
        let given = shares(&deal, &batch.statement(), signers);
        let signature = deal.shares.combine(&batch.statement(), &given).signature.unwrap();
        let public = deal.shares.public();
        for (index, message) in messages.iter().enumerate() {
            let proof = batch.proof(index, signature);
            assert!(proof.verify((SYSTEM, SITE), public, Domain::Protocol, message));
            assert!(!proof.verify((SYSTEM, SITE), public, Domain::Link, message));
            assert!(!proof.verify((SYSTEM, SiteId(1)), public, Domain::Protocol, message));
            assert!(!proof.verify((GroupId([6; 16]), SITE), public, Domain::Protocol, message));
            for other in messages.iter().filter(|other| *other != message) {
                assert!(!proof.verify((SYSTEM, SITE), public, Domain::Protocol, other));
            }
            let bytes = Proof::from(&proof);
            assert!(bytes.0.len() <= SiteProof::MAX_BYTES);
            assert_eq!(SiteProof::try_from(&bytes), Ok(proof));
        }
    }
}

#[test]
fn a_signature_is_checked_once_for_all_messages_of_its_batch() {
    let (one, two) = (threshold(4, 1), plain(3));
    let keys = SiteKeys::new(SYSTEM, [one.shares.public(), two.shares.public()].map(|key| *key).into());
    let messages: Vec<(Domain, &[u8])> = [&b"a"[..], b"b", b"c"].map(|m| (Domain::Protocol, m)).into();
    for (site, deal) in [(SiteId(0), &one), (SiteId(1), &two)] {
        let before = keys.checked();
        let batch = SiteBatch::new(SYSTEM, site, &messages);
        let signature = deal.shares.combine(&batch.statement(), &shares(deal, &batch.statement(), &[0, 1]));
        let signature = signature.signature.unwrap();
        let proof = |index| Proof::from(&batch.proof(index, signature));
        for (index, (domain, bytes)) in messages.iter().enumerate() {
            assert!(keys.verify(site, &proof(index), *domain, bytes));
            assert_eq!(keys.checked(), before + 1);
        }
        // What is remembered is believed of these messages only, in their places.
        assert!(!keys.verify(site, &proof(0), Domain::Protocol, b"b"));
        assert!(!keys.verify(site, &proof(0), Domain::Link, b"a"));
        assert!(!keys.verify(SiteId(1 - site.0), &proof(0), Domain::Protocol, b"a"));
        assert!(!keys.verify(SiteId(2), &proof(0), Domain::Protocol, b"a"), "no such site");
        let forged =
            SiteProof { signature: SiteSignature::Plain([0; 64]), path: batch.proof(0, signature).path };
        assert!(!keys.verify(site, &Proof::from(&forged), Domain::Protocol, b"a"));
        assert!(!keys.verify(site, &Proof(Vec::new()), Domain::Protocol, b"a"));
    }
}

#[test]
fn parts_of_a_server_share_what_was_found_good_and_other_servers_do_not() {
    let deal = plain(1);
    let server = || SiteKeys::new(SYSTEM, [*deal.shares.public()].into());
    let batch = SiteBatch::new(SYSTEM, SiteId(0), &[(Domain::Protocol, b"said")]);
    let signature = signature_of(&deal, &batch);
    let proof = batch.proof(0, signature);
    let (outpost, other) = (server(), server());
    let machine = outpost.clone();
    let is_good =
        |keys: &SiteKeys, bytes: &[u8]| keys.verify_proof(SiteId(0), &proof, Domain::Protocol, bytes);
    assert!(!is_good(&outpost, b"other") && !is_good(&machine, b"other"), "what is bad is not remembered");
    assert_eq!(machine.checked(), 2);
    assert!(is_good(&outpost, b"said") && is_good(&machine, b"said"));
    assert_eq!((outpost.checked(), machine.checked(), other.checked()), (3, 3, 0));
    assert!(is_good(&other, b"said"));
    assert_eq!((machine.checked(), other.checked()), (3, 1));
    let combined = server();
    combined.remember(batch.statement(), signature);
    assert!(is_good(&combined, b"said") && !is_good(&combined, b"other"));
    assert_eq!(combined.checked(), 1, "the one that it has not made");
}

#[test]
fn as_many_signatures_are_remembered_as_are_bounded() {
    let deal = plain(1);
    let keys = SiteKeys::new(SYSTEM, [*deal.shares.public()].into());
    let said = |number: usize| {
        let bytes = number.to_le_bytes();
        let batch = SiteBatch::new(SYSTEM, SiteId(0), &[(Domain::Protocol, &bytes)]);
        let signature = signature_of(&deal, &batch);
        (bytes, Proof::from(&batch.proof(0, signature)))
    };
    for number in 0..=SiteKeys::MOST_REMEMBERED {
        let (bytes, proof) = said(number);
        assert!(keys.verify(SiteId(0), &proof, Domain::Protocol, &bytes));
    }
    let checked = keys.checked();
    let (bytes, proof) = said(1);
    assert!(keys.verify(SiteId(0), &proof, Domain::Protocol, &bytes));
    assert_eq!(keys.checked(), checked, "it is remembered");
    let (bytes, proof) = said(0);
    assert!(keys.verify(SiteId(0), &proof, Domain::Protocol, &bytes));
    assert_eq!(keys.checked(), checked + 1, "the oldest is forgotten");
}

#[test]
fn messages_that_follow_each_other_are_shown_by_one_signature_and_then_each_by_itself() {
    let deal = threshold(4, 1);
    let contents: Vec<_> = (0..9u8).map(|i| [i; 3]).collect();
    let batch = batch(&contents.iter().map(<[u8; 3]>::as_slice).collect::<Vec<_>>());
    let given = shares(&deal, &batch.statement(), &[0, 3]);
    let signature = deal.shares.combine(&batch.statement(), &given).signature.unwrap();
    let publics: Vec<_> =
        vec_of([*threshold(5, 1).shares.public(), *plain(1).shares.public(), *deal.shares.public()]);
    let said = |places: core::ops::Range<usize>, domain| -> Vec<(Domain, &[u8])> {
        contents[places].iter().map(|bytes| (domain, &bytes[..])).collect()
    };
    let keys = SiteKeys::new(SYSTEM, publics.clone());
    for places in [0..9, 0..1, 3..8, 8..9] {
        let proof = batch.range_proof(places.clone(), signature);
        let messages = said(places.clone(), Domain::Protocol);
        let tree = keys.verify_range(SITE, &proof, &messages).expect("it has said them");
        let each: Vec<_> = proof.proofs(tree).collect();
        assert_eq!(each, places.clone().map(|index| batch.proof(index, signature)).collect::<Vec<_>>());
        assert_eq!(keys.checked(), 1, "the signature is checked once");
    }
    let proof = batch.range_proof(3..6, signature);
    let messages = said(3..6, Domain::Protocol);
    for (what, site, messages) in [
        ("said by another site", SiteId(0), messages.clone()),
        ("said by a site of another kind", SiteId(1), messages.clone()),
        ("said by nobody", SiteId(3), messages.clone()),
        ("something else", SITE, said(3..6, Domain::Link)),
        ("in other places", SITE, said(2..5, Domain::Protocol)),
        ("too few", SITE, said(3..5, Domain::Protocol)),
        ("too many", SITE, said(3..7, Domain::Protocol)),
        ("none", SITE, Vec::new()),
    ] {
        assert_eq!(keys.verify_range(site, &proof, &messages), None, "{what}");
    }
    let other = SiteRangeProof { signature: SiteSignature::Threshold([9; 48]), ..proof.clone() };
    assert_eq!(keys.verify_range(SITE, &other, &messages), None);
    let strangers = SiteKeys::new(GroupId([6; 16]), publics);
    assert_eq!(strangers.verify_range(SITE, &proof, &messages), None, "said in another system");
    assert_eq!(SiteRangeProof::from(batch.proof(4, signature)), batch.range_proof(4..5, signature));
}

#[test]
fn keys_that_do_not_belong_together_are_refused() {
    let (deal, other) = (threshold(7, 2), threshold(4, 1));
    let (public, quorums) = (*deal.shares.public(), Quorums::byzantine(7, 2).unwrap());
    let keys: Vec<_> = deal.shares.keys().collect();
    assert_eq!(SiteShares::new(public, quorums, keys.clone()), Ok(deal.shares.clone()));
    let with = |public: &SitePublic, change: &dyn Fn(&mut Vec<ShareKey>)| {
        let mut keys = keys.clone();
        change(&mut keys);
        SiteShares::new(*public, quorums, keys).unwrap_err()
    };
    let number = SharesError::Number { given: 6, servers: 7 };
    assert_eq!(with(&public, &|keys| keys.truncate(6)), number);
    let apart = |server| SharesError::Apart { server: ReplicaId(server) };
    assert_eq!(with(&public, &|keys| keys[5] = keys[4]), apart(5));
    assert_eq!(with(&public, &|keys| keys.swap(4, 5)), apart(4));
    assert_eq!(with(&public, &|keys| keys.swap(0, 1)), SharesError::Site { needed: 3 });
    assert_eq!(with(other.shares.public(), &|_| ()), SharesError::Site { needed: 3 });
    assert_eq!(with(plain(3).shares.public(), &|_| ()), SharesError::Kind);
    assert_eq!(SiteShares::plain(public, 7), Err(SharesError::Kind));
    // Of a polynomial of a higher degree than f: no f + 1 could sign.
    let lower = Quorums::byzantine(7, 1).unwrap();
    assert_eq!(SiteShares::new(public, lower, keys.clone()), Err(SharesError::Site { needed: 2 }));
}

#[test]
fn each_server_holds_its_own_secret_and_no_two_sites_the_same() {
    for (deal, is_shared) in [(threshold(4, 1), false), (plain(4), true)] {
        for (holder, secret) in deal.secrets.iter().enumerate() {
            for server in 0..5 {
                let is_its = (usize::from(server) == holder || is_shared) && server < 4;
                assert_eq!(deal.shares.is_share_of(ReplicaId(server), secret), is_its);
            }
        }
    }
    let (one, two) = (plain(1), SiteDeal::plain(1, &KeySeed::from([8; 32])));
    assert_ne!(one.shares.public(), two.shares.public());
    assert!(!one.shares.is_share_of(ReplicaId(0), &two.secrets[0]));
    assert!(!one.shares.is_share_of(ReplicaId(0), &threshold(1, 0).secrets[0]));
}

#[test]
fn keys_survive_their_text() {
    for deal in [threshold(4, 1), plain(3)] {
        let public = deal.shares.public();
        assert_eq!(public.to_string().parse(), Ok(*public));
        assert_eq!(decode(&encode(public), SitePublic::MAX_BYTES), Ok(*public));
        for (server, secret) in deal.secrets.iter().enumerate() {
            let again: SiteSecret = secret.to_secret_text().parse().unwrap();
            assert!(deal.shares.is_share_of(ReplicaId(server as u16), &again));
        }
        assert!(deal.shares.keys().all(|key| key.to_string().parse() == Ok(key)));
        let shown = format!("{:?}", deal.secrets);
        let secret = deal.secrets[0].to_secret_text();
        let digits = secret.rsplit(':').next().unwrap();
        assert!(!shown.contains(&digits[..16]) && !shown.contains("key"), "{shown}");
    }
}

#[test]
fn broken_texts_and_bytes_are_refused_for_their_reason() {
    let (deal, plain) = (threshold(4, 1), plain(3));
    let parse = |text: &str| text.parse::<SitePublic>().unwrap_err();
    let threshold_prefix = KeyError::Prefix { expected: "althing-site-threshold-1:" };
    assert_eq!(parse("hello"), threshold_prefix);
    assert_eq!(parse(&deal.shares.keys().next().unwrap().to_string()), threshold_prefix);
    assert_eq!(parse(&deal.secrets[0].to_secret_text()), threshold_prefix);
    let text = plain.shares.public().to_string();
    assert_eq!(parse(&text[..text.len() - 2]), KeyError::Digits { expected: 72 });
    assert_eq!(parse(&text.replacen(':', ":z", 1)[..text.len()]), KeyError::Digits { expected: 72 });
    let last = if text.ends_with('0') { "1" } else { "0" };
    assert_eq!(parse(&(text[..text.len() - 1].to_string() + last)), KeyError::Check);
    let of = |prefix: &str, bytes: &[u8]| -> String {
        match bytes.len() {
            96 => crate::text::to_text::<96>(prefix, bytes.try_into().unwrap()),
            _ => crate::text::to_text::<32>(prefix, bytes.try_into().unwrap()),
        }
    };
    let mut infinity = [0; 96];
    infinity[0] = 0xc0;
    assert_eq!(parse(&of("althing-site-threshold-1:", &infinity)), KeyError::Point);
    assert_eq!(parse(&of("althing-site-threshold-1:", &[0xff; 96])), KeyError::Point);
    // The neutral element, and a point that is on no curve.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    assert_eq!(parse(&of("althing-site-plain-1:", &neutral)), KeyError::Point);
    assert_eq!(parse(&of("althing-site-plain-1:", &[2; 32])), KeyError::Point);
    let secret = |bytes: &[u8]| of("althing-site-secret-share-2:", bytes).parse::<SiteSecret>().unwrap_err();
    assert_eq!((secret(&[0; 32]), secret(&[0xff; 32])), (KeyError::Scalar, KeyError::Scalar));
    assert_eq!(decode::<SitePublic>(&[0; 97], SitePublic::MAX_BYTES), Err(DecodeError::Malformed));
    assert_eq!(decode::<SiteSignature>(&[2; 49], SiteSignature::MAX_BYTES), Err(DecodeError::Malformed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_of_a_proof_can_be_changed(
        messages in 1usize..20,
        at in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        flip in 1u8..=255,
        is_plain in any::<bool>(),
    ) {
        let deal = if is_plain { plain(3) } else { threshold(4, 1) };
        let contents: Vec<_> = (0..messages).map(|i| i.to_le_bytes()).collect();
        let batch = batch(&contents.iter().map(<[u8; 8]>::as_slice).collect::<Vec<_>>());
        let given = shares(&deal, &batch.statement(), &[1, 2]);
        let signature = deal.shares.combine(&batch.statement(), &given).signature.unwrap();
        let at = at.index(messages);
        let mut proof = Proof::from(&batch.proof(at, signature));
        let place = place.index(proof.0.len());
        proof.0[place] ^= flip;
        let is_good = SiteProof::try_from(&proof).is_ok_and(|proof| {
            proof.verify((SYSTEM, SITE), deal.shares.public(), Domain::Protocol, &contents[at])
        });
        prop_assert!(!is_good, "byte {place} of the proof of {at}");
    }
    #[test]
    fn nothing_of_a_proof_over_several_messages_can_be_changed(
        messages in 1usize..20,
        ends in any::<(prop::sample::Index, prop::sample::Index)>(),
        place in any::<prop::sample::Index>(),
        flip in 1u8..=255,
    ) {
        let deal = threshold(4, 1);
        let contents: Vec<_> = (0..messages).map(|i| i.to_le_bytes()).collect();
        let all: Vec<_> = contents.iter().map(|bytes| (Domain::Protocol, &bytes[..])).collect();
        let batch = SiteBatch::new(SYSTEM, SiteId(0), &all);
        let given = shares(&deal, &batch.statement(), &[1, 2]);
        let signature = deal.shares.combine(&batch.statement(), &given).signature.unwrap();
        let (a, b) = (ends.0.index(messages), ends.1.index(messages));
        let places = a.min(b)..a.max(b) + 1;
        let mut bytes = encode(&batch.range_proof(places.clone(), signature));
        prop_assert!(bytes.len() <= SiteRangeProof::MAX_BYTES);
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        let keys = SiteKeys::new(SYSTEM, vec_of([*deal.shares.public()]));
        let tampered = decode::<SiteRangeProof>(&bytes, SiteRangeProof::MAX_BYTES);
        let is_good = tampered.is_ok_and(|proof| {
            let start = proof.range.start();
            [places.clone(), start..start + proof.range.count()].into_iter().any(|shown| {
                all.get(shown).is_some_and(|shown| keys.verify_range(SiteId(0), &proof, shown).is_some())
            })
        });
        prop_assert!(!is_good, "byte {place} of the proof of {places:?}");
    }
}
