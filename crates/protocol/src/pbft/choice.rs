//! What a new view has to propose, as a pure function of the view changes it follows from
//! (TOCS'02 §4.4, figure 4). The new primary computes it, and every backup again.

use super::message::{Checkpoint, CheckpointCertificate, Claim, NewView, ViewChange};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use althing_types::{Digest, Quorums, ReplicaId, Seq, View};

/// The most elements of Q that a view change may hold for one number.
const MAX_CLAIMS_PER_SEQ: usize = 8;

/// What all replicas of an instance share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) quorums: Quorums,
    pub(super) checkpoint_period: u64,
    pub(super) log_size: u64,
    /// What the instance starts from; `None` for the initial state.
    pub(super) start: Option<Checkpoint>,
}

impl Terms {
    /// Whether a replica of this instance can have made a checkpoint there. The predecessor may have had another
    /// period, so the start need not lie where the others do.
    pub(super) fn has_checkpoint(&self, seq: Seq) -> bool {
        let is_start = self.start.is_some_and(|start| start.seq == seq);
        is_start || seq.0.is_multiple_of(self.checkpoint_period)
    }
}

/// What follows from a set of view changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice<'a> {
    /// The highest stable checkpoint among them.
    pub(super) stable: Option<&'a CheckpointCertificate>,
    /// The batch for each number above it, without gaps. [`Digest::NULL`] is the null request.
    pub(super) proposals: Vec<(Seq, Digest)>,
}

/// What a number is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chosen {
    /// This batch may have committed.
    Batch(Digest),
    /// Nothing can have committed.
    Open,
}

/// Decides each sequence number, or `None` where these view changes do not suffice yet. Those of
/// all correct replicas do, once none of them lags by a whole log.
///
/// A view change whose log ends at or below the start is void: it says nothing about any number that
/// is decided here. That also rules out one that a replica signed before it lost its disk; see
/// [`super::recovery`].
pub(super) fn choose<'a>(
    quorums: Quorums,
    log_size: u64,
    view_changes: &[&'a ViewChange],
) -> Option<Choice<'a>> {
    let stable = view_changes.iter().filter_map(|vc| vc.stable.as_ref()).max_by_key(|c| c.checkpoint.seq);
    let start = stable.map_or(Seq(0), |certificate| certificate.checkpoint.seq);
    let valid: Vec<_> = view_changes
        .iter()
        .copied()
        .filter(|vc| vc.stable_seq().0.saturating_add(log_size) > start.0)
        .collect();
    if valid.len() < quorums.agreement() {
        return None;
    }
    let claims = index(&valid);
    let end = claims.last_key_value().map_or(start, |(seq, _)| (*seq).max(start));
    let (mut proposals, mut used) = (Vec::new(), 0);
    for seq in (start.0 + 1..=end.0).map(Seq) {
        match choose_one(quorums, valid.len(), &claims, seq)? {
            Chosen::Batch(digest) => {
                proposals.push((seq, digest));
                used = proposals.len();
            }
            Chosen::Open => proposals.push((seq, Digest::NULL)),
        }
    }
    // Open numbers at the end are left to the primary. A null request that may have committed is not.
    proposals.truncate(used);
    Some(Choice { stable, proposals })
}

/// What the view changes say of one sequence number: the claims of each, by its place.
#[derive(Default)]
struct Claims {
    prepared: Vec<(View, Digest)>,
    pre_prepared: Vec<(usize, View, Digest)>,
}

type Index = BTreeMap<Seq, Claims>;

fn index(view_changes: &[&ViewChange]) -> Index {
    let mut index = Index::new();
    for view_change in view_changes {
        for claim in &view_change.prepared {
            index.entry(claim.seq).or_default().prepared.push((claim.view, claim.digest));
        }
    }
    for (place, view_change) in view_changes.iter().enumerate() {
        for claim in &view_change.pre_prepared {
            if let Some(claims) = index.get_mut(&claim.seq) {
                claims.pre_prepared.push((place, claim.view, claim.digest));
            }
        }
    }
    index
}

fn choose_one(quorums: Quorums, voters: usize, index: &Index, seq: Seq) -> Option<Chosen> {
    let Some(claims) = index.get(&seq) else {
        // Condition B: nobody claims that anything prepared here.
        return Some(Chosen::Open);
    };
    let candidates: BTreeSet<_> = claims.prepared.iter().copied().collect();
    for (view, digest) in candidates.into_iter().rev() {
        // Condition A1: an agreement quorum holds nothing against it. Each view change makes at most
        // one claim a number (checked by `is_well_formed`).
        let against =
            claims.prepared.iter().filter(|(v, d)| *v > view || (*v == view && *d != digest)).count();
        let is_uncontested = voters - against >= quorums.agreement();
        // Condition A2: a correct replica vouches that it was really proposed, in that view or later.
        let vouchers: BTreeSet<_> = claims
            .pre_prepared
            .iter()
            .filter(|(_, v, d)| *d == digest && *v >= view)
            .map(|(place, ..)| place)
            .collect();
        if is_uncontested && vouchers.len() >= quorums.one_correct() {
            return Some(Chosen::Batch(digest));
        }
    }
    // Condition B: an agreement quorum claims nothing here.
    (voters - claims.prepared.len() >= quorums.agreement()).then_some(Chosen::Open)
}

/// Whether a correct replica could have made this view change. Signatures inside were checked below.
pub(super) fn is_well_formed(terms: &Terms, view_change: &ViewChange) -> bool {
    let stable = view_change.stable_seq();
    let is_in_log = |claim: &Claim| {
        claim.seq > stable
            && claim.seq.0 <= stable.0.saturating_add(terms.log_size)
            && claim.view < view_change.view
    };
    let prepared_ascends = view_change.prepared.windows(2).all(|pair| pair[0].seq < pair[1].seq);
    let pre_prepared_ascends = view_change
        .pre_prepared
        .windows(2)
        .all(|pair| (pair[0].seq, pair[0].digest) < (pair[1].seq, pair[1].digest));
    let is_bounded = view_change
        .pre_prepared
        .windows(MAX_CLAIMS_PER_SEQ + 1)
        .all(|claims| claims[0].seq != claims[MAX_CLAIMS_PER_SEQ].seq);
    let is_stable_proven = match &view_change.stable {
        Some(certificate) => is_certificate(terms, certificate),
        None => terms.start.is_none(),
    };
    view_change.view > View(0)
        && is_stable_proven
        && prepared_ascends
        && pre_prepared_ascends
        && is_bounded
        && view_change.prepared.iter().chain(&view_change.pre_prepared).all(is_in_log)
}

/// Whether enough different replicas signed a checkpoint. Their signatures were checked below. The one that
/// the instance starts from needs none: everybody has its proof.
pub(super) fn is_certificate(terms: &Terms, certificate: &CheckpointCertificate) -> bool {
    let (quorums, seq) = (terms.quorums, certificate.checkpoint.seq);
    if certificate.votes.is_empty() {
        return terms.start == Some(certificate.checkpoint);
    }
    seq > terms.start.map_or(Seq(0), |start| start.seq)
        && seq.0.is_multiple_of(terms.checkpoint_period)
        && certificate.votes.windows(2).all(|pair| pair[0].0 < pair[1].0)
        && certificate.votes.iter().all(|(signer, _)| quorums.has(*signer))
        && certificate.votes.len() >= quorums.agreement()
}

/// Whether `new_view`, signed by `signer`, follows from the view changes inside.
pub(super) fn is_valid_new_view(terms: &Terms, signer: ReplicaId, new_view: &NewView) -> bool {
    let quorums = terms.quorums;
    let view_changes = &new_view.view_changes;
    let contents: Vec<_> = view_changes.iter().map(|signed| &signed.content).collect();
    signer == quorums.primary(new_view.view)
        && view_changes.windows(2).all(|pair| pair[0].signer < pair[1].signer)
        && view_changes.iter().all(|signed| quorums.has(signed.signer))
        && contents.iter().all(|vc| vc.view == new_view.view && is_well_formed(terms, vc))
        && choose(quorums, terms.log_size, &contents)
            .is_some_and(|choice| choice.proposals == new_view.proposals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn quorums() -> Quorums {
        Quorums::byzantine(4, 1).unwrap()
    }

    fn digest(i: u8) -> Digest {
        Digest([i; 32])
    }

    fn claim(seq: u64, i: u8, view: u64) -> Claim {
        Claim { seq: Seq(seq), digest: digest(i), view: View(view) }
    }

    fn view_change(prepared: &[Claim], pre_prepared: &[Claim]) -> ViewChange {
        ViewChange {
            view: View(9),
            incarnation: 0,
            stable: None,
            prepared: prepared.to_vec(),
            pre_prepared: pre_prepared.to_vec(),
        }
    }

    fn chosen(view_changes: &[ViewChange]) -> Option<Vec<(Seq, Digest)>> {
        choose(quorums(), 8, &view_changes.iter().collect::<Vec<_>>()).map(|choice| choice.proposals)
    }

    #[test]
    fn nothing_follows_from_too_few() {
        let none = view_change(&[], &[]);
        assert_eq!(chosen(&[none.clone(), none.clone()]), None);
        assert_eq!(chosen(&[none.clone(), none.clone(), none]), Some(vec![]));
    }

    #[test]
    fn what_may_have_committed_is_chosen_though_one_knows_nothing_of_it() {
        let knows = view_change(&[claim(1, 7, 0)], &[claim(1, 7, 0)]);
        let ignorant = view_change(&[], &[]);
        assert_eq!(chosen(&[knows.clone(), knows, ignorant]), Some(vec![(Seq(1), digest(7))]));
    }

    #[test]
    fn one_claim_without_a_voucher_decides_nothing_until_a_quorum_denies_it() {
        let lie = view_change(&[claim(1, 7, 5)], &[claim(1, 7, 5)]);
        let none = view_change(&[], &[]);
        let three = [lie, none.clone(), none.clone()];
        assert_eq!(chosen(&three), None);
        let [lie, ..] = three;
        // The trailing null request is left out.
        assert_eq!(chosen(&[lie, none.clone(), none.clone(), none]), Some(vec![]));
    }

    #[test]
    fn a_lie_about_a_later_view_does_not_displace_what_committed() {
        let true_claim = view_change(&[claim(1, 7, 0)], &[claim(1, 7, 0)]);
        let lie = view_change(&[claim(1, 8, 5)], &[claim(1, 8, 5)]);
        assert_eq!(chosen(&[true_claim.clone(), true_claim.clone(), lie.clone()]), None);
        let four = [true_claim.clone(), true_claim.clone(), true_claim, lie];
        assert_eq!(chosen(&four), Some(vec![(Seq(1), digest(7))]));
    }

    #[test]
    fn a_later_view_outranks_an_earlier_one() {
        let early = view_change(&[claim(1, 7, 0)], &[claim(1, 7, 0), claim(1, 8, 3)]);
        let late = view_change(&[claim(1, 8, 3)], &[claim(1, 7, 0), claim(1, 8, 3)]);
        let four = [early.clone(), late.clone(), late, early];
        assert_eq!(chosen(&four[..3]), Some(vec![(Seq(1), digest(8))]));
        assert_eq!(chosen(&four), Some(vec![(Seq(1), digest(8))]));
    }

    #[test]
    fn gaps_become_null_requests() {
        let knows = view_change(&[claim(3, 7, 0)], &[claim(3, 7, 0)]);
        let expected = vec![(Seq(1), Digest::NULL), (Seq(2), Digest::NULL), (Seq(3), digest(7))];
        assert_eq!(chosen(&[knows.clone(), knows.clone(), knows]), Some(expected));
    }

    #[test]
    fn a_null_request_that_may_have_committed_keeps_its_number() {
        let null = Claim { seq: Seq(1), digest: Digest::NULL, view: View(0) };
        let knows = view_change(&[null], &[null]);
        let ignorant = view_change(&[], &[]);
        assert_eq!(chosen(&[knows.clone(), knows, ignorant]), Some(vec![(Seq(1), Digest::NULL)]));
    }

    #[test]
    fn a_view_change_whose_log_ends_below_the_start_is_void() {
        let at = |seq| {
            let checkpoint = super::super::Checkpoint { seq: Seq(seq), state: digest(1) };
            let stable = (seq > 0).then(|| CheckpointCertificate { checkpoint, votes: vec![] });
            ViewChange { stable, ..view_change(&[], &[]) }
        };
        assert_eq!(chosen(&[at(8), at(8), at(0)]), None);
        assert_eq!(chosen(&[at(8), at(8), at(4)]), Some(vec![]));
    }

    fn terms(start: Option<Checkpoint>) -> Terms {
        Terms { quorums: quorums(), checkpoint_period: 4, log_size: 8, start }
    }

    #[test]
    fn the_start_alone_needs_no_votes_and_nothing_lies_before_it() {
        let certificate = |seq, i, signers: &[u16]| {
            let checkpoint = Checkpoint { seq: Seq(seq), state: digest(i) };
            let votes = signers.iter().map(|i| (ReplicaId(*i), althing_crypto::Proof(vec![]))).collect();
            CheckpointCertificate { checkpoint, votes }
        };
        let start = certificate(8, 1, &[]);
        let (first, later) = (terms(None), terms(Some(start.checkpoint)));
        for (certificate, in_first, in_later) in [
            (start.clone(), false, true),
            (certificate(8, 2, &[]), false, false),
            (certificate(12, 1, &[]), false, false),
            (certificate(12, 1, &[0, 1, 3]), true, true),
            (certificate(12, 1, &[0, 1]), false, false),
            (certificate(8, 1, &[0, 1, 3]), true, false),
            (certificate(4, 1, &[0, 1, 3]), true, false),
        ] {
            assert_eq!(is_certificate(&first, &certificate), in_first, "{certificate:?}");
            assert_eq!(is_certificate(&later, &certificate), in_later, "{certificate:?}");
        }
        let from_start = ViewChange { stable: Some(start), ..view_change(&[claim(9, 1, 0)], &[]) };
        assert!(is_well_formed(&later, &from_start) && !is_well_formed(&later, &view_change(&[], &[])));
    }

    #[test]
    fn malformed_view_changes_are_told() {
        let terms = terms(None);
        let is_good = |vc: &ViewChange| is_well_formed(&terms, vc);
        assert!(is_good(&view_change(&[claim(8, 1, 0)], &[claim(1, 1, 0), claim(8, 1, 8)])));
        assert!(!is_good(&view_change(&[claim(9, 1, 0)], &[])), "above the watermark");
        assert!(!is_good(&view_change(&[claim(0, 1, 0)], &[])), "at the stable checkpoint");
        assert!(!is_good(&view_change(&[claim(1, 1, 9)], &[])), "from the view that is asked for");
        assert!(!is_good(&view_change(&[claim(1, 1, 0), claim(1, 2, 0)], &[])), "two for one number in P");
        assert!(!is_good(&view_change(&[], &[claim(2, 1, 0), claim(1, 2, 0)])), "out of order");
        let many: Vec<_> = (0..9).map(|i| claim(1, i, 0)).collect();
        assert!(
            is_good(&view_change(&[], &many[..8])) && !is_good(&view_change(&[], &many)),
            "too many in Q"
        );
    }
}
