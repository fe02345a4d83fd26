//! What is executed before the others were heard: what a replica signs of it where a client asks for that, and the
//! certificates that clients make of such signatures (Zyzzyva §3.2).

use crate::actions::is_short;
use crate::frame::{ClientMessage, Execution, Given, Prove};
use crate::replica::Replica;
use crate::tentative::{Certainty, said};
use crate::{Output, Service, Standing};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use althing_crypto::{Domain, Proof};
use althing_protocol::{CommitCertificate, Decision, Event, Protocol, Request, Share, Speculation};
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

/// A client has proofs without asking again for no more requests than this.
const MOST_PROVEN: u64 = 64;

/// For which clients this replica signs what it speculates, and up to which of their requests.
#[derive(Debug, Default)]
pub(crate) struct Provers(BTreeMap<ClientId, RequestNumber>);

impl Provers {
    fn note(&mut self, client: ClientId, first: RequestNumber, last: RequestNumber) {
        let most = RequestNumber(first.0.saturating_add(MOST_PROVEN));
        self.0.insert(client, last.min(most));
    }

    /// Whether the client of one of these requests wants a signature. Those who have gone beyond what they asked
    /// for are forgotten.
    fn take(&mut self, requests: &[Request]) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let mut is_wanted = false;
        for request in requests {
            match self.0.get(&request.client) {
                Some(last) if request.number <= *last => is_wanted = true,
                Some(_) => drop(self.0.remove(&request.client)),
                None => {}
            }
        }
        is_wanted
    }
}

impl<P: Protocol, S: Service> Replica<P, S> {
    /// Executes a batch of which the others have not been heard. Where a client whose request it holds wants that,
    /// what has been executed by now is signed, once for all.
    pub(crate) fn speculate(
        &mut self,
        decision: Decision,
        (history, share): (Digest, Option<Share>),
        outputs: &mut Vec<Output>,
    ) {
        let speculation = Speculation { view: decision.view, seq: decision.seq, history };
        let is_wanted = self.provers.take(&decision.batch.requests);
        let proof = is_wanted.then(|| self.sign(&speculation));
        self.execute_early(decision, Certainty::Speculative(speculation, proof, share), outputs);
    }

    fn sign(&self, speculation: &Speculation) -> Proof {
        self.outbound.keyring.sign(Domain::Protocol, &speculation.statement())
    }

    /// A client wants a signature: of what is speculative of its request, which it gets now, and of its next ones.
    /// It is told if that has become final meanwhile.
    pub(crate) fn on_prove(&mut self, prove: Prove, outputs: &mut Vec<Output>) {
        let Prove { client, first, last, .. } = prove;
        self.provers.note(client, first, last);
        if self.protocol.answers_from().is_none() {
            return;
        }
        let Standing::Last(outcome) = self.state.table().standing(client, first) else { return };
        let outcome = outcome.clone();
        let place = self.tentative.iter().rposition(|tentative| tentative.settles(client, first));
        let Some(place) = place else {
            let reply = said(self.view, first, Execution::Earlier, Given::Whole(outcome));
            return self.outbound.send_client(client, reply, outputs);
        };
        if let Certainty::Speculative(speculation, None, share) = self.tentative[place].certainty {
            let proof = Some(self.sign(&speculation));
            self.tentative[place].certainty = Certainty::Speculative(speculation, proof, share);
        }
        // It has the whole from whom it asked for that.
        let given = if is_short(&outcome) { Given::Whole(outcome) } else { Given::Digest(outcome.digest()) };
        if let Some(reply) = self.tentative[place].reply(client, first, given) {
            self.outbound.send_client(client, reply, outputs);
        }
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
