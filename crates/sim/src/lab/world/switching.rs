use super::{Happening, ROOT, World, identity};
use crate::dice::nanos;
use crate::lab::{LabConfig, SwitchConfig, SwitchReport};
use althing_protocol::{AnyProtocol, Protocol, Settings};
use althing_replica::membership::{Change, Member, Membership, Reconfigure, ReconfigureOutcome};
use althing_replica::{EngineSettings, OperationKind};
use althing_types::{ClientId, Epoch, Principal, ReplicaId, decode, encode};
use std::collections::BTreeMap;

/// A command that changes a group, and what came of it.
#[derive(Debug)]
pub(super) struct Switching {
    command: Vec<u8>,
    /// When it was given.
    at: u64,
    answered: Option<u64>,
    /// When each replica was in the next epoch.
    entered: BTreeMap<ReplicaId, u64>,
}

impl<'a> World<'a, AnyProtocol> {
    /// A group that is told once, in the middle of the time for which it is measured, to go by other settings.
    pub(in crate::lab) fn switching(
        config: &'a SwitchConfig,
        (from, to): (&Settings, Settings),
        meter: &'a dyn Fn() -> u64,
    ) -> Self {
        let present = membership(&config.group, from);
        let quorums = present.quorums();
        let mut world = Self::of(&config.group, meter, quorums, Some(&present), |me| {
            AnyProtocol::new(me, quorums, from).expect("defaults are valid")
        });
        let command = Reconfigure { epoch: present.epoch, f: present.f, changes: vec![Change::Settings(to)] };
        let command = encode(&command.sign(ROOT, &identity(Principal::Client(admin(&config.group)))));
        let at = nanos(config.group.warm_up + config.group.measured / 2);
        world.switching = Some(Switching { command, at, answered: None, entered: BTreeMap::new() });
        world.schedule(at, Happening::Command);
        world
    }

    /// Runs it, and says what clients had to wait for.
    ///
    /// # Panics
    /// Where it has not switched in time.
    pub(in crate::lab) fn switch(mut self) -> SwitchReport {
        let (from, end) = (nanos(self.config.warm_up), nanos(self.config.warm_up + self.config.measured));
        self.run_until(end);
        let Some(Switching { at, answered, entered, .. }) = self.switching else {
            unreachable!("it was made so")
        };
        let entered_at = entered.values().max().copied();
        let is_there = entered.len() == self.machines.len();
        let (answered, entered_at) =
            answered.zip(entered_at.filter(|_| is_there)).expect("it switches while it is measured");
        // The second half of the rest shows what is usual afterwards.
        let calm = entered_at + (end - entered_at) / 2;
        let is_usual = |at_: u64| at_ < at || at_ >= calm;
        let took = |(_, took): &(u64, u64)| *took;
        let usual = self.completions.iter().filter(|(at, _)| is_usual(*at)).map(took).max().unwrap_or(0);
        let meanwhile = || self.completions.iter().filter(|(at, _)| !is_usual(*at));
        let before = self.completions.iter().filter(|(done, _)| *done < at).map(|(done, _)| *done).max();
        let mut last = before.unwrap_or(from);
        let mut pause = 0;
        for (done, _) in self.completions.iter().filter(|(done, _)| *done >= at) {
            pause = pause.max(done - last);
            last = *done;
        }
        let ms = |ns: u64| ns as f64 / 1e6;
        SwitchReport {
            answered_ms: ms(answered - at),
            entered_ms: ms(entered_at - at),
            pause_ms: ms(pause.max(end - last)),
            stalled: meanwhile().filter(|done| took(done) > usual).count() as u64,
            slowest_ms: ms(meanwhile().map(took).max().unwrap_or(0)),
            usual_slowest_ms: ms(usual),
        }
    }
}

impl<P: Protocol> World<'_, P> {
    pub(super) fn command(&mut self) {
        let Some(Switching { command, .. }) = &self.switching else { return };
        let command = command.clone();
        self.submit(admin(self.config), command, OperationKind::Reconfigure);
    }

    pub(super) fn on_answer(&mut self, answer: &[u8]) {
        let outcome: ReconfigureOutcome =
            decode(answer, answer.len()).expect("replicas answer with an outcome");
        outcome.unwrap_or_else(|refusal| panic!("the group can't switch: {refusal}"));
        let now = self.now;
        if let Some(switching) = &mut self.switching {
            switching.answered = Some(now);
        }
    }

    pub(super) fn on_epoch(&mut self, of: ReplicaId) {
        let now = self.now;
        if let Some(switching) = &mut self.switching {
            switching.entered.insert(of, now);
        }
    }
}

/// Who gives the command: the client after the others.
fn admin(config: &LabConfig) -> ClientId {
    ClientId(config.clients)
}

/// The first epoch of a group that is large enough for whatever it is to run.
fn membership(config: &LabConfig, settings: &Settings) -> Membership {
    let member = |id: u16| Member {
        key: identity(Principal::Replica(ReplicaId(id))).public(),
        address: format!("machine-{id}"),
    };
    let count = |number: usize| u16::try_from(number).expect("groups are smaller");
    Membership {
        epoch: Epoch(0),
        f: count(config.f),
        members: (0..count(3 * config.f + 1)).map(member).collect(),
        admins: vec![identity(Principal::Client(admin(config))).public()],
        settings: settings.clone(),
        first_primary: ReplicaId(0),
        engine: EngineSettings::default(),
        is_one_machine: false,
    }
}
