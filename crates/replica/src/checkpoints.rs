use crate::pages::PageTree;
use alloc::collections::BTreeMap;
use althing_types::{Digest, Seq};

/// A checkpoint's state: its digest, and the pages that have it.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    pub(crate) state: Digest,
    pub(crate) tree: PageTree,
    /// Whether the pages are what a witness keeps: they are not those that the digest is of.
    pub(crate) is_hollow: bool,
}

/// The checkpoints kept: the last one that is stable and on disk, and those after it. Unchanged pages are
/// shared among them.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    kept: BTreeMap<Seq, Checkpoint>,
    stable: Seq,
    has_diverged: bool,
}

impl Checkpoints {
    /// Keeps the checkpoint made at `seq`.
    pub(crate) fn insert(&mut self, seq: Seq, state: Digest, tree: PageTree) {
        self.kept.insert(seq, Checkpoint { state, tree, is_hollow: false });
    }

    /// Keeps what a witness has at `seq`. Others say later what the state's digest is there.
    pub(crate) fn insert_hollow(&mut self, seq: Seq, tree: PageTree) {
        self.kept.insert(seq, Checkpoint { state: Digest::NULL, tree, is_hollow: true });
    }

    /// Makes the state installed at `seq`, which others have vouched for, the only one.
    pub(crate) fn reset(&mut self, seq: Seq, state: Digest, tree: PageTree) {
        self.kept.clear();
        self.has_diverged = false;
        self.insert(seq, state, tree);
        self.stable = seq;
    }

    /// The same of what a witness has there.
    pub(crate) fn reset_hollow(&mut self, seq: Seq, state: Digest, tree: PageTree) {
        self.reset(seq, state, PageTree::default());
        self.insert_hollow(seq, tree);
        self.name(seq, state);
    }

    /// Takes down the digest of the state at `seq`, where a witness has got there.
    pub(crate) fn name(&mut self, seq: Seq, state: Digest) {
        if let Some(own) = self.kept.get_mut(&seq).filter(|own| own.is_hollow) {
            own.state = state;
        }
    }

    /// Takes down that `state` is the group's state at `seq`, and this replica's own if it has got there.
    ///
    /// What lies before stays until this one [is on disk](Self::on_kept): it may have to be written first,
    /// and it is the one before that others are told of until then, and come for.
    pub(crate) fn on_stable(&mut self, seq: Seq, state: Digest) {
        self.name(seq, state);
        if self.find(seq, state).is_some() {
            self.stable = seq;
        }
    }

    /// Takes down that `state` is the group's state at `seq`. Says whether the checkpoint made here has
    /// another digest: then this replica has diverged, and its own checkpoints from there on are worth
    /// nothing.
    pub(crate) fn drop_diverged(&mut self, seq: Seq, state: Digest) -> bool {
        let is_other = self.kept.get(&seq).is_some_and(|own| !own.is_hollow && own.state != state);
        if is_other {
            self.kept.split_off(&seq);
            self.has_diverged = true;
        }
        is_other
    }

    /// The checkpoint at `seq` is on disk: forgets what lies before. A replica that has not got there yet
    /// keeps what it has, to restart from.
    pub(crate) fn on_kept(&mut self, seq: Seq) {
        if self.kept.contains_key(&seq) {
            self.kept = self.kept.split_off(&seq);
        }
    }

    /// Whether a checkpoint made here was not the group's, and no other state was installed since.
    pub(crate) fn has_diverged(&self) -> bool {
        self.has_diverged
    }

    /// The checkpoint kept for `seq`, if its digest is `state`.
    pub(crate) fn find(&self, seq: Seq, state: Digest) -> Option<&Checkpoint> {
        self.kept.get(&seq).filter(|checkpoint| checkpoint.state == state)
    }

    /// The same, if this replica has the pages that the digest is of: a witness has not.
    pub(crate) fn find_whole(&self, seq: Seq, state: Digest) -> Option<&Checkpoint> {
        self.find(seq, state).filter(|checkpoint| !checkpoint.is_hollow)
    }

    /// The last stable checkpoint that is held; 0 at the initial state.
    pub(crate) fn stable_seq(&self) -> Seq {
        self.stable
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoints(seqs: &[u64]) -> Checkpoints {
        let mut checkpoints = Checkpoints::default();
        for seq in seqs {
            checkpoints.insert(Seq(*seq), Digest([*seq as u8; 32]), PageTree::default());
        }
        checkpoints
    }

    #[test]
    fn a_checkpoint_on_disk_drops_earlier_ones_only() {
        let mut kept = checkpoints(&[4, 8, 12]);
        kept.on_stable(Seq(8), Digest([8; 32]));
        assert_eq!((kept.len(), kept.stable_seq()), (3, Seq(8)));
        kept.on_kept(Seq(8));
        assert_eq!((kept.len(), kept.stable_seq()), (2, Seq(8)));
        assert!(kept.find(Seq(12), Digest([12; 32])).is_some());
        assert!(kept.find(Seq(12), Digest([1; 32])).is_none());
    }

    #[test]
    fn one_that_is_not_held_drops_nothing() {
        let mut kept = checkpoints(&[4]);
        kept.on_stable(Seq(4), Digest([4; 32]));
        kept.on_stable(Seq(8), Digest([8; 32]));
        kept.on_kept(Seq(8));
        assert_eq!((kept.len(), kept.stable_seq()), (1, Seq(4)));
    }

    #[test]
    fn what_a_witness_has_gets_its_name_from_others_and_is_nothing_to_give() {
        let mut kept = checkpoints(&[4]);
        kept.insert_hollow(Seq(8), PageTree::default());
        let state = Digest([8; 32]);
        assert!(!kept.drop_diverged(Seq(8), state) && kept.find(Seq(8), state).is_none());
        kept.on_stable(Seq(8), state);
        assert_eq!(kept.stable_seq(), Seq(8));
        assert!(kept.find(Seq(8), state).is_some() && kept.find_whole(Seq(8), state).is_none());
        assert!(kept.find_whole(Seq(4), Digest([4; 32])).is_some());
        kept.name(Seq(4), state);
        assert!(kept.find_whole(Seq(4), Digest([4; 32])).is_some(), "its own digest stays");
        kept.reset_hollow(Seq(12), state, PageTree::default());
        assert!(kept.find(Seq(12), state).is_some() && kept.find_whole(Seq(12), state).is_none());
        assert_eq!((kept.len(), kept.stable_seq()), (1, Seq(12)));
    }

    #[test]
    fn a_diverged_replica_is_told_and_keeps_what_was_right() {
        let mut kept = checkpoints(&[4, 8, 12]);
        kept.on_stable(Seq(4), Digest([4; 32]));
        assert!(
            !kept.drop_diverged(Seq(8), Digest([8; 32])) && !kept.drop_diverged(Seq(16), Digest([9; 32]))
        );
        assert!(!kept.has_diverged());
        assert!(kept.drop_diverged(Seq(8), Digest([9; 32])));
        assert!(kept.has_diverged());
        assert_eq!((kept.len(), kept.stable_seq()), (1, Seq(4)));
    }
}
