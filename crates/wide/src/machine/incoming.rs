//! What comes from other sites, and what is checked before the protocol sees it: as the engine does between
//! machines (`althing_replica`), with a site's signature in the place of all others.

use super::drive::site;
use super::{Dissemination, LogicalMachine};
use crate::bundle::{MAX_BUNDLED, slot_of};
use crate::message::{Header, Kind, LinkMessage, Spoken};
use crate::operation::Update;
use alloc::vec::Vec;
use althing_crypto::{Domain, Hasher, Proof};
use althing_protocol::{
    Event, Evidence, Message, Misbehaviour, Replicable, Request, RequestAuth, RequestKind, SignedPart,
};
use althing_replica::Service;
use althing_types::{ReplicaId, SiteId, decode, encode};

impl<P: Replicable, S: Service> LogicalMachine<P, S> {
    /// Anybody may have put it in order: a server may lie. Says whether it was what it says it is. Finding that out is
    /// what costs, so a server that brings forward what is not is listened to no further in this operation.
    pub(super) fn on_incoming(&mut self, message: &LinkMessage) -> bool {
        let header = message.header;
        if !self.is_apt(&header) {
            return false;
        }
        if !self.core.links.is_news(&header) {
            return true;
        }
        if !message.is_genuine(&self.config.keys) {
            return false;
        }
        let is_next = self.core.links.on_heard(self.now.1, &header, &self.config.links);
        self.set_acknowledgement_timers();
        let is_taken_in = is_next && !self.is_deaf_to(header.from);
        if is_taken_in && let Err(misbehaviour) = self.take_in(message) {
            let accused = ReplicaId(header.from.0);
            self.accuse(Evidence { accused, misbehaviour, statements: Vec::new() });
        }
        // What was acknowledged has made room.
        self.dispatch_bundles();
        true
    }

    /// Whether a message for this site may look like this.
    pub(super) fn is_apt(&self, header: &Header) -> bool {
        let is_known = self.config.sites.has(ReplicaId(header.from.0));
        header.to == self.config.site() && is_known && header.is_possible()
    }

    fn take_in(&mut self, message: &LinkMessage) -> Result<(), Misbehaviour> {
        match message.header.kind {
            // One that has a number.
            Kind::Acknowledgement => return Err(Misbehaviour::InvalidMessage),
            Kind::Protocol | Kind::Statement => {
                let event = self.protocol_message(message)?;
                self.drive(event);
            }
            Kind::Request => {
                let mut request: Request = self.decoded(&message.body)?;
                self.authenticate(&mut request)?;
                self.drive(Event::Request(request));
            }
            Kind::Bundle | Kind::UrgentBundle => {
                let mut request: Request = self.decoded(&message.body)?;
                if slot_of(request.client).map(|(site, _)| site) != Some(message.header.from) {
                    return Err(Misbehaviour::Forgery);
                }
                request.auth = RequestAuth::Signed(message.spoken());
                self.authenticate(&mut request)?;
                let is_mine = self.config.sites.primary(self.core.view) == self.me();
                let is_urgent = message.header.kind == Kind::UrgentBundle;
                self.drive(if is_mine || is_urgent { Event::Request(request) } else { Event::Body(request) });
            }
        }
        Ok(())
    }

    fn decoded<T: borsh::BorshDeserialize>(&self, body: &[u8]) -> Result<T, Misbehaviour> {
        decode(body, self.config.max_message_bytes).map_err(|_| Misbehaviour::InvalidMessage)
    }

    fn protocol_message(&mut self, said: &LinkMessage) -> Result<Event<P::Message>, Misbehaviour> {
        let mut message: P::Message = self.decoded(&said.body)?;
        let (parts, n) = (message.signed_parts(), self.config.sites.n());
        // A new view with a view change of each site, each with a certificate by each.
        if parts.len() > n * (n + 1) + 1 {
            return Err(Misbehaviour::InvalidMessage);
        }
        for part in parts {
            if !self.is_signed(&part) {
                return Err(Misbehaviour::Forgery);
            }
        }
        for request in message.requests_mut() {
            self.authenticate(request)?;
        }
        let proof = (said.header.kind == Kind::Statement).then(|| said.spoken());
        Ok(Event::Message { from: ReplicaId(said.header.from.0), message, proof, key: 0 })
    }

    fn is_signed(&mut self, part: &SignedPart) -> bool {
        let said = (site(part.signer), &[Kind::Statement][..]);
        Spoken::verify(&self.config.keys, said, &part.proof, &part.bytes)
    }

    /// Checks who has made a request, and for a bundle who has made what is in it. Signatures are the same for all
    /// sites, so whoever says something with a bad one is faulty.
    pub(super) fn authenticate(&mut self, request: &mut Request) -> Result<(), Misbehaviour> {
        let is_good = match (slot_of(request.client), request.kind) {
            (Some((site, slot)), RequestKind::Bundle) if self.has_slot(slot) => {
                self.is_good_bundle(site, request)
            }
            (None, RequestKind::Service) => self.is_good_update(request, None),
            _ => false,
        };
        if !is_good {
            return Err(Misbehaviour::Forgery);
        }
        request.is_authentic = true;
        Ok(())
    }

    /// Whether a client has made this update: one of `site`, if that is given.
    fn is_good_update(&mut self, request: &Request, site: Option<SiteId>) -> bool {
        let Some(resident) = self.config.residents.get(&request.client) else { return false };
        let RequestAuth::Signed(proof) = &request.auth else { return false };
        let is_apt = site.is_none_or(|site| resident.site == site)
            && request.kind == RequestKind::Service
            && request.operation.len() <= self.config.max_update_bytes;
        // What no update of a client's can be would have another digest under the same signature.
        let update =
            Update { number: request.number, operation: request.operation.clone(), proof: proof.clone() };
        if !is_apt
            || update.into_request(request.client) != (Request { is_authentic: false, ..request.clone() })
        {
            return false;
        }
        // It came in a bundle that its own site has signed.
        if site.is_some() && proof.0.is_empty() && self.is_vouching() {
            return true;
        }
        let (signed, public) = (request.signed_bytes(), resident.public);
        let system = self.config.system();
        self.is_verified(proof, &signed, |machine| {
            machine.checked += 1;
            public.verify_in(system, proof, Domain::Request, &signed)
        })
    }

    /// Whether sites have such a slot.
    fn has_slot(&self, slot: u16) -> bool {
        matches!(self.config.dissemination, Dissemination::Origin { slots, .. } if slot < slots)
    }

    /// Whether sites answer for their clients.
    fn is_vouching(&self) -> bool {
        matches!(self.config.dissemination, Dissemination::Origin { is_vouching: true, .. })
    }

    fn is_good_bundle(&mut self, site: SiteId, request: &Request) -> bool {
        let RequestAuth::Signed(proof) = &request.auth else { return false };
        let unsigned =
            Request { auth: RequestAuth::Signed(Proof(Vec::new())), is_authentic: false, ..request.clone() };
        let bytes = encode(&unsigned);
        let is_said = |machine: &mut Self| {
            let kinds = [Kind::Bundle, Kind::UrgentBundle];
            let bundled = request.bundled();
            (1..=MAX_BUNDLED).contains(&bundled.len())
                && Spoken::verify(&machine.config.keys, (site, &kinds[..]), proof, &bytes)
                && bundled.iter().all(|update| machine.is_good_update(update, Some(site)))
        };
        self.is_verified(proof, &bytes, is_said)
    }

    /// Whether `check` says so, or said so lately of the same proof and bytes.
    fn is_verified(&mut self, proof: &Proof, bytes: &[u8], check: impl FnOnce(&mut Self) -> bool) -> bool {
        let mut hasher = Hasher::new("althing verified update");
        hasher.value(proof);
        hasher.bytes(bytes);
        let digest = hasher.finish();
        if self.verified.has(&digest) {
            return true;
        }
        let is_good = check(self);
        if is_good {
            self.verified.add(digest);
        }
        is_good
    }
}
