use crate::adversary::{Behaviour, Forger, Means};
use crate::clock::Clock;
use crate::dice::{Dice, nanos};
use crate::disk::{AnyStorage, Disk, DiskError, End};
use crate::fault::Injections;
use crate::keys::{GroupKeys, elastic, machine, member};
use crate::medium::Medium;
use crate::oracle::Promised;
use crate::plan::Plan;
use crate::subject::{Subject, Tested, instance};
use althing_replica::membership::Membership;
use althing_replica::{Startup, Timer};
use althing_types::{Principal, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A machine that runs one replica: its disk, its clock, and the replica's timers.
pub(crate) struct Host<X: Subject> {
    pub(crate) id: ReplicaId,
    pub(crate) is_correct: bool,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    /// What that has to hold.
    pub(crate) promised: Promised,
    /// `None` while the machine is down.
    pub(crate) replica: Option<Tested<X>>,
    pub(crate) incarnation: u32,
    /// The timers that run, each with what tells it from earlier ones of the same name.
    pub(crate) timers: BTreeMap<Timer, u64>,
    pub(crate) generation: u64,
    /// The whole machine was replaced: nobody says any more that the group is new.
    is_replaced: bool,
    /// It has forgotten what it said, and is not yet seen to vote again, with that on its disk.
    is_impaired: bool,
    /// Keys that were copied from it may be of use up to then.
    pub(crate) robbed_until: u64,
    /// It starts next to recover.
    pub(crate) is_to_recover: bool,
    /// Its disk says that it recovers.
    is_recovering: bool,
    /// It was taken over, and what it runs now was not; it counts as faulty until that has recovered.
    pub(crate) is_freed: bool,
    pub(crate) forger: Option<Forger>,
    /// What it sends is held back for so long.
    pub(crate) lag: u64,
    /// Its proposals are.
    pub(crate) proposal_lag: u64,
    /// Whether it hears the plan's victim late, or never.
    pub(crate) is_unfair: bool,
    behaviours: BTreeSet<Behaviour>,
    dice: Dice,
    /// What its operator gave it to start with, in a group whose members change.
    pub(crate) file: Option<Arc<Membership>>,
    /// Whether its replica has no place in the group any more.
    pub(crate) has_left: bool,
    /// What its replica last had to say to whom in the protocol, for a runtime that does not forget it.
    pub(crate) last_word: Option<(Principal, Arc<[u8]>)>,
    /// By whose places it calls the others.
    pub(crate) membership: Option<Arc<Membership>>,
}

impl<X: Subject> Host<X> {
    pub(crate) fn new(id: ReplicaId, plan: &Plan, dice: &mut Dice, injections: &Injections) -> Self {
        let behaviours = plan.byzantine.get(&id).cloned().unwrap_or_default();
        let has = |behaviour| behaviours.contains(&behaviour);
        let (forges, repeats) = (has(Behaviour::Forge), has(Behaviour::Replay));
        let forger =
            (forges || repeats).then(|| Forger::new(dice.fork(), injections.clone(), (forges, repeats)));
        Self {
            id,
            is_correct: plan.is_correct(id),
            clock: Clock::random(dice, plan.skew),
            disk: Disk::new(Medium::new(dice.fork(), injections.clone()), plan.durability),
            promised: Promised::default(),
            replica: None,
            incarnation: 0,
            timers: BTreeMap::new(),
            generation: 0,
            is_replaced: false,
            is_impaired: false,
            robbed_until: 0,
            is_to_recover: false,
            is_recovering: false,
            is_freed: false,
            forger,
            lag: if has(Behaviour::Slow) { nanos(plan.lag) } else { 0 },
            proposal_lag: if has(Behaviour::SlowPrimary) { nanos(plan.lag) } else { 0 },
            is_unfair: has(Behaviour::UnfairPrimary),
            behaviours,
            dice: dice.fork(),
            file: plan.membership.clone(),
            has_left: false,
            last_word: None,
            membership: plan.membership.clone(),
        }
    }

    /// As [`Self::new`], for a machine that joins the group in an epoch, and is faulty or not.
    pub(crate) fn joining(
        id: ReplicaId,
        membership: Arc<Membership>,
        plan: &Plan,
        dice: &mut Dice,
        injections: &Injections,
    ) -> Self {
        let (file, called) = (Some(membership.clone()), Some(membership));
        Self { file, membership: called, ..Self::new(id, plan, dice, injections) }
    }

    /// What a faulty one has at hand, in the epoch that its replica is in.
    fn means(&mut self, plan: &Plan, injections: &Injections) -> Means {
        let (keyring, quorums) = match &self.membership {
            None => (GroupKeys::of_group(plan.quorums.n()).replica(self.id).clone(), plan.quorums),
            Some(membership) => {
                let place = membership.place_of(&member(self.id).key).unwrap_or_default();
                let own = elastic(Principal::Replica(place), machine(self.id));
                (membership.keyring(&own), membership.quorums())
            }
        };
        Means {
            dice: self.dice.fork(),
            injections: injections.clone(),
            keyring,
            quorums,
            checkpoint_period: self
                .membership
                .as_ref()
                .map_or(plan.settings.checkpoint_period, |membership| {
                    membership.settings.checkpoint_period()
                }),
        }
    }

    /// Its replica is in this epoch from now on.
    pub(crate) fn enter(&mut self, membership: Membership, plan: &Plan, injections: &Injections) {
        self.membership = Some(Arc::new(membership));
        self.corrupt(plan, injections);
    }

    /// Has a faulty one change what its replica says.
    fn corrupt(&mut self, plan: &Plan, injections: &Injections) {
        if self.behaviours.is_empty() || self.behaviours.contains(&Behaviour::Twin) {
            return;
        }
        let means = self.means(plan, injections);
        let adversary = X::adversary(self.behaviours.clone(), means);
        if let Some(replica) = &mut self.replica {
            replica.set_tamper(adversary);
        }
    }

    /// Makes a new replica on this machine, and says what it has to be started with.
    ///
    /// # Errors
    /// When its disk fails it or is refused; there is no replica then.
    pub(crate) fn boot(
        &mut self,
        subject: &X,
        plan: &Plan,
        injections: &Injections,
    ) -> Result<Startup, DiskError> {
        let replica = instance(subject, plan, self.id, self.file.as_deref());
        let storage = || subject.storage(self.disk.medium.clone());
        let (storages, marks) = ([(); 2].map(|()| storage()), [(); 2].map(|()| storage()));
        let startup = if self.doubts(subject, marks)? {
            self.disk.open_to_recover(storages, |records, kept| replica.is_sound(records, kept))?
        } else {
            self.disk.open(storages, !self.is_replaced)?
        };
        self.membership.clone_from(&self.file);
        self.replica = Some(replica);
        self.corrupt(plan, injections);
        Ok(startup)
    }

    /// Whether what is on its disk is doubted. Whoever has it recover does so until that is on the disk.
    fn doubts(&mut self, subject: &X, [first, second]: [AnyStorage; 2]) -> Result<bool, DiskError> {
        let is_told = self.is_to_recover;
        if is_told {
            self.disk.begin_recovery(first)?;
            self.is_to_recover = false;
        }
        self.is_recovering = self.disk.is_recovering(second)?;
        Ok(self.is_recovering && subject.doubts() && (is_told || subject.remembers_recoveries()))
    }

    /// What its replica has recovered is on its disk.
    ///
    /// # Errors
    /// When the disk fails; the replica has to [`stop`](Self::stop).
    pub(crate) fn end_recovery(&mut self) -> Result<(), DiskError> {
        if self.is_recovering && self.has_recovered() {
            self.disk.end_recovery()?;
            self.is_recovering = false;
        }
        Ok(())
    }

    /// Whether nothing that its replica may have said before can matter any more, and that is on its disk.
    fn has_recovered(&self) -> bool {
        let is_settled = |replica: &Tested<X>| {
            let takes_part = replica.takes_part() || replica.is_retired();
            takes_part && X::probe(replica.protocol()).is_settled
        };
        self.replica.as_ref().is_some_and(is_settled) && self.promised.is_kept()
    }

    /// It is taken over: from now on its replica does these things.
    pub(crate) fn seize(&mut self, behaviours: BTreeSet<Behaviour>, plan: &Plan, injections: &Injections) {
        (self.is_correct, self.is_freed, self.behaviours) = (false, false, behaviours);
        self.corrupt(plan, injections);
    }

    /// What it starts next is not what was taken over.
    pub(crate) fn free(&mut self) {
        self.is_freed = true;
        self.behaviours.clear();
    }

    /// It goes on as it is, without what was put around it.
    pub(crate) fn pretend_to_recover(&mut self) {
        self.free();
        if let Some(replica) = &mut self.replica {
            replica.set_tamper(None);
        }
    }

    /// Whether what it runs, after it was taken over, has recovered just now.
    pub(crate) fn recovers(&mut self) -> bool {
        let recovers = self.is_freed && self.has_recovered();
        if recovers {
            (self.is_correct, self.is_freed) = (true, false);
        }
        recovers
    }

    /// What was being written is; gives back the last record among it.
    ///
    /// # Errors
    /// When the disk failed. The replica has to [`stop`](Self::stop).
    pub(crate) fn written(&mut self) -> Result<Option<u64>, DiskError> {
        let (writes, last) = self.disk.finish(&mut self.dice)?;
        self.promised.kept(writes);
        Ok(last)
    }

    /// The replica goes down with its machine, or alone.
    pub(crate) fn crash(&mut self, how: End) {
        self.go_down();
        self.disk.end(how, &mut self.dice);
    }

    /// The replica stops, because its disk failed it.
    pub(crate) fn stop(&mut self) {
        self.go_down();
        self.disk.give_up(&mut self.dice);
    }

    fn go_down(&mut self) {
        // Who has forgotten and was not yet seen to vote again still has.
        self.is_impaired = self.is_impaired();
        self.replica = None;
        self.timers.clear();
        self.incarnation += 1;
    }

    /// Its data is taken away while it is down, or its whole machine.
    pub(crate) fn lose(&mut self, with_machine: bool) {
        self.disk.medium.lose(with_machine);
        self.is_replaced |= with_machine;
        self.forget();
    }

    /// What it said is lost, or may be.
    pub(crate) fn forget(&mut self) {
        self.is_impaired = true;
        self.promised.may_forget();
    }

    /// Whether it counts as faulty for having forgotten what it said.
    pub(crate) fn is_impaired(&self) -> bool {
        let votes = self
            .replica
            .as_ref()
            .is_some_and(|replica| replica.takes_part() && X::probe(replica.protocol()).is_voting);
        // That it votes again has to be on its disk, or it forgets that too.
        self.is_impaired && !(votes && self.promised.is_kept())
    }
}
