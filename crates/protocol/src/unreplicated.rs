//! No replication: a group of one executes each request as it comes.
//!
//! It tolerates no fault and keeps nothing across a restart. It is what the cost of replication is
//! measured against, in the same engine, over the same channels.

use crate::{Action, Actions, Batch, Decision, Event, Message, Protocol, Request, SignedPart};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use althing_types::{Instant, Seq, View};
use borsh::{BorshDeserialize, BorshSerialize, io};

/// The protocol of a group of one.
#[derive(Debug, Default)]
pub struct Unreplicated {
    executed: Seq,
}

/// A lone replica has nothing to say to others: there is no value of this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {}

impl BorshSerialize for Silence {
    fn serialize<W: io::Write>(&self, _: &mut W) -> io::Result<()> {
        match *self {}
    }
}

impl BorshDeserialize for Silence {
    fn deserialize_reader<R: io::Read>(_: &mut R) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::InvalidData, "a lone replica has no peers"))
    }
}

impl Message for Silence {
    fn signed_parts(&self) -> Vec<SignedPart> {
        match *self {}
    }

    fn requests_mut(&mut self) -> &mut [Request] {
        match *self {}
    }

    fn kind(&self) -> &'static str {
        match *self {}
    }

    fn contradiction(&self) -> Option<Self> {
        match *self {}
    }
}

impl Protocol for Unreplicated {
    type Message = Silence;

    fn handle(&mut self, now: Instant, event: Event<Silence>, actions: &mut Actions<Silence>) {
        let Event::Request(request) = event else { return };
        if !request.is_authentic {
            return;
        }
        self.executed = self.executed.next();
        let batch = Arc::new(Batch { time: now, requests: vec![request] });
        actions.push(Action::Execute(Decision {
            seq: self.executed,
            view: View(0),
            digest: batch.digest(),
            batch,
            is_checkpoint: false,
            is_eager: false,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Answers, RequestAuth, RequestKind};
    use althing_crypto::Proof;
    use althing_types::{ClientId, Epoch, RequestNumber};

    #[test]
    fn executes_what_is_authentic_in_order() {
        let mut protocol = Unreplicated::default();
        let mut actions = Vec::new();
        for (number, is_authentic) in [(1, true), (2, false), (3, true)] {
            let request = Request {
                client: ClientId(1),
                number: RequestNumber(number),
                kind: RequestKind::Service,
                operation: vec![],
                epoch: Epoch(0),
                answers: Answers::All,
                auth: RequestAuth::Signed(Proof(vec![])),
                is_authentic,
            };
            protocol.handle(Instant(number), Event::Request(request), &mut actions);
        }
        let executed: Vec<_> = actions
            .iter()
            .map(|action| match action {
                Action::Execute(decision) => (decision.seq.0, decision.batch.requests[0].number.0),
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        assert_eq!(executed, [(1, 1), (2, 3)]);
    }
}
