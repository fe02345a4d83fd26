//! The client's part in speculation: it is the first to know whether all have executed alike, and where only an
//! agreement quorum has, it makes a certificate of what they signed and has them keep it (Zyzzyva §3.2).

use super::{Client, ClientOutput, MAX_DOUBLINGS, Phase};
use crate::frame::{ClientFrame, frame_bytes};
use alloc::vec::Vec;
use althing_crypto::{Domain, Proof};
use althing_types::{Principal, ReplicaId, RequestNumber};
use core::time::Duration;

/// Whoever has waited for the last replica in vain does not wait for it with so many requests more.
const HASTY: u32 = 31;

/// The least time for which the last replicas are waited for.
const LEAST_PATIENCE: Duration = Duration::from_micros(500);

/// How far a client has got with what replicas have speculated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not enough have said the same.
    Gathering,
    /// Enough for a certificate have: the others are waited for, for a moment.
    Waiting,
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
        let (now, retry, is_hasty) = (self.now, self.config.retry, self.hasty > 0);
        let Some(outstanding) = self.outstanding_as(number) else { return };
        let Phase::Ordered(ballot) = &outstanding.phase else { return };
        if outstanding.stage != Stage::Gathering || !ballot.is_provable(from) {
            return;
        }
        if is_hasty {
            self.hasty -= 1;
            return self.show_certificate(out);
        }
        outstanding.stage = Stage::Waiting;
        let after = now.since(outstanding.since).clamp(LEAST_PATIENCE.min(retry), retry);
        out.push(ClientOutput::SetTimer { after });
    }

    /// Has all replicas keep a certificate of what enough have speculated alike. Who has signed something else
    /// than it said has no say in this any more; who was to give the result and has not is asked again.
    pub(super) fn show_certificate(&mut self, out: &mut Vec<ClientOutput>) {
        let (client, epoch) = (self.config.client, self.epoch());
        let (quorums, retry) = (self.config.quorums, self.config.retry);
        let Some(outstanding) = &mut self.outstanding else { return };
        let Phase::Ordered(ballot) = &mut outstanding.phase else { return };
        let Some((digest, certificate)) = ballot.certificate() else { return self.ask_again(out) };
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
            return self.ask_again(out);
        }
        if outstanding.stage == Stage::Waiting {
            self.hasty = HASTY;
        }
        ballot.show(certificate.speculation, digest);
        outstanding.stage = Stage::Shown;
        let number = outstanding.number;
        let again = retry.saturating_mul(1 << outstanding.retransmissions.min(MAX_DOUBLINGS));
        let frame = frame_bytes(&ClientFrame::Certificate { client, number, epoch, certificate });
        out.extend(quorums.replicas().map(|to| ClientOutput::Send { to, frame: frame.clone() }));
        out.push(ClientOutput::SetTimer { after: again });
    }
}
