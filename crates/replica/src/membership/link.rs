use super::{Membership, SUCCESSION_PAGE, Succession};
use crate::pages::Path;
use alloc::vec::Vec;
use althing_crypto::{Domain, Proof};
use althing_types::{Digest, Epoch, GroupId, ReplicaId, Seq, encode};
use borsh::{BorshDeserialize, BorshSerialize};

/// Links given at once take up to so many bytes; one always fits.
pub(crate) const MAX_LINKS_BYTES: usize = 2 * crate::MAX_PAGE_BYTES;

/// The proof of how an epoch ended: an agreement quorum of its replicas has signed the state there, and that
/// state holds the next membership with the command of an administrator that made it so. Whoever knows the one
/// membership can check it, and so learns the other, from anybody. Without the command the keys of those that
/// have left, should they leak one day, would be enough to lead others astray.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Link {
    /// The epoch that ended.
    pub epoch: Epoch,
    /// The checkpoint at which it did.
    pub seq: Seq,
    /// The digest of the state there.
    pub state: Digest,
    /// Who signed that, ascending.
    pub votes: Vec<(ReplicaId, Proof)>,
    /// Where the state says who follows.
    pub path: Path,
}

impl Link {
    /// The membership after `present`, if this proves it, in the group that its clients know as `root`.
    #[must_use]
    pub fn follow(&self, root: GroupId, present: &Membership) -> Option<Membership> {
        let quorums = present.check().ok()?;
        let ascends = self.votes.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if self.epoch != present.epoch || !ascends || self.votes.len() < quorums.agreement() {
            return None;
        }
        let page = self.path.page(self.state, SUCCESSION_PAGE)?;
        let next = Succession::follower(page, root, present)?;
        let statement = present.settings.checkpoint_statement(self.seq, self.state);
        let group = present.group(root);
        let is_signed = self.votes.iter().all(|(signer, proof)| {
            let member = present.member(*signer);
            member.is_some_and(|member| member.key.verify_in(group, proof, Domain::Protocol, &statement))
        });
        is_signed.then_some(next)
    }
}

/// Those of `links` that lead on from `epoch`, as many as fit.
pub(crate) fn links_from(links: &[Link], epoch: Epoch) -> Vec<Link> {
    let first = links.iter().position(|link| link.epoch == epoch).unwrap_or(links.len());
    let mut room = MAX_LINKS_BYTES;
    let mut given: Vec<Link> = Vec::new();
    for link in &links[first..] {
        match room.checked_sub(encode(link).len()) {
            Some(left) => room = left,
            None if given.is_empty() => room = 0,
            None => break,
        }
        given.push(link.clone());
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EngineSettings;
    use crate::membership::{Change, Member, Reconfigure, SignedReconfigure};
    use crate::pages::PageTree;
    use alloc::format;
    use althing_crypto::Identity;
    use althing_protocol::Settings;
    use althing_protocol::paxos::PaxosSettings;
    use althing_protocol::pbft::PbftSettings;

    const ROOT: GroupId = GroupId([3; 16]);

    fn identity(i: u16) -> Identity {
        Identity::from_secret_bytes(&[i as u8 + 1; 64])
    }

    fn member(i: u16) -> Member {
        Member { key: identity(i).public(), address: format!("m{i}") }
    }

    fn present() -> Membership {
        let members = (0..4).map(member).collect();
        let settings = Settings::Pbft(PbftSettings::default());
        let (epoch, admins) = (Epoch(5), alloc::vec![identity(200).public()]);
        let (first_primary, engine) = (ReplicaId(1), EngineSettings::default());
        let is_one_machine = false;
        Membership { epoch, f: 1, members, admins, settings, first_primary, engine, is_one_machine }
    }

    fn command(epoch: u64, newcomer: u16, signer: u16) -> SignedReconfigure {
        let changes = alloc::vec![Change::Replace(ReplicaId(2), member(newcomer))];
        Reconfigure { epoch: Epoch(epoch), f: 1, changes }.sign(ROOT, &identity(signer))
    }

    /// What an agreement quorum of the members can sign, if it wants to.
    fn link(next: &Membership, command: Option<SignedReconfigure>) -> Link {
        signed(&present(), &present().settings, (next, command), 3)
    }

    /// What so many of the members can sign, in the words of whoever goes by these settings.
    fn signed(
        present: &Membership,
        speaks: &Settings,
        (next, command): (&Membership, Option<SignedReconfigure>),
        signers: u16,
    ) -> Link {
        let mut tree = PageTree::default();
        tree.set(SUCCESSION_PAGE, encode(&(next, command, None::<(Membership, SignedReconfigure)>)));
        let (seq, state, epoch) = (Seq(8), tree.refresh(), Epoch(5));
        let statement = speaks.checkpoint_statement(seq, state);
        let group = present.group(ROOT);
        let sign = |i| (ReplicaId(i), identity(i).sign_in(group, Domain::Protocol, &statement));
        let path = Path::to_page(&tree, SUCCESSION_PAGE).expect("the page is there");
        Link { epoch, seq, state, votes: (0..signers).map(sign).collect(), path }
    }

    #[test]
    fn the_members_alone_can_not_name_those_that_follow() {
        let signed = command(5, 9, 200);
        let next = signed.command.apply(&present()).expect("it is allowed");
        assert_eq!(link(&next, Some(signed.clone())).follow(ROOT, &present()), Some(next.clone()));
        // Their keys may have leaked since they left; the administrator's has not.
        let elsewhere = command(5, 10, 200).command.apply(&present()).expect("it is allowed");
        for (next, command) in [
            (&next, None),
            (&next, Some(command(5, 9, 0))),
            (&next, Some(command(4, 9, 200))),
            (&elsewhere, Some(signed.clone())),
        ] {
            assert_eq!(link(next, command).follow(ROOT, &present()), None);
        }
        let mut few = link(&next, Some(signed));
        few.votes.pop();
        assert_eq!(few.follow(ROOT, &present()), None, "nor the administrator without them");
    }

    #[test]
    fn an_epoch_ends_by_the_words_and_the_quorum_of_its_own_protocol() {
        let pbft = || Settings::Pbft(PbftSettings::default());
        let paxos = || Settings::Paxos(PaxosSettings::default());
        // Of five three are a majority, and it takes four where one may lie.
        for (runs, speaks, signers, is_end) in [
            (pbft(), pbft(), 4, true),
            (pbft(), pbft(), 3, false),
            (paxos(), paxos(), 3, true),
            (paxos(), paxos(), 2, false),
            (paxos(), pbft(), 5, false),
            (pbft(), paxos(), 5, false),
        ] {
            let members = (0..5).map(member).collect();
            let present = Membership { members, settings: runs.clone(), ..present() };
            let changes = alloc::vec![Change::FirstPrimary(ReplicaId(3))];
            let command = Reconfigure { epoch: Epoch(5), f: 1, changes }.sign(ROOT, &identity(200));
            let next = command.command.apply(&present).expect("it is allowed");
            let link = signed(&present, &speaks, (&next, Some(command)), signers);
            let followed = link.follow(ROOT, &present);
            assert_eq!(followed, is_end.then_some(next), "{signers} in {runs:?} say it as {speaks:?}");
        }
    }
}
