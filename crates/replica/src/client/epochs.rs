use super::{Client, ClientOutput, Lateness, Outstanding, RequestAuthKind, Respondents};
use crate::RequestAuthPolicy;
use crate::membership::{Link, Membership};
use alloc::boxed::Box;
use alloc::vec::Vec;
use althing_protocol::Answers;
use althing_types::Epoch;

impl Client {
    /// The membership that the client takes for the present one; `None` where the members do not change.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.config.membership.as_ref()
    }

    /// How it authenticates requests, as far as no replica says that it must sign.
    pub(super) fn auth(&self) -> RequestAuthKind {
        match self.membership().map(|membership| membership.engine.request_auth) {
            Some(RequestAuthPolicy::SignatureOnly) => RequestAuthKind::Signed,
            Some(RequestAuthPolicy::MacsOrSignature) | None => self.config.auth,
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.membership().map_or(Epoch(0), |membership| membership.epoch)
    }

    /// Goes where the proofs lead, if they lead on from here. What replicas have said counts within one epoch
    /// only, so what is outstanding is asked again, under the same number: it is executed once all the same.
    pub(super) fn follow(&mut self, links: &[Link], out: &mut Vec<ClientOutput>) {
        let Some(present) = self.config.membership.clone() else { return };
        let root = self.config.keyring.root();
        let mut reached = present;
        for link in links {
            reached = link.follow(root, &reached).unwrap_or(reached);
        }
        self.enter(reached, out);
    }

    /// Goes over to a later membership.
    pub(super) fn enter(&mut self, reached: Membership, out: &mut Vec<ClientOutput>) {
        if self.config.membership.is_none() || reached.epoch <= self.epoch() {
            return;
        }
        self.config.keyring = reached.keyring(&self.config.keyring);
        self.config.quorums = reached.quorums();
        self.config.separate_bytes = reached.settings.separate_bytes();
        self.config.composition = reached.settings.composition();
        self.config.witnesses = reached.settings.witnesses().to_vec();
        self.respondents = Respondents::new(&self.config);
        self.lateness = Lateness::default();
        self.views.clear();
        let emitted = core::mem::take(&mut self.emitted_under);
        out.extend(emitted.into_keys().map(|from| ClientOutput::EmissionsEnded { from }));
        self.numbering.forget_claims();
        self.config.membership = Some(reached.clone());
        out.push(ClientOutput::Epoch(Box::new(reached)));
        if let Some(Outstanding { number, kind, operation, .. }) = self.outstanding.take() {
            self.start_ordered((number, kind, operation), Answers::All, out);
        }
    }
}
