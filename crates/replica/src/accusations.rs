use crate::Output;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use althing_protocol::{Evidence, Misbehaviour};
use althing_types::ReplicaId;

/// What is brought forward against one replica at most, with proof and without. Whoever misbehaves
/// goes on, and has been caught after the first.
const MAX_EACH: usize = 64;

/// What this replica has caught the others at.
#[derive(Debug, Default)]
pub(crate) struct Accusations(BTreeMap<ReplicaId, Record>);

/// What one replica was caught at.
#[derive(Debug, Default)]
struct Record {
    proven: BTreeSet<Misbehaviour>,
    unproven: BTreeSet<Misbehaviour>,
}

impl Accusations {
    /// Brings evidence forward: each thing once, and once more if there is proof only then.
    pub(crate) fn bring(&mut self, evidence: Evidence, outputs: &mut Vec<Output>) {
        let Record { proven, unproven } = self.0.entry(evidence.accused).or_default();
        let is_proven = evidence.is_transferable();
        if !is_proven && proven.contains(&evidence.misbehaviour) {
            return;
        }
        let known = if is_proven { proven } else { unproven };
        if known.len() < MAX_EACH && known.insert(evidence.misbehaviour.clone()) {
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
