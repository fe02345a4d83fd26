use super::{Membership, SUCCESSION_PAGE, Succession};
use crate::pages::Path;
use alloc::vec::Vec;
use althing_crypto::{Domain, Proof};
use althing_protocol::pbft::checkpoint_statement;
use althing_types::{Digest, Epoch, GroupId, ReplicaId, Seq, encode};
use borsh::{BorshDeserialize, BorshSerialize};

/// Links given at once take up to so many bytes; one always fits.
pub(crate) const MAX_LINKS_BYTES: usize = 2 * crate::MAX_PAGE_BYTES;

/// The proof of how an epoch ended: an agreement quorum of its replicas has signed the state there, and that
/// state holds the next membership. Whoever knows the one membership can check it, and so learns the
/// other, from anybody.
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
        let next = Succession::read_page(page)?.0;
        let (group, statement) = (present.group(root), checkpoint_statement(self.seq, self.state));
        let is_signed = self.votes.iter().all(|(signer, proof)| {
            let member = present.member(*signer);
            member.is_some_and(|member| member.key.verify_in(group, proof, Domain::Protocol, &statement))
        });
        (is_signed && next.epoch == present.epoch.next()).then_some(next)
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
