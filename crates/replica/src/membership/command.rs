use super::{Member, Membership, MembershipError};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use althing_crypto::{Domain, Identity, Proof, PublicIdentity};
use althing_types::{Epoch, GroupId, Quorums, ReplicaId, encode};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

/// One change of a membership. Places are those of the present epoch.
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

/// What comes of a command: the next membership, or why there is none.
pub type ReconfigureOutcome = Result<Membership, Refusal>;

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
    /// More than the protocol's settings allow.
    #[error("{n} replicas, but with the settings of this group there may be at most {most}")]
    TooManyMembers {
        /// Replicas asked for.
        n: u32,
        /// As many may be.
        most: u32,
    },
    /// What would come out is no membership.
    #[error(transparent)]
    Invalid(#[from] MembershipError),
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
    /// # Errors
    /// One variant of [`Refusal`] a rule.
    pub fn apply(&self, present: &Membership) -> Result<Membership, Refusal> {
        if self.epoch != present.epoch {
            return Err(Refusal::Epoch { meant: self.epoch, present: present.epoch });
        }
        if self.changes.is_empty() && self.f == present.f {
            return Err(Refusal::NoChange);
        }
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
        let mut members: Vec<_> = members.into_iter().flatten().collect();
        let stayed = members.len();
        members.extend(added);
        joining += u32::try_from(members.len() - stayed).unwrap_or(u32::MAX);
        let (epoch, admins) = (present.epoch.next(), present.admins.clone());
        let next = Membership { epoch, f: self.f, members, admins };
        let quorums = next.check()?;
        allow(present.quorums(), leaving, quorums, joining)?;
        Ok(next)
    }
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
        Membership { epoch: Epoch(5), f, members, admins: vec![identity(200).public()] }
    }

    fn apply(n: u8, f: u16, changes: &[Change]) -> Result<Vec<Member>, Refusal> {
        let command = Reconfigure { epoch: Epoch(5), f, changes: changes.to_vec() };
        command.apply(&membership(n)).map(|next| {
            assert_eq!((next.epoch, next.f), (Epoch(6), f));
            next.members
        })
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
        let (remove, add) = (|i| Change::Remove(r(i)), |i| Change::Add(member(i)));
        for (n, f, changes, refusal) in [
            (4, 1, vec![], E::NoChange),
            (4, 1, vec![remove(4)], E::NoSuchReplica(r(4))),
            (7, 2, vec![remove(1), Change::Rekey(r(1), member(9).key)], E::ChangedTwice(r(1))),
            (4, 1, vec![remove(0)], E::Invalid(MembershipError::Size { n: 3, f: 1 })),
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
