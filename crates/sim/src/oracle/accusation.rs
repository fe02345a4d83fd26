use super::{Verdict, Violation};
use althing_crypto::{Domain, Keyring};
use althing_protocol::Evidence;
use althing_types::{Principal, ReplicaId};

/// Judges evidence that a correct replica brings forward. `is_correct` says who is.
pub(crate) fn judge(
    host: usize,
    evidence: &Evidence,
    keyring: &Keyring,
    is_correct: impl Fn(ReplicaId) -> bool,
) -> Verdict {
    let Evidence { accused, misbehaviour, statements } = evidence;
    if is_correct(*accused) {
        let message = format!("host {host} accuses {accused}, which is correct: it {misbehaviour}");
        return Err(Violation::new("accusation", message));
    }
    let accused = Principal::Replica(*accused);
    let holds = |bytes: &[u8], proof| keyring.verify(accused, proof, Domain::Protocol, bytes);
    if statements.iter().all(|statement| holds(&statement.bytes, &statement.proof)) {
        return Ok(());
    }
    let message = format!("host {host} accuses {accused} with a proof that does not hold: it {misbehaviour}");
    Err(Violation::new("accusation", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::GroupKeys;
    use althing_crypto::Proof;
    use althing_protocol::{Misbehaviour, Statement};

    #[test]
    fn correct_replicas_and_proofs_that_do_not_hold() {
        let keyring = GroupKeys::of_group(4).replica(ReplicaId(0));
        let evidence = |statements| Evidence {
            accused: ReplicaId(1),
            misbehaviour: Misbehaviour::InvalidMessage,
            statements,
        };
        let unproven = evidence(Vec::new());
        assert!(judge(0, &unproven, keyring, |id| id.0 != 1).is_ok());
        assert!(judge(0, &unproven, keyring, |_| true).is_err());
        let forged = evidence(vec![Statement { bytes: vec![1], proof: Proof(vec![0; 64]) }]);
        assert!(judge(0, &forged, keyring, |id| id.0 != 1).is_err());
        let signed = GroupKeys::of_group(4).replica(ReplicaId(1)).sign(Domain::Protocol, &[1]);
        let proven = evidence(vec![Statement { bytes: vec![1], proof: signed }]);
        assert!(judge(0, &proven, keyring, |id| id.0 != 1).is_ok());
    }
}
