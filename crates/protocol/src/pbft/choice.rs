//! What a new view has to propose, as a pure function of the view changes it follows from
//! (TOCS'02 §4.4, figure 4). The new primary computes it, and every backup again.

use super::message::{CheckpointCertificate, Claim, NewView, ViewChange};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use althing_types::{Digest, Quorums, ReplicaId, Seq, View};

/// The most elements of Q that a view change may hold for one number.
const MAX_CLAIMS_PER_SEQ: usize = 8;

/// What follows from a set of view changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice<'a> {
    /// The highest stable checkpoint among them.
    pub(super) stable: Option<&'a CheckpointCertificate>,
    /// The batch for each number above it, without gaps. [`Digest::NULL`] is the null request.
    pub(super) proposals: Vec<(Seq, Digest)>,
}

/// Decides each sequence number, or `None` where these view changes do not suffice yet. Those of
/// all correct replicas always do.
pub(super) fn choose<'a>(quorums: Quorums, view_changes: &[&'a ViewChange]) -> Option<Choice<'a>> {
    if view_changes.len() < quorums.agreement() {
        return None;
    }
    let stable = view_changes.iter().filter_map(|vc| vc.stable.as_ref()).max_by_key(|c| c.checkpoint.seq);
    let start = stable.map_or(Seq(0), |certificate| certificate.checkpoint.seq);
    let claims = index(view_changes);
    let end = claims.last_key_value().map_or(start, |(seq, _)| (*seq).max(start));
    let mut proposals = Vec::new();
    for seq in (start.0 + 1..=end.0).map(Seq) {
        proposals.push((seq, choose_one(quorums, view_changes.len(), &claims, seq)?));
    }
    while proposals.last().is_some_and(|(_, digest)| *digest == Digest::NULL) {
        proposals.pop();
    }
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

fn choose_one(quorums: Quorums, voters: usize, index: &Index, seq: Seq) -> Option<Digest> {
    let Some(claims) = index.get(&seq) else {
        // Condition B: nobody claims that anything prepared here.
        return Some(Digest::NULL);
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
            return Some(digest);
        }
    }
    // Condition B: an agreement quorum claims nothing here.
    (voters - claims.prepared.len() >= quorums.agreement()).then_some(Digest::NULL)
}

/// Whether a correct replica could have made this view change. Signatures inside were checked below.
pub(super) fn is_well_formed(
    quorums: Quorums,
    view_change: &ViewChange,
    checkpoint_period: u64,
    log_size: u64,
) -> bool {
    let stable = view_change.stable_seq();
    let is_in_log = |claim: &Claim| {
        claim.seq > stable
            && claim.seq.0 <= stable.0.saturating_add(log_size)
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
    view_change.view > View(0)
        && view_change.stable.as_ref().is_none_or(|c| is_certificate(quorums, c, checkpoint_period))
        && prepared_ascends
        && pre_prepared_ascends
        && is_bounded
        && view_change.prepared.iter().chain(&view_change.pre_prepared).all(is_in_log)
}

/// Whether enough different replicas signed a checkpoint. Their signatures were checked below.
pub(super) fn is_certificate(
    quorums: Quorums,
    certificate: &CheckpointCertificate,
    checkpoint_period: u64,
) -> bool {
    let seq = certificate.checkpoint.seq;
    seq > Seq(0)
        && seq.0.is_multiple_of(checkpoint_period)
        && certificate.votes.windows(2).all(|pair| pair[0].0 < pair[1].0)
        && certificate.votes.iter().all(|(signer, _)| quorums.has(*signer))
        && certificate.votes.len() >= quorums.agreement()
}

/// Whether `new_view`, signed by `signer`, follows from the view changes inside.
pub(super) fn is_valid_new_view(
    quorums: Quorums,
    signer: ReplicaId,
    new_view: &NewView,
    checkpoint_period: u64,
    log_size: u64,
) -> bool {
    let view_changes = &new_view.view_changes;
    let contents: Vec<_> = view_changes.iter().map(|signed| &signed.content).collect();
    signer == quorums.primary(new_view.view)
        && view_changes.windows(2).all(|pair| pair[0].signer < pair[1].signer)
        && view_changes.iter().all(|signed| quorums.has(signed.signer))
        && contents
            .iter()
            .all(|vc| vc.view == new_view.view && is_well_formed(quorums, vc, checkpoint_period, log_size))
        && choose(quorums, &contents).is_some_and(|choice| choice.proposals == new_view.proposals)
}
