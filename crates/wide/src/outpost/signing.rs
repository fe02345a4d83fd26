//! How the servers of a site sign together: each makes a share for whoever needs the signature, who combines
//! them.

use super::Outpost;
use super::io::{LocalMessage, OutpostOutput, OutpostTimer};
use crate::machine::{Links, Place};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::Domain;
use althing_crypto::site::{SignatureShare, SiteBatch, SiteProof, SiteRangeProof, SiteSignature};
use althing_types::{ReplicaId, Seq, SiteId, encode};
use core::time::Duration;

/// When a check that is made elsewhere has come to its end, most probably: whoever asks before that waits.
const CHECKED_AFTER: Duration = Duration::from_millis(2);

/// Shares over batches that far ahead are kept until this server has executed them.
const MOST_AHEAD: u64 = 1024;

/// Who has sent a wrong share is heard again after so many ticks, at most.
const PARDON_TICKS: u64 = 1024;

/// What is known of the signature over one batch.
pub(super) struct Signing {
    batch: SiteBatch,
    /// Where in it what is said to each site begins.
    starts: BTreeMap<SiteId, usize>,
    signature: Option<SiteSignature>,
    /// This server's share, once somebody has needed it.
    own: Option<SignatureShare>,
    /// Who has been given this server's share.
    given: BTreeSet<ReplicaId>,
    /// Whether this server needs the signature.
    is_needed: bool,
}

/// The signatures that a server makes, or helps to make.
#[derive(Default)]
pub(super) struct Signatures {
    signing: BTreeMap<Seq, Signing>,
    shares: BTreeMap<Seq, BTreeMap<ReplicaId, SignatureShare>>,
    /// Who has sent a wrong share: each costs as much as a signature, so there is no second one.
    liars: BTreeSet<ReplicaId>,
    /// Whether somebody ever has.
    is_wary: bool,
    /// The batch whose signature has been sent as it came out of the shares, and has yet to be checked.
    unchecked: Option<Seq>,
    ticks: u64,
}

/// Whether a signature may leave before it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    /// It may: others wait for what it is under, and it is sent again if it is wrong.
    Unchecked,
    /// It may not.
    None,
}

impl Signatures {
    /// What this server thought to have been said may have been wrong.
    pub(super) fn forget(&mut self) {
        self.signing.clear();
        self.shares.clear();
        self.unchecked = None;
    }

    /// Time passes: a server that has sent a wrong share may have been repaired since.
    pub(super) fn tick(&mut self) {
        self.ticks += 1;
        if self.ticks.is_multiple_of(PARDON_TICKS) {
            self.liars.clear();
        }
    }
}

impl Outpost {
    /// Takes up what was said since the last time, and forgets what is said no more.
    pub(super) fn follow_batches(&mut self, links: &Links) {
        let (system, site) = (self.config.keys.system(), self.config.links.site);
        let batches = links.batches();
        let signatures = &mut self.signatures;
        signatures.signing.retain(|seq, _| batches.contains_key(seq));
        for (seq, said) in batches {
            signatures.signing.entry(*seq).or_insert_with(|| {
                let messages: Vec<_> = said.statements().map(|said| (Domain::Link, said)).collect();
                Signing {
                    batch: SiteBatch::new(system, site, &messages),
                    starts: said.starts(),
                    signature: None,
                    own: None,
                    given: BTreeSet::new(),
                    is_needed: false,
                }
            });
        }
        let first = batches.keys().next().copied();
        let first = first.unwrap_or_else(|| Seq(self.executed.0 + 1));
        signatures.shares = signatures.shares.split_off(&first);
    }

    /// Gives this server's share over a batch to a server, once.
    pub(super) fn give_share(&mut self, seq: Seq, to: ReplicaId, outputs: &mut Vec<OutpostOutput>) {
        let Some(signing) = self.signatures.signing.get_mut(&seq) else { return };
        let is_own = to == self.config.server;
        signing.is_needed |= is_own;
        // Where one server's share is all that it takes nobody else's is needed.
        if !signing.given.insert(to) || !(is_own || self.config.signer.needed() > 1) {
            return;
        }
        let statement = signing.batch.statement();
        let share = *signing.own.get_or_insert_with(|| self.config.signer.share(&statement));
        if is_own {
            self.signatures.shares.entry(seq).or_default().insert(to, share);
        } else {
            let bytes = encode(&LocalMessage::Share { batch: seq, share }).into();
            outputs.push(OutpostOutput::ToServer { to, bytes });
        }
    }

    pub(super) fn on_share(&mut self, from: ReplicaId, seq: Seq, share: SignatureShare) {
        let is_apt = seq.0 <= self.executed.0 + MOST_AHEAD && !self.signatures.liars.contains(&from);
        let is_open = seq > self.executed || self.signatures.signing.contains_key(&seq);
        if is_apt && is_open {
            // A correct server has one share only. Whoever sends another one does not take back the first.
            self.signatures.shares.entry(seq).or_default().entry(from).or_insert(share);
        }
    }

    /// A server asks for shares again.
    pub(super) fn on_asked(&mut self, from: ReplicaId, batches: &[Seq], outputs: &mut Vec<OutpostOutput>) {
        for seq in batches {
            if let Some(signing) = self.signatures.signing.get_mut(seq) {
                signing.given.remove(&from);
                self.give_share(*seq, from, outputs);
            }
        }
    }

    /// The proof of a message to a site, if the batch that it belongs to is signed or can be now.
    pub(super) fn proof(
        &mut self,
        (to, place): (SiteId, Place),
        haste: Haste,
        outputs: &mut Vec<OutpostOutput>,
    ) -> Option<SiteProof> {
        let (signing, signature) = self.signed(place.batch, haste, outputs)?;
        Some(signing.batch.proof(signing.starts.get(&to)? + place.index as usize, signature))
    }

    /// The proof of so many messages to a site that follow each other, on the same condition.
    pub(super) fn range_proof(
        &mut self,
        (to, first): (SiteId, Place),
        count: usize,
        haste: Haste,
        outputs: &mut Vec<OutpostOutput>,
    ) -> Option<SiteRangeProof> {
        let (signing, signature) = self.signed(first.batch, haste, outputs)?;
        let start = signing.starts.get(&to)? + first.index as usize;
        Some(signing.batch.range_proof(start..start + count, signature))
    }

    /// A batch and its signature, if there is one or can be now.
    ///
    /// To check what comes out of shares takes longer than to combine them, and nobody else is deceived by what is wrong:
    /// so where it is urgent it is checked when it has been sent, one batch after the other, until this server has seen a
    /// wrong share.
    fn signed(
        &mut self,
        seq: Seq,
        haste: Haste,
        outputs: &mut Vec<OutpostOutput>,
    ) -> Option<(&Signing, SiteSignature)> {
        let signer = &self.config.signer;
        let Signatures { signing, shares, is_wary, unchecked, .. } = &mut self.signatures;
        let signing = signing.get_mut(&seq)?;
        if signing.signature.is_none() {
            let shares = shares.get(&seq).filter(|shares| shares.len() >= signer.needed())?;
            let may_wait = haste == Haste::Unchecked && unchecked.is_none();
            let is_presumed = may_wait && signer.needed() > 1 && !*is_wary;
            let statement = signing.batch.statement();
            signing.signature = is_presumed.then(|| signer.combine_unchecked(&statement, shares)).flatten();
            if let Some(signature) = signing.signature {
                *unchecked = Some(seq);
                self.config.keys.foresee(self.config.links.site, statement, signature);
                let after = if self.config.keys.can_foresee() { CHECKED_AFTER } else { Duration::ZERO };
                outputs.push(OutpostOutput::SetTimer { timer: OutpostTimer::Check, after });
            } else {
                self.combine(seq, outputs);
            }
        }
        // It soon is.
        let is_unchecked = self.signatures.unchecked == Some(seq);
        let signing = self.signatures.signing.get(&seq)?;
        let signature = signing.signature.filter(|_| haste == Haste::Unchecked || !is_unchecked);
        Some((signing, signature?))
    }

    /// Makes the signature over a batch that there are shares for, and finds out who has sent wrong ones.
    fn combine(&mut self, seq: Seq, outputs: &mut Vec<OutpostOutput>) {
        let Signatures { signing, shares, liars, is_wary, .. } = &mut self.signatures;
        let (Some(signing), Some(of_batch)) = (signing.get_mut(&seq), shares.get(&seq)) else { return };
        let statement = signing.batch.statement();
        let combination = self.config.signer.combine(&statement, of_batch);
        for liar in combination.wrong {
            *is_wary = true;
            // What else it has sent would have to be found out batch by batch.
            for of_batch in shares.values_mut() {
                of_batch.remove(&liar);
            }
            if liars.insert(liar) {
                outputs.push(OutpostOutput::WrongShare(liar));
            }
        }
        signing.signature = combination.signature;
        if let Some(signature) = combination.signature {
            // What the site says to itself comes back with it.
            self.config.keys.remember(statement, signature);
        }
    }

    /// Checks the signature that has been sent as it was made. If it is wrong, it is made and sent again.
    pub(super) fn check_combined(&mut self, links: &Links, outputs: &mut Vec<OutpostOutput>) {
        let Some(seq) = self.signatures.unchecked.take() else { return };
        let signing = self.signatures.signing.get(&seq);
        let signed = signing.and_then(|signing| Some((signing.batch.statement(), signing.signature?)));
        // Or it is needed no more.
        let Some((statement, signature)) = signed else { return };
        if self.config.keys.is_signed(self.config.links.site, statement, signature) {
            return;
        }
        self.signatures.is_wary = true;
        self.combine(seq, outputs);
        self.take_back(seq, links);
    }

    /// Asks the others for what this server still needs.
    pub(super) fn ask_for_shares(&mut self, outputs: &mut Vec<OutpostOutput>) {
        let lacking = self.signatures.signing.iter();
        let lacking = lacking.filter(|(_, signing)| signing.is_needed && signing.signature.is_none());
        let batches: Vec<Seq> = lacking.map(|(seq, _)| *seq).take(LocalMessage::MAX_BATCHES).collect();
        if !batches.is_empty() {
            self.tell_servers(&LocalMessage::Ask { batches }, outputs);
        }
    }

    pub(super) fn tell_servers(&self, message: &LocalMessage, outputs: &mut Vec<OutpostOutput>) {
        let bytes: Arc<[u8]> = encode(message).into();
        let others = self.servers().filter(|to| *to != self.config.server);
        outputs.extend(others.map(|to| OutpostOutput::ToServer { to, bytes: Arc::clone(&bytes) }));
    }
}
