//! What is executed before the others were heard: what a replica signs of it, and the certificates that clients
//! make of such signatures (Zyzzyva §3.2).

use crate::frame::{ClientMessage, Execution, Given};
use crate::replica::Replica;
use crate::tentative::{Certainty, said};
use crate::{Output, Service, Standing};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_crypto::Domain;
use althing_protocol::{CommitCertificate, Decision, Event, Protocol, Share, Speculation};
use althing_types::{ClientId, Digest, RequestNumber};

/// What this replica keeps certificates for, and who wants to know.
///
/// Two certificates of one view are never of different histories, so one for a number is one for all before it.
#[derive(Debug, Default)]
pub(crate) struct Certified {
    /// The last one of the present view.
    last: Option<Speculation>,
    /// What each client has shown last, and waits to hear of.
    awaited: BTreeMap<ClientId, (RequestNumber, Speculation)>,
}

impl Certified {
    /// The view has changed: nothing of the last one is promised any more.
    pub(crate) fn forget(&mut self) {
        self.last = None;
        self.awaited.clear();
    }

    fn covers(&self, shown: &Speculation) -> bool {
        self.last.is_some_and(|last| last.view == shown.view && last.seq >= shown.seq)
    }
}

impl<P: Protocol, S: Service> Replica<P, S> {
    /// Executes a batch of which the others have not been heard, and signs what has been executed by now: once
    /// for all clients whose requests it holds.
    pub(crate) fn speculate(
        &mut self,
        decision: Decision,
        (history, share): (Digest, Option<Share>),
        outputs: &mut Vec<Output>,
    ) {
        let speculation = Speculation { view: decision.view, seq: decision.seq, history };
        let proof = self.outbound.keyring.sign(Domain::Protocol, &speculation.statement());
        self.execute_early(decision, Certainty::Speculative(speculation, proof, share), outputs);
    }

    /// A client shows a certificate. It is told once this replica keeps it, or that its request is final.
    pub(crate) fn on_certificate(
        &mut self,
        client: ClientId,
        number: RequestNumber,
        certificate: CommitCertificate,
        outputs: &mut Vec<Output>,
    ) {
        let speculation = certificate.speculation;
        if let Standing::Last(outcome) = self.state.table().standing(client, number)
            && self.protocol.answers_from().is_some()
            && self.early_execution(client, number).is_none()
        {
            let given = Given::Whole(outcome.clone());
            let reply = said(self.view, number, Execution::Earlier, given);
            return self.outbound.send_client(client, reply, outputs);
        }
        if self.certified.covers(&speculation) {
            let told = ClientMessage::Certified { number, speculation };
            return self.outbound.send_client(client, told, outputs);
        }
        if self.is_in_view && speculation.view == self.view {
            self.certified.awaited.insert(client, (number, speculation));
        }
        self.events.push_back(Event::Certificate(certificate));
    }

    /// The protocol keeps a certificate for this: whoever waits for that is told.
    pub(crate) fn on_certified(&mut self, speculation: Speculation, outputs: &mut Vec<Output>) {
        if self.certified.covers(&speculation) {
            return;
        }
        self.certified.last = Some(speculation);
        let certified = &mut self.certified;
        let told: Vec<_> = certified
            .awaited
            .iter()
            .filter(|(_, (_, shown))| certified.covers(shown))
            .map(|(client, (number, shown))| (*client, *number, *shown))
            .collect();
        for (client, number, speculation) in told {
            self.certified.awaited.remove(&client);
            self.outbound.send_client(client, ClientMessage::Certified { number, speculation }, outputs);
        }
    }
}
