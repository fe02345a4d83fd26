//! What a new view starts with, as a pure function of the view changes it follows from. Every replica
//! computes it.
//!
//! The base is the certificate of the *latest view* among the reports, and of that view the longest. In the
//! paper (Zyzzyva §3.3) the longest counts, whatever its view, and that loses what a later view has decided
//! (Abraham et al., arXiv 1712.01367 §3). It is extended, number by number, by what all reports but *f* have
//! there after the same beginning.
//!
//! Why nothing decided is lost. Let *w* be the view in which a history *h* was decided, and let every valid
//! new view between *w* and the present one have brought *h* along.
//! - *Decided by all*: every correct replica has accepted *h* in *w*, and what it accepted later, in views
//!   between, begins with *h* too. So all correct reports begin with it. Whoever is in *w* > 0 holds a
//!   certificate of *w* ([`super::view_change`]), so the base is of *w* or a later view. One of *w* is on one
//!   chain with *h*, since a correct replica signed both in one view; if it ends before *h* does, all but *f*
//!   reports go on with *h*, and no two continuations have so many.
//!   That all have accepted it, in *w*, is also what the last *f* + 1 of a chain say ([`super::chain`]), and it does
//!   not matter who gave out the numbers ([`super::quorum`]).
//! - *Decided by certificates*: an agreement quorum holds one of *w* that covers *h*, each while in *w*; one
//!   of them is correct and among the reports. So the base is of *w* and at least as long, or later.
//! - A base of a *later* view *v*: its signers that are correct have entered *v*, each with a certificate for
//!   all that *v* started with, which begins with *h*. Of so many correct replicas one is among the
//!   reports, so the base, which is the longest of *v*, covers that.
//!
//! A stable checkpoint is final, and nobody accepts anything beyond a checkpoint that it does not know to be
//! stable. So the highest one among the reports replaces all that lies before it.

use super::history::{beginning, extended};
use super::message::{Checkpoint, CheckpointCertificate, NewView, ViewChange};
use crate::{CommitCertificate, Speculation};
use alloc::vec::Vec;
use althing_types::{Digest, Quorums, ReplicaId, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize};

/// Which certificate outranks which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) enum Ranking {
    /// That of the later view, and of one view the longer.
    LatestView,
    /// The longer, as in the paper. It is not safe; tests show that.
    Longest,
}

/// What all replicas of an instance share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) quorums: Quorums,
    pub(super) checkpoint_period: u64,
    /// What the instance starts from; `None` for the initial state.
    pub(super) start: Option<Checkpoint>,
    pub(super) ranking: Ranking,
}

impl Terms {
    /// The first checkpoint after a number.
    pub(super) fn checkpoint_after(&self, seq: Seq) -> Seq {
        let period = self.checkpoint_period;
        Seq((seq.0 / period).saturating_add(1).saturating_mul(period))
    }
}

/// What follows from a set of view changes.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct Choice {
    /// The highest stable checkpoint among them.
    pub(super) stable: Option<CheckpointCertificate>,
    /// The batches that follow it.
    pub(super) digests: Vec<Digest>,
    /// The history up to the last of them.
    pub(super) history: Digest,
}

impl Choice {
    /// The number of the stable checkpoint.
    pub(super) fn start(&self) -> Seq {
        self.stable.as_ref().map_or(Seq(0), |stable| stable.checkpoint.seq)
    }

    /// The last number that it says anything of.
    pub(super) fn end(&self) -> Seq {
        Seq(self.start().0 + self.digests.len() as u64)
    }

    /// The batches with their numbers.
    pub(super) fn batches(&self) -> impl Iterator<Item = (Seq, Digest)> {
        let first = self.start().0 + 1;
        (first..).map(Seq).zip(self.digests.iter().copied())
    }

    /// What whoever accepts it says in that view.
    pub(super) fn confirmation(&self, view: View) -> Speculation {
        Speculation { view, seq: self.end(), history: self.history }
    }
}

/// What follows from these view changes, at least an agreement quorum of well-formed ones.
pub(super) fn choose(terms: &Terms, view_changes: &[&ViewChange]) -> Choice {
    let stables = view_changes.iter().filter_map(|report| report.stable.as_ref());
    let stable = stables.max_by_key(|stable| stable.checkpoint.seq).cloned();
    let start = stable.as_ref().map_or(Seq(0), |stable| stable.checkpoint.seq);
    let mut digests = certified(terms.ranking, start, view_changes);
    let logs: Vec<&[Digest]> = view_changes
        .iter()
        .filter(|report| report.stable_seq() == start)
        .map(|report| &report.log[..])
        .collect();
    let enough = view_changes.len() - terms.quorums.liars();
    while let Some(next) = continuation(&logs, &digests, enough) {
        digests.push(next);
    }
    let first = beginning(stable.as_ref().map(|stable| stable.checkpoint));
    let history = digests.iter().fold(first, |history, batch| extended(history, *batch));
    Choice { stable, digests, history }
}

/// What the best certificate covers beyond `start`.
fn certified(ranking: Ranking, start: Seq, view_changes: &[&ViewChange]) -> Vec<Digest> {
    let rank = |certificate: &CommitCertificate| {
        let Speculation { view, seq, .. } = certificate.speculation;
        match ranking {
            Ranking::LatestView => (view, seq),
            Ranking::Longest => (View(0), seq),
        }
    };
    let with = view_changes.iter().filter_map(|report| Some((*report, report.certificate.as_ref()?)));
    // Of those that rank alike the first.
    let best = with.reduce(|best, other| if rank(other.1) > rank(best.1) { other } else { best });
    let Some((report, certificate)) = best else { return Vec::new() };
    let covered = certificate.speculation.seq.0.saturating_sub(report.stable_seq().0);
    let covered = usize::try_from(covered).expect("well-formed logs are short");
    if report.stable_seq() == start { report.log[..covered].to_vec() } else { Vec::new() }
}

/// What enough logs have right after `beginning`.
fn continuation(logs: &[&[Digest]], beginning: &[Digest], enough: usize) -> Option<Digest> {
    let next = |log: &&[Digest]| log.strip_prefix(beginning).and_then(<[Digest]>::first).copied();
    let continuations: Vec<_> = logs.iter().filter_map(next).collect();
    let count = |digest: &&Digest| continuations.iter().filter(|other| other == digest).count();
    continuations.iter().find(|digest| count(digest) >= enough).copied()
}

/// Whether a correct replica could have made this view change. Signatures inside were checked below.
pub(super) fn is_well_formed(terms: &Terms, report: &ViewChange) -> bool {
    let stable = report.stable_seq();
    let is_stable_proven = match &report.stable {
        Some(certificate) => is_certificate(terms, certificate),
        None => terms.start.is_none(),
    };
    let room = terms.checkpoint_after(stable).0 - stable.0;
    let is_certified = |certificate: &CommitCertificate| {
        let Speculation { view, seq, history } = certificate.speculation;
        let is_earlier = view < report.view && certificate.is_complete(terms.quorums);
        // What lies before a stable checkpoint says no more than in which view it was.
        let covered = usize::try_from(seq.0.saturating_sub(stable.0)).unwrap_or(usize::MAX);
        let first = beginning(report.stable.as_ref().map(|stable| stable.checkpoint));
        let is_own = || {
            let own = report.log.get(..covered)?.iter();
            Some(own.fold(first, |history, batch| extended(history, *batch)) == history)
        };
        is_earlier && (covered == 0 || is_own().unwrap_or(false))
    };
    report.view > View(0)
        && is_stable_proven
        && report.log.len() as u64 <= room
        && report.certificate.as_ref().is_none_or(is_certified)
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

/// Whether `new_view`, signed by `signer`, holds view changes to choose from.
pub(super) fn is_valid_new_view(terms: &Terms, signer: ReplicaId, new_view: &NewView) -> bool {
    let (quorums, view_changes) = (terms.quorums, &new_view.view_changes);
    signer == quorums.primary(new_view.view)
        && view_changes.len() >= quorums.agreement()
        && view_changes.windows(2).all(|pair| pair[0].signer < pair[1].signer)
        && view_changes.iter().all(|signed| {
            let report = &signed.content;
            quorums.has(signed.signer) && report.view == new_view.view && is_well_formed(terms, report)
        })
}

/// What a valid new view starts with.
pub(super) fn choice_of(terms: &Terms, new_view: &NewView) -> Choice {
    let reports: Vec<_> = new_view.view_changes.iter().map(|signed| &signed.content).collect();
    choose(terms, &reports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const PERIOD: u64 = 4;

    fn terms(n: usize) -> Terms {
        let quorums = Quorums::byzantine(n, (n - 1) / 3).unwrap();
        Terms { quorums, checkpoint_period: PERIOD, start: None, ranking: Ranking::LatestView }
    }

    fn digests(batches: &[u8]) -> Vec<Digest> {
        batches.iter().map(|i| Digest([*i; 32])).collect()
    }

    /// A report with these batches after checkpoint `stable`, of which a certificate of `view` covers the first ones.
    fn report(stable: u64, batches: &[u8], certified: Option<(u64, usize)>) -> ViewChange {
        let checkpoint = Checkpoint { seq: Seq(stable), state: Digest([99; 32]) };
        let stable = (stable > 0).then(|| CheckpointCertificate { checkpoint, votes: vec![] });
        let log = digests(batches);
        let first = beginning(stable.as_ref().map(|stable| stable.checkpoint));
        let certificate = certified.map(|(view, covered)| {
            let history = log[..covered].iter().fold(first, |history, batch| extended(history, *batch));
            let seq = Seq(stable.as_ref().map_or(0, |stable| stable.checkpoint.seq.0) + covered as u64);
            CommitCertificate { speculation: Speculation { view: View(view), seq, history }, votes: vec![] }
        });
        ViewChange { view: View(9), stable, certificate, log }
    }

    fn chosen(n: usize, reports: &[ViewChange]) -> (u64, Vec<Digest>) {
        let choice = choose(&terms(n), &reports.iter().collect::<Vec<_>>());
        assert_eq!(choice.end().0, choice.start().0 + choice.digests.len() as u64);
        (choice.start().0, choice.digests)
    }

    #[test]
    fn nothing_follows_from_nothing() {
        assert_eq!(
            chosen(4, &[report(0, &[], None), report(0, &[], None), report(0, &[], None)]),
            (0, vec![])
        );
    }

    #[test]
    fn what_all_may_have_speculated_is_chosen_and_no_more() {
        let reports = [report(0, &[1, 2, 3], None), report(0, &[1, 2], None), report(0, &[8, 8], None)];
        assert_eq!(chosen(4, &reports), (0, digests(&[1, 2])));
        let others = [report(0, &[1], None), report(0, &[2], None), report(0, &[3], None)];
        assert_eq!(chosen(4, &others), (0, vec![]));
        // Of seven, two may lie: of five reports three have what all correct ones have, of seven five.
        let one = |batches: &[u8]| report(0, batches, None);
        let five = [one(&[1]), one(&[1]), one(&[1]), one(&[2]), one(&[2])];
        assert_eq!(chosen(7, &five), (0, digests(&[1])));
        let seven = [&five[..], &[one(&[1]), one(&[2])]].concat();
        assert_eq!(chosen(7, &seven), (0, vec![]));
    }

    #[test]
    fn a_batch_counts_only_after_the_same_beginning() {
        let reports = [report(0, &[1, 5], None), report(0, &[1, 6], None), report(0, &[2, 5], None)];
        assert_eq!(chosen(4, &reports), (0, digests(&[1])));
    }

    #[test]
    fn one_certificate_outweighs_all_that_is_only_reported() {
        let reports =
            [report(0, &[1, 2, 3], Some((0, 2))), report(0, &[7, 7], None), report(0, &[7, 7], None)];
        assert_eq!(chosen(4, &reports), (0, digests(&[1, 2])));
    }

    #[test]
    fn the_later_view_outranks_the_longer_certificate() {
        let old = report(0, &[1, 2, 3], Some((0, 3)));
        let new = report(0, &[7], Some((1, 1)));
        for reports in [[&old, &new, &new], [&new, &old, &old], [&old, &old, &new]] {
            assert_eq!(chosen(4, &reports.map(Clone::clone)).1, digests(&[7]));
        }
        let reports = [old.clone(), new.clone(), new];
        let papers = Terms { ranking: Ranking::Longest, ..terms(4) };
        assert_eq!(choose(&papers, &reports.iter().collect::<Vec<_>>()).digests, digests(&[1, 2, 3]));
    }

    #[test]
    fn of_one_view_the_longer_certificate_counts_and_is_gone_on_from() {
        let reports =
            [report(0, &[7], Some((1, 1))), report(0, &[7, 8, 9], Some((1, 2))), report(0, &[7, 8, 9], None)];
        assert_eq!(chosen(4, &reports).1, digests(&[7, 8, 9]));
    }

    #[test]
    fn the_highest_stable_checkpoint_replaces_what_lies_before_it() {
        let behind = report(0, &[1, 2, 3, 4], Some((3, 4)));
        let reports = [behind, report(4, &[5], None), report(4, &[5, 6], Some((2, 0)))];
        assert_eq!(chosen(4, &reports), (4, digests(&[5])));
    }

    #[test]
    fn a_certificate_before_the_checkpoint_still_outranks_an_older_one_after_it() {
        // View 5 started at the checkpoint, and has decided 7 there; 1 is of view 3.
        let late = report(4, &[7], Some((5, 0)));
        let reports = [report(4, &[1], Some((3, 1))), late.clone(), late];
        assert_eq!(chosen(4, &reports), (4, digests(&[7])));
    }

    #[test]
    fn a_checkpoint_is_proven_by_a_quorum_or_by_where_the_instance_starts() {
        let certificate = |seq, signers: &[u16]| {
            let checkpoint = Checkpoint { seq: Seq(seq), state: Digest([1; 32]) };
            let votes = signers.iter().map(|i| (ReplicaId(*i), althing_crypto::Proof(vec![]))).collect();
            CheckpointCertificate { checkpoint, votes }
        };
        let start = certificate(6, &[]);
        let (first, later) = (terms(4), Terms { start: Some(start.checkpoint), ..terms(4) });
        for (certificate, in_first, in_later) in [
            (start, false, true),
            (certificate(8, &[0, 1, 3]), true, true),
            (certificate(8, &[0, 1]), false, false),
            (certificate(8, &[0, 1, 1]), false, false),
            (certificate(8, &[0, 1, 4]), false, false),
            (certificate(9, &[0, 1, 3]), false, false),
            (certificate(4, &[0, 1, 3]), true, false),
        ] {
            assert_eq!(is_certificate(&first, &certificate), in_first, "{certificate:?}");
            assert_eq!(is_certificate(&later, &certificate), in_later, "{certificate:?}");
        }
        assert_eq!((later.checkpoint_after(Seq(6)), later.checkpoint_after(Seq(8))), (Seq(8), Seq(12)));
    }
}
