use super::{Member, Membership, MembershipError};
use crate::EngineSettings;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use althing_crypto::{Domain, Identity, Proof, PublicIdentity};
use althing_protocol::Settings;
use althing_types::{Epoch, GroupId, Quorums, ReplicaId, encode};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

/// One change of a membership, or of how it works. Places are those of the present epoch.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Change {
    /// Another replica, in the last place.
    Add(Member),
    /// A replica leaves; those after it move up.
    Remove(ReplicaId),
    /// Another replica takes the place of this one.
    Replace(ReplicaId, Member),
    /// A replica stays where it is and has another key: an end to what the old one is worth.
    Rekey(ReplicaId, PublicIdentity),
    /// All replicas go by these settings: by all of them, so that nothing depends on what they were.
    Settings(Settings),
    /// This replica leads the first view, in all epochs that it stays for.
    FirstPrimary(ReplicaId),
    /// All replicas take requests by these settings: by all of them.
    Engine(EngineSettings),
}

/// A command to the group: be another one from the next epoch on.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Reconfigure {
    /// The epoch that is to end. In another one the command means nothing.
    pub epoch: Epoch,
    /// How many replicas may be faulty afterwards.
    pub f: u16,
    /// What changes.
    pub changes: Vec<Change>,
}

/// A command and who stands for it: what a request of kind
/// [`Reconfigure`](althing_protocol::RequestKind::Reconfigure) holds.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedReconfigure {
    /// The command.
    pub command: Reconfigure,
    /// The administrator.
    pub admin: PublicIdentity,
    /// The administrator's proof over the command, for the group and not for an epoch.
    pub proof: Proof,
}

/// What a command changes.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Reconfigured {
    /// The present membership.
    pub before: Membership,
    /// The one that follows.
    pub next: Membership,
}

/// What comes of a command, or why nothing does.
pub type ReconfigureOutcome = Result<Reconfigured, Refusal>;

/// Why a command was refused. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, Error, BorshSerialize, BorshDeserialize)]
pub enum Refusal {
    /// The members of this group do not change.
    #[error("the members of this group are fixed: it was made without administrators")]
    Fixed,
    /// It is no command.
    #[error("the operation is no command to change the group")]
    Malformed,
    /// The signer is not of the policy set.
    #[error("the command is signed by somebody who is no administrator of the group")]
    NotAnAdmin,
    /// The proof is of something else.
    #[error("the administrator's signature does not hold for this command and this group")]
    Forged,
    /// The command is for another epoch.
    #[error(
        "the command is for epoch {meant}, and the group is in {present}; look at what has changed, and ask again"
    )]
    Epoch {
        /// The command's.
        meant: Epoch,
        /// The present one.
        present: Epoch,
    },
    /// The epoch is about to end already.
    #[error("the group is on its way to epoch {0}; ask again once it is there")]
    UnderWay(Epoch),
    /// The command changes nothing.
    #[error("the command changes nothing")]
    NoChange,
    /// There is no such replica.
    #[error("there is no replica {0}")]
    NoSuchReplica(ReplicaId),
    /// Two changes are about one replica.
    #[error("two changes are about replica {0}; one of them is enough")]
    ChangedTwice(ReplicaId),
    /// With so many gone, nobody might be left who has the state.
    #[error("{leaving} replicas leave at once, and at most {most} may; change the group step by step")]
    TooManyLeave {
        /// Replicas that leave or get another key.
        leaving: u32,
        /// As many may.
        most: u32,
    },
    /// If so many never came up, the group would stand still for ever.
    #[error("{joining} replicas join at once, and at most {most} may; change the group step by step")]
    TooManyJoin {
        /// Replicas that join or get another key.
        joining: u32,
        /// As many may.
        most: u32,
    },
    /// Settings are given more than once.
    #[error("the settings are given {0} times; once is enough")]
    SettingsTwice(u32),
    /// More than one replica is to lead first.
    #[error("both {0} and {1} are to lead first")]
    TwoPrimaries(ReplicaId, ReplicaId),
    /// Who is to lead first leaves, or gets another key.
    #[error("{0} is to lead first, and is not there any more under the key that it has")]
    PrimaryLeaves(ReplicaId),
    /// Others know the members by their places, and how many of them may be faulty in which way.
    #[error(
        "the group is one machine to others: who belongs to it, and which faults it stands, does not change"
    )]
    OneMachine,
    /// What would come out is no membership.
    #[error(transparent)]
    Invalid(#[from] MembershipError),
    /// Witnesses have no state: with so many gone of those that execute, nobody might be left who has it.
    #[error(
        "{leaving} of the replicas that execute leave at once, and with the witnesses that there are {most} may; have \
         others be witnesses first, or none"
    )]
    TooManyExecutorsLeave {
        /// Replicas that execute and leave or get another key.
        leaving: u32,
        /// As many may.
        most: u32,
    },
    /// Perhaps no more replicas have the state at the end of the epoch than may be faulty in the next one.
    #[error(
        "with the witnesses that there are, as few may have the state as f = {f} may be faulty; have none be witnesses first"
    )]
    TooFewHaveTheState {
        /// The faults that the next membership would tolerate.
        f: u32,
    },
}

impl Reconfigure {
    /// The command, signed for the group that its clients know as `root`.
    #[must_use]
    pub fn sign(self, root: GroupId, admin: &Identity) -> SignedReconfigure {
        let proof = admin.sign_in(root, Domain::Reconfigure, &encode(&self));
        SignedReconfigure { command: self, admin: admin.public(), proof }
    }

    /// The membership that comes of it.
    ///
    /// At most so many leave that one correct replica which has the state at the end of the epoch is still
    /// there: an agreement quorum has it, *f* of those are faulty, and one more has to stay. At most *f*
    /// of the next epoch join (or one, where *f* is 0): the others can go on without those.
    ///
    /// Of an agreement quorum with witnesses those that execute have it, at least *f* + 1; so of these fewer may leave,
    /// and none in the smallest groups with as many witnesses as there can be. Who becomes a witness stays, and has the
    /// state at the end of the epoch until another is stable.
    ///
    /// Witnesses go by places of the present epoch, those that are added coming after all others, and keep to who is
    /// there.
    ///
    /// # Errors
    /// One variant of [`Refusal`] a rule.
    pub fn apply(&self, present: &Membership) -> Result<Membership, Refusal> {
        if self.epoch != present.epoch {
            return Err(Refusal::Epoch { meant: self.epoch, present: present.epoch });
        }
        let Moved { members, leaving, joining, places } = self.members(present)?;
        let executing = places.iter().filter(|id| !present.settings.witnesses().contains(id)).count();
        let gone = |id: &ReplicaId| self.changes.contains(&Change::Remove(*id));
        let place = |id: ReplicaId| {
            let before = places.iter().filter(|other| **other < id && gone(other)).count();
            let before = u16::try_from(before).expect("a group is small");
            (!gone(&id)).then(|| ReplicaId(id.0 - before))
        };
        let next = Membership {
            epoch: present.epoch.next(),
            f: self.f,
            first_primary: self.first_primary(present, &members)?,
            settings: self.settings()?.unwrap_or(&present.settings).clone().moved(place),
            engine: self.engine()?.unwrap_or(present.engine),
            admins: present.admins.clone(),
            is_one_machine: present.is_one_machine,
            members,
        };
        if next == (Membership { epoch: next.epoch, ..present.clone() }) {
            return Err(Refusal::NoChange);
        }
        let is_as_known = next.members == present.members && next.f == present.f;
        let is_as_faulty = next.settings.fault_model() == present.settings.fault_model();
        if present.is_one_machine && !(is_as_known && is_as_faulty) {
            return Err(Refusal::OneMachine);
        }
        let quorums = next.check()?;
        allow(present.quorums(), leaving, quorums, joining)?;
        allow_executors(present, executing, quorums)?;
        Ok(next)
    }

    /// Those of the next epoch.
    fn members(&self, present: &Membership) -> Result<Moved, Refusal> {
        let (mut members, mut changed, mut leaving, mut joining) =
            (present.members.iter().cloned().map(Some).collect::<Vec<_>>(), BTreeSet::new(), 0, 0);
        for change in &self.changes {
            let (Change::Remove(id) | Change::Replace(id, _) | Change::Rekey(id, _)) = change else {
                continue;
            };
            let member = members.get_mut(usize::from(id.0)).ok_or(Refusal::NoSuchReplica(*id))?;
            if !changed.insert(*id) {
                return Err(Refusal::ChangedTwice(*id));
            }
            leaving += 1;
            match (change, member) {
                (Change::Replace(_, other), member) => *member = Some(other.clone()),
                (Change::Rekey(_, key), Some(member)) => member.key = *key,
                (_, member) => *member = None,
            }
            joining += u32::from(!matches!(change, Change::Remove(_)));
        }
        let added = self.changes.iter().filter_map(|change| match change {
            Change::Add(member) => Some(member.clone()),
            _ => None,
        });
        let places = changed.into_iter().collect();
        let mut members: Vec<_> = members.into_iter().flatten().collect();
        let stayed = members.len();
        members.extend(added);
        joining += u32::try_from(members.len() - stayed).unwrap_or(u32::MAX);
        Ok(Moved { members, leaving, joining, places })
    }

    /// The settings that are asked for.
    fn settings(&self) -> Result<Option<&Settings>, Refusal> {
        given_once(self.changes.iter().filter_map(|change| match change {
            Change::Settings(settings) => Some(settings),
            _ => None,
        }))
    }

    /// Those of the engine that are asked for.
    fn engine(&self) -> Result<Option<EngineSettings>, Refusal> {
        given_once(self.changes.iter().filter_map(|change| match change {
            Change::Engine(settings) => Some(*settings),
            _ => None,
        }))
    }

    /// The place of the one that leads first among the next `members`: of who is asked for, or of who did so
    /// before if it stays, or the first.
    fn first_primary(&self, present: &Membership, members: &[Member]) -> Result<ReplicaId, Refusal> {
        let mut asked = self.changes.iter().filter_map(|change| match change {
            Change::FirstPrimary(id) => Some(*id),
            _ => None,
        });
        let id = asked.next();
        if let (Some(one), Some(other)) = (id, asked.next()) {
            return Err(Refusal::TwoPrimaries(one, other));
        }
        let before = id.unwrap_or(present.first_primary);
        let key = present.member(before).ok_or(Refusal::NoSuchReplica(before))?.key;
        let place = members.iter().position(|member| member.key == key);
        let place = place.and_then(|place| u16::try_from(place).ok()).map(ReplicaId);
        match id {
            Some(id) => place.ok_or(Refusal::PrimaryLeaves(id)),
            None => Ok(place.unwrap_or(ReplicaId(0))),
        }
    }
}

fn given_once<T>(mut asked: impl Iterator<Item = T>) -> Result<Option<T>, Refusal> {
    let first = asked.next();
    match asked.count() {
        0 => Ok(first),
        more => Err(Refusal::SettingsTwice(u32::try_from(more).unwrap_or(u32::MAX).saturating_add(1))),
    }
}

/// The members of the next epoch, and how many of them are others than before.
struct Moved {
    members: Vec<Member>,
    leaving: u32,
    joining: u32,
    /// Who leaves, or gets another key, ascending.
    places: Vec<ReplicaId>,
}

/// The same of those that execute, where there are witnesses.
///
/// As many have the state as there have to be, and of those that stay as many may be faulty as the next membership
/// tolerates.
fn allow_executors(present: &Membership, leaving: usize, next: Quorums) -> Result<(), Refusal> {
    let (quorums, witnesses) = (present.quorums(), present.settings.witnesses().len());
    let faulty = quorums.f().max(next.f());
    let most = quorums.having_stable_state(witnesses).checked_sub(faulty + 1);
    if witnesses == 0 || most.is_some_and(|most| leaving <= most) {
        return Ok(());
    }
    let number = |count: usize| u32::try_from(count).expect("a group is small");
    Err(match most {
        Some(most) => Refusal::TooManyExecutorsLeave { leaving: number(leaving), most: number(most) },
        None => Refusal::TooFewHaveTheState { f: number(next.f()) },
    })
}

fn allow(old: Quorums, leaving: u32, new: Quorums, joining: u32) -> Result<(), Refusal> {
    let number = |count: usize| u32::try_from(count).expect("a group is small");
    let most = number(old.agreement() - old.f() - 1);
    if leaving > most {
        return Err(Refusal::TooManyLeave { leaving, most });
    }
    let most = number(new.f().max(1));
    if joining > most {
        return Err(Refusal::TooManyJoin { joining, most });
    }
    Ok(())
}

impl SignedReconfigure {
    /// Whether an administrator of `present` has signed it, in the group that its clients know as `root`.
    ///
    /// # Errors
    /// [`Refusal::NotAnAdmin`] or [`Refusal::Forged`].
    pub fn authorise(&self, root: GroupId, present: &Membership) -> Result<(), Refusal> {
        if !present.admins.contains(&self.admin) {
            return Err(Refusal::NotAnAdmin);
        }
        let holds = self.admin.verify_in(root, &self.proof, Domain::Reconfigure, &encode(&self.command));
        holds.then_some(()).ok_or(Refusal::Forged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;
    use althing_protocol::paxos::PaxosSettings;
    use althing_protocol::pbft::PbftSettings;
    use althing_protocol::zyzzyva::ZyzzyvaSettings;
    use althing_protocol::{ConfigError, Setting};
    use althing_types::{FaultModel, View};

    const ROOT: GroupId = GroupId([3; 16]);

    fn identity(i: u8) -> Identity {
        Identity::from_secret_bytes(&[i; 64])
    }

    fn member(i: u8) -> Member {
        Member { key: identity(i).public(), address: format!("m{i}") }
    }

    fn membership(n: u8) -> Membership {
        let f = u16::from((n - 1) / 3);
        let members = (0..n).map(member).collect();
        let settings = Settings::Pbft(PbftSettings::default());
        let (epoch, admins) = (Epoch(5), vec![identity(200).public()]);
        let (first_primary, engine) = (ReplicaId(0), EngineSettings::default());
        let is_one_machine = false;
        Membership { epoch, f, members, admins, settings, first_primary, engine, is_one_machine }
    }

    fn with(change: impl FnOnce(&mut PbftSettings)) -> Change {
        let mut settings = PbftSettings::default();
        change(&mut settings);
        Change::Settings(Settings::Pbft(settings))
    }

    fn apply(n: u8, f: u16, changes: &[Change]) -> Result<Vec<Member>, Refusal> {
        let command = Reconfigure { epoch: Epoch(5), f, changes: changes.to_vec() };
        command.apply(&membership(n)).map(|next| {
            assert_eq!((next.epoch, next.f), (Epoch(6), f));
            next.members
        })
    }

    #[test]
    fn of_a_group_that_is_one_machine_to_others_the_settings_alone_change() {
        let settings = Settings::Pbft(PbftSettings { tentative_requests: 0, ..PbftSettings::default() });
        let present = Membership { is_one_machine: true, settings, ..membership(4) };
        let apply = |f, changes: &[Change]| {
            Reconfigure { epoch: Epoch(5), f, changes: changes.to_vec() }.apply(&present)
        };
        let quick = with(|settings| (settings.tentative_requests, settings.pipeline) = (0, 3));
        let next = apply(1, &[quick, Change::FirstPrimary(ReplicaId(2))]).expect("it is allowed");
        assert!(next.is_one_machine && next.first_primary == ReplicaId(2));
        let paxos = Change::Settings(Settings::Paxos(PaxosSettings::default()));
        for (f, change) in [
            (1, Change::Add(member(9))),
            (1, Change::Replace(ReplicaId(1), member(9))),
            (1, Change::Rekey(ReplicaId(1), member(9).key)),
            (0, Change::Remove(ReplicaId(1))),
            (0, Change::FirstPrimary(ReplicaId(2))),
            (1, paxos),
        ] {
            assert_eq!(apply(f, &[change]), Err(Refusal::OneMachine));
        }
        let tentative = Err(Refusal::Invalid(MembershipError::Tentative));
        assert_eq!(apply(1, &[with(|settings| settings.tentative_requests = 1)]), tentative);
        let speculative = Settings::Zyzzyva(ZyzzyvaSettings::default());
        assert_eq!(apply(1, &[Change::Settings(speculative)]), tentative);
    }

    #[test]
    fn each_change_has_its_place() {
        let r = ReplicaId;
        let names = |members: Vec<Member>| -> Vec<u8> {
            let keys: Vec<_> = (0..30).map(|i| identity(i).public()).collect();
            let place = |member: &Member| keys.iter().position(|key| *key == member.key);
            members.iter().map(|m| u8::try_from(place(m).expect("known")).expect("small")).collect()
        };
        assert_eq!(apply(4, 1, &[Change::Add(member(9))]).map(names), Ok(vec![0, 1, 2, 3, 9]));
        assert_eq!(apply(5, 1, &[Change::Remove(r(0))]).map(names), Ok(vec![1, 2, 3, 4]));
        assert_eq!(apply(4, 1, &[Change::Replace(r(1), member(9))]).map(names), Ok(vec![0, 9, 2, 3]));
        let rekeyed = apply(4, 1, &[Change::Rekey(r(2), member(9).key)]);
        assert_eq!(rekeyed.as_ref().map(|members| &*members[2].address), Ok("m2"));
        assert_eq!(rekeyed.map(names), Ok(vec![0, 1, 9, 3]));
        let both = [Change::Add(member(8)), Change::Remove(r(1)), Change::Add(member(9))];
        assert_eq!(apply(7, 2, &both).map(names), Ok(vec![0, 2, 3, 4, 5, 6, 8, 9]));
        assert_eq!(apply(7, 1, &[]).map(names), Ok((0..7).collect()), "fewer faults alone");
    }

    #[test]
    fn each_rule_refuses_what_breaks_it() {
        use Refusal as E;
        let r = ReplicaId;
        let same = |i| Member { key: member(i).key, address: "elsewhere".into() };
        let at = |i, address: &str| Member { key: member(i).key, address: address.into() };
        let size = |n, f| MembershipError::Size { n, f, model: FaultModel::Byzantine };
        let (remove, add) = (|i| Change::Remove(r(i)), |i| Change::Add(member(i)));
        for (n, f, changes, refusal) in [
            (4, 1, vec![], E::NoChange),
            (4, 1, vec![remove(4)], E::NoSuchReplica(r(4))),
            (7, 2, vec![remove(1), Change::Rekey(r(1), member(9).key)], E::ChangedTwice(r(1))),
            (4, 1, vec![remove(0)], E::Invalid(size(3, 1))),
            (7, 1, vec![remove(0), remove(1), remove(2)], E::TooManyLeave { leaving: 3, most: 2 }),
            (4, 1, vec![add(8), add(9)], E::TooManyJoin { joining: 2, most: 1 }),
            (4, 2, vec![add(7), add(8), add(9)], E::TooManyJoin { joining: 3, most: 2 }),
            (1, 0, vec![Change::Replace(r(0), member(9))], E::TooManyLeave { leaving: 1, most: 0 }),
            (
                4,
                1,
                vec![Change::Add(same(2))],
                E::Invalid(MembershipError::SameKey { first: r(2), second: r(4) }),
            ),
            (
                4,
                1,
                vec![Change::Add(at(9, "m1"))],
                E::Invalid(MembershipError::SameAddress { first: r(1), second: r(4) }),
            ),
            (4, 1, vec![Change::Add(at(9, ""))], E::Invalid(MembershipError::Address(r(4)))),
        ] {
            assert_eq!(apply(n, f, &changes).unwrap_err(), refusal, "{n}, {f}, {changes:?}");
        }
        let late = Reconfigure { epoch: Epoch(4), f: 1, changes: vec![add(9)] };
        assert_eq!(late.apply(&membership(4)), Err(E::Epoch { meant: Epoch(4), present: Epoch(5) }));
    }

    #[test]
    fn settings_are_refused_where_the_protocol_would_refuse_them() {
        use Refusal as E;
        let r = ReplicaId;
        let invalid = |error: ConfigError| E::Invalid(MembershipError::Settings(error));
        let large = |n| ConfigError::LogTooLarge { log_size: 12_500, most: 50_000 / n as u64, n };
        let most = with(|s| (s.log_size, s.checkpoint_period) = (12_500, 6_250));
        for (n, changes, refusal) in [
            (4, vec![with(|s| s.pipeline = 0)], invalid(ConfigError::Zero(Setting::Pipeline))),
            (
                4,
                vec![with(|s| s.log_size = 300)],
                invalid(ConfigError::LogNotMultiple { log_size: 300, checkpoint_period: 128 }),
            ),
            (4, vec![most.clone(), Change::Add(member(9))], invalid(large(5))),
            (7, vec![most.clone()], invalid(large(7))),
            (4, vec![most.clone(), with(|_| {})], E::SettingsTwice(2)),
            (4, vec![with(|_| {})], E::NoChange),
            (4, vec![Change::FirstPrimary(r(0))], E::NoChange),
            (4, vec![Change::FirstPrimary(r(4))], E::NoSuchReplica(r(4))),
            (4, vec![Change::FirstPrimary(r(1)), Change::FirstPrimary(r(2))], E::TwoPrimaries(r(1), r(2))),
            (5, vec![Change::FirstPrimary(r(1)), Change::Remove(r(1))], E::PrimaryLeaves(r(1))),
        ] {
            assert_eq!(apply(n, 1, &changes).unwrap_err(), refusal, "{n}, {changes:?}");
        }
        let (most, add) = (|| most.clone(), || Change::Add(member(9)));
        let next = |present: &Membership, changes| {
            Reconfigure { epoch: present.epoch, f: 1, changes }.apply(present).expect("it is allowed")
        };
        let larger = next(&membership(4), vec![most()]);
        assert_eq!(Change::Settings(larger.settings.clone()), most());
        let added = Reconfigure { epoch: Epoch(6), f: 1, changes: vec![add()] }.apply(&larger);
        assert_eq!(added, Err(invalid(large(5))), "settings hold for the epochs that follow");
        let default = next(&larger, vec![with(|_| {}), add()]);
        assert_eq!((default.members.len(), Change::Settings(default.settings)), (5, with(|_| {})));
    }

    #[test]
    fn who_leads_first_does_so_wherever_its_place_is() {
        let r = ReplicaId;
        let next = |present: &Membership, change| {
            let command = Reconfigure { epoch: present.epoch, f: 1, changes: vec![change] };
            command.apply(present).expect("it is allowed")
        };
        let led = next(&membership(6), Change::FirstPrimary(r(3)));
        assert_eq!((led.first_primary, led.quorums().primary(View(0))), (r(3), r(3)));
        let moved = next(&led, Change::Remove(r(1)));
        assert_eq!((moved.first_primary, &moved.members[2]), (r(2), &member(3)));
        let gone = next(&moved, Change::Remove(r(2)));
        assert_eq!(gone.first_primary, r(0));
    }

    #[test]
    fn only_an_administrator_of_the_group_is_obeyed() {
        let command = Reconfigure { epoch: Epoch(5), f: 1, changes: vec![Change::Add(member(9))] };
        let signed = command.clone().sign(ROOT, &identity(200));
        assert_eq!(signed.authorise(ROOT, &membership(4)), Ok(()));
        assert_eq!(signed.authorise(GroupId([4; 16]), &membership(4)), Err(Refusal::Forged));
        let other = command.sign(ROOT, &identity(0));
        assert_eq!(other.authorise(ROOT, &membership(4)), Err(Refusal::NotAnAdmin));
        let mut changed = signed;
        changed.command.f = 0;
        assert_eq!(changed.authorise(ROOT, &membership(4)), Err(Refusal::Forged));
    }
}
