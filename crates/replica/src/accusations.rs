use crate::Output;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use althing_protocol::{Evidence, Misbehaviour};
use althing_types::ReplicaId;

/// What is brought forward against one replica at most. Whoever misbehaves goes on, and has been
/// caught after the first.
const MAX_EACH: usize = 64;

/// What this replica has caught the others at, and whether it could prove it.
#[derive(Debug, Default)]
pub(crate) struct Accusations(BTreeMap<ReplicaId, BTreeSet<(Misbehaviour, bool)>>);

impl Accusations {
    /// Brings evidence forward: each thing once, and once more if there is proof only then.
    pub(crate) fn bring(&mut self, evidence: Evidence, outputs: &mut Vec<Output>) {
        let known = self.0.entry(evidence.accused).or_default();
        let key = |is_proven| (evidence.misbehaviour.clone(), is_proven);
        let is_proven = !evidence.statements.is_empty();
        let is_known = known.contains(&key(is_proven)) || known.contains(&key(true));
        if !is_known && known.len() < MAX_EACH {
            known.insert(key(is_proven));
            outputs.push(Output::Evidence(evidence));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use althing_types::Seq;

    #[test]
    fn each_thing_once_and_a_bounded_number() {
        let (mut accusations, mut outputs) = (Accusations::default(), Vec::new());
        for seq in (0..1000).chain(0..1000) {
            for accused in [1, 2] {
                let (accused, misbehaviour) = (ReplicaId(accused), Misbehaviour::WrongState(Seq(seq / 4)));
                let evidence = Evidence { accused, misbehaviour, statements: Vec::new() };
                accusations.bring(evidence, &mut outputs);
            }
        }
        assert_eq!(outputs.len(), 2 * MAX_EACH);
    }
}
