//! The client's part in speculation: it is the first to know whether all have executed alike, and where only an
//! agreement quorum has, it asks them to sign that, makes a certificate of it and has them keep it (Zyzzyva §3.2).

use super::{Client, ClientOutput, MAX_DOUBLINGS, Outstanding, Phase};
use crate::frame::{ClientFrame, Prove, frame_bytes};
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::{Authenticator, Domain, Proof};
use althing_types::{Principal, ReplicaId, RequestNumber, View};
use core::time::Duration;

/// Whoever has waited for the last replica in vain does not wait for it with so many requests more.
const HASTY: u32 = 31;

/// The least time for which the last replicas are waited for.
const LEAST_PATIENCE: Duration = Duration::from_micros(500);

/// Which requests the last replicas are not waited for with.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hasty {
    /// Those of this view: in the next all may take part again.
    view: View,
    /// How many more.
    requests: u32,
}

impl Hasty {
    fn is_in(self, view: View) -> bool {
        self.requests > 0 && view == self.view
    }
}

/// How far a client has got with what replicas have speculated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not enough have said the same.
    Gathering,
    /// Enough for a certificate have: the others are waited for, for a moment.
    Waiting,
    /// All were asked to sign what they have said.
    Proving,
    /// All were shown the certificate.
    Shown,
}

impl Client {
    /// Once enough for a certificate have said the same, the others get as long again as those took.
    pub(super) fn consider_certificate(
        &mut self,
        from: ReplicaId,
        number: RequestNumber,
        out: &mut Vec<ClientOutput>,
    ) {
        let (now, retry, hasty) = (self.now, self.config.retry, self.hasty);
        let Some(outstanding) = self.outstanding_as(number) else { return };
        let Phase::Ordered(ballot) = &outstanding.phase else { return };
        if !ballot.is_agreed_on(from) {
            return;
        }
        let proven = ballot.certificate().map(|(_, certificate)| certificate.speculation.view);
        match outstanding.stage {
            Stage::Gathering | Stage::Waiting if proven.is_some_and(|view| hasty.is_in(view)) => {
                self.hasty.requests -= 1;
                self.show_certificate(out);
            }
            Stage::Gathering => {
                outstanding.stage = Stage::Waiting;
                let after = now.since(outstanding.since).clamp(LEAST_PATIENCE.min(retry), retry);
                out.push(ClientOutput::SetTimer { after });
            }
            Stage::Proving if proven.is_some() => self.show_and_hurry(out),
            Stage::Waiting | Stage::Proving | Stage::Shown => {}
        }
    }

    /// The others were waited for in vain: what is agreed on is shown, if enough have signed it, and else they are
    /// asked to; and all are to sign what this client asks next, so that it need not wait again.
    pub(super) fn wait_no_more(&mut self, out: &mut Vec<ClientOutput>) {
        let Some(Outstanding { number, phase: Phase::Ordered(ballot), .. }) = &self.outstanding else {
            return;
        };
        let (number, is_proven) = (*number, ballot.certificate().is_some());
        if !is_proven {
            self.await_proofs(out);
        } else {
            self.show_and_hurry(out);
        }
        let first = if is_proven { RequestNumber(number.0.saturating_add(1)) } else { number };
        let frame = self.prove_frame(first, RequestNumber(number.0.saturating_add(HASTY.into())));
        out.extend(self.config.quorums.replicas().map(|to| ClientOutput::Send { to, frame: frame.clone() }));
    }

    /// Shows the certificate, and does not wait again for whom it was waited for in vain.
    fn show_and_hurry(&mut self, out: &mut Vec<ClientOutput>) {
        if let Some(view) = self.show_certificate(out) {
            self.hasty = Hasty { view, requests: HASTY };
        }
    }

    fn await_proofs(&mut self, out: &mut Vec<ClientOutput>) {
        let retry = self.config.retry;
        let Some(outstanding) = &mut self.outstanding else { return };
        outstanding.stage = Stage::Proving;
        let after = retry.saturating_mul(1 << outstanding.retransmissions.min(MAX_DOUBLINGS));
        out.push(ClientOutput::SetTimer { after });
    }

    fn prove_frame(&mut self, first: RequestNumber, last: RequestNumber) -> Arc<[u8]> {
        let (client, epoch) = (self.config.client, self.epoch());
        let mut prove = Prove { client, first, last, epoch, macs: Authenticator(Vec::new()) };
        prove.macs = self.config.keyring.authenticate(Domain::Prove, &prove.signed_bytes());
        frame_bytes(&ClientFrame::Prove(prove))
    }

    /// Has all replicas keep a certificate of what enough have speculated alike. Who has signed something else
    /// than it said has no say in this any more; who was to give the result and has not is asked again.
    /// Gives back of which view it is, if there was enough to show.
    fn show_certificate(&mut self, out: &mut Vec<ClientOutput>) -> Option<View> {
        let (client, epoch) = (self.config.client, self.epoch());
        let (quorums, retry) = (self.config.quorums, self.config.retry);
        let outstanding = self.outstanding.as_mut()?;
        let Phase::Ordered(ballot) = &mut outstanding.phase else { return None };
        let Some((digest, certificate)) = ballot.certificate() else {
            // Those that have not signed yet may make up for it.
            if ballot.is_agreed() {
                self.await_proofs(out);
            } else {
                self.ask_again(out);
            }
            return None;
        };
        let (statement, keyring) = (certificate.speculation.statement(), &self.config.keyring);
        let is_genuine = |(signer, proof): &(ReplicaId, Proof)| {
            keyring.verify(Principal::Replica(*signer), proof, Domain::Protocol, &statement)
        };
        let liars: Vec<_> =
            certificate.votes.iter().filter(|vote| !is_genuine(vote)).map(|(signer, _)| *signer).collect();
        if !liars.is_empty() {
            liars.iter().for_each(|liar| ballot.distrust(*liar));
            self.respondents.blame(&liars);
            // Without them there may be enough all the same.
            return self.show_certificate(out);
        }
        if !ballot.has_whole(digest) {
            let first: Vec<_> = self.respondents.first().into_iter().collect();
            self.respondents.blame(&first);
            self.ask_again(out);
            return None;
        }
        let view = certificate.speculation.view;
        ballot.show(certificate.speculation, digest);
        outstanding.stage = Stage::Shown;
        let number = outstanding.number;
        let again = retry.saturating_mul(1 << outstanding.retransmissions.min(MAX_DOUBLINGS));
        let frame = frame_bytes(&ClientFrame::Certificate { client, number, epoch, certificate });
        out.extend(quorums.replicas().map(|to| ClientOutput::Send { to, frame: frame.clone() }));
        out.push(ClientOutput::SetTimer { after: again });
        Some(view)
    }
}
