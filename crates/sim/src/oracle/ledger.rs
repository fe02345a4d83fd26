use super::{Verdict, Violation};
use crate::witness::Witnessed;
use althing_types::{ClientId, Digest, RequestNumber, Seq};
use std::collections::BTreeMap;

/// A batch that a replica executed: what it says of it, and what its service saw.
#[derive(Debug, Clone)]
pub(crate) struct Execution<'a> {
    pub(crate) seq: Seq,
    pub(crate) batch: Digest,
    pub(crate) requests: &'a [(ClientId, RequestNumber)],
    /// `None` from a witness, which took down only that it is done.
    pub(crate) witnessed: Option<Vec<&'a Witnessed>>,
}

/// The first word on a sequence number, to which all others are held.
#[derive(Debug)]
struct Entry {
    host: usize,
    batch: Digest,
    requests: Vec<(ClientId, RequestNumber)>,
    /// `None` as long as only witnesses have got there.
    witnessed: Option<Vec<Witnessed>>,
}

/// All that correct replicas executed, and all that clients submitted.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    submitted: BTreeMap<Vec<u8>, ClientId>,
    entries: BTreeMap<Seq, Entry>,
    /// Where each operation took effect.
    operations: BTreeMap<Vec<u8>, Seq>,
    numbers: BTreeMap<(ClientId, RequestNumber), Seq>,
    /// The service's state after a number, and who had it first.
    states: BTreeMap<Seq, (Digest, usize)>,
    stables: BTreeMap<Seq, (Digest, usize)>,
    /// What each host executed last.
    last: BTreeMap<usize, Seq>,
}

impl Ledger {
    /// Takes down that a client submitted an operation.
    pub(crate) fn submitted(&mut self, client: ClientId, operation: Vec<u8>) {
        self.submitted.insert(operation, client);
    }

    /// Takes down where a host's state stands when it was brought to a checkpoint.
    pub(crate) fn standing(&mut self, host: usize, seq: Seq) {
        self.last.insert(host, seq);
    }

    /// A host starts anew, from a state that is not known yet.
    pub(crate) fn restarted(&mut self, host: usize) {
        self.last.remove(&host);
    }

    pub(crate) fn executed(&mut self, host: usize, execution: &Execution<'_>) -> Verdict {
        let seq = execution.seq;
        match self.last.insert(host, seq) {
            Some(last) if seq != last.next() => {
                return Err(Violation::new("agreement", format!("host {host} executed {seq} after {last}")));
            }
            _ => {}
        }
        for witnessed in execution.witnessed.iter().flatten() {
            self.check_validity(host, witnessed)?;
        }
        let is_first = !self.entries.contains_key(&seq);
        if let Some(entry) = self.entries.get(&seq) {
            entry.check_agreement(host, execution)?;
            if entry.witnessed.is_some() || execution.witnessed.is_none() {
                return Ok(());
            }
        }
        for witnessed in execution.witnessed.iter().flatten() {
            if let Some(before) = self.operations.insert(witnessed.operation.clone(), seq) {
                let Witnessed { client, operation, .. } = witnessed;
                let message = format!(
                    "host {host}: an operation of {client} took effect at {before} and at {seq}: {operation:?}"
                );
                return Err(Violation::new("exactly-once", message));
            }
        }
        for (client, number) in execution.requests.iter().filter(|_| is_first) {
            if let Some(before) = self.numbers.insert((*client, *number), seq) {
                let message =
                    format!("host {host}: request {number} of {client} took effect at {before} and at {seq}");
                return Err(Violation::new("exactly-once", message));
            }
        }
        let entry = Entry {
            host,
            batch: execution.batch,
            requests: execution.requests.to_vec(),
            witnessed: execution.witnessed.as_ref().map(|all| all.iter().copied().cloned().collect()),
        };
        self.entries.insert(seq, entry);
        Ok(())
    }

    fn check_validity(&self, host: usize, witnessed: &Witnessed) -> Verdict {
        let Witnessed { seq, client, operation, .. } = witnessed;
        match self.submitted.get(operation) {
            Some(submitter) if submitter == client => Ok(()),
            Some(submitter) => {
                let message =
                    format!("host {host} executed at {seq}, for {client}, what {submitter} submitted");
                Err(Violation::new("validity", message))
            }
            None => {
                let message = format!(
                    "host {host} executed at {seq}, for {client}, what nobody submitted: {operation:?}"
                );
                Err(Violation::new("validity", message))
            }
        }
    }

    /// The digest of a host's service after it executed `seq`, or was brought there.
    pub(crate) fn state(&mut self, host: usize, seq: Seq, state: Digest) -> Verdict {
        let (known, first) = *self.states.entry(seq).or_insert((state, host));
        if known == state {
            return Ok(());
        }
        let message = format!(
            "at {seq} the service of host {host} has state {state}, that of host {first} had {known}"
        );
        Err(Violation::new("checkpoint", message))
    }

    /// A host holds a checkpoint to be stable.
    pub(crate) fn stable(&mut self, host: usize, seq: Seq, state: Digest) -> Verdict {
        let (known, first) = *self.stables.entry(seq).or_insert((state, host));
        if known == state {
            return Ok(());
        }
        let message = format!(
            "host {host} holds checkpoint {seq} with {state} to be stable, host {first} with {known}"
        );
        Err(Violation::new("checkpoint", message))
    }

    /// Operations that took effect.
    pub(crate) fn operations(&self) -> usize {
        self.operations.len()
    }
}

impl Entry {
    fn check_agreement(&self, host: usize, execution: &Execution<'_>) -> Verdict {
        let is_same_effect = match (&self.witnessed, &execution.witnessed) {
            (Some(known), Some(other)) => known.iter().eq(other.iter().copied()),
            (None, _) | (_, None) => true,
        };
        if self.batch == execution.batch && self.requests == execution.requests && is_same_effect {
            return Ok(());
        }
        let message = format!(
            "at {} host {host} executed batch {} {:?}, host {} executed batch {} {:?}{}",
            execution.seq,
            execution.batch,
            execution.requests,
            self.host,
            self.batch,
            self.requests,
            if is_same_effect { "" } else { ", with another effect" },
        );
        Err(Violation::new("agreement", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: ClientId = ClientId(1);

    fn witnessed(seq: u64, operation: u8) -> Witnessed {
        Witnessed { seq: Seq(seq), client: C, operation: vec![operation], outcome: Digest([operation; 32]) }
    }

    fn execution<'a>(
        seq: u64,
        witnessed: &'a Witnessed,
        requests: &'a [(ClientId, RequestNumber)],
    ) -> Execution<'a> {
        Execution { seq: Seq(seq), batch: Digest([1; 32]), requests, witnessed: Some(vec![witnessed]) }
    }

    fn oracle(verdict: Verdict) -> &'static str {
        verdict.unwrap_err().oracle
    }

    #[test]
    fn what_a_witness_takes_down_is_held_against_what_others_execute() {
        let mut ledger = Ledger::default();
        for operation in 1..9 {
            ledger.submitted(C, vec![operation]);
        }
        let (first, second) = ([(C, RequestNumber(1))], [(C, RequestNumber(2))]);
        let taken_down =
            |seq, requests| Execution { seq: Seq(seq), batch: Digest([1; 32]), requests, witnessed: None };
        assert_eq!(ledger.executed(0, &taken_down(1, &first)), Ok(()));
        assert_eq!(ledger.executed(1, &taken_down(1, &first)), Ok(()));
        assert_eq!(oracle(ledger.executed(4, &taken_down(1, &second))), "agreement");
        assert_eq!(ledger.executed(2, &execution(1, &witnessed(1, 1), &first)), Ok(()));
        assert_eq!(oracle(ledger.executed(3, &execution(1, &witnessed(1, 2), &first))), "agreement");
        assert_eq!(ledger.executed(1, &taken_down(2, &second)), Ok(()));
        assert_eq!(oracle(ledger.executed(2, &execution(2, &witnessed(2, 1), &second))), "exactly-once");
        assert_eq!(oracle(ledger.executed(0, &taken_down(2, &first))), "agreement");
        assert_eq!(oracle(ledger.executed(1, &taken_down(3, &first))), "exactly-once");
    }

    #[test]
    fn each_rule_is_told_apart() {
        let mut ledger = Ledger::default();
        for operation in 1..9 {
            ledger.submitted(C, vec![operation]);
        }
        let (first, second) = ([(C, RequestNumber(1))], [(C, RequestNumber(2))]);
        assert_eq!(ledger.executed(0, &execution(1, &witnessed(1, 1), &first)), Ok(()));
        assert_eq!(ledger.executed(1, &execution(1, &witnessed(1, 1), &first)), Ok(()));
        assert_eq!(oracle(ledger.executed(2, &execution(1, &witnessed(1, 2), &first))), "agreement");
        assert_eq!(oracle(ledger.executed(3, &execution(1, &witnessed(1, 1), &second))), "agreement");
        assert_eq!(oracle(ledger.executed(0, &execution(3, &witnessed(3, 3), &second))), "agreement");
        ledger.standing(0, Seq(1));
        assert_eq!(oracle(ledger.executed(0, &execution(2, &witnessed(2, 1), &second))), "exactly-once");
        ledger.standing(0, Seq(1));
        assert_eq!(oracle(ledger.executed(0, &execution(2, &witnessed(2, 2), &first))), "exactly-once");
        ledger.standing(0, Seq(1));
        assert_eq!(oracle(ledger.executed(0, &execution(2, &witnessed(2, 99), &second))), "validity");
        assert_eq!(ledger.state(0, Seq(1), Digest([1; 32])), Ok(()));
        assert_eq!(oracle(ledger.state(1, Seq(1), Digest([2; 32]))), "checkpoint");
        assert_eq!(ledger.stable(0, Seq(1), Digest([1; 32])), Ok(()));
        assert_eq!(oracle(ledger.stable(1, Seq(1), Digest([2; 32]))), "checkpoint");
    }
}
