use crate::adversary::{Adversary, Behaviour, Forger, Means};
use crate::clock::Clock;
use crate::dice::{Dice, nanos};
use crate::disk::Disk;
use crate::fault::Injections;
use crate::keys::GroupKeys;
use crate::plan::Plan;
use crate::subject::{Subject, Tested, instance};
use althing_replica::{Startup, Timer};
use althing_types::ReplicaId;
use std::collections::{BTreeMap, BTreeSet};

/// A machine that runs one replica: its disk, its clock, and the replica's timers.
pub(crate) struct Host<X: Subject> {
    pub(crate) id: ReplicaId,
    pub(crate) is_correct: bool,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    /// `None` while the machine is down.
    pub(crate) replica: Option<Tested<X>>,
    pub(crate) incarnation: u32,
    /// The timers that run, each with what tells it from earlier ones of the same name.
    pub(crate) timers: BTreeMap<Timer, u64>,
    pub(crate) generation: u64,
    /// The disk was lost, and nothing was written since.
    has_lost_disk: bool,
    /// It has forgotten what it said, and is not yet seen to vote again, with that on its disk.
    is_impaired: bool,
    pub(crate) forger: Option<Forger>,
    /// What it sends is held back for so long.
    pub(crate) lag: u64,
    behaviours: BTreeSet<Behaviour>,
    dice: Dice,
}

impl<X: Subject> Host<X> {
    pub(crate) fn new(id: ReplicaId, plan: &Plan, dice: &mut Dice, injections: &Injections) -> Self {
        let behaviours = plan.byzantine.get(&id).cloned().unwrap_or_default();
        let has = |behaviour| behaviours.contains(&behaviour);
        let (forges, repeats) = (has(Behaviour::Forge), has(Behaviour::Replay));
        let forger = (forges || repeats).then(|| {
            let keyring = GroupKeys::of_group(plan.quorums.n()).replica(id).clone();
            Forger::new(dice.fork(), injections.clone(), keyring, (forges, repeats))
        });
        Self {
            id,
            is_correct: plan.is_correct(id),
            clock: Clock::random(dice, plan.skew),
            disk: Disk::default(),
            replica: None,
            incarnation: 0,
            timers: BTreeMap::new(),
            generation: 0,
            has_lost_disk: false,
            is_impaired: false,
            forger,
            lag: if has(Behaviour::Slow) { nanos(plan.lag) } else { 0 },
            behaviours,
            dice: dice.fork(),
        }
    }

    /// Makes a new replica on this machine, and says what it has to be started with.
    pub(crate) fn boot(&mut self, subject: &X, plan: &Plan, injections: &Injections) -> Startup {
        let mut replica = instance(subject, plan, self.id);
        if !self.behaviours.is_empty() && !self.behaviours.contains(&Behaviour::Twin) {
            let means = Means {
                dice: self.dice.fork(),
                injections: injections.clone(),
                keyring: GroupKeys::of_group(plan.quorums.n()).replica(self.id).clone(),
                quorums: plan.quorums,
                checkpoint_period: plan.settings.checkpoint_period,
            };
            replica.set_tamper(Some(Box::new(Adversary::new(self.behaviours.clone(), means))));
        }
        self.replica = Some(replica);
        let records = self.disk.records();
        if self.incarnation == 0 {
            Startup::Genesis
        } else if self.has_lost_disk && records.is_empty() {
            Startup::Amnesia
        } else {
            self.has_lost_disk = false;
            Startup::Recovered(records)
        }
    }

    /// The machine goes down.
    pub(crate) fn crash(&mut self, loses_disk: bool) {
        self.is_impaired = loses_disk || self.is_impaired();
        self.replica = None;
        self.timers.clear();
        self.incarnation += 1;
        self.disk.crash(&mut self.dice);
        if loses_disk {
            self.disk.lose();
            self.has_lost_disk = true;
        }
    }

    /// Whether it counts as faulty for having forgotten what it said.
    pub(crate) fn is_impaired(&self) -> bool {
        let votes = self.replica.as_ref().is_some_and(|replica| X::probe(replica.protocol()).is_voting);
        self.is_impaired && !(votes && self.disk.is_idle())
    }
}
