//! A checker for linearizability after Wing and Gong, with the memoisation of Lowe ("Testing for
//! linearizability", 2017). Keys are independent of each other, so each is checked alone.

use super::{Verdict, Violation};
use althing_services::{KvOperation, KvResult};
use althing_types::{ClientId, RequestNumber};
use std::collections::{BTreeMap, BTreeSet};

type Value = Option<Vec<u8>>;

/// One operation of a client.
#[derive(Debug, Clone)]
struct Call {
    client: ClientId,
    operation: KvOperation,
    called: u64,
    /// When it completed, and how; an operation that never did may have taken effect at any time.
    returned: Option<(u64, KvResult)>,
}

/// What correct clients of the key-value store did, and what they were told.
#[derive(Debug, Default)]
pub struct History {
    calls: Vec<Call>,
    outstanding: BTreeMap<(ClientId, RequestNumber), usize>,
}

impl History {
    /// At time `at`, `client` asked for `operation`, which it numbers so.
    pub fn called(&mut self, at: u64, client: ClientId, number: RequestNumber, operation: KvOperation) {
        self.outstanding.insert((client, number), self.calls.len());
        self.calls.push(Call { client, operation, called: at, returned: None });
    }

    /// At time `at`, `client` was told this result.
    ///
    /// # Errors
    /// When the client was told something about an operation that it had not under way, or
    /// something that is no result of the store.
    pub fn returned(&mut self, at: u64, client: ClientId, number: RequestNumber, result: &[u8]) -> Verdict {
        let place = self.outstanding.remove(&(client, number));
        match (place, KvResult::decode(result)) {
            (Some(place), Ok(result)) => {
                self.calls[place].returned = Some((at, result));
                Ok(())
            }
            (None, _) => {
                let message = format!("{client} was told the result of {number}, which was not outstanding");
                Err(Violation::new("linearizability", message))
            }
            (_, Err(_)) => {
                let message = format!("{client} was told {result:?} as the result of {number}");
                Err(Violation::new("linearizability", message))
            }
        }
    }

    /// Whether one order of all operations explains what was returned.
    ///
    /// # Errors
    /// When none does.
    pub fn check(&self) -> Verdict {
        let mut by_key: BTreeMap<&[u8], Vec<&Call>> = BTreeMap::new();
        for call in &self.calls {
            by_key.entry(key(&call.operation)).or_default().push(call);
        }
        for (key, calls) in by_key {
            if !is_linearizable(&calls) {
                let key = String::from_utf8_lossy(key);
                let lines: Vec<_> = calls.iter().map(|call| line(call)).collect();
                let message = format!(
                    "no order of the operations on {key:?} explains their results:\n{}",
                    lines.join("\n")
                );
                return Err(Violation::new("linearizability", message));
            }
        }
        Ok(())
    }
}

fn line(call: &Call) -> String {
    let Call { client, operation, called, returned } = call;
    match returned {
        Some((at, result)) => format!("  {client} [{called}, {at}] {operation:?} -> {result:?}"),
        None => format!("  {client} [{called}, ...] {operation:?}"),
    }
}

fn key(operation: &KvOperation) -> &[u8] {
    match operation {
        KvOperation::Get { key }
        | KvOperation::Put { key, .. }
        | KvOperation::Cas { key, .. }
        | KvOperation::Delete { key } => key,
    }
}

/// What an operation does to a key's value, and what it answers: the store's specification.
fn specified(value: &Value, operation: &KvOperation) -> (Value, KvResult) {
    match operation {
        KvOperation::Get { .. } => (value.clone(), KvResult::Value(value.clone())),
        KvOperation::Put { value: new, .. } => (Some(new.clone()), KvResult::Stored),
        KvOperation::Cas { expected, new, .. } if expected == value => (new.clone(), KvResult::Stored),
        KvOperation::Cas { .. } => (value.clone(), KvResult::Mismatch { actual: value.clone() }),
        KvOperation::Delete { .. } => (None, KvResult::Deleted(value.is_some())),
    }
}

/// Which calls have been put in order, one bit each.
type Done = Vec<u64>;

fn has(done: &Done, place: usize) -> bool {
    done[place / 64] & 1 << (place % 64) != 0
}

fn with(done: &Done, place: usize) -> Done {
    let mut done = done.clone();
    done[place / 64] |= 1 << (place % 64);
    done
}

fn is_linearizable(calls: &[&Call]) -> bool {
    let mut seen: BTreeSet<(Done, Value)> = BTreeSet::new();
    let mut open: Vec<(Done, Value)> = vec![(vec![0; calls.len() / 64 + 1], None)];
    while let Some((done, value)) = open.pop() {
        let rest: Vec<_> = (0..calls.len()).filter(|place| !has(&done, *place)).collect();
        let returns = rest.iter().filter_map(|place| calls[*place].returned.as_ref().map(|(at, _)| *at));
        // Where only operations are left that never completed, they need not have taken effect.
        let Some(first_return) = returns.min() else { return true };
        for place in rest {
            // What was called only after another had returned can't come before that other.
            if calls[place].called > first_return {
                continue;
            }
            let (after, result) = specified(&value, &calls[place].operation);
            let explains = calls[place].returned.as_ref().is_none_or(|(_, seen)| *seen == result);
            if explains {
                let next = (with(&done, place), after);
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn call(client: u64, called: u64, returned: Option<(u64, KvResult)>, operation: KvOperation) -> Call {
        Call { client: ClientId(client), operation, called, returned }
    }

    fn get() -> KvOperation {
        KvOperation::Get { key: vec![] }
    }

    fn put(value: u8) -> KvOperation {
        KvOperation::Put { key: vec![], value: vec![value] }
    }

    fn check(calls: &[Call]) -> bool {
        is_linearizable(&calls.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_read_sees_what_was_written_before_it_and_may_see_what_is_being_written() {
        let write = call(1, 0, Some((10, KvResult::Stored)), put(1));
        let read = |called, value: Value| call(2, called, Some((called + 5, KvResult::Value(value))), get());
        let one = Some(vec![1]);
        assert!(check(&[write.clone(), read(2, None), read(8, one.clone())]));
        assert!(!check(&[write.clone(), read(11, None)]));
        assert!(!check(&[write, read(1, one), read(7, None)]), "reads may not go back in time");
    }

    #[test]
    fn what_never_returned_may_have_taken_effect_or_not() {
        let write = call(1, 0, None, put(1));
        let read = |called, value: Value| call(2, called, Some((called + 1, KvResult::Value(value))), get());
        assert!(check(&[write.clone(), read(1, None), read(3, None)]));
        assert!(check(&[write.clone(), read(1, None), read(3, Some(vec![1]))]));
        assert!(!check(&[write, read(1, Some(vec![1])), read(3, None)]));
    }

    /// Tries all orders.
    fn brute_force(calls: &[Call], order: &mut Vec<usize>, value: &Value) -> bool {
        let rest: Vec<_> = (0..calls.len()).filter(|place| !order.contains(place)).collect();
        if rest.iter().all(|place| calls[*place].returned.is_none()) {
            return true;
        }
        rest.iter().any(|place| {
            let is_due = rest.iter().all(|other| {
                calls[*other].returned.as_ref().is_none_or(|(at, _)| calls[*place].called <= *at)
            });
            let (after, result) = specified(value, &calls[*place].operation);
            let explains = calls[*place].returned.as_ref().is_none_or(|(_, seen)| *seen == result);
            if !is_due || !explains {
                return false;
            }
            order.push(*place);
            let found = brute_force(calls, order, &after);
            order.pop();
            found
        })
    }

    fn any_call() -> impl Strategy<Value = Call> {
        let operation = prop_oneof![
            Just(get()),
            (1u8..3).prop_map(put),
            (0u8..3, 1u8..3).prop_map(|(expected, new)| KvOperation::Cas {
                key: vec![],
                expected: (expected > 0).then(|| vec![expected]),
                new: Some(vec![new]),
            }),
            Just(KvOperation::Delete { key: vec![] }),
        ];
        let result = (0u8..5, 0u8..3).prop_map(|(kind, value)| {
            let value = (value > 0).then(|| vec![value]);
            match kind {
                0 | 1 => KvResult::Stored,
                2 => KvResult::Value(value),
                3 => KvResult::Mismatch { actual: value },
                _ => KvResult::Deleted(value.is_some()),
            }
        });
        (operation, 0u64..20, 1u64..10, prop::option::weighted(0.8, result)).prop_map(
            |(operation, called, took, result)| {
                // Most results fit their operation, or nothing would ever be linearizable.
                let result = result.map(|result| match (&operation, result) {
                    (KvOperation::Get { .. }, KvResult::Mismatch { actual }) => KvResult::Value(actual),
                    (KvOperation::Get { .. }, KvResult::Stored) => KvResult::Value(None),
                    (KvOperation::Put { .. }, _) => KvResult::Stored,
                    (_, result) => result,
                });
                call(0, called, result.map(|result| (called + took, result)), operation)
            },
        )
    }

    proptest! {
        #[test]
        fn finds_what_trying_all_orders_finds(calls in prop::collection::vec(any_call(), 0..6)) {
            prop_assert_eq!(check(&calls), brute_force(&calls, &mut Vec::new(), &None));
        }
    }
}
