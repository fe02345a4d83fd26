//! The operators of the sites, who change their groups.

use super::{Happening, World};
use crate::dice::nanos;
use crate::oracle::{Verdict, Violation};
use crate::sites::server::local_settings;
use althing_replica::membership::{Change, Reconfigure, ReconfigureOutcome, Reconfigured, Refusal};
use althing_replica::{EngineSettings, OperationKind, RequestAuthPolicy};
use althing_types::{ClientId, ReplicaId, RequestNumber, decode, encode};
use std::time::Duration;

/// An operator rests so long after a change, about.
const REST: Duration = Duration::from_millis(400);

impl World<'_> {
    /// An operator asks for another change of its site's group.
    pub(super) fn change_site(&mut self, id: ClientId) {
        let now = self.instant();
        let worker = self.workers.get_mut(&id).expect("it is there");
        let site = worker.site;
        let protocol = self.config.composition.sites[usize::from(site.0)].protocol;
        let present = worker.client.membership().expect("the group changes").clone();
        let dice = &mut worker.dice;
        let mut changes = Vec::new();
        if dice.chance(600) {
            changes.push(Change::Settings(local_settings(protocol, &self.plan.other_local(dice))));
        }
        if dice.chance(400) {
            changes.push(Change::Engine(EngineSettings {
                max_outstanding_requests: dice.pick(&[64, 4096]),
                request_auth: dice
                    .pick(&[RequestAuthPolicy::MacsOrSignature, RequestAuthPolicy::SignatureOnly]),
                ..EngineSettings::default()
            }));
        }
        if changes.is_empty() || dice.chance(400) {
            let first = dice.index(present.members.len());
            changes.push(Change::FirstPrimary(ReplicaId(u16::try_from(first).expect("small"))));
        }
        let command = Reconfigure { epoch: present.epoch, f: present.f, changes };
        let signed = self.materials[usize::from(site.0)].signed(command.clone());
        let mut outputs = Vec::new();
        let submitted = worker.client.submit(now, encode(&signed), OperationKind::Reconfigure, &mut outputs);
        let number = submitted.expect("nothing is under way");
        self.successions.get_mut(&site).expect("it changes").asked(id, number, &command);
        self.client_outputs(id, outputs).expect("submitting completes nothing");
    }

    /// The group has answered its operator.
    pub(super) fn on_outcome(&mut self, id: ClientId, result: &[u8]) -> Verdict {
        let rest = self.dice.around(REST);
        self.schedule(self.now + nanos(rest), Happening::Turn(id));
        let (site, made) = (self.workers[&id].site, self.workers[&id].made);
        match decode::<ReconfigureOutcome>(result, 1 << 20) {
            Ok(Ok(Reconfigured { next, .. })) => {
                self.granted.insert(site, next.epoch);
                self.successions.get_mut(&site).expect("it changes").granted(id, RequestNumber(made))
            }
            // What was drawn is what is already so, or it was late.
            Ok(Err(Refusal::NoChange | Refusal::Epoch { .. } | Refusal::UnderWay(_))) => Ok(()),
            Ok(Err(refusal)) => {
                let message = format!("the operator of {site} is refused: {refusal}");
                Err(Violation::new("membership", message))
            }
            Err(error) => {
                let message =
                    format!("the operator of {site} was told something that is no outcome: {error}");
                Err(Violation::new("linearizability", message))
            }
        }
    }
}
